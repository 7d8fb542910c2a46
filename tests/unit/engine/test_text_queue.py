"""Who shares a batch, when it leaves, and what becomes of each text in it."""

import threading
from collections.abc import Iterator

import pytest
from lanes import Lane, audio_of, eventually

from cosy_sync import errors
from cosy_sync.engine.batch import Batch
from cosy_sync.engine.retrying import BatchRunner
from cosy_sync.engine.tenants import TenantLimit
from cosy_sync.engine.text_future import TextFuture
from cosy_sync.engine.waiters import FutureWaiter
from cosy_sync.errors import ClosedError, DeadlineError, RefusedError
from cosy_sync.events import TextFailed
from cosy_sync.models import Outcome, Utterance
from cosy_sync.testing import FakeClock


class HeldClock(FakeClock):
    """Waiting takes until the event is set."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        assert event.wait(60)
        return True


@pytest.fixture
def lane() -> Iterator[Lane]:
    made = Lane()
    yield made
    made.close()


def data(lane: Lane, text: str) -> bytes:
    audio = lane.outcome(text).audio
    assert audio is not None
    return audio.data


# -- when a batch leaves --------------------------------------------------------------------------


def test_a_text_takes_off_on_its_own_thread_only_when_nothing_is_under_way(lane) -> None:
    complete = lane.busy()
    assert lane.coalescer.try_send_alone(Utterance("b")) is None
    complete()
    pending = lane.coalescer.try_send_alone(Utterance("b"))
    assert pending is not None
    lane.coalescer.finish_alone(pending, lane.deadline(), None)


def test_a_batch_under_way_keeps_others_from_taking_off_until_its_last_text_ended(lane) -> None:
    lane.service.reply.clear()
    lane.ask("a")
    eventually(lambda: lane.service.sent)
    assert lane.coalescer.try_send_alone(Utterance("b")) is None
    lane.service.reply.set()
    lane.outcome("a")
    pending = lane.coalescer.try_send_alone(Utterance("b"))
    assert pending is not None
    lane.coalescer.finish_alone(pending, lane.deadline(), None)


def test_without_coalescing_every_thread_takes_off() -> None:
    lane = Lane(max_texts=1)
    pending_texts = [lane.coalescer.try_send_alone(Utterance(text)) for text in "abc"]
    assert all(pending_texts)
    lane.close()


def test_without_coalescing_texts_in_line_do_not_wait_for_each_other() -> None:
    lane = Lane(max_texts=1)
    lane.service.open.clear()
    lane.ask("a", "b", "c")
    eventually(lambda: len(lane.service.batches) == 3)
    lane.close()
    assert sorted(lane.service.sent) == [["a"], ["b"], ["c"]]


def test_when_idle_nobody_waits_for_company() -> None:
    lane = Lane(clock := FakeClock())
    lane.ask("a")
    lane.outcome("a")
    lane.close()
    assert clock.waits == []


def test_while_busy_a_text_waits_for_its_linger_counted_from_when_it_came() -> None:
    lane = Lane(clock := FakeClock())
    complete = lane.busy()
    lane.ask("a")
    lane.outcome("a")
    complete()
    lane.close()
    assert clock.waits == [pytest.approx(0.005)]


def test_where_nothing_can_leave_anyway_a_text_asks_for_its_turn_at_once() -> None:
    lane = Lane(clock := FakeClock())
    lane.free = False
    complete = lane.busy()
    lane.ask("a")
    lane.outcome("a")
    complete()
    lane.close()
    assert clock.waits == []


def test_a_text_that_stood_in_line_for_its_linger_already_does_not_linger_again() -> None:
    lane = Lane(clock := FakeClock(), max_texts=1 + 1)
    complete = lane.busy()
    lane.service.open.clear()
    lane.ask("a")
    eventually(lambda: lane.service.batches)
    lane.ask("b", "c")  # b goes with a; c has waited longer than its linger by then
    clock.advance(0.006)
    lane.service.open.set()
    lane.outcome("c")
    complete()
    lane.close()
    assert sorted(lane.service.sent) == [["a", "b"], ["c"]]
    assert clock.waits == [pytest.approx(0.005)]


def test_a_full_batch_leaves_before_its_linger_is_over() -> None:
    lane = Lane(clock := HeldClock())
    complete = lane.busy()
    lane.ask("a", "b", "c")
    eventually(lambda: clock.waits)
    assert lane.service.sent == []
    lane.ask("d")
    eventually(lambda: lane.service.sent)
    complete()
    lane.close()
    assert lane.service.sent == [["a", "b", "c", "d"]]


def test_as_many_characters_as_fit_end_the_linger_too() -> None:
    lane = Lane(clock := HeldClock(), max_chars=10)
    complete = lane.busy()
    lane.ask("a" * 9)
    eventually(lambda: clock.waits)
    lane.ask("b")
    eventually(lambda: lane.service.sent)
    complete()
    lane.close()
    assert lane.service.sent == [["a" * 9, "b"]]


def test_who_comes_while_a_batch_waits_for_its_turn_goes_along(lane) -> None:
    lane.service.open.clear()
    lane.ask("a")
    eventually(lambda: lane.service.batches)
    lane.ask("b", "c")
    lane.service.open.set()
    assert [data(lane, text) for text in "abc"] == [b"a", b"b", b"c"]
    assert lane.service.sent == [["a", "b", "c"]]


def test_no_batch_exceeds_its_texts_or_characters_and_the_rest_goes_next() -> None:
    lane = Lane(max_texts=3, max_chars=10)
    lane.service.open.clear()
    texts = ["a", "bb", "ccc", "d", "e" * 9, "ff", "g" * 50, "h"]
    lane.ask("first")
    eventually(lambda: lane.service.batches)
    lane.ask(*texts)
    lane.service.open.set()
    assert [data(lane, text).decode() for text in texts] == texts
    lane.close()
    assert sorted(lane.service.sent) == [
        ["ccc", "d"],
        ["e" * 9],
        ["ff"],
        ["first", "a", "bb"],
        ["g" * 50],
        ["h"],
    ]


def test_a_batch_counts_once_at_its_tenants_gate() -> None:
    gate = TenantLimit(1)
    assert gate.acquire()
    lane = Lane(gate=gate)
    lane.ask("a", "b", "c")
    assert lane.service.batches == []
    gate.release()
    lane.outcome("c")
    lane.close()
    assert lane.service.sent == [["a", "b", "c"]]
    assert gate.acquire()


# -- what becomes of each -------------------------------------------------------------------------


def test_a_text_that_fails_fails_only_its_caller(lane) -> None:
    lane.service.errors["b"] = errors.TextError("no", endpoint="e")
    lane.service.open.clear()
    lane.ask("a")
    eventually(lambda: lane.service.batches)
    lane.ask("b", "c")
    lane.service.open.set()
    assert data(lane, "a") == b"a" and data(lane, "c") == b"c"
    outcome = lane.outcome("b")
    assert isinstance(outcome.error, errors.TextError)
    assert (outcome.index, outcome.error.index) == (0, 0)
    assert outcome.error.text_hash == Utterance("b").hash


def test_each_ones_time_in_the_queue_is_its_own() -> None:
    clock = FakeClock()
    lane = Lane(clock)
    lane.service.open.clear()
    lane.ask("a")
    eventually(lambda: lane.service.batches)
    clock.advance(3.0)
    lane.ask("b")
    lane.service.open.set()
    queued = {text: lane.outcome(text).timing.queued for text in "ab"}
    assert queued["a"] - queued["b"] == pytest.approx(3.0)
    lane.close()


def test_a_batch_has_the_longest_deadline_of_its_texts(lane) -> None:
    lane.service.open.clear()
    lane.ask("a", seconds=5)
    eventually(lambda: lane.service.batches)
    (longest,) = lane.ask("b", seconds=15)
    lane.ask("c", seconds=10)
    lane.service.open.set()
    lane.outcome("c")
    assert lane.service.batches[0].deadline is longest.deadline


def test_who_has_no_time_left_leaves_and_the_others_go_on(lane) -> None:
    lane.service.open.clear()
    lane.ask("a")
    eventually(lambda: lane.service.batches)
    lane.ask("b", seconds=0.05)
    error = lane.outcome("b").error
    assert isinstance(error, DeadlineError)
    assert (error.deadline, error.index) == (0.05, 0)
    assert "waiting for a batch" in str(error)
    assert [type(event) for event in lane.events] == [TextFailed]
    lane.service.open.set()
    assert data(lane, "a") == b"a"
    assert lane.service.sent == [["a"]]


def test_who_leaves_a_batch_under_way_is_told_so_and_the_batch_goes_on(lane) -> None:
    lane.service.open.clear()
    lane.service.reply.clear()
    lane.ask("a")
    eventually(lambda: lane.service.batches)
    lane.ask("b", seconds=0.05)
    lane.service.open.set()
    assert "the service" in str(lane.outcome("b").error)
    lane.service.reply.set()
    assert data(lane, "a") == b"a"
    assert not lane.service.batches[0].stop.is_set()


def test_a_batch_that_everybody_left_is_stopped_and_not_sent(lane) -> None:
    lane.service.open.clear()
    first = lane.waiter("a")
    eventually(lambda: lane.service.batches)
    (behind,) = lane.ask("b")
    assert lane.coalescer.leave(first)
    assert lane.service.batches[0].stop.is_set()
    lane.service.open.set()
    assert data(lane, "b") == b"b"
    assert lane.service.sent == [["b"]]
    assert not lane.coalescer.leave(first) and not lane.coalescer.leave(behind)


def test_a_text_that_its_caller_left_is_not_sent_with_the_others(lane) -> None:
    lane.service.open.clear()
    complete = lane.busy()
    left = lane.waiter("a")
    lane.ask("b")
    eventually(lambda: lane.service.batches)
    also_left = lane.waiter("c")
    lane.ask("d")
    assert lane.coalescer.leave(left) and lane.coalescer.leave(also_left)
    lane.service.open.set()
    assert data(lane, "b") == b"b" and data(lane, "d") == b"d"
    assert lane.service.sent == [["b", "d"]]
    complete()


def test_when_all_left_in_the_last_moment_the_next_ones_still_get_a_worker(lane) -> None:
    lane.service.open.clear()
    left = lane.waiter("a")
    eventually(lambda: lane.service.batches)
    batch = lane.service.batches[0]
    assert lane.coalescer.leave(left)
    batch.stop.clear()  # as if the caller had looked at it before
    lane.service.open.set()
    eventually(lambda: lane.workers.drain(0))
    assert isinstance(batch.outcomes[0].error if batch.outcomes else None, RefusedError | None)
    assert lane.service.sent == []
    pending = lane.coalescer.try_send_alone(Utterance("b"))
    assert pending is not None
    lane.coalescer.finish_alone(pending, lane.deadline(), None)


def test_a_batch_that_nobody_waits_for_is_not_sent_elsewhere_either(lane) -> None:
    lane.service.open.clear()
    left = lane.waiter("a")
    eventually(lambda: lane.service.batches)
    assert lane.coalescer.leave(left)
    with pytest.raises(RefusedError) as caught:
        lane.service.batches[0].seal(lane.service.batches[0].texts)
    assert not caught.value.retryable


def test_a_batch_whose_caller_gave_up_before_it_left_counts_once(lane, monkeypatch) -> None:
    def give_up(batch: Batch) -> None:
        for utterance in batch.texts:
            batch.fail(utterance, DeadlineError("late", deadline=20.0))
        batch.deliver()
        with pytest.raises(RefusedError):  # its attempt had gone on by itself
            batch.seal(batch.texts)

    monkeypatch.setattr(lane.service, "run", give_up)
    lane.ask("a")
    lane.outcome("a")
    assert lane.workers.drain(10)
    monkeypatch.undo()
    pending = lane.coalescer.try_send_alone(Utterance("b"))
    assert pending is not None
    assert lane.coalescer.try_send_alone(Utterance("c")) is None
    lane.coalescer.finish_alone(pending, lane.deadline(), None)


def test_the_last_one_to_leave_stops_the_job(lane) -> None:
    lane.service.reply.clear()
    lane.service.open.clear()
    lane.ask("a", "b", seconds=0.05)
    eventually(lambda: lane.service.batches)
    lane.service.open.set()
    lane.outcome("a")
    lane.outcome("b")
    assert lane.service.batches[0].stop.is_set()


def test_without_a_worker_everybody_in_line_gets_the_reason(lane) -> None:
    lane.workers.close()
    lane.ask("a")
    assert isinstance(lane.outcome("a").error, ClosedError)
    future = lane.promise("b")
    assert isinstance(future.exception(10), ClosedError)


def test_a_refusal_ends_the_batch_and_the_next_one_is_tried(lane) -> None:
    lane.service.refusal = RefusedError("no")
    lane.ask("a")
    assert isinstance(lane.outcome("a").error, RefusedError)
    lane.service.refusal = None
    lane.ask("b")
    assert data(lane, "b") == b"b"


def test_after_the_cut_nothing_is_sent(lane) -> None:
    lane.crew.cut.set()
    lane.ask("a")
    assert isinstance(lane.outcome("a").error, ClosedError)
    assert lane.service.sent == []


def test_what_a_hook_breaks_ends_its_batch_only(lane, monkeypatch) -> None:
    def broken(batch: object, group: object) -> None:
        raise ZeroDivisionError

    runner = object.__new__(BatchRunner)
    monkeypatch.setattr(runner, "_handle", broken)
    monkeypatch.setattr(lane.service, "run", runner.run)
    lane.ask("a")
    assert isinstance(lane.outcome("a").error, errors.UnexpectedError)
    monkeypatch.undo()
    lane.ask("b")
    assert data(lane, "b") == b"b"


def test_ctrl_c_while_joining_leaves_nobody_behind_without_a_worker(lane, monkeypatch) -> None:
    def interrupted() -> None:
        monkeypatch.undo()
        lane.ask("b")  # another thread, meanwhile: it relies on the worker that is being called
        raise KeyboardInterrupt

    complete = lane.busy()
    monkeypatch.setattr(lane.coalescer, "_call_worker", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lane.waiter("a")
    assert data(lane, "b") == b"b"
    complete()


# -- futures --------------------------------------------------------------------------------------


def test_a_future_whose_time_is_up_fails_while_its_batch_goes_on(lane) -> None:
    lane.service.open.clear()
    lane.ask("a")
    eventually(lambda: lane.service.batches)
    patient, hasty = lane.promise("b"), lane.promise("c", seconds=0.05)
    error = hasty.exception(10)
    assert isinstance(error, DeadlineError) and error.deadline == 0.05
    lane.service.open.set()
    assert patient.result(10).data == b"b"
    lane.outcome("a")
    assert lane.service.sent == [["a", "b"]]


def test_of_futures_with_different_deadlines_each_fails_at_its_own(lane) -> None:
    lane.service.open.clear()
    late, early = lane.promise("a", seconds=0.3), lane.promise("b", seconds=0.05)
    assert isinstance(early.exception(10), DeadlineError)
    assert not late.done()
    assert isinstance(late.exception(10), DeadlineError)


def test_a_slow_callback_delays_nobody_else(lane) -> None:
    go, called = threading.Event(), threading.Event()
    lane.service.open.clear()
    slow = lane.promise("a")
    slow.add_done_callback(lambda _: (called.set(), go.wait(20)))
    eventually(lambda: lane.service.batches)
    quick = lane.promise("b")
    lane.service.open.set()
    assert quick.result(10).data == b"b"
    assert called.wait(60)
    go.set()


def test_without_a_worker_the_tenants_place_is_given_back() -> None:
    gate = TenantLimit(1)
    lane = Lane(gate=gate)
    lane.workers.close()
    lane.ask("a")
    assert isinstance(lane.outcome("a").error, ClosedError)
    assert gate.acquire()
    lane.close()


def test_who_is_being_told_just_as_his_time_is_up_takes_what_he_is_told(lane) -> None:
    lane.service.open.clear()
    (waiter,) = lane.ask("a", seconds=0.01)
    assert lane.coalescer.leave(waiter)  # whoever takes a ticket out tells it, if a little late
    told = Outcome(0, "a")
    threading.Timer(0.2, lambda: waiter.tell(told)).start()
    assert lane.outcome("a") is told


def test_a_cancelled_future_that_is_told_all_the_same_stays_cancelled(lane) -> None:
    future = lane.promise("a")
    assert future.result(10).data == b"a"
    promise = FutureWaiter(lane.deadline(), TextFuture(lane.calls))
    assert promise.future.cancel()
    promise.tell(Outcome(0, "a", audio_of("a")))
    assert promise.future.cancelled()


def test_a_callback_is_called_even_when_no_worker_is_left_for_it(lane) -> None:
    called, promise = threading.Event(), FutureWaiter(lane.deadline(), TextFuture(lane.calls))
    promise.future.add_done_callback(lambda _: called.set())
    lane.calls.close()
    promise.tell(Outcome(0, "a", audio_of("a")))
    assert called.is_set()


def test_what_a_text_holds_is_given_back_before_anybody_is_told(lane) -> None:
    seen: list[bool] = []
    promise = FutureWaiter(lane.deadline(), TextFuture(lane.calls))
    promise.release = lambda: seen.append(promise.future.done())
    promise.tell(Outcome(0, "a", audio_of("a")))
    assert seen == [False] and promise.future.done()


def test_only_a_text_that_is_not_sent_yet_can_be_withdrawn(lane) -> None:
    lane.service.open.clear()
    lane.service.reply.clear()
    early, late = lane.waiter("a"), lane.waiter("b")
    assert lane.coalescer.leave(early, unless_sent=True)
    assert not lane.coalescer.leave(early, unless_sent=True)
    lane.service.open.set()
    eventually(lambda: lane.service.sent)
    assert not lane.coalescer.leave(late, unless_sent=True)
    lane.service.reply.set()
    eventually(lambda: late.outcome is not None)
    assert lane.service.sent == [["b"]]


def test_who_leaves_the_line_at_a_tenants_gate_is_told_of_the_gate() -> None:
    gate = TenantLimit(1)
    assert gate.acquire()
    lane = Lane(gate=gate)
    lane.ask("a", seconds=0.05)
    assert "waiting for one of the tenant's 1 places" in str(lane.outcome("a").error)
    gate.release()
    lane.close()
    assert lane.service.sent == []
    assert gate.acquire()
