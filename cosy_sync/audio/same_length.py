"""Texts of very different length whose recordings have exactly the same length."""

from __future__ import annotations

from ..errors import BadAudioError
from .look import Look
from .pace import Pace, range_of

__all__ = ["Met", "SameLength", "same_length_error"]

# Lengths that are remembered, and texts of each.
_LENGTHS, _TEXTS = 1_024, 8
# So many times as long as another, and so many seconds longer, is a text of very different length.
# Services that speak in steps of 40 ms often give texts of about the same length the same duration.
_APART, _SECONDS = 2.0, 2.0
# Where silence fills up to a fixed length, the part that is heard still follows the text.
_ALIKE = 1.3
# Texts with one length from which the service is not believed.
_SEVERAL = 3

# A text that had a recording of some length, its letters at a glance, and what was seen of the
# recording.
Met = tuple[str, float, Look]


class SameLength:
    """Remembers how long recordings were. Each step on its dictionaries is one of C code, so it
    needs no lock; of two threads that come at the same time one may teach nothing."""

    def __init__(self) -> None:
        # By the bytes of sound: the first text that had so many, and those unlike it.
        self.first: dict[int, Met] = {}
        self._others: dict[int, list[Met]] = {}

    def is_odd(self, size: int, met: Met) -> bool:
        """Return whether several very different texts had a recording of this length."""
        first = self.first.get(size, met)
        if len(self.first) > _LENGTHS:
            self.first, self._others = {}, {}
        # Their letters at a glance say mostly enough.
        if first[1] < 2 * met[1] < 4 * first[1] or not _are_apart(first[0], met[0]):
            return False
        others = self._others.setdefault(size, [])
        if all(each[0] != met[0] for each in others) and len(others) < _TEXTS:
            others.append(met)
        every = [first, *others, met]
        # The same sound, of which every look is the same, has a check of its own.
        if len({each[0] for each in every}) < _SEVERAL or len({each[2] for each in every}) == 1:
            return False
        heard = [each[2].heard.count(1) for each in every]
        return max(heard) <= _ALIKE * min(heard)


def _are_apart(one: str, other: str) -> bool:
    # By what a usual voice takes: what is learned may come from these very recordings.
    pace = Pace()
    short, long = sorted(pace.expected(range_of(text).usual) for text in (one, other))
    return long >= _APART * short and long - short >= _SECONDS


def same_length_error(seconds: float) -> BadAudioError:
    """Return the error of a recording whose length was given to every text."""
    return BadAudioError(
        f"several texts of very different length came back with exactly {seconds:.2f} s: the "
        "service is stuck, or stops at a limit of its own; split long texts (client.narrate "
        "does), and look at the service if it stays",
        reason="same_length",
    )
