"""The batcher: bounds, order within a window, slow and failing sources."""

from collections.abc import Iterator

import pytest

from cosy_sync.config import BatchConfig
from cosy_sync.engine.packing import pack
from cosy_sync.models import Utterance


def utterances(*lengths: int) -> list[Utterance]:
    return [Utterance("好" * length, index=index) for index, length in enumerate(lengths)]


def still() -> float:
    return 0.0


def test_a_thousand_texts_are_sixteen_batches() -> None:
    batches = list(pack(utterances(*range(1, 1001)), BatchConfig(max_chars=10**9), still))
    assert [len(batch) for batch in batches] == [64] * 15 + [40]


def test_a_batch_holds_no_more_characters_than_allowed_unless_one_text_does() -> None:
    config = BatchConfig(max_chars=10)
    batches = list(pack(utterances(4, 4, 4, 25, 1), config, still))
    assert [[len(u.text) for u in batch] for batch in batches] == [[1, 4, 4], [4], [25]]


def test_similar_lengths_travel_together() -> None:
    config = BatchConfig(max_texts=2)
    batches = list(pack(utterances(9, 1, 8, 2), config, still))
    assert [[len(u.text) for u in batch] for batch in batches] == [[1, 2], [8, 9]]


def test_no_more_than_one_window_is_pulled_before_the_first_batch() -> None:
    pulled: list[int] = []

    def endless() -> Iterator[Utterance]:
        index = 0
        while True:
            pulled.append(index)
            yield Utterance("好", index=index)
            index += 1

    next(pack(endless(), BatchConfig(max_texts=8, sort_window=2), still))
    assert len(pulled) == 16


def test_a_slow_source_is_not_waited_for() -> None:
    ticks = iter(range(0, 1000))
    batches = pack(utterances(*[1] * 10), BatchConfig(), lambda: float(next(ticks)))
    assert [len(batch) for batch in batches] == [1] * 10


def test_what_a_source_gave_before_it_failed_comes_first() -> None:
    def broken() -> Iterator[Utterance]:
        yield from utterances(1, 1)
        raise OSError("disk gone")

    batches = pack(broken(), BatchConfig(), still)
    assert len(next(batches)) == 2
    with pytest.raises(OSError, match="disk gone"):
        next(batches)


def test_texts_with_settings_of_their_own_travel_with_their_like_only() -> None:
    one, other = object(), object()
    texts = utterances(*range(1, 101))
    for text in texts:
        text.settings = (None, one, other)[text.index % 3]
    batches = list(pack(texts, BatchConfig(max_texts=16, sort_window=8, max_chars=10**9), still))
    assert sorted(text.index for batch in batches for text in batch) == list(range(100))
    assert all(len({id(text.settings) for text in batch}) == 1 for batch in batches)
    assert len(batches) == 9  # 34, 33 and 33 texts
    for batch in batches:
        assert [len(text.text) for text in batch] == sorted(len(text.text) for text in batch)
