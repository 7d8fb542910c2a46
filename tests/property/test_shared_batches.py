"""Whoever joins, leaves or fails, and whenever: no text is lost, none is sent twice at once."""

from hypothesis import given, settings
from hypothesis import strategies as st
from lanes import Lane, audio_of, eventually

from cosy_sync import errors
from cosy_sync.engine.pending_texts import PendingTexts
from cosy_sync.engine.waiters import PendingText, Waiter
from cosy_sync.models import Outcome, Utterance
from cosy_sync.policies import Deadline

steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "promise", "leave", "cancel", "fly", "land", "go"]),
        st.integers(0, 12),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=150)
@given(steps, st.integers(1, 5), st.integers(1, 30), st.booleans())
def test_every_text_ends_once_and_batches_keep_their_bounds(
    plan: list[tuple[str, int]], max_texts: int, max_chars: int, single_flight: bool
) -> None:
    lane = Lane(max_texts=max_texts, max_chars=max_chars, single_flight=single_flight, linger=0.0)
    lane.service.errors["x" * 5] = errors.TextError("no")
    lane.service.open.clear()
    pending_texts, waiters, futures, asked = [], [], [], []
    for step, number in plan:
        text = "x" * (number + 1)
        if step == "ask":
            lane.ask(text)
            asked.append(text)
        elif step == "promise":
            futures.append((text, lane.promise(text)))
        elif step == "leave":
            waiters.append(lane.waiter(text))
            lane.coalescer.leave(waiters[number % len(waiters)])
        elif step == "cancel" and futures:
            future = futures[number % len(futures)][1]
            if future.cancel():
                lane_leaves(lane, future)
        elif step == "fly" and (pending := lane.coalescer.try_send_alone(Utterance(text))):
            pending_texts.append(pending)
        elif step == "land" and pending_texts:
            complete(lane, pending_texts.pop(), number)
        elif step == "go":
            lane.service.open.set()
            lane.service.open.clear()
    lane.service.open.set()
    while pending_texts:
        complete(lane, pending_texts.pop(), 0)
    eventually(lambda: sum(map(len, lane.outcomes.values())) == len(asked))
    for text, future in futures:
        if not future.cancelled():
            failure = future.exception(20)
            assert (failure is None) == (text != "x" * 5)
            assert failure is not None or future.result().data == text.encode()
    lane.close()
    for text in asked:
        for outcome in lane.outcomes[text]:
            assert outcome.text == text and (outcome.audio is None) == (text == "x" * 5)
    for batch in lane.service.sent:
        assert 0 < len(batch) <= max_texts
        assert sum(map(len, batch)) <= max_chars or len(batch) == 1
        assert not single_flight or len(set(batch)) == len(batch)
    assert not lane.coalescer._pending.by_key and not lane.coalescer._pending
    assert lane.coalescer._in_flight == 0 and not lane.coalescer._has_leader


def lane_leaves(lane: Lane, future: object) -> None:
    """Do what `submit` does when its future is cancelled."""
    for pending in list(lane.coalescer._pending.by_key.values()):
        for waiter in list(pending.waiters):
            if getattr(waiter, "future", None) is future:
                lane.coalescer.leave(waiter)


def complete(lane: Lane, pending: PendingText, number: int) -> None:
    text = pending.utterance.text
    outcome = Outcome(0, text, audio_of(text)) if number % 2 == 0 and text != "x" * 5 else None
    lane.coalescer.finish_alone(pending, lane.deadline(0.0), outcome)


@given(
    st.lists(st.tuples(st.integers(1, 20), st.booleans()), max_size=30),
    st.integers(1, 6),
    st.integers(1, 40),
    st.booleans(),
)
def test_a_line_hands_out_what_is_wanted_in_order_and_within_its_bounds(
    sizes: list[tuple[int, bool]], max_texts: int, max_chars: int, tops_up: bool
) -> None:
    line = PendingTexts(max_texts, max_chars)
    wanted = []
    for size, stays in sizes:
        pending = PendingText(Utterance("x" * size), object(), [Waiter(Deadline(0.0, 1.0))])
        line.append(pending)
        if stays:
            wanted.append(pending)
        else:
            pending.waiters.clear()
    got: list[PendingText] = []
    others: list[PendingText] = []
    while line:
        taken = line.take(others)
        batch = others + taken
        got += taken
        assert len(batch) <= max_texts
        assert sum(len(f.utterance.text) for f in batch) <= max_chars or len(batch) == 1
        others = taken if tops_up and not others else []
    assert got == wanted
    assert not line.full
