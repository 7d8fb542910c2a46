"""Draining an endpoint: once it is said to be empty, nothing is sent there any more."""

import httpx
import pytest

from cosy_sync import CosyClient
from cosy_sync.policies import Breaker
from cosy_sync.testing import FakeService

A, B = "http://a.test/batch", "http://b.test/batch"


@pytest.mark.parametrize("way", ["synth", "synth_many", "synth_iter", "submit"])
def test_no_request_leaves_for_an_endpoint_that_was_said_to_be_empty(
    monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    service, empty = FakeService(), []
    admit = Breaker.admit

    def drain_it_now(breaker: Breaker, *args: object) -> object:
        # The endpoint was chosen, and is about to let the request in.
        monkeypatch.setattr(Breaker, "admit", admit)
        (url,) = [each.endpoint.url for each in stations if each.breaker is breaker]
        if client.drain(url, 0):
            empty.append(url)
        return admit(breaker, *args)  # type: ignore[arg-type]

    def answer(request: httpx.Request) -> httpx.Response:
        assert str(request.url) not in empty
        return service.handle_request(request)

    http_client = httpx.Client(transport=httpx.MockTransport(answer))
    with CosyClient([A, B], http_client=http_client) as client:
        stations = client._core.engine().endpoints.endpoints
        monkeypatch.setattr(Breaker, "admit", drain_it_now)
        if way in ("synth", "submit"):
            spoken = getattr(client, way)("你好")
            assert (spoken if way == "synth" else spoken.result(10)).duration > 0
        else:
            assert len(list(getattr(client, way)(["你好"]))) == 1
        assert client.stats().errors == {} and empty == []
        assert [station.busy for station in stations] == [0, 0]
