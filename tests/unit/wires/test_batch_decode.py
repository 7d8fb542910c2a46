"""What the batch wire reads: literal replies, ugly ones too."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest

from cosy_sync.config import BatchConfig, ClientConfig
from cosy_sync.errors import (
    BadAudioError,
    BadRequestError,
    CosyError,
    ServerError,
    TextError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.messages import Payload, Reply
from cosy_sync.wires import BatchWire, SpeechOptions

TEXTS = ("你好，我的朋友", "再见，我的朋友")
WIRE = BatchWire("http://tts/batch", SpeechOptions.from_config(ClientConfig()))
PCM_WIRE = BatchWire("http://tts/batch", SpeechOptions.from_config(ClientConfig(format="pcm")))
ONE, TWO = b"RIFF-one", b"RIFF-two"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def reply(body: Any, content_type: str = "application/json", **headers: str) -> Reply:
    raw = body if isinstance(body, (bytes, bytearray, memoryview)) else json.dumps(body).encode()
    return Reply(200, {"content-type": content_type, "x-request-id": "r9", **headers}, raw)


def mixed(*parts: tuple[dict[str, Any], bytes]) -> Reply:
    body = b""
    for headers, data in parts:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        body += b"--b1\r\n" + lines.encode() + b"\r\n" + data + b"\r\n"
    return reply(body + b"--b1--\r\n", "multipart/mixed; boundary=b1")


def shown(results: Sequence[Payload | CosyError]) -> list[Any]:
    """Payloads as their bytes, errors as their type and reason."""
    return [
        item.data
        if isinstance(item, Payload)
        else (type(item).__name__, getattr(item, "reason", None) or getattr(item, "code", None))
        for item in results
    ]


def decoded(answer: Reply, texts: Sequence[str] = TEXTS) -> list[Any]:
    return shown(WIRE.decode(answer, texts))


def refusal(answer: Reply, texts: Sequence[str] = TEXTS) -> str:
    with pytest.raises(BadAudioError) as caught:
        WIRE.decode(answer, texts)
    return caught.value.reason


# --- the three forms of PROTOCOLS section 0


def test_a_literal_multipart_reply_is_read() -> None:
    body = (
        b"\r\n--frontier\r\n"
        b"Content-Type: audio/wav\r\nX-Index: 0\r\nX-Status: success\r\nContent-Length: 8\r\n"
        b"\r\nRIFF-one\r\n--frontier\r\n"
        b"Content-Type: application/json\r\nX-Index: 1\r\nX-Status: error\r\n"
        b"Content-Length: 60\r\n\r\n"
        b'{"error":{"code":"invalid_text","message":"nothing to say"}}'
        b"\r\n--frontier--\r\n"
    )
    [first, second] = WIRE.decode(reply(body, 'Multipart/Mixed; boundary="frontier"'), TEXTS)
    assert first == Payload(ONE, "audio/wav")
    assert isinstance(second, TextError)
    assert (second.code, second.request_id) == ("invalid_text", "r9")
    assert "nothing to say" in str(second)


def test_a_literal_json_reply_is_read() -> None:
    body = {
        "results": [
            {
                "index": 0,
                "status": "success",
                "audio_data": b64(ONE),
                "media_type": "audio/L16;rate=8000",
            },
            {"index": 1, "status": "error", "error": "nothing to say"},
        ],
        "total": 2,
        "succeeded": 1,
        "failed": 1,
    }
    [first, second] = WIRE.decode(reply(body), TEXTS)
    assert first == Payload(ONE, "audio/L16;rate=8000")
    assert isinstance(second, TextError)
    assert "nothing to say" in str(second)


def test_a_bare_array_is_read() -> None:
    [first, second] = WIRE.decode(reply([b64(ONE), None]), TEXTS)
    assert first == Payload(ONE, "audio/wav")
    assert isinstance(second, TextError)


def test_audio_without_a_media_type_is_what_was_asked_for() -> None:
    assert PCM_WIRE.decode(reply([b64(ONE)]), ["a"]) == [Payload(ONE, "audio/pcm")]
    bare = {"results": [{"index": 0, "audio_data": b64(ONE), "status": None}]}
    assert PCM_WIRE.decode(reply(bare), ["a"]) == [Payload(ONE, "audio/pcm")]
    assert PCM_WIRE.decode(mixed(({}, ONE)), ["a"]) == [Payload(ONE, "audio/pcm")]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_body_may_be_any_kind_of_bytes(kind: type) -> None:
    multipart, array = (
        mixed(({"X-Index": 1}, TWO), ({"X-Index": 0}, ONE)),
        reply([b64(ONE), b64(TWO)]),
    )
    for answer in (multipart, array):
        answer.body = kind(answer.body)
        assert decoded(answer) == [ONE, TWO]


@pytest.mark.parametrize("kind", ["", "text/plain", "application/problem+json"])
def test_json_is_known_by_its_look_when_the_media_type_is_poor(kind: str) -> None:
    assert decoded(reply(b"\n " + json.dumps([b64(ONE)]).encode(), kind), ["a"]) == [ONE]


# --- whose result is whose


def test_results_out_of_order_find_their_texts() -> None:
    items = [{"index": 1, "audio_data": b64(TWO)}, {"index": 0, "audio_data": b64(ONE)}]
    assert decoded(reply({"results": items})) == [ONE, TWO]
    assert decoded(mixed(({"X-Index": "1"}, TWO), ({"x-index": "0"}, ONE))) == [ONE, TWO]


def test_without_indexes_the_order_counts() -> None:
    assert decoded(mixed(({}, ONE), ({}, TWO))) == [ONE, TWO]
    assert decoded(reply({"results": [{"audio_data": b64(ONE)}, b64(TWO)]})) == [ONE, TWO]


def test_a_missing_index_fails_its_text_alone() -> None:
    expected = [("BadAudioError", "missing"), TWO]
    assert decoded(mixed(({"X-Index": 1}, TWO))) == expected
    assert decoded(reply({"results": [{"index": 1, "audio_data": b64(TWO)}]})) == expected


def test_a_doubled_index_fails_both_claims() -> None:
    texts = ["a", "b", "c"]
    expected = [("BadAudioError", "index"), ("BadAudioError", "missing"), TWO]
    indexes = [0, 0, 2]
    datas = [ONE, ONE, TWO]
    parts = [({"X-Index": index}, data) for index, data in zip(indexes, datas, strict=True)]
    assert decoded(mixed(*parts), texts) == expected
    items = [
        {"index": index, "audio_data": b64(data)}
        for index, data in zip(indexes, datas, strict=True)
    ]
    assert decoded(reply({"results": items}), texts) == expected


def test_one_result_too_many_with_a_doubled_index_fails_that_index_alone() -> None:
    parts = [({"X-Index": index}, ONE) for index in (0, 1, 1)]
    assert decoded(mixed(*parts)) == [ONE, ("BadAudioError", "index")]


@pytest.mark.parametrize("index", [2, -1, 1.0, "1", True, [], 10**30, "x"])
def test_an_index_that_cannot_be_refuses_the_reply(index: Any) -> None:
    items = [{"index": 0, "audio_data": b64(ONE)}, {"index": index, "audio_data": b64(TWO)}]
    assert refusal(reply({"results": items})) in ("index", "not_json")


@pytest.mark.parametrize("index", ["2", "-1", "1.0", "", "one", "²", "9" * 5_000])
def test_an_x_index_that_cannot_be_refuses_the_reply(index: str) -> None:
    assert refusal(mixed(({"X-Index": "0"}, ONE), ({"X-Index": index}, TWO))) == "index"


def test_indexes_on_some_results_only_refuse_the_reply() -> None:
    assert refusal(mixed(({"X-Index": "0"}, ONE), ({}, TWO))) == "index"
    assert refusal(reply([{"index": 0, "audio_data": b64(ONE)}, None])) == "index"


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_another_number_of_results_without_index_refuses_the_reply(count: int) -> None:
    assert refusal(reply([b64(ONE)] * count)) == "count"
    assert refusal(reply({"results": [b64(ONE)] * count})) == "count"
    assert refusal(mixed(*[({}, ONE)] * count)) == "count"


# --- one text that failed


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("invalid_text", TextError),
        (422, TextError),
        ("429", ThrottledError),
        (429, ThrottledError),
        ("Throttled", ThrottledError),
        ("RATE_LIMIT_exceeded", ThrottledError),
        (500, UnavailableError),
        ("599", UnavailableError),
        ("INTERNAL", UnavailableError),
        ("timeout", UnavailableError),
        ("Unavailable", UnavailableError),
        ("overloaded", UnavailableError),
        ("InternalError.Timeout", UnavailableError),
    ],
)
def test_the_code_says_whether_a_text_may_be_tried_again(
    code: Any, kind: type[ServerError]
) -> None:
    said = {"error": {"code": code, "message": "hm"}}
    part = {"X-Status": "error", "Content-Type": "application/json"}
    answers = [
        mixed((part, json.dumps(said).encode())),
        reply({"results": [{"index": 0, "status": "error", **said}]}),
        reply({"results": [{"status": "error", "error": "hm", "code": code}]}),
    ]
    for answer in answers:
        [error] = WIRE.decode(answer, ["a"])
        assert type(error) is kind
        assert isinstance(error, ServerError)
        assert error.code == str(code)
        assert "hm" in error.message
        assert error.retryable == (kind is not TextError)


def test_an_error_without_a_word_is_still_an_error() -> None:
    for answer in (
        reply([{"status": "failed"}]),
        mixed(({"X-Status": "error"}, b"\x00\xff")),
        mixed(({"X-Status": "weird"}, ONE)),
    ):
        [error] = WIRE.decode(answer, ["a"])
        assert isinstance(error, TextError)
        assert "no reason given" in str(error)


def test_a_plain_text_error_part_is_told() -> None:
    part = {"X-Status": "error", "Content-Type": "text/plain; charset=utf-8"}
    [error] = WIRE.decode(mixed((part, "说不出来".encode())), ["a"])
    assert "说不出来" in str(error)


def test_a_json_part_without_status_is_an_error() -> None:
    part = {"Content-Type": "application/json; charset=utf-8"}
    assert decoded(mixed((part, b'{"error":"boom"}')), ["a"]) == [("TextError", None)]
    assert decoded(mixed((part, b'{"fine":1}')), ["a"]) == [("BadAudioError", "not_audio")]
    assert decoded(mixed((part, b"{")), ["a"]) == [("BadAudioError", "not_audio")]


@pytest.mark.parametrize(
    "audio", ["####", "QQ", "QUFB\n", "£", 5, True, {"a": 1}, "UklGRg==UklGRg=="]
)
def test_broken_base64_fails_its_text_alone(audio: Any) -> None:
    good = {"index": 0, "audio_data": b64(ONE)}
    bad = {"index": 1, "audio_data": audio}
    assert decoded(reply({"results": [good, bad]})) == [ONE, ("BadAudioError", "base64")]


def test_broken_base64_in_a_bare_array_fails_its_text_alone() -> None:
    assert decoded(reply([b64(ONE), "####"])) == [ONE, ("BadAudioError", "base64")]


def test_a_success_without_audio_is_missing() -> None:
    items = [{"index": 0, "status": "success"}, {"index": 1, "audio_data": None}]
    assert decoded(reply({"results": items})) == [("BadAudioError", "missing")] * 2


@pytest.mark.parametrize("name", ["Content-Encoding", "Content-Transfer-Encoding"])
def test_a_part_in_an_encoding_nobody_agreed_on_is_refused(name: str) -> None:
    assert decoded(mixed(({name: "base64"}, ONE)), ["a"]) == [("BadAudioError", "header")]
    assert decoded(mixed(({name: "binary"}, ONE)), ["a"]) == [ONE]


# --- a 200 that is none


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ({"error": {"code": "internal", "message": "boom"}}, UnavailableError, 503),
        ({"error": "boom"}, UnavailableError, 500),
        ({"error": {"code": "InvalidParameter", "message": "boom"}}, BadRequestError, 400),
        ({"error": {"code": "rate_limited", "message": "boom"}}, ThrottledError, 429),
        ({"status_code": 429, "message": "boom"}, ThrottledError, 429),
        ({"code": 503, "message": "boom"}, UnavailableError, 503),
        ({"detail": [{"loc": ["body", "texts", 0], "msg": "boom"}]}, BadRequestError, 422),
        ({"results": [], "error": "boom"}, UnavailableError, 500),
    ],
)
def test_a_200_that_tells_an_error_is_that_error(
    body: Any, kind: type[ServerError], status: int
) -> None:
    with pytest.raises(kind) as caught:
        WIRE.decode(reply(body, **{"retry-after": "7"}), TEXTS)
    error = caught.value
    assert (error.status, error.retry_after, error.request_id) == (status, 7.0, "r9")
    assert "boom" in str(error)
    assert "HTTP 200" in str(error)


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"", "application/json", "empty"),
        (b"", "multipart/mixed; boundary=b1", "empty"),
        (b"<html>hello</html>", "text/html", "not_audio"),
        (b"[]<", "text/html; charset=utf-8", "not_audio"),
        (b"RIFF", "audio/wav", "not_audio"),
        (b"hello", "text/plain", "not_audio"),
        (b"hello", "", "not_audio"),
        (b"[1,", "application/json", "not_json"),
        (b'["\xff"]', "application/json", "not_json"),
        (b"[" * 100_000, "application/json", "not_json"),
        (b"{}", "application/json", "not_audio"),
        (b"5", "application/json", "not_audio"),
        (b"null", "application/json", "not_audio"),
        (b'{"results": {"0": "UklGRg=="}}', "application/json", "not_audio"),
        (b"--b1\r\n\r\nRIFF", "multipart/mixed; boundary=b1", "cut"),
        (b"--b1\r\n\r\nRIFF", "multipart/mixed", "header"),
    ],
)
def test_a_200_without_results_is_refused_as_a_whole(
    body: bytes, content_type: str, reason: str
) -> None:
    answer = reply(body, content_type)
    assert refusal(answer) == reason
    with pytest.raises(BadAudioError) as caught:
        WIRE.decode(answer, TEXTS)
    assert "hello" not in str(caught.value)


# --- refusals


def test_a_refusal_of_the_whole_call_is_its_error() -> None:
    body = b'{"error":{"code":"too_many","message":"slow down"}}'
    with pytest.raises(ThrottledError) as caught:
        WIRE.decode(Reply(429, {"retry-after": "2"}, body), TEXTS)
    assert caught.value.retry_after == 2


@pytest.mark.parametrize("status", [204, 206, 301, 404, 503])
def test_no_other_status_is_a_success(status: int) -> None:
    with pytest.raises(ServerError):
        WIRE.decode(Reply(status, {"content-type": "application/json"}, b'["UklGRg=="]'), ["a"])


@pytest.mark.parametrize(
    ("status", "splits"), [(400, True), (413, True), (422, True), (401, False), (500, False)]
)
def test_only_refusals_that_one_text_may_cause_are_split(status: int, splits: bool) -> None:
    assert WIRE.splits(ServerError("no", status=status)) is splits


def test_halving_can_be_declined() -> None:
    config = ClientConfig(batch=BatchConfig(halve_refused=False))
    wire = BatchWire("http://tts.test/batch", SpeechOptions.from_config(config))
    assert not any(wire.splits(ServerError("no", status=status)) for status in (400, 413, 422))


def test_no_error_shows_a_text() -> None:
    secret = "我的密码是一二三四"
    said = {"code": f"bad:{secret}", "message": f"cannot speak {secret}!"}
    answers = [
        reply([{"status": "error", "error": said}]),
        mixed(({"X-Status": "error", "Content-Type": "text/plain"}, secret.encode())),
        reply({"error": said}),
        Reply(400, {"content-type": "application/json"}, json.dumps({"error": said}).encode()),
        Reply(400, {"content-type": "text/plain"}, secret.encode()),
        reply(b"x", f"text/{secret}"),
    ]
    for answer in answers:
        try:
            [error] = WIRE.decode(answer, [secret])
        except CosyError as raised:
            error = raised
        assert isinstance(error, CosyError)
        assert "密码" not in str(error) + repr(error.__dict__)


# --- the hash of the text beside its audio


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def echoed(form: str, *hashes: object) -> Reply:
    """Write a reply with two recordings in their places, and beside each the hash given."""
    if form == "multipart":
        return mixed(
            ({"X-Index": 0, "X-Text-SHA256": hashes[0]}, ONE),
            ({"X-Index": 1, "X-Text-SHA256": hashes[1]}, TWO),
        )
    items = [
        {"index": index, "audio_data": b64(data), "text_sha256": hashes[index]}
        for index, data in enumerate((ONE, TWO))
    ]
    return reply({"results": items})


@pytest.mark.parametrize("form", ["multipart", "results"])
def test_audio_with_the_hash_of_its_text_is_good(form: str) -> None:
    assert decoded(echoed(form, sha(TEXTS[0]), sha(TEXTS[1]).upper())) == [ONE, TWO]


@pytest.mark.parametrize("form", ["multipart", "results"])
def test_audio_with_the_hash_of_another_text_is_misplaced(form: str) -> None:
    misplaced = ("BadAudioError", "misplaced")
    assert decoded(echoed(form, sha(TEXTS[1]), sha(TEXTS[0]))) == [misplaced, misplaced]
    assert decoded(echoed(form, sha(TEXTS[0]), sha(TEXTS[0]))) == [ONE, misplaced]
    assert decoded(echoed(form, "no hash", sha(TEXTS[1]))) == [misplaced, TWO]


def test_a_hash_of_null_or_nothing_is_none() -> None:
    assert decoded(echoed("results", None, sha(TEXTS[1]))) == [ONE, TWO]
    assert decoded(echoed("multipart", "", sha(TEXTS[1]))) == [ONE, TWO]


def test_the_hash_beside_an_error_is_not_looked_at() -> None:
    item = {"index": 1, "status": "error", "error": "no", "text_sha256": sha("another")}
    answer = reply({"results": [{"index": 0, "audio_data": b64(ONE)}, item]})
    [first, second] = WIRE.decode(answer, TEXTS)
    assert isinstance(first, Payload) and isinstance(second, TextError)
