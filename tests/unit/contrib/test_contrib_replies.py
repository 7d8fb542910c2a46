"""Replies with sound and the statuses of errors, without a framework."""

import json

import pytest

import cosy_sync
from cosy_sync import Audio, BatchError, Outcome
from cosy_sync.contrib.replies import StreamedSound, audio_reply
from cosy_sync.contrib.statuses import error_reply, status_of
from cosy_sync.errors import server_error
from cosy_sync.models import wav_header

DATA = wav_header(24_000, 1, 400) + bytes(range(200)) * 2
AUDIO = Audio(DATA, "wav", 24_000, 1, 44, 400)
ETAG = audio_reply(AUDIO, "GET", {}).headers["ETag"]


def test_a_sound_comes_with_its_type_length_and_mark() -> None:
    reply = audio_reply(AUDIO, "GET", {})
    assert (reply.status, reply.body) == (200, DATA)
    assert reply.headers["Content-Type"] == "audio/wav"
    assert reply.headers["Content-Length"] == str(len(DATA))
    assert reply.headers["Accept-Ranges"] == "bytes"
    assert reply.headers["Cache-Control"].startswith("private")
    assert ETAG.startswith('"') and audio_reply(AUDIO, "POST", {}).headers["ETag"] == ETAG


def test_head_has_the_headers_of_get_and_no_body() -> None:
    got, headed = audio_reply(AUDIO, "GET", {}), audio_reply(AUDIO, "HEAD", {"Range": "bytes=0-3"})
    assert (headed.status, headed.headers, headed.body) == (200, got.headers, b"")


@pytest.mark.parametrize(
    ("asked", "told", "part"),
    [
        ("bytes=0-", "0-443/444", DATA),
        ("bytes=0-0", "0-0/444", DATA[:1]),
        ("bytes=44-99", "44-99/444", DATA[44:100]),
        ("bytes=400-9999", "400-443/444", DATA[400:]),
        ("bytes=-4", "440-443/444", DATA[-4:]),
        ("Bytes=0-0", "0-0/444", DATA[:1]),
        ("bytes=-9999", "0-443/444", DATA),
    ],
)
def test_a_range_is_answered_with_its_part(asked: str, told: str, part: bytes) -> None:
    reply = audio_reply(AUDIO, "GET", {"Range": asked})
    assert (reply.status, reply.body) == (206, part)
    assert reply.headers["Content-Range"] == f"bytes {told}"
    assert reply.headers["Content-Length"] == str(len(part))


@pytest.mark.parametrize("asked", ["bytes=444-", "bytes=999-1000", "bytes=-0", "bytes=9-3"])
def test_a_range_beyond_the_sound_is_416(asked: str) -> None:
    reply = audio_reply(AUDIO, "GET", {"Range": asked})
    assert (reply.status, reply.headers["Content-Range"]) == (416, "bytes */444")
    assert reply.body == b""


@pytest.mark.parametrize(
    "asked",
    [
        {"Range": "bytes=0-3,8-9"},
        {"Range": "pages=1-2"},
        {"Range": "bytes=-"},
        {"Range": "bytes=一-"},
        {"Range": f"bytes={'1' * 5_000}-"},
        {"Range": "bytes=0-3", "If-Range": '"of another sound"'},
    ],
)
def test_what_is_no_single_range_of_this_sound_gets_all_of_it(asked: dict[str, str]) -> None:
    assert audio_reply(AUDIO, "GET", asked).status == 200


def test_a_sound_that_the_browser_has_is_not_sent_again() -> None:
    for known in (ETAG, f"W/{ETAG}", f'"other", {ETAG}', "*"):
        reply = audio_reply(AUDIO, "GET", {"If-None-Match": known})
        assert (reply.status, reply.body, reply.headers["ETag"]) == (304, b"", ETAG)
    assert audio_reply(AUDIO, "GET", {"If-None-Match": '"other"'}).status == 200
    assert audio_reply(AUDIO, "POST", {"If-None-Match": ETAG}).status == 200
    assert audio_reply(AUDIO, "GET", {"Range": "bytes=0-3", "If-Range": ETAG}).status == 206


