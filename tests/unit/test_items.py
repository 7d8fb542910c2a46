"""Items of a call: ids that come back with outcomes and errors, voices that share batches."""

import json
import pickle
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from cosy_sync import (
    BatchError,
    ConfigError,
    CosyClient,
    CosyError,
    InterruptedBatch,
    InvalidTextError,
    Outcome,
    Utterance,
    Voice,
)
from cosy_sync.testing import FakeService

URL = "http://tts.test/batch"


class Recorder(httpx.BaseTransport):
    """A service that keeps what each request said."""

    def __init__(self) -> None:
        self.service = FakeService()
        self.said: list[dict[str, Any]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.said.append(json.loads(request.read()))
        return self.service.handle_request(request)

    def voices(self) -> dict[str | None, set[str]]:
        """Return the texts that were sent with each voice."""
        found: dict[str | None, set[str]] = {}
        for said in self.said:
            found.setdefault(said.get("voice"), set()).update(said["texts"])
        return found


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def client(recorder: Recorder) -> Iterator[CosyClient]:
    with CosyClient(URL, http_client=httpx.Client(transport=recorder), voice="中文女") as made:
        yield made


def rows(count: int) -> list[tuple[str, str]]:
    return [(f"row-{number}", f"第{number}句话，前方路口请左转。") for number in range(count)]


def outcomes_of(client: CosyClient, call: str, items: Any) -> list[Outcome]:
    if call == "synth_many":
        return client.synth_many(items, on_error="return")
    return list(client.synth_iter(items))


# As many as share a batch with other calls, and more.
COUNTS = [3, 200]
CALLS = ["synth_many", "synth_iter"]


# -- ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("count", COUNTS)
def test_outcomes_bear_the_ids_of_their_items_in_order(client, call, count) -> None:
    items = rows(count)
    outcomes = outcomes_of(client, call, items)
    assert [(each.id, each.text) for each in outcomes] == items
    assert [each.index for each in outcomes] == list(range(count))
    assert [each.audio.data for each in outcomes] == [FakeService.wav(text) for _, text in items]


@pytest.mark.parametrize("call", CALLS)
def test_items_of_every_kind_stand_side_by_side(client, call) -> None:
    items = ["你好一", ("b", "你好二"), Utterance("你好三", id=3), Utterance("你好四")]
    outcomes = outcomes_of(client, call, items)
    assert [each.id for each in outcomes] == [None, "b", 3, None]
    assert [each.text for each in outcomes] == ["你好一", "你好二", "你好三", "你好四"]


def test_the_items_of_a_dictionary_are_ids_and_texts(client) -> None:
    with pytest.raises(InvalidTextError, match=r"list\(texts\.items\(\)\)"):
        client.synth_many({"a": "你好"})
    outcomes = client.synth_many(list({"a": "你好", "b": "再见"}.items()), on_error="return")
    assert [each.id for each in outcomes] == ["a", "b"]


def test_an_id_changes_nothing_of_what_is_sent_or_shared(client, recorder) -> None:
    client.synth_many([("a", "你好"), ("b", "再见"), ("c", "早上好")])
    client.synth_many([("x", "你好"), ("y", "再见"), ("z", "早上好")])
    first, second = recorder.said
    assert first["texts"] == second["texts"] and set(first) == set(second)
    assert "row" not in str(first) and Utterance("你好", id="a").hash == Utterance("你好").hash


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("count", COUNTS)
def test_errors_name_the_id(client, recorder, call, count) -> None:
    recorder.service.answer(*[httpx.Response(400, json={"error": "no"})] * 500)
    outcomes = outcomes_of(client, call, rows(count))
    for outcome in outcomes:
        assert outcome.id == outcome.error.id == f"row-{outcome.index}"
        assert f"text {outcome.index} 'row-{outcome.index}'" in str(outcome.error)
    error = outcomes[1].error
    assert pickle.loads(pickle.dumps(error)).id == "row-1"
    assert CosyError.from_dict(json.loads(json.dumps(error.to_dict()))).id == "row-1"


def test_a_batch_error_knows_the_ids_also_as_plain_values(client, recorder) -> None:
    recorder.service.answer(*[httpx.Response(400, json={"error": "no"})] * 500)
    with pytest.raises(BatchError, match="'row-0'") as caught:
        client.synth_many(rows(3))
    assert [each.id for each in caught.value.outcomes] == ["row-0", "row-1", "row-2"]
    again = CosyError.from_dict(json.loads(json.dumps(caught.value.to_dict())))
    assert [each.id for each in again.outcomes] == ["row-0", "row-1", "row-2"]


@pytest.mark.parametrize("call", CALLS)
def test_a_bad_text_is_named_by_its_id(client, call) -> None:
    outcomes = outcomes_of(client, call, [("a", "你好"), ("b", " "), ("c", None)])
    assert [(each.id, each.text) for each in outcomes] == [("a", "你好"), ("b", " "), ("c", None)]
    assert outcomes[0].ok and "text 1 'b'" in str(outcomes[1].error)
    assert "expected a text, got NoneType" in str(outcomes[2].error)
    with pytest.raises(InvalidTextError, match="text 1 'b'"):
        client.synth_many([("a", "你好"), ("b", " ")])


def test_what_a_call_lost_to_ctrl_c_had_finished_bears_its_ids(client) -> None:
    def progress(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedBatch) as caught:
        client.synth_many(rows(200), progress=progress)
    outcomes = caught.value.outcomes
    assert len(outcomes) >= 2
    assert all(each.id == f"row-{each.index}" for each in outcomes)


def test_what_an_iteration_lost_bears_its_ids(client) -> None:
    outcomes = client.synth_iter(rows(200))
    next(outcomes)
    with pytest.raises(ValueError) as caught:
        outcomes.throw(ValueError("of the caller"))
    assert all(each.id == f"row-{each.index}" for each in caught.value.outcomes)


def test_an_endless_call_forgets_the_items_that_were_handed_out(client) -> None:
    from cosy_sync.given_texts import GivenTexts

    given = GivenTexts(iter(rows(1000)), client.config, client._bulk_with, distinct=False)
    for utterance in given:
        given.restore(Outcome(utterance.index, utterance.text))
    assert len(given.items) == 1


def test_an_id_that_comes_twice_is_refused_before_anything_is_sent(client, recorder) -> None:
    with pytest.raises(InvalidTextError, match=r"text 0 has the same id.*text 2 'a'"):
        client.synth_many([("a", "你好"), ("b", "再见"), ("a", "早上好")])
    assert recorder.said == []
    outcomes = client.synth_many([("a", "你好"), ("b", "再见"), ("a", "早")], on_error="return")
    assert [each.ok for each in outcomes] == [True, True, False]
    same = list(client.synth_iter([("a", "你好"), ("a", "早上好")]))
    assert [each.ok for each in same] == [True, True]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (("a", "b", "c"), r"got a tuple of 3; write Utterance\(text, id="),
        ((1.5, "你好"), "id: expected a str or an int, got float"),
        ((True, "你好"), "id: expected a str or an int, got bool"),
        (["a", "你好"], r"a text with its id is a tuple, \('id', 'text'\)"),
        ({"id": "a", "text": "你好"}, r"write Utterance\(text, id=\.\.\.\)"),
        (Utterance(Utterance("你好")), "expected a text, got Utterance"),
        (Utterance("你好", id=b"a"), "id: expected a str or an int, got bytes"),
    ],
)
def test_an_item_that_is_none_is_told_what_to_write(client, recorder, item, words) -> None:
    with pytest.raises(InvalidTextError, match=words) as caught:
        client.synth_many(["早上好", item])
    assert caught.value.index == 1 and "你好" not in str(caught.value)
    assert recorder.said == []


