"""What ends the work of one call: waits, and requests that are in flight."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from ..atomic import Flag
from ..errors import ClosedError

__all__ = ["Stop"]


class Stop(Flag):
    """Set when nobody wants the rest any more; sets what is attached to it as well.

    A CutOff: `cut` also ends the requests that are in flight, whose replies nobody can have.
    """

    def __init__(self, *, cuts: bool = True) -> None:
        super().__init__()
        # Adding, discarding and copying are one atomic step each.
        self._attached: set[threading.Event] = set()
        # Whether it may cut off what is in flight; what does so, each use being one atomic step.
        self.cuts = cuts
        self.was_cut = False
        self._held: dict[Callable[[], object], bool] = {}

    def attach(self, event: threading.Event) -> None:
        """Have an event set together with this one, until it is detached."""
        self._attached.add(event)
        if self.is_set():  # here or in set(), whichever comes later
            event.set()

    def detach(self, event: threading.Event) -> None:
        """Undo `attach`."""
        self._attached.discard(event)

    def set(self) -> None:
        """Set it, and what is attached."""
        super().set()
        for event in list(self._attached):
            event.set()

    def hold(self, cut: Callable[[], object]) -> None:
        """Have this called by `cut` until it is let go. Raises ClosedError when it is too late."""
        self._held[cut] = True
        if self.was_cut:  # here or in cut(), whichever comes later
            raise ClosedError("its call was ended before it was sent")

    def let_go(self, cut: Callable[[], object]) -> bool:
        """Undo `hold`; return False where it was called, or is being called."""
        return self._held.pop(cut, False)

    def cut(self) -> None:
        """Set it, and cut off what is in flight. May wait for a moment."""
        self.was_cut = True
        self.set()
        with contextlib.suppress(KeyError):
            while True:
                self._held.popitem()[0]()
