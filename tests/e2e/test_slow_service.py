"""A service that is slow but healthy loses no text, and keeps its speed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted import CHUNKED, HOLD, READ, Peer, Scripted

from cosy_sync import (
    BreakerConfig,
    CosyClient,
    CosyError,
    DeadlineError,
    Endpoint,
    LimitConfig,
    ReplyTimeout,
    RetryConfig,
    TimeoutConfig,
)
from cosy_sync.messages import Request
from cosy_sync.testing import Server, tone_wav

WAV = tone_wav("好")
SPOKEN = (
    b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nContent-Length: %d\r\n\r\n" % len(WAV) + WAV
)
TEXTS = [f"第{number}句话" for number in range(3_200)]


@pytest.mark.parametrize(
    "speak",
    [
        lambda client: client.synth_many(TEXTS, on_error="return"),
        lambda client: list(client.synth_iter(TEXTS)),
    ],
    ids=["synth_many", "synth_iter"],
)
def test_a_big_job_is_spoken_whole_though_all_at_once_it_would_take_longer_than_a_deadline(
    speak: Callable[[CosyClient], list],
) -> None:
    # Fifty batches that take 0.15 s each, two at a time: 3.75 s of work.
    with Server(latency=0, text_latency=0.15 / 64, workers=2, rate=0, max_connections=0) as server:
        timeouts = TimeoutConfig(first_byte=1.5)
        # A reply that waits for room, up to 3 s, would use up so short a deadline.
        limits = LimitConfig(max_bytes_waiting=1 << 30)
        with CosyClient(server.url, deadline=3.0, timeouts=timeouts, limits=limits) as client:
            outcomes = speak(client)
            assert [outcome.error for outcome in outcomes] == [None] * len(TEXTS)
            assert client.stats().retries == 0
        assert server.stats()["requests"] == 50


def test_the_command_speaks_a_big_job_whole_though_its_last_replies_come_late(
    tmp_path: Path,
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS[:1_600]), "utf-8")
    command = [sys.executable, "-m", "cosy_sync", "synth", "--no-progress"]
    command += ["-f", str(tmp_path / "texts.txt"), "-o", str(tmp_path / "out")]
    environment = {**os.environ, "COSY_SYNC_TIMEOUTS_FIRST_BYTE": "0.7"}
    # 1.9 s of work, all of which fits on the connections at once.
    with Server(latency=0, text_latency=0.15 / 64, workers=2, rate=0, max_connections=0) as server:
        command += ["--url", server.url]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=90)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*.wav"))) == 1_600


def test_a_service_that_stalls_in_the_middle_opens_the_breaker_though_few_requests_wait() -> None:
    stalled = threading.Event()

    def speak(peer: Peer) -> None:
        while not stalled.is_set():
            peer.read()
            time.sleep(0.05)
            if not stalled.is_set():
                peer.sock.sendall(SPOKEN)
        peer.hold()

    timer = threading.Timer(1.0, stalled.set)
    timer.start()
    with (
        Scripted([speak]) as server,
        CosyClient(
            Endpoint(f"http://127.0.0.1:{server.port}/v1", rate=1_000),
            wire="openai",
            model="m",
            voice="v",
            deadline=10.0,
            timeouts=TimeoutConfig(first_byte=0.3, first_byte_per_char=0),
            breaker=BreakerConfig(window=0.2, min_calls=10_000),
            retry=RetryConfig(max_retries=1),
        ) as client,
    ):
        outcomes = client.synth_many(["好"] * 400, on_error="return", within=3.5)
        assert any(outcome.ok for outcome in outcomes)
        assert client.stats().breakers.popitem()[1] != "closed"
        spoken = sum(outcome.ok for outcome in outcomes)
        assert client.stats().requests - spoken < 100
    timer.join()


@pytest.mark.parametrize(
    ("settings", "error", "cure"),
    [
        ({"deadline": 0.3}, DeadlineError, "raise the deadline, or send less"),
        ({"timeouts": TimeoutConfig(first_byte=0.2)}, ReplyTimeout, "TimeoutConfig(first_byte=..."),
    ],
)
def test_a_text_that_is_lost_to_time_says_what_was_in_flight_and_what_cures_it(
    settings: dict, error: type[CosyError], cure: str
) -> None:
    retry = RetryConfig(max_retries=0)
    with (
        Scripted([READ, HOLD]) as server,
        CosyClient(server.url, retry=retry, **settings) as client,
    ):
        [outcome] = client.synth_many(["好"], on_error="return")
    assert isinstance(outcome.error, error)
    assert "1 request was in flight there" in str(outcome.error) and cure in str(outcome.error)


class TestFirstByte:
    """Who waits for the first byte, and for how long."""

    @pytest.fixture
    def ask(self, make: Callable) -> Callable:
        sender = make(TimeoutConfig(connect=10, first_byte=0.4, first_byte_per_char=0.05, idle=10))

        def post(server: Scripted, chars: int = 0) -> bytes:
            request = Request(server.url, (), b"{}")
            request.chars = chars
            return bytes(sender.post(request, 20.0, 1 << 20).body)

        return post

    def test_silence_ends_it(self, ask: Callable) -> None:
        with Scripted([READ, HOLD]) as server, pytest.raises(ReplyTimeout, match="did not answer"):
            ask(server)

    def test_it_lasts_longer_for_longer_texts(self, ask: Callable) -> None:
        with Scripted([READ, 0.8, SPOKEN]) as server:
            assert ask(server, chars=100) == WAV

    def test_it_counts_from_the_latest_reply_that_others_got(self, ask: Callable) -> None:
        others = [step for _ in range(4) for step in (READ, 0.25, SPOKEN)]
        with Scripted([READ, 1.0, SPOKEN], [*others, HOLD]) as server:
            late: list[bytes] = []
            thread = threading.Thread(target=lambda: late.append(ask(server)))
            thread.start()
            while not server.peers:
                time.sleep(0.001)
            for _ in range(4):
                ask(server)
            thread.join()
            assert late == [WAV]

    def test_refusals_that_others_get_are_no_sign_of_life(self, ask: Callable) -> None:
        refusal = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
        others = [step for _ in range(4) for step in (READ, 0.25, refusal)]
        with Scripted([READ, HOLD], [*others, HOLD]) as server:
            late: list[ReplyTimeout] = []

            def wait() -> None:
                with pytest.raises(ReplyTimeout) as caught:
                    ask(server)
                late.append(caught.value)

            thread = threading.Thread(target=wait)
            thread.start()
            while not server.peers:
                time.sleep(0.001)
            while thread.is_alive():
                ask(server)
                if len(server.requests[-1]) >= 4:
                    break
            thread.join()
            assert late

    def test_a_head_that_comes_early_is_not_the_first_byte(self, make: Callable) -> None:
        sender = make(TimeoutConfig(connect=10, first_byte=10, idle=0.2))
        with Scripted([READ, CHUNKED, 0.6, b"2\r\nab\r\n0\r\n\r\n"]) as server:
            assert sender.post(Request(server.url, (), b"{}"), 20.0, 1 << 20).body == b"ab"
