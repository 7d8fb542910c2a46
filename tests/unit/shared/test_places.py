"""Connections that several clients share: what each is given, with the book and without."""

from __future__ import annotations

import pytest

from cosy_sync.config import SharingConfig
from cosy_sync.shared import PlaceBook, SharedPlaces
from cosy_sync.threads.permits import Permits

NAME = "http://tts.test/batch"


class RealBook(PlaceBook):
    def ask(self, want: int, held: int, cap: int = 10**6) -> tuple[int, int]:
        places, clients, self.knew = super().ask(want, held, cap)
        return places, clients


@pytest.fixture
def make(redis_server):
    made: list[PlaceBook] = []

    def build(most: int = 50) -> PlaceBook:
        made.append(RealBook(SharingConfig(redis_url=redis_server.url, timeout=5.0), NAME, most))
        return made[-1]

    yield build
    for book in made:
        book.close()


def test_who_is_alone_has_all_places(make) -> None:
    assert make().ask(1, 6) == (50, 1)


def test_who_comes_later_gets_what_the_others_do_not_hold_any_more(make) -> None:
    first, second = make(), make()
    assert first.ask(50, 6) == (50, 1)
    assert second.ask(50, 0) == (0, 2)  # the first still uses all
    assert first.ask(50, 50) == (25, 2)
    assert second.ask(50, 0) == (0, 2)  # it may still use them: it has not said otherwise
    assert first.ask(50, 25) == (25, 2)
    assert second.ask(50, 0) == (25, 2)


def test_where_there_are_more_clients_than_places_each_has_one(make) -> None:
    books = [make(2) for _ in range(4)]
    for book in books:
        book.ask(5, 0)
    assert [book.ask(5, 1)[0] for book in books] == [1] * 4


def test_who_wants_little_leaves_the_rest_to_the_others(make) -> None:
    books, held = [make() for _ in range(3)], [0] * 3
    for turn in range(12):
        which = turn % 3
        held[which] = books[which].ask((2, 40, 40)[which], held[which])[0]
    assert held == [2, 24, 24]


def test_all_together_never_hold_more(make) -> None:
    books, held = [make(20) for _ in range(4)], [0] * 4
    for turn in range(40):
        which = turn % 4
        want = (turn * 7) % 20 + 1
        held[which] = books[which].ask(want, held[which])[0]
        assert sum(held) <= 20


def test_a_client_that_is_gone_or_cannot_be_believed_holds_nothing(make, redis_server) -> None:
    first, second, redis = make(), make(), redis_server.client()
    first.ask(50, 50)
    key = f"cosy_sync:{{{NAME}}}:places"
    redis.hset(key, "odd", "nan 50 50")
    redis.hset(key, "far", f"{2**60} 50 50")
    first.close()
    assert second.ask(50, 1) == (50, 1)
    assert redis.hlen(key) == 1


def test_a_cap_bounds_what_a_client_is_given_and_what_counts_as_its(make) -> None:
    first, second = make(), make()
    assert first.ask(50, 6, 20) == (20, 1)
    assert second.ask(50, 0) == (25, 2)


def test_it_says_whether_it_knew_the_client(make, redis_server) -> None:
    book = make()
    for _ in range(2):
        book.ask(1, 0)
        assert not book.knew
        book.ask(1, 0)
        assert book.knew
        redis_server.client().flushall()


class Book:
    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.caps: list[int] = []
        self.answer: tuple[int, int] | Exception = (10, 1)
        self.knew = True

    def ask(self, want: int, held: int, cap: int) -> tuple[int, int, bool]:
        self.asked.append((want, held))
        self.caps.append(cap)
        if isinstance(self.answer, Exception):
            raise self.answer
        return (min(self.answer[0], cap), self.answer[1], self.knew)

    def close(self, forget: bool) -> None:
        self.asked += [(0, 0)] * forget


class Scene:
    def __init__(self) -> None:
        self.permits, self.book = Permits(40), Book()
        self.closed, self.told, self.now = 0, [], 1_000.0
        self.comes_back = 0
        given = self.permits, self.book, 1, self.close_idle, self.tell
        self.places = SharedPlaces(*given, lambda: self.now)

    def close_idle(self) -> None:
        self.closed += 1
        if self.comes_back:  # just then a reply ends, and its connection is idle
            self.permits.release(self.comes_back)

    def tell(self, shared: bool, reason: str) -> None:
        self.told.append((shared, reason))


