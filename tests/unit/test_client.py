"""The face: what goes in, what comes out, views, counters, closing."""

import itertools
import math
import pickle
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import httpx
import pytest
import respx

import cosy_sync
from cosy_sync import (
    BatchConfig,
    ConfigError,
    CosyClient,
    Endpoint,
    LimitConfig,
    OverloadConfig,
    RetryConfig,
    VerifyConfig,
    Voice,
)
from cosy_sync.engine import bulk as dispatcher
from cosy_sync.given_texts import GivenTexts
from cosy_sync.models import detach
from cosy_sync.testing import FakeService
from cosy_sync.wires import BatchWire, Capabilities

URL = "http://tts.test/batch"


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> Iterator[CosyClient]:
    with CosyClient(URL, http_client=httpx.Client(transport=service)) as made:
        yield made


def sentences(count: int) -> list[str]:
    return [f"第{number}句话，前方路口请左转。" for number in range(count)]


# -- results ------------------------------------------------------------------------------------


def test_synth_returns_checked_audio(client, service) -> None:
    audio = client.synth("你好，世界")
    assert audio.data == service.wav("你好，世界")
    assert audio.sample_rate == 24000 and audio.duration == pytest.approx(1.0, abs=0.01)
    assert audio.timing.attempts == 1 and audio.timing.endpoint == URL


def test_synth_many_keeps_the_input_order(client, service) -> None:
    texts = sentences(300)[::-1]
    audios = client.synth_many(texts)
    assert [audio.data for audio in audios] == [service.wav(text) for text in texts]
    assert max(map(len, service.calls)) == 64


def test_no_texts_are_no_calls_and_no_results(client, service) -> None:
    assert client.synth_many([]) == []
    assert list(client.synth_iter(iter(()))) == []
    assert service.calls == []


def test_all_audio_is_bytes_of_its_own(client, service) -> None:
    texts = sentences(70)
    audios = [*client.synth_many(texts), client.synth(texts[0]), client.submit(texts[1]).result(9)]
    audios += [outcome.audio for outcome in client.synth_iter(texts)]
    assert {type(audio.data) for audio in audios} == {bytes}


def test_a_lazy_call_takes_sound_out_of_its_reply_when_it_is_handed_out(
    client, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[type, threading.Thread]] = []

    def note(audio: cosy_sync.Audio) -> None:
        seen.append((type(audio.data), threading.current_thread()))
        detach(audio)

    monkeypatch.setattr(dispatcher, "detach", note)
    outcomes = client.synth_iter(sentences(70))
    assert next(outcomes).ok and len(seen) == 1
    assert len(list(outcomes)) == 69
    assert seen == [(memoryview, threading.current_thread())] * 70
    # Of another call all is kept anyway: taken out where it was decoded, on a worker.
    audios = client.synth_many(sentences(40))
    assert {type(audio.data) for audio in audios} == {bytes} and len(seen) == 70


def test_equal_texts_all_get_their_audio(client, service) -> None:
    assert [a.data for a in client.synth_many(["你好吗"] * 5)] == [service.wav("你好吗")] * 5


def test_submit_gives_a_future_and_calls_back_with_it(client) -> None:
    got: list[Future] = []
    called = threading.Event()
    future = client.submit("你好，世界", callback=lambda f: (got.append(f), called.set()))
    assert future.result(10).duration == pytest.approx(1.0, abs=0.01)
    assert called.wait(60)
    assert got == [future]


def test_a_callback_may_call_the_client_again(client) -> None:
    inner: Future = Future()
    client.submit(
        "你好，世界", callback=lambda _: inner.set_result(client.synth_many(sentences(3)))
    )
    assert len(inner.result(10)) == 3


def test_a_failed_submit_ends_as_its_error(client, service) -> None:
    service.fail(401)
    with pytest.raises(cosy_sync.AuthError):
        client.submit("你好").result(10)


