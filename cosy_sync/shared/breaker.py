"""A breaker's state in a pybreaker storage, which several processes share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from .keeper import Keeper

__all__ = ["BreakerLink"]

# Seconds between two looks at the storage, and while it does not answer.
_LOOK, _LOST = 0.5, 2.0
# A storage that was never opened gets this instant of opening. From then on it has one, and
# answers None only when it cannot be asked: pybreaker's Redis storage hides its errors.
_LONG_AGO = datetime.fromtimestamp(1, timezone.utc)


class BreakerLink:
    """Keeps a breaker and a storage in step, on a thread of its own; no call waits for either.

    What changes here is written, as pybreaker would write it. What changed in the storage is told
    to `follow` within half a second. A storage that does not answer changes nothing here.

    Args:
        storage: Makes the storage, given the name; called again until that works.
        name: The endpoint's label.
        follow: Told of the new state, and how many seconds ago the storage says that it opened.
        tell: Told whether the state is shared, and why not.
    """

    def __init__(
        self,
        storage: Callable[[str], Any],
        name: str,
        follow: Callable[[str, float], None],
        tell: Callable[[bool, str], None],
    ) -> None:
        self._make = storage
        self._name = name
        self._follow = follow
        self._tell = tell
        self._keeper = Keeper(self._step, "cosy-breaker")
        # Appended to by any thread, taken from by the keeper alone.
        self._news: deque[str] = deque()
        # The keeper's own.
        self._storage: Any = None
        self._seen: str | None = None  # what the storage holds, as far as we know
        self._opened_at: datetime | None = None  # when it was opened, if it ever was
        self._shared = True
        # Read without a lock: at worst it rings twice.
        self._started = False

    def start(self) -> None:
        """Begin to look at the storage."""
        if not self._started:
            self._started = True
            self._keeper.ring()

    def publish(self, state: str) -> None:
        """Have a change of the breaker written."""
        if state == self._seen and not self._news:
            return  # it comes from there
        self._news.append(state)
        self._keeper.ring()

    def close(self, seconds: float) -> None:
        """End the thread; wait for it at most `seconds`."""
        self._keeper.close(seconds)

    # -- on the keeper's thread -----------------------------------------------------------------

    def _step(self) -> float:
        try:
            self._exchange()
        except BaseException as error:  # whatever it is, no call must fail because of it
            self._note(False, _explain(error))
        else:
            self._note(True, "")
        return _LOOK if self._shared else _LOST

    def _exchange(self) -> None:
        if self._storage is None:
            self._storage = self._make(self._name)
        storage = self._storage
        state, opened_at = storage.state, storage.opened_at
        if opened_at is None:
            storage.opened_at = _LONG_AGO
            if storage.opened_at is None:
                raise ConnectionError("the storage does not answer")
            return self._exchange()
        if opened_at != _LONG_AGO:
            self._opened_at = opened_at
        elif self._opened_at is not None and not self._news:
            state = self._restore(state, self._opened_at)
        count = len(self._news)
        if count:
            self._write(state, self._news[count - 1])
            for _ in range(count):
                self._news.popleft()
        elif state != self._seen and storage.state == state:
            # What its first look finds may be old.
            age = _seconds_since(opened_at) if self._seen is None else 0.0
            self._seen = state
            self._follow(state, age)

    def _restore(self, state: str, opened_at: datetime) -> str:
        """Write again what a storage that was emptied has lost; return the state that it holds."""
        storage, seen = self._storage, self._seen
        if seen is None:
            return state
        # In this order: who finds the instant finds the state.
        storage.state = seen
        storage.opened_at = opened_at
        if storage.state != seen:
            raise ConnectionError("the storage does not keep what is written")
        return seen

    def _write(self, old: str, new: str) -> None:
        storage = self._storage
        if new != old:
            storage.reset_success_counter()
            if new == "open":
                storage.opened_at = self._opened_at = datetime.now(timezone.utc)
            if new == "closed":
                storage.reset_counter()
            storage.state = new
            if storage.state != new:  # it says nothing when that fails
                raise ConnectionError("the storage does not keep what is written")
        self._seen = new

    def _note(self, shared: bool, reason: str) -> None:
        if shared != self._shared:
            self._shared = shared
            self._tell(shared, reason)


def _seconds_since(instant: datetime) -> float:
    return max(0.0, (datetime.now(timezone.utc) - instant).total_seconds())


def _explain(error: BaseException) -> str:
    if isinstance(error, AttributeError) and "decode" in str(error):
        return "the storage's Redis client must be made with decode_responses=False"
    return f"{type(error).__name__}: {error}"
