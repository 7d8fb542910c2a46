"""client.stream on a fake clock: when sound comes, what is repeated, what ends it, what is held."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import threading
import warnings
import weakref
from collections.abc import Iterator

import pytest
from interrupts import interrupt_at
from lanes import eventually
from streams import URL, DripReader, PlayNet, install, play_net, tone

import cosy_sync
import cosy_sync.wires.registry as registry
from cosy_sync import (
    Audio,
    BadAudioError,
    BreakerConfig,
    BreakerOpenError,
    ClosedError,
    ConfigError,
    CosyClient,
    CosyError,
    CutError,
    DeadlineError,
    Endpoint,
    ReplyTimeout,
    RetryConfig,
    SpeechStream,
    ThrottledError,
    UnavailableError,
    UnexpectedError,
    VerifyConfig,
)
from cosy_sync.audio import Verifier
from cosy_sync.endpoints.dns import DnsWatcher
from cosy_sync.events import (
    AttemptFinished,
    AudioRefused,
    Event,
    LimitsLowered,
    RetryPlanned,
    StreamStarted,
    TextFailed,
    TextsFinished,
)
from cosy_sync.testing import FakeClock

TEXT = "今天天气很好"
SOUND = tone(TEXT)
SECOND = bytes(SOUND[:1]) + b"\x11" * 47_999  # one second of it, at 24 kHz


class Watch:
    """Remembers events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def kinds(self) -> list[type]:
        return [type(event) for event in self.events if type(event) is not LimitsLowered]

    def only(self, kind: type) -> Event:
        (event,) = [event for event in self.events if type(event) is kind]
        return event


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> PlayNet:
    install(monkeypatch)
    return play_net(monkeypatch, clock)


class Make:
    """Makes clients that are closed in the end."""

    def __init__(self, clock: FakeClock, watch: Watch) -> None:
        self._given = {"wire": "drip", "clock": clock, "observers": [watch]}
        self.made: list[CosyClient] = []

    def __call__(self, *urls: str | Endpoint, **settings: object) -> CosyClient:
        client = CosyClient(list(urls) or URL, **{**self._given, **settings})  # type: ignore[arg-type]
        self.made.append(client)
        return client


@pytest.fixture
def make(net: PlayNet, clock: FakeClock, watch: Watch) -> Iterator[Make]:
    make = Make(clock, watch)
    yield make
    for client in make.made:
        assert client.stats().in_flight == 0, "a permit was not given back"
        client.close(0)


@pytest.fixture
def client(make: Make) -> CosyClient:
    return make()


def read_until(stream: SpeechStream, error: type[CosyError]) -> tuple[bytes, CosyError]:
    """Read a stream that breaks; return what was heard, and its error."""
    heard = b""
    with pytest.raises(error) as caught:
        for chunk in stream:
            heard += chunk
    return heard, caught.value


# -- sound ----------------------------------------------------------------------------------------


def test_chunks_come_as_the_service_sends_them(client, net) -> None:
    play = net.script(SOUND[:2000], SOUND[2000:2400], SOUND[2400:])
    stream = client.stream(TEXT)
    assert not play.ended
    assert next(stream) == SOUND[:2000]
    assert next(stream) == SOUND[2000:2400]
    assert not play.ended and client.stats().in_flight == 1
    assert list(stream) == [SOUND[2400:]]
    assert play.closed == 1 and client.stats().in_flight == 0
    assert list(stream) == []


def test_a_chunk_holds_whole_samples_and_is_never_empty(client, net) -> None:
    net.script(SOUND[:1], SOUND[1:2], SOUND[2:1001], SOUND[1001:])
    chunks = list(client.stream(TEXT))
    assert list(map(len, chunks)) == [2, 998, len(SOUND) - 1000]
    assert b"".join(chunks) == SOUND


def test_streams_teach_the_verifier_of_their_voice(client, net, monkeypatch) -> None:
    made: list[Verifier] = []

    class Kept(Verifier):
        def __init__(self, config: VerifyConfig) -> None:
            super().__init__(config)
            made.append(self)

    monkeypatch.setattr("cosy_sync.engine.runners.Verifier", Kept)
    for number in range(3):
        net.script(SOUND)
        list(client.stream(TEXT + "！" * number))
    assert [each.learned.pace.texts for each in made] == [3]


