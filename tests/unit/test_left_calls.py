"""Calls that end early: what was finished comes along, and what was taken is given back."""

import threading
from collections.abc import Callable, Iterator

import httpx
import pytest
from interrupts import interrupt_entry
from lanes import eventually

import cosy_sync
from cosy_sync import BatchError, CosyClient, InterruptedBatch, VerifyConfig
from cosy_sync.testing import FakeService

URL = "http://tts.test/batch"
TEXTS = [f"这是第{number}句话" for number in range(40)]


@pytest.fixture
def client() -> Iterator[CosyClient]:
    http_client = httpx.Client(transport=FakeService())
    with CosyClient(URL, http_client=http_client, batch_size=4) as made:
        yield made


class Limit(Exception):
    """What a task queue raises in a task that took too long."""


class Slotted(BaseException):
    __slots__ = ()


class Frozen(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        if name == "outcomes":
            raise AttributeError(name)
        super().__setattr__(name, value)


class OwnInterrupt(KeyboardInterrupt):
    pass


def leave_after(number: int, error: BaseException):
    def progress(done: int, total: int) -> None:
        if done == number:
            raise error

    return progress


@pytest.mark.parametrize("error", [Limit(), Slotted(), OwnInterrupt(), SystemExit(3)])
def test_whatever_ends_a_call_from_outside_carries_what_was_finished(client, error) -> None:
    with pytest.raises(type(error)) as caught:
        client.synth_many(TEXTS, progress=leave_after(10, error))
    outcomes = caught.value.outcomes
    assert caught.value is error and len(outcomes) >= 10
    assert [outcome.index for outcome in outcomes[:10]] == list(range(10))
    assert all(type(outcome.audio.data) is bytes for outcome in outcomes)
    assert len({outcome.index for outcome in outcomes}) == len(outcomes)


def test_an_exception_that_takes_nothing_along_goes_on_as_it_is(client) -> None:
    with pytest.raises(Frozen):
        client.synth_many(TEXTS, progress=leave_after(10, Frozen()))
    assert len(client.synth_many(TEXTS)) == 40


def test_ctrl_c_becomes_an_interrupted_batch_also_out_of_a_call_within(client) -> None:
    def progress(done: int, total: int) -> None:
        client.synth_many(["一句话"], progress=leave_after(1, KeyboardInterrupt()))

    with pytest.raises(InterruptedBatch) as caught:
        client.synth_many(TEXTS, progress=progress)
    assert caught.value.outcomes[0].text == TEXTS[0]
    assert isinstance(caught.value.__cause__, InterruptedBatch)
    assert [outcome.text for outcome in caught.value.__cause__.outcomes] == ["一句话"]


def test_a_batch_error_out_of_a_call_within_keeps_its_own_outcomes() -> None:
    verify = VerifyConfig(check=lambda text, audio: "坏" not in text)
    retry = cosy_sync.RetryConfig(max_bad_audio=0)
    http_client = httpx.Client(transport=FakeService())
    with (
        CosyClient(URL, http_client=http_client, verify=verify, retry=retry) as client,
        pytest.raises(BatchError) as caught,
    ):
        client.synth_many(TEXTS, progress=lambda *_: client.synth_many(["坏的一句"]))
    assert [outcome.text for outcome in caught.value.outcomes] == ["坏的一句"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_lazy_call_carries_what_was_finished_and_not_yielded(client, kind) -> None:
    def texts() -> Iterator[str]:
        for number in range(200):
            yield f"这是第{number}句话"
        raise kind

    seen = []
    with pytest.raises(kind) as caught:
        for outcome in client.with_options(batch_size=2).synth_iter(texts()):
            seen.append(outcome)
    assert 0 < len(seen) < 200
    indexes = [outcome.index for outcome in [*seen, *caught.value.outcomes]]
    assert len(set(indexes)) == len(indexes)
    assert isinstance(caught.value, InterruptedBatch) == (kind is KeyboardInterrupt)


def test_a_lazy_call_that_is_dropped_takes_no_lock_where_it_is_dropped(client) -> None:
    tenant = client.with_options(tenant="a", max_in_flight=2, batch_size=1)
    outcomes = tenant.synth_iter(f"这是第{number}句话" for number in range(1_000))
    assert next(outcomes).ok
    call = outcomes.gi_frame.f_locals["call"]  # type: ignore[attr-defined]
    (gate,) = client._core.engine()._tenant_limits.everybody()
    with gate._permits._lock, call._reorder._lock:  # as if the collector came here
        outcomes.close()  # type: ignore[attr-defined]
    eventually(lambda: gate._permits.used == 0)
    assert tenant.synth("你好，世界").duration > 0


HAND_OVERS: dict[str, Callable[[CosyClient], object]] = {
    "synth": lambda client: client.synth("你好，世界"),
    "synth_many": lambda client: client.synth_many(TEXTS[:12]),
    "synth_iter": lambda client: list(client.synth_iter(TEXTS[:12])),
    "submit": lambda client: client.submit("你好，世界").result(10),
}


@pytest.mark.parametrize("way", HAND_OVERS)
def test_ctrl_c_inside_a_hand_over_to_a_worker_keeps_no_lock(way: str) -> None:
    number = 0
    while True:
        number += 1
        http_client = httpx.Client(transport=FakeService())
        client = CosyClient(URL, http_client=http_client, batch_size=2)
        more = interrupt_entry(number, lambda: HAND_OVERS[way](client))  # noqa: B023
        spoken = threading.Event()

        def speak() -> None:
            HAND_OVERS[way](client)  # noqa: B023
            client.synth_many(TEXTS)  # noqa: B023
            spoken.set()  # noqa: B023

        threading.Thread(target=speak, daemon=True).start()
        assert spoken.wait(60), f"lock {number}"
        client.close(1)
        if not more:
            break
