"""The wire dashscope_ws and the embedded server over real sockets."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scripted import FINISH, HOLD, READ, Scripted

from cosy_sync import CosyClient, Endpoint, RetryConfig, Voice
from cosy_sync.config import BatchConfig, BreakerConfig, CoalesceConfig, TimeoutConfig
from cosy_sync.engine.text_pump import TextPump
from cosy_sync.errors import (
    AuthError,
    BadAudioError,
    BadRequestError,
    BatchError,
    ConfigError,
    ConnectError,
    CosyError,
    CutError,
    DeadlineError,
    InvalidTextError,
    ReplyTimeout,
    ServerError,
    TextError,
    ThrottledError,
    UnavailableError,
    UnexpectedError,
)
from cosy_sync.testing import Server, tone_wav

pytest.importorskip("websockets", reason="needs websockets (extra websocket)")

KEY = "sk-7c1f-very-secret"
ONE = RetryConfig(max_retries=0)
FEEDER = "cosy-feeder"


def address(server: Server) -> str:
    return server.base_url.replace("http", "ws", 1) + "/api-ws/v1/inference"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(latency=0, rate=0, max_connections=0, seed=1) as running:
        yield running


Connect = Callable[..., CosyClient]


@pytest.fixture
def connect() -> Iterator[Connect]:
    made: list[CosyClient] = []

    def build(
        server: Server, *, rate: float = 1000, max_connections: int = 50, **settings: Any
    ) -> CosyClient:
        endpoint = Endpoint(address(server), rate=rate, max_connections=max_connections)
        given = {"model": "cosyvoice-v3-flash", "voice": "longanyang", "wire": "dashscope_ws"}
        client = CosyClient(endpoint, **{**given, **settings})
        made.append(client)
        return client

    yield build
    for client in made:
        client.close()


class TestSpeaking:
    def test_a_text_becomes_its_audio(self, server: Server, connect: Connect) -> None:
        audio = connect(server).synth("你好,世界。")
        assert audio.wav() == tone_wav("你好,世界。")
        assert audio.timing is not None and audio.timing.connect > 0

    def test_many_keep_their_order(self, server: Server, connect: Connect) -> None:
        texts = [f"第{number}句话。" for number in range(100)]
        audios = connect(server).synth_many(texts)
        assert [audio.wav() for audio in audios] == [tone_wav(text) for text in texts]

    @pytest.mark.parametrize("sample_rate", [8_000, 22_050, 48_000])
    def test_rate_speed_and_format_are_as_asked(
        self, server: Server, connect: Connect, sample_rate: int
    ) -> None:
        audio = connect(server, sample_rate=sample_rate, speed=1.5, format="pcm").synth("你好")
        assert (audio.sample_rate, audio.format) == (sample_rate, "pcm")
        assert audio.wav() == tone_wav("你好", sample_rate=sample_rate, speed=1.5)

    def test_words_come_with_their_times_where_asked(
        self, server: Server, connect: Connect
    ) -> None:
        client = connect(server, extra={"word_timestamp_enabled": True})
        audio = client.synth("早安")
        assert [word.text for word in audio.words] == ["早", "安"]
        assert audio.words[0].start == 0
        assert audio.words[-1].end == pytest.approx(audio.duration, abs=0.001)
        assert connect(server).synth("早安").words == ()

    def test_a_text_longer_than_a_message(self, server: Server, connect: Connect) -> None:
        text = "好" * 12_000
        client = connect(server, batch=BatchConfig(max_text_chars=20_000))
        audio = client.synth(text)
        assert audio.duration == pytest.approx(0.1 * len(text))


class TestSockets:
    def test_two_hundred_texts_one_after_the_other_take_one(
        self, server: Server, connect: Connect
    ) -> None:
        client = connect(server)
        for number in range(200):
            text = f"第{number}句话。"
            assert client.synth(text).wav() == tone_wav(text)
        stats = server.stats()
        assert stats["connections_peak"] == 1
        assert stats["status"] == {"101": 1, "200": 200}

    def test_a_hundred_at_once_on_fifty_never_take_a_dirty_one(self, connect: Connect) -> None:
        texts = [f"第{number}句话。" for number in range(100)]
        faults = {"cut": 0.1, "extra-after": 0.1, "error-mid": 0.1, "reset-mid": 0.1}
        with Server(latency=0.2, rate=0, max_connections=50, seed=4, faults=faults) as server:
            client = connect(server, retry=RetryConfig(max_retries=9, base=0.01), **calm())
            audios = client.synth_many(texts)
            assert [audio.wav() for audio in audios] == [tone_wav(text) for text in texts]
            stats = server.stats()
            # One that was dropped may still be counted at the server beside its successor; on a
            # busy machine not all 50 are made before the first is free again.
            assert 20 <= stats["connections_peak"] <= 60
            failed = sum(stats["faults"].values())  # type: ignore[attr-defined]
            assert failed > 10
            # Clean ones took another task: each text and each repetition would need one otherwise.
            assert stats["status"]["101"] < 100 + failed  # type: ignore[index]

    def test_more_at_once_than_the_account_bears_are_fewer_and_no_slower(
        self, connect: Connect
    ) -> None:
        texts = [f"第{number}句话。" for number in range(200)]
        with Server(latency=0.03, rate=0, max_connections=4) as server:
            client = connect(server, max_connections=16, retry=RetryConfig(base=0.05))
            audios = client.synth_many(texts)
            assert [audio.wav() for audio in audios] == [tone_wav(text) for text in texts]
            stats = client.stats()
        ((rate, in_flight),) = stats.limits.values()
        # Throttling.Concurrency says nothing of the rate.
        assert (rate, stats.texts_ok) == (1000, 200)
        assert in_flight <= 6
        # 12 of the first 16 are too many; after them 5 %, on a busy machine up to 15 %.
        assert stats.throttled <= 12 + 30

    def test_one_that_the_server_closed_while_idle_is_replaced(self, connect: Connect) -> None:
        with Server(latency=0, rate=0, idle_timeout=0.1) as server:
            client = connect(server, retry=ONE)
            client.synth("一")
            deadline = time.monotonic() + 10
            while server.stats()["connections_now"] and time.monotonic() < deadline:
                time.sleep(0.01)
            assert client.synth("二").wav() == tone_wav("二")
            assert server.stats()["status"] == {"101": 2, "200": 2}

    def test_a_forked_child_has_sockets_of_its_own(self, server: Server, connect: Connect) -> None:
        client = connect(server)
        client.synth("父")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if client.synth("子").wav() == tone_wav("子") else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert client.synth("父亲").wav() == tone_wav("父亲")
        assert server.stats()["status"]["101"] == 2  # type: ignore[index]

    def test_closing_ends_who_waits_and_leaves_nothing(self, connect: Connect) -> None:
        with Server(latency=30, rate=0) as server:
            client = connect(server)
            errors: list[BaseException] = []

            def wait() -> None:
                try:
                    client.synth("你好")
                except CosyError as error:
                    errors.append(error)

            thread = threading.Thread(target=wait)
            thread.start()
            deadline = time.monotonic() + 10
            while not server.stats()["texts"] and time.monotonic() < deadline:
                time.sleep(0.01)
            client.close(0)
            thread.join(10)
            assert not thread.is_alive()
            assert len(errors) == 1

    def test_usual_limits_are_those_of_a_personal_account(self, server: Server) -> None:
        with CosyClient(address(server), wire="dashscope_ws", model="m", voice="longan") as client:
            [endpoint] = client._core.endpoints
            assert (endpoint.max_connections, endpoint.rate) == (3, 3.0)
            assert client._core.config.pool.idle_expiry == 55.0


def calm() -> dict[str, Any]:
    """Return settings that let nothing but retries answer to faults."""
    return {"breaker": BreakerConfig(min_calls=10_000), "deadline": 60.0}


class TestRefusals:
    def test_a_wrong_voice_says_what_to_check(self, server: Server, connect: Connect) -> None:
        with pytest.raises(BadRequestError, match=r"418.*belongs to the model") as caught:
            connect(server, voice="nobody").synth("你好")
        assert caught.value.code == "InvalidParameter"

    def test_one_bad_text_fails_alone(self, server: Server, connect: Connect) -> None:
        with pytest.raises(BatchError) as caught:
            connect(server).synth_many(["一", "[fail]", "[refuse]", "二"])
        outcomes = caught.value.outcomes
        assert [type(outcome.error) for outcome in outcomes] == [
            type(None),
            TextError,
            TextError,
            type(None),
        ]

    def test_a_reference_recording_is_refused_before_anything_is_sent(
        self, server: Server, connect: Connect
    ) -> None:
        with pytest.raises(ConfigError, match="cannot take a reference recording"):
            connect(server, voice=Voice(reference=b"RIFF"))
        assert server.stats()["requests"] == 0

    def test_a_text_beyond_a_task_is_refused_before_anything_is_sent(
        self, server: Server, connect: Connect
    ) -> None:
        client = connect(server, batch=BatchConfig(max_text_chars=200_000))
        with pytest.raises(InvalidTextError, match="200000"):
            client.synth("好" * 100_001)
        assert server.stats()["requests"] == 0

    def test_a_wrong_path_is_no_service(self, server: Server, connect: Connect) -> None:
        endpoint = Endpoint(address(server) + "/nowhere")
        settings = {"wire": "dashscope_ws", "model": "m", "voice": "longan", "retry": ONE}
        with CosyClient(endpoint, **settings) as client, pytest.raises(BadRequestError) as caught:
            client.synth("你好")
        assert caught.value.status == 404

    def test_without_the_extra_it_says_what_to_install(
        self, server: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import sys

        for name in list(sys.modules):
            if name in ("cosy_sync.net.websocket", "cosy_sync.net.websocket_task"):
                monkeypatch.delitem(sys.modules, name)
            if name.startswith("websockets"):
                monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ConfigError, match="pip install 'websockets>=16'"):
            connect(server).synth("你好")


class TestKeysAndLimits:
    def test_a_right_key_opens_and_a_wrong_one_does_not(self, connect: Connect) -> None:
        with Server(latency=0, rate=0, api_key=KEY) as server:
            assert connect(server, api_key=KEY).synth("你好").wav() == tone_wav("你好")
            with pytest.raises(AuthError, match="check api_key") as caught:
                connect(server, api_key="wrong", retry=ONE).synth("你好")
            assert (caught.value.status, caught.value.code) == (401, "InvalidApiKey")

    def test_a_bearer_in_small_letters_is_one_too(self, connect: Connect) -> None:
        with Server(latency=0, rate=0, api_key=KEY) as server:
            connect(server, headers={"Authorization": f"bearer {KEY}"}).synth("你好")

    def test_the_key_is_in_no_log_and_no_error(
        self, connect: Connect, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        with Server(latency=0, rate=0, api_key=KEY) as server:
            client = connect(server, api_key=KEY, retry=ONE)
            client.synth("天机不可泄露")
            server.inject("reset-mid")
            with pytest.raises(CutError) as caught:
                client.synth("天机不可泄露")
        seen = caplog.text + str(caught.value) + repr(caught.value) + repr(client)
        assert KEY not in seen
        assert "天机" not in seen

    def test_task_starts_beyond_the_rate_are_throttled_and_tried_again(
        self, connect: Connect
    ) -> None:
        with Server(latency=0, rate=5, max_connections=0) as server:
            with pytest.raises(ThrottledError) as caught:
                client = connect(server, retry=ONE, coalesce=CoalesceConfig(enabled=False))
                for _ in range(6):
                    client.synth("你好")
            assert caught.value.code == "Throttling.RateQuota"
            time.sleep(1.1)
            client = connect(server, retry=RetryConfig(max_retries=9), **calm())
            assert len(client.synth_many(["一", "二", "三", "四", "五", "六", "七"])) == 7

    def test_our_own_rate_keeps_within_the_services(self, connect: Connect) -> None:
        # More than it allows, all at once; a busy machine delays some on their way.
        with Server(latency=0, rate=12, max_connections=0) as server:
            connect(server, rate=8, retry=ONE).synth_many([f"{n}号" for n in range(16)])
            assert server.stats()["overrun"] == 0

    def test_too_many_at_once_are_throttled(self, connect: Connect) -> None:
        with Server(latency=0.3, rate=0, max_connections=1) as server:
            client = connect(server, retry=ONE, max_connections=2)
            with pytest.raises(BatchError) as caught:
                client.synth_many(["一", "二"])
            [failure] = caught.value.failures
            assert isinstance(failure.error, ThrottledError)
            assert failure.error.code == "Throttling.Concurrency"
            # Who was there before is not made to suffer.
            assert client.synth("三").wav() == tone_wav("三")


FAULTS: dict[str, type[CosyError]] = {
    "status-500": UnavailableError,
    "status-502": UnavailableError,
    "status-503": UnavailableError,
    "status-504": UnavailableError,
    "throttle": ThrottledError,
    "throttle-bare": ThrottledError,
    "not-json": BadAudioError,
    "json-object": CutError,
    "reset": CutError,
    "reset-mid": CutError,
    "cut": CutError,
    "cut-chunked": CutError,
    "length-long": CutError,
    "error-mid": UnavailableError,
    "text-error": UnavailableError,
    "empty-audio": BadAudioError,
    "too-few": BadAudioError,
    "odd-audio": BadAudioError,
    "silent-audio": BadAudioError,
    "short-audio": BadAudioError,
    "swapped-type": BadAudioError,
}


class TestFaults:
    @pytest.mark.parametrize("fault", FAULTS)
    def test_each_is_an_error_and_a_second_try_succeeds(
        self, server: Server, connect: Connect, fault: str
    ) -> None:
        text = "今天天气真的很好,我们去公园吧。"
        server.inject(fault)
        with pytest.raises(FAULTS[fault]):
            connect(server, retry=ONE).synth(text)
        server.inject(fault)
        assert connect(server, **calm()).synth(text).wav() == tone_wav(text)
        assert server.stats()["faults"] == {fault: 2}

    @pytest.mark.parametrize("fault", ["late", "extra-after", "same-audio", "double-index"])
    def test_some_do_no_harm(self, server: Server, connect: Connect, fault: str) -> None:
        server.inject(fault)
        client = connect(server, retry=ONE)
        assert client.synth("你好").wav() == tone_wav("你好")
        assert client.synth("再见").wav() == tone_wav("再见")

    @pytest.mark.parametrize("fault", ["stall", "stall-mid"])
    def test_a_stall_ends_in_time(self, server: Server, connect: Connect, fault: str) -> None:
        server.inject(fault)
        times = TimeoutConfig(first_byte=0.2, idle=0.2)
        with pytest.raises(ReplyTimeout):
            connect(server, retry=ONE, timeouts=times).synth("你好")

    def test_a_drip_ends_at_the_deadline(self, server: Server, connect: Connect) -> None:
        server.inject("drip")
        with pytest.raises(CosyError):
            connect(server, retry=ONE, deadline=0.5).synth("你好")

    def test_an_outage_is_seen_at_the_handshake(self, connect: Connect) -> None:
        from cosy_sync.testing import Outage

        outage = Outage(start=0, seconds=3600, fault="status-503")
        with Server(latency=0, outages=[outage]) as server, pytest.raises(UnavailableError):
            connect(server, retry=ONE).synth("你好")


class TestTextsInPieces:
    def test_the_first_sound_comes_before_the_last_piece(
        self, server: Server, connect: Connect
    ) -> None:
        heard = threading.Event()

        def pieces() -> Iterator[str]:
            yield "你好，世界。"
            assert heard.wait(60)
            yield "再见，世界。"

        with connect(server).stream(pieces()) as stream:
            sound = next(stream)
            heard.set()
            sound += b"".join(stream)
        whole = connect(server).synth("你好，世界。再见，世界。")
        assert abs(len(sound) - len(whole.pcm())) < 0.2 * len(sound)

    def test_pieces_of_words_are_one_text(self, server: Server, connect: Connect) -> None:
        client = connect(server)
        with client.stream(list("今天天气很好。")) as stream:
            audio = stream.audio()
        assert audio.duration > 0.5
        stats = client.stats()
        assert (stats.texts_ok, stats.chars_ok, stats.in_flight) == (1, 7, 0)

    def test_a_failure_before_the_first_sound_is_repeated_with_all_pieces(
        self, server: Server, connect: Connect
    ) -> None:
        server.inject("reset")
        client = connect(server)
        with client.stream(iter(["今天", "天气", "很好。"])) as stream:
            assert stream.audio().duration > 0.5
        assert client.stats().retries == 1

    def test_an_exception_of_the_source_ends_the_stream_and_is_its_cause(
        self, server: Server, connect: Connect
    ) -> None:
        def pieces() -> Iterator[str]:
            yield "你好，世界。"
            raise KeyError("the model broke")

        with pytest.raises(UnexpectedError) as caught, connect(server).stream(pieces()) as stream:
            list(stream)
        assert isinstance(caught.value.__cause__, KeyError)

    @pytest.mark.parametrize("source", [[], ["", ""]])
    def test_nothing_to_speak_is_refused(
        self, server: Server, connect: Connect, source: list[str]
    ) -> None:
        with pytest.raises(InvalidTextError, match="nothing to speak"):
            connect(server).stream(source)

    def test_what_is_no_text_is_refused(self, server: Server, connect: Connect) -> None:
        with pytest.raises(InvalidTextError, match="got int"):
            connect(server).stream(["你好", 7])  # type: ignore[list-item]

    def test_leaving_early_stops_the_source(self, server: Server, connect: Connect) -> None:
        taken: list[int] = []
        free = threading.Event()

        def pieces() -> Iterator[str]:
            for number in range(1000):
                taken.append(number)
                yield "你好，世界。"
                if number:
                    free.wait(20)

        client = connect(server)
        with client.stream(pieces()) as stream:
            next(stream)
        free.set()
        assert client.synth("再见").duration > 0
        assert len(taken) <= 3
        assert client.stats().in_flight == 0

    def test_a_source_that_gives_more_after_the_end_is_closed(
        self, server: Server, connect: Connect
    ) -> None:
        free, closed = threading.Event(), threading.Event()

        def pieces() -> Iterator[str]:
            try:
                yield "你好，世界。"
                free.wait(20)
                yield "再见"
                yield "nobody asks for it"
            finally:
                closed.set()

        with connect(server).stream(pieces()) as stream:
            next(stream)
        assert not closed.is_set()
        free.set()
        assert closed.wait(60)

    def test_a_source_that_waits_for_ever_holds_up_neither_the_client_nor_the_program(
        self, server: Server
    ) -> None:
        program = f"""
