"""Identical texts are sent once; everybody gets the audio, a timing and an error of his own."""

import dataclasses
import threading
from collections.abc import Iterator

import pytest
from lanes import Lane, audio_of, eventually

from cosy_sync import errors
from cosy_sync.engine.waiters import BlockingWaiter, share
from cosy_sync.events import TextFailed, TextsShared
from cosy_sync.models import Outcome, Utterance, Word
from cosy_sync.policies import Deadline


@pytest.fixture
def lane() -> Iterator[Lane]:
    made = Lane()
    yield made
    made.close()


def outcomes(lane: Lane, text: str, count: int) -> list[Outcome]:
    eventually(lambda: len(lane.outcomes.get(text, [])) == count)
    return lane.outcomes[text]


def test_the_same_text_is_sent_once_and_everybody_is_told(lane) -> None:
    lane.service.reply.clear()
    lane.ask("a")
    eventually(lambda: lane.service.sent)  # under way
    lane.ask("a", "a")
    lane.service.reply.set()
    assert [o.audio.data for o in outcomes(lane, "a", 3)] == [b"a"] * 3
    assert lane.service.sent == [["a"]]
    assert lane.events == [TextsShared(1, 1)] * 2


def test_who_joins_gets_the_words_and_their_times_too() -> None:
    words = (Word("a", 0.0, 0.1),)
    audio = dataclasses.replace(audio_of("a"), words=words)
    own = share(Outcome(0, "a", audio), BlockingWaiter(Deadline(0.1, 5.0))).audio
    assert own.words == words and own.timing.total == pytest.approx(0.1)


def test_it_is_sent_again_once_the_first_has_ended(lane) -> None:
    lane.ask("a")
    outcomes(lane, "a", 1)
    lane.ask("a")
    outcomes(lane, "a", 2)
    assert lane.service.sent == [["a"], ["a"]]


def test_it_can_be_switched_off() -> None:
    lane = Lane(single_flight=False)
    lane.service.open.clear()
    lane.ask("a", "a")
    eventually(lambda: lane.service.batches)
    lane.service.open.set()
    outcomes(lane, "a", 2)
    lane.close()
    assert sum(map(len, lane.service.sent)) == 2
    assert lane.coalescer.try_send_alone(Utterance("a")) is not None


def test_a_text_that_a_thread_sends_itself_is_joined(lane) -> None:
    pending = lane.coalescer.try_send_alone(Utterance("a"))
    lane.ask("a")
    future = lane.promise("a")
    lane.coalescer.finish_alone(pending, lane.deadline(), Outcome(0, "a", audio_of("a")))
    assert outcomes(lane, "a", 1)[0].audio.data == b"a"
    assert future.result(10).data == b"a"
    assert lane.service.sent == []
    assert lane.events == [TextsShared(1, 1)] * 2


def test_the_same_text_does_not_take_off_twice_even_without_coalescing() -> None:
    lane = Lane(max_texts=1)
    pending = lane.coalescer.try_send_alone(Utterance("a"))
    assert lane.coalescer.try_send_alone(Utterance("a")) is None
    lane.coalescer.finish_alone(pending, lane.deadline(), None)
    assert lane.coalescer.try_send_alone(Utterance("a")) is not None
    lane.close()


def test_a_follower_gets_the_leaders_failure_as_an_error_of_its_own(lane) -> None:
    pending = lane.coalescer.try_send_alone(Utterance("a"))
    lane.ask("a", "a")
    error = errors.AuthError("no", endpoint="e", attempts=(errors.CutError("cut"),))
    lane.coalescer.finish_alone(pending, lane.deadline(), Outcome(0, "a", None, error))
    one, other = (outcome.error for outcome in outcomes(lane, "a", 2))
    assert type(one) is type(other) is errors.AuthError
    assert one is not other and one is not error
    assert one.endpoint == "e" and len(one.attempts) == 1
    assert [type(event) for event in lane.events] == [TextFailed] * 2
    assert lane.service.sent == []


@pytest.mark.parametrize(
    "error", [errors.DeadlineError("late", deadline=1.0), errors.RateLimitedError("booked out")]
)
def test_when_only_the_leaders_time_is_up_the_followers_text_is_sent(lane, error) -> None:
    pending = lane.coalescer.try_send_alone(Utterance("a"))
    lane.ask("a")
    hasty = Deadline(lane.crew.clock.now() - 2.0, 1.0)
    lane.coalescer.finish_alone(pending, hasty, Outcome(0, "a", None, error))
    assert outcomes(lane, "a", 1)[0].audio.data == b"a"
    assert lane.service.sent == [["a"]]


