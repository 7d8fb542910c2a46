"""Whatever is given as a reference ends as a Recording or as a ConfigError, within bounds."""

from __future__ import annotations

import hashlib
import io
import sys
import warnings
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosy_sync import ConfigError, Recording
from cosy_sync.audio import load_recording, parse_wav
from cosy_sync.models import wav_header

CLIP = array("h", [(n * 977) % 20_000 - 10_000 for n in range(16_000)])
WAV = wav_header(16_000, 1, 32_000) + CLIP.tobytes()


def packed(form: str) -> bytes:
    """Return the clip as another kind of sound file."""
    soundfile = pytest.importorskip("soundfile", reason="needs the extra clips")
    file = io.BytesIO()
    soundfile.write(file, [sample / 32_768 for sample in CLIP], 16_000, format=form)
    return file.getvalue()


def judged(source: Any, rates: tuple[int, int] = (16_000, 48_000)) -> Recording | None:
    """Read a source; return its recording after a look at every promise, None when refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            recording = load_recording(source, rates=rates)
        except ConfigError as error:
            assert str(error).startswith("reference: ") and len(str(error)) < 1_000
            return None
    rate, channels, start, size = parse_wav(recording.wav)
    assert (start, size, channels) == (44, len(recording.wav) - 44, 1)
    assert rate == recording.sample_rate and rates[0] <= rate <= rates[1]
    assert recording.duration == size / 2 / rate and 0.99 <= recording.duration <= 30.0
    assert recording.digest == hashlib.sha256(recording.wav).hexdigest()
    assert load_recording(recording, rates=rates) is recording
    return recording


@given(st.binary(max_size=2_000))
@example(b"RIFF")
@example(b"ID3")
@example(b"OggS")
@example(b"fLaC")
def test_any_bytes_end_as_a_recording_or_a_config_error(data: bytes) -> None:
    judged(data)


@given(st.text(max_size=100))
def test_any_text_ends_as_a_recording_or_a_config_error(path: str) -> None:
    judged(path)


edits = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6)


@settings(deadline=None)
@given(edits, st.integers(0, 40_000), st.sampled_from([(16_000, 48_000), (16_000, 16_000)]))
@example([(24, 255), (25, 255), (26, 255), (27, 255)], 40_000, (16_000, 48_000))
def test_a_damaged_wav_file_ends_so_too(
    places: list[tuple[int, int]], length: int, rates: tuple[int, int]
) -> None:
    data = bytearray(WAV[:length])
    for place, value in places:
        if place < len(data):
            data[place] = value
    judged(bytes(data), rates)


@pytest.mark.parametrize("form", ["FLAC", "OGG", "MP3", "CAF", "AU", "W64"])
def test_a_damaged_file_of_another_kind_ends_so_too(form: str) -> None:
    whole = packed(form)
    assert judged(whole) is not None

    @settings(deadline=None, max_examples=60)
    @given(edits, st.integers(0, len(whole)))
    def damaged(places: list[tuple[int, int]], length: int) -> None:
        data = bytearray(whole[:length])
        for place, value in places:
            if place < len(data):
                data[place] = value
        judged(bytes(data))

    damaged()


numbers = st.one_of(
    st.integers(-40_000, 40_000), st.floats(), st.none(), st.booleans(), st.text(max_size=2)
)


@settings(deadline=None)
@given(st.lists(numbers, max_size=30), st.integers(-1, 200_000), st.booleans())
def test_any_samples_end_so_too(values: list[Any], rate: int, long: bool) -> None:
    judged((values * (1_000 if long else 1), rate))


@settings(deadline=None, max_examples=20)
@given(
    st.integers(1, 8), st.integers(16_000, 40_000), st.integers(0, 1_000), st.integers(1, 32_000)
)
def test_a_recording_read_again_is_the_same(
    channels: int, rate: int, shift: int, peak: int
) -> None:
    sound = array("h", [(n * 977 + shift) % (2 * peak) - peak for n in range(rate * channels)])
    if sys.byteorder == "big":
        sound.byteswap()
    recording = judged(wav_header(rate, channels, 2 * len(sound)) + sound.tobytes())
    if recording is not None:
        assert judged(recording.wav) == recording


def test_a_bomb_is_opened_no_further_than_needed(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy", reason="needs the extra clips")
    soundfile = pytest.importorskip("soundfile", reason="needs the extra clips")
    resource = pytest.importorskip("resource")
    path = tmp_path / "bomb.flac"
    with soundfile.SoundFile(path, "w", samplerate=48_000, channels=2) as file:
        quiet = numpy.full((48_000, 2), 0.5)
        for _ in range(1_000):
            file.write(quiet)
    assert path.stat().st_size < 2_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert judged(path) is None  # a direct current is silence
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
