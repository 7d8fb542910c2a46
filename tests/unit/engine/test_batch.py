"""A batch: what counts for its time and what does not, and what ends it early."""

from __future__ import annotations

import math
import threading

import pytest
from lanes import eventually

from cosy_sync.engine.batch import ANY_TIME, Batch, HeldBack
from cosy_sync.errors import (
    BadAudioError,
    BadRequestError,
    ClosedError,
    ConnectError,
    ServerError,
    TextError,
    server_error,
)
from cosy_sync.models import Utterance
from cosy_sync.policies import Deadline, Unanimity
from cosy_sync.threads.permits import Permits
from cosy_sync.threads.stop import Stop


@pytest.fixture
def batch() -> Batch:
    stop = Stop()
    utterances = [Utterance("好")]
    return Batch(utterances, Deadline(100.0, 60.0), interactive=False, tenant="", stop=stop)


def test_waiting_for_a_place_counts_for_the_deadline_of_a_caller_who_waits(batch: Batch) -> None:
    batch.queued(30.0)
    assert batch.deadline.at == 160.0


def test_for_bulk_work_it_does_not_count_before_the_first_sending(batch: Batch) -> None:
    batch.queue_deadline = Deadline(0.0, math.inf)
    batch.queued(30.0)
    batch.queued(10.0)
    assert (batch.deadline.at, batch.deadline.seconds) == (200.0, 60.0)
    batch.seal(batch.texts)
    batch.queued(30.0)
    assert batch.deadline.at == 200.0


def test_it_never_lasts_longer_than_the_whole_call(batch: Batch) -> None:
    batch.queue_deadline = Deadline(50.0, 120.0, "within")
    batch.queued(30.0)
    assert batch.deadline.at == 170.0
    assert "within" in str(batch.deadline.error("waiting"))


def test_a_text_of_a_silent_service_shares_the_time_of_its_calls_earlier_texts(
    batch: Batch,
) -> None:
    batch.queue_deadline = ANY_TIME
    batch.begin(Deadline(150.0, 60.0), 150.0, call_began=100.0, silent=90.0)
    assert batch.deadline.at == 160.0 and batch.accepted_at == 150.0
    batch.begin(Deadline(150.0, 60.0), 150.0, call_began=100.0, silent=140.0)
    assert batch.deadline.at == 210.0


def test_it_waits_unsent_for_a_silent_service_for_one_deadline(batch: Batch) -> None:
    batch.queue_deadline = ANY_TIME
    batch.begin(Deadline(100.0, 60.0), 100.0, call_began=100.0, silent=math.inf)
    assert batch.patience(math.inf, 150.0) == math.inf
    assert batch.patience(90.0, 150.0) == 10.0
    assert batch.patience(145.0, 150.0) == 55.0
    assert batch.patience(90.0, 170.0) == 0.0
    batch.seal(batch.texts)
    assert batch.patience(90.0, 170.0) == math.inf


def test_a_call_that_is_given_up_keeps_what_each_text_failed_with(batch: Batch) -> None:
    refused = ConnectError("cannot connect")
    batch.note(batch.texts[0], refused)
    [outcome] = batch.given_up(Deadline(0.0, 5.0, "within").error("speaking"))
    assert outcome.error is not None and outcome.error.__cause__ is refused
    assert outcome.error.message.endswith("speaking; before that: cannot connect")


# -- a call that was refused ----------------------------------------------------------------------


def batch_of(record: Unanimity, texts: int) -> Batch:
    utterances = [Utterance("好", index=number) for number in range(texts)]
    batch = Batch(utterances, Deadline(100.0, 60.0), interactive=False, tenant="", stop=Stop())
    batch.record = record
    return batch


def test_a_batch_that_has_its_place_is_held_back_when_its_call_was_refused_meanwhile() -> None:
    record = Unanimity()
    refused, waiting = batch_of(record, 2), batch_of(record, 2)
    refused.seal(refused.texts)
    refused.refused([BadRequestError("no", status=400)])
    with pytest.raises(HeldBack):
        waiting.seal(waiting.texts)
    waiting.number = record.begin_in_doubt()  # it was its turn
    waiting.seal(waiting.texts)
    assert waiting.number == 2