def test_the_first_sound_is_there_when_the_stream_is(client, net, clock) -> None:
    net.opening = lambda: clock.advance(0.5)
    play = net.script(0.25, SOUND[:1], 0.25, SOUND[1:1000], 7.0, SOUND[1000:])
    started = clock.now()
    with client.stream(TEXT) as stream:
        assert clock.now() - started == 1.0
        assert stream.sample_rate == 24_000
        timing = stream.timing
        assert (timing.first_byte, timing.first_audio, timing.total) == (0.5, 1.0, 1.0)
        assert (timing.started, timing.queued, timing.attempts) == (started, 0.0, 1)
        list(stream)
        assert (stream.timing.first_audio, stream.timing.total) == (1.0, 8.0)
    assert play.closed == 1


def test_connecting_is_no_part_of_the_first_byte(client, net, clock) -> None:
    net.opening = lambda: clock.advance(0.5)
    net.script(SOUND).connect = 0.375
    with client.stream(TEXT) as stream:
        assert (stream.timing.connect, stream.timing.first_byte) == (0.375, 0.125)


def test_what_the_listener_takes_does_not_count(client, net, clock) -> None:
    net.script(1.0, SOUND[:1000], 2.0, SOUND[1000:])
    stream = client.stream(TEXT)
    for _ in stream:
        clock.advance(500.0)
    assert stream.timing.total == 3.0


def test_of_a_stream_that_was_read_to_its_end_an_encoded_format_leaves_an_empty_rest(
    make, net
) -> None:
    pytest.importorskip("soundfile", reason="needs the extra audio")
    net.script(SOUND)
    with make(format="mp3").stream(TEXT) as stream:
        assert b"".join(stream) == SOUND
        assert stream.audio().pcm() == b""


@pytest.mark.parametrize("format", ["wav", "pcm"])
def test_audio_is_what_was_not_read_yet(make, net, format) -> None:
    client = make(format=format)
    for _ in range(2):
        net.script(SOUND[:1000], SOUND[1000:])
    with client.stream(TEXT) as stream:
        whole = stream.audio()
    with client.stream(TEXT) as stream:
        next(stream)
        rest = stream.audio()
        assert stream.audio().pcm() == b""
    assert (whole.pcm(), rest.pcm()) == (SOUND, SOUND[1000:])
    assert (whole.format, whole.sample_rate, whole.channels) == (format, 24_000, 1)
    assert whole.timing == pytest.approx(whole.timing) and whole.timing.endpoint == URL


def test_the_wire_may_ask_for_something_first(make, net) -> None:
    net.script(SOUND)
    list(make(extra={"upload": 1}).stream(TEXT))
    assert [request.url for request in net.posted] == [URL + "/upload"]
    assert [request.url for request in net.requests] == [URL]


def test_an_endpoints_address_is_where_the_request_goes(make, net, monkeypatch) -> None:
    monkeypatch.setattr(type(net), "resolves", lambda self, url: True)
    monkeypatch.setattr(type(net), "addresses", lambda self, url: ["192.0.2.7"], raising=False)
    begin = DnsWatcher.open

    def look(watcher: DnsWatcher) -> None:
        begin(watcher)
        watcher.answered.wait(10)  # a clock that is set does not wait for another thread

    monkeypatch.setattr(DnsWatcher, "open", look)
    net.script(SOUND)
    client = make(Endpoint(URL, per_address=True), extra={"upload": 1})
    stream = client.stream(TEXT)
    assert [request.address for request in net.posted + net.requests] == ["192.0.2.7"] * 2
    assert "192.0.2.7" in stream.timing.endpoint
    stream.close()


def test_serial_clients_stream_too(make, net) -> None:
    net.script(SOUND)
    assert make(serial=True).stream(TEXT).audio().pcm() == SOUND


def test_the_module_streams_with_the_client_of_the_process(net, monkeypatch) -> None:
    net.script(SOUND)
    cosy_sync.configure(URL, wire="drip")
    assert cosy_sync.stream(TEXT).audio().pcm() == SOUND
    cosy_sync.default_client().close()


# -- refused before anything is sent --------------------------------------------------------------


