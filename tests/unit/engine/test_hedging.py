"""Late calls go to a second endpoint too, when the budget pays; the first good answer counts."""

import threading
import types
from collections.abc import Iterator

import pytest
from lanes import audio_of, eventually
from naming import Names

from cosy_sync import ClientConfig, Endpoint, HedgeConfig, errors
from cosy_sync.clock import SystemClock
from cosy_sync.endpoints.pool import EndpointPool
from cosy_sync.engine.batch import Batch
from cosy_sync.engine.hedging import Hedging, _News, _Race
from cosy_sync.engine.reorder import Unbounded
from cosy_sync.events import HedgeFinished
from cosy_sync.models import Utterance
from cosy_sync.policies import Deadline, HedgePolicy
from cosy_sync.threads.lifo_pool import LifoThreadPool

GOOD, BAD = audio_of("good"), errors.BadAudioError("silent")


class Attempts:
    """Answers as planned for each host, once that host is let go."""

    def __init__(self, plan: dict) -> None:
        self.clock, self.wires, self.events = SystemClock(), {}, []
        self.observer = types.SimpleNamespace(on_event=self.events.append)
        self.plan = plan
        self.go = {host: threading.Event() for host in plan}
        self.calls: list[tuple[str, list[str]]] = []
        self.ended: list[str] = []

    def attempt(self, batch, texts, endpoint, number):
        host = endpoint.label.split("/")[2]
        texts = batch.seal(texts)
        self.calls.append((host, [utterance.text for utterance in texts]))
        assert self.go[host].wait(60)
        self.ended.append(host)
        answer = self.plan[host]
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Purse:
    def __init__(self, texts: int) -> None:
        self.texts = texts

    def withdraw(self, texts: int, now: float, *, hedge: bool) -> bool:
        assert hedge
        if texts > self.texts:
            return False
        self.texts -= texts
        return True


class Stand:
    """A hedger over two planned endpoints; calls are late after `late` seconds a character."""

    def __init__(self, *, texts: int = 1, late: float = 0.0, paid: int = 10, **plan) -> None:
        self.attempts = Attempts({"a": [GOOD] * texts, "b": [GOOD] * texts, **plan})
        endpoints = [Endpoint(f"http://{host}/") for host in self.attempts.plan]
        endpoints = EndpointPool(
            endpoints, ClientConfig(), Names(), self.attempts.observer, SystemClock()
        )
        self.endpoints = endpoints.endpoints
        self.policy = HedgePolicy(HedgeConfig(enabled=True, min_samples=1))
        self.policy.note(late or 1e-9, 1, SystemClock.now())
        self.purse, self.workers = Purse(paid), LifoThreadPool(8)
        self.hedger = Hedging(
            attempter=self.attempts,  # type: ignore[arg-type]
            endpoints=endpoints,
            policy=self.policy,
            budget=self.purse,
            workers=self.workers,
        )
        self.batch = self.make_job(texts)

    def make_job(self, texts: int, seconds: float = 15.0, **settings) -> Batch:
        return Batch(
            [Utterance(f"text {index}", index=index) for index in range(texts)],
            Deadline(SystemClock.now(), seconds),
            **{"interactive": True, "tenant": "", "stop": threading.Event(), **settings},
        )

    def attempt(self, batch: Batch | None = None):
        batch = batch or self.batch
        return self.hedger.attempt(batch, batch.texts, self.endpoints[0], 1)

    def let_go(self, *hosts: str) -> None:
        """Let hosts answer one after the other, each once it has its call."""

        def go() -> None:
            for count, host in enumerate(hosts):
                eventually(lambda host=host: host in [each for each, _ in self.attempts.calls])
                self.attempts.go[host].set()
                eventually(lambda count=count: len(self.attempts.ended) > count)

        self.thread = threading.Thread(target=go)
        self.thread.start()

    def close(self) -> None:
        for event in self.attempts.go.values():
            event.set()
        assert self.workers.drain(20)
        self.workers.close()


@pytest.fixture
def made() -> Iterator[list[Stand]]:
    stands: list[Stand] = []
    yield stands
    for stand in stands:
        stand.close()


@pytest.fixture
def stand(made):
    def make(**settings) -> Stand:
        made.append(Stand(**settings))
        return made[-1]

    return make


def hosts(stand: Stand) -> list[str]:
    return [host for host, _ in stand.attempts.calls]


def test_a_late_call_goes_to_the_other_endpoint_and_its_answer_counts(stand) -> None:
    it = stand(texts=2, b=[GOOD, audio_of("other")])
    it.let_go("b")
    assert it.attempt() == [GOOD, audio_of("other")]
    assert it.attempts.calls == [("a", ["text 0", "text 1"]), ("b", ["text 0", "text 1"])]
    assert it.attempts.events == [HedgeFinished("http://b/", 2, True)]
    assert it.purse.texts == 8
    assert it.attempts.ended == ["b"]  # nobody waits for the loser


def test_the_first_one_wins_when_it_answers_first_all_the_same(stand) -> None:
    it = stand(a=[audio_of("first")])
    thread = threading.Thread(
        target=lambda: (eventually(lambda: len(hosts(it)) == 2), it.attempts.go["a"].set())
    )
    thread.start()
    assert it.attempt() == [audio_of("first")]
    thread.join(20)
    assert it.attempts.events == [HedgeFinished("http://b/", 1, False)]


