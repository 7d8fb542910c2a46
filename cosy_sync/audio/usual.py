"""What a voice's recordings are usually like: their rate, timbre, pauses and ends, learned."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..models import Audio
from .look import LOOKS, Look, hiss_seconds, look_at

__all__ = ["Calm", "Usual", "crossing_of"]

# Recordings after which they are known.
_KNOWN = 50
_STEP = 0.02
# Places that are looked at to learn the timbre, of recordings of so many seconds.
_PLACES = 4_096
_SOME_SPEECH = 1.5
# Which recordings teach that pass a quick look, and from how many on fewer are enough.
_EACH, _EACH_LATER, _WELL_KNOWN = 32, 128, 52
# What is at most usual sinks by the first with each recording that has less, and rises by the other
# with each that has more.
_FADE, _RISE = 0.995, 0.25
# Seconds of silence that nobody minds, and how many times the longest pause that was met.
_PAUSE, _PAUSES = 2.5, 3.0
# What is longer than the usual longest pause of a text, so many times and seconds, is no speech.
_REST, _RESTS = 0.2, 2.0
# Before anything is known: a pause that no reader makes.
_LONGEST_PAUSE = 8.0
# How much louder than any before an end must be to be taken for a cut, in 128ths of full scale.
_ENDS, _END = 2.0, 6.0
# Share of what is usual above a sixth of the rate below which a recording is looked at again. Where
# even one of a voice has less than the other share of its places, it says nothing.
_DULL, _BRIGHT = 0.55, 0.01
# Steps over 0 in the first half second from which noise is looked for: half of noise's places do.
# Consonants and whispers do too: so many times their spread above what is usual.
_NOISY, _SPREADS = 2, 2.0
# Seconds of noise before speech that are no consonant, and how much longer than any met they are.
_HISS, _HISSES = 0.5, 2.0


class Calm(NamedTuple):
    """What passes without a closer look.

    In order: Hz; the loudest end; the fewest alternating places, and their share at a second look;
    the most early steps over 0; seconds of silence that may be part of the speech; seconds of it
    that may be there at all.
    """

    rate: int
    end: float
    alternating: float
    bright: float
    early: int
    rest: float
    pause: float


_UNKNOWN = Calm(0, 128.0, 0.0, 0.0, LOOKS, _LONGEST_PAUSE, _LONGEST_PAUSE)


class Usual:
    """Means and bounds over the recordings that were taken for right. Read without a lock."""

    def __init__(self) -> None:
        self.recordings = 0
        # The logarithm of the share of heard places that cross 0, and how far it is mostly off.
        self.crossing = 0.0
        self.crossing_off = 0.3
        # The share of places that alternate.
        self.alternating = 0.0
        # The least share that any had.
        self._dullest = 1.0
        self._end = 0.0
        self._pause = 0.0
        # Seconds of a text's longest pause.
        self.rest = 0.0
        self._early = 0.0
        self._hiss = 0.0
        self._rates: dict[int, int] = {}
        self.calm = _UNKNOWN
        # Of what passes the quick look, each so many-th recording teaches.
        self.each = _EACH

    @property
    def known(self) -> bool:
        """Return whether enough recordings were met."""
        return self.recordings >= _KNOWN

    @property
    def longest_hiss(self) -> float:
        """Return how many seconds of noise may stand before speech."""
        return max(_HISS, _HISSES * self._hiss)

    def learn(self, look: Look, audio: Audio) -> None:
        """Learn what a good recording is like."""
        seconds, rate = audio.duration, audio.sample_rate
        self.recordings += 1
        if self.recordings >= _WELL_KNOWN:
            self.each = _EACH_LATER
        step = max(_STEP, 1 / self.recordings)
        many = look_at(audio, _PLACES)
        off = crossing_of(many) - self.crossing
        self.crossing += step * off
        if self.recordings > 1:
            self.crossing_off += step * (min(abs(off), 1.0) - self.crossing_off)
        self.alternating += step * (look.alternating / LOOKS - self.alternating)
        self._early += step * (look.early - self._early)
        if look.early >= _NOISY:
            self._hiss = self._most(self._hiss, hiss_seconds(audio))
        if seconds >= _SOME_SPEECH:
            self._dullest = min(many.alternating / _PLACES, self._dullest / _FADE)
        self._end = self._most(self._end, look.end)
        silence = max(map(len, look.heard.split(b"\1"))) / LOOKS * seconds
        self._pause = self._most(self._pause, silence)
        rest = max(map(len, look.heard.strip(b"\0").split(b"\1"))) / LOOKS * seconds
        self.rest += step * (rest - self.rest)
        self._rates[rate] = self._rates.get(rate, 0) + 1
        if self.known:
            self.calm = Calm(
                max(self._rates, key=self._rates.__getitem__),
                _ENDS * self._end + _END,
                _DULL * self.alternating * LOOKS if _BRIGHT < self._dullest < 1 else -1,
                self._dullest,
                round(self._early + _SPREADS * math.sqrt(self._early)) + _NOISY,
                _RESTS * self.rest + _REST,
                min(max(_PAUSE, _PAUSES * self._pause), _LONGEST_PAUSE),
            )

    def _most(self, before: float, now: float) -> float:
        """Return what is at most usual; of a known voice, one recording moves it by a part only."""
        if now <= before:
            return max(now, before * _FADE)
        return before + _RISE * (now - before) if self.known else now


def crossing_of(look: Look) -> float:
    """Return the logarithm of the share of heard places that cross 0."""
    return math.log((look.crossings + 0.5) / (look.heard.count(1) + 1))
