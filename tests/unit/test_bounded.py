"""The bounded cache: what is kept, what is forgotten, and when."""

from cosy_sync.bounded import BoundedCache


def test_what_is_there_stays_and_is_returned() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    assert (cache.keep("a", 1), cache.keep("a", 2), cache["a"]) == (1, 1, 1)


def test_it_never_holds_more_than_it_may_and_keeps_what_comes_last() -> None:
    cache: BoundedCache[int, int] = BoundedCache(3)
    for number in range(10):
        assert cache.keep(number, number) == number
        assert len(cache) <= 3 and cache[number] == number


def test_a_full_one_forgets_nothing_for_what_it_holds_already() -> None:
    cache: BoundedCache[int, int] = BoundedCache(3)
    for number in (1, 2, 3, 1, 2, 3):
        cache.keep(number, number)
    assert dict(cache) == {1: 1, 2: 2, 3: 3}