def test_a_wire_without_streaming_says_which_wires_can(client, net, monkeypatch) -> None:
    monkeypatch.setattr(registry, "known_wires", lambda: ("batch",))
    with CosyClient(URL) as whole:
        with pytest.raises(ConfigError, match=r"'batch' sends whole.*none of those"):
            whole.stream(TEXT)
        monkeypatch.setattr(registry, "known_wires", lambda: ("batch", "drip", "missing"))
        with pytest.raises(ConfigError, match=r"wire that can stream: drip$"):
            whole.stream(TEXT)


def test_a_wire_that_streams_elsewhere_says_so() -> None:
    with (
        CosyClient("http://tts/api/inference", wire="runtime_http", voice="a") as old,
        pytest.raises(ConfigError, match="'runtime_http' at this URL sends whole replies"),
    ):
        old.stream(TEXT)


def test_a_text_that_cannot_be_sent_is_refused(client, net) -> None:
    with pytest.raises(cosy_sync.InvalidTextError):
        client.stream("  ")
    assert net.requests == []


def test_a_closed_client_is_refused(client, net) -> None:
    engine = client._core.engine()
    client.close()
    with pytest.raises(ClosedError):
        client.stream(TEXT)
    with pytest.raises(ClosedError):
        engine.stream(cosy_sync.models.Utterance(TEXT), client._interactive, lambda s: s)


# -- before the first sound: as usual -------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        CutError("cut"),
        ReplyTimeout("late"),
        BadAudioError("odd"),
        cosy_sync.ConnectError("refused"),
    ],
)
@pytest.mark.parametrize("where", ["open", "read"])
def test_what_fails_before_the_first_sound_is_repeated(client, net, watch, failure, where) -> None:
    if where == "open":
        net.fail(failure)
    else:
        net.script(SOUND[:1], failure)
    net.script(SOUND)
    stream = client.stream(TEXT)
    assert stream.timing.attempts == 2
    assert stream.audio().pcm() == SOUND
    assert [play.closed for play in net.plays] == [1] * len(net.plays)
    bad = [AudioRefused] if isinstance(failure, BadAudioError) else []
    rest = [RetryPlanned, StreamStarted, AttemptFinished, TextsFinished]
    assert watch.kinds() == [AttemptFinished, *bad, *rest]
    first = next(event for event in watch.events if isinstance(event, AttemptFinished))
    assert type(first.error) is type(failure) and first.error.endpoint == URL


def test_a_reply_without_sound_is_repeated(client, net, watch) -> None:
    net.script()
    net.script(SOUND)
    with client.stream(TEXT) as stream:
        assert stream.timing.attempts == 2
    assert watch.only(AudioRefused).reason == "empty"


def test_a_refusal_is_read_whole_and_means_what_it_says(client, net) -> None:
    body = b'{"error": {"message": "too many", "code": "busy"}}'
    net.script(body[:9], body[9:], status=429, content_type="application/json", retry_after="3")
    net.script(SOUND)
    with client.stream(TEXT) as stream:
        assert stream.timing.queued >= 3
    (refusal,) = net.plays[:1]
    assert refusal.ended and refusal.closed == 1
    assert client.stats().throttled == 1


def test_a_refusal_that_stays_is_raised_with_the_attempts(client, net, watch) -> None:
    for _ in range(4):
        net.script(b"", status=503)
    with pytest.raises(UnavailableError) as caught:
        client.stream(TEXT)
    error = caught.value
    assert (len(error.attempts), error.endpoint, error.index) == (3, URL, 0)
    assert watch.only(TextFailed).error is error
    assert client.stats().texts_failed == 1 and client.stats().streams == 0


def test_a_refusal_for_good_is_not_repeated(client, net) -> None:
    net.script(b"", status=401)
    with pytest.raises(cosy_sync.AuthError):
        client.stream(TEXT)
    assert len(net.requests) == 1


def test_another_endpoint_takes_over(make, net) -> None:
    urls = ["http://a.test/", "http://b.test/"]
    net.fail(CutError("cut"))
    net.script(SOUND)
    with make(*urls).stream(TEXT):
        assert sorted(request.url for request in net.requests) == urls