def test_a_call_of_one_text_says_where_an_items_parts_go(client) -> None:
    for call in (client.synth, client.submit):
        with pytest.raises(InvalidTextError, match=r"synth\(text, voice=\.\.\.\)"):
            call(Utterance("你好", voice="中文男"))


# -- voices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("count", COUNTS)
def test_texts_of_one_voice_share_requests_and_no_others(client, recorder, call, count) -> None:
    names = [None, "中文男", "英文女"]
    items = [
        Utterance(text, id=key, voice=names[number % 3])
        for number, (key, text) in enumerate(rows(count))
    ]
    outcomes = outcomes_of(client, call, items)
    assert [each.audio.data for each in outcomes] == [FakeService.wav(i.text) for i in items]
    expected: dict[str, set[str]] = {}
    for item in items:
        expected.setdefault(item.voice or "中文女", set()).add(item.text)
    assert recorder.voices() == expected
    # Not one request for each text: as many as so many texts of each voice need.
    assert len(recorder.said) <= 3 * (1 + count // 64)


def test_what_says_no_more_than_the_call_is_the_calls_own(client, recorder) -> None:
    items = ["第一句话", Utterance("第二句话", voice="中文女"), Utterance("第三句话", speed=1.0)]
    client.synth_many([*items, Utterance("第四句话", voice=Voice("中文女"))])
    assert len(recorder.said) == 1


def test_the_settings_of_a_call_hold_for_items_that_say_nothing_else(client, recorder) -> None:
    client.synth_many(
        ["第一句话", Utterance("第二句话", speed=2.0), Utterance("第三句话", voice="英文女")],
        voice="中文男",
        speed=1.5,
    )
    said = {(each["voice"], each["speed"]): each["texts"] for each in recorder.said}
    assert said == {
        ("中文男", 1.5): ["第一句话"],
        ("中文男", 2.0): ["第二句话"],
        ("英文女", 1.5): ["第三句话"],
    }


@pytest.mark.parametrize("call", CALLS)
def test_a_voice_that_cannot_be_is_its_items_error(client, recorder, call) -> None:
    items = [
        Utterance("你好", id="a"),
        Utterance("再见", id="b", voice=Voice(reference=b"no sound", transcript="x")),
        Utterance("早上好", id="c", speed=9),
        Utterance("晚上好", id="d", voice=5),  # type: ignore[arg-type]
    ]
    outcomes = outcomes_of(client, call, items)
    assert [each.ok for each in outcomes] == [True, False, False, False]
    for outcome, words in zip(outcomes[1:], ("voice", "speed: must be", "voice"), strict=True):
        assert isinstance(outcome.error, ConfigError) and words in str(outcome.error)
        assert f"text {outcome.index} {outcome.id!r}" in str(outcome.error)
    recorder.said.clear()
    with pytest.raises(ConfigError, match="and 2 more texts cannot be sent"):
        client.synth_many(items)
    assert recorder.said == []


def test_an_item_may_be_used_in_several_calls(client) -> None:
    item = Utterance("你好", id="a", voice="中文男")
    for _ in range(2):
        outcomes = client.synth_many(["再见", item, "早上好"], on_error="return")
        assert outcomes[1].id == "a"
    assert item == Utterance("你好", id="a", voice="中文男") and item.index == 0


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("own", ["中文女", "nobody"])
def test_a_voice_that_is_refused_leaves_the_texts_of_other_voices(call, own) -> None:
    service, sent = FakeService(), []

    def handle(request: httpx.Request) -> httpx.Response:
        said = json.loads(request.read())
        sent.append(said["voice"])
        if said["voice"] == "nobody":
            return httpx.Response(400, json={"error": {"message": "unknown voice"}})
        return service.handle_request(request)

    other = "nobody" if own == "中文女" else "中文男"
    # Those of the wrong voice come first: all that is sent is refused, until the others come.
    wrong = [Utterance(text, voice="nobody", id=key) for key, text in rows(600)]
    right = [Utterance(text, voice=other if own == "nobody" else None) for _, text in rows(300)]
    http_client = httpx.Client(transport=httpx.MockTransport(handle))
    with CosyClient(URL, http_client=http_client, voice=own, batch_size=16) as client:
        outcomes = outcomes_of(client, call, [*wrong, *right])
    assert [each.ok for each in outcomes] == [False] * 600 + [True] * 300
    assert all("unknown voice" in str(each.error) for each in outcomes[:600])
    if call == "synth_iter":
        assert sent.count("nobody") < 100  # its rest was not sent, as in a call of one voice


@pytest.mark.parametrize("call", CALLS)
def test_a_key_that_is_refused_ends_a_call_of_many_voices(call) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(401, json={"error": {"message": "wrong key"}})

    items = [Utterance(text, voice=f"v{n % 7}") for n, (_, text) in enumerate(rows(700))]
    http_client = httpx.Client(transport=httpx.MockTransport(handle))
    with CosyClient(URL, http_client=http_client, batch_size=10) as client:
        outcomes = outcomes_of(client, call, items)
        assert not any(outcomes) and client.stats().requests < 60