def test_closing_while_progress_is_told_does_not_wait_for_the_call_itself(client) -> None:
    drained: list[bool] = []

    def progress(done: int, total: int) -> None:
        if done == 1:
            drained.append(engine._bulk.drain(2.0))
            client.close(0)

    engine = client._core.engine()
    outcomes = client.synth_many(sentences(70), on_error="return", progress=progress)
    assert drained == [True] and outcomes[0].ok


def test_progress_counts_up_to_the_total(client) -> None:
    seen: list[tuple[int, int]] = []
    client.synth_many(sentences(70), progress=lambda *counts: seen.append(counts))
    assert seen == [(number, 70) for number in range(1, 71)]


def test_the_request_says_voice_model_format_rate_speed_and_key(service) -> None:
    requests: list[httpx.Request] = []

    def look(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return service.handle_request(request)

    http_client = httpx.Client(transport=httpx.MockTransport(look))
    client = CosyClient(
        URL, voice="中文女", model="m", api_key="sk-1", speed=1.5, http_client=http_client
    )
    with client:
        client.synth("你好")
    body = requests[0].read()
    assert b'"voice":"' + "中文女".encode() in body
    assert b'"model":"m"' in body and b'"speed":1.5' in body and b'"sample_rate":24000' in body
    assert requests[0].headers["authorization"] == "Bearer sk-1"


# -- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", " \n\t", "　", None, 5, b"hello", "x" * 5001, "half \ud83d pair"]
)
def test_a_text_that_cannot_be_sent_is_refused_before_sending(client, service, text) -> None:
    with pytest.raises(cosy_sync.InvalidTextError):
        client.synth(text)
    with pytest.raises(cosy_sync.InvalidTextError) as caught:
        client.synth_many(["你好", text, "再见"])
    assert caught.value.index == 1
    with pytest.raises(cosy_sync.InvalidTextError):
        client.submit(text)
    assert service.calls == []


def test_a_text_longer_than_the_wire_takes_is_refused_before_sending(service, monkeypatch) -> None:
    monkeypatch.setattr(
        BatchWire, "capabilities", Capabilities(max_texts_per_call=64, max_text_chars=100)
    )
    network = httpx.Client(transport=service)
    with CosyClient(URL, http_client=network) as client:
        client.synth("长" * 100)
        with pytest.raises(cosy_sync.InvalidTextError, match="101 characters, more than 100"):
            client.synth("长" * 101)
        assert len(service.calls) == 1
        client.with_options(batch=BatchConfig(max_text_chars=50))
        with pytest.raises(cosy_sync.ConfigError, match="'batch' takes 100 characters a text"):
            client.with_options(batch=BatchConfig(max_text_chars=101))
    with pytest.raises(cosy_sync.ConfigError, match="max_text_chars"):
        CosyClient(URL, batch=BatchConfig(max_text_chars=101))


def test_with_on_error_return_the_others_are_spoken(client) -> None:
    outcomes = client.synth_many(["你好吗", "", "再见吧", None], on_error="return")
    assert [outcome.ok for outcome in outcomes] == [True, False, True, False]
    assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3]
    assert isinstance(outcomes[1].error, cosy_sync.InvalidTextError)


def test_one_text_where_many_are_expected_is_refused(client) -> None:
    for wrong in ("你好", b"abc", 5):
        with pytest.raises(cosy_sync.InvalidTextError):
            client.synth_many(wrong)
        with pytest.raises(cosy_sync.InvalidTextError):
            client.synth_iter(wrong)


def test_a_generator_that_raises_half_way_loses_nothing(client, service) -> None:
    def broken() -> Iterator[str]:
        yield from sentences(100)
        raise OSError("the disk is gone")

    got = []
    with pytest.raises(OSError, match="disk is gone"):
        for outcome in client.synth_iter(broken()):
            got.append(outcome)
    assert [o.audio.data for o in got] == [service.wav(text) for text in sentences(100)]