def test_the_deadline_bounds_the_first_sound_and_all_attempts_before_it(make, net, clock) -> None:
    client = make(deadline=10.0)
    net.script(4.0, CutError("cut"))
    play = net.script(60.0)
    started = clock.now()
    with pytest.raises(DeadlineError) as caught:
        client.stream(TEXT)
    assert clock.now() - started == pytest.approx(10.0)
    assert play.waits[0] < 6.0 and caught.value.deadline == 10.0 and caught.value.partial == b""


def test_a_foreign_exception_before_the_first_sound_gives_everything_back(client, net) -> None:
    play = net.script(KeyError("a bug"))
    with pytest.raises(UnexpectedError) as caught:
        client.stream(TEXT)
    assert isinstance(caught.value.__cause__, KeyError) and play.closed == 1


@pytest.mark.parametrize("tenant", [None, "team"])
def test_ctrl_c_before_the_first_sound_gives_everything_back(make, net, tenant) -> None:
    # Where it is read on the main thread itself: Ctrl-C comes to no other.
    client = make(max_in_flight=1, tenant=tenant, serial=True)
    play = net.script(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        client.stream(TEXT)
    assert play.closed == 1
    net.script(SOUND)
    assert client.stream(TEXT).audio().pcm() == SOUND


@pytest.mark.parametrize("comes", [True, False])
def test_ctrl_c_while_the_first_sound_is_awaited_ends_it_when_it_comes(client, net, comes) -> None:
    go = threading.Event()
    steps = (SOUND,) if comes else (CutError("cut"),)
    play = net.script(lambda: os.kill(os.getpid(), signal.SIGINT), lambda: go.wait(10), *steps)
    with pytest.raises(KeyboardInterrupt):
        client.stream(TEXT)
    assert client.stats().in_flight == 1 and play.closed == 0
    go.set()
    eventually(lambda: play.closed == 1 and client.stats().in_flight == 0)
    eventually(lambda: not client._core.engine()._stream_opener._open)
    assert len(net.requests) == 1  # nobody wants it repeated


@pytest.mark.parametrize("ending", ["whole", "left", "cut"])
def test_ctrl_c_at_any_line_leaves_nothing_taken(make, net, ending) -> None:
    client = make(max_in_flight=1, retry=RetryConfig(max_retries=0))
    engine = client._core.engine()
    kept: list[SpeechStream] = []

    def work() -> None:
        with client.stream(TEXT) as stream:
            kept.append(stream)
            for _ in stream:
                if ending == "left":
                    break

    def nothing_is_taken() -> bool:
        gates = [gate._permits.used for gate in engine._tenant_limits.everybody()]
        return not any([client.stats().in_flight, len(engine._stream_opener._open), *gates])

    number = 0
    goes_on = True
    while goes_on:
        number += 1
        net.script(SOUND[:1000], *([CutError("cut")] if ending == "cut" else [SOUND[1000:]]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            goes_on = interrupt_at(number, work)
            kept.clear()
        eventually(nothing_is_taken)
        net.skip()
    assert number > 60
    assert all(play.closed == 1 for play in net.plays)


def test_retries_are_paid_from_the_budget_which_streams_fill(make, net) -> None:
    overload = cosy_sync.OverloadConfig(retry_share=0.5, retry_floor=0.01)
    client = make(overload=overload)
    budget = client._core.engine().budget
    net.script(SOUND)
    assert budget.balance(1000.0) == 0.1
    client.stream(TEXT).close()
    assert budget.balance(1000.0) == 0.5


def test_the_breaker_opens_and_a_stream_that_ends_well_closes_it(make, net, clock) -> None:
    breaker = BreakerConfig(min_calls=2, open_for=10, jitter=0, probes=1)
    client = make(breaker=breaker, retry=RetryConfig(max_retries=0))
    for _ in range(2):
        net.fail(CutError("cut"))
        with pytest.raises(CutError):
            client.stream(TEXT)
    with pytest.raises(BreakerOpenError):
        client.stream(TEXT)
    clock.advance(10.0)
    net.script(SOUND[:10], SOUND[10:])
    stream = client.stream(TEXT)
    assert client.stats().breakers[URL] == "half-open"
    list(stream)
    assert client.stats().breakers[URL] == "closed"


# -- after the first sound: never again -----------------------------------------------------------


@pytest.mark.parametrize("failure", [CutError("cut", partial=b"raw"), ReplyTimeout("idle")])
def test_what_breaks_after_the_first_sound_carries_it_and_is_not_repeated(
    client, net, watch, failure
) -> None:
    play = net.script(SOUND[:1000], SOUND[1000:3000], SOUND[3000:3001], failure)
    stream = client.stream(TEXT)
    heard, error = read_until(stream, type(failure))
    assert heard == SOUND[:3000] == error.partial
    assert (error.endpoint, error.index, error.text_hash) == (URL, 0, cosy_sync.text_hash(TEXT))
    assert len(net.requests) == 1 and play.closed == 1
    assert watch.kinds() == [StreamStarted, AttemptFinished, TextFailed]
    assert list(stream) == []
    assert client.stats().texts_failed == 1
    assert pickle.loads(pickle.dumps(error)).partial == error.partial


def test_it_breaks_even_before_the_listener_took_the_first_chunk(client, net) -> None:
    net.script(SOUND[:1000], CutError("cut"))
    stream = client.stream(TEXT)
    with pytest.raises(CutError) as caught:
        stream.audio()
    assert caught.value.partial == SOUND[:1000]


def test_earlier_attempts_stay_with_the_error(client, net) -> None:
    net.fail(cosy_sync.ConnectError("refused"))
    net.script(SOUND[:1000], CutError("cut"))
    _, error = read_until(client.stream(TEXT), CutError)
    assert [type(each) for each in error.attempts] == [cosy_sync.ConnectError]


def test_a_foreign_exception_in_the_wire_is_an_unexpected_error(client, net, monkeypatch) -> None:
    net.script(SOUND[:1000], b"boom")
    stream = client.stream(TEXT)
    monkeypatch.setattr(DripReader, "feed", lambda self, data: 1 / 0)
    heard, error = read_until(stream, UnexpectedError)
    assert heard == error.partial == SOUND[:1000]
    assert isinstance(error.__cause__, ZeroDivisionError)


def test_cuts_count_against_the_endpoint_and_bad_ends_too(make, net) -> None:
    breaker = BreakerConfig(min_calls=2)
    client = make(breaker=breaker)
    for _ in range(2):
        net.script(SOUND[:1000], CutError("cut"))
        read_until(client.stream(TEXT), CutError)
    assert client.stats().breakers[URL] == "open"


# -- how long the rest may take -------------------------------------------------------------------


def test_the_service_may_fall_behind_its_sound_by_the_deadline(make, net, clock) -> None:
    client = make(deadline=10.0, verify=VerifyConfig(enabled=False))
    play = net.script(2.0, SECOND, 8.75, SECOND, 1.0, SECOND)
    stream = client.stream(TEXT)
    list(stream)
    # 10 s, less 2 s until the first sound; then a second more with each second of sound.
    assert play.waits == [10.0, 10 - 2 + 1, 10 - 2 - 8.75 + 2, 10 - 2 - 8.75 - 1 + 3]
    assert stream.timing.total == 11.75


def test_a_service_that_falls_further_behind_is_cut_off(make, net, clock, watch) -> None:
    client = make(deadline=10.0, breaker=BreakerConfig(min_calls=1))
    play = net.script(2.0, SECOND, 9.0, SECOND)
    started = clock.now()
    heard, error = read_until(client.stream(TEXT), DeadlineError)
    assert heard == error.partial == SECOND
    assert clock.now() - started == 11.0 and play.closed == 1
    assert (error.deadline, error.phase) == (10.0, "stream")
    assert isinstance(error.__cause__, ReplyTimeout)
    assert client.stats().breakers[URL] == "open"  # it is the service that was late


def test_waiting_for_a_turn_counts_as_well(make, net, clock) -> None:
    client = make(deadline=10.0, verify=VerifyConfig(enabled=False))
    net.script(3.0, b"", status=503)
    play = net.script(SECOND, SECOND)
    stream = client.stream(TEXT)
    list(stream)
    assert stream.timing.queued > 3
    assert play.waits[1] == pytest.approx(10 - stream.timing.queued + 1)


def test_nothing_is_waited_for_once_all_time_is_gone(make, net, clock) -> None:
    client = make(deadline=10.0)
    play = net.script(SECOND, lambda: clock.advance(11.0), b"\0", b"late")
    heard, error = read_until(client.stream(TEXT), DeadlineError)
    assert heard == SECOND and len(play.waits) == 2
    assert "behind the 1.0 s of sound" in str(error)


# -- the whole is verified ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sound", "reason"),
    [(b"\0" * len(SOUND), "silent"), (SOUND[:200], "short"), (SOUND * 25, "long")],
)
def test_what_cannot_be_the_speech_is_refused_at_the_end(client, net, watch, sound, reason) -> None:
    play = net.script(sound[:100], sound[100:])
    heard, error = read_until(client.stream(TEXT), BadAudioError)
    assert heard == error.partial == sound
    assert error.reason == reason and play.closed == 1 and len(net.requests) == 1
    assert watch.kinds() == [StreamStarted, AttemptFinished, AudioRefused, TextFailed]
    assert watch.only(AttemptFinished).error is None
    assert client.stats().bad_audio == {reason: 1}


def test_half_a_sample_at_the_end_is_refused(client, net, monkeypatch) -> None:
    monkeypatch.setattr(DripReader, "feed", lambda self, data: data)
    net.script(SOUND[:1000], SOUND[1000:-1])
    _, error = read_until(client.stream(TEXT), BadAudioError)
    assert error.reason == "odd"


def test_the_callers_own_check_sees_the_whole_sound(make, net) -> None:
    seen: list[tuple[str, Audio]] = []

    def check(text: str, audio: Audio) -> bool:
        seen.append((text, audio))
        return False

    net.script(SOUND[:1000], SOUND[1000:])
    client = make(verify=VerifyConfig(check=check))
    _, error = read_until(client.stream(TEXT), BadAudioError)
    assert error.reason == "check"
    assert [(text, audio.pcm()) for text, audio in seen] == [(TEXT, SOUND)]


# -- the end --------------------------------------------------------------------------------------


def test_a_whole_stream_is_told_and_counted(client, net, watch, clock) -> None:
    net.script(0.5, SOUND[:1000], 0.25, SOUND[1000:])
    list(client.stream(TEXT))
    assert watch.kinds() == [StreamStarted, AttemptFinished, TextsFinished]
    started, attempt, finished = watch.events
    assert (started.timing.first_audio, started.chars) == (0.5, len(TEXT))
    assert (attempt.error, attempt.texts, attempt.reply_bytes) == (None, 1, len(SOUND))
    assert attempt.timing.total == 0.75
    assert (finished.texts, finished.chars, finished.audio_bytes) == (1, len(TEXT), len(SOUND))
    assert (finished.audio_seconds, finished.latency) == (len(SOUND) / 48_000, 0.75)
    stats = client.stats()
    assert (stats.requests, stats.texts_ok, stats.streams) == (1, 1, 1)
    assert stats.first_audio_p50 == stats.first_audio_p99 == 0.5


def test_closing_hangs_up_at_once_and_is_no_failure(client, net, watch) -> None:
    play = net.script(SOUND[:1000], SOUND[1000:])
    stream = client.stream(TEXT)
    next(stream)
    assert repr(stream) == "<SpeechStream 24000 Hz, open>"
    stream.close()
    assert play.closed == 1 and not play.ended and client.stats().in_flight == 0
    assert list(stream) == [] and stream.audio().pcm() == b""
    stream.close()
    assert play.closed == 1
    assert watch.kinds() == [StreamStarted, AttemptFinished]
    assert watch.events[-1].error is None
    stats = client.stats()
    assert (stats.streams, stats.texts_ok, stats.texts_failed) == (1, 0, 0)
    assert repr(stream) == "<SpeechStream 24000 Hz, ended>"


@pytest.mark.parametrize("how", ["break", "raise", "read"])
def test_leaving_the_block_closes(client, net, how) -> None:
    play = net.script(SOUND[:1000], SOUND[1000:])
    with contextlib.suppress(KeyError), client.stream(TEXT) as stream:
        for _ in stream:
            if how == "raise":
                raise KeyError
            if how == "break":
                break
    assert play.closed == 1 and play.ended == (how == "read")


def test_ctrl_c_while_it_is_read_gives_everything_back(client, net, watch) -> None:
    play = net.script(SOUND[:1000], KeyboardInterrupt())
    stream = client.stream(TEXT)
    next(stream)
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert play.closed == 1 and client.stats().in_flight == 0
    assert watch.kinds() == [StreamStarted, AttemptFinished]
    assert list(stream) == []


@pytest.mark.parametrize("circle", [False, True])
def test_a_stream_that_was_dropped_is_closed_with_a_warning(client, net, circle) -> None:
    play = net.script(SOUND[:1000], SOUND[1000:])
    stream = client.stream(TEXT)
    if circle:
        stream.itself = stream  # type: ignore[attr-defined]
    with pytest.warns(ResourceWarning, match="dropped before its end"):
        del stream
        gc.collect()
    eventually(lambda: play.closed == 1 and client.stats().in_flight == 0)


def test_a_stream_that_ended_is_dropped_without_a_word(client, net) -> None:
    net.script(SOUND)
    list(client.stream(TEXT))
    gc.collect()


def test_the_tenants_place_is_held_until_the_end(make, net) -> None:
    client = make(max_in_flight=1, tenant="team")
    net.script(SOUND[:1000], SOUND[1000:])
    stream = client.stream(TEXT)
    with pytest.raises(DeadlineError, match="one of the tenant's 1 places"):
        client.with_options(deadline=0.05).stream(TEXT)
    list(stream)
    net.script(SOUND)
    client.stream(TEXT).close()


def test_the_connection_is_held_until_the_end(make, net) -> None:
    client = make(Endpoint(URL, max_connections=1))
    net.script(SOUND[:1000], SOUND[1000:])
    stream = client.stream(TEXT)
    with pytest.raises(DeadlineError, match="a free connection"):
        client.with_options(deadline=0.05).stream(TEXT)
    stream.close()
    net.script(SOUND)
    client.stream(TEXT).close()


# -- other threads, the end of the client, forks --------------------------------------------------


def in_thread(work) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_only_one_thread_reads_at_a_time(client, net) -> None:
    inside, go = threading.Event(), threading.Event()
    net.script(SOUND[:1000], inside.set, lambda: go.wait(10), SOUND[1000:])
    stream = client.stream(TEXT)
    next(stream)
    heard: list[bytes] = []
    thread = in_thread(lambda: heard.extend(stream))
    assert inside.wait(60)
    with pytest.raises(ConfigError, match="another thread is reading it"):
        next(stream)
    go.set()
    thread.join()
    assert heard == [SOUND[1000:]]


def test_closing_while_another_thread_reads_ends_it_with_the_next_sound(client, net) -> None:
    inside, go = threading.Event(), threading.Event()
    play = net.script(SOUND[:1000], inside.set, lambda: go.wait(10), SOUND[1000:2000], b"more")
    stream = client.stream(TEXT)
    next(stream)
    heard: list[bytes] = []
    thread = in_thread(lambda: heard.extend(stream))
    assert inside.wait(60)
    stream.close()
    stream.close()
    assert play.closed == 0
    go.set()
    thread.join()
    assert heard == [] and play.closed == 1 and client.stats().in_flight == 0


def test_the_client_does_not_wait_for_a_stream_of_the_thread_that_closes_it(
    client, net, watch
) -> None:
    play = net.script(SOUND[:1000], SOUND[1000:])
    stream = client.stream(TEXT)
    assert next(stream) == SOUND[:1000]
    client.close(3600.0)
    assert play.closed == 1
    with pytest.raises(ClosedError) as caught:
        next(stream)
    assert caught.value.partial == SOUND[:1000]
    assert list(stream) == []
    assert watch.kinds() == [StreamStarted, AttemptFinished, TextFailed]
    assert client.stats().errors["ClosedError"] == 2  # of the attempt and of the text


def test_the_client_waits_for_streams_of_other_threads(client, net) -> None:
    inside, closing = threading.Event(), threading.Event()
    net.script(SOUND[:1000], inside.set, lambda: closing.wait(10), SOUND[1000:])
    heard: list[bytes] = []
    thread = in_thread(lambda: heard.extend(client.stream(TEXT)))
    assert inside.wait(60)
    engine = client._core.engine()
    assert not engine._stream_opener.drain(0.0)
    threading.Timer(0.05, closing.set).start()
    client.close(30.0)
    thread.join()
    assert b"".join(heard) == SOUND


def test_a_stream_that_nobody_reads_ends_when_the_client_does(client, net) -> None:
    play = net.script(SOUND[:1000], SOUND[1000:])
    streams: list[SpeechStream] = []
    in_thread(lambda: streams.append(client.stream(TEXT))).join()
    client.close(0.05)
    assert play.closed == 1 and client.stats().in_flight == 0
    with pytest.raises(ClosedError):
        next(streams[0])


def test_the_end_of_the_client_meets_a_stream_that_just_began(client, net) -> None:
    engine = client._core.engine()
    play = net.script(engine._stream_opener.cut, SOUND)
    with pytest.raises(ClosedError):
        next(client.stream(TEXT))
    assert play.closed == 1


def test_ended_streams_are_not_kept_for_the_collector(client, net) -> None:
    net.script(SOUND)
    gc.collect()
    gc.disable()
    try:
        stream = client.stream(TEXT)
        list(stream)
        ended = weakref.ref(stream._speech)
        del stream
        assert ended() is None
    finally:
        gc.enable()


def test_the_deadline_holds_on_the_main_thread_whatever_the_workers_do(make, net, clock) -> None:
    client = make(Endpoint(URL, max_connections=1), deadline=0.02)
    go = threading.Event()
    client._core.engine()._single.submit(lambda: go.wait(20))
    with pytest.raises(DeadlineError) as caught:
        client.stream(TEXT)
    assert caught.value.deadline == 0.02 and not go.is_set()
    go.set()
    assert client._core.engine()._single.drain(10)
    assert net.requests == []  # what came too late is not sent


def test_the_end_of_the_client_wakes_who_waits_for_a_connection(make, net) -> None:
    client = make(Endpoint(URL, max_connections=1))
    net.script(SOUND[:1000], SOUND[1000:])
    stream = client.stream(TEXT)
    errors: list[BaseException] = []

    def second() -> None:
        try:
            client.stream(TEXT)
        except BaseException as error:
            errors.append(error)

    thread = in_thread(second)
    slots = client._core.engine().endpoints.endpoints[0].slots
    eventually(lambda: bool(slots._urgent))
    client.close(0)
    thread.join()
    assert [type(error) for error in errors] == [ClosedError]
    stream.close()


def test_a_forked_child_neither_reads_nor_ends_its_parents_stream(client, net) -> None:
    play = net.script(SOUND[:1000], SOUND[1000:])
    stream = client.stream(TEXT)
    child = os.fork()
    if not child:
        result = 1
        try:
            with pytest.raises(ClosedError, match="belongs to the process that forked"):
                next(stream)
            stream.close()
            assert not stream._speech.abandon()
            result = play.closed
        finally:
            os._exit(result)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert b"".join(stream) == SOUND


def test_a_retryable_refusal_of_ours_is_raised_at_once(make, net) -> None:
    client = make(Endpoint(URL, rate=0.01), deadline=5.0)
    net.script(SOUND)
    client.stream(TEXT).close()
    with pytest.raises(cosy_sync.RateLimitedError):
        client.stream(TEXT)


def test_throttling_lowers_the_limits_as_always(make, net) -> None:
    client = make(retry=RetryConfig(max_retries=0))
    for _ in range(3):
        net.script(b"", status=429, content_type="text/plain")
        with pytest.raises(ThrottledError):
            client.stream(TEXT)
    assert client.stats().limits[URL][1] < 50


def test_a_listeners_slowness_is_not_the_services(make, net, clock) -> None:
    client = make(breaker=BreakerConfig(min_calls=1, slow_call=5.0))
    net.script(SOUND[:1000], SOUND[1000:])
    for _ in client.stream(TEXT):
        clock.advance(100.0)
    assert client.stats().breakers[URL] == "closed"
    net.script(SOUND[:1000], 5.0, SOUND[1000:])
    list(client.stream(TEXT))
    assert client.stats().breakers[URL] == "open"
