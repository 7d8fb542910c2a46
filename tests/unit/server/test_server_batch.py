"""The wire `batch`: what is accepted, which form is chosen, what is written."""

import base64
import json

import pytest

from cosy_sync.server.batch import CallRules, Part, choose_form, read_call, write_reply
from cosy_sync.server.errors import RequestError
from cosy_sync.server.sound import Clip, Failure

RULES = CallRules(("中文女", "英文男"), max_texts=64, max_text_chars=100)


def refusal(body: object) -> str:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(RequestError) as caught:
        read_call(data, RULES)
    assert caught.value.status == 400
    return caught.value.message


def test_only_texts_are_required() -> None:
    call = read_call(b'{"texts": ["a"]}', RULES)
    assert (call.voice, call.audio_format, call.sample_rate, call.speed) == (
        "中文女",
        "wav",
        24_000,
        1.0,
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "JSON"),
        (b'{"texts": ["\xff"]}', "UTF-8"),
        (b"[" * 100_000, "JSON"),
        ([], "object"),
        ({}, "texts is missing"),
        ({"texts": "a"}, "not a list"),
        ({"texts": []}, "0 entries"),
        ({"texts": ["a"] * 65}, "65 entries"),
        ({"texts": ["a", " "]}, "texts[1] is empty"),
        ({"texts": ["a", "b", 3]}, "texts[2] is not a string"),
        ({"texts": ["x" * 101]}, "texts[0] has 101 characters"),
        (b'{"texts": ["\\ud800"]}', "texts[0] has half of a surrogate pair"),
        ({"texts": ["a"], "voice": "nobody"}, "known are 中文女, 英文男"),
        ({"texts": ["a"], "voice": ["x"]}, "unknown voice"),
        ({"texts": ["a"], "format": "mp3"}, "wav, pcm"),
        ({"texts": ["a"], "model": 1}, "model"),
        ({"texts": ["a"], "sample_rate": 7999}, "sample_rate"),
        ({"texts": ["a"], "sample_rate": 48001}, "sample_rate"),
        ({"texts": ["a"], "sample_rate": 24000.5}, "sample_rate"),
        ({"texts": ["a"], "speed": 0.2}, "speed"),
        ({"texts": ["a"], "speed": 4.1}, "speed"),
        ({"texts": ["a"], "speed": True}, "speed"),
        (b'{"texts": ["a"], "speed": NaN}', "speed"),
    ],
)
def test_a_refusal_names_the_field(body: object, words: str) -> None:
    assert words in refusal(body)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "multipart"),
        ("*/*", "multipart"),
        ("multipart/mixed, application/json;q=0.9", "multipart"),
        ("multipart/mixed;q=0.5, application/json", "results"),
        ("application/json", "results"),
        ("application/*", "results"),
        ("*/*;q=0.1, application/json", "results"),
        ("multipart/mixed;q=0, */*", "results"),
        ("Multipart/*", "multipart"),
    ],
)
def test_the_accept_header_chooses_the_form(accept: str, form: str) -> None:
    assert choose_form(accept) == form


def test_an_accept_header_that_fits_no_form_is_refused() -> None:
    with pytest.raises(RequestError) as caught:
        choose_form("audio/wav")
    assert caught.value.status == 406


PARTS = [
    Part(0, Clip.of(b"RI", memoryview(b"FF\r\n--")), "audio/wav"),
    Part(1, Failure("bad", 'no "speech"'), "audio/wav"),
]


def test_multipart_has_one_part_for_each_text() -> None:
    content_type, pieces = write_reply(PARTS, "multipart")
    boundary = content_type.partition("boundary=")[2]
    body = b"".join(pieces)
    parts = body.split(f"--{boundary}".encode())
    assert parts[0] == b""
    assert parts[-1] == b"--\r\n"
    assert parts[1] == (
        b"\r\nContent-Type: audio/wav\r\nX-Index: 0\r\nX-Status: success\r\n"
        b"Content-Length: 8\r\n\r\nRIFF\r\n--\r\n"
    )
    head, _, error = parts[2].partition(b"\r\n\r\n")
    assert b"X-Index: 1\r\nX-Status: error" in head
    assert json.loads(error) == {"error": {"code": "bad", "message": 'no "speech"'}}


def test_results_are_what_a_json_encoder_would_write() -> None:
    content_type, pieces = write_reply(PARTS, "results")
    assert content_type == "application/json"
    assert json.loads(b"".join(pieces)) == {
        "results": [
            {
                "index": 0,
                "status": "success",
                "audio_data": base64.b64encode(b"RIFF\r\n--").decode(),
                "media_type": "audio/wav",
            },
            {"index": 1, "status": "error", "error": 'no "speech"'},
        ],
        "total": 2,
        "succeeded": 1,
        "failed": 1,
    }


def test_the_array_has_a_null_for_a_failure() -> None:
    _, pieces = write_reply(PARTS, "array")
    assert json.loads(b"".join(pieces)) == [base64.b64encode(b"RIFF\r\n--").decode(), None]
