"""Turns, and the way to a client's own share and back; the book is a script of answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cosy_sync.policies import RateLimiter
from cosy_sync.shared import SharedLimiter
from cosy_sync.shared.limiter import _history
from cosy_sync.shared.redis_book import Answer, Ask
from cosy_sync.testing import FakeClock

START = 1000.0


class Pages:
    """A book that answers as the test wrote, and remembers what it was asked."""

    timeout = 0.1

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self.answers: list[Answer | Exception] = []
        self.closed = False

    def ask(self, ask: Ask) -> Answer:
        self.asks.append(ask)
        answer = self.answers.pop(0) if self.answers else says()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed = True


class Bell:
    """In place of the keeper: the test takes its steps itself."""

    def __init__(self) -> None:
        self.rings = 0

    def ring(self) -> None:
        self.rings += 1

    def close(self, seconds: float) -> None:
        self.closed_within = seconds


class Scene:
    def __init__(self, rate: float = 100.0, clients: int = 1) -> None:
        self.clock, self.book, self.bell = FakeClock(START), Pages(), Bell()
        self.told: list[tuple[bool, str]] = []
        self.limiter = SharedLimiter(
            rate, self.book, RateLimiter, self.clock, lambda *told: self.told.append(told), clients
        )
        self.limiter._keeper = self.bell  # type: ignore[assignment]
        self.limiter.line = self
        self.waiting = self.looks = 0

    def demand(self, now: float) -> int:
        return self.waiting

    def look(self) -> None:
        self.looks += 1

    def step(self, answer: Answer | Exception | None = None) -> float:
        if answer is not None:
            self.book.answers.append(answer)
        return self.limiter._step()

    def wait(self, count: int = 1) -> None:
        """Let so many stand in line, as they do: each asks for turns to be booked."""
        for _ in range(count):
            self.waiting += 1
            self.limiter.book()

    def go(self, later: float = 0.0) -> float:
        self.clock.advance(later)
        wait = self.limiter.take(self.clock.now())
        self.waiting -= wait <= 0.0 and self.waiting > 0
        return wait

    def free(self, ahead: int = 0) -> float:
        return self.limiter.next_free(self.clock.now(), ahead)

    @property
    def last(self) -> Ask:
        return self.book.asks[-1]


def says(
    *turns: tuple[int, float],
    pause: float = 0.0,
    clients: int = 4,
    back: float = 0.0,
    free: float = 0.0,
) -> Answer:
    return Answer(pause, clients, back, free, turns)


@pytest.fixture
def scene() -> Scene:
    return Scene()


# Turns


def test_who_waits_first_rings_and_is_told_when_a_turn_is_there(scene) -> None:
    scene.wait()
    assert scene.bell.rings == 1 and scene.go() > 0.0
    scene.step(says((1, 0.0)))
    assert scene.last == Ask(1, 0.0, False, [])
    assert scene.looks == 1
    assert scene.go() == 0.0


def test_without_turns_those_behind_expect_all_to_come_to_be_this_clients(scene) -> None:
    waits = [scene.free(ahead) - START for ahead in (0, 1, 2)]
    assert waits == pytest.approx([0.002, 0.012, 0.022])
    assert scene.limiter.patience == 0.25  # nobody looks every 2 ms: the keeper wakes who is next


def test_who_has_a_turn_or_a_share_comes_when_it_is_told(scene) -> None:
    scene.step(says((1, 0.1)))
    assert scene.limiter.patience == 0.0
    assert scene.go(0.1) == 0.0
    assert scene.limiter.patience == 0.25
    scene.step(ConnectionError("gone"))
    assert scene.limiter.patience == 0.0


def test_behind_the_turns_that_are_booked_the_next_is_expected_no_earlier(scene) -> None:
    scene.step(says((1, 0.1), (2, 0.2)))
    assert [scene.free(ahead) - START for ahead in (0, 1, 2)] == pytest.approx([0.1, 0.2, 0.21])


def test_a_turn_goes_to_who_takes_it_and_the_next_waits_for_the_next(scene) -> None:
    scene.wait(3)
    scene.step(says((1, 0.0), (2, 0.04), (3, 0.08)))
    assert scene.go(0.03) == 0.0
    assert scene.go() == pytest.approx(0.01)
    assert scene.go(0.01) == 0.0
    assert scene.go() > 0.0


def test_a_lowered_rate_spaces_this_clients_own_requests(scene) -> None:
    scene.limiter.set_rate(10.0)
    scene.step(says((1, 0.0), (2, 0.01), (3, 0.02)))
    assert scene.go(0.02) == 0.0
    assert scene.go() == pytest.approx(0.1, abs=0.003)
    assert scene.free(1) - scene.free() == pytest.approx(0.1, abs=0.003)


def test_a_lowered_rate_holds_without_the_book_too(scene) -> None:
    scene.limiter.set_rate(10.0)
    scene.step(ConnectionError("gone"))
    assert scene.go(2.0) == 0.0
    assert scene.go() == pytest.approx(0.1, abs=0.003)


def test_a_rate_that_is_back_spaces_nothing(scene) -> None:
    scene.limiter.set_rate(10.0)
    scene.step(says((1, 0.0), (2, 0.0)))
    assert scene.go() == 0.0
    scene.limiter.set_rate(100.0)
    assert scene.go() == 0.0


def test_a_turn_is_not_given_before_its_instant(scene) -> None:
    scene.step(says((1, 0.04)))
    assert scene.go(0.039) == pytest.approx(0.001)
    assert scene.go(0.001) == 0.0


def test_who_finds_a_turn_rings_nobody_and_who_finds_none_does(scene) -> None:
    scene.step(says((1, 0.0)))
    scene.wait()
    assert scene.bell.rings == 0
    scene.wait()
    assert scene.bell.rings == 1


def test_a_turn_is_lost_after_half_a_second(scene) -> None:
    scene.step(says((1, 0.0)))
    assert scene.go(0.51) > 0.0
    scene.step()
    assert not scene.limiter._turns


def test_a_turn_of_half_a_second_ago_still_counts(scene) -> None:
    scene.step(says((1, 0.0)))
    assert scene.go(0.5) == 0.0


def test_next_free_notes_nothing(scene) -> None:
    for _ in range(3):
        assert scene.free() == scene.free()
    assert scene.bell.rings == 0


def test_turns_never_go_backwards(scene) -> None:
    scene.step(says((1, 0.05)))
    scene.step(says((2, 0.04)))
    assert [at for at, _ in scene.limiter._turns] == [START + 0.05] * 2


# Asking


def test_as_many_turns_are_asked_for_as_threads_wait_without(scene) -> None:
    scene.wait(3)
    scene.step(says((1, 0.01), free=0.3))
    scene.step(says())
    assert [ask.want for ask in scene.book.asks] == [3, 2]


def test_who_has_left_the_line_is_not_asked_for(scene) -> None:
    scene.wait(2)
    scene.waiting = 0
    scene.step()
    assert scene.last.want == 0


def test_at_most_256_turns_are_asked_for_at_once(scene) -> None:
    scene.wait(300)
    scene.step()
    assert scene.last.want == 256


def test_what_left_is_told_once(scene) -> None:
    scene.wait(2)
    scene.step(says((7, 0.0), (8, 0.0)))
    scene.go(0.004), scene.go(0.01)
    scene.clock.advance(0.05)
    scene.step()
    assert scene.last.sent == [(7, pytest.approx(0.06)), (8, pytest.approx(0.05))]
    scene.step()
    assert scene.last.sent == []


def test_a_full_book_is_asked_again_when_a_turn_may_be_free(scene) -> None:
    scene.wait()
    rings = scene.bell.rings
    seconds = scene.step(says(free=0.4))
    assert 0.15 <= seconds <= 0.20
    scene.wait()
    assert scene.bell.rings == rings
    scene.clock.advance(seconds)
    scene.wait()
    assert scene.bell.rings == rings + 1


def test_a_book_that_is_just_full_is_not_asked_at_once(scene) -> None:
    scene.wait()
    assert 0.02 <= scene.step(says(free=0.2501)) <= 0.07


def test_a_full_book_is_told_at_once_what_left_late() -> None:
    scene = Scene(rate=1.0)
    scene.wait(2)
    seconds = scene.step(says((1, 0.0), free=1.015))
    assert 0.02 <= seconds <= 0.07
    rings = scene.bell.rings
    assert scene.go(seconds) == 0.0
    scene.wait()
    assert scene.bell.rings == rings  # a turn is not asked for before one may be free
    assert 0.6 <= scene.step(says(free=0.9)) <= 0.7


def test_steps_are_frequent_while_there_are_turns_and_rare_without(scene) -> None:
    assert scene.step(says()) == 1.0
    scene.wait()
    assert scene.step(says((1, 0.0))) == 0.05
    scene.go(0.002)
    scene.book.answers.append(says())
    assert scene.limiter._step() == 1.0


# Pauses


def test_a_pause_is_told_to_the_book_and_gives_up_turns_before_its_end(scene) -> None:
    scene.wait(3)
    scene.step(says((1, 0.0), (2, 1.0), (3, 2.0)))
    scene.limiter.pause(START + 1.0)
    assert scene.limiter.paused_until == START + 1.0
    assert [number for _, number in scene.limiter._turns] == [2, 3]
    assert scene.go() == pytest.approx(1.0)
    scene.step(says(pause=1.0))
    assert scene.last.pause == pytest.approx(1.0)
    scene.step(says(pause=1.0))
    assert scene.last.pause == 0.0


def test_a_turn_is_not_taken_inside_a_pause(scene) -> None:
    scene.wait()
    scene.limiter.pause(START + 5.0)
    scene.step(says((1, 0.0)))
    assert scene.go(0.2) == pytest.approx(4.8)
    assert scene.free() >= START + 5.0


def test_a_turn_at_the_end_of_a_pause_is_taken_then(scene) -> None:
    scene.wait(2)
    scene.step(says((1, 0.5), (2, 1.0)))
    scene.limiter.pause(START + 1.0)
    assert scene.go(1.0) == 0.0
    assert not scene.limiter._turns


def test_a_shorter_pause_changes_nothing(scene) -> None:
    scene.limiter.pause(START + 5.0)
    rings = scene.bell.rings
    scene.limiter.pause(START + 5.0)
    assert scene.limiter.paused_until == START + 5.0 and scene.bell.rings == rings


def test_a_pause_of_others_holds_here(scene) -> None:
    scene.step(says(pause=3.0))
    assert scene.limiter.paused_until == START + 3.0
    scene.step(says(pause=3.04))  # the same, a little blurred
    assert scene.limiter.paused_until == START + 3.0
    scene.step(says(pause=3.06))
    assert scene.limiter.paused_until == START + 3.06


@pytest.mark.parametrize("seconds", [0.5, 5.0])
def test_a_pause_that_could_not_be_told_is_told_later(scene, seconds) -> None:
    scene.limiter.pause(START + seconds)
    scene.step(ConnectionError("gone"))
    scene.step(says(back=1.0))
    assert [ask.pause for ask in scene.book.asks] == [seconds, seconds]


# Without the book


def test_without_the_book_each_goes_by_an_equal_share(scene) -> None:
    scene.step(says(clients=4))
    seconds = scene.step(ConnectionError("gone"))
    assert 0.4 <= seconds <= 0.6
    (told,) = scene.told
    assert told[0] is False
    assert told[1].startswith("ConnectionError: gone; until it answers again: 25 requests/s")
    sent = drive(scene, 3.0)
    assert 24 <= len([at for at in sent if at >= START + 2.0]) <= 25


def test_the_first_clients_share_is_as_configured() -> None:
    scene = Scene(clients=10)
    scene.step(ConnectionError("gone"))
    assert scene.limiter._local is not None
    assert scene.limiter._local.sustained < 10.0  # type: ignore[attr-defined]


def test_who_was_alone_has_the_whole_rate_without_the_book(scene) -> None:
    scene.step(says(clients=1))
    scene.step(ConnectionError("gone"))
    assert "100 requests/s, the share of one of 1 clients" in scene.told[0][1]


def test_what_left_by_a_turn_counts_in_the_share() -> None:
    scene = Scene(rate=1.0)
    scene.wait()
    scene.step(says((1, 0.0), clients=1))
    assert scene.go(0.002) == 0.0
    scene.step(ConnectionError("gone"))
    assert scene.go(0.5) == pytest.approx(0.507)


def test_what_left_by_a_turn_and_was_not_told_is_told_without_it(scene) -> None:
    scene.wait()
    scene.step(says((7, 0.0)))
    assert scene.go(0.002) == 0.0
    scene.limiter._lose("no answer")
    scene.step(says(back=1.0))
    assert scene.last.sent == [(0, 0.0)]


def test_of_what_left_no_more_is_remembered_than_fits_into_a_second() -> None:
    scene = Scene(rate=1.0)
    scene.step(ConnectionError("gone"))
    assert len(drive(scene, 5.0)) >= 3
    scene.step(says(back=1.0))
    assert len(scene.last.sent) == len(scene.limiter._own) == 1
    scene = Scene(rate=1.0)
    scene.wait(3)
    scene.step(says((1, 0.0), (2, 0.0), (3, 0.0)))
    assert [scene.go(0.002) for _ in range(3)] == [0.0] * 3
    scene.step()
    assert scene.last.sent == [(3, 0.0)] and len(scene.limiter._own) == 1


def test_a_loss_is_told_once(scene) -> None:
    for _ in range(3):
        scene.step(ConnectionError("gone"))
    assert len(scene.told) == 1


def drive(scene: Scene, seconds: float, each: Callable[[], None] = lambda: None) -> list[float]:
    """Send whenever that is allowed; return when."""
    sent = []
    end = scene.clock.now() + seconds
    while (now := scene.clock.now()) < end:
        each()
        if scene.limiter.take(now) <= 0.0:
            sent.append(now)
        scene.clock.advance(0.002)
    return sent


@pytest.mark.parametrize("before", [(50, 50, 0, 0), (25, 25, 25, 25), (97, 1, 1, 1), (0, 0, 0, 0)])
def test_all_together_keep_the_limit_while_they_pass_over_to_their_shares(before) -> None:
    scenes = [Scene() for _ in before]
    sent = []
    for scene, count in zip(scenes, before, strict=True):
        scene.step(says(clients=4))
        own = [START - 0.999 + place / max(count, 1) * 0.998 for place in range(count)]
        scene.limiter._own.extend(own)
        sent += own
        scene.step(ConnectionError("gone"))
        sent += drive(scene, 2.5)
    sent.sort()
    most = max(sum(first <= at < first + 1.0 for at in sent) for first in sent)
    assert most <= 100


def test_threads_that_waited_for_a_turn_get_a_place_in_the_share(scene) -> None:
    scene.step(says(clients=4))
    scene.wait(3)
    scene.step(ConnectionError("gone"))
    # Not even the first goes at once: all others may have sent the whole rate in this second.
    assert 0.0 < scene.go() < 0.2
    assert scene.free(2) > scene.free(1) > scene.free()
    assert scene.looks == 2  # who is next comes when the share says, not when a turn was due


def test_a_hung_exchange_is_given_up_by_who_waits(scene) -> None:
    scene.limiter._asked = START
    scene.clock.advance(0.19)
    scene.wait()
    assert scene.told == []
    scene.clock.advance(0.02)
    scene.wait()
    assert [shared for shared, _ in scene.told] == [False]
    assert scene.told[0][1].startswith("no answer; until it answers again: ")


def test_an_answer_after_that_is_a_return(scene) -> None:
    scene.limiter._lose("no answer")
    scene.step(says((1, 0.0), back=1.0))
    assert scene.limiter._local is not None and not scene.limiter._turns


def test_those_who_return_tell_what_they_sent_and_wait_for_the_others(scene) -> None:
    scene.step(ConnectionError("gone"))
    sent = drive(scene, 0.5)
    assert scene.step(says(back=0.3)) == 0.05
    assert scene.last.away and len(scene.last.sent) == len(sent) > 0
    assert {number for number, _ in scene.last.sent} == {0}
    scene.clock.advance(0.28)
    assert scene.step(says(back=0.02)) == pytest.approx(0.02)
    assert not scene.last.away
    assert [shared for shared, _ in scene.told] == [False]
    scene.clock.advance(0.02)
    seconds = scene.step(says())
    assert scene.told[-1] == (True, "by 4 clients")
    # A moment in which nothing is booked: the others have not told their last yet.
    assert seconds == pytest.approx(0.12)
    scene.wait()
    rings = scene.bell.rings
    scene.step(says())
    assert scene.last.want == 0
    scene.clock.advance(0.12)
    scene.wait()
    assert scene.bell.rings == rings + 1
    scene.step(says())
    assert scene.last.want >= 1


def test_a_second_loss_begins_anew(scene) -> None:
    scene.step(ConnectionError("gone"))
    scene.step(says(back=0.3))
    scene.step(ConnectionError("gone again"))
    scene.clock.advance(0.3)
    scene.step(says(back=0.3))
    assert scene.last.away
    assert [shared for shared, _ in scene.told] == [False]


def test_a_pause_holds_without_the_book_too(scene) -> None:
    scene.limiter.pause(START + 2.0)
    scene.step(ConnectionError("gone"))
    assert scene.limiter.next_free(START) == START + 2.0
    scene.limiter.pause(START + 3.0)
    assert scene.free() == START + 3.0
    scene.step(says(pause=4.0, back=1.0))
    assert scene.free() >= START + 4.0


def test_the_history_of_a_share_is_full_and_in_order() -> None:
    assert _history([], 4, 1.0, 10.0) == [9.25, 9.5, 9.75, 10.0]
    assert _history([8.9, 9.0, 9.1, 9.2], 4, 1.0, 10.0) == [9.1, 9.2, 9.5, 10.0]
    assert _history([9.1, 9.2, 9.3], 2, 1.0, 10.0) == [9.2, 9.3]
    assert _history([], 1, 2.0, 10.0) == [10.0]
    assert _history([8.5], 1, 2.0, 10.0) == [8.5]
    assert _history([7.5], 1, 2.0, 10.0) == [10.0]


def test_closing_closes_the_book(scene) -> None:
    scene.limiter.close(1.0)
    assert scene.book.closed
    assert scene.bell.closed_within == 1.0
