"""Other formats than WAV: lengths, rates, files that appear whole or not at all."""

import dataclasses
import io
import os
import subprocess
import sys
import wave
from pathlib import Path

import pytest

import cosy_sync
from cosy_sync import Audio, ConfigError, Word, join
from cosy_sync.audio import SoundFileWriter
from cosy_sync.joining import as_wav, trim

soundfile = pytest.importorskip("soundfile", reason="needs the extra audio")
numpy = pytest.importorskip("numpy", reason="needs the extra audio")
pytest.importorskip("soxr", reason="needs the extra audio")

CODECS = ("mp3", "opus", "ogg", "flac")
RATES = (8000, 16_000, 22_050, 24_000, 44_100, 48_000)


def speech(
    rate: int = 24_000, seconds: float = 1.2345, channels: int = 1, hz: float = 220
) -> Audio:
    times = numpy.arange(round(rate * seconds)) / rate
    wobble = numpy.sin(2 * numpy.pi * hz * times) * (0.6 + 0.4 * numpy.sin(9 * times)) * 12_000
    frames = numpy.repeat(wobble.astype("<i2")[:, None], channels, axis=1)
    return as_wav([frames.tobytes()], rate, channels)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("codec", CODECS)
def test_a_file_of_any_format_is_as_long_as_its_sound(
    codec: str, rate: int, tmp_path: Path
) -> None:
    audio = speech(rate)
    path = audio.save(tmp_path / f"sound.{codec}")
    found = soundfile.info(str(path))
    assert found.duration == pytest.approx(audio.duration, abs=0.001)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("quality", [0, 0.5, 1])
@pytest.mark.parametrize("codec", ["mp3", "opus", "ogg"])
def test_quality_makes_files_larger_and_leaves_their_length(codec: str, quality: float) -> None:
    audio = speech(seconds=3)
    made = audio.as_format(codec, quality)
    found = soundfile.info(io.BytesIO(made.data))
    assert found.duration == pytest.approx(3, abs=0.001)
    assert len(audio.as_format(codec, 0).data) <= len(made.data) <= len(audio.data)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("codec", CODECS)
def test_what_was_encoded_is_decoded_again(codec: str, channels: int) -> None:
    audio = speech(channels=channels)
    made = audio.as_format(codec)
    assert (made.format, made.duration) == (codec, audio.duration)
    back = numpy.frombuffer(made.pcm(), "<i2").astype(float)
    sent = numpy.frombuffer(audio.pcm(), "<i2").astype(float)
    assert len(back) == len(sent)
    assert numpy.corrcoef(back, sent)[0, 1] > 0.95  # the same sound at the same time
    with wave.open(io.BytesIO(made.wav())) as file:
        assert file.getnframes() * channels == len(sent)


@pytest.mark.parametrize("codec", ["ogg", "opus", "mp3"])
def test_loud_sound_does_not_wrap_round(codec: str) -> None:
    times = numpy.arange(24_000) / 24_000
    loud = numpy.clip(numpy.sin(2 * numpy.pi * 220 * times) * 60_000, -32_768, 32_767)
    back = as_wav([loud.astype("<i2").tobytes()], 24_000).as_format(codec).numpy().astype(int)
    assert abs(numpy.diff(back)).max() < 30_000


def test_an_empty_sound_cannot_be_encoded() -> None:
    with pytest.raises(ConfigError, match="no sound"):
        as_wav([b""], 24_000).as_format("mp3")


def test_flac_loses_nothing() -> None:
    audio = speech()
    assert audio.as_format("flac") == audio
    assert audio.as_format("flac").as_format("wav").data == audio.data


def test_equality_is_of_sound_and_not_of_files_or_times() -> None:
    audio = speech()
    assert audio == audio.as_format("pcm") and hash(audio) == hash(audio.as_format("pcm"))
    assert audio != speech(hz=221) and audio != "sound"
    assert speech(24_000, 1) != Audio(speech(24_000, 1).pcm(), "pcm", 16_000, 1, 0, 48_000)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: speech().as_format("aac"), "format: must be one of wav, pcm, mp3.*'aac'"),
        (lambda: speech().as_format("mp3", 2), "quality: must be 0 .* to 1"),
        (lambda: speech().as_format("mp3", float("nan")), "quality"),
        (lambda: speech().as_format("flac", 0.5), "quality: flac loses nothing"),
        (lambda: speech().as_format("wav", 0.5), "quality: wav loses nothing"),
        (lambda: speech().save("x.m4a"), r"'x\.m4a' must end in .wav, .mp3"),
        (lambda: speech().resample(10), "4000 to 384000 Hz"),
        (lambda: speech().resample(24_000.5), "4000 to 384000 Hz"),
        (lambda: join([]), "at least one"),
        (lambda: join(speech()), "a list of Audio"),
        (lambda: join([speech(), "x"]), "a list of Audio"),
        (lambda: join([speech(), speech(channels=2)]), "2 channels, the first one 24000 Hz and 1$"),
        (lambda: speech().save("x.wav", 0.5), "quality: wav loses nothing"),
        (lambda: join([speech(), speech(16_000)]), "audio 1 has 16000 Hz.*resample"),
        (lambda: join([speech()], gap=-1), "gap"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigError, match=message):
        make()


