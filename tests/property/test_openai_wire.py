"""Whatever a server sends ends as sound or as a CosyError, however it is split."""

from __future__ import annotations

import base64
import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from cosy_sync.config import ClientConfig
from cosy_sync.errors import CosyError
from cosy_sync.messages import Payload, Reply
from cosy_sync.models import wav_header
from cosy_sync.wires import SpeechOptions
from cosy_sync.wires.openai import OpenaiWire
from cosy_sync.wires.sse import SseParser

KINDS = [
    *("", "audio/wav", "audio/pcm", "audio/L16; rate=24000; channels=1", "audio/mpeg"),
    *("application/json", "application/octet-stream", "text/event-stream", "text/html"),
]
SINGLE, BATCH = (
    OpenaiWire(f"http://tts/v1/audio/speech{end}", SpeechOptions.from_config(ClientConfig()))
    for end in ("", "/batch")
)
# Bytes at random, behind what makes a reader look closer.
STARTS = [b"", b"RIFF", wav_header(24_000, 1, 8), b"{", b'{"error":', b"data: ", b"\xef\xbb\xbf"]
BODIES = st.builds(bytes.__add__, st.sampled_from(STARTS), st.binary(max_size=200))
CUTS = st.lists(st.integers(0, 240), max_size=6).map(sorted)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *cuts, len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(st.integers(200, 599), st.sampled_from(KINDS), BODIES)
def test_any_reply_is_a_payload_or_an_error(status: int, kind: str, body: bytes) -> None:
    for wire, texts in ((SINGLE, ["a"]), (BATCH, ["a", "b"])):
        try:
            results = wire.decode(Reply(status, {"content-type": kind}, body), texts)
        except CosyError:
            continue
        assert len(results) == len(texts)
        assert all(isinstance(each, (Payload, CosyError)) for each in results)


def read(kind: str, parts: list[bytes]) -> tuple[bytes, str, int]:
    reader = SINGLE.listen("a", lambda _: Reply(500, {}, b""), "r1")
    if not reader.accept(200, {"content-type": kind}):
        whole = Reply(200, {"content-type": kind}, b"".join(parts))
        return b"", type(reader.refuse(whole)).__name__, 0
    sound, error = b"", ""
    try:
        for part in parts:
            sound += reader.feed(part)
        sound += reader.end()
    except CosyError as caught:
        error = f"{type(caught).__name__} {getattr(caught, 'reason', '')}"
    assert len(sound) % 2 == 0
    return sound, error, reader.sample_rate


@given(st.sampled_from(KINDS), BODIES, CUTS)
def test_any_stream_is_sound_or_an_error_and_splitting_changes_nothing(
    kind: str, body: bytes, cuts: list[int]
) -> None:
    sound, error, rate = read(kind, [body])
    again, same, rate_again = read(kind, pieces(body, cuts))
    assert error == same
    if not error:
        assert (sound, rate) == (again, rate_again)


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=5), CUTS)
def test_events_give_the_sound_that_was_put_in(sounds: list[bytes], cuts: list[int]) -> None:
    whole = b"\1\0" + b"".join(sounds)
    if len(whole) % 2:
        sounds.append(b"\0")
        whole += b"\0"
    deltas = [
        {"type": "speech.audio.delta", "audio": base64.b64encode(sound).decode()}
        for sound in (b"\1\0", *sounds)
    ]
    events = [*deltas, {"type": "speech.audio.done"}]
    body = "".join(f"data: {json.dumps(event)}\r\n\r\n" for event in events).encode()
    if not any(sound.startswith(b"RIFF") for sound in sounds):
        assert read("text/event-stream", pieces(body, cuts))[:2] == (whole, "")


@given(st.binary(max_size=200), CUTS)
def test_splitting_changes_no_event(data: bytes, cuts: list[int]) -> None:
    whole, split = SseParser(), SseParser()
    events = whole.feed(data) + whole.end()
    again = [event for piece in pieces(data, cuts) for event in split.feed(piece)] + split.end()
    assert events == again
