"""Whether audio can be the speech of its text: duration, silence, doubles, the caller's check."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Sequence

from ..config import VerifyConfig
from ..errors import BadAudioError, CosyError, UnexpectedError
from ..models import Audio, detach
from ..user_code import goes_on
from .repeats import RepeatGuard
from .speakable import count_signs, fewest_spoken, most_spoken, spoken_chars
from .voiced import sounds_for, voiced_seconds

__all__ = ["Verifier"]

# Below this many spoken characters the pauses at both ends outweigh the speech: the pace that was
# learned says nothing.
_MIN_CHARS = 4
# Texts of so few signs (a digit is one) are spoken within these seconds, however they are read:
# "seven hundred seventy-seven", slowly, with pauses.
_FEW_SIGNS = 3
_LONGEST_OF_FEW = 10.0
# Texts after which the pace of this voice is known, and how far from it speech may be. Scripts
# differ by 4x (English 0.07 s a letter, slow Mandarin 0.35 s a character), speed by as much.
_LEARN_TEXTS = 50
_SPREAD = 6.0
# How far one text moves the pace that was learned; a whole batch moves it by at most 20 %.
_STEP = 0.005
_MAX_STEP = 0.2

# Seconds that are heard of the shortest word, spoken fast; a click has less.
_SHORTEST_SPEECH = 0.03
# Where more than half of a recording is silent, so many times the least must be heard: who pauses
# at length does not hurry.
_UNHURRIED = 2.0


class Verifier:
    """Refuse audio that cannot be the speech of its text.

    It learns how many seconds a character takes, and knows the last recordings, so one object
    belongs to one voice at one speed.
    """

    def __init__(self, config: VerifyConfig) -> None:
        self._config = config
        # Whether the user has a check of their own.
        self.asks = config.check is not None
        # The fewest and the most seconds per character that any voice takes.
        self._widest = config.min_seconds_per_char, config.max_seconds_per_char
        self._repeats = RepeatGuard()
        # Guards _first, and _pace until it is known. Afterwards it is read and written without the
        # lock: it is one float, and an old one serves as well.
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
            self._repeats.check(texts, checked)
        return checked

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
                    answer = checked[index] = _ask(check, texts[index], audio)
                    if answer is not audio:
                        self._repeats.forget(texts[index], audio)
        return checked

    def _check_each(self, texts: Sequence[str], checked: list[Audio | CosyError]) -> None:
        widest = usual = self._widest
        pace, shortest = self._pace, self._config.min_seconds_per_char
        if pace is not None:
            usual = max(widest[0], pace / _SPREAD), min(widest[1], pace * _SPREAD)
        slack = self._config.slack
        paces: list[float] = []
        for index, (text, audio) in enumerate(zip(texts, checked, strict=True)):
            if not isinstance(audio, Audio):
                continue
            # Its duration, without a call.
            seconds = audio.pcm_size / (2 * audio.channels * audio.sample_rate)
            chars = spoken_chars(text)
            low, high = widest
            if chars >= _MIN_CHARS:
                paces.append(seconds / chars)
                low, high = usual
            refusal: BadAudioError | None = None
            # Pauses make audio longer than its speech, never shorter: slack is for the upper bound.
            few = chars <= 2 * _FEW_SIGNS and seconds > _LONGEST_OF_FEW
            if few or not low * chars <= seconds <= high * chars + slack:
                refusal = self._judge_duration(text, chars, seconds, (low, high))
            # What is mostly silence is refused: the part that is heard must be long enough by
            # itself. A quick look shows mostly that it is.
            least = max(_SHORTEST_SPEECH, shortest * chars)
            sure = min(_UNHURRIED * least, max(least, seconds / 2))
            if refusal is None and not sounds_for(audio, sure, seconds):
                refusal = self._judge_voice(text, chars, audio, seconds)
            if refusal is not None:
                checked[index] = refusal
        self._learn(paces)

    def _judge_duration(
        self, text: str, chars: int, seconds: float, bounds: tuple[float, float]
    ) -> BadAudioError | None:
        """Refuse what is too short or too long, however the text may be read."""
        slack = self._config.slack
        low, high = bounds
        # Only now count with care: the generous count costs more than all the rest.
        least = low * fewest_spoken(text)
        most = high * max(chars, most_spoken(text), 1) + slack
        signs = count_signs(text)
        if signs <= _FEW_SIGNS:
            most = max(min(most, _LONGEST_OF_FEW), high * max(signs, 1) + slack)
        if least <= seconds <= most:
            return None
        word = "short" if seconds < least else "long"
        return BadAudioError(
            f"{seconds:.2f} s of audio are too {word} for {chars} spoken characters: expected "
            f"{least:.2f} to {most:.2f} s; try again, check sample_rate, or widen "
            "VerifyConfig's seconds per character",
            reason=word,
        )

    def _judge_voice(
        self, text: str, chars: int, audio: Audio, seconds: float
    ) -> BadAudioError | None:
        """Refuse what is heard for too short a time, however the text may be read."""
        low = self._config.min_seconds_per_char
        fewest = fewest_spoken(text)
        if fewest == 0:
            return None
        voiced = voiced_seconds(audio)
        hurry = _UNHURRIED if voiced < seconds / 2 else 1.0
        if voiced < hurry * _SHORTEST_SPEECH:
            return BadAudioError(
                f"expected speech, got {seconds:.2f} s of silence, or of a click or a constant; "
                "try again, and look at the service if it stays",
                reason="silent",
            )
        least = hurry * low * fewest
        if voiced >= least:
            return None
        return BadAudioError(
            f"{voiced:.2f} s of sound in {seconds:.2f} s of audio are too short for {chars} spoken "
            f"characters: expected at least {least:.2f} s; try again, or lower VerifyConfig's "
            "min_seconds_per_char",
            reason="short",
        )

    def _learn(self, paces: list[float]) -> None:
        # Refused audio teaches too: if the voice really changed, the bounds follow it within some
        # batches, while single wrong recordings do not move a median. The widest bounds stay.
        low, high = self._widest
        if len(paces) == 1:  # most replies hold one text
            middle = paces[0]
            if not low <= middle <= high:
                return
        else:
            paces = [pace for pace in paces if low <= pace <= high]
            if not paces:
                return
            middle = statistics.median(paces)
        pace = self._pace
        if pace is not None:
            # Of two threads that come at the same time one may teach nothing: others follow.
            self._pace = pace + min(_MAX_STEP, _STEP * len(paces)) * (middle - pace)
            return
        with self._lock:
            if self._pace is not None:
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
