"""One task of Alibaba's WebSocket protocol, against transcripts of its documentation."""

import json
from typing import Any

import pytest

from cosy_sync.config import ClientConfig
from cosy_sync.errors import (
    AuthError,
    BadAudioError,
    BadRequestError,
    ConfigError,
    CosyError,
    CutError,
    InvalidTextError,
    TextError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.messages import Reply, WireRequest
from cosy_sync.models import Voice, Word
from cosy_sync.wires.base import SpeechOptions
from cosy_sync.wires.dashscope_task import SpeechTask, TaskPlan
from cosy_sync.wires.dashscope_ws import DashscopeWsWire
from cosy_sync.wires.registry import create_wire

URL = "wss://dashscope.test/api-ws/v1/inference"


def wire(**settings: Any) -> DashscopeWsWire:
    given = {"model": "cosyvoice-v3-flash", "voice": "longanyang", "api_key": "sk-secret"}
    options = SpeechOptions.from_config(ClientConfig(**{**given, **settings}))
    made = create_wire("dashscope_ws", URL, options)
    assert isinstance(made, DashscopeWsWire)
    return made


def said(frame: str | bytes) -> dict[str, Any]:
    assert isinstance(frame, str)
    value: dict[str, Any] = json.loads(frame)
    return value


class Source:
    def __init__(self, *pieces: str, ended: bool = False) -> None:
        self.pieces, self.ended = list(pieces), ended
        self.error: CosyError | None = None


def fed(source: Source) -> SpeechTask:
    return wire().listen_to(source, _nothing, "r1").request


def _nothing(request: WireRequest) -> Reply:
    raise AssertionError("nothing is asked before")


def inputs(task: SpeechTask, *texts: str) -> tuple[str, ...]:
    """The frames that carry these texts."""
    header = {"action": "continue-task", "task_id": task.task_id, "streaming": "duplex"}
    messages = [{"header": header, "payload": {"input": {"text": text}}} for text in texts]
    return tuple(
        json.dumps(message, ensure_ascii=False, separators=(",", ":")) for message in messages
    )


def event(task: SpeechTask, text: str) -> str:
    """Return a literal event with the task's own id."""
    return text.replace("TASK", task.task_id)


STARTED = '{"header":{"task_id":"TASK","event":"task-started","attributes":{}},"payload":{}}'
GENERATED = (
    '{"header":{"task_id":"TASK","event":"result-generated","attributes":{}},"payload":{"output":'
    '{"type":"sentence-synthesis","sentence":{"index":0,"words":[]}}}}'
)
ENDED = (
    '{"header":{"task_id":"TASK","event":"result-generated","attributes":{}},"payload":{"output":'
    '{"type":"sentence-end","original_text":"你好。","sentence":{"index":0,"words":[]}},'
    '"usage":{"characters":5}}}'
)
FINISHED = (
    '{"header":{"task_id":"TASK","event":"task-finished","attributes":{}},'
    '"payload":{"output":{},"usage":{"characters":5}}}'
)
FAILED = (
    '{"header":{"task_id":"TASK","event":"task-failed","error_code":"InvalidParameter",'
    '"error_message":"[tts:]Engine return error code: 418","attributes":{}},"payload":{}}'
)


def begun(text: str = "你好。", **settings: Any) -> SpeechTask:
    task = wire(**settings).task(text)
    task.open()
    task.receive(event(task, STARTED))
    return task


class TestWhatIsSaid:
    def test_run_task_is_as_documented(self) -> None:
        task = wire().task("你好。")
        [frame] = task.open()
        assert said(frame) == {
            "header": {"action": "run-task", "task_id": task.task_id, "streaming": "duplex"},
            "payload": {
                "task_group": "audio",
                "task": "tts",
                "function": "SpeechSynthesizer",
                "model": "cosyvoice-v3-flash",
                "parameters": {
                    "text_type": "PlainText",
                    "voice": "longanyang",
                    "format": "pcm",
                    "sample_rate": 24_000,
                    "rate": 1.0,
                },
                "input": {},
            },
        }
        assert len(task.task_id) == 32

    def test_extra_goes_into_the_parameters_and_cannot_change_the_format(self) -> None:
        task = wire(
            voice=Voice("longanyang", instruction="用四川话说"),
            speed=1.5,
            sample_rate=16_000,
            extra={"volume": 80, "pitch": 1.1, "format": "mp3", "language_hints": ["zh"]},
        ).task("你好")
        assert said(task.open()[0])["payload"]["parameters"] == {
            "text_type": "PlainText",
            "voice": "longanyang",
            "format": "pcm",
            "sample_rate": 16_000,
            "rate": 1.5,
            "volume": 80,
            "pitch": 1.1,
            "language_hints": ["zh"],
            "instruction": "用四川话说",
        }

    def test_the_text_and_the_end_wait_for_task_started(self) -> None:
        task = wire().task("你好。")
        task.open()
        header = {"task_id": task.task_id, "streaming": "duplex"}
        frames = task.receive(event(task, STARTED))
        assert [said(frame) for frame in frames] == [
            {
                "header": {"action": "continue-task", **header},
                "payload": {"input": {"text": "你好。"}},
            },
            {"header": {"action": "finish-task", **header}, "payload": {"input": {}}},
        ]

    def test_every_task_has_an_id_of_its_own(self) -> None:
        one = wire()
        assert one.task("a").task_id != one.task("a").task_id

    def test_the_key_is_in_the_headers_and_nowhere_else(self) -> None:
        made = wire(headers={"X-DashScope-WorkSpace": "w1", "Host": "x", "Sec-WebSocket-Key": "y"})
        task = made.task("你好")
        assert task.headers == (
            ("Authorization", "Bearer sk-secret"),
            ("X-DashScope-WorkSpace", "w1"),
        )
        assert "sk-secret" not in repr(made) + task.url + str(task.open())

    def test_an_authorization_of_the_users_own_wins(self) -> None:
        task = wire(headers={"authorization": "bearer temporary"}).task("你好")
        assert task.headers == (("authorization", "bearer temporary"),)

    def test_a_long_text_goes_in_several_messages(self) -> None:
        text = "好" * 25_000  # counts as 50 000 characters
        task = wire().task(text)
        task.open()
        *texts, last = [said(frame) for frame in task.receive(event(task, STARTED))]
        pieces = [each["payload"]["input"]["text"] for each in texts]
        assert "".join(pieces) == text
        assert [len(piece) for piece in pieces] == [10_000, 10_000, 5_000]
        assert last["header"]["action"] == "finish-task"

    @pytest.mark.parametrize(
        ("text", "count"), [("a" * 20_000, 1), ("a" * 20_001, 3), ("好" * 10_000, 1)]
    )
    def test_what_fits_goes_in_one(self, text: str, count: int) -> None:
        task = wire().task(text)
        task.open()
        assert len(task.receive(event(task, STARTED))) == count + 1

    @pytest.mark.parametrize("text", ["好" * 100_001, "a" * 200_001, "a" * 199_999 + "好"])
    def test_more_than_a_task_takes_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidTextError, match=r"more than 200000; split it"):
            wire().task(text)

    @pytest.mark.parametrize("text", ["好" * 100_000, "a" * 200_000, "a" * 199_998 + "好"])
    def test_as_much_as_a_task_takes_is_not(self, text: str) -> None:
        wire().task(text)

    def test_ssml_is_one_message_or_none(self) -> None:
        ssml = wire(extra={"enable_ssml": True})
        task = ssml.task("<speak>" + "<break/>" * 2_000 + "a" * 20_000 + "</speak>")
        task.open()
        assert len(task.receive(event(task, STARTED))) == 2
        with pytest.raises(InvalidTextError, match="SSML"):
            ssml.task("<speak>" + "a" * 20_001 + "</speak>")

    def test_half_a_character_is_refused(self) -> None:
        with pytest.raises(InvalidTextError, match="half a character"):
            wire().task("\ud800")


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"model": None}, "model"),
            ({"voice": None}, "voice"),
            ({"voice": Voice(instruction="轻声")}, "voice"),
            ({"voice": Voice(reference=b"RIFF")}, "reference recording"),
            ({"speed": 2.5}, "speed"),
            ({"speed": 0.4}, "speed"),
            ({"sample_rate": 12_000}, "sample_rate"),
        ],
    )
    def test_before_anything_is_sent(self, settings: dict[str, Any], words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            wire(**settings)

    def test_http_is_no_way_to_speak_it(self) -> None:
        config = ClientConfig(model="m", voice=Voice("longanyang"))
        with pytest.raises(ConfigError, match="needs ws://, wss://"):
            create_wire("dashscope_ws", "https://h/x", SpeechOptions.from_config(config))

    @pytest.mark.parametrize("speed", [0.5, 2.0])
    def test_the_bounds_themselves_are_allowed(self, speed: float) -> None:
        wire(speed=speed)


class TestWhatComes:
    def test_audio_is_what_the_binary_frames_hold(self) -> None:
        task = begun()
        assert task.receive(event(task, GENERATED)) == ()
        task.receive(b"\x01\x02")
        task.receive(event(task, GENERATED))
        task.receive(b"\x03\x04")
        assert task.take() == b"\x01\x02\x03\x04"
        assert task.take() == b""
        task.receive(event(task, ENDED))
        assert not task.done
        task.receive(event(task, FINISHED))
        assert task.done and task.reusable

    def test_audio_may_come_in_one_frame_without_any_event(self) -> None:
        task = begun()
        task.receive(b"\x01\x02")
        assert task.take() == b"\x01\x02"

    @pytest.mark.parametrize(
        "frame",
        [
            '{"header":{"task_id":"TASK","event":"brand-new","attributes":{}},"payload":{}}',
            '{"header":{"task_id":"other","event":"brand-new"}}',
            '{"header":{}}',
            "{}",
            "[]",
            "null",
            '{"header":null}',
            '{"header":{"event":7}}',
            '{"header":{"event":"result-generated"},"payload":{"output":{"sentence":[]}}}',
            '{"header":{"event":"result-generated"},"payload":null}',
            '{"header":{"event":"result-generated"},"payload":{"output":{"sentence":'
            '{"index":0,"words":[1,{},{"begin_time":"x","end_time":2}]}}}}',
        ],
    )
    def test_what_it_does_not_know_it_passes_over(self, frame: str) -> None:
        task = begun()
        assert task.receive(event(task, frame)) == ()
        assert (task.done, task.words) == (False, ())
        task.receive(event(task, FINISHED))
        assert task.reusable

    def test_an_id_may_come_back_with_hyphens_and_in_capitals(self) -> None:
        task = begun()
        own = task.task_id.upper()
        own = "-".join([own[:8], own[8:12], own[12:16], own[16:20], own[20:]])
        task.receive(FINISHED.replace("TASK", own))
        assert task.reusable

    @pytest.mark.parametrize("text", [STARTED, GENERATED, FINISHED, FAILED])
    def test_an_event_of_another_task_makes_the_audio_doubtful(self, text: str) -> None:
        task = begun()
        with pytest.raises(BadAudioError) as caught:
            task.receive(text.replace("TASK", "0" * 32))
        assert caught.value.reason == "misplaced"
        assert task.done and not task.reusable

    def test_audio_before_the_task_has_begun_is_nobodys(self) -> None:
        task = wire().task("你好")
        task.open()
        with pytest.raises(BadAudioError) as caught:
            task.receive(b"\x00\x00")
        assert caught.value.reason == "misplaced"

    def test_a_task_that_ends_before_its_text_was_sent_is_none(self) -> None:
        task = wire().task("你好")
        task.open()
        with pytest.raises(BadAudioError) as caught:
            task.receive(event(task, FINISHED))
        assert caught.value.reason == "cut"
        assert not task.reusable

    def test_a_text_frame_that_is_no_json_is_refused(self) -> None:
        task = begun()
        with pytest.raises(BadAudioError) as caught:
            task.receive("<html>")
        assert caught.value.reason == "not_json"
        assert task.done and not task.reusable

    def test_a_second_task_started_does_not_send_the_text_again(self) -> None:
        task = begun()
        assert task.receive(event(task, STARTED)) == ()


class TestFailures:
    def test_a_failed_task_says_why_and_leaves_no_socket(self) -> None:
        task = begun()
        with pytest.raises(BadRequestError, match=r"418.*check that the voice") as caught:
            task.receive(event(task, FAILED))
        assert caught.value.request_id == task.task_id
        assert task.done and not task.reusable

    def test_it_may_fail_before_it_has_begun(self) -> None:
        task = wire().task("你好")
        task.open()
        text = FAILED.replace("InvalidParameter", "Throttling.RateQuota")
        with pytest.raises(ThrottledError):
            task.receive(event(task, text))

    def test_it_may_fail_after_audio(self) -> None:
        task = begun()
        task.receive(b"\x01\x02")
        with pytest.raises(CosyError):
            task.receive(event(task, FAILED))
        assert task.take() == b"\x01\x02"

    def test_what_the_service_quotes_is_blanked_out(self) -> None:
        task = begun("我的密码是一二三四")
        text = FAILED.replace("InvalidParameter", "DataInspectionFailed")
        text = text.replace("[tts:]Engine return error code: 418", "bad: 密码是一二三四")
        with pytest.raises(TextError) as caught:
            task.receive(event(task, text))
        assert "密码" not in str(caught.value)

    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            (1003, BadRequestError),
            (1007, BadRequestError),
            (1008, BadRequestError),
            (1009, BadRequestError),
            (1001, UnavailableError),
            (1011, UnavailableError),
            (1012, UnavailableError),
            (1013, UnavailableError),
            (1000, type(None)),
            (1005, type(None)),
        ],
    )
    def test_close_codes_have_a_meaning(self, code: int, expected: type) -> None:
        task = begun("我的密码是一二三四")
        error = task.closed(code, "no 密码是一二三四")
        assert type(error) is expected
        assert "密码" not in str(error)
        assert task.done and not task.reusable

    @pytest.mark.parametrize(
        ("status", "body", "expected"),
        [
            (
                401,
                b'{"code":"InvalidApiKey","message":"Invalid API-key provided.","request_id":"r"}',
                AuthError,
            ),
            (403, b"", AuthError),
            (429, b'{"code":"Throttling.RateQuota","message":"slow"}', ThrottledError),
            (429, b"", ThrottledError),
            (400, b'{"code":"Arrearage","message":"pay"}', CosyError),
            (503, b"<html><title>down</title>", UnavailableError),
            (500, b"[]", UnavailableError),
            (302, b"", CosyError),
        ],
    )
    def test_a_refused_handshake_says_why(
        self, status: int, body: bytes, expected: type[CosyError]
    ) -> None:
        task = wire().task("你好")
        error = task.refuse(Reply(status, {"retry-after": "7"}, body))
        assert isinstance(error, expected)
        assert getattr(error, "status", None) == status
        assert getattr(error, "retry_after", None) == 7


