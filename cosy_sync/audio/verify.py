"""Whether audio can be the speech of its text: duration, silence, doubles, the caller's check."""

from __future__ import annotations

import statistics
import sys
import threading
from array import array
from collections.abc import Callable, Sequence

from ..config import VerifyConfig
from ..errors import BadAudioError, CosyError, UnexpectedError
from ..models import Audio, detach
from ..user_code import goes_on
from .spoken import fewest_spoken, most_spoken, sounds_like, spoken_chars

__all__ = ["Verifier"]

# Below this many spoken characters the pauses at both ends outweigh the speech.
_MIN_CHARS = 4
# Texts after which the pace of this voice is known, and how far from it speech may be. Scripts
# differ by 4x (English 0.07 s a letter, slow Mandarin 0.35 s a character), speed by as much.
_LEARN_TEXTS = 50
_SPREAD = 6.0
# How far one text moves the pace that was learned; a whole batch moves it by at most 20 %.
_STEP = 0.005
_MAX_STEP = 0.2

# -60 dB of full scale: dither and a vocoder's noise floor stay below it, while even whispered
# speech peaks ten times higher.
_SILENT_PEAK = 32
_LOOKS = 64


class Verifier:
    """Refuse audio that cannot be the speech of its text.

    It learns how many seconds a character takes, so one object belongs to one voice at one speed.
    """

    def __init__(self, config: VerifyConfig) -> None:
        self._config = config
        # Guards the writing of _pace and _first. A check reads _pace once, without the lock: it is
        # one float, and an old one serves as well.
        self._lock = threading.Lock()
        self._first: list[float] = []
        self._pace: float | None = None

    def __repr__(self) -> str:
        return f"<Verifier learned {self._pace and round(self._pace, 3)} s per character>"

    def check(
        self, texts: Sequence[str], results: Sequence[Audio | CosyError]
    ) -> list[Audio | CosyError]:
        """Return the results with BadAudioError in place of audio that is refused."""
        checked = list(results)
        if self._config.enabled:
            self._check_each(texts, checked)
            _refuse_doubles(texts, checked)
        return checked

    @property
    def asks(self) -> bool:
        """Return whether the user has a check of their own."""
        return self._config.check is not None

    def ask(
        self, texts: Sequence[str], results: Sequence[Audio | CosyError]
    ) -> list[Audio | CosyError]:
        """Return the results with an error in place of audio that the user's check refuses.

        Waits for the check, which sees only what passed so far.
        """
        checked = list(results)
        check = self._config.check
        if check is not None:
            for index, audio in enumerate(checked):
                if isinstance(audio, Audio):
                    checked[index] = _ask(check, texts[index], audio)
        return checked

    def _check_each(self, texts: Sequence[str], checked: list[Audio | CosyError]) -> None:
        low, high = self._bounds()
        paces: list[float] = []
        for index, (text, audio) in enumerate(zip(texts, checked, strict=True)):
            if not isinstance(audio, Audio):
                continue
            seconds = audio.duration
            chars = spoken_chars(text)
            refusal = None
            if chars >= _MIN_CHARS:
                paces.append(seconds / chars)
                refusal = self._judge_duration(text, chars, seconds, (low, high))
            if refusal is None and not _is_loud(audio):
                refusal = _judge_silence(text, audio)
            if refusal is not None:
                checked[index] = refusal
        self._learn(paces)

    def _bounds(self) -> tuple[float, float]:
        """Return the fewest and the most seconds per character, closer once there is a pace."""
        low, high = self._config.min_seconds_per_char, self._config.max_seconds_per_char
        pace = self._pace
        if pace is None:
            return low, high
        return max(low, pace / _SPREAD), min(high, pace * _SPREAD)

    def _judge_duration(
        self, text: str, chars: int, seconds: float, bounds: tuple[float, float]
    ) -> BadAudioError | None:
        slack = self._config.slack
        low, high = bounds
        # Pauses make audio longer than its speech, never shorter: slack is for the upper bound.
        if low * chars <= seconds <= high * chars + slack:
            return None
        # Only now count with care: the generous count costs more than all the rest.
        least = low * fewest_spoken(text)
        most = high * max(chars, most_spoken(text)) + slack
        if least <= seconds <= most:
            return None
        word = "short" if seconds < least else "long"
        return BadAudioError(
            f"{seconds:.2f} s of audio are too {word} for {chars} spoken characters: expected "
            f"{least:.2f} to {most:.2f} s; try again, check sample_rate, or widen "
            "VerifyConfig's seconds per character",
            reason=word,
        )

    def _learn(self, paces: list[float]) -> None:
        # Refused audio teaches too: if the voice really changed, the bounds follow it within some
        # batches, while single wrong recordings do not move a median. The widest bounds stay.
        config = self._config
        low, high = config.min_seconds_per_char, config.max_seconds_per_char
        paces = [pace for pace in paces if low <= pace <= high]
        if not paces:
            return
        middle = statistics.median(paces)
        with self._lock:
            if self._pace is not None:
                self._pace += min(_MAX_STEP, _STEP * len(paces)) * (middle - self._pace)
                return
            self._first += paces
            if len(self._first) >= _LEARN_TEXTS:
                self._pace = statistics.median(self._first)
                self._first.clear()


