"""Whether all requests of a call are refused alike, so that the rest need not be sent.

States of a call. How much is sent depends on them, not on who is quicker:

    calm        nothing was refused yet, or so much, by turns for different reasons, that it says
                nothing of the whole: everything may be sent
    in doubt    something was refused, and nothing accepted: what is sent waits for what is in
                flight
    accepted    something was: everything may be sent
    verdict     nothing is sent any more

Every step but the last is taken under `_lock`:

    calm -> in doubt        `doubt`: a request came back refused
    in doubt -> calm        `doubt`: the refusal after the `_CERTAIN`th
    calm -> accepted        `accept`: a request was answered with sound
    in doubt -> accepted    the same
    any -> verdict          `verdict` is set, once, by whoever was told by `refuse` or `refuse_each`
                            that every further text would be refused (after something was accepted
                            only by many in a row: a key was revoked)
"""

from __future__ import annotations

import threading

from ..errors import CosyError

__all__ = ["SharedRefusals", "Unanimity"]

# Batches refused alike, with nothing accepted, and in a row after something was: from then on
# single texts are sent to find out.
_DOUBTFUL, _DOUBTFUL_AGAIN = 3, 20
# Single texts refused alike that are enough, whatever is still in flight.
_CERTAIN = 40
# Replies in which every text was refused alike, and texts in them, that are enough; and replies
# that are, whatever is still in flight.
_REPLIES, _TEXTS, _CERTAIN_REPLIES = 3, 20, 8
# Requests in flight at once while nothing but refusals came, where it is not one after another.
_FEW = 4
# Seconds after the latest refusal for which the refusals of other callers are remembered.
_MEMORY = 5.0


