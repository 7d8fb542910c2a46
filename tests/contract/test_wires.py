"""What a client promises, on every wire: order, errors, deadlines, limits, keys, faults, forks."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from wires import CASES, Case, Connect, Serve

from cosy_sync import (
    AuthError,
    BadAudioError,
    BatchError,
    ClosedError,
    ConfigError,
    CosyClient,
    CosyError,
    DeadlineError,
    InvalidTextError,
    RateLimitedError,
    ReplyTimeout,
    RetryConfig,
    TimeoutConfig,
    VerifyConfig,
    Voice,
)
from cosy_sync.models import wav_header
from cosy_sync.server.service import FAIL_MARK
from cosy_sync.wires import known_wires

# Long enough for any machine; a test that works takes a fraction of it.
SOON = 20.0
NO_RETRY = RetryConfig(max_retries=0, max_bad_audio=0)
CLIP = array("h", [(n * 977) % 20_000 - 10_000 for n in range(48_000)])
WAV = wav_header(16_000, 1, 96_000) + CLIP.tobytes()


def texts(count: int, start: int = 0) -> list[str]:
    return [f"第{n}位乘客请到{n % 7}号窗口" for n in range(start, start + count)]


def wrong(case: Case, outcomes: list) -> list[int]:
    """Return the places whose audio is not what the service says of the text there."""
    return [
        outcome.index
        for outcome in outcomes
        if outcome.audio is not None and outcome.audio.pcm() != case.right(outcome.text)
    ]


def test_every_known_wire_is_under_contract() -> None:
    assert set(known_wires()) <= {case.wire or case.name for case in CASES}


# -- order --------------------------------------------------------------------------------------


def test_every_text_gets_its_own_audio_in_order(case: Case, serve: Serve, connect: Connect) -> None:
    client = connect(serve(latency=0.02))
    outcomes = client.synth_many(texts(50)[::-1], on_error="return")
    assert [outcome.error for outcome in outcomes] == [None] * 50
    assert [outcome.text for outcome in outcomes] == texts(50)[::-1]
    assert wrong(case, outcomes) == []
    lazily = list(client.synth_iter(iter(texts(20, 100))))
    assert [outcome.text for outcome in lazily] == texts(20, 100)
    assert wrong(case, lazily) == [] and all(outcome.ok for outcome in lazily)


def test_threads_get_their_own_audio(case: Case, serve: Serve, connect: Connect) -> None:
    client = connect(serve(latency=0.01))
    start = threading.Barrier(8)

    def speak(number: int) -> bool:
        start.wait(SOON)
        mine = texts(4, 10 * number)
        alone = [client.synth(text).pcm() for text in mine[:2]]
        later = [client.submit(text) for text in mine[2:]]
        heard = alone + [future.result(SOON).pcm() for future in later]
        return heard == [case.right(text) for text in mine]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(speak, range(8))) == [True] * 8


@pytest.mark.parametrize("form", ["wav", "pcm"])
def test_audio_has_the_form_that_was_asked_for(
    case: Case, serve: Serve, connect: Connect, form: str
) -> None:
    audio = connect(serve(), format=form).synth("你好世界")
    assert (audio.format, audio.sample_rate, audio.channels) == (form, 24_000, 1)
    assert audio.data[:4] == b"RIFF" if form == "wav" else audio.data == audio.pcm()
    assert audio.pcm() == case.right("你好世界")
    timing = audio.timing
    assert timing is not None and timing.attempts == 1 and timing.request_id
    assert 0 < timing.first_byte <= timing.total


# -- failures of single texts -------------------------------------------------------------------


def test_one_failed_call_fails_its_text_alone(case: Case, serve: Serve, connect: Connect) -> None:
    server = serve()
    client = connect(server, batch_size=1, retry=NO_RETRY)
    client.synth("先说一句话")
    server.inject("status-500")
    outcomes = client.synth_many(texts(12), on_error="return")
    assert [outcome.text for outcome in outcomes] == texts(12)
    (failed,) = [outcome for outcome in outcomes if outcome.error is not None]
    assert isinstance(failed.error, CosyError) and failed.error.index == failed.index
    assert failed.text not in str(failed.error)
    assert wrong(case, outcomes) == []
    server.inject("status-500")
    with pytest.raises(BatchError) as caught:
        client.synth_many(texts(5, 20))
    assert len(caught.value.failures) == 1


def test_a_text_that_the_service_cannot_speak_fails_alone(
    case: Case, serve: Serve, connect: Connect
) -> None:
    client = connect(serve(), retry=NO_RETRY)
    bad = f"这句{FAIL_MARK}不行"
    outcomes = client.synth_many([*texts(5), bad, *texts(5, 5)], on_error="return")
    assert [outcome.index for outcome in outcomes if not outcome.ok] == [5]
    assert wrong(case, outcomes) == []


def test_what_cannot_be_sent_is_refused_before_anything_is(
    case: Case, serve: Serve, connect: Connect
) -> None:
    server = serve()
    client = connect(server)
    for bad in ("", " \n", "半个\ud83d字", None):
        with pytest.raises(InvalidTextError):
            client.synth(bad)  # type: ignore[arg-type]
    assert server.stats()["requests"] == 0
    for setting, value, known in (
        ("speed", 1.5, "speed" in case.capabilities.features),
        ("sample_rate", 8_765, case.capabilities.sample_rates is None),
        ("voice", Voice(reference=WAV), "reference" in case.capabilities.voices),
        (
            "voice",
            Voice("中文女", instruction="轻声说"),
            "instruction" in case.capabilities.voices,
        ),
    ):
        if not known:
            with pytest.raises(ConfigError, match=f"^{setting}: "):
                client.with_options(**{setting: value})  # type: ignore[misc]


# -- time ---------------------------------------------------------------------------------------


def test_a_deadline_ends_what_the_service_does_not(
    case: Case, serve: Serve, connect: Connect
) -> None:
    server = serve()
    client = connect(server)
    client.synth("先说一句话")
    server.inject("stall", 9)
    started = time.monotonic()
    outcomes = client.with_options(deadline=0.5).synth_many(texts(3), on_error="return")
    assert time.monotonic() - started < SOON
    assert {type(outcome.error) for outcome in outcomes} <= {DeadlineError, ReplyTimeout}
    assert all(isinstance(outcome.error, CosyError) for outcome in outcomes)


def test_closing_ends_what_is_under_way(case: Case, serve: Serve, connect: Connect) -> None:
    server = serve()
    client = connect(server, batch_size=1)
    client.synth("先说一句话")
    server.inject("stall", 9)
    futures = [client.submit(text) for text in texts(3)]
    limit = time.monotonic() + SOON
    while client.stats().in_flight < 3:
        assert time.monotonic() < limit
        time.sleep(0.005)
    client.close(0.0)
    assert [type(future.exception(SOON)) for future in futures] == [ClosedError] * 3
    with pytest.raises(ClosedError):
        client.synth("关了以后")


def test_a_call_that_was_cut_off_leaves_nothing_behind_for_the_next(
    case: Case, serve: Serve, connect: Connect
) -> None:
    server = serve()
    client = connect(
        server, max_connections=2, retry=NO_RETRY, timeouts=TimeoutConfig(first_byte=0.8, idle=0.8)
    )
    for _ in range(2):
        server.inject("stall")
        with pytest.raises(CosyError):
            client.synth("这句没有答复")
        outcomes = client.synth_many(texts(4), on_error="return")
        assert [outcome.ok for outcome in outcomes] == [True] * 4 and wrong(case, outcomes) == []


# -- limits -------------------------------------------------------------------------------------


def test_no_more_calls_are_under_way_than_allowed(
    case: Case, serve: Serve, connect: Connect
) -> None:
    server = serve(latency=0.03, max_connections=2)
    client = connect(server, batch_size=1, max_connections=2)
    most = 0

    def look(_done: int, _total: int) -> None:
        nonlocal most
        most = max(most, client.stats().in_flight)

    assert len(client.synth_many(texts(16), progress=look)) == 16
    stats = server.stats()
    assert most <= 2 and client.stats().throttled == 0
    assert stats["refused"] == 0
    if case.counted:
        assert stats["connections_peak"] == 2


def test_calls_keep_to_the_rate(case: Case, serve: Serve, connect: Connect) -> None:
    server = serve(rate=0)
    client = connect(server, batch_size=1, rate=10)
    assert len(client.synth_many(texts(20))) == 20
    # Without a limit all of them would come in one second. Not 10: where a machine stands still for
    # a moment, what left apart arrives together.
    assert server.stats()["peak_requests_per_second"] < 17


def test_a_text_without_a_turn_in_time_is_not_sent(
    case: Case, serve: Serve, connect: Connect
) -> None:
    server = serve()
    client = connect(server, batch_size=1, rate=1)
    outcomes = client.synth_many(texts(3), on_error="return", within=0.4)
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    assert len(errors) >= 2
    assert {type(error) for error in errors} <= {RateLimitedError, DeadlineError}


def test_bulk_texts_wait_for_their_turn_for_longer_than_their_deadline(
    case: Case, serve: Serve, connect: Connect
) -> None:
    client = connect(serve(), batch_size=1, rate=2.5, deadline=1.0)
    assert all(outcome.ok for outcome in client.synth_many(texts(4), on_error="return"))


def test_a_throttled_call_is_sent_again(case: Case, serve: Serve, connect: Connect) -> None:
    server = serve()
    client = connect(server)
    server.inject("throttle-bare")
    assert client.synth("请再说一遍").pcm() == case.right("请再说一遍")
    stats = client.stats()
    assert (stats.errors, stats.throttled, stats.retries) == ({"ThrottledError": 1}, 1, 1)


# -- keys ---------------------------------------------------------------------------------------


def test_a_key_opens_and_another_one_does_not(case: Case, serve: Serve, connect: Connect) -> None:
    server = serve(api_key="right-key-7f3")
    client = connect(server, api_key="right-key-7f3")
    assert client.synth("钥匙对了").pcm() == case.right("钥匙对了")
    for key in ("wrong-key-2c9", None):
        with pytest.raises(AuthError) as caught:
            connect(server, api_key=key).synth("钥匙错了")
        assert "key-2c9" not in str(caught.value) + repr(caught.value)
        assert caught.value.attempts == ()


# -- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", ["reset", "reset-mid", "cut", "status-502", "status-503", "odd-audio", "silent-audio"]
)
def test_trouble_is_got_over(case: Case, serve: Serve, connect: Connect, fault: str) -> None:
    server = serve()
    client = connect(server)
    client.synth("先说一句话")
    server.inject(fault)
    assert client.synth("麻烦过后还是对的").pcm() == case.right("麻烦过后还是对的")
    assert server.stats()["faults"] == {fault: 1}


def test_in_the_middle_of_trouble_no_text_gets_anothers_audio(
    case: Case, serve: Serve, connect: Connect
) -> None:
    names = ("reset", "reset-mid", "cut", "status-502", "text-error", "odd-audio", "silent-audio")
    server = serve(faults=dict.fromkeys((*names, "short-audio"), 0.04), seed=4)
    size = min(4, case.capabilities.max_texts_per_call)
    client = connect(server, batch_size=size, retry=RetryConfig(base=0.01, max_retries=5))
    outcomes = client.synth_many(texts(100), on_error="return")
    assert [outcome.text for outcome in outcomes] == texts(100)
    assert wrong(case, outcomes) == []
    assert all(outcome.ok or isinstance(outcome.error, CosyError) for outcome in outcomes)
    assert sum(outcome.ok for outcome in outcomes) >= 80
    assert server.stats()["faults"]


def test_an_unreachable_service_is_a_typed_error(case: Case, serve: Serve) -> None:
    server = serve()
    client = case.client(server, retry=NO_RETRY)
    with client:
        server.close()
        with pytest.raises(CosyError) as caught:
            client.synth("没有人在听")
    assert caught.value.retryable and caught.value.trips


# -- verification -------------------------------------------------------------------------------


def test_audio_that_is_refused_is_never_passed_on(
    case: Case, serve: Serve, connect: Connect
) -> None:
    heard: list[str] = []

    def check(text: str, audio: object) -> bool:
        heard.append(text)
        return heard.count(text) > 1 and "坏" not in text

    client = connect(serve(), verify=VerifyConfig(check=check), retry=RetryConfig(base=0.01))
    good, bad = client.synth_many(["这句说得不错", "这句怎么都坏"], on_error="return")
    assert good.audio is not None and good.audio.pcm() == case.right("这句说得不错")
    assert isinstance(bad.error, BadAudioError) and bad.error.reason == "check"
    assert client.stats().bad_audio == {"check": 4}


# -- voices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["reference", "instruction"])
def test_what_a_wire_says_it_can_say_the_service_understands(
    case: Case, serve: Serve, connect: Connect, asked: str
) -> None:
    if asked not in case.capabilities.voices:
        pytest.skip(f"the wire takes no {asked}")
    if asked == "reference":
        voice = Voice(reference=WAV, transcript="这是录音里说的话")
    else:
        voice = Voice("中文女", instruction="轻声说")
    client = connect(serve(), voice=voice, retry=NO_RETRY)
    outcomes = client.synth_many(texts(5), on_error="return")
    assert [outcome.error for outcome in outcomes] == [None] * 5


@pytest.mark.parametrize("asked", ["ssml", "words"])
def test_what_a_wire_says_of_texts_the_service_understands(
    case: Case, serve: Serve, connect: Connect, asked: str
) -> None:
    if asked not in case.capabilities.features:
        pytest.skip(f"the wire knows no {asked}")
    field, text = {
        "ssml": ("enable_ssml", "<speak>你好，世界</speak>"),
        "words": ("word_timestamp_enabled", "你好，世界"),
    }[asked]
    audio = connect(serve(), extra={field: True}, retry=NO_RETRY).synth(text)
    assert audio.pcm() == case.right("你好，世界")
    assert bool(audio.words) is (asked == "words")


# -- streaming ----------------------------------------------------------------------------------


def test_a_stream_brings_the_same_sound_and_can_be_left(
    case: Case, serve: Serve, connect: Connect
) -> None:
    if not case.capabilities.streaming or not hasattr(CosyClient, "stream"):
        pytest.skip("the wire does not stream")
    server = serve()
    client = connect(server, max_connections=1)
    for text in texts(3):
        with client.stream(text) as stream:
            assert b"".join(stream) == case.right(text)
    for text in texts(3, 3):
        with client.stream(text) as stream:
            next(iter(stream))
        # Its only place is free again, and what was not heard is in nobody's way.
        assert client.synth(text).pcm() == case.right(text)
    assert client.stats().in_flight == 0


# -- forks --------------------------------------------------------------------------------------

FORK = """
import dataclasses, os, sys
sys.path.insert(0, sys.argv[1])
from wires import CASES
(case,) = [case for case in CASES if case.name == sys.argv[2]]
client = dataclasses.replace(case, url=lambda _: sys.argv[3]).client(None)

def right(start):
    texts = [f"第{n}位乘客请到{n % 7}号窗口" for n in range(start, start + 6)]
    return [audio.pcm() for audio in client.synth_many(texts)] == [*map(case.right, texts)]

assert not case.forks or right(0)
children = []
for number in range(1, 3):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if right(10 * number) and client.stats().texts_ok == 6 else 1)
    children.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
print(codes, right(0))
client.close()
"""


def test_forked_children_get_their_own_audio(case: Case, serve: Serve) -> None:
    here, url = str(Path(__file__).parent), case.url(serve())
    done = subprocess.run(
        [sys.executable, "-c", FORK, here, case.name, url],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[0, 0] True", done.stderr