def test_when_the_followers_time_is_up_too_it_gets_a_deadline_error_with_its_own_number(
    lane,
) -> None:
    pending = lane.coalescer.try_send_alone(Utterance("a"))
    lane.ask("a", seconds=15)
    patient = Deadline(lane.crew.clock.now(), 60.0)
    error = errors.DeadlineError("late", deadline=60.0, phase="reply", endpoint="e")
    lane.coalescer.finish_alone(pending, patient, Outcome(0, "a", None, error))
    told = outcomes(lane, "a", 1)[0].error
    assert (told.deadline, told.phase, told.endpoint) == (15, "reply", "e")
    assert "15 s" in str(told)
    assert lane.service.sent == []


def test_when_the_leading_thread_is_killed_a_worker_sends_the_followers_text(lane) -> None:
    pending = lane.coalescer.try_send_alone(Utterance("a"))
    lane.ask("a", seconds=5)
    lane.coalescer.finish_alone(pending, lane.deadline(20), None)
    assert outcomes(lane, "a", 1)[0].audio.data == b"a"


def test_when_a_leader_in_line_leaves_its_follower_still_gets_the_audio(lane) -> None:
    lane.service.open.clear()
    leader = lane.waiter("a")
    lane.ask("a")
    eventually(lambda: lane.service.batches)
    assert lane.coalescer.leave(leader)
    lane.service.open.set()
    assert outcomes(lane, "a", 1)[0].audio.data == b"a"


def test_a_flight_that_everybody_left_is_not_joined(lane) -> None:
    lane.service.reply.clear()
    waiter = lane.waiter("a")
    eventually(lambda: lane.service.sent)
    assert lane.coalescer.leave(waiter)
    lane.ask("a")
    lane.service.reply.set()
    outcomes(lane, "a", 1)
    assert lane.service.sent == [["a"], ["a"]]


def test_who_joins_late_waited_only_for_the_rest() -> None:
    audio = audio_of("a", queued=2.0, started=100.0)  # 0.01 connect, 0.1 first byte, 0.2 in all
    own = share(Outcome(3, "a", audio), BlockingWaiter(Deadline(100.05, 9))).timing
    assert (own.started, own.queued, own.connect) == (100.05, 0.0, 0.0)
    assert own.first_byte == pytest.approx(0.05) and own.total == pytest.approx(0.15)
    early = share(Outcome(3, "a", audio), BlockingWaiter(Deadline(99.5, 9))).timing
    assert (early.started, early.queued, early.connect) == (100.0, 0.5, 0.01)
    assert (early.first_byte, early.total) == (0.1, 0.2)


def test_whoever_came_first_gets_the_very_audio_at_index_0() -> None:
    audio = audio_of("a", queued=2.0, started=100.0)
    outcome = share(Outcome(3, "a", audio), BlockingWaiter(Deadline(98.0, 9)))
    assert outcome.audio is audio and outcome.index == 0


def test_audio_without_timing_is_shared_as_it_is() -> None:
    audio = audio_of("a")
    bare = type(audio)(audio.data, "pcm", 24_000)
    assert share(Outcome(0, "a", bare), BlockingWaiter(Deadline(5.0, 9))).audio is bare


def test_many_threads_with_few_texts_send_each_of_them_seldom(lane) -> None:
    start, texts = threading.Barrier(40), [f"text {number}" for number in range(4)]
    lane.service.reply.clear()
    pending = lane.coalescer.try_send_alone(Utterance("x"))

    def ask(number: int) -> None:
        start.wait(10)
        lane.ask(texts[number % 4])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    lane.service.reply.set()
    for text in texts:
        assert {o.audio.data for o in outcomes(lane, text, 10)} == {text.encode()}
    assert sorted(text for batch in lane.service.sent for text in batch) == texts
    lane.coalescer.finish_alone(pending, lane.deadline(), Outcome(0, "x", audio_of("x")))


def test_a_follower_with_more_time_than_the_batch_is_sent_again(lane) -> None:
    late = errors.DeadlineError("late", deadline=5.0, phase="reply")
    lane.service.errors["a"] = late
    lane.service.reply.clear()
    lane.ask("a", seconds=5)
    eventually(lambda: lane.service.sent)
    future = lane.promise("a", seconds=15)
    lane.service.errors = OnlyOnce(a=late)
    lane.service.reply.set()
    assert isinstance(outcomes(lane, "a", 1)[0].error, errors.DeadlineError)
    assert future.result(10).data == b"a"
    assert lane.service.sent == [["a"], ["a"]]


class OnlyOnce(dict):
    """Gives each value once."""

    def get(self, key: object, default: object = None) -> object:
        return self.pop(key, default)