class Unanimity:
    """The refusals of one call, told apart by a word for their kind.

    A text that a service dislikes is refused alone; a wrong key, voice or model refuses every
    text, and a call need not send all of them to know. But refusals come quickly and sound takes
    its time: what was in flight at the first refusal is waited for, as it may yet be accepted.
    """

    __slots__ = (
        "_batches",
        "_begun",
        "_doubts",
        "_first",
        "_judged",
        "_kind",
        "_lock",
        "_most",
        "_open",
        "_replies",
        "_run",
        "_singles",
        "_texts",
        "accepted",
        "shared_batches",
        "verdict",
    )

    def __init__(self) -> None:
        # The error that every further text would end with.
        self.verdict: CosyError | None = None
        # Something was accepted. Written under the lock, like everything below.
        self.accepted = False
        # Shared batches that are judged together.
        self.shared_batches = 1
        self._lock = threading.Lock()
        self._begun = 0
        self._open: set[int] = set()  # numbers of the requests in flight
        self._judged = 0  # requests that were refused, and of which it is not known what that means
        self._kind = ""
        self._first = 0  # requests begun before the first refusal of this kind came
        self._run = self._singles = self._batches = self._replies = self._texts = 0
        # Refusals of any kind, and how many requests may be in flight after one.
        self._doubts, self._most = 0, _FEW

    @property
    def in_doubt(self) -> bool:
        """Return whether what is sent must wait for what is in flight."""
        undecided = not self.accepted and self.verdict is None
        return undecided and 0 < self._doubts <= _CERTAIN

    @property
    def doubtful(self) -> bool:
        """Return whether single texts should be sent, as batches were refused alike."""
        return self._batches >= (_DOUBTFUL_AGAIN if self.accepted else _DOUBTFUL)

    @property
    def kind(self) -> str:
        """Return the kind of the latest refusals."""
        return self._kind

    @property
    def refusals(self) -> int:
        """Return how many requests in a row were refused alike."""
        return self._run

    def begin(self) -> int:
        """Note that a request is sent now; return its number."""
        if self.accepted:
            return 0
        with self._lock:
            return self._begin()

    def begin_in_doubt(self) -> int:
        """Do the same where no more is in flight than may be; else return 0."""
        with self._lock:
            return self._begin() if len(self._open) + self._judged < self._most else 0

    def doubt(self, *, alone: bool) -> None:
        """Note that a request came back refused, before anything is sent in its place.

        Args:
            alone: From now on only one request is in flight at once.
        """
        with self._lock:
            self._doubts += 1
            if alone:
                self._most = 1

    def accept(self) -> None:
        """Note that a request was answered with sound."""
        if self.accepted and not self._run:  # almost always
            return
        with self._lock:
            self.accepted = True
            self._open.clear()
            self._clear()

    def end(self, number: int) -> int:
        """Note that a request ended without sound; return the number of the latest one begun."""
        if not number or self.accepted:
            return 0
        with self._lock:
            self._open.discard(number)
            return self._begun

    def judging(self, count: int) -> None:
        """Note that so many refusals more are being judged, or fewer."""
        with self._lock:
            self._judged += count

    def awaits(self, begun: int) -> bool:
        """Return whether a request up to that number may still be answered with sound."""
        with self._lock:
            undecided = not self.accepted and self.verdict is None
            return undecided and any(number <= begun for number in self._open)

    def refuse(self, begun: int, texts: int, kind: str, *, enough: int, later: int | None) -> bool:
        """Note a refusal; return whether every further text would be refused like it.

        Args:
            begun: What `end` returned for the request, 0 where it has no number.
            texts: How many the request had.
            kind: Tells refusals apart.
            enough: Single texts refused alike, with nothing accepted, that are enough.
            later: Those in a row that are enough after others were accepted; None: none are.
        """
        with self._lock:
            self._count(kind, begun)
            if texts == 1:
                self._singles += 1
            else:
                self._batches += 1
            if self.accepted:
                return later is not None and self._singles >= later
            if self._singles < enough:
                return False
            return self._singles >= _CERTAIN or self._is_first_settled()

    def refuse_each(self, begun: int, texts: int, kind: str) -> bool:
        """Note a reply that refused each of its texts alike; return whether every further text
        would be refused like that. Arguments as above."""
        with self._lock:
            self._count(kind, begun)
            self._replies += 1
            self._texts += texts
            if self.accepted or self._replies < _REPLIES or self._texts < _TEXTS:
                return False
            return self._replies >= _CERTAIN_REPLIES or self._is_first_settled()

    # -- under the lock -------------------------------------------------------------------------

    def _begin(self) -> int:
        self._begun += 1
        self._open.add(self._begun)
        return self._begun

    def _count(self, kind: str, begun: int) -> None:
        if kind != self._kind:
            self._kind, self._first = kind, begun
            self._clear()
        self._run += 1

    def _clear(self) -> None:
        self._run = self._singles = self._batches = self._replies = self._texts = 0

    def _is_first_settled(self) -> bool:
        """Return whether all that was sent before the first refusal is answered."""
        return all(each > self._first for each in self._open)


class SharedRefusals:
    """The refusals of batches that several callers share: each text is a call of its own there.

    Batches that are refused at about the same time are judged together. Once they have their
    verdict, a batch that is refused alike ends with it; but each is sent, and asks for itself.
    """

    def __init__(self) -> None:
        # Whether a refusal is noted. Written under the lock, like everything below.
        self.noted = False
        self._lock = threading.Lock()
        self._record: Unanimity | None = None
        self._latest = 0.0

    def record(self, kind: str, now: float) -> Unanimity:
        """Return where a batch's refusal is noted; of this kind, if it has its verdict."""
        with self._lock:
            record = self._record
            if record is None or now - self._latest > _MEMORY or _is_about_others(record, kind):
                record = self._record = Unanimity()
            else:
                record.shared_batches += 1
            self.noted = True
            if record.verdict is None:  # one is forgotten though it is met again: it may be over
                self._latest = now
            return record

    def accept(self) -> None:
        """Note that something was answered with sound."""
        with self._lock:
            record, self._record = self._record, None
            self.noted = False
        if record is not None:
            record.accept()


def _is_about_others(record: Unanimity, kind: str) -> bool:
    return record.verdict is not None and record.kind != kind
