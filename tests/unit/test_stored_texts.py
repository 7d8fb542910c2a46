"""Many texts into a store: references come out, in order; what is there is not spoken again."""

import errno
import gc
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from interrupts import interrupt_at

from cosy_sync import (
    BadRequestError,
    BatchError,
    ConfigError,
    CosyClient,
    InterruptedBatch,
    InvalidTextError,
    StoredOutcome,
    Utterance,
)
from cosy_sync.storage import LocalStore
from cosy_sync.stored_call import StoredCall
from cosy_sync.testing import FakeService

URL = "http://tts.test/batch"
TEXTS = [f"第{number}句话，前方路口请左转。" for number in range(80)]


class Service(FakeService):
    """Refuses what it is told to."""

    refused = ""

    @property
    def texts(self) -> list[str]:
        return [text for call in self.calls for text in call]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.refused and self.refused in json.loads(request.read())["texts"]:
            return httpx.Response(400, json={"error": {"message": "as the test wished"}})
        return super().handle_request(request)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture(params=[None, "memory"], ids=["no cache", "cache"])
def client(service: Service, request: pytest.FixtureRequest) -> Iterator[CosyClient]:
    http = httpx.Client(transport=service)
    with CosyClient(URL, http_client=http, voice="中文女", cache=request.param) as made:
        yield made


def test_references_come_out_in_order_and_never_sound(client: CosyClient, tmp_path: Path) -> None:
    stored = client.synth_many(TEXTS, to=tmp_path / "out")
    assert [each.text for each in stored] == TEXTS and all(stored)
    for each in stored:
        assert each.digest == client.digest(each.text)
        assert each.key == f"{each.digest[:2]}/{each.digest}.wav"
        assert each.address == str(tmp_path / "out" / each.key) == each.result()
        assert each.size == Path(each.address).stat().st_size and each.created
        assert each.duration and not hasattr(each, "audio")
    assert client.synth(TEXTS[3]).data == Path(stored[3].result()).read_bytes()


def test_what_the_store_has_is_not_spoken_again(
    client: CosyClient, service: Service, tmp_path: Path
) -> None:
    client.synth_many(TEXTS[::2], to=tmp_path)
    spoken = len(service.texts)
    stored = client.synth_many(TEXTS, to=tmp_path)
    assert [each.created for each in stored] == [False, True] * 40
    assert sorted(service.texts[spoken:]) == sorted(TEXTS[1::2])
    again = list(client.synth_iter(iter(TEXTS), to=str(tmp_path)))
    assert len(service.texts) == len(TEXTS) and not any(each.created for each in again)
    assert [each.key for each in again] == [each.key for each in stored]
    other = client.synth_many(TEXTS[:1], to=tmp_path, voice="中文男")
    assert other[0].created and other[0].key != stored[0].key


def test_ids_and_prepared_texts_come_back_as_they_were_given(
    client: CosyClient, tmp_path: Path
) -> None:
    items = [("a", "有3个"), "4个", Utterance("5个", id=7, voice="中文男")]
    stored = client.synth_many(items, to=tmp_path, prepare=[lambda text: text + "。"])
    assert [(each.id, each.text) for each in stored] == [("a", "有3个"), (None, "4个"), (7, "5个")]
    assert stored[2].digest == client.digest("5个。", voice="中文男")