def test_synth_many_sends_nothing_when_its_generator_raises(client, service) -> None:
    def broken() -> Iterator[str]:
        yield "你好"
        raise OSError("the disk is gone")

    with pytest.raises(OSError):
        client.synth_many(broken())
    assert service.calls == []


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 0},
        {"batch_sise": 64},
        {"deadline": -1},
        {"deadline": "soon"},
        {"voice": ""},
        {"voice": 5},
        {"speed": 9},
        {"sample_rate": 100},
        {"format": "aac"},
        {"wire": "carrier-pigeon"},
        {"priority": "urgent"},
        {"headers": {"X-Ü": "1"}},
        {"headers": {"X-A": "1\r\nX-B: 2"}},
        {"api_key": "sk\n"},
        {"api_key": ""},
        {"pool": {"max_connections": 5}},
        {"verify": {"enabled": False}},
        {"serial": "yes"},
        {"batch_size": 65},
        {"voice": "half \ud83d pair"},
        {"config": {}},
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings) -> None:
    with pytest.raises(cosy_sync.ConfigError) as caught:
        CosyClient(URL, **settings)
    assert str(caught.value).startswith(next(iter(settings)))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "tts.test/batch",
        "ftp://tts.test/",
        "http://",
        "http://t:x/",
        "http://u:s3cret@tts.test:99999/",
        "http://u:s3cret@tts.test/",
        "ftp://tts.test/?token=s3cret",
        [],
        [5],
        5,
        b"http://tts.test/",
        "s3cret@tts.test/batch",
        "key:s3cret@tts.test/batch",
        "localhost:8000/batch?token=s3cret",
        ["http://a.test/?token=s3cret"] * 2,
    ],
)
def test_a_wrong_url_is_refused(url) -> None:
    with pytest.raises(cosy_sync.ConfigError, match="url") as caught:
        CosyClient(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["tts.test/batch", "localhost:8000/batch", "127.0.0.1:80"])
def test_a_url_without_a_scheme_is_shown_with_one(url) -> None:
    words = f"'{url}' has no scheme; write http://{url} or https://{url}"
    with pytest.raises(cosy_sync.ConfigError, match=words):
        CosyClient(url)


def test_two_urls_in_one_are_told_apart() -> None:
    with pytest.raises(cosy_sync.ConfigError, match="expected one URL; give several as a list"):
        CosyClient("http://one.test/batch,http://two.test/batch")
    assert cosy_sync.Endpoint("http://tts.test/a,b?next=x,http://y").label == "http://tts.test/a,b"


def test_an_at_sign_in_a_path_is_no_password() -> None:
    assert cosy_sync.Endpoint("http://tts.test/@me/batch?x=@").label == "http://tts.test/@me/batch"


@pytest.mark.parametrize("given", [print, 5, [print], ["x"], cosy_sync.Observer])
def test_what_cannot_observe_is_refused(given) -> None:
    with pytest.raises(cosy_sync.ConfigError, match="observers: expected a list of objects"):
        CosyClient("http://tts.test/batch", observers=given)


@pytest.mark.parametrize("given", [5, "http://proxy", httpx.AsyncClient()])
def test_what_is_no_httpx_client_is_refused(given) -> None:
    kind = type(given).__name__
    with pytest.raises(cosy_sync.ConfigError, match=f"http_client: expected .* got {kind}"):
        CosyClient("http://tts.test/batch", http_client=given)


def test_a_function_that_makes_no_httpx_client_is_named_at_the_first_call() -> None:
    client = CosyClient("http://tts.test/batch", http_client=httpx.AsyncClient)  # type: ignore[arg-type]
    with client, pytest.raises(cosy_sync.ConfigError, match="function returned AsyncClient"):
        client.synth("你好")


def test_a_callback_or_progress_that_cannot_be_called_is_refused(client, service) -> None:
    with pytest.raises(cosy_sync.ConfigError, match="callback: expected a function, got int"):
        client.submit("你好", callback=5)
    with pytest.raises(cosy_sync.ConfigError, match="progress: must be True, False or a function"):
        client.synth_many(["你好"], progress=[])
    assert service.calls == []