def test_without_soundfile_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ConfigError, match=r"mp3 needs soundfile: pip install .*soundfile"):
        speech().as_format("mp3")


@pytest.mark.parametrize("rate", RATES)
def test_resampling_keeps_the_length_and_the_tone(rate: int) -> None:
    audio = speech(24_000, 1.0)
    made = audio.resample(rate)
    assert made.sample_rate == rate and made.duration == pytest.approx(1.0, abs=1 / rate)
    spectrum = numpy.abs(numpy.fft.rfft(made.numpy().astype(float)))
    assert abs(int(spectrum.argmax()) - 220) <= 2


def test_samples_come_as_an_array_with_an_axis_for_channels() -> None:
    assert speech(seconds=1).numpy().shape == (24_000,)
    assert speech(seconds=1, channels=2).numpy().shape == (24_000, 2)
    assert speech().numpy().dtype == numpy.int16


def test_join_is_exact_to_the_sample() -> None:
    one, two = speech(seconds=0.1), speech(seconds=0.2, hz=300)
    made = join([one, two.as_format("pcm"), one.as_format("flac")], gap=0.05)
    silence = bytes(2 * 1200)
    assert made.pcm() == one.pcm() + silence + two.pcm() + silence + one.pcm()


def test_trimming_takes_its_seconds_off_the_times_of_words() -> None:
    sound = as_wav([bytes(2 * 12_000), speech(seconds=0.5).pcm()], 24_000)
    made = trim(dataclasses.replace(sound, words=(Word("a", 0.6, 0.9),)))
    assert made.words[0].start == pytest.approx(0.6 - 0.48, abs=0.006)


def test_what_no_wav_file_can_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 4 GiB"):
        as_wav([bytes(2**20)] * 4096, 24_000)


def test_trimming_leaves_20_ms_of_silence_and_a_silent_sound_as_it_is() -> None:
    still, loud = bytes(2 * 12_000), speech(seconds=0.5)
    made = trim(as_wav([still, loud.pcm(), still], 24_000))
    assert made.duration == pytest.approx(0.5 + 0.04, abs=0.011)
    silent = as_wav([still], 24_000)
    assert trim(silent) is silent


# -- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["wav", "pcm", *CODECS])
def test_a_file_that_is_written_in_pieces_is_the_one_that_is_written_at_once(
    ending: str, tmp_path: Path
) -> None:
    audio = speech(seconds=2.5)
    with SoundFileWriter(tmp_path / f"pieces.{ending}") as file:
        for at in range(0, audio.pcm_size, 7000):
            file.write(audio.pcm()[at : at + 7000], 24_000)
    whole = audio.save(tmp_path / f"whole.{ending}")
    assert file.saved().duration == audio.duration
    assert len(file.saved().read().pcm()) == audio.pcm_size
    if ending not in ("opus", "ogg"):  # these have a random serial number
        assert file.path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("ending", ["wav", *CODECS])
def test_an_error_in_the_middle_leaves_nothing(ending: str, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), SoundFileWriter(tmp_path / f"x.{ending}") as file:
        file.write(speech().pcm(), 24_000)
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_a_rate_that_changes_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"24000 Hz.*16000 Hz"),
        SoundFileWriter(tmp_path / "x.wav") as file,
    ):
        file.write(b"\0\0", 24_000)
        file.write(b"\0\0", 16_000)
    assert os.listdir(tmp_path) == []


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        speech().save(tmp_path / "gone" / "x.mp3")


_FULL = """
import os, resource, signal, sys
from cosy_sync.audio import SoundFileWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for ending in sys.argv[1:]:
    try:
        with SoundFileWriter(f"full.{ending}") as file:
            for _ in range(50):
                file.write(os.urandom(48_000), 24_000)
    except OSError as error:
        assert f"full.{ending}" in str(error), error
    else:
        print(ending, "lost its end unseen")
print(os.listdir("."))
"""


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL, "wav", *CODECS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_where_nothing_can_play_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="play: no program here plays sound; install"):
        speech().play()


def test_playing_waits_for_the_player_and_tells_what_it_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    player = tmp_path / "aplay"
    heard = tmp_path / "heard.wav"
    player.write_text(f'#!/bin/sh\n/bin/cp "$2" {heard}\n')
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    speech().play()
    assert heard.read_bytes() == speech().wav()
    player.write_text("#!/bin/sh\necho no such device >&2\nexit 1\n")
    with pytest.raises(ConfigError, match=r"aplay could not play it \(no such device\)"):
        speech().play()


def test_the_package_tells_of_join() -> None:
    assert cosy_sync.join is join


# A thread's stack has 512 kB on macOS: libvorbis copies onto it what it gets at once.
ON_A_SMALL_STACK = """
import sys, threading
from cosy_sync import Audio
from cosy_sync.audio import SoundFileWriter

size = 2 * 24_000 * 15
audio = Audio(bytes(size), "pcm", 24_000, 1, 0, size)

def work():
    assert audio.as_format(sys.argv[1]).duration == 15
    with SoundFileWriter(sys.argv[2]) as file:
        file.write(audio.data, 24_000)
    print("written")

threading.stack_size(512 << 10)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_long_sounds_are_encoded_on_a_small_stack(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_A_SMALL_STACK, "ogg", str(tmp_path / "x.ogg")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "written"), done.stderr