def test_a_call_in_time_is_not_hedged(stand) -> None:
    it = stand(late=100.0)
    it.let_go("a")
    assert it.attempt() == [GOOD]
    assert hosts(it) == ["a"] and it.attempts.events == []


@pytest.mark.parametrize(("paid", "sent"), [(2, ["a"]), (3, ["a", "b"])])
def test_each_text_is_paid_for_or_nothing_is_sent(stand, paid, sent) -> None:
    it = stand(texts=3, paid=paid)
    it.let_go(sent[-1])
    it.attempt()
    assert hosts(it) == sent


def test_bulk_work_is_not_hedged(stand) -> None:
    it = stand()
    it.attempts.go["a"].set()
    assert it.attempt(it.make_job(1, interactive=False)) == [GOOD]
    assert it.attempt(it.make_job(1, reorder=Unbounded())) == [GOOD]
    assert hosts(it) == ["a", "a"]


def test_without_a_budget_nothing_is_hedged(stand) -> None:
    it = stand()
    object.__setattr__(it.hedger, "budget", None)
    it.attempts.go["a"].set()
    assert it.attempt() == [GOOD]
    assert hosts(it) == ["a"]


def test_before_enough_calls_are_known_nothing_is_hedged_but_calls_are_counted(stand) -> None:
    it = stand()
    object.__setattr__(it.hedger, "policy", HedgePolicy(HedgeConfig(min_samples=2)))
    it.attempts.go["a"].set()
    assert it.attempt() == [GOOD] and it.attempt() == [GOOD]
    assert it.hedger.policy.delay(6, SystemClock.now()) == pytest.approx(0.2)


def test_never_to_the_same_endpoint_nor_to_one_that_is_paused(stand) -> None:
    it = stand()
    it.endpoints[1].limiter.pause(SystemClock.now() + 60)
    thread = threading.Timer(0.2, it.attempts.go["a"].set)
    thread.start()
    assert it.attempt() == [GOOD]
    thread.join()
    assert hosts(it) == ["a"] and it.purse.texts == 10


def test_a_failure_before_it_was_late_is_raised_at_once(stand) -> None:
    it = stand(late=100.0, a=errors.UnavailableError("down"))
    it.let_go("a")
    with pytest.raises(errors.UnavailableError):
        it.attempt()
    assert hosts(it) == ["a"]


def test_a_failure_waits_for_the_second_answer(stand) -> None:
    it = stand(a=errors.UnavailableError("down"))
    thread = threading.Thread(target=lambda: eventually(lambda: len(hosts(it)) == 2))
    thread.start()
    it.let_go("b")
    it.attempts.go["a"].clear()
    assert it.attempt() == [GOOD]
    thread.join(20)


def test_where_both_fail_it_is_the_first_ones_error(stand) -> None:
    it = stand(a=errors.UnavailableError("down"), b=errors.ThrottledError("busy"))
    it.let_go("b", "a")
    with pytest.raises(errors.UnavailableError):
        it.attempt()
    assert it.attempts.events == [HedgeFinished("http://b/", 1, False)]


def test_bad_audio_does_not_win_and_each_text_takes_the_better_answer(stand) -> None:
    it = stand(texts=3, a=[GOOD, BAD, BAD], b=[BAD, GOOD, errors.TextError("no")])
    it.let_go("b", "a")
    assert it.attempt() == [GOOD, GOOD, BAD]


def test_bad_audio_of_the_first_is_replaced_by_a_good_second(stand) -> None:
    it = stand(a=[BAD])
    thread = threading.Thread(
        target=lambda: (
            eventually(lambda: len(hosts(it)) == 2),
            it.attempts.go["a"].set(),
            eventually(lambda: it.attempts.ended == ["a"]),
            it.attempts.go["b"].set(),
        )
    )
    thread.start()
    assert it.attempt() == [GOOD]
    thread.join(20)


def test_an_answer_of_the_second_stands_in_for_the_firsts_failure(stand) -> None:
    it = stand(a=errors.CutError("cut"), b=[BAD])
    it.let_go("b", "a")
    assert it.attempt() == [BAD]


def test_the_batch_is_hedged_as_it_was_when_it_left(stand) -> None:
    it = stand()
    texts = [Utterance("a")]
    batch = it.make_job(1)
    batch.texts = texts
    deadline = Deadline(SystemClock.now(), 18.0)

    class Late(Batch):
        __slots__ = ()

        def seal(self, texts):
            self.deadline = deadline
            return (*texts, Utterance("b", index=1))

    late = Late(texts, batch.deadline, interactive=True, tenant="", stop=batch.stop)
    it.let_go("b")
    it.hedger.attempt(late, texts, it.endpoints[0], 1)
    assert [sent for _, sent in it.attempts.calls] == [["a", "b"]] * 2
    assert it.purse.texts == 8


def test_it_never_waits_beyond_the_deadline(stand) -> None:
    it = stand(paid=0)
    with pytest.raises(errors.DeadlineError, match=r"0\.1 s"):
        it.attempt(it.make_job(1, seconds=0.1))


def test_a_call_whose_reply_is_being_checked_is_not_late(stand) -> None:
    made = stand()
    race = _Race(batch=made.batch, texts=made.batch.texts, number=1, first=made.endpoints[0])
    race.mail.put(_News())  # sent; late from now on
    race.hedged.arrived = True
    answer = threading.Timer(0.05, race.mail.put, [_News(made.endpoints[0], [GOOD])])
    answer.start()
    made.hedger._watch(race)
    answer.join()
    assert race.second is None and made.purse.texts == 10
