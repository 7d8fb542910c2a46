"""The nouns: audio on disk and in notebooks, errors that travel, outcomes."""

import copy
import errno
import io
import os
import pickle
import wave
from pathlib import Path
from typing import Any

import pytest

import cosy_sync
from cosy_sync import Audio, Outcome, errors
from cosy_sync.audio import read_audio
from cosy_sync.messages import Payload
from cosy_sync.models import text_hash, wav_header
from cosy_sync.testing import FakeService

PCM = bytes(range(250)) * 96


def wav_audio() -> Audio:
    data = wav_header(24_000, 1, len(PCM)) + PCM
    return read_audio(Payload(data, "audio/wav"), sample_rate=8000)


def pcm_audio() -> Audio:
    return read_audio(Payload(PCM, "audio/L16; rate=16000; channels=1"), sample_rate=8000)


def test_bare_samples_become_a_wav_file_that_others_read(tmp_path: Path) -> None:
    path = pcm_audio().save(tmp_path / "sound.wav")
    with wave.open(str(path)) as file:
        assert file.getframerate() == 16_000
        assert file.readframes(file.getnframes()) == PCM


def test_duration_counts_samples_not_headers() -> None:
    assert wav_audio().duration == len(PCM) / 48_000
    assert pcm_audio().duration == len(PCM) / 32_000


def test_pcm_is_what_lies_behind_the_header() -> None:
    assert wav_audio().pcm() == PCM == pcm_audio().pcm()


@pytest.mark.parametrize("ending", ["pcm", "raw"])
def test_saving_bare_samples_leaves_the_header_out(tmp_path: Path, ending: str) -> None:
    path = wav_audio().save(str(tmp_path / f"sound.{ending}"))
    assert path.read_bytes() == PCM


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(cosy_sync.ConfigError, match=r"sound\.aac"):
        wav_audio().save(tmp_path / "sound.aac")


def test_saving_obeys_the_umask_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(b"old")
    wav_audio().save(path)
    assert path.read_bytes() == wav_audio().data
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_an_error_of_saving_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    taken = tmp_path / "taken.wav"
    taken.mkdir()
    for path in (tmp_path / "missing" / "sound.wav", taken):
        with pytest.raises(OSError) as caught:
            wav_audio().save(path)
        assert str(caught.value).endswith(f": {str(path)!r}")
    assert os.listdir(tmp_path) == ["taken.wav"]


def test_a_format_that_does_not_exist_is_refused() -> None:
    with pytest.raises(
        cosy_sync.ConfigError,
        match="format: must be one of wav, pcm, mp3, opus, ogg, flac, got 'aac'",
    ):
        wav_audio().as_format("aac")


def test_a_save_waits_for_a_descriptor_where_connections_hold_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures, waits = os.open, [errno.EMFILE, errno.ENFILE], []

    def scarce(*args: Any, **settings: Any) -> Any:
        if failures and str(args[0]).endswith(".part"):
            raise OSError(failures.pop(), "Too many open files")
        return real(*args, **settings)

    monkeypatch.setattr("cosy_sync.audio.whole_file.os.open", scarce)
    monkeypatch.setattr("cosy_sync.audio.whole_file.time.sleep", waits.append)
    wav_audio().save(tmp_path / "x.wav")
    assert (tmp_path / "x.wav").read_bytes() == wav_audio().data
    assert len(waits) == 2


def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(b"old")

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        wav_audio().save(path)
    assert [item.name for item in tmp_path.iterdir()] == ["sound.wav"]
    assert path.read_bytes() == b"old"


def test_saving_into_a_missing_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        wav_audio().save(tmp_path / "missing" / "sound.wav")


def test_its_repr_has_no_bytes() -> None:
    assert repr(wav_audio()) == "<Audio wav, 24000 Hz, 0.50 s, 24044 bytes>"


def test_the_fake_service_speaks_valid_wav() -> None:
    with wave.open(io.BytesIO(FakeService.wav("你好"))) as file:
        assert file.getnframes() > 0


def test_a_hash_is_short_stable_and_defined_for_any_text() -> None:
    assert text_hash("你好") == text_hash("你好") != text_hash("再见")
    assert len(text_hash("half \ud83d pair")) == 10


def test_an_outcomes_repr_does_not_show_its_text() -> None:
    assert "秘密" not in repr(Outcome(0, "秘密"))


def test_an_outcomes_result_is_its_audio_or_raises_its_error() -> None:
    good = Outcome(0, "a", wav_audio())
    assert good and good.ok and good.result() is good.audio
    bad = Outcome(1, "b", None, errors.ClosedError("x"))
    assert not bad and not bad.ok
    with pytest.raises(errors.ClosedError) as caught:
        bad.result()
    assert caught.value is bad.error


ERRORS = [
    getattr(errors, name)
    for name in errors.__all__
    if isinstance(getattr(errors, name), type)
    and issubclass(getattr(errors, name), errors.CosyError)
]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_survives_pickling_and_copying(kind: type[errors.CosyError]) -> None:
    earlier = errors.ThrottledError("slow down", retry_after=2.0)
    error = kind("it broke", endpoint="http://a/", index=3, attempts=(earlier,), status=418)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind and str(twin) == str(error)
        assert twin.index == 3 and twin.attempts[0].retry_after == 2.0


def test_an_error_says_where_and_after_how_many_attempts() -> None:
    error = errors.UnavailableError("no answer", endpoint="http://a/", index=3, text_hash="ab")
    error = error.with_details(attempts=(error, error))
    assert str(error) == "no answer [text 3, #ab, http://a/, after 3 attempts]"


def test_a_batch_error_counts_its_failures() -> None:
    bad = Outcome(1, "b", None, errors.ClosedError("x"))
    error = errors.BatchError("some failed", outcomes=[Outcome(0, "a"), bad])
    assert error.failures == [bad]


def test_an_interrupt_is_a_keyboard_interrupt_with_outcomes_and_no_cosy_error() -> None:
    error = pickle.loads(pickle.dumps(cosy_sync.InterruptedBatch([Outcome(0, "a")])))
    assert isinstance(error, KeyboardInterrupt) and not isinstance(error, Exception)
    assert error.outcomes[0].text == "a"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthError),
        (402, errors.BillingError),
        (408, errors.UnavailableError),
        (429, errors.ThrottledError),
        (500, errors.UnavailableError),
        (599, errors.UnavailableError),
        (302, errors.ServerError),
    ],
)
def test_each_status_has_its_error(status: int, kind: type[errors.CosyError]) -> None:
    error = errors.server_error(status, "why")
    assert type(error) is kind and error.status == status and str(status) in str(error)


def test_one_text_is_one_text() -> None:
    assert str(cosy_sync.InterruptedBatch([Outcome(0, "a")])) == "interrupted with 1 text finished"
    assert str(cosy_sync.InterruptedBatch([])) == "interrupted with 0 texts finished"