def test_a_client_that_should_go_to_another_process_says_what_to_do(client) -> None:
    with pytest.raises(TypeError, match="make one in each process"):
        pickle.dumps(client)


def test_no_url_at_all_names_the_variable() -> None:
    with pytest.raises(cosy_sync.ConfigError, match="COSY_SYNC_URL"):
        CosyClient()


def test_wrong_arguments_of_synth_many_are_refused(client) -> None:
    with pytest.raises(cosy_sync.ConfigError, match="on_error"):
        client.synth_many(["你好"], on_error="ignore")
    with pytest.raises(cosy_sync.ConfigError, match="within"):
        client.synth_many(["你好"], within=0)


def test_a_bug_in_a_mock_ends_only_its_own_batch_and_names_itself(service) -> None:
    service.answer(ZeroDivisionError("bug"))  # type: ignore[arg-type]
    http_client = httpx.Client(transport=service)
    with CosyClient(URL, http_client=http_client, batch_size=1, serial=True) as client:
        outcomes = client.synth_many(["早上好", "晚上好"], on_error="return")
        assert sorted(outcome.ok for outcome in outcomes) == [False, True]
        (error,) = [outcome.error for outcome in outcomes if not outcome.ok]
        assert isinstance(error, cosy_sync.UnexpectedError) and "ZeroDivisionError" in str(error)
        service.answer(ZeroDivisionError("bug"))  # type: ignore[arg-type]
        with pytest.raises(cosy_sync.UnexpectedError) as caught:
            client.synth("早上好")
        assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_check_that_wants_to_exit_ends_only_its_text(service) -> None:
    verify = VerifyConfig(check=lambda text, audio: exit(1))
    with CosyClient(URL, http_client=httpx.Client(transport=service), verify=verify) as client:
        (outcome,) = client.synth_many(["早上好"], on_error="return")
    assert isinstance(outcome.error, cosy_sync.CosyError)


# -- verification ---------------------------------------------------------------------------------


