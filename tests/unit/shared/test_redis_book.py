"""The script that books turns, on a real server."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from cosy_sync.config import SharingConfig
from cosy_sync.shared import RedisBook
from cosy_sync.shared.redis_book import _SCRIPT, HORIZON, Answer, Ask

Make = Callable[..., RedisBook]
NAME = "http://tts.test/batch"
STATE, LOG, CLIENTS = (f"cosy_sync:{{{NAME}}}:{part}" for part in ("state", "log", "clients"))


@pytest.fixture
def make(redis_server) -> Iterator[Make]:
    made: list[RedisBook] = []

    def build(rate: float = 100.0, name: str = NAME, prefix: str = "cosy_sync") -> RedisBook:
        sharing = SharingConfig(redis_url=redis_server.url, prefix=prefix, timeout=5.0)
        made.append(RedisBook(sharing, name, rate))
        return made[-1]

    yield build
    for book in made:
        book.close()


def ask(
    book: RedisBook,
    want: int = 0,
    pause: float = 0.0,
    away: bool = False,
    sent=(),
) -> Answer:
    return book.ask(Ask(want, pause, away, list(sent)))


def since(begun: float) -> float:
    """Return the seconds that passed: Redis counts them too, many on a busy machine."""
    return time.monotonic() - begun


def test_the_first_turns_are_a_burst_and_the_rest_is_spaced_up_to_the_horizon(make) -> None:
    answer = ask(make(), want=100)
    instants = [at for _, at in answer.turns]
    assert instants[:5] == [0.0] * 5
    gaps = [b - a for a, b in pairwise(instants[4:])]
    assert gaps == pytest.approx([1.015 / 100] * len(gaps), abs=2e-6)
    assert instants[-1] <= HORIZON < answer.free == pytest.approx(instants[-1] + 1.015 / 100)
    assert [number for number, _ in answer.turns] == list(range(1, len(instants) + 1))


@pytest.mark.parametrize(("rate", "burst"), [(39.0, 1), (40.0, 2), (59.0, 2), (60.0, 3)])
def test_5_percent_of_the_rate_are_burst(make, rate, burst) -> None:
    instants = [at for _, at in ask(make(rate=rate), want=burst + 1).turns]
    assert instants == pytest.approx([0.0] * burst + [1.015 / rate], abs=2e-6)


@pytest.mark.parametrize(("rate", "free"), [(1.0, 1.015), (1.5, 1.348333 / 2), (2.5, 1.215 / 3)])
def test_a_fraction_of_the_rate_counts_in_a_longer_stretch(make, rate, free) -> None:
    answer = ask(make(rate=rate), want=2)
    assert [at for _, at in answer.turns] == [0.0]
    assert answer.free == pytest.approx(free, abs=1e-5)


def test_as_many_turns_are_booked_as_are_wanted(make) -> None:
    book = make()
    assert len(ask(book, want=3).turns) == 3
    assert ask(book).turns == []
    assert [number for number, _ in ask(book, want=2).turns] == [4, 5]


def test_clients_with_one_name_share_their_turns_and_others_do_not(make) -> None:
    last = ask(make(), want=100).turns[-1][1]
    # Only what became free since.
    assert all(wait > last - 0.1 for _, wait in ask(make(), want=5).turns)
    assert len(ask(make(name="http://other.test/batch"), want=5).turns) == 5
    assert len(ask(make(prefix="other"), want=5).turns) == 5


def test_a_log_of_the_last_turns_keeps_the_next_away(make, redis_server) -> None:
    book, redis, begun = make(rate=10.0), redis_server.client(), time.monotonic()
    told = ask(book, sent=[(0, 0.05)] * 9)  # nine left lately, told by those who were away
    assert told.turns == [] and redis.llen(LOG) == 9
    assert len(ask(book, want=1).turns) == 1
    answer = ask(book, want=1)  # the tenth fills the second
    assert answer.turns == []
    assert 0.95 - since(begun) < answer.free <= 1.015 - 0.05


def test_what_left_late_keeps_those_away_who_come_a_second_later(make, redis_server) -> None:
    book, redis, begun = make(rate=2.0), redis_server.client(), time.monotonic()
    numbers = [number for number, _ in ask(book, want=1).turns]
    (booked,) = map(int, redis.lrange(LOG, 0, -1))
    ask(book, sent=[(numbers[0], 0.0)])
    (left,) = map(int, redis.lrange(LOG, 0, -1))
    assert numbers == [1] and left > booked
    ask(book, sent=[(0, 0.0), (0, 0.0)])  # so that the first is out of the log
    ask(book, sent=[(1, -0.5)])
    assert float(redis.hget(STATE, "left")) > left
    assert ask(book, want=1).free > 1.4 - since(begun)


def test_who_left_out_of_order_counts_after_it_is_out_of_the_log(make) -> None:
    book, begun = make(rate=2.0), time.monotonic()
    ask(book, sent=[(0, 0.0), (0, 0.3)])  # the first one left last
    ask(book, sent=[(0, 0.2)])  # and is pushed out
    assert 1.0 - since(begun) < ask(book, want=1).free <= 1.015


def test_numbers_of_another_life_are_noted_as_new(make, redis_server) -> None:
    ask(make(), sent=[(77, 0.01)])
    assert redis_server.client().llen(LOG) == 1


def test_a_shorter_log_keeps_the_latest(make, redis_server) -> None:
    begun = time.monotonic()
    ask(make(rate=100.0), sent=[(0, 0.5), (0, 0.1), (0, 0.3)])
    ask(make(rate=1.0))
    ask(make(rate=1.0), sent=[(0, 0.2)])
    assert redis_server.client().llen(LOG) == 1
    assert 0.9 - since(begun) < ask(make(rate=1.0), want=1).free <= 1.015 - 0.1


def test_a_pause_holds_for_all_and_the_longest_counts(make) -> None:
    assert ask(make(), pause=5.0).pause == pytest.approx(5.0)
    ask(make(), pause=1.0)
    answer = ask(make(), want=1)
    assert answer.turns == []
    assert 3.0 < answer.pause <= 5.0
    assert answer.free == pytest.approx(answer.pause)


def test_clients_are_counted_while_they_are_heard_of(make, redis_server) -> None:
    first, second, redis = make(), make(), redis_server.client()
    assert [ask(first).clients, ask(second).clients, ask(first).clients] == [1, 2, 2]
    for name in redis.zrange(CLIENTS, 0, -1):
        redis.zincrby(CLIENTS, -4_000_000, name)
    assert ask(second).clients == 1


def test_those_who_were_away_return_together(make) -> None:
    assert ask(make()).back == 0.0
    back = ask(make(), away=True).back
    assert back == pytest.approx(1.5)
    assert 0.0 < ask(make(), away=True).back < 1.5
    assert 0.0 < ask(make()).back < 1.5


HELD = HORIZON + 1.015  # what is booked still leaves, and then nothing for a second


def test_a_clock_that_was_set_back_stops_nothing_for_long_and_lets_nobody_send_twice(
    make, redis_server
) -> None:
    book, redis = make(), redis_server.client()
    ask(book, pause=0.5, sent=[(0, 0.1)] * 100)
    for field in ("now", "due", "left", "pause"):
        redis.hincrby(STATE, field, 3_600_000_000)
    answer = ask(book, want=5)
    assert answer.turns == [] and answer.pause <= 0.5
    assert answer.free == pytest.approx(HELD)
    assert ask(book, want=5).free < HELD  # once


def test_a_clock_that_was_set_forward_lets_nobody_send_twice(make, redis_server) -> None:
    book, other, redis = make(), make(), redis_server.client()
    ask(book, sent=[(0, 0.1)] * 100)
    ask(other)
    redis.hincrby(STATE, "now", -3_600_000_000)
    for place in range(100):
        redis.lset(LOG, place, int(redis.lindex(LOG, place)) - 3_600_000_000)
    assert ask(book, want=5).free == pytest.approx(HELD)
    assert ask(other, want=5).free < HELD  # the others need not find it out as well


def test_a_client_that_stood_still_is_no_clock_that_was_set(redis_server) -> None:
    now = [1_000.0]
    sharing = SharingConfig(redis_url=redis_server.url, timeout=5.0)
    frozen, other = RedisBook(sharing, NAME, 100.0, lambda: now[0]), RedisBook(sharing, NAME, 100.0)
    ask(frozen)
    ask(other)
    now[0] -= 3_600.0
    assert len(ask(frozen, want=5).turns) == 5
    frozen.close()
    other.close()


@pytest.mark.parametrize("field", ["number", "due", "left", "pause", "back", "now", LOG])
def test_a_state_that_cannot_be_believed_holds_for_a_second_and_no_longer(
    make, redis_server, field
) -> None:
    redis = redis_server.client()
    for text in ("nan", "inf", "-inf", "1e300", str(2**60), "-5", "soon", ""):
        redis.flushall()
        book = make()
        ask(book, want=5)
        if field == LOG:
            redis.lset(LOG, 0, text)
        else:
            redis.hset(STATE, field, text)
        answer = ask(book, want=5)
        assert answer.turns == [], text
        assert answer.free == pytest.approx(HELD) and answer.pause == answer.back == 0.0
        later = ask(book)
        assert 0.0 < later.free < HELD and later.pause == 0.0


def test_an_emptied_book_lets_nobody_send_twice(make, redis_server) -> None:
    book, other, newcomer = make(), make(), make()
    ask(book, want=100)
    ask(other)
    redis_server.client().flushall()
    assert ask(book, want=5).free == pytest.approx(HELD)
    assert all(HELD - 0.2 < ask(each, want=5).free < HELD for each in (other, book, newcomer))


def test_a_book_that_has_forgotten_the_latest_turns_lets_nobody_send_twice(
    make, redis_server
) -> None:
    book, redis = make(), redis_server.client()
    ask(book, want=3)
    copy = redis.dump(STATE)
    ask(book, want=3)
    redis.restore(STATE, 0, copy, replace=True)  # as after a fail-over
    assert ask(book, want=5).free == pytest.approx(HELD)


def test_the_script_is_sent_again_when_the_server_forgot_it(make, redis_server) -> None:
    book, redis = make(), redis_server.client()
    ask(book)
    redis.script_flush()
    assert ask(book, want=1).turns[0][0] == 1
    assert redis.script_exists(redis.script_load(_SCRIPT)) == [True]


def test_keys_expire(make, redis_server) -> None:
    ask(make(), pause=100.0, sent=[(0, 0.1)])
    redis = redis_server.client()
    assert {160 < redis.ttl(key) < 170 for key in (STATE, LOG, CLIENTS)} == {True}


def test_a_rate_below_1_spaces_by_more_than_a_second(make) -> None:
    answer = ask(make(rate=0.5), want=2)
    assert [at for _, at in answer.turns] == [0.0]
    assert answer.free == pytest.approx(2.015)


def test_a_server_that_is_gone_is_an_error_and_one_that_is_back_is_asked_again(
    make, redis_server
) -> None:
    redis, book = pytest.importorskip("redis"), make()
    ask(book, want=5)
    redis_server.stop()
    with pytest.raises(redis.ConnectionError):
        ask(book)
    redis_server.start()
    assert ask(book, want=5).free == pytest.approx(HELD)  # it has forgotten everything


def test_a_server_that_is_silent_is_an_error_and_asked_only_once() -> None:
    # A script that was repeated might book its turns twice.
    redis = pytest.importorskip("redis")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        book = RedisBook(SharingConfig(redis_url=url, timeout=0.05), NAME, 100.0)
        with pytest.raises(redis.TimeoutError):
            ask(book)
        options = book._redis.connection_pool.connection_kwargs
        assert options["socket_timeout"] == options["socket_connect_timeout"] == 0.05
        server.setblocking(False)
        server.accept()[0].close()
        with pytest.raises(BlockingIOError):
            server.accept()
        book.close()


def test_closing_closes_the_connection_and_nothing_where_there_is_none(make, redis_server) -> None:
    redis, book = redis_server.client(), make()
    book.close()
    ask(book)
    assert len(redis.client_list()) == 2
    book.close()
    while len(redis.client_list()) > 1:  # the server notices in a moment
        pass
    redis.close()
