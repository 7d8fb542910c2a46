"""Whether audio can be the speech of its text: duration, silence, doubles, the caller's check."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..config import VerifyConfig
from ..errors import BadAudioError, CosyError, UnexpectedError
from ..models import Audio, detach
from ..user_code import goes_on, unexpected
from .band import is_bright
from .closer import look_closer
from .look import LOOKS, Look, look_at
from .pace import Range, range_of
from .repeats import RepeatGuard
from .same_length import Met, SameLength, same_length_error
from .speakable import count_signs, fewest_spoken, most_spoken, spoken_chars
from .usual import BAND_SECONDS, Learned, Usual
from .voiced import measure

__all__ = ["Verifier"]

# Texts of so few signs (a digit is one) are spoken within these seconds, however they are read:
# "seven hundred seventy-seven", slowly, with pauses.
_FEW_SIGNS = 3
_LONGEST_OF_FEW = 10.0
# Below this many spoken characters nothing is learned: how a single word is spoken varies.
_MIN_CHARS = 4
# What the quick estimate may be off, times longer or shorter, and still pass.
_QUICK = 1.3
# What is shorter by less than that must end softly: else it may be cut.
_HURRIED = 1.3 / 1.15
# By how many letters more a Chinese character is spoken.
_WIDER = 3
# Spaces and punctuation among letters.
_PLAIN_SHARE = 0.84
# The part of the slack that pauses within a text may have, where its ends are left out.
_INNER_SLACK = 0.25
# So many times beyond what this voice varies, a duration stays wrong if it comes again.
_FAR = 1.4
# Share of a text's time that kinds of characters have which were hardly met, from which it teaches.
_STRANGE = 0.05
# Seconds from which a text that was cut short may have met a limit of the service.
_MAYBE_LIMIT = 15.0
# Recordings from one that is refused to the next, where all are.
_NEXT = 2
# Texts whose recording was doubtful that are remembered.
_DOUBTS = 1_024

# Seconds that are heard of the shortest word, spoken fast; a click has less.
_SHORTEST_SPEECH = 0.03
# A single word, whispered fast, may be shorter by so much than its letters.
_HASTE = 0.02
# Where more than half of a recording is silent, so many times the least must be heard: who pauses
# at length does not hurry.
_UNHURRIED = 2.0


class Verifier:
    """Refuse audio that cannot be the speech of its text.

    It learns how fast a voice speaks and what its recordings are like, and knows the last ones, so
    one object belongs to one voice at one speed.
    """

    def __init__(self, config: VerifyConfig, learned: Learned | None = None) -> None:
        self._config = config
        # Whether the user has a check of their own.
        self.asks = config.check is not None
        self.learned = learned or Learned()
        self._repeats = RepeatGuard()
        self._lengths = SameLength()
        # Texts that had a doubtful recording: another one like it is taken for right.
        self._doubted: set[int] = set()
        # Recordings so far, and which was refused last.
        self._seen = self._refused = 0

    def __repr__(self) -> str:
        return f"<Verifier learned {self.learned.pace!r}>"

    def check(
        self, texts: Sequence[str], results: Sequence[Audio | CosyError]
    ) -> list[Audio | CosyError]:
        """Return the results with BadAudioError in place of audio that is refused.

        A bug in here costs the text whose audio meets it, and no other: UnexpectedError.
        """
        checked = list(results)
        if self._config.enabled:
            try:
                self._check_each(texts, checked)
                self._repeats.check(texts, checked)
            except Exception as cause:
                if len(checked) > 1:
                    pairs = zip(texts, checked, strict=True)
                    return [self.check([text], [result])[0] for text, result in pairs]
                checked[0] = unexpected(cause)
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
        """Take a quick look at each: of a voice that is known, most recordings pass by it.

        A call would cost more here than what it does.
        """
        pace, usual = self.learned.pace, self.learned.usual
        lowest, highest = self._config.min_seconds_per_char, self._config.max_seconds_per_char
        lengths = self._lengths.first
        for index, (text, audio) in enumerate(zip(texts, checked, strict=True)):
            if not isinstance(audio, Audio):
                continue
            look = look_at(audio)
            heard, early, end, tail = look
            rate, loudest, loudest_tail, most_early, rest, _, sharp, soft, soft_tail = usual.calm
            wide_one, letter, _, _ = pace.seconds
            size, hertz = audio.pcm_size, audio.sample_rate
            seconds = size / (2 * audio.channels * hertz)
            # Of UTF-8's bytes a Chinese character has two more than a letter.
            chars = len(text)
            wide = (len(text.encode("utf-8", "surrogatepass")) - chars) / 2
            expected = _PLAIN_SHARE * letter * (chars - wide) + wide_one * wide
            spoken = seconds * len(heard.strip(b"\0")) / LOOKS * _QUICK
            # How long the text is, whatever was learned meanwhile.
            letters = chars + _WIDER * wide
            met = (text, letters, look)
            first = lengths.setdefault(size, met)
            self._seen = seen = self._seen + 1  # two threads may count one
            long = seconds >= BAND_SECONDS
            due = not seen % usual.each or (long and sharp < 0)
            if (
                hertz == rate
                and not due
                and seconds >= lowest * chars
                and wide_one * _QUICK <= highest
                and expected < spoken < expected * _QUICK * _QUICK
                and 2 * heard.count(1) > LOOKS
                and bytes(int(rest / seconds * LOOKS) + 1) not in heard
                and end <= loudest
                and tail <= loudest_tail
                and early <= most_early
                and (spoken > expected * _HURRIED or (end <= soft and tail <= soft_tail))
                and (first is met or first[1] < 2 * letters < 4 * first[1])
                and (not long or is_bright(audio, sharp))
            ):
                continue
            refusal = self._judge(text, audio, met, due)
            if refusal is not None:
                checked[index] = refusal

    def _judge(self, text: str, audio: Audio, met: Met, due: bool) -> BadAudioError | None:
        """Return why audio is refused, counting its text with care; learn from it."""
        look, learned = met[2], self.learned
        pace = learned.pace
        odd = self._lengths.is_odd(audio.pcm_size, met)
        seconds = audio.duration
        refusal = self._judge_duration(text, seconds) or self._judge_voice(text, audio, look)
        counted = range_of(text)
        if refusal is not None or not sum(counted.least):
            return refusal
        spoken, expected = (
            _spoken_seconds(look, seconds, learned.usual),
            pace.expected(counted.usual),
        )
        if spoken * _QUICK < expected * _HURRIED:  # what is quiet may have been overlooked
            spoken = max(spoken, _measured_seconds(audio, learned.usual))
        off = math.log(max(spoken, 0.01) / expected)
        few = sum(counted.usual) < _MIN_CHARS
        error, far = (None, False) if few else self._judge_pace(counted, spoken)
        if error is None and odd and not (pace.known and abs(off) < math.log(_QUICK)):
            error, far = same_length_error(seconds), True
        if error is None:
            error = look_closer(text, counted, audio, look, off, learned)
        again = error is not None and not far and self._is_doubted_again(text)
        refusal = None if again else error
        strange = not pace.known or pace.strange(counted.usual) > _STRANGE
        if not few and (due or again or strange or self._goes_on(refusal)):
            with learned.lock:
                pace.learn(counted.usual, spoken)
                if refusal is None:
                    learned.usual.learn(look, audio)
        return refusal

    def _goes_on(self, refusal: BadAudioError | None) -> bool:
        """Return whether one recording after the other is refused: perhaps the voice has changed.

        Then they teach the pace all the same, and the bounds follow it. Single ones teach nothing.
        """
        if refusal is None:
            return False
        since, self._refused = self._seen - self._refused, self._seen
        return since <= _NEXT

    def _is_doubted_again(self, text: str) -> bool:
        """Return whether a doubtful recording came for this text before: then it is right."""
        key = hash(text)
        again = key in self._doubted
        if again:
            self._doubted.discard(key)
        else:
            if len(self._doubted) >= _DOUBTS:
                self._doubted = set()
            self._doubted.add(key)
        return again

    def _judge_duration(self, text: str, seconds: float) -> BadAudioError | None:
        """Refuse what no voice takes so short or so long for, however the text may be read."""
        config = self._config
        chars = spoken_chars(text)
        least = _in_haste(config.min_seconds_per_char * fewest_spoken(text))
        high = config.max_seconds_per_char
        most = high * max(chars, most_spoken(text), 1) + config.slack
        signs = count_signs(text)
        if signs <= _FEW_SIGNS:
            most = max(min(most, _LONGEST_OF_FEW), high * max(signs, 1) + config.slack)
        if least <= seconds <= most:
            return None
        word = "short" if seconds < least else "long"
        return BadAudioError(
            f"{seconds:.2f} s of audio are too {word} for {chars} spoken characters: expected "
            f"{least:.2f} to {most:.2f} s; try again, check sample_rate, or widen "
            "VerifyConfig's seconds per character",
            reason=word,
        )

    def _judge_voice(self, text: str, audio: Audio, look: Look) -> BadAudioError | None:
        """Refuse what is heard for too short a time, however the text may be read."""
        low = self._config.min_seconds_per_char
        fewest = fewest_spoken(text)
        if fewest == 0:
            return None
        seconds = audio.duration
        least = max(_SHORTEST_SPEECH, _in_haste(low * fewest))
        # What is mostly silence is refused: the part that is heard must be long enough by itself.
        # The quick look shows mostly that it is.
        sure = min(_UNHURRIED * least, max(least, seconds / 2))
        if look.heard.count(1) * seconds >= sure * (LOOKS + 1):
            return None
        voiced = measure(audio).heard
        hurry = _UNHURRIED if voiced < seconds / 2 else 1.0
        if voiced < hurry * _SHORTEST_SPEECH:
            return BadAudioError(
                f"expected speech, got {seconds:.2f} s of silence, or of a click or a constant; "
                "try again, and look at the service if it stays",
                reason="silent",
            )
        least = hurry * _in_haste(low * fewest)
        if voiced >= least:
            return None
        return BadAudioError(
            f"{voiced:.2f} s of sound in {seconds:.2f} s of audio are too short for "
            f"{spoken_chars(text)} spoken characters: expected at least {least:.2f} s; try again, "
            "or lower VerifyConfig's min_seconds_per_char",
            reason="short",
        )

    def _judge_pace(self, counted: Range, spoken: float) -> tuple[BadAudioError | None, bool]:
        """Refuse what this voice does not take so short or so long for; say whether it is so far
        off that it stays wrong if it comes back so."""
        pace = self.learned.pace
        tolerance = pace.tolerance(counted.usual)
        if tolerance is None:
            return None, False
        times = math.exp(tolerance)
        least = pace.expected(counted.least) / times
        most = pace.expected(counted.most) * times + _INNER_SLACK * self._config.slack
        if least <= spoken <= most:
            return None, False
        far = not least <= spoken * _FAR <= most * _FAR * _FAR
        word = "short" if spoken < least else "long"
        why = "the service may have stopped at a limit of its own: split the text (client.narrate "
        why = f"{why}does), or " if word == "short" and least > _MAYBE_LIMIT else ""
        error = BadAudioError(
            f"{spoken:.2f} s of speech are too {word} for {sum(counted.usual):.0f} spoken "
            f"characters of this voice: expected {least:.2f} to {most:.2f} s; {why}try again, and "
            "check sample_rate",
            reason=word,
        )
        return error, far


def _in_haste(seconds: float) -> float:
    """Return how much less than the least a single word may have."""
    return max(seconds / 2, seconds - _HASTE)


def _spoken_seconds(look: Look, seconds: float, usual: Usual) -> float:
    """Return how long the speech is: without silence at its ends, nor a pause longer than any."""
    heard = look.heard.strip(b"\0")
    rest = max(map(len, heard.split(b"\1"))) / LOOKS * seconds
    return seconds * len(heard) / LOOKS - (rest - usual.rest if rest > usual.calm.rest else 0.0)


def _measured_seconds(audio: Audio, usual: Usual) -> float:
    """Return the same, of all of the sound."""
    voiced = measure(audio)
    return voiced.span - (voiced.rest - usual.rest if voiced.rest > usual.calm.rest else 0.0)


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