def _ask(check: Callable[[str, Audio], bool], text: str, audio: Audio) -> Audio | CosyError:
    detach(audio)
    try:
        if check(text, audio):
            return audio
    except BaseException as cause:
        if goes_on(cause):
            raise
        # Nothing is wrong with the audio as far as anybody knows: another would not help.
        error = UnexpectedError(
            f"the check given in VerifyConfig raised {type(cause).__name__}; see the cause"
        )
        error.__cause__ = cause
        return error
    return BadAudioError(
        f"the check given in VerifyConfig refused {audio.duration:.2f} s of audio",
        reason="check",
    )


def _is_loud(audio: Audio) -> bool:
    """Return whether a few samples already show sound; False proves nothing.

    The high byte of a 16-bit sample is neither 0x00 nor 0xFF exactly if it is 256 or more away
    from zero, so slicing bytes shows it without decoding a sample.
    """
    start, size = audio.pcm_start, audio.pcm_size
    step = size // (2 * _LOOKS) * 2 or 2
    return bool(bytes(audio.data[start + 1 : start + size : step]).strip(b"\x00\xff"))


def _judge_silence(text: str, audio: Audio) -> BadAudioError | None:
    start, end = audio.pcm_start, audio.pcm_start + audio.pcm_size
    if bytes(audio.data[start + 1 : end : 2]).strip(b"\x00\xff"):
        return None
    samples = array("h", bytes(audio.data[start:end]) or b"\0\0")
    if sys.byteorder == "big":
        samples.byteswap()
    if max(max(samples), -min(samples)) > _SILENT_PEAK or fewest_spoken(text) == 0:
        return None
    return BadAudioError(
        f"expected speech, got {audio.duration:.2f} s of silence; try again, and look at the "
        "service if it stays",
        reason="silent",
    )


def _refuse_doubles(texts: Sequence[str], checked: list[Audio | CosyError]) -> None:
    """Refuse every member of a group with the same sound, since nobody knows whose it is."""
    groups: dict[tuple[int, bytes], list[int]] = {}
    for index, audio in enumerate(checked):
        if isinstance(audio, Audio):
            middle = audio.pcm_start + audio.pcm_size // 2
            key = audio.pcm_size, bytes(audio.data[middle : middle + 32])
            groups.setdefault(key, []).append(index)
    if len(groups) == len(checked):
        return
    for group in groups.values():
        if len(group) > 1:
            _refuse_same(group, texts, checked)


def _refuse_same(group: list[int], texts: Sequence[str], checked: list[Audio | CosyError]) -> None:
    same: dict[bytes, list[int]] = {}
    for index in group:
        audio = checked[index]
        assert isinstance(audio, Audio)
        same.setdefault(bytes(audio.pcm()), []).append(index)
    for members in same.values():
        if len({sounds_like(texts[index]) for index in members}) < 2:
            continue
        for index in members:
            checked[index] = BadAudioError(
                f"{len(members)} texts of a batch came back with the same audio, though they "
                "differ in more than punctuation; try again, and look at the service if it stays",
                reason="identical",
            )
