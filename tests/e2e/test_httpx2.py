"""A client of httpx2 is taken wherever one of httpx is, and behaves alike."""

import socket
from collections.abc import Iterator
from types import ModuleType

import httpx
import pytest

from cosy_sync import (
    AuthError,
    ClosedError,
    ConfigError,
    ConnectError,
    CosyClient,
    CutError,
    RetryConfig,
)
from cosy_sync.server import Server, tone_wav

httpx2 = pytest.importorskip("httpx2")
LIBRARIES = [httpx, httpx2]
ONCE = RetryConfig(max_retries=0)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(latency=0.0, rate=0, max_connections=0) as server:
        yield server


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
def test_every_call_goes_through_the_given_client(server: Server, library: ModuleType) -> None:
    seen: list[str] = []
    hooks = {"request": [lambda request: seen.append(request.headers["x-mine"])]}
    with library.Client(event_hooks=hooks, headers={"X-Mine": "yes"}) as http_client:
        with CosyClient(server.url, http_client=http_client) as client:
            assert client.synth("你好").data == tone_wav("你好")
            texts = [f"第{number}句" for number in range(100)]
            spoken = client.synth_many(texts)
            assert [audio.data for audio in spoken] == [tone_wav(text) for text in texts]
            assert client.submit("再见").result(10).data == tone_wav("再见")
        assert len(seen) == client.stats().requests >= 4 and set(seen) == {"yes"}
        assert not http_client.is_closed


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
def test_a_stream_goes_through_the_given_client(server: Server, library: ModuleType) -> None:
    url = f"{server.base_url}/v1"
    with (
        library.Client() as http_client,
        CosyClient(url, wire="openai", http_client=http_client) as client,
        client.stream("一段很长的文字") as stream,
    ):
        assert len(b"".join(stream)) > 1000


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
def test_its_errors_become_ours(library: ModuleType) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/batch"
        with (
            CosyClient(url, http_client=library.Client, retry=ONCE) as client,
            pytest.raises(ConnectError, match=r"cannot connect.*\(ConnectError\)"),
        ):
            client.synth("你好")

    def cut(request: object) -> object:
        raise library.RemoteProtocolError("cut")

    with (
        library.Client(transport=library.MockTransport(cut)) as mock,
        CosyClient("http://a.test/batch", http_client=mock, retry=ONCE) as client,
        pytest.raises(CutError, match="RemoteProtocolError"),
    ):
        client.synth("你好")


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
def test_its_refusals_and_its_end_are_told(library: ModuleType) -> None:
    with Server(latency=0.0, api_key="right") as server:
        http_client = library.Client()
        with CosyClient(server.url, http_client=http_client) as client:
            with pytest.raises(AuthError):
                client.synth("你好")
            http_client.close()
            with pytest.raises(ClosedError, match="was closed"):
                client.synth("你好")
        with (
            pytest.raises(ConfigError, match="is closed"),
            CosyClient(server.url, http_client=http_client) as client,
        ):
            client.synth("你好")


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
def test_a_client_for_asyncio_is_refused(library: ModuleType) -> None:
    with pytest.raises(ConfigError, match=r"httpx2\.Client, .* got AsyncClient"):
        CosyClient("http://a.test/batch", http_client=library.AsyncClient())


def test_a_function_may_make_it_and_the_wire_may_be_asked_for(server: Server) -> None:
    with CosyClient(f"{server.base_url}", wire="auto", http_client=httpx2.Client) as client:
        assert client.synth("你好").duration > 0