class Listener:
    """A check that is an object: it can be compared, and so it has no hash."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Listener)

    def __call__(self, text: str, audio: cosy_sync.Audio) -> bool:
        self.heard.append(text)
        return "坏" not in text


def synth(client: CosyClient, texts: list[str]) -> list[object]:
    return [caught(lambda text=text: client.synth(text)) for text in texts]


def submit(client: CosyClient, texts: list[str]) -> list[object]:
    return [caught(client.submit(text).result) for text in texts]


def synth_many(client: CosyClient, texts: list[str]) -> list[object]:
    return [o.audio or o.error for o in client.synth_many(texts, on_error="return")]


def synth_iter(client: CosyClient, texts: list[str]) -> list[object]:
    return [o.audio or o.error for o in client.synth_iter(texts)]


def caught(call) -> object:
    try:
        return call()
    except cosy_sync.CosyError as error:
        return error


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("way", [synth, submit, synth_many, synth_iter])
@pytest.mark.parametrize("view", [False, True])
def test_the_callers_own_check_refuses_audio_on_every_way(service, serial, way, view) -> None:
    verify = VerifyConfig(check=Listener())
    given = {} if view else {"verify": verify}
    retry = RetryConfig(max_bad_audio=1, base=0.001)
    with CosyClient(
        URL, http_client=httpx.Client(transport=service), serial=serial, retry=retry, **given
    ) as client:
        used = client.with_options(verify=verify) if view else client
        good, bad = way(used, ["这句好听", "这句坏了"])
        stats = client.stats()
    assert isinstance(good, cosy_sync.Audio)
    assert isinstance(bad, cosy_sync.BadAudioError)
    assert (bad.reason, len(bad.attempts)) == ("check", 1)
    assert sorted(verify.check.heard) == ["这句坏了", "这句坏了", "这句好听"]
    assert stats.bad_audio == {"check": 2}


def test_configurations_differ_by_their_checks() -> None:
    first, second = VerifyConfig(check=lambda *_: True), VerifyConfig(check=lambda *_: True)
    assert first != second
    assert hash(VerifyConfig(check=Listener())) == hash(VerifyConfig())


def test_refused_audio_is_counted_by_reason_and_text(client, service) -> None:
    texts = ["第一句话在这里", "第二句话在那里"]
    service.answer(service.speak([texts[0]] * 2), httpx.Response(200, content=b""))
    assert [audio.data for audio in client.synth_many(texts)] == [service.wav(t) for t in texts]
    stats = client.stats()
    assert stats.bad_audio == {"identical": 2, "empty": 2}
    assert stats.errors == {"BadAudioError": 1}  # the attempt that failed as a whole


def test_one_recording_for_different_texts_is_never_returned(client, service) -> None:
    texts = ["第一句话在这里", "第二句话在那里"]
    same = service.speak([texts[0], texts[0]])
    service.answer(*[httpx.Response(200, content=same.content, headers=dict(same.headers))] * 3)
    outcomes = client.synth_many(texts, on_error="return")
    assert {outcome.error.reason for outcome in outcomes} == {"identical"}


# -- views ----------------------------------------------------------------------------------------


def test_a_view_has_other_numbers_and_the_same_connections(client, service) -> None:
    quick = client.with_options(deadline=2.0, voice=Voice("中文男"))
    assert quick.config.deadline == 2.0 and client.config.deadline == 60.0
    quick.synth("你好")
    assert client.stats().requests == 1


@pytest.mark.parametrize("name", ["pool", "timeouts", "breaker", "limits", "wire", "serial"])
def test_what_belongs_to_the_whole_client_cannot_differ_in_a_view(client, name) -> None:
    with pytest.raises(cosy_sync.ConfigError, match=name):
        client.with_options(**{name: getattr(client.config, name)})


def test_a_tenant_has_one_limit(client) -> None:
    client.with_options(tenant="a", max_in_flight=1).synth("你好")
    with pytest.raises(cosy_sync.ConfigError, match="tenant 'a'"):
        client.with_options(tenant="a", max_in_flight=2).synth("你好")


def test_a_full_tenant_does_not_starve_another(service) -> None:
    go, busy = threading.Event(), threading.Semaphore(0)

    def handle(request: httpx.Request) -> httpx.Response:
        reply = service.handle_request(request)
        if "慢" in service.calls[-1][0]:
            busy.release()
            assert go.wait(30)
        return reply

    http_client = httpx.Client(transport=httpx.MockTransport(handle))
    endpoint = Endpoint(URL, max_connections=4)
    with CosyClient(endpoint, http_client=http_client, batch_size=1) as client:
        slow = client.with_options(tenant="navigation", max_in_flight=3)
        texts = [f"这是第{number}句很慢的话" for number in range(9)]
        thread = threading.Thread(target=lambda: slow.synth_many(texts))
        thread.start()
        for _ in range(3):
            assert busy.acquire(timeout=30)
        assert len(client.synth_many(sentences(5))) == 5
        assert not busy.acquire(timeout=0.05)
        go.set()
        thread.join(30)
        assert client.stats().texts_ok == 14


# -- the end --------------------------------------------------------------------------------------


def test_a_closed_client_refuses_everything(client) -> None:
    client.synth("你好")
    client.close()
    client.close()
    for call in (
        lambda: client.synth("你好"),
        lambda: client.synth_many(["你好"]),
        lambda: client.synth_iter(["你好"]),
        lambda: client.submit("你好"),
        lambda: client.with_options(deadline=1).synth("你好"),
    ):
        with pytest.raises(cosy_sync.ClosedError):
            call()
    assert "closed" in repr(client)


def test_closing_waits_for_what_was_submitted(service) -> None:
    client = CosyClient(URL, http_client=httpx.Client(transport=service))
    futures = [client.submit(text) for text in sentences(20)]
    client.close()
    assert all(future.result(0).duration > 0 for future in futures)


def test_closing_ends_waits_at_once(service) -> None:
    service.fail(503, times=9, Retry_After="30")
    client = CosyClient(URL, http_client=httpx.Client(transport=service))
    future = client.submit("你好")
    limit = threading.Event()
    while client.stats().retries == 0 and not limit.wait(0.005):
        pass
    client.close(timeout=0)
    with pytest.raises(cosy_sync.ClosedError):
        future.result(0)


def test_a_generator_given_up_half_way_leaves_the_client_usable(client) -> None:
    for _ in client.synth_iter(sentences(1000)):
        break
    assert client.synth("你好").duration > 0


def test_an_unused_client_needs_no_closing() -> None:
    assert "open" in repr(CosyClient(URL))


def test_the_client_of_the_caller_is_not_closed(service) -> None:
    http_client = httpx.Client(transport=service)
    with CosyClient(URL, http_client=http_client) as client:
        client.synth("你好")
    assert not http_client.is_closed
    http_client.close()


def test_a_function_that_makes_a_client_is_called_and_its_client_closed(service) -> None:
    made: list[httpx.Client] = []

    def make() -> httpx.Client:
        made.append(httpx.Client(transport=service))
        return made[-1]

    with CosyClient(URL, http_client=make) as client:
        client.synth("你好")
    assert len(made) == 1 and made[0].is_closed


# -- mocks, keys, default client ------------------------------------------------------------------


def test_respx_mocks_the_client_as_it_is(service) -> None:
    with respx.mock(using="httpx") as router, CosyClient(URL) as client:
        route = router.post(URL).mock(side_effect=service.handle_request)
        assert len(client.synth_many(sentences(3))) == 3
    assert route.call_count == 1


def test_keys_appear_in_no_repr_error_or_pickle(service) -> None:
    service.fail(401)
    http_client = httpx.Client(transport=service)
    headers = {"X-Secret": "hush-hush"}
    with CosyClient(URL, api_key="sk-secret", headers=headers, http_client=http_client) as client:
        with pytest.raises(cosy_sync.AuthError) as caught:
            client.synth("你好")
        shown = repr(client) + repr(client.config) + repr(client.stats())
    shown += repr(caught.value) + str(caught.value) + str(pickle.dumps(caught.value))
    assert "sk-secret" not in shown and "hush-hush" not in shown


def test_the_module_speaks_through_one_client_from_the_environment(monkeypatch, service) -> None:
    monkeypatch.setenv("COSY_SYNC_URL", URL)
    monkeypatch.setenv("COSY_SYNC_VOICE", "中文女")
    monkeypatch.setattr("cosy_sync.default._client", None)
    with respx.mock(using="httpx") as router:
        router.post(URL).mock(side_effect=service.handle_request)
        assert cosy_sync.synth("你好").duration > 0
        assert len(cosy_sync.synth_many(sentences(3))) == 3
        assert [o.ok for o in cosy_sync.synth_many(["", "你好"], on_error="return")] == [
            False,
            True,
        ]
        assert cosy_sync.submit("你好").result(10).duration > 0
        assert len(list(cosy_sync.synth_iter(sentences(3)))) == 3
        client = cosy_sync.default_client()
        assert client.config.voice == Voice("中文女")
        assert cosy_sync.configure(URL, deadline=5.0) is cosy_sync.default_client()
        with pytest.raises(cosy_sync.ClosedError):
            client.synth("你好")
    cosy_sync.default_client().close()
    assert not cosy_sync.default_client().closed  # a new one, since the old one is of no use


def test_the_module_is_configured_as_a_client_is(monkeypatch, service) -> None:
    monkeypatch.setattr("cosy_sync.default._client", None)
    seen: list[cosy_sync.Event] = []
    watcher = type("Watcher", (), {"on_event": lambda self, event: seen.append(event)})()
    made = cosy_sync.configure(
        [Endpoint(URL), "http://two.test/batch"],
        config=cosy_sync.ClientConfig(deadline=5.0),
        http_client=lambda: httpx.Client(transport=service),
        observers=[watcher],
        voice="中文女",
    )
    assert len(made.endpoints) == 2 and made.config.deadline == 5.0
    assert cosy_sync.synth("你好").duration > 0 and seen
    with pytest.raises(cosy_sync.ConfigError):
        cosy_sync.configure(URL, deadline=-1)
    assert cosy_sync.default_client() is made and not made.closed
    made.close()


def test_stats_count_what_happened(client, service) -> None:
    client.synth_many(sentences(70)[:69])
    service.fail(500)
    client.synth_many(sentences(70)[69:])
    stats = client.stats()
    assert stats.texts_ok == 70 and stats.texts_failed == 0
    assert stats.requests == 4 and stats.retries == 1
    assert stats.errors == {"UnavailableError": 1}
    assert stats.in_flight == 0
    assert 0 < stats.latency_p50 <= stats.latency_p99
    assert stats.audio_seconds == pytest.approx(
        sum(len(text) * 0.2 for text in sentences(70)), rel=0.1
    )


@pytest.mark.parametrize(
    ("url", "wire"),
    [("grpc://tts:50000", "runtime_grpc"), ("ws://tts/api-ws/v1/inference", "dashscope_ws")],
)
def test_an_httpx_client_that_would_be_passed_by_is_refused(url: str, wire: str) -> None:
    service = FakeService()
    given = {"wire": wire, "voice": "longanyang", "model": "cosyvoice-v3-flash"}
    words = f"http_client: the wire '{wire}' does not go over httpx"
    with pytest.raises(cosy_sync.ConfigError, match=words):
        CosyClient(url, http_client=httpx.Client(transport=service), **given)
    assert service.calls == []


def test_grpc_under_gevents_patches_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patched = types.SimpleNamespace(is_module_patched=lambda name: name == "socket")
    monkeypatch.setitem(sys.modules, "gevent.monkey", patched)
    with pytest.raises(ConfigError, match=r"'runtime_grpc' blocks gevent's hub.*runtime_http"):
        CosyClient("grpc://tts.test:50000", wire="runtime_grpc", voice="中文女")
    CosyClient("http://tts.test:50000", wire="runtime_http", voice="中文女").close()


# -- no rate limit --------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [None, math.inf])
def test_no_rate_is_no_limit(service, rate) -> None:
    endpoint = Endpoint(URL, rate=rate)
    assert "rate=inf" in repr(endpoint) and endpoint.rate_limit == math.inf
    limits = LimitConfig(rate=rate)
    with CosyClient(endpoint, http_client=httpx.Client(transport=service), limits=limits) as client:
        texts = sentences(300)
        assert len(client.with_options(batch_size=1).synth_many(texts)) == 300
        assert client.stats().limits[URL][0] == math.inf
        assert client._core.engine().endpoints._common is None


def test_without_a_rate_limit_429s_lower_the_requests_in_flight(service) -> None:
    service.fail(429, times=40)
    endpoint = Endpoint(URL, rate=None)
    retry = RetryConfig(max_retries=0, outlast=0)
    client = CosyClient(endpoint, http_client=httpx.Client(transport=service), retry=retry)
    with client:
        client.with_options(batch_size=1).synth_many(sentences(30), on_error="return")
        rate, in_flight = client.stats().limits[URL]
    assert rate == math.inf and in_flight < 6


@pytest.mark.parametrize("rate", [0, -1.0, -math.inf, math.nan, "fast", True])
def test_a_rate_that_cannot_be_is_refused_with_the_word_for_none(rate) -> None:
    with pytest.raises(ConfigError, match="rate: must be a number above 0, or None for no limit,"):
        Endpoint(URL, rate=rate)
    with pytest.raises(ConfigError, match="rate: must be a number above 0, or None for no limit,"):
        LimitConfig(rate=rate)


# -- how far an endless input is read ahead -------------------------------------------------------


class Source:
    """Texts without end; `ahead` is how many were pulled and are not taken, at most."""

    def __init__(self, texts: Callable[[int], str] = lambda number: f"第{number}句话") -> None:
        self.texts = texts
        self.pulled = self.taken = self.ahead = 0

    def __iter__(self) -> Iterator[str]:
        while True:
            self.pulled += 1
            self.ahead = max(self.ahead, self.pulled - self.taken)
            yield self.texts(self.pulled - 1)

    def take(self, outcomes: Iterator[cosy_sync.Outcome], count: int) -> None:
        for outcome in itertools.islice(outcomes, count):
            assert outcome.index == self.taken
            assert outcome.ok or isinstance(outcome.error, cosy_sync.InvalidTextError)
            self.taken += 1


def test_an_endless_input_is_read_no_further_than_what_can_be_in_flight(client) -> None:
    class Idle:
        """Workers that never come."""

        contended = False

        def submit(self, work: object) -> None:
            pass

    source = Source()
    checked = GivenTexts(source, client.config, client._bulk_with, distinct=False)
    call = client._core.engine().run_many(checked, client._bulk, lazy=True)
    call._executor = Idle()
    call._send_more()
    start = OverloadConfig().start
    assert start >= 50 // 12  # the requests in flight that an endpoint begins with
    assert start * 64 <= source.pulled <= 512


def test_one_outcome_that_is_taken_costs_no_more_than_the_docstring_says(client, service) -> None:
    source = Source()
    outcomes = client.synth_iter(source)
    source.take(outcomes, 1)
    outcomes.close()
    assert source.pulled <= 512 and sum(map(len, service.calls)) <= 512
    assert "512 texts at the start" in " ".join(CosyClient.synth_iter.__doc__.split())


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("size", [1, 8])
@pytest.mark.parametrize("read_ahead", [1, 3, 8, 50])
def test_read_ahead_bounds_the_texts_that_are_pulled_before_they_are_taken(
    service, read_ahead, size, serial
) -> None:
    source = Source(lambda number: "" if number % 7 == 5 else f"第{number}句话")
    http_client = httpx.Client(transport=service)
    endpoint = Endpoint(URL, rate=None)
    with CosyClient(endpoint, http_client=http_client, batch_size=size, serial=serial) as client:
        outcomes = client.synth_iter(source, read_ahead=read_ahead)
        source.take(outcomes, 200)
        outcomes.close()
    # The generator goes on with the next one only after it was asked: the last counts as taken.
    assert source.ahead <= read_ahead


def test_a_slow_text_does_not_let_more_be_read_than_read_ahead(service) -> None:
    source, release = Source(), threading.Event()

    def last(request: httpx.Request) -> httpx.Response:
        # The first text's request ends only when all the others that may be read were sent.
        assert release.wait(60)
        return FakeService.speak(["第0句话"])

    class Counting(FakeService):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = super().handle_request(request)
            if len(self.calls) >= 20:
                release.set()
            return response

    service = Counting().answer(last)
    with CosyClient(URL, http_client=httpx.Client(transport=service), batch_size=1) as client:
        outcomes = client.synth_iter(source, read_ahead=20)
        source.take(outcomes, 1)
        assert source.pulled == 20
        source.take(outcomes, 60)
        outcomes.close()
    assert source.ahead <= 20


def test_batches_stay_whole_where_the_reading_ahead_is_bounded(service) -> None:
    source = Source(lambda number: "前方路口请左转")
    with CosyClient(URL, http_client=httpx.Client(transport=service), batch_size=8) as client:
        outcomes = client.synth_iter(source, read_ahead=24)
        source.take(outcomes, 240)
        outcomes.close()
    assert {len(texts) for texts in service.calls} == {8}


@pytest.mark.parametrize("given", [0, -1, 2.0, True, "10"])
def test_a_read_ahead_that_cannot_be_is_refused(client, given) -> None:
    with pytest.raises(ConfigError, match="read_ahead: must be a whole number of texts above 0"):
        client.synth_iter(["你好"], read_ahead=given)