class TestCancelAndMore:
    def test_the_directive_ends_a_task_that_has_begun(self) -> None:
        task = begun()
        [frame] = task.cancel()
        assert said(frame) == {
            "header": {
                "action": "finish-task",
                "task_id": task.task_id,
                "streaming": "duplex",
            },
            "payload": {"input": {"directive": "cancel"}},
        }
        assert not task.done
        task.receive(b"\x01\x02")  # was on its way
        task.receive(event(task, FINISHED))
        assert task.reusable

    def test_nothing_may_be_said_before_it_has_begun_or_after_its_end(self) -> None:
        task = wire().task("你好")
        task.open()
        assert task.cancel() == ()
        task.receive(event(task, STARTED))
        task.receive(event(task, FINISHED))
        assert task.cancel() == ()

    def test_pieces_can_follow_while_audio_comes(self) -> None:
        source = Source("早。")
        task = fed(source)
        task.open()
        assert task.listens and task.pending() == ()
        assert task.receive(event(task, STARTED)) == inputs(task, "早。")
        task.receive(b"\x01\x02")
        assert task.pending() == ()
        source.pieces += ["上。", "好。"]
        assert task.pending() == inputs(task, "上。", "好。")
        source.ended = True
        (end,) = task.pending()
        assert said(end)["header"]["action"] == "finish-task"
        assert not task.listens and task.pending() == ()
        task.receive(event(task, FINISHED))
        assert task.take() == b"\x01\x02"
        assert task.reusable

    def test_pieces_have_the_limits_of_a_text(self) -> None:
        source = Source("好" * 90_000)
        task = fed(source)
        task.open()
        task.receive(event(task, STARTED))
        assert len(task.pending()) == 9
        source.pieces.append("好" * 10_001)
        with pytest.raises(InvalidTextError, match="more than 20000; split it"):
            task.pending()

    def test_a_piece_that_cannot_be_encoded_is_refused(self) -> None:
        task = fed(Source("\ud800"))
        task.open()
        with pytest.raises(InvalidTextError, match="half a character"):
            task.pending()

    def test_an_end_that_comes_early_waits_for_the_beginning(self) -> None:
        task = fed(Source("好。", ended=True))
        task.open()
        assert task.pending() == ()
        frames = task.receive(event(task, STARTED))
        actions = [said(frame)["header"]["action"] for frame in frames]
        assert actions == ["continue-task", "finish-task"]

    def test_why_the_pieces_ended_too_early_is_raised(self) -> None:
        source = Source("好。", ended=True)
        source.error = CutError("the model broke")
        task = fed(source)
        task.open()
        with pytest.raises(CutError, match="the model broke"):
            task.pending()

    def test_no_piece_at_all_is_nothing_to_speak(self) -> None:
        task = fed(Source(ended=True))
        task.open()
        with pytest.raises(InvalidTextError, match="nothing to speak"):
            task.pending()

    def test_a_repetition_begins_with_the_first_piece(self) -> None:
        source = Source("早。", "上。")
        for _ in range(2):
            task = fed(source)
            task.open()
            task.pending()
            assert task.receive(event(task, STARTED)) == inputs(task, "早。", "上。")

    def test_a_task_of_one_text_listens_to_nobody(self) -> None:
        task = wire().task("你好")
        assert not task.listens and task.pending() == ()


