"""Server-sent events, split anywhere."""

from __future__ import annotations

import pytest

import cosy_sync.wires.sse as sse
from cosy_sync.errors import BadAudioError
from cosy_sync.wires.sse import SseEvent, SseParser

STREAM = (
    "﻿: hello\r\n"
    "event: add\r\n"
    "data: one\r\n"
    "data:two\r\n"
    "data:  three\r\n"
    "id: 7\r\n"
    "\r\n"
    ": ping - 2026-11-24\n"
    "\n"
    "retry: 100\n"
    "data: 你好\n"
    "\n"
    "event: lost\n"
    "\n"
    "data\n"
    "data\n"
    "\n"
    "id: 8\r"
    "data: last: one\r"
    "\r"
).encode()
EVENTS = [
    SseEvent("add", "one\ntwo\n three", "7"),
    SseEvent("message", "你好", "7"),
    SseEvent("message", "\n", "7"),
    SseEvent("message", "last: one", "8"),
]


def parsed(*pieces: bytes) -> list[SseEvent]:
    parser = SseParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.end()


def test_every_form_of_line_and_field_is_read() -> None:
    assert parsed(STREAM) == EVENTS


def test_a_stream_may_be_split_at_any_byte() -> None:
    for at in range(len(STREAM) + 1):
        assert parsed(STREAM[:at], STREAM[at:]) == EVENTS, at
    assert parsed(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == EVENTS


def test_events_come_as_soon_as_their_blank_line() -> None:
    parser = SseParser()
    assert parser.feed(b"data: a\r") == []
    assert parser.feed(b"\n") == []
    assert parser.feed(b"\r") == [SseEvent("message", "a", "")]
    assert parser.feed(b"\ndata: b\n") == []
    assert parser.end() == [SseEvent("message", "b", "")]
    assert parser.end() == []


def test_an_event_that_the_end_cuts_is_told_as_far_as_it_came() -> None:
    assert parsed(b"event: e\ndata: x\ndata: y") == [SseEvent("e", "x\ny", "")]
    assert parsed(b"event: e\n") == []


def test_an_events_name_ends_with_it() -> None:
    assert parsed(b"event: e\ndata: 1\n\ndata: 2\n\n") == [
        SseEvent("e", "1", ""),
        SseEvent("message", "2", ""),
    ]


def test_an_id_with_a_null_is_ignored_and_bad_utf8_replaced() -> None:
    assert parsed(b"id: 1\nid: \0\ndata: \xff\n\n") == [SseEvent("message", "�", "1")]


def test_a_mark_in_the_middle_is_part_of_a_name() -> None:
    assert parsed(b"data: a\n\n\xef\xbb\xbfdata: b\n\n") == [SseEvent("message", "a", "")]


def test_an_event_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "_MAX_EVENT", 10)
    parser = SseParser()
    assert parser.feed(b"data: 1234") == []
    with pytest.raises(BadAudioError) as caught:
        parser.feed(b"5")
    assert caught.value.reason == "too_large"
    parser = SseParser()
    with pytest.raises(BadAudioError):
        for _ in range(4):
            parser.feed(b"data:\n")
    # Events that have ended do not count.
    assert len(parsed(*[b"data: 12\n\n"] * 5)) == 5
