"""One endpoint's answers become its limits: which sign moves what."""

import contextlib
import math
import threading
from collections.abc import Callable

import pytest

from cosy_sync import ClientConfig, Endpoint, OverloadConfig
from cosy_sync.endpoints.limiter import EndpointLimiter, SlotWaiter
from cosy_sync.endpoints.overload import OverloadControl
from cosy_sync.errors import (
    AuthError,
    BadAudioError,
    BadRequestError,
    BillingError,
    ClosedError,
    ConnectError,
    CosyError,
    CutError,
    DeadlineError,
    OverloadError,
    RefusedError,
    ReplyTimeout,
    ResourceError,
    server_error,
)
from cosy_sync.events import Event, LimitsLowered
from cosy_sync.models import Utterance
from cosy_sync.policies import RateLimiter
from cosy_sync.testing import FakeClock
from cosy_sync.threads.permits import Permits
from cosy_sync.threads.stop import Stop

START = 1_000.0
URL = "http://tts.test/batch"


class Rig:
    """A governor with what it governs."""

    def __init__(self, **overload: float) -> None:
        self.slots = Permits(10)
        self.limiter = EndpointLimiter(RateLimiter(100.0), FakeClock())
        self.events: list[Event] = []
        self.line: list[SlotWaiter] = []
        endpoint = Endpoint(URL, max_connections=10, rate=100.0)
        settings = OverloadConfig(**{"start": 10, **overload})  # type: ignore[arg-type]
        config = ClientConfig(overload=settings)
        self.overload = OverloadControl(endpoint, config, self.slots, self.limiter, self)

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def feed(self, error: CosyError | None, count: int, now: float = START) -> None:
        for _ in range(count):
            self.overload.record(error, now, now)

    def share(self, now: float = START) -> float:
        return self.overload._throttle.share(now)

    def interval(self) -> float:
        """Return the seconds between two sends of a flood."""
        limiter = self.limiter.limiter
        return limiter.next_free(START + 100, 20) - limiter.next_free(START + 100, 19)

    def line_up(self, now: float = START) -> None:
        """Let an urgent batch stand in line for its turn."""
        waiter = SlotWaiter("", True, math.inf, Stop(), threading.Event())
        self.limiter.join(waiter, now)
        self.line.append(waiter)

    def serve(self, now: float) -> None:
        """Let those leave whose turn has come."""
        while self.line and self.limiter.take(self.line[0], now) <= 0.0:
            del self.line[0]


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize(
    "error",
    [
        None,
        BadRequestError("bad", status=400),
        AuthError("key", status=401),
        BadAudioError("silent"),
        server_error(302, "moved"),
    ],
)
def test_an_answer_counts_as_accepted(rig, error):
    rig.feed(error, 50)
    rig.feed(ConnectError("refused"), 50)
    assert rig.share() == 0.0
    rig.feed(ConnectError("refused"), 1)
    assert rig.share() > 0.0


@pytest.mark.parametrize(
    "error",
    [
        server_error(429, "slow"),
        server_error(500, "oops"),
        server_error(502, "gateway"),
        server_error(503, "full"),
        ReplyTimeout("late"),
        ConnectError("refused"),
        CutError("cut"),
    ],
)
def test_a_failure_counts_as_not_accepted(rig, error):
    rig.feed(error, 30)
    assert rig.share() == 0.8


@pytest.mark.parametrize(
    "error", [RefusedError("not sent"), DeadlineError("late"), ClosedError("cancelled")]
)
def test_what_says_nothing_about_the_endpoint_counts_for_nothing(rig, error):
    rig.feed(error, 50)
    assert rig.share() == 0.0
    assert rig.slots.limit == 10
    assert rig.events == []


@pytest.mark.parametrize(
    ("error", "in_flight"),
    [
        (server_error(429, "slow"), 7),
        (server_error(503, "full"), 7),
        (server_error(504, "late"), 7),
        (ReplyTimeout("late"), 7),
        (server_error(500, "oops"), 10),
        (server_error(502, "gateway"), 10),
        (ConnectError("refused"), 10),
        (CutError("cut"), 10),
        (BadAudioError("silent"), 10),
    ],
)
def test_only_signs_of_overload_lower_the_requests_in_flight(rig, error, in_flight):
    rig.overload.record(error, START, START)
    assert rig.slots.limit == in_flight
    assert rig.overload.limits(START) == (100.0, in_flight)


