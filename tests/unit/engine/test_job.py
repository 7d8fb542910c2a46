"""A batch: what counts for its time and what does not, and what ends it early."""

from __future__ import annotations

import math
import threading

import pytest
from lanes import eventually

from cosy_sync.engine.budget import Permits
from cosy_sync.engine.job import Job, Stop
from cosy_sync.errors import ClosedError
from cosy_sync.models import Utterance
from cosy_sync.policies import Deadline


@pytest.fixture
def job() -> Job:
    stop = Stop()
    utterances = [Utterance(0, "好")]
    return Job(utterances, Deadline(100.0, 60.0), interactive=False, tenant="", stop=stop)


def test_waiting_for_a_place_counts_for_the_deadline_of_a_caller_who_waits(job: Job) -> None:
    job.queued(30.0)
    assert job.deadline.at == 160.0


def test_for_bulk_work_it_does_not_count_before_the_first_sending(job: Job) -> None:
    job.queue_deadline = Deadline(0.0, math.inf)
    job.queued(30.0)
    job.queued(10.0)
    assert (job.deadline.at, job.deadline.seconds) == (200.0, 60.0)
    job.depart()
    job.queued(30.0)
    assert job.deadline.at == 200.0


def test_it_never_lasts_longer_than_the_whole_call(job: Job) -> None:
    job.queue_deadline = Deadline(50.0, 120.0, "within")
    job.queued(30.0)
    assert job.deadline.at == 170.0
    assert "within" in str(job.deadline.error("waiting"))


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
