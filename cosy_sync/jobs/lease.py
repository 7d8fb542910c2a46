"""Which machine works on a job in a bucket, or on one of its shards: an object there says it."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from typing import Any

from cosy_sync.jobs.locking import JobIsBusy
from cosy_sync.storage import Bucket

__all__ = ["LEASES", "Lease"]

# How the keys of all leases begin; then comes the part.
LEASES = ".cosy-job/lease"

# Seconds for which a lease holds that is not renewed.
_LENGTH = 60.0
# Seconds that an ending job waits for a renewal that the store does not answer.
_PATIENCE = 5.0
_CLOCK = ".cosy-job/clock"


class Lease:
    """The right to work on a part of a job in a bucket: one journal has it at a time.

    free -- `take` --> held -- `give_back` --> free, or done
                       held -- not renewed for its length --> free
                       held -- another has taken it meanwhile, or the store is away --> lost

    Each step is a conditional write, of which one succeeds. Only the store's clock says how old a
    lease is: those of the machines may differ. A thread renews it three times in its length.
    """

    def __init__(self, store: Bucket, part: str, owner: str, length: float = _LENGTH) -> None:
        self._store = store
        self._key = f"{LEASES}{part}.json"
        # A journal that was copied is another owner.
        self._owner = f"{owner}@{socket.gethostname()}"
        self._length = length
        self._tag: str | None = None
        self._renewed = time.monotonic()
        self._taken_over = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew_often, name="cosy-lease", daemon=True)
        # Whether the part may have sounds in the bucket that this journal knows nothing of.
        self.is_new_here = True

    def take(self) -> None:
        """Take the lease, and renew it from now on. Raises JobIsBusy where another has it."""
        said = self._look()
        if said and said["owner"] != self._owner and said["state"] == "held":
            left = said["length"] + 1.0 - (self._now() - said["changed"])
            if left > 0:
                raise JobIsBusy(
                    f"{self._store.address}: {said['owner'].rpartition('@')[2]} works on this part "
                    f"of the job; if it is dead, its lease ends in {left:.0f} s"
                )
        if not self._write("held"):
            raise JobIsBusy(f"{self._store.address}: another machine has just begun with this part")
        self.is_new_here = not said or said["owner"] != self._owner
        self._thread.start()

    @property
    def lost(self) -> str:
        """Return why the work must end; nothing while the lease is held."""
        if self._taken_over:
            return "another machine has taken this part over"
        silent = time.monotonic() - self._renewed
        return f"the bucket was not reached for {silent:.0f} s" if silent > self._length else ""

    @property
    def is_done(self) -> bool:
        """Return whether the latest that had it has finished the part."""
        said = self._look()
        return said is not None and said["state"] == "done"

    def give_back(self, *, done: bool) -> None:
        """End it. Where the store is away, it ends by itself. Raises OSError."""
        self._ended.set()
        self._thread.join(_PATIENCE)
        if not self._taken_over and not self._thread.is_alive():
            self._write("done" if done else "free")

    def _renew_often(self) -> None:
        while not self._ended.wait(self._length / 3):
            try:
                if not self._write("held"):
                    self._taken_over = True
                    return
            except OSError:
                continue  # `lost` says it, should it last

    def _write(self, state: str) -> bool:
        """Write the object in place of what was seen there; return whether nobody was faster."""
        begun = time.monotonic()
        said = {"owner": self._owner, "state": state, "length": self._length}
        # Another content each time, and so another tag.
        data = json.dumps({**said, "turn": secrets.token_hex(8)}).encode()
        tag = self._store.swap(self._key, data, self._tag)
        if tag is None:
            # Our own write before may have arrived though its reply did not.
            found = self._look()
            if found is not None and found["owner"] != self._owner:
                return False
            tag = self._store.swap(self._key, data, self._tag)
        self._tag, self._renewed = tag, begun
        return tag is not None

    def _look(self) -> dict[str, Any] | None:
        """Return what the object says, and note its tag."""
        found = self._store.fetch(self._key)
        self._tag = None if found is None else found[1].tag
        return None if found is None else {**json.loads(found[0]), "changed": found[1].changed}

    def _now(self) -> float:
        """Return the time by the store's clock."""
        self._store.put(_CLOCK, b"")
        found = self._store.head(_CLOCK)
        return 0.0 if found is None else found.changed