WORDS = (
    '{"header":{"task_id":"TASK","event":"result-generated"},"payload":{"output":{"type":"KIND",'
    '"sentence":{"index":INDEX,"words":['
    '{"text":"早","begin_index":0,"end_index":1,"begin_time":100,"end_time":250},'
    '{"text":"安","begin_index":1,"end_index":2,"begin_time":250,"end_time":400}]}}}}'
)


class TestWords:
    def test_they_are_known_in_seconds_and_once(self) -> None:
        task = begun()
        for kind in ("sentence-synthesis", "sentence-end"):
            task.receive(event(task, WORDS.replace("KIND", kind).replace("INDEX", "0")))
        assert task.words == (Word("早", 0.1, 0.25), Word("安", 0.25, 0.4))

    def test_sentences_follow_each_other(self) -> None:
        task = begun()
        for index in (1, 0):
            text = WORDS.replace("KIND", "sentence-end").replace("INDEX", str(index))
            task.receive(event(task, text.replace("早", "早" if index else "晚")))
        assert [word.text for word in task.words] == ["晚", "安", "早", "安"]

    def test_they_come_with_the_payload(self) -> None:
        def send(request: WireRequest) -> Reply:
            assert isinstance(request, SpeechTask)
            request.open()
            request.receive(event(request, STARTED))
            request.receive(event(request, WORDS.replace("INDEX", "0")))
            return Reply(200, {}, b"\x01\x02")

        [payload] = wire(sample_rate=16_000).exchange(["早安"], send, "1")
        assert not isinstance(payload, CosyError)
        assert (payload.data, payload.media_type) == (b"\x01\x02", "audio/pcm;rate=16000")
        assert [word.text for word in payload.words] == ["早", "安"]


def test_what_holds_the_key_does_not_show_it() -> None:
    url, headers = "wss://example.com/?token=secret-1", (("Authorization", "Bearer secret-2"),)
    plan = TaskPlan(url=url, headers=headers, payload={})
    assert "secret" not in repr(plan)
