"""A service that stopped answering shows in the bar."""

import io
import os
import sys
import threading

import pytest

from cosy_sync import BreakerOpenError, ConnectError, Timing, UnavailableError
from cosy_sync.cli import console
from cosy_sync.cli.console import Screen
from cosy_sync.cli.silence import Silence
from cosy_sync.events import AttemptFinished, CallRefused
from cosy_sync.testing import FakeClock

TIMING = Timing(
    started=0.0,
    queued=0.0,
    connect=0.0,
    first_byte=0.1,
    total=0.2,
    attempts=1,
    endpoint="http://a.test",
    request_id="x",
)
REFUSED = ConnectError(
    "cannot connect to http://a.test:80: Connection refused; is the service running there?"
)


def attempt(error: Exception | None) -> AttemptFinished:
    return AttemptFinished(TIMING, 1, 2, 0, error)  # type: ignore[arg-type]


def test_silence_is_told_with_its_reason_and_the_next_probe() -> None:
    clock = FakeClock()
    silence = Silence(clock.now)
    silence.on_event(attempt(None))
    assert silence.words() == ""
    silence.on_event(attempt(REFUSED))
    clock.advance(12)
    assert silence.words() == "no reply for 12 s: connection refused"
    error = BreakerOpenError("breaker open", retry_after=18.0)
    silence.on_event(CallRefused("http://a.test", 1, error))
    silence.on_event(attempt(error))
    assert silence.words() == "no reply for 12 s: connection refused; next probe in 18 s"
    clock.advance(18)
    assert silence.words() == "no reply for 30 s: connection refused"
    silence.on_event(attempt(UnavailableError("the service answered HTTP 503: busy", status=503)))
    assert silence.words() == "no sound for 30 s: the service answered HTTP 503: busy"
    silence.on_event(attempt(None))
    assert silence.words() == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_is_drawn_while_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, told = Terminal(), threading.Event()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(console, "_TICK", 0.001)
    monkeypatch.setattr(console, "_EVERY", 0.0)

    def trouble() -> str:
        if "no reply" in terminal.getvalue():
            told.set()
        return "no reply for 12 s: connection refused; next probe in 18 s"

    with Screen(bar=True, total=600, trouble=trouble) as screen:
        screen.draw(81)
        assert told.wait(30)
    line = "81/600 texts; no reply for 12 s: connection refused; next probe in 18 s"
    assert line in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_the_bar_stays_in_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(
        "shutil.get_terminal_size", lambda: os.terminal_size((30, 24)), raising=True
    )
    Screen(bar=True, total=600, trouble=lambda: "x" * 50).draw(1)
    assert len(terminal.getvalue()) == len("\r\x1b[K") + 29


def test_without_a_terminal_a_line_says_now_and_then_how_it_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, told = io.StringIO(), threading.Event()
    monkeypatch.setattr(sys, "stderr", log)

    def pace() -> str:
        if "81/600" in log.getvalue():
            told.set()
        return "12/s, 43 s left"

    with Screen(bar=True, total=600, lines=0.001) as screen:
        screen.pace = pace
        screen.draw(81)
        assert told.wait(30)
    assert "cosy-sync: 81/600 texts, 12/s, 43 s left\n" in log.getvalue()
    assert "\x1b" not in log.getvalue()
    before = log.getvalue()
    with Screen(bar=False, lines=0.001) as screen:
        screen.draw(82)
    assert log.getvalue() == before