import threading
from cosy_sync import CosyClient

def pieces():
    yield "你好，世界。"
    threading.Event().wait()

client = CosyClient({address(server)!r}, wire="dashscope_ws", model="m-1", voice="longanyang")
with client.stream(pieces()) as stream:
    next(stream)
open_one = client.stream(pieces())
next(open_one)
client.close()
print("closed", {FEEDER!r} in [thread.name for thread in threading.enumerate()])
"""
        ended = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
        )
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "closed True\n", "")

    def test_a_silent_source_ends_with_the_deadline(self, server: Server, connect: Connect) -> None:
        free = threading.Event()

        def pieces() -> Iterator[str]:
            free.wait(20)
            yield "你好"

        try:
            with pytest.raises(CosyError) as caught:
                connect(server, deadline=0.5).stream(pieces())
            assert isinstance(caught.value, (DeadlineError, ReplyTimeout))
        finally:
            free.set()

    def test_other_wires_want_the_whole_text(self, server: Server) -> None:
        url = server.base_url + "/v1"
        with (
            CosyClient(url, wire="openai") as client,
            pytest.raises(ConfigError, match="takes whole texts only; join the pieces"),
        ):
            client.stream(["你好"])

    def test_without_a_thread_for_the_source_nothing_is_held(
        self, server: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: TextPump) -> None:
            raise RuntimeError("can't start new thread")

        client = connect(server)
        monkeypatch.setattr(TextPump, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            client.stream(["你好"])
        assert not client._core.engine()._stream_opener._open


class TestRefusedHandshake:
    """What stands before the service, or the service itself, answers the upgrade otherwise."""

    @pytest.mark.parametrize(
        ("answer", "expected", "told"),
        [
            (
                b"HTTP/1.1 429 No\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\n"
                b'2f\r\n{"code":"Throttling.Concurrency","message":"m"}\r\n0\r\n\r\n',
                ThrottledError,
                {"retry_after": 7.0, "code": "Throttling.Concurrency"},
            ),
            (
                b'HTTP/1.1 429 No\r\nContent-Length: 99\r\n\r\n{"code":"PrepaidBillOverdu',
                ThrottledError,  # half a body cannot say that it is about the bill
                {"status": 429},
            ),
            (
                b'HTTP/1.1 401 No\r\nContent-Length: 24\r\n\r\n{"code":"InvalidApiKey"}',
                AuthError,
                {"code": "InvalidApiKey"},
            ),
            (b"HTTP/1.0 403 Forbidden\r\n\r\n<title>WAF</title>", AuthError, {"status": 403}),
            (
                b"HTTP/1.1 503 No\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n",
                UnavailableError,
                {"retry_after": 3.0},
            ),
            (b"HTTP/1.1 307 T\r\nLocation: /x\r\n\r\n", ServerError, {"status": 307}),
            (b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n", ConnectError, {}),
            (b"+OK POP3 ready\r\n", ConnectError, {}),
            (b"", ConnectError, {}),
        ],
    )
    def test_ends_as_its_own_error_within_the_deadline(
        self, answer: bytes, expected: type[CosyError], told: dict[str, Any]
    ) -> None:
        with Scripted([READ, answer, FINISH]) as service:
            url = f"ws://127.0.0.1:{service.port}/api-ws/v1/inference"
            settings: Any = {"model": "cosyvoice-v3-flash", "voice": "longanyang"}
            with (
                CosyClient(url, wire="dashscope_ws", retry=ONE, deadline=20, **settings) as client,
                pytest.raises(CosyError) as caught,
            ):
                client.synth("你好")
        assert type(caught.value) is expected
        assert {name: getattr(caught.value, name) for name in told} == told

    def test_one_that_never_ends_is_over_with_the_deadline(self) -> None:
        with Scripted([READ, b"HTTP/1.1 101 Switching\r\nX: ", HOLD]) as service:
            url = f"ws://127.0.0.1:{service.port}/api-ws/v1/inference"
            settings: Any = {"model": "cosyvoice-v3-flash", "voice": "longanyang"}
            with (
                CosyClient(url, wire="dashscope_ws", deadline=0.3, **settings) as client,
                pytest.raises(DeadlineError),
            ):
                client.synth("你好")
