"""Nothing is lost, nothing is reordered, nothing leaks: whatever the texts and the troubles."""

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import cosy_sync
from cosy_sync import BatchConfig, CosyClient
from cosy_sync.engine.packing import pack
from cosy_sync.engine.reorder import ReorderBuffer
from cosy_sync.models import Utterance
from cosy_sync.testing import FakeClock, FakeService
from cosy_sync.threads.permits import Permits

lengths = st.lists(st.integers(1, 300), max_size=200)
packings = st.builds(
    BatchConfig,
    max_texts=st.integers(1, 20),
    max_chars=st.integers(1, 1000),
    sort_window=st.integers(1, 5),
)


@given(lengths, packings, st.integers(0, 3))
def test_the_batcher_keeps_every_text_once_and_its_bounds(
    sizes: list[int], packing: BatchConfig, pace: int
) -> None:
    ticks = iter(range(10**9))
    texts = [Utterance("好" * size, index=index) for index, size in enumerate(sizes)]
    batches = list(pack(texts, packing, lambda: next(ticks) * pace * 0.04))
    assert sorted(u.index for batch in batches for u in batch) == list(range(len(sizes)))
    for batch in batches:
        assert 0 < len(batch) <= packing.max_texts
        chars = sum(len(utterance.text) for utterance in batch)
        assert chars <= packing.max_chars or len(batch) == 1


troubles = st.lists(
    st.sampled_from(["ok", "500", "429", "400", "cut", "html", "empty", "refused", "late"]),
    max_size=30,
)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 40), st.integers(1, 8), troubles)
def test_every_text_ends_as_its_own_audio_or_as_an_error(
    count: int, batch_size: int, plan: list[str]
) -> None:
    texts = [f"这是第{number}句要说的话" for number in range(count)]
    service, clock = FakeService(), FakeClock()
    for trouble in plan:
        service.answer(answer(service, trouble))
    http_client = httpx.Client(transport=service)
    with CosyClient(
        "http://tts.test/batch",
        http_client=http_client,
        clock=clock,
        serial=True,
        batch_size=batch_size,
    ) as client:
        outcomes = client.synth_many(texts, on_error="return")
    assert [outcome.index for outcome in outcomes] == list(range(count))
    for outcome in outcomes:
        assert (outcome.audio is None) != (outcome.error is None)
        if outcome.audio is not None:
            assert outcome.audio.data == service.wav(texts[outcome.index])
        else:
            assert isinstance(outcome.error, cosy_sync.CosyError)
            assert outcome.error.index == outcome.index


def answer(service: FakeService, trouble: str):
    def right(request: httpx.Request) -> httpx.Response:
        return service.speak(service.calls[-1])

    def cut(request: httpx.Request) -> httpx.Response:
        whole = service.speak(service.calls[-1])
        return httpx.Response(200, content=whole.content[:-100], headers=dict(whole.headers))

    return {
        "ok": right,
        "cut": cut,
        "500": httpx.Response(500),
        "429": httpx.Response(429, headers={"Retry-After": "1"}),
        "400": httpx.Response(400, json={"error": {"code": "bad", "message": "no"}}),
        "html": httpx.Response(200, text="<html>", headers={"Content-Type": "text/html"}),
        "empty": httpx.Response(200, content=b""),
        "refused": httpx.ConnectError("refused"),
        "late": httpx.ReadTimeout("late"),
    }[trouble]


class PermitsAreNeverLeaked(RuleBasedStateMachine):
    """Whatever is taken, refused and given back: what is used is what is held."""

    def __init__(self) -> None:
        super().__init__()
        self.permits = Permits(10)
        self.held: list[int] = []

    @rule(cost=st.integers(1, 15), urgent=st.booleans(), key=st.sampled_from("abc"))
    def acquire(self, cost: int, urgent: bool, key: str) -> None:
        fits = sum(min(each, 10) for each in self.held) + min(cost, 10) <= 10
        assert self.permits.acquire(cost, key=key, urgent=urgent) == fits
        if fits:
            self.held.append(cost)

    @rule(cost=st.integers(1, 15))
    def time_out(self, cost: int) -> None:
        if self.permits.acquire(cost, seconds=0.0001):
            self.held.append(cost)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.permits.release(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    @invariant()
    def used_is_what_is_held(self) -> None:
        assert self.permits.used == sum(min(cost, 10) for cost in self.held) <= 10


TestPermits = PermitsAreNeverLeaked.TestCase
TestPermits.settings = settings(max_examples=50, deadline=None)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 60))
def test_a_backlog_never_shuts_out_the_reply_that_is_next(sizes: list[int], limit: int) -> None:
    reorder = ReorderBuffer(limit)
    for index, size in enumerate(sizes):
        reorder.expect(2)  # another one, behind it, is under way and waits for no room yet
        reorder.enter(index, size, 60.0)  # would take 2 s, each, if it were shut out
        reorder.hand_out(index + 1, size)
        reorder.expect(-2)
    assert not reorder.is_full(0)
