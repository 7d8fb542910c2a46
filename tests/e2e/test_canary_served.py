"""A new model at an endpoint of its own, over real sockets: it hangs, is away, fails, is slow."""

import contextlib
from collections import Counter
from collections.abc import Iterator

import pytest

from cosy_sync import Audio, CanaryConfig, CosyClient, CosyError, Endpoint, Variant
from cosy_sync.server import Server, ServerConfig

TEXTS = [f"这是第{number}句话" for number in range(200)]


def server(**options: object) -> Server:
    return Server(ServerConfig(**{"latency": 0, "rate": 0, **options}))  # type: ignore[arg-type]


def client_of(old: str, new: str, **settings: object) -> CosyClient:
    endpoints = [Endpoint(old, rate=None), Endpoint(new, weight=0.2, rate=None)]
    settings.setdefault("canary", CanaryConfig())
    return CosyClient(endpoints, **settings)  # type: ignore[arg-type]


def variants(audios: list[Audio]) -> Counter[str]:
    return Counter(audio.variant for audio in audios)


def test_a_text_that_hangs_on_the_new_one_is_spoken_by_the_old_one_in_time() -> None:
    with (
        server() as old,
        server(faults={"stall": 1.0}) as new,
        client_of(old.url, new.url, deadline=0.6) as client,
    ):
        audio = client.synth("你好", variant="canary")
        assert audio.variant == "fallback"
        outcomes = client.synth_many(["再见", "明天"], variant="canary", on_error="return")
        assert all(outcome.result().variant == "fallback" for outcome in outcomes)


@pytest.mark.parametrize("batch_size", [1, 64])
def test_a_new_one_that_is_away_costs_no_text(batch_size: int) -> None:
    with server() as old, server() as new:
        gone = new.url
        new.close()
        with client_of(old.url, gone, batch_size=batch_size) as client:
            for _ in range(2):
                assert not variants(client.synth_many(TEXTS))["canary"]
            assert client.stats().texts_failed == 0
            # In batches it has had two requests.
            if batch_size == 1:
                assert (client.stats().canary or ("",))[0] == "rolled back"


def test_a_slow_one_is_rolled_back() -> None:
    with server() as old, server(latency=0.03) as new:
        endpoints = [Endpoint(old.url, rate=None), Endpoint(new.url, weight=0.5, rate=None)]
        with CosyClient(endpoints, canary=CanaryConfig(slower=1.5)) as client:
            for number in range(400):
                client.synth(f"第{number}句")
                _, share, reason = client.stats().canary or ("", 1.0, "")
                if not share:
                    break
    assert share == 0 and reason.startswith("requests that took too long for their characters")


def test_one_that_speaks_too_long_is_rolled_back() -> None:
    with (
        server() as old,
        server(seconds_per_char=0.4) as new,
        client_of(old.url, new.url) as client,
    ):
        for start in range(0, 1_000, 200):
            client.synth_many([f"第{start + number}句" for number in range(200)])
        _, share, reason = client.stats().canary or ("", 1.0, "")
    assert share == 0 and reason.startswith("recordings that are too long")


@pytest.mark.parametrize("fault", ["status-500", "reset", "gone"])
def test_a_stream_that_cannot_begin_on_the_new_one_is_the_old_ones(fault: str) -> None:
    with streaming(fault) as client:
        for text in TEXTS[:60]:
            with client.stream(text) as speech:
                assert b"".join(speech)
        # Its breaker or the ejection leaves it alone about as soon; that is no verdict.
        assert (client.stats().canary or ("",))[0] == "rolled back"
        assert client.stats().texts_failed == 0


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("reset-mid", "requests that failed"),
        ("silent-audio", "texts whose audio was refused"),
    ],
)
def test_a_stream_that_ends_badly_on_the_new_one_counts_against_it(fault: str, reason: str) -> None:
    with streaming(fault) as client:
        for text in TEXTS[:100]:
            with contextlib.suppress(CosyError), client.stream(text) as speech:
                b"".join(speech)
            state, _, why = client.stats().canary or ("", 1.0, "")
            if state == "rolled back":
                break
    assert state == "rolled back" and why.startswith(reason)


@contextlib.contextmanager
def streaming(fault: str) -> Iterator[CosyClient]:
    faults = {} if fault == "gone" else {fault: 1.0}
    with server() as old, server(faults=faults) as new:
        endpoints = [Endpoint(each.base_url + "/v1", rate=None) for each in (old, new)]
        if fault == "gone":
            new.close()
        canary = CanaryConfig(variant=Variant(url=endpoints[1].url, share=0.5))
        with CosyClient(
            endpoints, canary=canary, wire="openai", model="m", voice="中文女"
        ) as client:
            yield client