def test_requests_in_flight_count_with_the_one_that_ended(rig):
    rig.slots.acquire(9)
    rig.overload.record(server_error(503, "full"), START, START)
    assert rig.slots.limit == 10  # one of ten: a stray
    rig.overload.record(server_error(503, "full"), START - 1, START)
    assert rig.slots.limit == 7


def test_good_replies_raise_the_requests_in_flight_again(rig):
    rig.overload.record(server_error(503, "full"), START, START)
    rig.slots.acquire(7)
    rig.overload.record(None, START, START + 1)
    assert rig.slots.limit == 8
    assert rig.slots.used == 7


def test_429s_lower_the_rate_and_time_brings_it_back(rig):
    rig.feed(server_error(429, "slow"), 2)
    assert rig.overload.limits(START)[0] == pytest.approx(70.0)
    assert rig.interval() == pytest.approx(1.008 / 70)
    rig.overload.admit(False, START + 1)
    assert rig.interval() == pytest.approx(1.008 / 84.64)
    rig.overload.admit(False, START + 6)
    assert rig.interval() == pytest.approx(1.008 / 100)
    assert rig.overload.limits(START + 6) == (100.0, 4)


@pytest.mark.parametrize(
    "look",
    [
        lambda overload, now: overload.limits(now),
        lambda overload, now: overload.why_no_slot(now, now),
        lambda overload, now: overload.record(server_error(500, ""), now, now),
        lambda overload, now: overload.record(None, now, now),
    ],
    ids=["figures", "an error's words", "a failure", "a good reply"],
)
def test_whoever_first_sees_that_the_rate_is_back_lets_requests_leave_at_it(
    rig: Rig, look: Callable[[OverloadControl, float], object]
) -> None:
    rig.feed(server_error(429, "slow"), 2)
    look(rig.overload, START + 6)
    rig.overload.admit(False, START + 6)
    assert rig.interval() == pytest.approx(1.008 / 100)


def test_a_thread_that_is_late_with_a_lowered_rate_does_not_keep_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.feed(server_error(429, "slow"), 2)
    real, late = rig.limiter.set_rate, [1]

    def set_rate(rate: float) -> None:
        if late:
            late.clear()
            rig.overload.admit(False, START + 6)  # another thread, meanwhile
        real(rate)

    monkeypatch.setattr(rig.limiter, "set_rate", set_rate)
    rig.overload.admit(False, START + 1)
    rig.overload.admit(False, START + 7)
    assert rig.interval() == pytest.approx(1.008 / 100)


def test_503s_leave_the_rate_alone(rig):
    rig.feed(server_error(503, "full"), 5)
    assert rig.overload.limits(START)[0] == 100.0
    assert rig.interval() == pytest.approx(1.008 / 100)


def test_seconds_that_the_service_asked_for_do_not_set_429s_apart(rig):
    rig.overload.record(server_error(429, "slow", retry_after=9.0), START, START)
    rig.overload.record(server_error(429, "slow", retry_after=9.0), START + 10, START + 10)
    assert rig.overload.limits(START + 10)[0] == pytest.approx(70.0)


def test_each_decrease_is_told_with_the_new_limits(rig):
    error = server_error(429, "slow")
    rig.feed(error, 2)
    assert rig.events == [
        LimitsLowered(URL, 100.0, 7, error),
        LimitsLowered(URL, pytest.approx(70.0), 4, error),  # type: ignore[arg-type]
    ]


def test_the_share_held_back_is_an_error_that_says_what_to_do(rig):
    rig.feed(ConnectError("refused"), 30)
    errors = []
    for _ in range(100):
        try:
            rig.overload.admit(True, START)
        except OverloadError as error:
            errors.append(error)
    assert 50 < len(errors) < 100
    assert "80 % of them are held back" in errors[0].message
    assert "try again" in errors[0].message and "synth_many" in errors[0].message
    assert errors[0].endpoint == URL
    assert errors[0].retry_after == 1.0
    assert errors[0].retryable and not errors[0].sent and not errors[0].trips


def test_bulk_calls_are_held_back_as_well(rig):
    rig.feed(ConnectError("refused"), 30)
    with pytest.raises(OverloadError):
        for _ in range(100):
            rig.overload.admit(False, START)


def test_an_urgent_call_does_not_join_a_long_queue_at_a_lowered_rate():
    rig = Rig(throttle_cap=0.0)
    rig.feed(server_error(429, "slow"), 2)
    while rig.limiter.next_free(START) <= START + 0.5:
        rig.overload.admit(True, START)
        rig.line_up()
    with pytest.raises(OverloadError, match=r"only 70 requests/s are sent") as caught:
        rig.overload.admit(True, START)
    assert caught.value.retry_after == 1.0
    rig.overload.admit(False, START)  # bulk waits
    rig.overload.admit(False, START, 60.0)
    rig.overload.admit(True, START + 0.1)  # and the queue grows shorter


