"""The pace: the rate that an endpoint bears, found out from its 429s."""

from __future__ import annotations

import math

__all__ = ["AdaptiveRate"]

# Two 429s so many requests apart, or fewer, show that the rate is too high; a single one does not.
_ISOLATED = 100
# Services count their limits by the second: what is sent after a decrease may be refused for so
# many seconds more because of what was sent before it.
_SETTLING = 1.0
# Share of the configured rate below which it never falls: some calls must show the recovery.
_LEAST = 0.01
# While the limit is being followed: share of what it seems to be with which requests go on.
_BELOW = 0.98


class AdaptiveRate:
    """Lowers the rate when 429s come close together, and lets it grow back along a cubic.

    The window growth of CUBIC (RFC 9438, 4.2, 4.6 and 4.7) with the rate in the window's place:
    where `top` is the rate that was refused, the rate falls to decrease x top at once, and t
    seconds later it is C x (t - K)^3 + top, with K such that it starts at the lowered rate. So it
    comes back to `top` in K seconds, stays near it, and only then explores. Refused before it is
    back, it takes a lower top: (1 + decrease) / 2 of where it was. C follows from the configured
    rate, C = (1 - decrease) x rate / recovery^3, so that `recovery` is the K of a refusal at the
    full rate; the RFC's C of 0.4 belongs to 100 requests/s and 4.2 s.

    A limit is not a queue, of which only its overflow is seen: what it let through since the rate
    fell last (`passed`) is hardly ever more than it, and the rate that was refused is not less. So
    once lowered, the rate falls only to just below the middle of the two, where that is more than
    decrease x rate: an average of 7 % less than the limit would be lost else.

    It has no lock: that of its owner guards it.

    Args:
        rate: The configured rate in requests per second: where it starts, and its ceiling. Of an
            infinite one there is no share to lower it to, so it stays.
        decrease: What the rate is multiplied with after refusals.
        recovery: Seconds in which it comes back after one decrease from the full rate.
    """

    def __init__(self, rate: float, decrease: float, recovery: float) -> None:
        self._full = rate
        self._decrease = decrease
        self._c = (1.0 - decrease) * rate / recovery**3
        # May be read without the lock: a thread that misses a change sees it at its next call.
        self.lowered = False
        # Requests that were no 429 since the rate fell last. Its owner counts them.
        self.passed = 0
        self._top = rate
        self._k = 0.0
        self._lowered_at = float("-inf")
        self._refused_at = float("-inf")

    def rate(self, now: float) -> float:
        """Return the rate for requests from now on, in requests per second."""
        if not self.lowered:
            return self._full
        rate = self._rate(now)
        self.lowered = rate < self._full
        return rate

    def refuse(self, started: float, now: float, pause: float = 0.0) -> bool:
        """Note a 429 for a request that was sent then; return whether the rate fell.

        It falls at most once in a round trip, and once a second.

        Args:
            started: When the request was sent.
            now: The time.
            pause: Seconds in which nothing is sent, because the service asked for that.
        """
        if self._full == math.inf:
            return False
        if started < self._lowered_at + _SETTLING:
            return False
        rate = self._rate(now)
        isolated = (now - self._refused_at) * rate > _ISOLATED
        self._refused_at = now + pause
        if isolated:
            return False
        self._fall(rate, now)
        return True

    def _fall(self, rate: float, now: float) -> None:
        low = rate * self._decrease
        # Refused at a rate below the one that was refused last time: the limit is lower still.
        self._top = rate * (1.0 + self._decrease) / 2 if rate < self._top else rate
        if self.lowered:
            through = self.passed / (now - self._lowered_at)
            if through > low:
                self._top = (min(rate, through) + rate) / 2
                low = max(low, _BELOW * self._top)
        low = max(low, self._full * _LEAST)
        self._top = max(low, self._top)
        self._k = ((self._top - low) / self._c) ** (1 / 3)
        self._lowered_at = now
        self.lowered = True
        self.passed = 0

    def _rate(self, now: float) -> float:
        if not self.lowered:
            return self._full
        grown = self._c * (now - self._lowered_at - self._k) ** 3 + self._top
        return min(self._full, grown)
