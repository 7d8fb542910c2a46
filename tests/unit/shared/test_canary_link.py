"""A canary's counts and state in Redis, whatever becomes of Redis; the steps are the test's."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterator

import pytest

from cosy_sync import CanaryConfig, SharingConfig, Variant
from cosy_sync.engine.canary_watch import CanaryWatch, parse_state
from cosy_sync.policies.canary import CanaryState
from cosy_sync.shared.canary import CanaryBook, CanaryLink


class Process:
    def __init__(self, url: str) -> None:
        self.watch = CanaryWatch(CanaryConfig(variant=Variant(model="v3", share=0.3)))
        self.book = CanaryBook(SharingConfig(redis_url=url, timeout=0.1))
        self.told: list[bool] = []
        watch = self.watch
        tell = lambda shared, _: self.told.append(shared)  # noqa: E731
        self.link = CanaryLink(self.book, "v3", watch.news, watch.follow, tell)

    def count(self, texts: int) -> None:
        self.watch._evidence.count("stable", "failed", 0, texts)

    def decide(self, state: CanaryState) -> None:
        self.watch._set(state, decided=True)


@pytest.fixture
def pair(redis_server) -> Iterator[tuple[Process, Process]]:
    both = Process(redis_server.url), Process(redis_server.url)
    yield both
    for each in both:
        each.book.close()


def test_what_is_told_twice_as_its_answer_was_lost_is_counted_once(redis_server, pair) -> None:
    one, other = pair
    one.count(5)
    one.link._step()
    one.count(7)
    redis_server._process.send_signal(signal.SIGSTOP)
    one.link._step()
    one.count(2)
    redis_server._process.send_signal(signal.SIGCONT)
    other.link._step()
    assert one.told == [False]
    for _ in range(2):
        one.link._step()
    other.link._step()
    assert one.told == [False, True]
    assert one.watch._evidence.counts == other.watch._evidence.counts
    assert one.watch._evidence.counts["stable.failed.of"] == 14


@pytest.mark.parametrize(
    "state",
    [
        CanaryState().rolled_back("failures"),
        CanaryState().promoted(0.5),
        CanaryState().promoted(0.5).promoted(1.0),
    ],
)
def test_what_was_decided_is_told_again_to_a_redis_that_lost_it(redis_server, pair, state) -> None:
    one, other = pair
    one.watch._set(dataclasses.replace(state, epoch=state.epoch - 1), decided=False)
    one.link._step()
    one.decide(state)
    one.link._step(), other.link._step()
    redis_server.client().flushall()
    for each in (other, one, other):
        each.link._step()
    assert one.watch.state == other.watch.state == parse_state(one.book.read("v3")[0]) == state


def test_nobody_who_decided_alone_takes_a_roll_back_back(pair) -> None:
    one, other = pair
    one.link._step(), other.link._step()
    one.decide(CanaryState().rolled_back("failures"))
    other.decide(CanaryState().promoted(0.5).promoted(1.0))
    for each in (one, other, one):
        each.link._step()
    assert (one.watch.state.state, other.watch.state.state) == ("rolled back", "rolled back")


def test_an_operators_roll_back_holds_though_redis_had_lost_what_was_before(
    redis_server, pair
) -> None:
    one, _ = pair
    one.link._step()
    one.decide(CanaryState(epoch=2).promoted(0.5))
    one.link._step()
    redis_server.client().flushall()
    one.book.decide("v3", "rolled back", 0.0, "by hand")
    one.link._step()
    assert one.watch.state.state == "rolled back" and one.watch.state.reason == "by hand"
