"""Whatever is known, missing, refused or spoken elsewhere: every text ends once, in its place."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from cosy_sync import CacheConfig, CoalesceConfig, CosyClient, MemoryCache, Utterance
from cosy_sync.testing import FakeService

URL = "http://tts.test/batch"
WORDS = [f"第{n}句话" for n in range(12)]


class Shared(MemoryCache):
    """A store by which another process has texts spoken; it gives up some of them when asked for
    the second time, and puts the others."""

    def __init__(self, elsewhere: Collection[str], lost: Collection[str]) -> None:
        super().__init__()
        self.elsewhere, self.lost = set(elsewhere), set(lost)
        self.held: set[str] = set()

    def lease(self, digests: Sequence[str], seconds: float) -> Collection[str]:
        free = {digest for digest in digests if digest not in self.elsewhere | self.held}
        self.elsewhere -= self.lost
        self.lost = set()
        self.held |= free
        return free

    def release(self, digests: Sequence[str]) -> None:
        self.held -= set(digests)


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.sampled_from([*WORDS, "", " "]), max_size=40),
    known=st.sets(st.sampled_from(WORDS)),
    elsewhere=st.sets(st.sampled_from(WORDS)),
    batch_size=st.integers(1, 5),
    read_ahead=st.sampled_from([None, 1, 2, 9]),
    lazy=st.booleans(),
)
def test_every_text_ends_once_and_in_its_place(
    texts: list[str],
    known: set[str],
    elsewhere: set[str],
    batch_size: int,
    read_ahead: int | None,
    lazy: bool,
) -> None:
    service = FakeService()
    with CosyClient(
        URL,
        http_client=httpx.Client(transport=service),
        cache=CacheConfig(store=MemoryCache()),
        batch_size=batch_size,
        coalesce=CoalesceConfig(linger=0),
    ) as other:
        digests = {other.digest(word) for word in elsewhere}
        store = Shared(digests, digests)
        for word in known:
            audio = other.synth(word)
            assert not audio.from_cache
        store._entries.update(other._core.cache.stores[0]._entries)  # type: ignore[attr-defined]
    service.calls.clear()
    with CosyClient(
        URL,
        http_client=httpx.Client(transport=service),
        cache=store,
        batch_size=batch_size,
        coalesce=CoalesceConfig(linger=0),
    ) as client:
        if lazy:
            outcomes = list(client.synth_iter(iter(texts), read_ahead=read_ahead))
        else:
            outcomes = client.synth_many(texts, on_error="return")
        stats = client.stats()
    assert [each.text for each in outcomes] == texts
    assert [each.index for each in outcomes] == list(range(len(texts)))
    assert [each.ok for each in outcomes] == [bool(text.strip()) for text in texts]
    for each in outcomes:
        assert not each.ok or each.result().data == service.wav(each.text)
        assert each.ok or (each.error is not None and each.error.index == each.index)
    sent = [text for call in service.calls for text in call]
    assert not known & set(sent) and set(sent) == {t for t in texts if t.strip()} - known
    assert stats.cache_hits + stats.cache_misses == len([t for t in texts if t.strip()])
    assert store.held == set()


class Voiced(FakeService):
    """Each voice sounds in its own way; `said` holds each text that was sent, with its voice."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, str]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.read())
        said = [(text, body["voice"]) for text in body["texts"]]
        self.said += said
        return self.speak([text + voice for text, voice in said])


VOICES = ["a", "bb"]  # whose sounds last differently
KINDS = [(word, voice) for word in WORDS[:6] for voice in VOICES]


@settings(max_examples=15, deadline=None)
@given(
    kinds=st.lists(st.sampled_from([*KINDS, (" ", "bb")]), max_size=40),
    known=st.sets(st.sampled_from(KINDS)),
    batch_size=st.integers(1, 5),
    lazy=st.booleans(),
)
def test_every_item_ends_once_in_its_place_and_in_its_voice(
    kinds: list[tuple[str, str]], known: set[tuple[str, str]], batch_size: int, lazy: bool
) -> None:
    service = Voiced()
    with CosyClient(
        URL,
        http_client=httpx.Client(transport=service),
        voice="a",
        cache="memory",
        batch_size=batch_size,
        coalesce=CoalesceConfig(linger=0),
    ) as client:
        for text, voice in known:
            client.synth(text, voice=voice)
        service.said.clear()
        items = [Utterance(kind[0], id=place, voice=kind[1]) for place, kind in enumerate(kinds)]
        if lazy:
            outcomes = list(client.synth_iter(iter(items)))
        else:
            outcomes = client.synth_many(items, on_error="return")
    assert [(each.index, each.id) for each in outcomes] == [(n, n) for n in range(len(kinds))]
    for each, (text, voice) in zip(outcomes, kinds, strict=True):
        assert each.text == text and each.ok == bool(text.strip())
        assert not each.ok or each.result().data == service.wav(text + voice)
    assert set(service.said) == {kind for kind in kinds if kind[0].strip()} - known