def test_a_single_text_goes_in_doubt_where_nothing_else_is_in_flight() -> None:
    record = Unanimity()
    refused, alone, other = batch_of(record, 1), batch_of(record, 1), batch_of(record, 1)
    refused.seal(refused.texts)
    refused.refused([server_error(403, "no")])
    with pytest.raises(HeldBack):
        alone.seal(alone.texts)
    refused.settle()
    alone.seal(alone.texts)
    with pytest.raises(HeldBack):
        other.seal(other.texts)


@pytest.mark.parametrize(
    ("errors", "doubts"),
    [
        ([server_error(503, "no")], False),
        ([server_error(400, "no")], True),
        ([TextError("no 1", blames="voice"), TextError("no 2", blames="voice")], True),
        ([TextError("no", blames="voice"), TextError("nothing", blames="voice")], False),
        ([TextError("cannot be empty", blames="text")] * 2, False),
        ([TextError("speed cannot exceed 4", blames="text")] * 2, True),
        ([ServerError("oom", blames="service")] * 2, False),
        ([BadAudioError("mu-law", retryable=False)], True),
        ([BadAudioError("silence")], False),
    ],
)
def test_only_what_others_may_meet_as_well_holds_them_back(
    errors: list[ServerError | BadAudioError], doubts: bool
) -> None:
    record = Unanimity()
    batch = batch_of(record, 2)
    batch.seal(batch.texts)
    batch.refused(errors)
    assert record.in_doubt == doubts


def test_a_job_that_breaks_leaves_nothing_in_flight() -> None:
    record = Unanimity()
    batch = batch_of(record, 2)
    batch.seal(batch.texts)
    batch.end(RuntimeError("a bug"))
    record.doubt(alone=True)
    assert record.begin_in_doubt()


# -- what is cut off ------------------------------------------------------------------------------


def test_a_cut_ends_what_is_held_and_sets_the_stop() -> None:
    stop, ended = Stop(), []
    cuts = [lambda number=number: ended.append(number) for number in range(3)]
    for cut in cuts:
        stop.hold(cut)
    assert stop.let_go(cuts[1])
    stop.cut()
    assert sorted(ended) == [0, 2] and stop.is_set()
    assert not stop.let_go(cuts[0])  # its connection is of no use to anybody else


def test_what_begins_after_the_cut_is_refused() -> None:
    stop, ended = Stop(), []
    stop.cut()
    with pytest.raises(ClosedError):
        stop.hold(lambda: ended.append(1))
    assert ended == [] and stop.was_cut


def test_a_stop_alone_cuts_nothing_off() -> None:
    stop, ended = Stop(), []
    stop.hold(lambda: ended.append(1))
    stop.set()
    assert ended == [] and not stop.was_cut


def test_a_stop_ends_a_wait_for_permits_which_lose_none() -> None:
    permits, stop, taken = Permits(1), Stop(), []
    assert permits.acquire()
    waiting = threading.Thread(target=lambda: taken.append(permits.acquire(seconds=20, stop=stop)))
    waiting.start()
    eventually(lambda: permits.wanted == 2)
    stop.set()
    waiting.join(20)
    assert taken == [False] and permits.wanted == 1
    permits.release()
    assert permits.acquire() and stop._attached == set()


def test_a_stop_just_after_the_hand_over_takes_nothing_back() -> None:
    permits, stop, taken = Permits(1), Stop(), []
    assert permits.acquire()

    class Slow(Stop):
        def attach(self, event: threading.Event) -> None:
            permits.release()  # it is handed over before the wait begins
            super().attach(event)

    slow = Slow()
    slow.set()
    taken.append(permits.acquire(seconds=20, stop=slow))
    assert taken == [True] and permits.used == 1 and not stop.is_set()
