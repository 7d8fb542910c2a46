"""The wire `runtime_grpc` over real sockets: against the embedded server, and against the code
that protoc makes of the official service, in both directions."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import math
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import pytest
from generated import cosyvoice

from cosy_sync import CosyClient, Endpoint, Voice
from cosy_sync.config import (
    BreakerConfig,
    ClientConfig,
    LimitConfig,
    PoolConfig,
    RetryConfig,
    TimeoutConfig,
    VerifyConfig,
)
from cosy_sync.errors import (
    AuthError,
    BadAudioError,
    BadRequestError,
    ClosedError,
    ConfigError,
    ConnectError,
    CosyError,
    CutError,
    DeadlineError,
    ReplyTimeout,
    TextError,
    ThrottledError,
    TransportError,
    UnavailableError,
)
from cosy_sync.events import AttemptFinished, Event
from cosy_sync.messages import RpcRequest
from cosy_sync.models import Recording, wav_header
from cosy_sync.net import Sender
from cosy_sync.net.exchange_limits import ExchangeLimits
from cosy_sync.testing import FAULTS, Server, tone_wav

grpc = pytest.importorskip("grpc", reason="needs grpcio (extra grpc)")

ONCE = RetryConfig(max_retries=0)
PATH = "/cosyvoice.CosyVoice/Inference"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(grpc_port=0, latency=0.01, rate=0, grpc_max_conc=16) as running:
        yield running


def client_of(url: str | Endpoint, voice: Voice | str = "中文女", **settings: Any) -> CosyClient:
    return CosyClient(url, wire="runtime_grpc", voice=voice, **settings)


def recording(seconds: float = 1.0) -> Recording:
    pcm = struct.pack("<h", 1000) * round(16_000 * seconds)
    wav = wav_header(16_000, 1, len(pcm)) + pcm
    return Recording(wav, 16_000, seconds, hashlib.sha256(wav).hexdigest())


class Attempts:
    """Counts the attempts, and the errors among them."""

    def __init__(self) -> None:
        self.errors: list[CosyError] = []
        self.count = 0

    def on_event(self, event: Event) -> None:
        if isinstance(event, AttemptFinished):
            self.count += 1
            if event.error is not None:
                self.errors.append(event.error)


# -- it speaks -----------------------------------------------------------------------------------


def test_a_text_is_spoken(server: Server) -> None:
    with client_of(server.grpc_url) as client:
        audio = client.synth("你好，世界。")
        assert audio.data == tone_wav("你好，世界。")
        assert audio.sample_rate == 24_000
        assert audio.timing is not None and 0 < audio.timing.first_byte <= audio.timing.total
        assert (client.stats().connections_open, client.stats().connections_idle) == (1, 1)
    with client_of(server.grpc_url, format="pcm", voice="英文男") as client:
        assert client.synth("hello").data == tone_wav("hello", voice="英文男")[44:]


def test_many_texts_come_in_their_order_whatever_their_length(server: Server) -> None:
    texts = [f"第{number}句，" + "说话" * (number % 150) for number in range(120)]
    with client_of(server.grpc_url) as client:
        assert [a.data for a in client.synth_many(texts)] == [tone_wav(text) for text in texts]


def test_recordings_and_instructions_are_taken(server: Server) -> None:
    for voice, model in (
        (Voice(reference=recording(), transcript="录音里的话"), "CosyVoice2-0.5B"),
        (Voice(reference=recording()), "CosyVoice2-0.5B"),
        (Voice("中文女", instruction="慢一点"), None),
    ):
        with client_of(server.grpc_url, voice=voice, model=model) as client:
            assert client.synth("你好").data == tone_wav("你好")


def test_a_message_of_more_than_four_mebibytes_is_no_matter() -> None:
    with Server(grpc_port=0, latency=0, audio_bytes=6_000_000) as big:
        verify = VerifyConfig(enabled=False)
        with client_of(big.grpc_url, verify=verify) as client:
            assert len(client.synth("很长").data) == 6_000_044


# -- it refuses, and fails -----------------------------------------------------------------------


def test_an_unknown_speaker_is_refused_once(server: Server) -> None:
    attempts = Attempts()
    with (
        client_of(server.grpc_url, voice="nobody", observers=[attempts]) as client,
        pytest.raises(BadRequestError, match="no speaker 'nobody'"),
    ):
        client.synth("你好")
    assert attempts.count == 1


def test_a_recording_that_is_too_long_is_the_servers_refusal(server: Server) -> None:
    with (
        client_of(server.grpc_url, voice=Voice(reference=recording(31)), retry=ONCE) as client,
        pytest.raises(UnavailableError, match="longer than 30s"),
    ):
        client.synth("你好")


def test_the_key_is_asked_for_and_never_shown() -> None:
    with Server(grpc_port=0, latency=0, api_key="right") as locked:
        with client_of(locked.grpc_url, api_key="right") as client:
            assert client.synth("你好").data == tone_wav("你好")
        for key in (None, "wrong-key"):
            with (
                client_of(locked.grpc_url, api_key=key) as client,
                pytest.raises(AuthError) as caught,
            ):
                client.synth("你好")
            assert "wrong-key" not in repr(caught.value) + str(caught.value)


def test_punctuation_alone_is_the_texts_fault_after_one_call(server: Server) -> None:
    before = server.stats()["requests"]
    with client_of(server.grpc_url) as client:
        with pytest.raises(TextError, match="nothing to speak"):
            client.synth("！？……")
        assert server.stats()["requests"] == before + 1
        with pytest.raises(TextError, match="nothing to speak"), client.stream("！？……") as sound:
            b"".join(sound)
    assert server.stats()["requests"] == before + 2


FAILING: list[tuple[str, type[CosyError], str]] = [
    ("throttle", ThrottledError, "Concurrent RPC limit exceeded!"),
    ("status-500", UnavailableError, "UNKNOWN"),
    ("status-503", UnavailableError, "UNAVAILABLE"),
    ("not-json", UnavailableError, "UNAVAILABLE"),
    ("reset", UnavailableError, "UNAVAILABLE"),
    ("cut", CutError, "CUDA out of memory"),
    ("text-error", UnavailableError, "CUDA out of memory"),
    ("empty-audio", BadAudioError, "no audio"),
    ("odd-audio", BadAudioError, "16-bit"),
    ("stall", ReplyTimeout, "did not answer"),
    ("stall-mid", ReplyTimeout, "did not end"),
]


@pytest.mark.parametrize(("fault", "error", "words"), FAILING)
def test_each_fault_is_the_error_that_it_means_and_is_mended_by_a_repetition(
    server: Server, fault: str, error: type[CosyError], words: str
) -> None:
    times = TimeoutConfig(first_byte=1, idle=1)
    text = "你好，世界。" * 30  # several messages
    with client_of(server.grpc_url, retry=ONCE, timeouts=times) as client:
        server.inject(fault)
        with pytest.raises(error, match=words) as caught:
            client.synth(text)
        assert type(caught.value) is error
    with client_of(server.grpc_url, timeouts=times) as client:
        server.inject(fault)
        assert client.synth(text).data == tone_wav(text)


def test_what_came_before_a_cut_is_told(server: Server) -> None:
    text = "你好，世界。" * 30
    with client_of(server.grpc_url, retry=ONCE) as client:
        server.inject("cut")
        with pytest.raises(CutError) as caught:
            client.synth(text)
    sound = tone_wav(text)[44:]
    assert 0 < len(caught.value.partial) < len(sound)
    assert sound.startswith(caught.value.partial)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_ends_in_right_audio_or_an_error(server: Server, fault: str) -> None:
    times = TimeoutConfig(first_byte=0.5, idle=0.5)
    with client_of(server.grpc_url, timeouts=times, retry=ONCE) as client:
        server.inject(fault, 2)
        for outcome in client.synth_many(["你好，世界。", "再见，朋友。"], on_error="return"):
            if outcome.ok and fault not in ("foreign-audio", "same-audio", "short-audio"):
                assert outcome.audio.data == tone_wav(outcome.text)  # type: ignore[union-attr]
            assert outcome.ok or isinstance(outcome.error, CosyError)


def test_the_callers_deadline_ends_a_call(server: Server) -> None:
    with client_of(server.grpc_url, deadline=0.5) as client:
        server.inject("stall")
        with pytest.raises((DeadlineError, ReplyTimeout)):
            client.synth("你好")


def test_closing_the_client_wakes_who_waits(server: Server) -> None:
    client = client_of(server.grpc_url)
    server.inject("stall")
    caught: list[BaseException] = []

    def speak() -> None:
        try:
            client.synth("你好")
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=speak)
    thread.start()
    while not client.stats().in_flight:
        time.sleep(0.001)
    time.sleep(0.1)
    client.close(0.0)
    thread.join(20)
    assert [type(error) for error in caught] == [ClosedError]


def test_a_server_that_went_away_and_came_back_is_found_again() -> None:
    with Server(grpc_port=0, latency=0) as first:
        port = int(first.grpc_url.rpartition(":")[2])
        client = client_of(first.grpc_url, retry=ONCE)
        client.synth("你好")
    with client:
        with pytest.raises(TransportError):
            client.synth("你好")
        with pytest.raises(ConnectError, match=f"cannot connect to grpc://127.0.0.1:{port}"):
            client.synth("你好")
        with Server(grpc_port=port, latency=0):
            limit = time.monotonic() + 20
            while True:
                try:
                    assert client.synth("你好").data == tone_wav("你好")
                    break
                except CosyError:
                    assert time.monotonic() < limit
                    time.sleep(0.1)


def test_the_http_server_of_the_runtime_is_recognised(server: Server) -> None:
    with (
        client_of(server.base_url.replace("http", "grpc"), retry=ONCE) as client,
        pytest.raises(ConnectError, match="runtime_http") as caught,
    ):
        client.synth("你好")
    assert not caught.value.retryable


# -- calls at the same time ----------------------------------------------------------------------


def refused_calls(max_connections: int | None, count: int) -> tuple[int, int]:
    """Speak texts through a server that bears 4; return how many calls it refused, and the limit
    that the client has at the end."""
    attempts = Attempts()
    with Server(grpc_port=0, latency=0.03, rate=0) as narrow:
        url: str | Endpoint = narrow.grpc_url
        if max_connections is not None:
            url = Endpoint(narrow.grpc_url, max_connections=max_connections)
        texts = [f"第{number}句话，大家好。" for number in range(count)]
        with client_of(url, observers=[attempts]) as client:
            audios = client.synth_many(texts)
            ((_, limit),) = client.stats().limits.values()
        assert [audio.data for audio in audios] == [tone_wav(text) for text in texts]
        numbers = narrow.stats()
    assert {type(error) for error in attempts.errors} <= {ThrottledError}
    refused = len(attempts.errors)
    assert attempts.count == count + refused
    # The server's own count agrees.
    assert numbers["requests"] == count + refused and numbers["batches"] == count
    return refused, limit


def test_200_texts_through_a_server_that_bears_four_calls() -> None:
    refused, limit = refused_calls(None, 200)
    assert refused <= 10  # 5 %
    assert limit <= 4


def test_a_client_that_is_set_too_wide_finds_out_what_the_server_bears() -> None:
    refused, limit = refused_calls(16, 200)
    # The first calls leave together, and 12 of them are one too many; after them 5 %.
    assert refused <= 12 + 10
    assert limit <= 6


# -- official code on the other side -------------------------------------------------------------


@contextlib.contextmanager
def official(infer: Callable[[Any, Any], Iterator[Any]], **options: Any) -> Iterator[str]:
    """Run a server as runtime/python/grpc/server.py makes it; give its URL."""
    messages, stubs = cosyvoice()
    max_conc = options.pop("max_conc", 4)

    class Servicer(stubs.CosyVoiceServicer):  # type: ignore[misc, name-defined]
        def Inference(self, request: Any, context: Any) -> Iterator[Any]:
            for sound in infer(request, context):
                yield messages.Response(tts_audio=sound)

    pool = futures.ThreadPoolExecutor(max_workers=max_conc)
    running = grpc.server(pool, maximum_concurrent_rpcs=max_conc)
    stubs.add_CosyVoiceServicer_to_server(Servicer(), running)
    credentials = options.pop("credentials", None)
    if credentials is None:
        url = f"grpc://127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"
    else:
        url = f"grpcs://localhost:{running.add_secure_port('127.0.0.1:0', credentials)}"
    running.start()
    # What a servicer raises is logged with the text in it.
    logging.getLogger("grpc._server").disabled = True
    try:
        yield url
    finally:
        logging.getLogger("grpc._server").disabled = False
        running.stop(None).wait()
        pool.shutdown()


def speak(request: Any, _context: Any) -> Iterator[bytes]:
    """Speak as long as the text is, whatever the form, in three messages."""
    form = request.WhichOneof("RequestPayload")
    payload = getattr(request, form)
    if form == "sft_request" and payload.spk_id != "中文女":
        raise KeyError(payload.spk_id)
    if form in ("zero_shot_request", "cross_lingual_request"):
        assert len(payload.prompt_audio) == 32_000
    sound = tone_wav(payload.tts_text)[44:]
    third = len(sound) // 6 * 2
    yield from (sound[:third], sound[third : 2 * third], sound[2 * third :])


def test_a_limit_that_a_proxy_says_as_unavailable_opens_no_breaker() -> None:
    refused = itertools.count()

    def limited(request: Any, context: Any) -> Iterator[bytes]:
        if next(refused) < 8:
            context.set_trailing_metadata((("x-ratelimit-reset", "0.05"),))
            context.abort(grpc.StatusCode.UNAVAILABLE, "local_rate_limited")
        yield from speak(request, context)

    strict = BreakerConfig(failure_ratio=0.1, min_calls=2)
    with official(limited) as url, client_of(url, breaker=strict) as client:
        assert len(client.synth_many(["一", "二", "三", "四"])) == 4
        assert client.stats().throttled == 8


def test_official_code_understands_what_we_ask() -> None:
    voices = (
        Voice("中文女"),
        Voice(reference=recording(), transcript="录音里的话"),
        Voice(reference=recording()),
        Voice("中文女", instruction="慢一点"),
    )
    with official(speak) as url:
        for voice in voices:
            with client_of(url, voice=voice) as client:
                assert client.synth("你好，世界").data == tone_wav("你好，世界")
        with (
            client_of(url, voice="nobody") as client,
            pytest.raises(BadRequestError, match="no speaker 'nobody'"),
        ):
            client.synth("你好")


def test_an_exception_of_official_code_after_some_messages_is_never_a_success() -> None:
    def fail(request: Any, context: Any) -> Iterator[bytes]:
        yield b"\1\0" * 100
        raise RuntimeError(f"cannot say {request.sft_request.tts_text}")

    with (
        official(fail) as url,
        client_of(url, retry=ONCE) as client,
        pytest.raises(CutError, match="UNKNOWN: Exception iterating responses") as caught,
    ):
        client.synth("一句不该被别人看到的话")
    assert caught.value.partial == b"\1\0" * 100
    assert "别人" not in str(caught.value)


def test_a_reply_that_is_too_long_to_be_true_is_refused_while_it_is_read() -> None:
    def flood(_request: Any, context: Any) -> Iterator[bytes]:
        while context.is_active():
            yield bytes(1_000_000)

    with official(flood) as url:
        with (
            client_of(url, retry=ONCE) as client,
            pytest.raises(BadAudioError) as caught,
        ):
            client.synth("你好")
        assert caught.value.reason == "too_large"
        with (
            client_of(url, retry=ONCE, limits=LimitConfig(max_reply_bytes=1000)) as client,
            pytest.raises(BadAudioError) as caught,
        ):
            client.synth("你好")
        assert caught.value.reason == "too_large"


def test_a_client_that_hangs_up_ends_the_call_at_the_server() -> None:
    over = threading.Event()

    def wait(_request: Any, context: Any) -> Iterator[bytes]:
        context.add_callback(over.set)
        yield b"\1\0"
        over.wait(20)

    with official(wait) as url:
        times = TimeoutConfig(idle=0.2)
        with client_of(url, retry=ONCE, timeouts=times) as client:
            with pytest.raises(ReplyTimeout, match="did not end") as caught:
                client.synth("你好")
            assert caught.value.phase == "idle"
        assert over.wait(60)


def test_official_clients_understand_the_embedded_server(server: Server) -> None:
    messages, stubs = cosyvoice()
    text = "你好，世界。" * 30
    with grpc.insecure_channel(server.grpc_url.removeprefix("grpc://")) as channel:
        stub = stubs.CosyVoiceStub(channel)

        def ask(**form: Any) -> list[bytes]:
            return [part.tts_audio for part in stub.Inference(messages.Request(**form), timeout=20)]

        sft = messages.sftRequest(spk_id="中文女", tts_text=text)
        pieces = ask(sft_request=sft)
        assert len(pieces) == math.ceil(len(text) / 80)
        assert b"".join(pieces) == tone_wav(text)[44:]
        prompt = messages.zeroshotRequest(
            tts_text="你好", prompt_text="好", prompt_audio=bytes(32_000)
        )
        assert b"".join(ask(zero_shot_request=prompt)) == tone_wav("你好")[44:]
        cross = messages.crosslingualRequest(tts_text="你好", prompt_audio=bytes(32_000))
        assert b"".join(ask(cross_lingual_request=cross)) == tone_wav("你好")[44:]
        told = messages.instructRequest(tts_text="你好", spk_id="中文女", instruct_text="慢")
        assert b"".join(ask(instruct_request=told)) == tone_wav("你好")[44:]
        for form, code, details in (
            ({}, "UNKNOWN", "Exception iterating responses: ''"),
            (
                {"sft_request": messages.sftRequest(spk_id="x", tts_text="好")},
                "UNKNOWN",
                "Exception iterating responses: 'x'",
            ),
            (
                {"cross_lingual_request": messages.crosslingualRequest(tts_text="好")},
                "UNKNOWN",
                "Exception iterating responses: buffer size must be a multiple of element size",
            ),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                ask(**form)
            assert (caught.value.code().name, caught.value.details()) == (code, details)


def test_more_official_calls_than_the_embedded_server_bears_are_refused_at_once() -> None:
    messages, stubs = cosyvoice()
    request = messages.Request(sft_request=messages.sftRequest(spk_id="中文女", tts_text="好"))
    with (
        Server(grpc_port=0, latency=1.0, grpc_max_conc=2) as narrow,
        grpc.insecure_channel(narrow.grpc_url.removeprefix("grpc://")) as channel,
    ):
        stub = stubs.CosyVoiceStub(channel)
        calls = [stub.Inference(request, timeout=20) for _ in range(5)]
        said = []
        for call in calls:
            with contextlib.suppress(grpc.RpcError):
                said.append(len([*call]))
        refused = [call.details() for call in calls if call.code().name == "RESOURCE_EXHAUSTED"]
        assert said == [1, 1]
        assert refused == ["Concurrent RPC limit exceeded!"] * 3


# -- TLS -----------------------------------------------------------------------------------------


def test_tls_with_a_private_ca_and_without_trust() -> None:
    trustme = pytest.importorskip("trustme", reason="needs trustme (extra test)")
    ca = trustme.CA()
    leaf = ca.issue_cert("localhost")
    chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
    credentials = grpc.ssl_server_credentials([(leaf.private_key_pem.bytes(), chain)])
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(trusting)
    with official(speak, credentials=credentials) as url:
        with client_of(url, pool=PoolConfig(ssl_context=trusting)) as client:
            assert client.synth("你好，世界").data == tone_wav("你好，世界")
        for other in (url, url.replace("localhost", "127.0.0.1")):
            context = None if other == url else trusting
            pool = PoolConfig(ssl_context=context)
            with (
                client_of(other, pool=pool, retry=ONCE) as client,
                pytest.raises(ConnectError, match="certificate was refused") as caught,
            ):
                client.synth("你好")
            assert not caught.value.retryable
        with pytest.warns(UserWarning, match="verify_tls"):
            lax = client_of(url, pool=PoolConfig(verify_tls=False))
        with lax, pytest.raises(ConfigError, match="verify_tls"):
            lax.synth("你好")


# -- the carrier's own calls ---------------------------------------------------------------------


@pytest.fixture
def sender() -> Iterator[Sender]:
    made = Sender(ClientConfig(timeouts=TimeoutConfig(first_byte=10, idle=10)))
    yield made
    made.cut()
    made.close()


def opened(sender: Sender, url: str, limits: ExchangeLimits | None = None) -> Any:
    request = RpcRequest(url, PATH, b"")
    limits = limits or ExchangeLimits(10, 10, time.monotonic() + 20, 1 << 20)
    return sender._task_transport("grpc").open(request, limits)


def test_a_call_may_go_to_one_of_the_addresses_of_a_name(sender: Sender) -> None:
    seen = []

    def look(_request: Any, context: Any) -> Iterator[bytes]:
        seen.append(context.peer().partition(":")[0])
        yield b"\1\0"

    with official(look) as url:
        named = url.replace("127.0.0.1", "tts.test")
        request = RpcRequest(named, PATH, b"", (), "127.0.0.1")
        assert sender.post(request, 20, 1 << 20).body == b"\0\0\0\0\x04\x0a\x02\1\0"
        request = RpcRequest(named, PATH, b"", (), "127.0.0.2")
        with pytest.raises(ConnectError, match=r"tts.test:\d+ at 127.0.0.2"):
            sender.post(request, 20, 1 << 20)
    assert seen == ["ipv4"]


def test_messages_are_given_as_they_come_and_empty_ones_are_not_the_end(sender: Sender) -> None:
    go = threading.Event()

    def halting(_request: Any, _context: Any) -> Iterator[bytes]:
        yield b"\1\0"
        assert go.wait(60)
        yield b""
        yield b"\2\0"

    with official(halting) as url:
        incoming = opened(sender, url)
        assert (incoming.status, dict(incoming.headers)) == (200, {})
        assert incoming.read() == b"\x0a\x02\1\0"  # while the second one is not spoken
        assert sender.connections() == (1, 0)
        go.set()
        assert incoming.read() == b"\x0a\x02\2\0"
        assert incoming.read() == incoming.read() == b""
        assert incoming.headers["grpc-status"] == "0"
        incoming.close()
        incoming.close()
        assert sender.connections() == (1, 1)


def test_the_end_of_a_calls_time_may_be_moved_while_it_goes_on(sender: Sender) -> None:
    over = threading.Event()

    def halting(_request: Any, _context: Any) -> Iterator[bytes]:
        yield b"\1\0"
        time.sleep(1.5)
        yield b"\2\0"
        over.wait(20)

    with official(halting) as url:
        limits = ExchangeLimits(10, 10, time.monotonic() + 1, 1 << 20)
        with contextlib.closing(opened(sender, url, limits)) as incoming:
            assert incoming.read() == b"\x0a\x02\1\0"
            limits.until += 20
            assert incoming.read() == b"\x0a\x02\2\0"
            limits.until = time.monotonic() + 0.1
            with pytest.raises(ReplyTimeout):
                incoming.read()
        over.set()


def test_a_refused_call_has_its_status_from_the_start(sender: Sender) -> None:
    def refuse(_request: Any, context: Any) -> Iterator[bytes]:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
        yield b""

    with official(refuse) as url, contextlib.closing(opened(sender, url)) as incoming:
        assert incoming.headers == {"grpc-status": "3", "grpc-message": "no"}
        assert incoming.read() == b""


def test_a_call_that_fails_after_messages_has_its_status_at_its_end(sender: Sender) -> None:
    def fail(_request: Any, context: Any) -> Iterator[bytes]:
        yield b"\1\0"
        context.abort(grpc.StatusCode.INTERNAL, "why")

    with official(fail) as url, contextlib.closing(opened(sender, url)) as incoming:
        headers = incoming.headers
        assert incoming.read() and not headers
        assert incoming.read() == incoming.read() == b""
        assert headers == {"grpc-status": "13", "grpc-message": "why"}


@pytest.mark.parametrize(
    ("status", "most"),
    [("UNAUTHENTICATED", 6), ("PERMISSION_DENIED", 9), ("FAILED_PRECONDITION", 29)],
)
def test_what_every_text_is_refused_with_ends_a_call_after_a_few(status: str, most: int) -> None:
    calls = itertools.count()

    def refuse(_request: Any, context: Any) -> Iterator[bytes]:
        next(calls)
        context.abort(grpc.StatusCode[status], "no")
        yield b""

    with official(refuse) as url, client_of(url) as client:
        texts = [f"第{number}句" for number in range(1_000)]
        outcomes = client.synth_many(texts, on_error="return")
    assert not any(outcome.ok for outcome in outcomes)
    assert next(calls) <= most


def test_a_stream_that_breaks_off_tells_why_and_what_was_heard() -> None:
    text = "一句不该被别人看到的话"
    sound = tone_wav(text)[44:]

    def fail(request: Any, _context: Any) -> Iterator[bytes]:
        yield sound[:9_600]
        yield sound[9_600:19_200]
        raise RuntimeError(f"CUDA out of memory at {request.sft_request.tts_text}")

    with official(fail) as url, client_of(url, retry=ONCE) as client:
        stream = client.stream(text)
        with pytest.raises(CutError, match=r"UNKNOWN: .*CUDA out of memory") as caught:
            list(stream)
        assert caught.value.partial == sound[:19_200]
        assert isinstance(caught.value.__cause__, UnavailableError)
        assert "别人" not in str(caught.value) + str(caught.value.__cause__)


def test_closing_a_call_early_ends_it_at_the_server(sender: Sender) -> None:
    over = threading.Event()

    def wait(_request: Any, context: Any) -> Iterator[bytes]:
        context.add_callback(over.set)
        yield b"\1\0"
        over.wait(20)

    with official(wait) as url:
        incoming = opened(sender, url)
        incoming.close()
        assert over.wait(60)


def test_channels_are_replaced_when_they_are_old() -> None:
    with (
        official(speak) as url,
        client_of(url, pool=PoolConfig(max_age=0.001)) as client,
    ):
        for _ in range(3):
            assert client.synth("你好，世界").data == tone_wav("你好，世界")
            time.sleep(0.01)
        assert client.stats().connections_open == 1


def test_nothing_is_sent_after_the_cut(sender: Sender) -> None:
    with official(speak) as url:
        opened(sender, url).close()
        carrier = sender._task_transport("grpc")
        carrier.cut()
        with pytest.raises(ClosedError):
            carrier.post(
                RpcRequest(url, PATH, b""), ExchangeLimits(1, 1, time.monotonic() + 1, 1000)
            )