def test_a_client_has_no_place_before_the_book_has_given_it_some() -> None:
    scene = Scene()
    assert not scene.permits.acquire()
    scene.places._step()
    assert (scene.permits.limit, scene.book.asked) == (10, [(1, 0)])
    assert [scene.permits.acquire() for _ in range(10)] == [True] * 10
    assert scene.closed == 0


def test_a_client_whose_places_are_all_gone_waits_for_others() -> None:
    scene = Scene()
    scene.places._step()
    scene.book.answer = (0, 3)
    scene.places._step()
    assert not scene.permits.acquire()
    scene.places._step()
    assert scene.book.asked[-1] == (1, 0)
    scene.book.answer = (2, 3)
    scene.places._step()
    assert [scene.permits.acquire() for _ in range(3)] == [True, True, False]


def test_it_says_what_it_uses_and_closes_what_is_idle_when_its_share_falls() -> None:
    scene = Scene()
    scene.places._step()
    assert [scene.permits.acquire() for _ in range(11)] == [True] * 10 + [False]
    scene.book.answer = (4, 2)
    assert scene.places._step() == 0.05
    assert scene.book.asked[-1] == (11, 10) and scene.permits.limit == 4
    scene.places._step()
    assert scene.book.asked[-1] == (11, 10)  # they are not given back yet
    scene.permits.release(7)
    scene.places._step()
    assert scene.book.asked[-1] == (4, 4)
    assert scene.closed == 2  # each time before it is said
    scene.places._step()
    assert scene.closed == 2


def test_without_the_book_it_goes_by_an_equal_share_and_says_so_once() -> None:
    scene = Scene()
    scene.book.answer = (30, 4)
    scene.places._step()
    scene.book.answer = ConnectionError("gone")
    assert scene.places._step() == scene.places._step() == 0.5
    assert scene.permits.limit == 10
    ((shared, reason),) = scene.told
    assert not shared and "10 of 40 connections, the share of one of 4 clients" in reason
    scene.book.answer = (30, 4)
    scene.places._step()
    assert scene.told[1:] == [(True, "by 4 clients")]
    assert scene.permits.limit == 10  # the others may not have noticed yet
    scene.now += 1.5
    scene.places._step()
    assert scene.permits.limit == 30


def test_connections_that_come_back_while_idle_ones_are_closed_still_count() -> None:
    scene = Scene()
    scene.places._step()
    assert [scene.permits.acquire() for _ in range(10)] == [True] * 10
    scene.book.answer = (4, 2)
    scene.places._step()
    scene.comes_back = 6
    scene.places._step()
    assert scene.book.asked[-1] == (11 - 6, 10)
    scene.comes_back = 0
    scene.places._step()
    assert scene.book.asked[-1] == (5, 4)


def test_a_book_that_has_lost_all_gives_nobody_more_than_an_equal_share_at_first() -> None:
    scene = Scene()
    scene.book.answer = (10, 4)
    scene.places._step()
    scene.book.answer, scene.book.knew = (40, 1), False
    scene.places._step()
    assert scene.permits.limit == 10
    scene.book.answer, scene.book.knew = (40, 2), True
    scene.places._step()
    assert (scene.permits.limit, scene.book.caps[-1]) == (10, 10)
    scene.now += 1.5
    scene.places._step()
    assert (scene.permits.limit, scene.book.caps[-1]) == (40, 40)


def test_once_the_book_is_lost_a_share_rises_only_when_the_others_have_noticed() -> None:
    scene = Scene()
    scene.book.answer = (2, 4)
    scene.places._step()
    scene.book.answer = ConnectionError("gone")
    scene.places._step()
    assert scene.permits.limit == 2
    scene.now += 1.5
    scene.places._step()
    assert scene.permits.limit == 10


def test_without_a_book_from_the_start_there_is_an_equal_share_at_once() -> None:
    scene = Scene()
    scene.book.answer = ConnectionError("gone")
    scene.places._step()
    assert scene.permits.limit == 40


def test_a_client_that_is_closed_gives_its_places_back_once_its_connections_are_closed() -> None:
    scene = Scene()
    scene.places._step()
    scene.permits.acquire()
    scene.places.close(1.0)
    assert scene.closed == 1 and (0, 0) not in scene.book.asked  # one is open still
    scene.permits.release()
    scene.places.close(1.0)
    assert scene.closed == 2 and scene.book.asked[-1] == (0, 0)
