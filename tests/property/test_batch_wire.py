"""Whatever a service sends ends as results or as a CosyError; what it means arrives unchanged."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cosy_sync.audio import Verifier, WavInfo, parse_wav, read_audio
from cosy_sync.config import ClientConfig, VerifyConfig
from cosy_sync.errors import BadAudioError, CosyError
from cosy_sync.messages import Payload, Reply
from cosy_sync.models import Audio, wav_header
from cosy_sync.riff import RIFF_NAMES, foreign_name
from cosy_sync.wires import BatchWire, SpeechOptions, read_error
from cosy_sync.wires.redaction import without_texts

WIRE = BatchWire("http://tts/batch", SpeechOptions.from_config(ClientConfig(voice="中文女")))

CONTENT_TYPES = st.sampled_from(
    [
        "multipart/mixed; boundary=b1",
        'multipart/mixed; boundary="b 1"',
        "multipart/mixed",
        "application/json",
        "text/html",
        "text/plain",
        "audio/wav",
        "",
    ]
)
MULTIPART_BITS = st.sampled_from(
    [
        b"--b1",
        b"--b 1",
        b"\r\n",
        b"--",
        b"\r\n--b1\r\n",
        b"\r\n\r\n",
        b"\r\n--b1--",
        b"X-Index: 0\r\n",
        b"X-Index: 1\r\n",
        b"X-Status: error\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Type: application/json\r\n",
        b'{"error":{"code":"internal"}}',
        b"abc",
        b":",
        b" ",
    ]
)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 600)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["UklGRg==", "success", "error", "internal", "", "####"])
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "results",
                    "index",
                    "status",
                    "audio_data",
                    "media_type",
                    "error",
                    "code",
                    "message",
                    "detail",
                    "status_code",
                    "loc",
                    "msg",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)
BODIES = (
    st.binary(max_size=300)
    | st.lists(MULTIPART_BITS | st.binary(max_size=4), max_size=20).map(b"".join)
    | JSON_VALUES.map(lambda value: json.dumps(value).encode())
)
PCM = st.binary(min_size=1, max_size=200).map(lambda half: half * 2)


@given(BODIES, CONTENT_TYPES, st.integers(1, 4), st.sampled_from([bytes, bytearray, memoryview]))
def test_any_reply_ends_as_one_result_per_text_or_as_an_error(
    body: bytes, content_type: str, count: int, kind: type
) -> None:
    texts = [f"text {index}" for index in range(count)]
    try:
        results = WIRE.decode(Reply(200, {"content-type": content_type}, kind(body)), texts)
    except CosyError:
        return
    assert len(results) == count
    for result in results:
        if isinstance(result, Payload):
            assert type(result.data) is bytes
            with_audio_or_error(result)
        else:
            assert isinstance(result, CosyError)


def with_audio_or_error(payload: Payload) -> None:
    try:
        audio = read_audio(payload, sample_rate=24_000)
    except BadAudioError:
        return
    assert len(audio.pcm()) == audio.pcm_size > 0
    [result] = Verifier(VerifyConfig()).check(["text"], [audio])
    assert result is audio or isinstance(result, BadAudioError)


@given(BODIES, CONTENT_TYPES, st.integers(100, 599))
def test_any_refusal_becomes_an_error_that_can_be_shown(
    body: bytes, content_type: str, status: int
) -> None:
    error = read_error(Reply(status, {"content-type": content_type}, body), ["text"])
    assert len(str(error)) < 500
    assert str(error).isprintable()


@given(
    st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=200)), min_size=1, max_size=8),
    st.sampled_from(["multipart", "sized multipart", "results", "array"]),
    st.randoms(use_true_random=False),
)
def test_what_a_service_says_of_each_text_arrives(
    pairs: list[tuple[str, bytes]], form: str, random: object
) -> None:
    pairs = [(text.encode("utf-8", "replace").decode(), data) for text, data in pairs]
    texts = json.loads(WIRE.encode([text for text, _ in pairs], "r1").body)["texts"]
    assert texts == [text for text, _ in pairs]
    answers = list(enumerate(data for _, data in pairs))
    random.shuffle(answers)  # type: ignore[attr-defined]
    if form == "array":
        answers.sort()
    results = WIRE.decode(_served(answers, form), texts)
    assert results == [Payload(data, "audio/wav") for _, data in pairs]


def _served(answers: list[tuple[int, bytes]], form: str) -> Reply:
    coded = [(index, base64.b64encode(data).decode()) for index, data in answers]
    if form == "array":
        return _json([data for _, data in coded])
    if form == "results":
        return _json({"results": [{"index": i, "audio_data": data} for i, data in coded]})
    body = b""
    for index, data in answers:
        body += b"--boundary-that-no-data-holds\r\nContent-Type: audio/wav\r\n"
        body += b"X-Index: %d\r\n" % index
        body += b"Content-Length: %d\r\n" % len(data) if form.startswith("sized") else b""
        body += b"\r\n" + data + b"\r\n"
    content_type = "multipart/mixed; boundary=boundary-that-no-data-holds"
    return Reply(200, {"content-type": content_type}, body + b"--boundary-that-no-data-holds--")


def _json(value: object) -> Reply:
    return Reply(200, {"content-type": "application/json"}, json.dumps(value).encode())


@given(PCM, st.integers(1, 2), st.integers(8_000, 192_000))
def test_a_wav_file_keeps_its_samples(half: bytes, channels: int, rate: int) -> None:
    pcm = half * channels
    data = wav_header(rate, channels, len(pcm)) + pcm
    assert parse_wav(data) == WavInfo(rate, channels, 44, len(pcm))
    audio = read_audio(Payload(data, "audio/wav"), sample_rate=24_000)
    assert audio.pcm() == pcm
    assert audio.wav() == data


@given(PCM, st.integers(8_000, 192_000))
def test_bare_samples_keep_their_bytes(pcm: bytes, rate: int) -> None:
    assume(pcm[:4] not in RIFF_NAMES and foreign_name(pcm) is None)
    audio = read_audio(Payload(pcm, "audio/pcm"), sample_rate=rate)
    assert audio == Audio(pcm, "pcm", rate, 1, 0, len(pcm))


WAV_BITS = st.sampled_from(
    [
        b"RIFF",
        b"WAVE",
        b"fmt ",
        b"data",
        b"LIST",
        b"\x10\0\0\0",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        wav_header(24_000, 1, 4),
        wav_header(24_000, 1, 4)[12:36],
        b"\x04\0\0\0",
        b"abcd",
    ]
)


@given(
    st.binary(max_size=100)
    | st.lists(WAV_BITS | st.binary(max_size=4), max_size=12).map(b"".join)
    | st.lists(WAV_BITS, max_size=12).map(lambda bits: b"RIFF\0\0\0\0WAVE" + b"".join(bits))
)
def test_any_bytes_are_a_wav_file_or_refused(data: bytes) -> None:
    try:
        info = parse_wav(data)
    except BadAudioError:
        return
    assert 0 < info.pcm_size <= len(data) - info.pcm_start
    assert info.pcm_size % (2 * info.channels) == 0


@given(st.text(min_size=12, max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_no_message_shows_a_whole_text(text: str, before: str, after: str) -> None:
    shown = without_texts(f"{before} {text} {after}", [text], 500)
    kept = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    assert len(kept) < 4 or kept not in shown or kept in "[…]"


def test_a_payload_of_no_known_media_type_is_refused() -> None:
    with pytest.raises(BadAudioError):
        read_audio(Payload(b"abcd", "video/mp4"), sample_rate=24_000)