def test_the_time_that_an_urgent_call_has_waited_already_counts():
    rig = Rig(throttle_cap=0.0)
    rig.feed(server_error(429, "slow"), 2)
    rig.overload.admit(True, START, 0.5)
    with pytest.raises(OverloadError, match=r"after 0\.7 s"):
        rig.overload.admit(True, START, 0.7)


def test_at_the_full_rate_nobody_has_waited_too_long(rig):
    rig.overload.admit(True, START, 60.0)


def test_patience_is_a_setting():
    rig = Rig(throttle_cap=0.0, patience=0.0)
    rig.feed(server_error(429, "slow"), 2)
    while rig.limiter.next_free(START) <= START:
        rig.line_up()
    with pytest.raises(OverloadError):
        rig.overload.admit(True, START)


@pytest.mark.parametrize(("connections", "first"), [(2, 2), (10, 4), (50, 4), (800, 66)])
def test_an_endpoint_begins_with_few_requests_unless_it_has_many_connections(connections, first):
    # Six batches of 64 at first were more than two workers of 0.43 s a text spoke in 60 s.
    endpoint = Endpoint(URL, max_connections=connections)
    limiter = EndpointLimiter(RateLimiter(100.0), FakeClock())
    overload = OverloadControl(endpoint, ClientConfig(), Permits(connections), limiter, Rig())
    assert overload.limits(START) == (100.0, first)


def test_no_line_of_urgent_calls_stands_at_a_lowered_rate():
    rig = Rig(throttle_cap=0.0, decrease=0.5, recovery=60.0)
    rig.feed(server_error(429, "slow"), 2)
    lines = []
    for call in range(500):  # twice as many as leave
        now = START + call / 100
        with contextlib.suppress(OverloadError):
            rig.overload.admit(True, now)
            rig.line_up(now)
        rig.serve(now)
        lines.append(rig.limiter.next_free(now, True) - now)
    assert max(lines[:150]) > 0.4
    assert max(lines[200:]) < 0.12


def test_at_the_full_rate_an_urgent_call_joins_any_queue(rig):
    for _ in range(500):
        rig.line_up()
    rig.overload.admit(True, START)


def test_a_429_of_too_many_at_the_same_time_lowers_the_slots_and_not_the_rate(rig):
    crowd = server_error(429, "too many at the same time", crowded=True)
    rig.feed(crowd, 1)  # nothing else is in flight: one is all that there is room for
    assert rig.overload.limits(START) == (100.0, 1)
    assert rig.slots.limit == 1
    assert [type(event) for event in rig.events] == [LimitsLowered]
    rig.feed(crowd, 50)
    assert rig.overload.limits(START) == (100.0, 1)
    assert rig.interval() == pytest.approx(0.01, rel=0.05)


def test_a_429_of_too_many_in_a_time_lowers_the_rate_and_not_the_slots(rig):
    rig.feed(server_error(429, "too many in a second", by_rate=True), 20)
    assert rig.overload.limits(START) == (pytest.approx(70.0), 10)
    assert rig.slots.limit == 10


def test_where_no_rate_is_given_any_429_lowers_the_slots() -> None:
    slots, limiter = Permits(10), EndpointLimiter(RateLimiter(math.inf), FakeClock())
    endpoint = Endpoint(URL, max_connections=10, rate=None)
    overload = OverloadControl(endpoint, ClientConfig(), slots, limiter, Rig())
    for _ in range(20):
        overload.record(server_error(429, "too many in a second", by_rate=True), START, START)
    assert slots.limit < 4


def test_what_passes_a_lowered_limit_is_counted(rig: Rig) -> None:
    pace = rig.overload._pace
    rig.feed(None, 5)
    assert pace.passed == 0  # nothing is followed yet
    rig.feed(server_error(429, ""), 2)
    rig.feed(None, 5)
    rig.feed(server_error(500, ""), 3)  # a limit let them through as well
    rig.feed(BadRequestError("", status=400), 1)
    assert pace.passed == 9
    rig.feed(server_error(429, ""), 4)
    assert pace.passed == 9


