"""Reference recordings: what is read, what is refused, and what a wire gets."""

from __future__ import annotations

import hashlib
import importlib
import os
import threading
import warnings
import wave
from array import array
from pathlib import Path
from typing import Any

import pytest
from made_sounds import interleaved, share_at, tone, wav

from cosy_sync import ConfigError, Recording
from cosy_sync.audio import load_recording, parse_wav


def samples_of(recording: Recording) -> array[int]:
    rate, channels, start, size = parse_wav(recording.wav)
    assert (rate, channels) == (recording.sample_rate, 1)
    assert start + size == len(recording.wav)
    return array("h", recording.wav[start:])


def refusal(source: Any, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_recording(source, **options)
    message = str(caught.value)
    assert message.startswith("reference: ")
    return message


# -- what is read -------------------------------------------------------------------------------


def test_a_wav_file_stays_as_it_is() -> None:
    file = wav(tone())
    recording = load_recording(file)
    assert recording.wav == file
    assert (recording.sample_rate, recording.duration) == (24_000, 2.0)
    assert recording.digest == hashlib.sha256(file).hexdigest()


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_a_path_is_read(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "声音.wav"
    path.write_bytes(wav(tone()))
    assert load_recording(kind(path) if kind is not os.fsencode else path).wav == wav(tone())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_of_every_kind_are_read(kind: Any) -> None:
    assert load_recording(kind(wav(tone()))).wav == wav(tone())


def test_what_is_not_sound_in_a_wav_file_does_not_change_the_digest() -> None:
    plain, pcm = wav(tone()), tone().tobytes()
    noted = plain[:36] + b"LIST" + (4).to_bytes(4, "little") + b"note" + plain[36:]
    endless = plain[:40] + b"\xff\xff\xff\xff" + pcm
    assert load_recording(noted) == load_recording(endless) == load_recording(plain)


def test_a_recording_that_fits_is_passed_on_as_it_is() -> None:
    recording = load_recording(wav(tone()))
    assert load_recording(recording) is recording
    assert load_recording(recording, rates=(24_000, 24_000)) is recording


def test_channels_are_mixed_to_their_mean() -> None:
    left, right = tone(), tone(peak=8_000)
    mixed = samples_of(load_recording(wav(interleaved(left, right), channels=2)))
    assert mixed == array("h", [(a + b) // 2 for a, b in zip(left, right, strict=True)])
    three = wav(interleaved(left, left, left), channels=3)
    assert samples_of(load_recording(three)) == left


def test_a_file_of_the_wave_module_is_read(tmp_path: Path) -> None:
    path = tmp_path / "made.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 44_100, 0, "NONE", ""))
        file.writeframes(interleaved(tone(rate=44_100), tone(rate=44_100)).tobytes())
    assert samples_of(load_recording(path)) == tone(rate=44_100)


@pytest.mark.parametrize("make", [list, tuple, lambda samples: samples])
def test_whole_numbers_are_samples(make: Any) -> None:
    assert samples_of(load_recording((make(tone()), 24_000))) == tone()


def test_floats_fill_the_range_of_16_bits() -> None:
    floats = [0.0, 0.5, -0.5, -1.0, 1.0, 1.001] * 4_000
    with pytest.warns(UserWarning, match="distorted"):
        samples = samples_of(load_recording((floats, 24_000)))
    assert samples[:6].tolist() == [0, 16_384, -16_384, -32_768, 32_767, 32_767]


# -- length -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "good"), [(1.0, True), (0.9999, False)])
def test_a_second_is_the_least(seconds: float, good: bool) -> None:
    file = wav(tone(seconds, 20_000), 20_000)
    if good:
        assert load_recording(file).duration == 1.0
    else:
        assert "3 to 10 s" in refusal(file)


def test_thirty_seconds_are_the_most() -> None:
    longest = wav(array("h", [9, -999] * 240_000), 16_000)
    assert load_recording(longest, whole=True).duration == 30.0
    longer = wav(array("h", [9, -999] * 240_000 + [5]), 16_000)
    assert "cut it, and the transcript with it" in refusal(longer, whole=True)


def test_without_a_transcript_the_rest_is_left_out() -> None:
    samples = array("h", [9, -999] * 320_000)
    with pytest.warns(UserWarning, match="only its first 29 s are used"):
        recording = load_recording(wav(samples, 16_000))
    assert samples_of(recording) == samples[: 29 * 16_000]


def test_a_huge_file_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "huge.wav"
    with open(path, "wb") as file:
        file.truncate(64_000_001)
    assert "more than 64 MB" in refusal(path)
    with open(path, "wb") as file:
        file.truncate(64_000_000)
    assert "more than" not in refusal(path)


# -- what is heard ------------------------------------------------------------------------------


@pytest.mark.parametrize(("peak", "good"), [(32, False), (33, True)])
def test_silence_is_refused(peak: int, good: bool) -> None:
    # Beside the middle: a direct current is no sound either.
    file = wav(array("h", [500 + peak, 500 - peak] * 20_000))
    if good:
        load_recording(file)
    else:
        assert "silent" in refusal(file)


@pytest.mark.parametrize("level", [32_767, -32_768])
@pytest.mark.parametrize(("count", "told"), [(48, False), (49, True)])
def test_more_than_a_thousandth_at_full_scale_is_told(level: int, count: int, told: bool) -> None:
    samples = tone()
    samples[:count] = array("h", [level] * count)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        load_recording(wav(samples))
    assert ["distorted" in str(each.message) for each in said] == [True] * told


# -- rates --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000])
def test_rates_that_services_take_are_kept(rate: int) -> None:
    assert load_recording(wav(tone(rate=rate), rate)).sample_rate == rate


@pytest.mark.parametrize(
    ("rate", "rates", "wanted"),
    [
        (48_001, (16_000, 48_000), 48_000),
        (192_000, (16_000, 48_000), 48_000),
        (24_000, (16_000, 16_000), 16_000),
        (44_100, (16_000, 16_000), 16_000),
        (16_000, (24_000, 24_000), 24_000),
    ],
)
def test_a_tone_of_1_khz_stays_one(rate: int, rates: tuple[int, int], wanted: int) -> None:
    pytest.importorskip("soxr", reason="needs the extra audio")
    before = tone(rate=rate)
    recording = load_recording(wav(before, rate), rates=rates)
    after = samples_of(recording)
    assert recording.sample_rate == wanted
    assert abs(len(after) - 2 * wanted) <= 1
    assert share_at(before, rate, 1_000) > 0.999
    # Without both ends, where the tone begins and stops abruptly.
    assert share_at(after[wanted // 2 : wanted], wanted, 1_000) > 0.9999
    assert max(after) == pytest.approx(16_000, rel=0.02)


def test_what_a_lower_rate_cannot_hold_is_gone_instead_of_folded_back() -> None:
    pytest.importorskip("soxr", reason="needs the extra audio")
    both = array("h", map(sum, zip(tone(), tone(hertz=9_000, peak=10_000), strict=True)))
    after = samples_of(load_recording(wav(both), rates=(16_000, 16_000)))
    assert share_at(after[8_000:24_000], 16_000, 7_000) < 1e-6
    assert share_at(after[8_000:24_000], 16_000, 1_000) > 0.9999


def test_resampling_the_same_recording_gives_the_same_digest() -> None:
    pytest.importorskip("soxr", reason="needs the extra audio")
    first, second = (load_recording(wav(tone()), rates=(16_000, 16_000)) for _ in range(2))
    assert first == second


def test_a_telephones_recording_is_raised_with_a_warning() -> None:
    pytest.importorskip("soxr", reason="needs the extra audio")
    with pytest.warns(UserWarning, match="only 8000 Hz"):
        recording = load_recording(wav(tone(rate=8_000), 8_000))
    assert recording.sample_rate == 16_000
    assert share_at(samples_of(recording)[8_000:16_000], 16_000, 1_000) > 0.9999


def test_a_recording_is_brought_to_another_wires_rate() -> None:
    pytest.importorskip("soxr", reason="needs the extra audio")
    recording = load_recording(wav(tone()))
    assert load_recording(recording, rates=(16_000, 16_000)).sample_rate == 16_000


@pytest.mark.parametrize("rate", [7_999, 192_001, 0, -1])
def test_rates_of_no_recording_are_refused(rate: int) -> None:
    assert f"has {rate} Hz" in refusal((tone(), rate))


# -- other files and arrays ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "subtype"),
    [("FLAC", None), ("OGG", None), ("MP3", None), ("WAV", "PCM_24"), ("WAV", "FLOAT")],
)
def test_other_sound_files_are_read(tmp_path: Path, form: str, subtype: str | None) -> None:
    soundfile = pytest.importorskip("soundfile", reason="needs the extra audio")
    np = pytest.importorskip("numpy")
    path = tmp_path / "clip"
    both = np.stack([np.array(tone()), np.array(tone())], axis=1) / 32_768
    soundfile.write(path, both, 24_000, format=form, subtype=subtype)
    recording = load_recording(path)
    assert recording.duration == pytest.approx(2.0, abs=0.06)
    assert share_at(samples_of(recording)[6_000:30_000], 24_000, 1_000) > 0.99
    if form in ("FLAC", "WAV"):
        assert samples_of(recording) == tone()


def test_a_long_file_of_another_kind_is_read_no_further_than_needed(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile", reason="needs the extra audio")
    np = pytest.importorskip("numpy")
    path = tmp_path / "long.flac"
    soundfile.write(path, np.tile(np.array(tone(1.0)), 120), 24_000)
    with pytest.warns(UserWarning, match="first 29 s"):
        assert load_recording(path).duration == 29.0
    assert "longer than 30 s" in refusal(path, whole=True)


@pytest.mark.parametrize("wrong", ["rate", "channels"])
def test_a_file_that_claims_too_much_is_refused(wrong: str) -> None:
    soundfile = pytest.importorskip("soundfile", reason="needs the extra audio")
    del soundfile
    file = bytearray(wav(tone()))
    if wrong == "rate":
        file[24:28] = (2_000_000_000).to_bytes(4, "little")
    else:
        file[22:24] = (9).to_bytes(2, "little")
        file[32:34] = (18).to_bytes(2, "little")
    assert ("claims 24000 Hz and 9 channels" if wrong == "channels" else "") in refusal(bytes(file))


def test_floats_of_another_scale_in_a_file_are_refused(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile", reason="needs the extra audio")
    for value in (40.0, float("nan")):
        sound = [0.1, value] * 24_000
        soundfile.write(tmp_path / "clip.wav", sound, 24_000, subtype="FLOAT")
        assert "beyond -1 to 1" in refusal(tmp_path / "clip.wav")


def test_arrays_are_read_in_all_their_shapes() -> None:
    np = pytest.importorskip("numpy")
    plain = np.array(tone())
    both = np.stack([plain, plain])
    for samples in (plain, both, both.T, plain / 32_768, both / 32_768, (plain / 32_768)[None]):
        assert samples_of(load_recording((samples, 24_000))) == tone()
    assert load_recording((plain.astype(">i2"), np.int64(24_000))).duration == 2.0


def test_arrays_that_are_no_samples_are_refused() -> None:
    np = pytest.importorskip("numpy")
    plain = np.array(tone())
    for samples, why in (
        (plain.astype("int32"), "int32"),
        (plain.astype("float32"), "beyond -1 to 1"),
        (np.where(plain == 0, np.nan, 0.1), "beyond -1 to 1"),
        (np.zeros((9, 24_000)), "9 channels"),
        (np.zeros((2, 2, 24_000)), "3 axes"),
        (np.array(["a", "b"]), "<U1"),
        (np.zeros(0), "0.00 s"),
        (np.zeros((0, 2)), "channels"),
        (np.array(1.0), "0 axes"),
    ):
        assert why in refusal((samples, 24_000))


def test_what_numpy_cannot_read_is_refused() -> None:
    pytest.importorskip("numpy")

    class OnAGraphicsCard:
        def __array__(self, *_: Any, **__: Any) -> Any:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")

    assert "numpy can read" in refusal((OnAGraphicsCard(), 24_000))


def test_of_an_array_no_more_is_touched_than_needed() -> None:
    np = pytest.importorskip("numpy")
    endless = np.broadcast_to(np.float32(0.5), (10**12,))
    with pytest.warns(UserWarning, match="first 29 s"):
        assert "silent" in refusal((endless, 16_000))


# -- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (b"", "is empty"),
        (wav(array("h")), "holds no sound"),
        (wav(tone())[:-2], "is cut off"),
        (wav(tone())[:40], "is cut off"),
        ("https://example.com/voice.wav?key=SECRET", "download it"),
        ("data:audio/wav;base64,UklGRg==", "download it"),
        ("nowhere.wav", "'nowhere.wav': No such file"),
        ("\0", "is no file"),
        ("\ud800", "is no file"),
        ("/dev/zero", "is no file"),
        (os.sep, "is no file"),
        ("A" * 5_000, "of 5000 characters"),
        (3, "got int"),
        (["no", "pair"], "got list"),
        ((tone(),), "expected samples and their rate"),
        ((tone(), 24_000.0), "whole number of Hz"),
        ((tone(), True), "whole number of Hz"),
        ((tone(), "24000"), "whole number of Hz"),
        (("text", 24_000), "got str"),
        ((tone().tobytes(), 24_000), "got bytes"),
        ((7, 24_000), "got int"),
        (([], 24_000), "has 0.00 s"),
        (({}, 24_000), "samples must be"),
        ((["a"] * 24_000, 24_000), "samples must be"),
        (([40_000] * 24_000, 24_000), "samples must be"),
        (([2.1] * 24_000, 24_000), "samples must be"),
        (([-2.1] * 24_000, 24_000), "samples must be"),
        (([0.1, float("nan")] * 24_000, 24_000), "samples must be"),
        (([0.1, float("inf")] * 24_000, 24_000), "samples must be"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_what_is_no_recording_is_refused_with_the_fix(source: Any, why: str) -> None:
    message = refusal(source)
    assert why in message
    assert "SECRET" not in message and "UklG" not in message and len(message) < 250


def test_a_half_sample_at_the_end_is_refused() -> None:
    file = bytearray(wav(tone()) + b"\0")
    file[40:44] = (len(file) - 44).to_bytes(4, "little")
    assert "half a sample" in refusal(bytes(file))


def test_junk_is_refused() -> None:
    pytest.importorskip("soundfile", reason="needs the extra audio")
    assert "no sound file that can be read" in refusal(b"junk" * 1_000)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is no file" in refusal(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("source", "rates"),
    [(b"ID3 an MP3", (16_000, 48_000)), (wav(tone()), (16_000, 16_000))],
)
@pytest.mark.parametrize("trouble", [ImportError("no"), OSError("its C library is not there")])
def test_without_the_extra_the_error_says_how_to_get_it(
    source: bytes, rates: tuple[int, int], trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str, package: str | None = None) -> Any:
        raise trouble

    monkeypatch.setattr(importlib, "import_module", missing)
    message = refusal(source, rates=rates)
    assert (
        "pip install 'numpy>=1.24' 'soundfile>=0.13' 'soxr>=0.4'" in message
        and "ffmpeg -i" in message
    )


def test_a_plain_wav_file_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", None)
    file = wav(interleaved(tone(), tone()), channels=2)
    assert load_recording(file).duration == 2.0


def test_no_thread_is_started() -> None:
    before = set(threading.enumerate())
    load_recording(wav(tone()), rates=(24_000, 24_000))
    assert set(threading.enumerate()) <= before
