"""Which endpoint takes the next attempt: two drawn by weight, and the less loaded of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

__all__ = ["Candidate", "LatencyEwma", "pick"]

# An endpoint that takes requests within this many seconds is as good as free.
SOON = 1.0
# Waits that differ by less than this many seconds are alike, and the load decides.
_ALIKE = 0.05
# Paces within this factor are alike: what lies between is chance.
_NOTABLE = 1.5
# Seconds after which a call counts half of what it did.
_HALF_LIFE = 10.0
# Calls, as they still count, below which a pace is not known.
_FEWEST = 1.0
# So many half-lives, and nothing is left.
_FORGOTTEN = 60.0


class LatencyEwma:
    """How fast an endpoint speaks lately. Its owner's lock guards what changes it.

    The seconds of all calls over the characters of all calls, each call halved every 10 s: a
    weighted mean that a mix of single texts and batches does not distort. An endpoint to which
    nothing was sent for a while is unknown again, so that it is tried again.
    """

    __slots__ = ("_at", "_calls", "_chars", "_seconds", "progress")

    def __init__(self) -> None:
        self._seconds = self._chars = self._calls = 0.0
        self._at = -math.inf
        # The latest instant at which a call ended, or began where none was in flight.
        self.progress = -math.inf

    def add(self, seconds: float, chars: int, now: float) -> None:
        """Note how long a call of so many characters took."""
        kept = self._kept(now)
        self._seconds = self._seconds * kept + seconds
        self._chars = self._chars * kept + chars
        self._calls = self._calls * kept + 1.0
        self._at = max(now, self._at)

    def per_char(self, now: float, busy: int) -> float | None:
        """Return the seconds per character, None when not known.

        While calls are in flight and none has ended for longer than a call takes, that time counts:
        a silent endpoint is slow before its calls time out.
        """
        calls, chars = self._calls, self._chars
        silent = (now - self.progress) * calls if busy else 0.0
        if silent > self._seconds:
            return silent / chars
        return self._seconds / chars if calls * self._kept(now) >= _FEWEST else None

    def _kept(self, now: float) -> float:
        age = (now - self._at) / _HALF_LIFE
        if age <= 0.0:
            return 1.0
        return 0.0 if age > _FORGOTTEN else 0.5**age


class Candidate(Protocol):
    """An endpoint, as the choice needs it."""

    @property
    def weight(self) -> float:
        """Return its share of the traffic."""
        ...

    @property
    def busy(self) -> int:
        """Return how many attempts are in flight or wait for their turn."""
        ...

    @property
    def places(self) -> int:
        """Return how many of them may be in flight at once."""
        ...

    def wait(self, now: float) -> float:
        """Return the seconds until it takes a request."""
        ...

    def pace(self, now: float) -> float | None:
        """Return its seconds per character, None when not known."""
        ...


C = TypeVar("C", bound=Candidate)


def pick(candidates: Sequence[C], avoid: Sequence[C], now: float, random: Callable[[], float]) -> C:
    """Pick the endpoint for an attempt; there is at least one.

    Only those count that take a request soon and are not to be avoided. When there is none, only
    the last of `avoid` is avoided, and then none; when none takes a request soon, the one with the
    shortest wait is picked.

    "The power of two choices" (Mitzenmacher 1996): two are drawn, with chances by weight, and the
    second is taken in place of the first only when it is less loaded. Without load the traffic
    follows the weights exactly. Those with a free place are drawn before those that are full: at
    full load the last free place would otherwise seldom be drawn.

    Args:
        candidates: All of them.
        avoid: Where the texts failed before, the latest last.
        now: The instant.
        random: Draws a number in [0, 1).
    """
    pair = _draw(candidates, avoid, now, random)
    if not pair and avoid:
        pair = _draw(candidates, avoid[-1:], now, random) or _draw(candidates, (), now, random)
    if not pair:
        return min(candidates, key=lambda candidate: candidate.wait(now))
    if len(pair) == 1 or not _is_better(pair[1], pair[0], now):
        return pair[0]
    return pair[1]


def _draw(
    candidates: Sequence[C], avoid: Collection[C], now: float, random: Callable[[], float]
) -> list[C]:
    """Draw at most two of those that count, without putting the first back."""
    # The least of exponential draws falls to each with a chance by weight (Efraimidis and
    # Spirakis 2006), and the second least to each of the rest likewise.
    drawn = sorted(
        [(-math.log(1.0 - random()) / c.weight, number) for number, c in enumerate(candidates)]
    )
    pair: list[C] = []
    full: list[C] = []
    for _, number in drawn:
        candidate = candidates[number]
        into = pair if candidate.busy < candidate.places else full
        if len(into) < 2 and candidate not in avoid and candidate.wait(now) <= SOON:
            into.append(candidate)
            if len(pair) == 2:
                break
    return pair or full


def _is_better(second: C, first: C, now: float) -> bool:
    """Return whether the second of a pair should be taken in the first one's place."""
    if (wait := int(second.wait(now) / _ALIKE)) != (other := int(first.wait(now) / _ALIKE)):
        return wait < other
    pace, of_first = second.pace(now), first.pace(now)
    if pace is None or of_first is None or _alike(pace, of_first):
        # Even with this request it would be no busier than the first is without it.
        return (second.busy + 1) / second.weight <= first.busy / first.weight
    return (second.busy + 1) * pace / second.weight < (first.busy + 1) * of_first / first.weight


def _alike(one: float, other: float) -> bool:
    return one <= other * _NOTABLE and other <= one * _NOTABLE
