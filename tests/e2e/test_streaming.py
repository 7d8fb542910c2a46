"""client.stream over real sockets: it comes at once, ends cleanly, and Ctrl-C leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from scripted import CHUNKED, FINISH, HOLD, OK, READ, RESET, Peer, Scripted, eventually, reply
from streams import install, tone

from cosy_sync import ClosedError, CosyClient, CutError, ReplyTimeout, TimeoutConfig

TEXT = "今天天气很好"
SOUND = tone(TEXT)
HEAD = CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Type: audio/pcm;rate=24000\r\n\r\n")
LAST = b"0\r\n\r\n"

pytestmark = pytest.mark.timeout(100)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.fixture(autouse=True)
def drip(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


@pytest.fixture(params=["own", "foreign"])
def open_client(request: pytest.FixtureRequest) -> Iterator[Callable[..., CosyClient]]:
    """Make clients over our own connections, and over an httpx.Client of the caller's."""
    with contextlib.ExitStack() as stack:

        def make(url: str, **settings: object) -> CosyClient:
            if request.param == "foreign":
                settings["http_client"] = stack.enter_context(httpx.Client())
            return stack.enter_context(CosyClient(url, wire="drip", **settings))  # type: ignore[arg-type]

        yield make


def test_the_sound_comes_as_it_was_written(open_client) -> None:
    gates = [threading.Event() for _ in range(2)]
    script = [READ, HEAD, chunk(SOUND[:1000]), lambda _: gates[0].wait(20), chunk(SOUND[1000:5001])]
    script += [lambda _: gates[1].wait(20), chunk(SOUND[5001:]), LAST, HOLD]
    with Scripted(script) as server:
        client = open_client(server.url)
        with client.stream(TEXT) as stream:
            assert next(stream) == SOUND[:1000]
            gates[0].set()
            assert next(stream) == SOUND[1000:5000]
            gates[1].set()
            assert stream.audio().pcm() == SOUND[5000:]
        timing = stream.timing
        assert 0 < timing.first_byte <= timing.first_audio <= timing.total
        stats = client.stats()
        assert (stats.texts_ok, stats.in_flight) == (1, 0)
        assert json.loads(server.requests[0][0].partition(b"\r\n\r\n")[2]) == {"text": TEXT}


def test_a_connection_carries_one_stream_after_the_other() -> None:
    wire = HEAD + chunk(SOUND) + LAST
    with Scripted([READ, wire, READ, wire, READ, wire, HOLD]) as server:
        with CosyClient(server.url, wire="drip") as client:
            for _ in range(2):
                assert client.stream(TEXT).audio().pcm() == SOUND
            assert client.synth(TEXT).pcm() == SOUND
            assert client.stats().connections_open == 1
        assert len(server.peers) == 1


def test_closing_early_hangs_up(open_client) -> None:
    left = threading.Event()

    def hold(peer: Peer) -> None:
        peer.hold()
        left.set()

    with Scripted([READ, HEAD, chunk(SOUND[:1000]), hold]) as server:
        client = open_client(server.url)
        with client.stream(TEXT) as stream:
            next(stream)
        assert left.wait(60)
        assert client.stats().in_flight == client.stats().connections_open == 0


@pytest.mark.parametrize("end", [FINISH, RESET])
def test_a_cut_in_the_middle_carries_what_was_heard(open_client, end) -> None:
    with Scripted([READ, HEAD, chunk(SOUND[:1001]), 0.05, end]) as server:
        client = open_client(server.url)
        with client.stream(TEXT) as stream:
            assert next(stream) == SOUND[:1000]
            with pytest.raises(CutError) as caught:
                next(stream)
        assert caught.value.partial == SOUND[:1000]
        assert len(server.peers) == 1


def test_a_cut_before_the_first_sound_is_repeated(open_client) -> None:
    first = [READ, HEAD, chunk(SOUND[:1]), FINISH]
    with Scripted(first, [READ, HEAD, chunk(SOUND), LAST, HOLD]) as server:
        client = open_client(server.url)
        with client.stream(TEXT) as stream:
            assert stream.timing.attempts == 2
            assert stream.audio().pcm() == SOUND


def test_a_refusal_is_repeated_after_its_retry_after(open_client) -> None:
    refusal = reply(b'{"error": "busy"}', "Retry-After: 1", status="429 Slow")
    with Scripted([READ, refusal, READ, HEAD, chunk(SOUND), LAST, HOLD]) as server:
        client = open_client(server.url)
        with client.stream(TEXT) as stream:
            assert stream.timing.queued >= 1.0
            assert stream.audio().pcm() == SOUND


def test_a_service_that_falls_silent_ends_in_a_time_out(open_client) -> None:
    with Scripted([READ, HEAD, chunk(SOUND[:1000]), HOLD]) as server:
        client = open_client(server.url, timeouts=TimeoutConfig(idle=0.1))
        with client.stream(TEXT) as stream, pytest.raises(ReplyTimeout) as caught:
            list(stream)
        assert caught.value.partial == SOUND[:1000]


