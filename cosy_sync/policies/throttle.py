"""The adaptive throttle: holds calls back while the endpoint serves less than half of them."""

from __future__ import annotations

import random
from collections.abc import Callable

from ..config import OverloadConfig
from .window import Window

__all__ = ["Throttle"]

# Share of the window in which accepted calls are counted together.
_MOMENT = 0.01


class Throttle:
    """Refuses a share of the calls that grows with the share that the endpoint did not accept.

    Client-side throttling as in "Site Reliability Engineering" (Beyer et al. 2016, chapter 21,
    "Handling Overload"): a call is refused with the probability
    max(0, (requests - K x accepts) / (requests + 1)), where the requests of the window count
    those that were refused here. So about K times as many calls are sent as are accepted. At most
    the share `throttle_cap` is refused: the other calls show when the endpoint is back.

    It has no lock: that of its owner guards it.

    Args:
        config: The window, K, the cap and the fewest calls that it judges by.
        random: Draws a number in [0, 1).
    """

    def __init__(self, config: OverloadConfig, random: Callable[[], float] = random.random) -> None:
        self._factor = config.throttle_factor
        self._cap = config.throttle_cap
        self._fewest = config.throttle_min_calls
        self._random = random
        # Calls that were accepted in the latest moment and are not counted yet, since they decide
        # nothing; when it began, and how long it lasts.
        self._fresh, self._fresh_at = 0, 0.0
        self._moment = _MOMENT * config.throttle_window
        # Calls wanted, calls accepted: where both are alike, none is refused.
        self.calls = Window(config.throttle_window)

    def refuses(self, now: float) -> bool:
        """Decide whether a call is held back, and count it if so."""
        calls = self.calls
        if calls.all == calls.some or self._share() <= 0.0:  # almost always
            return False
        self._count_fresh()
        calls.forget(now)
        refused = self._random() < self._share()
        if refused:
            calls.add(now, 1, 0)
        return refused

    def record(self, accepted: bool, now: float) -> None:
        """Count a call that was sent, and whether the endpoint accepted it."""
        # Where none was refused lately, one more that was not changes no share.
        calls = self.calls
        if accepted and calls.all == calls.some and now < self._fresh_at + self._moment:
            self._fresh += 1
            return
        self._count_fresh()
        calls.add(now, 1, accepted)
        self._fresh_at = now

    def share(self, now: float) -> float:
        """Return the probability with which a call is refused now."""
        self._count_fresh()
        self.calls.forget(now)
        return self._share()

    def _count_fresh(self) -> None:
        fresh, self._fresh = self._fresh, 0
        if fresh:
            self.calls.add(self._fresh_at, fresh, fresh)

    def _share(self) -> float:
        wanted = self.calls.all
        if wanted < self._fewest:
            return 0.0
        share = (wanted - self._factor * self.calls.some) / (wanted + 1)
        return min(self._cap, share) if share > 0.0 else 0.0
