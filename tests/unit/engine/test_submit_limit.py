"""Who gets a seat, who waits for one, and who loses it."""

from __future__ import annotations

import gc
import weakref

import pytest

from cosy_sync.engine.submit_limit import SubmitLimit, SubmitSlot
from cosy_sync.errors import ClosedError, ShedError


class Text:
    """A text that ends when it is asked for its seat, unless its work began."""

    def __init__(self, seats: SubmitLimit, *, urgent: bool = False, begun: bool = False) -> None:
        self.seats = seats
        self.begun = begun
        self.error: ShedError | None = None
        self.seat = SubmitSlot(self.give_up, tenant="", urgent=urgent)

    def give_up(self, error: ShedError) -> bool:
        if self.begun:
            return False
        self.error = error
        self.seats.leave(self.seat)
        return True

    def sit(self) -> Text:
        self.seats.take(self.seat, 0.0)
        return self


def test_no_more_than_the_limit_sit() -> None:
    for sheds in (False, True):
        seats = SubmitLimit(2, sheds=sheds)
        first, _ = Text(seats).sit(), Text(seats, urgent=True).sit()
        with pytest.raises(ShedError, match=r"2 texts are submitted.*max_submitted"):
            Text(seats).sit()
        assert seats.used == 2
        seats.leave(first.seat)
        Text(seats).sit()
        assert seats.used == 2


def test_without_shedding_nobody_is_displaced() -> None:
    seats = SubmitLimit(1, sheds=False)
    bulk = Text(seats).sit()
    with pytest.raises(ShedError, match="none ended within 0 s"):
        Text(seats, urgent=True).sit()
    assert bulk.error is None


def test_an_urgent_text_takes_the_seat_of_the_latest_bulk_one() -> None:
    seats = SubmitLimit(3, sheds=True)
    texts = [Text(seats).sit(), Text(seats, urgent=True).sit(), Text(seats).sit()]
    for expected in ([2], [0, 2]):
        Text(seats, urgent=True).sit()
        assert [n for n, text in enumerate(texts) if text.error] == expected
        assert seats.used == 3
    with pytest.raises(ShedError, match="on_full='shed'"):
        Text(seats, urgent=True).sit()
    assert "an interactive one needed the place" in str(texts[0].error)


def test_a_bulk_text_displaces_nobody() -> None:
    seats = SubmitLimit(1, sheds=True)
    first = Text(seats).sit()
    with pytest.raises(ShedError, match="on_full='shed'"):
        Text(seats).sit()
    assert first.error is None


def test_a_text_whose_work_began_keeps_its_seat() -> None:
    seats = SubmitLimit(3, sheds=True)
    texts = [Text(seats, begun=begun).sit() for begun in (True, False, True)]
    Text(seats, urgent=True).sit()
    assert [text.error is not None for text in texts] == [False, True, False]
    with pytest.raises(ShedError):
        Text(seats, urgent=True).sit()


def test_who_left_is_not_asked_for_a_seat() -> None:
    seats = SubmitLimit(2, sheds=True)
    gone, left = Text(seats).sit(), Text(seats).sit()
    seats.leave(gone.seat)
    urgent = [Text(seats, urgent=True).sit() for _ in range(2)]
    assert (gone.error, left.error is None, seats.used) == (None, False, 2)
    assert [text.error for text in urgent] == [None, None]


def test_who_leaves_while_he_is_being_asked_loses_nothing() -> None:
    seats = SubmitLimit(1, sheds=True)
    bulk = Text(seats).sit()
    # The other thread has left in between: taken out of the line, and no function any more.
    bulk.seat.give_up = None
    with pytest.raises(ShedError):
        Text(seats, urgent=True).sit()


def test_a_seat_that_was_left_holds_nothing() -> None:
    seats = SubmitLimit(1, sheds=True)
    text = Text(seats).sit()
    seat, watch = text.seat, weakref.ref(text)
    gc.disable()
    try:
        seats.leave(seat)
        del text
        assert watch() is None
    finally:
        gc.enable()


def test_closed_seats_are_given_to_nobody() -> None:
    for sheds in (False, True):
        seats = SubmitLimit(1, sheds=sheds)
        seats.close()
        with pytest.raises(ClosedError):
            Text(seats).sit()
