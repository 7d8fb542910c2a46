"""A closer look at a recording that is unlike its voice's others: pauses, noise, rate, band."""

from __future__ import annotations

import math

from ..errors import BadAudioError
from ..models import Audio
from .band import is_bright
from .look import LOOKS, Look, crossing_of, hiss_seconds
from .pace import Range
from .speakable import has_pauses
from .usual import BAND_SECONDS, Learned
from .voiced import measure

__all__ = ["look_closer"]

# A recording whose pace is off by as much, as a logarithm, may have another rate.
_OFF = 0.22
# Rates that sound may really have, and how much likelier one must be than the one it is labelled
# with: the difference of squared errors, each in units of what is usual.
_RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_NEAR = 0.25
_LIKELIER, _FITS = 8.0, 10.0
_LEAST_PACE_OFF, _LEAST_CROSSING_OFF = 0.07, 0.12
# What says something about the rate: so many seconds, and characters that are read in one way only.
_SOME_SPEECH = 1.5
_PLAIN = 6.0
_PLAIN_SHARE = 0.8
# What says something about the pace: so many of them, and a text mostly of kinds that were met. One
# that is short by this part of what it hardly ever is must end softly: with this part of the
# loudest end.
_SOME_WORDS, _STRANGE = 8.0, 0.2
_HURRIED, _SOFTLY = 0.7, 0.37


def look_closer(
    text: str, counted: Range, audio: Audio, look: Look, off: float, learned: Learned
) -> BadAudioError | None:
    """Return why a recording may not be right, though as long as it should be; None if it may.

    Args:
        off: The logarithm of how many times longer than expected the text took.
    """
    usual = learned.usual
    calm, seconds = usual.calm, audio.duration
    if bytes(min(LOOKS, int(calm.pause / seconds * LOOKS) + 1)) in look.heard:
        silence = measure(audio).silence
        if silence > calm.pause and not has_pauses(text):
            return _refusal(f"{silence:.1f} s of silence in {seconds:.1f} s of audio", "pause")
    if not calm.known:
        return None
    pause = bytes(int(calm.rest / seconds * LOOKS) + 1)
    if off < -_OFF and pause in look.heard.strip(b"\0") and not has_pauses(text):
        rest = measure(audio).rest
        if rest > calm.rest:
            return _refusal(f"{rest:.1f} s of silence within too little speech", "pause")
    if look.end > calm.end or look.tail > calm.tail:
        return _refusal("the sound breaks off, which this voice's others do not", "cut")
    if look.early > calm.early and (hiss := hiss_seconds(audio)) > usual.longest_hiss:
        return _refusal(f"{hiss:.1f} s of noise before the speech", "noise")
    kinds = counted.usual
    plain = kinds.wide + kinds.letters
    if plain < max(_PLAIN, _PLAIN_SHARE * sum(kinds)):
        return None
    if seconds < _SOME_SPEECH:
        return _judge_hurry(counted, look, off, learned)
    if audio.sample_rate != calm.rate or not -_OFF < off < _OFF:
        rate = _likelier_rate(audio, off, learned, calm.rate)
        if rate:
            return _refusal(
                f"the sound is labelled {audio.sample_rate} Hz, but has the pitch and the pace of "
                f"{rate} Hz; check sample_rate, and the service",
                "rate",
            )
    hurry = _judge_hurry(counted, look, off, learned)
    if hurry is not None:
        return hurry
    sure = seconds < BAND_SECONDS or audio.sample_rate != calm.rate
    if not sure and not is_bright(audio, calm.sharp):
        return _refusal(
            f"the sound has nothing above {audio.sample_rate // 6} Hz, which this voice's others "
            "have",
            "dull",
        )
    return None


def _judge_hurry(counted: Range, look: Look, off: float, learned: Learned) -> BadAudioError | None:
    """Refuse what is shorter or longer than this voice's texts of words hardly ever are, however
    they are read; and sooner what ends loudly as well."""
    pace, calm, kinds = learned.pace, learned.usual.calm, counted.usual
    if kinds.wide + kinds.letters < _SOME_WORDS or pace.strange(kinds) > _STRANGE:
        return None
    usual, least, most = map(pace.expected, counted)
    short, long = math.log(least / usual) - off, off - math.log(most / usual)
    spread = pace.spread(kinds)
    loud = look.end > calm.soft_end or look.tail > calm.soft_tail
    if loud and short > _HURRIED * spread:
        return _refusal("the sound breaks off early, and not as softly as others", "cut")
    if max(short, long) <= spread:
        return None
    word = "shorter" if short > long else "longer"
    return _refusal(
        f"{math.exp(abs(off)):.1f} times {word} than usual of this voice",
        "short" if short > long else "long",
    )


def _likelier_rate(audio: Audio, off: float, learned: Learned, known: int) -> int:
    """Return the rate that the samples have, where it is surely not the one they are labelled with.

    A wrong label changes pace and pitch together: samples of a rate T that are labelled L last
    T/L times as long, and cross 0 as often for each sample as those of T do.
    """
    pace, usual = learned.pace, learned.usual
    crossing = crossing_of(audio) - usual.crossing
    label = audio.sample_rate
    pace_off = max(_LEAST_PACE_OFF, 1.25 * pace.deviation)
    crossing_off = max(_LEAST_CROSSING_OFF, usual.crossing_off)

    def error(rate: int) -> float:
        by_pace = (off - math.log(rate / label)) / pace_off
        by_pitch = (crossing - math.log(known / rate)) / crossing_off
        return by_pace * by_pace + by_pitch * by_pitch

    best = min(_RATES, key=error)
    apart = abs(math.log(best / label))
    fits = error(best) < min(_FITS, error(label) - _LIKELIER)
    return best if apart > _NEAR and fits else 0


def _refusal(what: str, reason: str) -> BadAudioError:
    return BadAudioError(
        f"{what}; try again: if the same text comes back so once more, it is taken for right",
        reason=reason,
    )
