"""The wire dashscope_http, whole calls: literal requests and replies of Alibaba's service."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from cosy_sync.config import ClientConfig, PoolConfig
from cosy_sync.errors import (
    AuthError,
    BadAudioError,
    BadRequestError,
    BillingError,
    ConfigError,
    CosyError,
    CutError,
    InvalidTextError,
    ReplyTimeout,
    ServerError,
    TextError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.messages import Payload, Reply, Request, WireRequest
from cosy_sync.models import Voice, wav_header
from cosy_sync.wires import SpeechOptions, create_wire

URL = "https://dashscope.aliyuncs.com/api/v1/services/audio/tts/SpeechSynthesizer"
LINK = "http://dashscope-result-bj.oss-cn-beijing.aliyuncs.com/1d/a.wav?Expires=1770000000&Sig=x%2B"
JSON = {"content-type": "application/json"}
WAV = wav_header(24_000, 1, 4) + b"\x01\x02\x03\x04"
STOP = (
    '{"request_id":"3f2d5c86","output":{"finish_reason":"stop","audio":{"data":"","url":"'
    + LINK
    + '","id":"audio_3f2d5c86","expires_at":1770000000}},"usage":{"characters":15}}'
).encode()
NEEDED: dict[str, Any] = {"model": "cosyvoice-v3-flash", "voice": "longanyang"}


def wire(url: str = URL, **settings: Any) -> Any:
    config = ClientConfig(**{**NEEDED, **settings})
    return create_wire("dashscope_http", url, SpeechOptions.from_config(config))


class Net:
    """Gives the replies one after the other, and keeps the requests."""

    def __init__(self, *replies: Reply | CosyError) -> None:
        self.replies = list(replies)
        self.requests: list[Request] = []

    def __call__(self, request: WireRequest) -> Reply:
        assert isinstance(request, Request)
        self.requests.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, CosyError):
            raise reply
        return reply


def ask(*replies: Reply | CosyError, text: str = "你好", **settings: Any) -> Any:
    (result,) = wire(**settings).exchange([text], Net(*replies), "r1")
    return result


def ok(body: bytes) -> Reply:
    return Reply(200, JSON, body)


def file(body: bytes = WAV, status: int = 200) -> Reply:
    return Reply(status, {"content-type": "audio/x-wav"}, body)


# -- what is asked ------------------------------------------------------------------------------


def test_a_whole_call_posts_the_text_and_gets_the_link() -> None:
    net = Net(ok(STOP), file())
    speaker = Voice("longanyang", instruction="请用四川话说")
    (payload,) = wire(api_key="sk-1", voice=speaker, speed=1.5, extra={"volume": 80}).exchange(
        ["你好"], net, "r1"
    )
    assert payload == Payload(WAV, "audio/wav")
    post, get = net.requests
    assert (post.method, post.url, post.foreign) == ("POST", URL, False)
    assert post.headers == (
        ("Accept", "application/json"),
        ("Accept-Encoding", "identity"),
        ("Content-Type", "application/json"),
        ("Authorization", "Bearer sk-1"),
    )
    assert json.loads(post.body) == {
        "model": "cosyvoice-v3-flash",
        "input": {
            "text": "你好",
            "voice": "longanyang",
            "instruction": "请用四川话说",
            "format": "wav",
            "sample_rate": 24_000,
            "rate": 1.5,
            "volume": 80,
        },
    }
    assert (get.method, get.url, get.body, get.foreign) == ("GET", LINK, b"", True)
    assert get.headers == (("Accept", "*/*"), ("Accept-Encoding", "identity"))


def test_neither_the_key_nor_a_users_header_goes_to_the_links_host() -> None:
    net = Net(ok(STOP), file())
    given = {"X-Gateway-Key": "secret", "Cookie": "a=secret", "X-DashScope-WorkSpace": "w"}
    wire(api_key="secret", headers=given).exchange(["你好"], net, "r1")
    assert "secret" in repr(net.requests[0].headers)
    assert ("X-DashScope-WorkSpace", "w") in net.requests[0].headers
    assert "secret" not in repr(net.requests[1])


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("https://dashscope.aliyuncs.com", URL),
        ("https://dashscope.aliyuncs.com/", URL),
        ("https://dashscope.aliyuncs.com/api/v1/", URL),
        (URL, URL),
        (URL + "?x=1", URL + "?x=1"),
        ("http://gate/ali/api/v1", "http://gate/ali/api/v1/services/audio/tts/SpeechSynthesizer"),
        ("http://gate/speak/", "http://gate/speak/"),
    ],
)
def test_the_synthesizers_path_is_added_to_a_host_or_a_base(given: str, full: str) -> None:
    net = Net(ok(STOP), file())
    wire(given).exchange(["你好"], net, "r1")
    assert net.requests[0].url == full


def test_users_headers_replace_ours_but_not_what_the_transport_says() -> None:
    net = Net(ok(STOP), file())
    given = {"authorization": "Bearer other", "Host": "x", "Accept": "x/y", "Content-Length": "1"}
    wire(headers=given, api_key="sk-1").exchange(["你好"], net, "r1")
    headers = net.requests[0].headers
    assert [name.lower() for name, _ in headers] == [
        *("accept", "accept-encoding", "content-type", "authorization")
    ]
    assert headers[-1] == ("authorization", "Bearer other")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": None}, "model: this service needs one, such as"),
        ({"voice": None}, "voice: this service needs a speaker's name"),
        ({"voice": Voice(instruction="慢一点")}, "voice: this service needs a speaker's name"),
        ({"speed": 2.5}, r"speed: this service speaks at 0.5 to 2.0, not 2.5"),
        ({"speed": 0.4}, "speed: this service speaks at"),
        ({"sample_rate": 32_000}, "sample_rate: the wire 'dashscope_http' speaks at 8000, 16000"),
        ({"headers": {"x-dashscope-async": "enable"}}, "headers: leave out x-dashscope-async"),
        ({"headers": {"X-DashScope-SSE": "enable"}}, "headers: leave out X-DashScope-SSE"),
    ],
)
def test_what_it_cannot_do_is_refused_before_sending(settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        wire(**settings)


def test_other_schemes_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs http://, https://, not wss://"):
        wire("wss://dashscope.aliyuncs.com/api-ws/v1/inference")


def test_half_a_character_is_refused_before_sending() -> None:
    with pytest.raises(InvalidTextError):
        ask(text="a\ud800")


def test_its_limits_are_those_of_an_account() -> None:
    can = wire().capabilities
    assert (can.max_texts_per_call, can.rate, can.max_connections) == (1, 3.0, 3)
    assert can.streaming


def test_neither_key_nor_query_is_shown() -> None:
    shown = repr(wire(URL + "?token=secret", api_key="secret"))
    assert shown == f"<DashscopeHttpWire {URL}>"


# -- what comes back ----------------------------------------------------------------------------


def test_sound_inside_the_reply_needs_no_second_request() -> None:
    data = b64encode(WAV).decode()
    body = {"output": {"finish_reason": "stop", "audio": {"data": data, "url": LINK}}}
    assert ask(ok(json.dumps(body).encode())) == Payload(WAV, "audio/wav")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"<html>", "not_json"),
        (b"[]", "not_audio"),
        (b"{}", "not_audio"),
        (b'"stop"', "not_audio"),
        (b'{"output":null}', "not_audio"),
        (b'{"output":{"finish_reason":"stop"}}', "missing"),
        (b'{"output":{"finish_reason":"stop","audio":{"url":null,"data":null}}}', "missing"),
        (b'{"output":{"finish_reason":"stop","audio":[]}}', "missing"),
        (b'{"output":{"finish_reason":"stop","audio":{"data":"@@"}}}', "base64"),
        (b'{"output":{"finish_reason":"stop","audio":{"data":"SUQzBAAA"}}}', "not_audio"),
        (
            b'{"output":{"finish_reason":"null","audio":{"data":"","url":"http://a/b"}}}',
            "unfinished",
        ),
        (b'{"output":{"finish_reason":null,"audio":{"data":"","url":"http://a/b"}}}', "unfinished"),
        (b'{"output":{"finish_reason":"length","audio":{"url":"http://a/b"}}}', "unfinished"),
        (b'{"output":{"audio":{"url":"http://a/b"}}}', "unfinished"),
    ],
)
def test_a_200_without_finished_sound_is_no_success(body: bytes, reason: str) -> None:
    with pytest.raises(BadAudioError) as caught:
        ask(ok(body))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "link",
    [
        "ftp://oss/a.wav",
        "file:///etc/passwd",
        "//oss/a.wav",
        "/a.wav",
        "http:///a.wav",
        "http://user:pass@oss/a.wav",
        "http://oss/a b.wav",
        "http://oss/a.wav\r\nX: 1",
        "http://oss/é.wav",
        "http://oss:99999999/a.wav",
        "http://[::1/a.wav",
        "javascript:alert(1)",
    ],
)
def test_links_that_are_no_plain_addresses_are_not_followed(link: str) -> None:
    body = {"output": {"finish_reason": "stop", "audio": {"url": link}}}
    net = Net(ok(json.dumps(body).encode()))
    with pytest.raises(BadAudioError) as caught:
        wire().exchange(["你好"], net, "r1")
    assert caught.value.reason == "link"
    assert len(net.requests) == 1


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0", "0.0.0.0", "10.0.0.7"),
        *("172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1"),
        *("[::1]", "[::]", "[fe80::1]", "[fd00::7]", "[::ffff:10.0.0.7]", "[64:ff9b::a00:7]"),
        *("[2002:a00:7::1]", "localhost", "LOCALHOST.", "a.localhost", "127.0.0.1:8000"),
    ],
)
def test_a_link_to_no_public_address_is_not_followed_unless_that_is_allowed(host: str) -> None:
    body = {"output": {"finish_reason": "stop", "audio": {"url": f"http://{host}/a.wav?k=secret"}}}
    net = Net(ok(json.dumps(body).encode()))
    with pytest.raises(BadAudioError, match="private_links=True") as caught:
        wire().exchange(["你好"], net, "r1")
    assert (caught.value.reason, len(net.requests)) == ("link", 1)
    assert "secret" not in str(caught.value)
    net = Net(ok(json.dumps(body).encode()), file())
    allowed = wire(pool=PoolConfig(private_links=True))
    assert allowed.exchange(["你好"], net, "r1") == [Payload(WAV, "audio/wav")]
    assert not net.requests[1].public


def test_a_link_by_name_goes_to_a_public_address_only() -> None:
    net = Net(ok(STOP), file())
    wire().exchange(["你好"], net, "r1")
    assert [request.public for request in net.requests] == [False, True]


def test_a_link_back_to_the_service_itself_is_followed() -> None:
    made = wire("http://10.0.0.7:8000")
    for host, followed in (("10.0.0.7:8000", True), ("10.0.0.7", False), ("10.0.0.8:8000", False)):
        body = {"output": {"finish_reason": "stop", "audio": {"url": f"http://{host}/a.wav"}}}
        net = Net(ok(json.dumps(body).encode()), file())
        if followed:
            assert made.exchange(["你好"], net, "r1") == [Payload(WAV, "audio/wav")]
            assert not net.requests[1].public
        else:
            with pytest.raises(BadAudioError, match="no public address"):
                made.exchange(["你好"], net, "r1")


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 410, 204, 206])
def test_a_link_that_leads_nowhere_blames_neither_key_nor_request(status: int) -> None:
    with pytest.raises(
        BadAudioError, match=rf"oss-cn-beijing.aliyuncs.com answers .*{status}"
    ) as e:
        ask(ok(STOP), file(b"<Error/>", status))
    assert e.value.reason == "link"
    assert "Expires" not in str(e.value)


@pytest.mark.parametrize(
    "trouble",
    [
        file(b"", 503),
        file(b"", 500),
        file(b"", 429),
        file(b"", 408),
        CutError("the connection ended"),
        ReplyTimeout("late", phase="idle"),
    ],
)
def test_a_link_is_tried_twice_since_the_speech_is_paid(trouble: Any) -> None:
    net = Net(ok(STOP), trouble, file())
    assert wire().exchange(["你好"], net, "r1") == [Payload(WAV, "audio/wav")]
    assert [request.url for request in net.requests] == [URL, LINK, LINK]


def test_a_link_that_fails_twice_fails_the_call() -> None:
    with pytest.raises(UnavailableError, match=r"the sound was made, but .* HTTP 503") as caught:
        ask(ok(STOP), file(b"", 503), file(b"", 503))
    assert caught.value.status == 503
    with pytest.raises(CutError, match=r"the sound at dashscope-result.*: it broke") as cut:
        ask(ok(STOP), CutError("it broke"), CutError("it broke", partial=b"RIFF"))
    assert cut.value.partial == b"RIFF"
    assert "Expires" not in str(cut.value)


@pytest.mark.parametrize("body", [b"<?xml version='1.0'?><Error/>", b"ID3\x04", b"RIF", b"\0" * 99])
def test_a_file_that_is_no_wav_is_refused(body: bytes) -> None:
    with pytest.raises(BadAudioError) as caught:
        ask(ok(STOP), file(body))
    assert caught.value.reason == "not_audio"


def test_an_empty_file_is_left_to_be_called_empty() -> None:
    assert ask(ok(STOP), file(b"")) == Payload(b"", "audio/wav")


# -- refusals -----------------------------------------------------------------------------------

CODES = [
    (400, "InvalidParameter", "[tts:]Engine return error code: 418", BadRequestError),
    (400, "InvalidParameter", "Missing required parameter 'payload.model'!", BadRequestError),
    (400, "InvalidParameter", "Request voice is invalid!", BadRequestError),
    (400, "DataInspectionFailed", "Input data may contain inappropriate content.", TextError),
    (400, "Arrearage", "Access denied, please make sure your account is paid.", BillingError),
    (401, "InvalidApiKey", "Invalid API-key provided.", AuthError),
    (403, "AccessDenied", "Access denied.", AuthError),
    (403, "Model.AccessDenied", "Model access denied.", AuthError),
    (403, "Workspace.AccessDenied", "Workspace access denied.", AuthError),
    (404, "ModelNotFound", "Model can not be found.", BadRequestError),
    (429, "Throttling", "Requests throttling triggered.", ThrottledError),
    (429, "Throttling.RateQuota", "Requests rate limit exceeded.", ThrottledError),
    (429, "Throttling.BurstRate", "Request rate increased too quickly.", ThrottledError),
    (429, "Throttling.Concurrency", "Too many concurrent requests.", ThrottledError),
    (429, "Throttling.AllocationQuota", "Allocated quota exceeded.", ThrottledError),
    (429, "CommodityNotPurchased", "Commodity has not purchased yet.", BillingError),
    (429, "PrepaidBillOverdue", "The prepaid bill is overdue.", BillingError),
    (429, "PostpaidBillOverdue", "The postpaid bill is overdue.", BillingError),
    (500, "InternalError", "An internal error has occured.", UnavailableError),
    (500, "InternalError.Algo", "inference error", UnavailableError),
    (500, "InternalError.Timeout", "timeout", UnavailableError),
    (500, "SystemError", "An system error has occured.", UnavailableError),
    (500, "ModelServiceFailed", "Failed to request model service.", UnavailableError),
    (500, "RequestTimeOut", "Request timed out.", UnavailableError),
    (500, "ResponseTimeout", "Response timeout!", UnavailableError),
    (503, "ServiceUnavailable", "Service is unavailable.", UnavailableError),
    (503, "ModelUnavailable", "Model is unavailable.", UnavailableError),
    (418, "Something.New", "teapot", BadRequestError),
    (500, "Something.New", "teapot", UnavailableError),
]


@pytest.mark.parametrize(("status", "code", "message", "kind"), CODES)
def test_codes_say_what_to_do(status: int, code: str, message: str, kind: type) -> None:
    body = {"code": code, "message": message, "request_id": "3f2d5c86"}
    with pytest.raises(ServerError) as caught:
        ask(Reply(status, JSON, json.dumps(body).encode()))
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.request_id) == (status, code, "3f2d5c86")
    assert message.partition("'")[0].strip(" .!") in str(error)


def test_a_refusal_inside_a_200_is_a_refusal() -> None:
    body = b'{"code":"Throttling.RateQuota","message":"slow down","request_id":"3f2d5c86"}'
    with pytest.raises(ThrottledError, match="slow down"):
        ask(ok(body))
    with pytest.raises(ServerError, match="out of memory"):
        ask(ok(b'{"error":{"code":"internal","message":"out of memory"}}'))


def test_retry_after_counts_where_it_comes() -> None:
    body = b'{"code":"Throttling","message":"slow down"}'
    with pytest.raises(ThrottledError) as caught:
        ask(Reply(429, {"retry-after": "7"}, body))
    assert caught.value.retry_after == 7


def test_gateways_that_answer_in_their_own_words_are_understood() -> None:
    page = b"<html><head><title>502 Bad Gateway</title></head></html>"
    with pytest.raises(UnavailableError, match="502 Bad Gateway"):
        ask(Reply(502, {"content-type": "text/html"}, page))
    with pytest.raises(ServerError, match=r"redirects to login\.example\.com/"):
        ask(Reply(302, {"location": "https://login.example.com/"}, b'{"code":"Throttling"}'))
    with pytest.raises(UnavailableError):
        ask(Reply(503, {}, b""))


def test_a_text_that_is_quoted_back_is_not_shown() -> None:
    body = {"code": "InvalidParameter", "message": "cannot speak 这是一个秘密的句子 now"}
    with pytest.raises(ServerError) as caught:
        ask(Reply(400, JSON, json.dumps(body).encode()), text="这是一个秘密的句子")
    assert "秘密" not in str(caught.value)
    assert "cannot speak" in str(caught.value)


def test_one_text_is_never_in_doubt() -> None:
    assert wire().splits(BadRequestError("no", status=400)) is False
