"""A batch's time: what counts for its deadline, and what does not."""

from __future__ import annotations

import math

import pytest

from cosy_sync.engine.job import Job, Stop
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
