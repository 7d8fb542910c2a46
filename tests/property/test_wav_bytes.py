"""Any WAV file ends as sound that every reader finds again, or as a BadAudioError."""

from __future__ import annotations

import io
import struct
import wave
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from cosy_sync.audio import read_audio
from cosy_sync.errors import BadAudioError
from cosy_sync.messages import Payload
from cosy_sync.wires.pcm_stream import SampleReader

SIZES = st.sampled_from([0, 36, 1_000, 10**9, 0x7FFF_FFFF, 0xFFFF_FFFF]) | st.integers(0, 2**32 - 1)
KINDS = st.sampled_from(["fmt ", "data", "LIST", "ds64", "\0\1\2\3"])
LAYOUTS = st.tuples(
    st.sampled_from([1, 1, 3, 7, 0xFFFE]),
    st.sampled_from([1, 1, 1, 2, 0, 9]),
    st.sampled_from([24_000, 8_000, 192_000, 0, 7_999, 1_000_000]),
    st.sampled_from([16, 24, 32, 8, 20, 64, 4, 0]),
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    chunks = []
    others = st.lists(KINDS, max_size=2)
    usual = ["fmt ", "data"] if draw(st.booleans()) else []
    for kind in [*draw(others), *usual, *draw(others)]:
        if kind == "fmt ":
            code, channels, rate, bits = draw(LAYOUTS)
            frame = channels * -(-bits // 8)
            body = struct.pack("<HHIIHH", code, channels, rate, rate * frame % 2**32, frame, bits)
            body += draw(st.sampled_from([b"", b"\0\0", bytes(24)]))
        else:
            body = draw(st.binary(max_size=64))
        size = len(body) if draw(st.booleans()) else draw(SIZES)
        chunks.append(kind.encode() + struct.pack("<I", size) + body + b"\0" * (len(body) & 1))
    body = b"WAVE" + b"".join(chunks)
    size = len(body) if draw(st.booleans()) else draw(SIZES)
    return draw(st.sampled_from([b"RIFF", b"RF64"])) + struct.pack("<I", size) + body


@settings(deadline=None, max_examples=150)
@given(files())
def test_what_is_read_of_a_file_is_what_others_read_of_what_is_kept(data: bytes) -> None:
    try:
        audio = read_audio(Payload(data, "audio/wav"), sample_rate=24_000)
    except BadAudioError:
        return
    kept = audio.wav()
    assert int.from_bytes(kept[4:8], "little") == len(kept) - 8
    with wave.open(io.BytesIO(kept)) as file:
        assert file.readframes(file.getnframes()) == audio.pcm() != b""
        assert (file.getframerate(), file.getnchannels()) == (audio.sample_rate, audio.channels)


@settings(deadline=None, max_examples=150)
@given(files(), st.lists(st.integers(0, 400), max_size=4))
def test_a_stream_is_the_same_sound_wherever_its_bytes_are_split(
    data: bytes, places: list[int]
) -> None:
    def read(pieces: list[bytes]) -> bytes | str:
        reader = SampleReader(24_000)
        try:
            return b"".join([reader.feed(piece) for piece in pieces]) + reader.end()
        except BadAudioError as error:
            return error.reason

    ends = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    pieces = [data[start:end] for start, end in pairwise(ends)]
    assert read([data]) == read(pieces)