def test_bare_samples_tell_their_rate() -> None:
    raw = Audio(b"\0\0" * 10, "pcm", 22_050, 1, 0, 20)
    assert audio_reply(raw, "GET", {}).headers["Content-Type"].startswith("audio/pcm; rate=22050")


def test_a_streamed_sound_begins_with_a_header_and_is_closed_early() -> None:
    class Stream:
        sample_rate = 24_000
        closed = False

        def __init__(self) -> None:
            self._chunks = iter([b"ab", b"cd"])

        def __next__(self) -> bytes:
            return next(self._chunks)

        def close(self) -> None:
            self.closed = True

    stream = Stream()
    sound = StreamedSound(stream)  # type: ignore[arg-type]
    head, *rest = list(sound)
    assert head[:4] == b"RIFF" and len(head) == 44 and rest == [b"ab", b"cd"]
    sound.close()
    assert stream.closed


STATUSES = {
    "InvalidTextError": 400,
    "TextError": 400,
    "BadRequestError": 400,
    "DeadlineError": 504,
    "ReplyTimeout": 504,
    "BadAudioError": 502,
    "UnframedError": 502,
    "ShedError": 503,
    "BreakerOpenError": 503,
    "RateLimitedError": 503,
    "OverloadError": 503,
    "NoEndpointError": 503,
    "RefusedError": 503,
    "ThrottledError": 503,
    "UnavailableError": 503,
    "TransportError": 503,
    "ConnectError": 503,
    "ResourceError": 503,
    "CutError": 503,
    "ClosedError": 503,
    "AuthError": None,
    "BillingError": None,
    "ConfigError": None,
    "UnexpectedError": None,
    "ServerError": None,
    "CosyError": None,
    "BatchError": None,
}


def test_every_error_has_its_status() -> None:
    every = {name for name in cosy_sync.__all__ if name.endswith(("Error", "Timeout"))}
    assert every == set(STATUSES)
    for name, status in STATUSES.items():
        assert status_of(getattr(cosy_sync, name)("it failed")) == status, name
    assert status_of(ValueError("of somebody else")) is None


def test_what_every_text_would_meet_is_the_sites_own_fault() -> None:
    assert status_of(server_error(404, "no such path")) is None
    assert status_of(server_error(422, "bad text")) == 400
    assert status_of(server_error(502, "bad gateway")) == 503


def test_a_text_whose_failure_the_service_takes_upon_itself_is_503() -> None:
    assert status_of(cosy_sync.TextError("out of memory", blames="service")) == 503


def test_a_call_of_several_texts_has_the_status_of_its_worst() -> None:
    def call(*errors: cosy_sync.CosyError) -> BatchError:
        outcomes = [Outcome(0, "good", AUDIO)]
        outcomes += [Outcome(1 + n, "t", error=each) for n, each in enumerate(errors)]
        return BatchError("some failed", outcomes=outcomes)

    bad, late = cosy_sync.TextError("x"), cosy_sync.DeadlineError("x")
    busy = cosy_sync.ThrottledError("x", retry_after=2.2)
    assert status_of(call(bad)) == 400
    assert status_of(call(bad, late)) == 504
    assert status_of(call(late, busy, bad)) == 503
    assert status_of(call(busy, cosy_sync.AuthError("x"))) is None
    reply = error_reply(call(late, busy))
    assert reply is not None and reply.headers["Retry-After"] == "3"


def test_a_reply_of_an_error_says_when_to_come_back_and_not_what_the_service_said() -> None:
    error = cosy_sync.UnavailableError("sk-secret at 10.0.0.7", endpoint="http://10.0.0.7/batch")
    reply = error_reply(error)
    assert reply is not None and (reply.status, reply.headers["Retry-After"]) == (503, "1")
    assert b"10.0.0.7" not in reply.body
    assert json.loads(reply.body)["error"]["type"] == "UnavailableError"
    assert reply.headers["Cache-Control"] == "no-store"
    empty = error_reply(cosy_sync.InvalidTextError("the text is empty; leave it out"))
    assert empty is not None and "empty" in json.loads(empty.body)["error"]["message"]
    assert "Retry-After" not in empty.headers
