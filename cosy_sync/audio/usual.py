"""What a verifier learned of one voice at one speed: its pace, and what its recordings are like."""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

from ..models import Audio
from .band import count_sharp
from .look import LOOKS, Look, crossing_of, hiss_seconds
from .pace import Pace

__all__ = ["BAND_SECONDS", "Calm", "Learned", "Usual"]

# Recordings after which they are known.
_KNOWN = 50
_STEP = 0.02
# Seconds from which a recording says something about the band: many a short text has no sharp
# consonant. How many of them must have been met; the share of the sharp sound that is usual, and of
# the least that any had, below which one is dull; and what is too little to say anything.
BAND_SECONDS = 3.0
_BANDS, _DULL, _DULLEST, _LEAST_SHARP = 20, 0.06, 0.35, 3.5
# Which recordings teach that pass a quick look, and from how many on fewer are enough.
_EACH, _EACH_LATER, _WELL_KNOWN = 32, 128, 52
# What is at most usual sinks by the first with each recording that has less, and rises by the other
# with each that has more.
_FADE, _RISE = 0.995, 0.25
# Seconds of silence that nobody minds, and how many times the longest pause that was met.
_PAUSE, _PAUSES = 1.3, 1.6
# What is longer than the usual longest pause of a text, so many times and seconds, is no speech.
_REST, _RESTS = 0.2, 2.0
# Before anything is known: a pause that no reader makes.
_LONGEST_PAUSE = 8.0
# How much louder than any before an end must be to be taken for a cut, in 128ths of full scale.
_ENDS, _END = 2.0, 6.0
# What ends softly: with this part of that, or so many times as loudly as others do.
_SOFT, _SOFTER, _SOFTEST = 0.37, 1.5, 1.0
# Steps over 0 in the first half second from which noise is looked for: half of noise's places do.
# Consonants and whispers do too: so many times their spread above what is usual.
_NOISY, _SPREADS = 2, 2.0
# Seconds of noise before speech that are no consonant, and how much longer than any met they are.
_HISS, _HISSES = 0.5, 2.0


class Calm(NamedTuple):
    """What passes without a closer look.

    In order: Hz; the loudest end, and the loudest last 60 ms; the most early steps over 0; seconds
    of silence that may be part of the speech; seconds of it that may be there at all; the fewest
    sharp samples, as count_sharp counts them: 0 where they say nothing, less where that is unknown;
    and how loud an end and the last 60 ms are of what ends softly.
    """

    rate: int
    end: float
    tail: float
    early: int
    rest: float
    pause: float
    sharp: float
    soft_end: float
    soft_tail: float

    @property
    def known(self) -> bool:
        """Return whether enough recordings were met."""
        return self.rate > 0


_UNKNOWN = Calm(0, 128.0, 128.0, LOOKS, _LONGEST_PAUSE, _LONGEST_PAUSE, -1, 128.0, 128.0)


class Usual:
    """Means and bounds over the recordings that were taken for right.

    It is read without a lock while another thread learns: `calm` is replaced last and as a whole,
    and whoever needs several of its values takes it once.
    """

    def __init__(self) -> None:
        self.recordings = 0
        # The logarithm of the share of heard places that cross 0, and how far it is mostly off.
        self.crossing = 0.0
        self.crossing_off = 0.3
        # Recordings that said something about the band; how many sharp samples they had on average,
        # and at least.
        self._bands, self._sharp, self._dullest = 0, 0.0, math.inf
        # The loudest ends, and those that are usual.
        self._end = self._tail = self._mean_end = self._mean_tail = 0.0
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
        off = crossing_of(audio) - self.crossing
        self.crossing += step * off
        if self.recordings > 1:
            self.crossing_off += step * (min(abs(off), 1.0) - self.crossing_off)
        self._early += step * (look.early - self._early)
        if look.early >= _NOISY:
            self._hiss = self._most(self._hiss, hiss_seconds(audio))
        if seconds >= BAND_SECONDS:
            self._bands += 1
            sharp = count_sharp(audio)
            self._sharp += max(_STEP, 1 / self._bands) * (sharp - self._sharp)
            # Of a known voice, one recording moves it by a part only.
            least = (1 - _RISE) * self._dullest if self.calm.sharp > 0 else 0.0
            self._dullest = min(max(sharp, least), self._dullest / _FADE)
        self._end = self._most(self._end, look.end)
        self._tail = self._most(self._tail, look.tail)
        self._mean_end += step * (look.end - self._mean_end)
        self._mean_tail += step * (look.tail - self._mean_tail)
        silence = max(map(len, look.heard.split(b"\1"))) / LOOKS * seconds
        self._pause = self._most(self._pause, silence)
        rest = max(map(len, look.heard.strip(b"\0").split(b"\1"))) / LOOKS * seconds
        self.rest += step * (rest - self.rest)
        self._rates[rate] = self._rates.get(rate, 0) + 1
        if self.recordings >= _KNOWN:
            end, tail = _ENDS * self._end + _END, _ENDS * self._tail + _END
            self.calm = Calm(
                max(self._rates, key=self._rates.__getitem__),
                end,
                tail,
                round(self._early + _SPREADS * math.sqrt(self._early)) + _NOISY,
                _RESTS * self.rest + _REST,
                min(max(_PAUSE, _PAUSES * self._pause), _LONGEST_PAUSE),
                self._fewest_sharp(),
                max(_SOFT * end, _SOFTER * self._mean_end + _SOFTEST),
                max(_SOFT * tail, _SOFTER * self._mean_tail + _SOFTEST),
            )

    def _fewest_sharp(self) -> float:
        if self._bands < _BANDS:
            return -1
        fewest = min(_DULL * self._sharp, _DULLEST * self._dullest)
        return fewest if fewest >= _LEAST_SHARP else 0

    def _most(self, before: float, now: float) -> float:
        """Return what is at most usual; of a known voice, one recording moves it by a part only."""
        if now <= before:
            return max(now, before * _FADE)
        return before + _RISE * (now - before) if self.calm.known else now


class Learned:
    """What is known of one voice at one speed."""

    def __init__(self) -> None:
        # Taken to teach. Both are read without: one recording more or less makes no difference.
        self.lock = threading.Lock()
        self.pace = Pace()
        self.usual = Usual()