def test_a_text_that_fails_costs_no_other_one(client: CosyClient, tmp_path: Path) -> None:
    texts = [("a", "好"), ("b", ""), ("c", "也好")]
    outcomes = client.synth_many(texts, to=tmp_path, on_error="return")
    assert [bool(each) for each in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, InvalidTextError) and outcomes[1].id == "b"
    with pytest.raises(InvalidTextError):
        outcomes[1].result()
    with pytest.raises(InvalidTextError):
        client.synth_many(texts, to=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_the_service_refuses_is_a_batch_error_with_the_references_of_the_others(
    client: CosyClient, service: Service, tmp_path: Path
) -> None:
    service.refused = "二"
    with pytest.raises(BatchError) as caught:
        client.synth_many(["一", "二", "三"], to=tmp_path)
    outcomes: Any = caught.value.outcomes
    assert [each.ok for each in outcomes] == [True, False, True]
    assert all(isinstance(each, StoredOutcome) for each in outcomes)
    assert isinstance(outcomes[1].error, BadRequestError)
    assert Path(outcomes[2].address).exists()


class FullStore(LocalStore):
    """A folder that is full after some sounds."""

    def __init__(self, path: Path, room: int) -> None:
        super().__init__(path)
        self.room = threading.Semaphore(room)

    def put(self, *args: Any, **options: Any) -> bool:
        if not self.room.acquire(blocking=False):
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().put(*args, **options)


def test_what_was_stored_before_the_disk_was_full_is_told(
    client: CosyClient, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        client.synth_many(TEXTS, to=FullStore(tmp_path, 20))
    kept: Any = caught.value.outcomes  # type: ignore[attr-defined]
    assert len(kept) == 20 and all(Path(each.address).exists() for each in kept)
    with pytest.raises(OSError, match="No space left"):
        list(client.synth_iter(TEXTS, to=FullStore(tmp_path / "b", 3)))


def test_an_endless_input_is_pulled_no_further_than_its_references_are_taken(
    client: CosyClient, tmp_path: Path
) -> None:
    pulled = 0

    def texts() -> Iterator[str]:
        nonlocal pulled
        while True:
            pulled += 1
            yield TEXTS[pulled % 80]

    # Known ones go by without a request: there too nothing runs ahead.
    client.synth_many(TEXTS[:40], to=tmp_path)
    stored = client.synth_iter(texts(), to=tmp_path, read_ahead=70)
    for taken in range(1, 300):
        assert next(stored).ok
        assert pulled <= taken + 70
    stored.close()  # type: ignore[attr-defined]


def test_what_the_source_raises_comes_after_what_was_before(
    client: CosyClient, tmp_path: Path
) -> None:
    def texts() -> Iterator[str]:
        yield from TEXTS[:10]
        raise RuntimeError("no more")

    seen = []
    with pytest.raises(RuntimeError, match="no more"):
        for outcome in client.synth_iter(texts(), to=tmp_path):
            seen.append(outcome.text)
    assert seen == TEXTS[:10]


def test_one_that_is_dropped_leaves_no_thread(client: CosyClient, tmp_path: Path) -> None:
    stored = client.synth_iter(iter(TEXTS), to=tmp_path)
    assert next(stored).ok
    del stored
    gc.collect()


def test_what_was_spoken_before_ctrl_c_is_stored_and_told(
    client: CosyClient, service: Service, tmp_path: Path
) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedBatch) as caught:
        client.synth_many(TEXTS, to=tmp_path, progress=interrupt)
    kept: Any = caught.value.outcomes
    # The first batch at least; batches are packed by length.
    places = [each.index for each in kept]
    assert len(kept) >= 60 and places == sorted(set(places))
    assert [each.text for each in kept] == [TEXTS[place] for place in places]
    assert len(list(tmp_path.rglob("*.wav"))) == len(kept)


def test_ctrl_c_at_any_line_stores_no_text_under_anothers_key(
    client: CosyClient, tmp_path: Path
) -> None:
    texts = [f"第{'一' * (number + 1)}句" for number in range(5)]
    right = {client.digest(text): bytes(client.synth(text).data) for text in texts}
    for number in range(1, 8):
        folder = tmp_path / str(number)
        work = partial(client.synth_many, texts, to=folder)
        interrupt_at(number, work, only=StoredCall._take)
        for path in folder.rglob("*.wav"):
            assert path.read_bytes() == right[path.stem], f"line {number}"
    assert len(list(folder.rglob("*.wav"))) > 0


def test_equal_texts_of_a_call_share_an_object(client: CosyClient, tmp_path: Path) -> None:
    stored = client.synth_many(["好"] * 20, to=tmp_path)
    assert len({each.key for each in stored}) == 1
    assert sum(each.created for each in stored) == 1
    assert len(list(tmp_path.rglob("*.wav"))) == 1


@pytest.mark.parametrize("to", [5, b"out", object(), ""])
def test_what_is_no_store_is_refused(client: CosyClient, to: Any) -> None:
    with pytest.raises(ConfigError, match=r"to: expected a folder|address is empty"):
        client.synth_many(["好"], to=to)
