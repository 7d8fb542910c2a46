"""The user's check of audio: nothing of the service's is held, its time is not the service's."""

import threading
from collections.abc import Callable

import httpx
import pytest
from streams import URL as STREAM_URL
from streams import install, play_net, tone

import cosy_sync
from cosy_sync import (
    Audio,
    BadAudioError,
    BreakerConfig,
    CosyClient,
    Endpoint,
    HedgeConfig,
    RetryConfig,
    VerifyConfig,
)
from cosy_sync.testing import FakeClock, FakeService

URL, OTHER = "http://tts.test/batch", "http://other.test/batch"
SLOW = 0.25


def over(*urls: str, check: Callable[[str, Audio], bool], **settings: object) -> CosyClient:
    endpoints = [Endpoint(url, max_connections=2, rate=1e6) for url in urls or (URL,)]
    http_client = httpx.Client(transport=FakeService())
    verify = VerifyConfig(check=check)
    return CosyClient(endpoints, http_client=http_client, verify=verify, deadline=20, **settings)


def test_the_time_of_a_check_is_not_the_services() -> None:
    clock = FakeClock()

    def check(text: str, audio: Audio) -> bool:
        clock.advance(SLOW)
        return True

    breaker = BreakerConfig(slow_call=0.2, min_calls=4)
    with over(check=check, clock=clock, breaker=breaker, batch_size=1, serial=True) as client:
        assert len(client.synth_many([f"这是第{n}句话" for n in range(40)])) == 40
        stats = client.stats()
        assert set(stats.breakers.values()) == {"closed"}
        assert stats.latency_p99 < SLOW


def test_nothing_is_held_while_a_check_runs() -> None:
    held: list[tuple[int, int]] = []

    def check(text: str, audio: Audio) -> bool:
        engine = client._core.engine()
        held.append((engine.in_flight(), engine._memory.used))
        return True

    with over(check=check) as client:
        client.synth("你好，世界")
        client.synth_many([f"这是第{n}句话" for n in range(60)])
        client.submit("再见，世界").result(10)
        list(client.synth_iter(["一句话", "两句话"]))
    assert set(held) == {(0, 0)}


def test_nothing_is_held_while_the_check_of_a_stream_runs(monkeypatch) -> None:
    clock = FakeClock()
    install(monkeypatch)
    net = play_net(monkeypatch, clock)
    asked: list[tuple[str, int]] = []

    def check(text: str, audio: Audio) -> bool:
        asked.append((text, client.stats().in_flight))
        clock.advance(SLOW)
        return len(asked) > 1

    verify = VerifyConfig(check=check)
    with CosyClient(STREAM_URL, wire="drip", clock=clock, verify=verify) as client:
        sound = tone("今天天气很好")
        play = net.script(sound)
        stream = client.stream("今天天气很好")
        heard = next(stream)
        with pytest.raises(BadAudioError, match="check") as caught:
            next(stream)
        assert (heard, caught.value.partial, play.closed) == (sound, sound, 1)
        assert stream.timing.total < SLOW
        net.script(sound)
        assert client.stream("今天天气很好").audio().pcm() == sound
        assert asked == [("今天天气很好", 0)] * 2
        assert client.stats().texts_failed == 1


def test_audio_that_a_check_refuses_is_repeated_and_counts_against_its_endpoint() -> None:
    refused: list[str] = []

    def check(text: str, audio: Audio) -> bool:
        assert audio.timing is not None
        if "other" in audio.timing.endpoint:
            refused.append(text)
            return False
        return True

    retry = RetryConfig(base=0.001, max_wait=0.01)
    with over(URL, OTHER, check=check, retry=retry, batch_size=1) as client:
        for first in range(0, 10_000, 200):
            texts = [f"这是第{n}句话" for n in range(first, first + 200)]
            assert len(client.synth_many(texts)) == 200
            if client.stats().ejections:
                break
        assert refused and client.stats().ejections == 1


INNER: dict[str, Callable[[CosyClient, str], object]] = {
    "synth": lambda client, text: client.synth(text),
    "submit": lambda client, text: client.submit(text).result(10),
    "synth_many": lambda client, text: client.synth_many([text, text + "啊"]),
    "synth_iter": lambda client, text: list(client.synth_iter([text] * 3)),
}
KINDS = {
    "plain": {},
    "bulk": {"priority": "bulk"},
    "tenant": {"tenant": "a", "max_in_flight": 1},
    "hedged": {"hedge": HedgeConfig(enabled=True)},
}


@pytest.mark.parametrize("how", INNER)
@pytest.mark.parametrize("kind", KINDS)
def test_a_check_may_call_the_client_on_more_threads_than_it_has_workers(
    how: str, kind: str
) -> None:
    def check(text: str, audio: Audio) -> bool:
        if not text.startswith("内"):
            INNER[how](client, "内" + text)
        return True

    urls = (URL, OTHER) if kind == "hedged" else (URL,)
    with over(*urls, check=check, **KINDS[kind]) as client:
        ends: list[object] = []

        def speak(number: int) -> None:
            try:
                ends.append(client.synth(f"这是第{number}句话").duration > 0)
            except cosy_sync.CosyError as error:
                ends.append(error)

        threads = [threading.Thread(target=speak, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert ends == [True] * 8
        futures = [client.submit(f"这是交来的第{number}句") for number in range(8)]
        assert all(future.result(20).duration > 0 for future in futures)
        assert len(client.synth_many([f"这是许多句的第{n}句" for n in range(8)])) == 8