def test_an_urgent_call_does_not_wait_long_for_a_place_at_a_strained_service(rig):
    assert rig.overload.longest_wait(True, START) == math.inf
    rig.feed(server_error(503, "full"), 1)
    assert rig.overload.longest_wait(True, START) == 0.5
    assert rig.overload.longest_wait(False, START) == math.inf  # bulk waits
    error = rig.overload.no_place(0.5)
    assert error.retry_after == 1.0
    assert "only 7 requests are in flight, and none of them ended within 0.5 s" in str(error)


def test_as_long_as_a_call_takes_may_be_waited_for_a_place(rig):
    rig.overload.record(None, START - 3.0, START)
    rig.overload.record(server_error(503, "full"), START, START + 3.0)
    assert rig.overload.longest_wait(True, START + 3.0) == 3.0


def test_a_service_is_strained_only_while_that_is_why_few_requests_are_in_flight() -> None:
    rig = Rig(start=2)
    rig.feed(server_error(429, "slow"), 2)
    now = START
    for _ in range(12):  # it speaks one text after the other: more at once would only wait
        began, count = now, rig.slots.limit
        assert all([rig.slots.acquire() for _ in range(count)])
        for _ in range(count):
            now += 7.0
            rig.slots.release()
            rig.overload.record(None, began, now, [Utterance("好" * 20)])
    few = rig.slots.limit
    assert few < 5
    assert not rig.overload.is_strained(now)
    assert rig.overload.longest_wait(True, now) == math.inf
    for _ in range(2):
        rig.overload.record(server_error(503, "full"), now, now + 14.0)
    assert rig.slots.limit < few and rig.overload.is_strained(now + 14.0)


def test_a_service_that_told_its_size_is_not_strained(rig):
    rig.feed(server_error(429, "too many at the same time", crowded=True), 1)
    assert rig.slots.limit == 1
    assert rig.overload.longest_wait(True, START) == math.inf


def test_an_unpaid_bill_is_no_overload_though_it_comes_as_429(rig: Rig) -> None:
    rig.feed(BillingError("PrepaidBillOverdue", status=429), 20)
    assert rig.events == [] and rig.slots.limit == 10


def test_where_this_machine_is_out_of_something_no_more_is_in_flight_than_it_carries(rig):
    scarce = ResourceError("no more files (ulimit -n: 64)", resource="descriptors")
    assert rig.slots.acquire(3, seconds=0)
    rig.overload.record(scarce, START - 1, START)
    assert (rig.slots.limit, rig.share()) == (3, 0.0)
    assert [(event.in_flight, event.error) for event in rig.events] == [(3, scarce)]
    # Others that fail in the same moment are no news; one that fails later is.
    for _ in range(20):
        rig.overload.record(scarce, START - 1, START)
    assert len(rig.events) == 1
    rig.feed(scarce, 1, START + 5)
    assert rig.events[-1].error is scarce


def test_more_is_tried_again_once_this_machine_may_carry_it(rig):
    assert rig.slots.acquire(3, seconds=0)
    rig.feed(ResourceError("no more files", resource="descriptors"), 1)
    for step in range(20):
        rig.slots.acquire(rig.slots.limit - rig.slots.used, seconds=0)
        rig.feed(None, 1, START + 2 + step)
    assert rig.slots.limit == 10


# -- the start, and who is only late ------------------------------------------------------------


def test_few_requests_are_in_flight_until_replies_come_in_time() -> None:
    rig = Rig(start=4)
    assert rig.slots.limit == 4
    taken = [rig.slots.acquire() for _ in range(4)]
    assert all(taken)
    for _ in range(4):
        rig.slots.release()
        rig.overload.record(None, START, START + 0.2, [Utterance("好")])
        rig.slots.acquire()
    assert rig.slots.limit == 10
    rig.overload.restart(START + 1)
    assert rig.slots.limit == 4


def test_a_time_out_while_others_are_answered_is_only_late() -> None:
    rig = Rig()
    late = ReplyTimeout("late", phase="first byte")
    assert not rig.overload.is_only_late(late, START)
    rig.overload.record(None, START - 1, START)
    assert rig.overload.is_only_late(late, START + 14.9)
    assert not rig.overload.is_only_late(late, START + 15.1)  # half of the first-byte limit
    assert not rig.overload.is_only_late(CutError("cut"), START)
    assert not rig.overload.is_only_late(None, START)


def test_time_outs_lower_what_the_slow_start_allows() -> None:
    rig = Rig(start=4)
    for _ in range(2):
        rig.overload.record(ReplyTimeout("late", phase="first byte"), START, START + 30)
    assert rig.slots.limit == 2
