"""Clients that nobody closes and nobody holds: their work is done, and nothing of them is left."""

import gc
import os
import threading
from collections.abc import Iterator
from typing import Any

import pybreaker
import pytest
from lanes import eventually
from test_processes import run

from cosy_sync import Audio, BreakerConfig, CosyClient, VerifyConfig
from cosy_sync.events import Event
from cosy_sync.server import Server, tone_wav


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(latency=0.02, rate=0, max_connections=0) as running:
        yield running


def sentences(count: int) -> Iterator[str]:
    return (f"第{number}句自己的话" for number in range(count))


def test_dropped_clients_leave_no_thread_and_no_connection(server: Server) -> None:
    before = threading.active_count()
    for text in sentences(30):
        assert CosyClient(server.url).synth(text).data == tone_wav(text)
    eventually(lambda: threading.active_count() <= before)
    eventually(lambda: server.stats()["connections_now"] == 0)


@pytest.mark.parametrize("way", ["observer", "check", "callback", "listener", "storage"])
def test_a_dropped_client_whose_hooks_hold_its_owner_leaves_nothing(
    server: Server, way: str
) -> None:
    class App:
        def __init__(self) -> None:
            self.told = 0
            hooks: dict[str, Any] = {"observers": [self]} if way == "observer" else {}
            if way == "check":
                hooks["verify"] = VerifyConfig(check=self.check)
            if way == "listener":
                hooks["breaker"] = BreakerConfig(listeners=[self])
            if way == "storage":
                hooks["breaker"] = BreakerConfig(storage=self.storage)
            self.client = CosyClient(server.url, **hooks)

        def success(self, breaker: object, *_: object) -> None:
            self.told += 1

        failure = state_change = success

        def storage(self, endpoint: str) -> pybreaker.CircuitMemoryStorage:
            return pybreaker.CircuitMemoryStorage("closed")

        def on_event(self, event: Event) -> None:
            self.told += 1

        def check(self, text: str, audio: Audio) -> bool:
            self.told += 1
            return True

        def speak(self, text: str) -> None:
            callback = self.done if way == "callback" else None
            assert self.client.submit(text, callback).result(10).data == tone_wav(text)
            self.client.synth_many([text])
            self.client.synth(text)

        def done(self, future: object) -> None:
            self.told += 1

    before = threading.active_count()
    for text in sentences(10):
        App().speak(text)
    gc.collect()
    eventually(lambda: threading.active_count() <= before)
    eventually(lambda: server.stats()["connections_now"] == 0)


def test_a_check_still_sees_what_was_submitted_before_its_client_was_dropped(
    server: Server,
) -> None:
    seen: list[str] = []

    class App:
        def __init__(self) -> None:
            verify = VerifyConfig(check=self.check)
            self.client = CosyClient(server.url, verify=verify)

        def check(self, text: str, audio: Audio) -> bool:
            seen.append(text)
            return True

    before = threading.active_count()
    futures = [App().client.submit(text) for text in sentences(10)]
    gc.collect()
    assert [future.result(10).data for future in futures] == [tone_wav(t) for t in sentences(10)]
    gc.collect()
    eventually(lambda: threading.active_count() <= before)
    assert sorted(seen) == sorted(sentences(10))


def test_a_closed_client_needs_nobody_to_end_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    start = threading.Thread.start

    def note(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", note)
    with CosyClient(server.url) as client:
        client.synth_many(list(sentences(3)))
    del client
    gc.collect()
    assert started and "cosy-reaper" not in started


def test_a_lazy_call_holds_its_client(server: Server) -> None:
    outcomes = CosyClient(server.url, batch_size=4).synth_iter(sentences(300))
    first = next(outcomes)
    gc.collect()
    audios = [outcome.audio for outcome in (first, *outcomes)]
    assert [audio and audio.data for audio in audios] == [tone_wav(t) for t in sentences(300)]


def test_a_stream_goes_on_without_its_client(server: Server) -> None:
    client = CosyClient(f"{server.base_url}/v1", wire="openai", voice="中文女", format="pcm")
    with client.stream("一段很长的文字，说了一句又一句。") as stream:
        first = next(stream)
        del client
        gc.collect()
        assert first + b"".join(stream)


def test_what_was_submitted_to_a_dropped_client_is_spoken(server: Server) -> None:
    futures = [CosyClient(server.url).submit(text) for text in sentences(30)]
    gc.collect()
    assert [future.result(10).data for future in futures] == [tone_wav(t) for t in sentences(30)]


def test_the_end_of_the_program_waits_for_it_too(server: Server) -> None:
    done = run(
        "import sys, cosy_sync\n"
        "client = cosy_sync.CosyClient(sys.argv[1])\n"
        "client.submit('程序就要结束了', callback=lambda f: print(f.result().duration))\n"
        "del client\n",
        server.url,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0.7\n", "")


def test_a_child_that_drops_the_client_leaves_the_parents_work_alone() -> None:
    with Server(latency=0.3) as server:
        client = CosyClient(server.url)
        future = client.submit("父亲先说")
        eventually(lambda: client.stats().in_flight == 1)
        pid = os.fork()
        if pid == 0:
            client.__dict__.clear()
            gc.collect()
            os._exit(threading.active_count() - 1)  # a reaper would wait for the parent's text
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert future.result(10).data == tone_wav("父亲先说")
        assert client.synth("父亲再说").data == tone_wav("父亲再说")
        assert client.stats().connects == 1
        client.close()