def test_the_end_of_the_client_wakes_a_reader() -> None:
    wire = OK + b"Content-Type: audio/pcm\r\n\r\n" + SOUND[:1000]  # ends with its connection
    with Scripted([READ, wire, HOLD]) as server, CosyClient(server.url, wire="drip") as client:
        errors: list[BaseException] = []

        def listen() -> None:
            try:
                list(client.stream(TEXT))
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=listen)
        thread.start()
        eventually(lambda: client.stats().streams == 1)
        client.close(0.1)
        thread.join()
        assert [type(error) for error in errors] == [ClosedError]
        assert errors[0].partial == SOUND[:1000]
        assert client.stats().connections_open == 0


def test_a_slow_listener_hears_everything() -> None:
    """What it has not taken waits in the network's buffers, and then at the service."""
    text = "很长的一句话" * 80
    sound = tone(text)
    half = len(sound) // 2
    wire = HEAD + b"".join(chunk(sound[at : at + half]) for at in (0, half)) + LAST
    with Scripted([READ, wire, HOLD]) as server:
        times = TimeoutConfig(idle=0.2)
        with CosyClient(server.url, wire="drip", timeouts=times, deadline=0.9) as client:
            stream = client.stream(text)
            heard = next(stream)
            threading.Event().wait(1.0)  # longer than any of them
            heard += b"".join(stream)
        assert heard == sound


SETUP = """
import os, random, signal, sys, threading, time
sys.path.insert(0, sys.argv[2])
import pytest, streams
streams.install(pytest.MonkeyPatch())
from cosy_sync import CosyClient, ClosedError, PoolConfig
client = CosyClient(sys.argv[1], wire="drip")
TEXT = "今天天气很好"
"""


def run(code: str, url: str) -> subprocess.CompletedProcess[str]:
    here = str(Path(__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", SETUP + code, url, here],
        capture_output=True,
        text=True,
        timeout=90,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def speak_on(peer: Peer) -> None:
    """Answer every request with a sound in some pieces."""
    while True:
        peer.read()
        peer.sock.sendall(HEAD)
        for at in range(0, len(SOUND), 4001):
            peer.sock.sendall(chunk(SOUND[at : at + 4001]))
            peer.server.stopped.wait(0.0005)
        peer.sock.sendall(LAST)


def test_ctrl_c_leaves_nothing_taken_wherever_it_comes() -> None:
    code = (
        "stop = threading.Event()\n"
        "def interrupt():\n"
        "    while not stop.wait(random.uniform(0.002, 0.03)):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "thread = threading.Thread(target=interrupt)\n"
        "caught = whole = 0\n"
        "client.stream(TEXT).close()\n"
        "thread.start()\n"
        "while caught < 150 or whole < 10:\n"
        "    try:\n"
        "        while True:\n"
        "            with client.stream(TEXT) as stream:\n"
        "                for chunk in stream:\n"
        "                    if caught % 3 == 0: break\n"
        "                else:\n"
        "                    whole += 1\n"
        "    except KeyboardInterrupt: caught += 1\n"
        "while True:\n"
        "    try:\n"
        "        stop.set()\n"
        "        thread.join()\n"
        "        break\n"
        "    except KeyboardInterrupt: pass\n"
        "stream = None\n"
        "engine = client._core.engine()\n"
        "engine.drain(10)\n"
        "until = time.monotonic() + 10\n"
        "def busy():\n"
        "    stats = client.stats()\n"
        "    opened = stats.connections_open - stats.connections_idle\n"
        "    return stats.in_flight, len(engine._stream_opener._open), opened\n"
        "while any(busy()) and time.monotonic() < until: time.sleep(0.01)\n"
        "print(*busy())\n"
        "client.close(3)\n"
        "print([t.name for t in threading.enumerate()])\n"
    )
    with Scripted([speak_on]) as server:
        done = run(code, server.url)
    assert done.stdout.split("\n")[:2] == ["0 0 0", "['MainThread']"], done.stderr


def test_a_forked_child_streams_anew_and_leaves_its_parents_stream_alone() -> None:
    code = (
        "stream = client.stream(TEXT)\n"
        "heard = next(stream)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    try: next(stream)\n"
        "    except ClosedError: pass\n"
        "    stream.close()\n"
        "    del stream\n"
        "    right = client.stream(TEXT).audio().pcm() == streams.tone(TEXT)\n"
        "    client.close(0)\n"
        "    os._exit(0 if right else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        "print(heard + b''.join(stream) == streams.tone(TEXT))\n"
        "client.close()\n"
    )
    with Scripted([speak_on]) as server:
        done = run(code, server.url)
    assert done.stdout == "0\nTrue\n", done.stderr


def test_the_program_ends_with_a_stream_that_nobody_reads() -> None:
    code = "stream = client.stream(TEXT)\nprint(len(next(stream)) > 0)\n"
    with Scripted([READ, HEAD, chunk(SOUND[:1000]), HOLD]) as server:
        done = run(code, server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
