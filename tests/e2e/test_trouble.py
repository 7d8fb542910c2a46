"""Every trouble that a service can make, over real sockets: the named error, nothing lost."""

import pickle
import socket
import threading
from collections.abc import Iterator

import pytest
from faults import HTTP_TROUBLE
from scripted import READ, RESET, Scripted

import cosy_sync
from cosy_sync import CosyClient, Endpoint, Outcome, RetryConfig, TimeoutConfig
from cosy_sync.server import FAULTS, Server, ServerConfig, tone_wav

TEXTS = [f"前方第{number}个路口请向左转弯" for number in range(8)]

QUICK = {
    "retry": RetryConfig(max_retries=1, base=0.01, outlast=0),
    "timeouts": TimeoutConfig(connect=2.0, first_byte=0.4, idle=0.4),
    "deadline": 3.0,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(ServerConfig(engine="tone", latency=0, rate=0, max_connections=0)) as running:
        yield running


def speak(server: Server, fault: str, **settings: object) -> list[Outcome]:
    headers = {"X-Cosy-Fault": fault, **settings.pop("headers", {})}  # type: ignore[dict-item]
    settings = {**QUICK, **settings}
    with CosyClient(server.url, headers=headers, **settings) as client:  # type: ignore[arg-type]
        return client.synth_many(TEXTS, on_error="return")


WHOLE = {
    **HTTP_TROUBLE,
    "too-many": cosy_sync.BadAudioError,
    "gzip-bomb": cosy_sync.BadAudioError,
    "same-audio": cosy_sync.BadAudioError,
    # One item without a place: nobody knows any more whose the others are.
    "missing-index": cosy_sync.BadAudioError,
}


@pytest.mark.parametrize(("fault", "kind"), WHOLE.items(), ids=list(WHOLE))
def test_a_fault_of_the_whole_reply_ends_as_its_named_error(server, fault, kind) -> None:
    # The server takes a moment to make its first bomb.
    slow = {"timeouts": TimeoutConfig(first_byte=20), "deadline": 30.0}
    settings = slow if fault == "gzip-bomb" else {}
    if fault.startswith("throttle"):  # bulk work waits for its turn as long as it may
        settings = {"deadline": 1.0}
    outcomes = speak(server, fault, **settings)
    assert len(outcomes) == len(TEXTS)
    for index, outcome in enumerate(outcomes):
        # The deadline may end it between two tries.
        met = (*outcome.error.attempts, outcome.error)
        assert any(isinstance(each, kind) for each in met), repr(met)
        assert outcome.index == outcome.error.index == index
        assert outcome.error.endpoint == server.url


def test_a_dribbling_server_does_not_outlive_the_deadline(server) -> None:
    outcomes = speak(server, "drip", deadline=1.0)
    for outcome in outcomes:
        assert isinstance(outcome.error, cosy_sync.DeadlineError)
        assert outcome.error.deadline == 1.0


# Faults that hit one text or one item: the others are served, and the one ends as an error. Each
# attempt draws its victim anew, so a text that was hit may still be served by the retry.
PARTIAL = {
    "bad-base64": cosy_sync.BadAudioError,
    "bad-wav": cosy_sync.BadAudioError,
    "double-index": cosy_sync.BadAudioError,
    "empty-audio": cosy_sync.BadAudioError,
    "foreign-audio": cosy_sync.BadAudioError,
    "odd-audio": cosy_sync.BadAudioError,
    "short-audio": cosy_sync.BadAudioError,
    "silent-audio": cosy_sync.BadAudioError,
    "swapped-audio": cosy_sync.BadAudioError,
    "swapped-type": cosy_sync.CosyError,
    "text-error": cosy_sync.ServerError,
    "too-few": cosy_sync.BadAudioError,
}


@pytest.mark.parametrize(("fault", "kind"), PARTIAL.items(), ids=list(PARTIAL))
@pytest.mark.parametrize("form", ["multipart", "results"])
def test_a_fault_of_one_item_spoils_no_other_and_is_never_returned(
    server, fault, kind, form
) -> None:
    if fault == "bad-base64" and form == "multipart":
        pytest.skip("multipart has no base64")
    sound = "pcm" if fault == "odd-audio" else "wav"
    no_retry = RetryConfig(max_retries=0)
    with CosyClient(server.url, format=sound) as healthy:
        right = [audio.data for audio in healthy.synth_many(TEXTS)]
    headers = {"X-Cosy-Reply": form}
    outcomes = speak(server, fault, headers=headers, format=sound, retry=no_retry)
    assert all(o.audio.data == right[o.index] for o in outcomes if o.ok)
    failed = [outcome.error for outcome in outcomes if not outcome.ok]
    assert 1 <= len(failed) <= 2
    assert all(isinstance(error, kind) and error.endpoint == server.url for error in failed)


@pytest.mark.parametrize("fault", sorted(PARTIAL))
def test_a_text_that_a_fault_hit_is_served_by_a_retry_unless_the_service_refuses_it(
    server, fault
) -> None:
    with Server(ServerConfig(latency=0, rate=0, faults={fault: 0.5}, seed=7)) as flaky:
        patient = RetryConfig(max_retries=9, max_bad_audio=9, base=0.005)
        with CosyClient(flaky.url, retry=patient, headers={"X-Cosy-Reply": "results"}) as client:
            outcomes = client.synth_many(TEXTS, on_error="return")
    refused = [type(outcome.error) for outcome in outcomes if not outcome.ok]
    assert set(refused) <= {cosy_sync.TextError}


def test_rubbish_after_a_reply_is_never_read_as_the_next_one(server) -> None:
    with CosyClient(server.url, headers={"X-Cosy-Fault": "extra-after"}, **QUICK) as client:
        first = [client.synth(text).data for text in TEXTS]
        assert client.stats().connects == len(TEXTS)
    with CosyClient(server.url) as healthy:
        assert first == [healthy.synth(text).data for text in TEXTS]
        assert healthy.stats().connects == 1


@pytest.mark.parametrize("fault", ["length-short", "length-twice"])
def test_what_a_wrong_length_leaves_behind_is_never_read_as_the_next_reply(fault) -> None:
    with (
        Server(latency=0) as server,
        CosyClient(server.url, retry=RetryConfig(base=0.01)) as client,
    ):
        for text in TEXTS:
            server.inject(fault)
            assert client.synth(text).data == tone_wav(text)


def test_every_fault_of_the_server_is_tested_here() -> None:
    # Of error-mid a batch knows nothing: the tests of wires that stream have it.
    elsewhere = {"drip", "error-mid", "extra-after", "late"}
    assert set(WHOLE) | set(PARTIAL) | elsewhere == set(FAULTS)


def test_a_late_reply_is_as_good_as_any(server) -> None:
    patient = TimeoutConfig(first_byte=20)
    outcomes = speak(server, "late", timeouts=patient, deadline=30.0)
    assert [outcome.audio.data for outcome in outcomes] == [tone_wav(text) for text in TEXTS]


# Wrong audio, and the reason by which it is counted.
REASONS = {
    "bad-base64": "base64",
    "bad-wav": "cut",
    "double-index": "index",
    "empty-audio": "empty",
    "foreign-audio": "misplaced",
    "length-short": "cut",
    "missing-index": "index",
    "not-json": "not_audio",
    "same-audio": "identical",
    "short-audio": "short",
    "silent-audio": "silent",
    "swapped-audio": "misplaced",
    "swapped-type": "not_audio",
    "too-few": "missing",
    "too-many": "index",
}


@pytest.mark.parametrize(("fault", "reason"), REASONS.items(), ids=list(REASONS))
def test_wrong_audio_is_counted_by_its_reason_and_spoken_again_elsewhere(
    server, fault, reason
) -> None:
    with Server(ServerConfig(latency=0, faults={fault: 1.0})) as broken:
        # Of two idle ones the heavier is asked first.
        endpoints = [Endpoint(broken.url, weight=1e9), Endpoint(server.url, weight=1e-9)]
        with CosyClient(endpoints, retry=RetryConfig(base=0.01), deadline=30.0) as client:
            audios = client.synth_many(TEXTS)
            stats = client.stats()
    assert [audio.data for audio in audios] == [tone_wav(text) for text in TEXTS]
    again = [audio for audio in audios if audio.timing.endpoint == server.url]
    assert again and all(audio.timing.attempts == 2 for audio in again)
    assert stats.bad_audio[reason] >= 1
    assert sum(stats.bad_audio.values()) == len(again)
    assert (stats.retries, stats.texts_ok, stats.texts_failed) == (1, len(TEXTS), 0)


def test_two_equally_long_recordings_exchanged_pass_where_the_service_says_no_hash() -> None:
    # What only a listener can find: the reason for VerifyConfig(check=...).
    def listens(text: str, audio: cosy_sync.Audio) -> bool:
        return audio.data == tone_wav(text)

    config = ServerConfig(latency=0, faults={"swapped-audio": 1.0}, echo=False)
    with Server(config) as server:
        with CosyClient(server.url) as client:
            passed = client.synth_many(TEXTS)
        listening = cosy_sync.VerifyConfig(check=listens)
        with CosyClient(server.url, verify=listening, retry=RetryConfig(max_retries=0)) as client:
            outcomes = client.synth_many(TEXTS, on_error="return")
    assert sum(audio.data != tone_wav(t) for audio, t in zip(passed, TEXTS, strict=True)) == 2
    reasons = [outcome.error.reason for outcome in outcomes if not outcome.ok]
    assert reasons == ["check", "check"]


@pytest.mark.parametrize("form", ["multipart", "results", "array"])
@pytest.mark.parametrize("gzip_above", [0, 1])
def test_all_reply_forms_bring_the_same_audio(server, form, gzip_above) -> None:
    batch = cosy_sync.BatchConfig(gzip_above=gzip_above)
    with CosyClient(server.url, headers={"X-Cosy-Reply": form}, batch=batch) as client:
        audios = client.synth_many(TEXTS)
    with CosyClient(server.url) as plain:
        assert [a.data for a in audios] == [a.data for a in plain.synth_many(TEXTS)]


def test_bare_samples_carry_the_same_sound(server) -> None:
    with CosyClient(server.url) as client:
        wav = client.synth_many(TEXTS)
        pcm = client.with_options(format="pcm").synth_many(TEXTS)
    assert [a.pcm() for a in wav] == [a.data for a in pcm]


def test_one_bad_text_is_isolated_when_the_server_refuses_the_whole_call(server) -> None:
    texts = [*TEXTS, "这一句[refuse]会被拒绝", "这一句[fail]会失败", *TEXTS]
    with CosyClient(server.url) as client:
        outcomes = client.synth_many(texts, on_error="return")
    failed = {outcome.index: type(outcome.error) for outcome in outcomes if not outcome.ok}
    assert failed == {8: cosy_sync.BadRequestError, 9: cosy_sync.TextError}


def test_a_wrong_key_says_what_to_check() -> None:
    with (
        Server(ServerConfig(latency=0, api_key="sk-right")) as server,
        CosyClient(server.url, api_key="sk-wrong") as client,
        pytest.raises(cosy_sync.AuthError, match="COSY_SYNC_API_KEY") as caught,
    ):
        client.synth("你好")
    assert caught.value.status == 401 and "sk-" not in str(caught.value)


def test_a_wrong_path_says_what_to_check(server) -> None:
    with (
        CosyClient(server.base_url + "/wrong") as client,
        pytest.raises(cosy_sync.BadRequestError, match="path") as caught,
    ):
        client.synth("你好")
    assert caught.value.status == 404


def test_a_server_that_is_not_there_says_so() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    url = f"http://127.0.0.1:{port}/batch"
    with (
        CosyClient(url, retry=RetryConfig(base=0.01)) as client,
        pytest.raises(cosy_sync.ConnectError, match="is the service running") as caught,
    ):
        client.synth("你好")
    assert len(caught.value.attempts) == 3


def test_a_server_that_dies_and_returns_costs_no_text() -> None:
    config = ServerConfig(latency=0.02, rate=0, max_connections=0)
    first = Server(config)
    first.__enter__()
    port = int(first.base_url.rsplit(":", 1)[1])
    texts = [f"这是第{number}句不能丢的话" for number in range(400)]
    settings = {
        "retry": RetryConfig(max_retries=12, base=0.1, max_wait=0.3),
        "breaker": cosy_sync.BreakerConfig(open_for=0.5),
        "batch_size": 8,
    }
    with CosyClient(first.url, **settings) as client:  # type: ignore[arg-type]
        results: list[Outcome] = []
        done = threading.Event()

        def call() -> None:
            results.extend(client.synth_many(texts, on_error="return"))
            done.set()

        threading.Thread(target=call).start()
        while client.stats().texts_ok < 80:
            done.wait(0.005)
        first.close()
        done.wait(0.3)
        with Server(ServerConfig(port=port, latency=0.02, rate=0, max_connections=0)):
            assert done.wait(60)
    assert [outcome.error for outcome in results if not outcome.ok] == []
    assert len(results) == 400


BIG = b"x" * 3_000_000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LARGE = {
    "reset": [READ, HEAD + b"Content-Length: 9000000\r\n\r\n" + BIG, RESET],
    "cut": [READ, HEAD + b"Content-Length: 9000000\r\n\r\n" + BIG],
    "cut-chunked": [READ, HEAD + b"Transfer-Encoding: chunked\r\n\r\n2dc6c0\r\n" + BIG],
    "not-json": [READ, HEAD + b"Content-Length: 3000000\r\n\r\n" + BIG],
}


@pytest.mark.parametrize("trouble", LARGE)
def test_the_errors_of_a_batch_do_not_keep_its_replies(trouble: str) -> None:
    with Scripted(LARGE[trouble]) as server, CosyClient(server.url, **QUICK) as client:
        outcomes = client.synth_many(TEXTS, on_error="return")
    assert len(pickle.dumps(outcomes)) < 100_000
    for outcome in outcomes:
        assert outcome.error is not None and len(outcome.error.attempts) == 1
        for error in (outcome.error, *outcome.error.attempts):
            link: BaseException | None = error
            while link is not None:
                assert link.__traceback__ is None  # frames hold what was read
                link = link.__cause__
