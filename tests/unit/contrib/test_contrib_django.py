"""Django: aliases, checks, callbacks, commands, views, and the backend for tests."""

import asyncio
import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest

import cosy_sync
from cosy_sync import CanaryConfig, ConfigError, Variant, VerifyConfig
from cosy_sync.testing import Server, tone_wav

pytest.importorskip("django", reason="needs django (extra test)")

from asgiref.sync import ThreadSensitiveContext
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.http import HttpResponse
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory, override_settings
from django.utils.translation import gettext_lazy

from cosy_sync.contrib.django import (
    asynth_many,
    audio_response,
    health,
    speech,
    speech_errors,
    streaming_response,
    synth,
    synth_many,
)
from cosy_sync.contrib.django.checks import check_settings

pytestmark = pytest.mark.usefixtures("settings")
FAKE = "cosy_sync.contrib.django.testing.FakeClient"


def ids(**client: Any) -> list[str | None]:
    with override_settings(COSY_SYNC={"default": client}):
        return [each.id for each in check_settings()]


def told(**client: Any) -> str:
    with override_settings(COSY_SYNC={"default": client}):
        return "".join(str(each) for each in check_settings())


# -- aliases ------------------------------------------------------------------------------------


def test_a_client_is_made_at_its_first_use_and_kept() -> None:
    assert speech.made() == {}
    assert speech["default"] is speech["default"]
    assert list(speech) == ["default"] and len(speech) == 1 and "other" not in speech


def test_changed_settings_make_another_client_and_close_the_old_one() -> None:
    old = speech["default"]
    with override_settings(COSY_SYNC={"default": {"BACKEND": FAKE, "OPTIONS": {"deadline": 7}}}):
        assert old.closed
        assert speech["default"].config.deadline == 7
    assert speech["default"].config.deadline == 60


def test_a_client_that_was_closed_is_made_anew() -> None:
    speech["default"].close()
    assert synth("你好").duration > 0


def test_threads_that_come_at_the_same_time_share_one_client() -> None:
    found, barrier = [], threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        found.append(speech["default"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len({id(client) for client in found}) == 1


def test_each_alias_has_its_own_settings() -> None:
    clients = {
        "default": {"URL": "http://a.test/batch", "OPTIONS": {"retry": {"max_retries": 1}}},
        "spare": {
            "URL": [{"url": "http://b.test/batch", "rate": 5}, "http://c.test/batch"],
            "SHARING": {"prefix": "site"},
            "OPTIONS": {"canary": {"model": "v3", "share": 0.1, "slower": 2}},
        },
    }
    with override_settings(COSY_SYNC=clients):
        assert speech["default"].config.retry.max_retries == 1
        assert [endpoint.rate for endpoint in speech["spare"].endpoints] == [5, 100]
        assert speech["spare"].config.sharing.prefix == "site"
        variant = Variant(model="v3", share=0.1)
        assert speech["spare"].config.canary == CanaryConfig(variant=variant, slower=2)


def test_an_alias_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ConfigError, match="no client 'loud'; there is 'default'"):
        speech["loud"]


@pytest.mark.parametrize(
    ("client", "words"),
    [
        ({"ULR": "http://a.test"}, r"COSY_SYNC\['default'\]: ULR: no such name; did you mean URL"),
        ({"DEADLINE": 5}, r"write 'OPTIONS': \{'deadline': ...\}"),
        ({"OPTIONS": {"dedline": 5}}, "dedline"),
        ({"OPTIONS": {"retry": {"max_retrys": 5}}}, "max_retries"),
        ({"OPTIONS": 5}, "expected a dict"),
        ({"URL": {"url": "http://a.test", "rps": 4}}, "rate"),
        ({"OPTIONS": {"canary": {"modle": "v3"}}}, "modle: CanaryConfig has no such field"),
        ({"SHARING": "localhost"}, "redis://"),
        ({"BACKEND": "no.such.thing"}, "BACKEND"),
        ({"BACKEND": 5}, "BACKEND: expected a class's dotted name, got int"),
        ({"BACKEND": "os.path"}, "os.path is no class but a module"),
        ({"OPTIONS": {"url": "http://b.test/batch"}}, "stands beside it, as 'URL'"),
    ],
)
def test_what_is_wrong_in_the_settings_names_the_client_and_the_fix(
    client: dict[str, Any], words: str
) -> None:
    with override_settings(COSY_SYNC={"default": {"URL": "http://a.test/batch", **client}}):
        with pytest.raises(ConfigError, match=words) as caught:
            speech["default"]
        assert "COSY_SYNC['default']" in str(caught.value)
        assert [each.id for each in check_settings()] == ["cosy_sync.E002"]


# -- checks -------------------------------------------------------------------------------------


def test_good_settings_pass_and_the_checks_make_no_client() -> None:
    assert ids(URL="http://a.test/batch") == ids(BACKEND=FAKE) == []
    assert speech.made() == {}


def test_a_missing_url_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ids() == ids(URL="") == ids(URL=[]) == ["cosy_sync.E001"]
    monkeypatch.setenv("COSY_SYNC_URL", "http://a.test/batch")
    assert ids() == []


def test_settings_that_are_no_dict_and_a_missing_default_are_told() -> None:
    with override_settings(COSY_SYNC=["http://a.test"]):
        assert [each.id for each in check_settings()] == ["cosy_sync.E003"]
    with override_settings(COSY_SYNC={"loud": {"URL": "http://a.test"}}):
        assert [each.id for each in check_settings()] == ["cosy_sync.W004"]


def test_a_key_in_the_settings_file_is_told_while_debugging(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "project.settings")
    there = {"URL": "http://a.test/batch", "OPTIONS": {"api_key": "only-for-this-example"}}
    assert ids(**there) == []
    with override_settings(DEBUG=True):
        assert ids(**there) == ["cosy_sync.W001"]
        assert "only-for-this-example" not in told(**there)
        assert ids(**{**there, "OPTIONS": {"api_key": "from-the-environment"}}) == []
        cache = "redis://:only-for-this-example@redis.test/0"
        assert ids(URL="http://a.test/batch", CACHE=cache) == ["cosy_sync.W001"]
        assert ids(URL="http://a.test/batch", SHARING=cache) == ["cosy_sync.W001"]


def test_traps_of_the_host_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "-w 4")
    assert ids(URL="http://a.test/batch") == ["cosy_sync.W002", "cosy_sync.W003"]
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "-w 1 -k gevent")
    grpc = {"wire": "runtime_grpc", "voice": "中文女"}
    assert ids(URL="grpc://a.test:50000", OPTIONS=grpc) == ["cosy_sync.E004"]


def test_the_checks_run_with_those_of_django() -> None:
    with (
        override_settings(COSY_SYNC={"default": {"ULR": ""}}),
        pytest.raises(Exception, match="ULR"),
    ):
        call_command("check", stdout=io.StringIO(), stderr=io.StringIO())


# -- calls --------------------------------------------------------------------------------------


def test_lazy_texts_are_spoken_in_the_language_of_the_call() -> None:
    synth(gettext_lazy("Monday"))
    synth_many([gettext_lazy("Tuesday"), ("id", gettext_lazy("Wednesday"))])
    asyncio.run(asynth_many([gettext_lazy("Thursday")]))
    assert speech["default"].texts == ["Monday", "Tuesday", "Wednesday", "Thursday"]


def test_asynth_many_returns_each_texts_own_sound_in_order() -> None:
    texts = [f"第{number}句话" for number in range(20)]
    with (
        Server(latency=0.02) as server,
        override_settings(COSY_SYNC={"default": {"URL": server.url}}),
    ):

        async def views() -> list[Any]:
            return await asyncio.gather(*[asynth_many(texts[n : n + 2]) for n in range(0, 20, 2)])

        audios = [audio for pair in asyncio.run(views()) for audio in pair]
        assert [audio.data for audio in audios] == [tone_wav(text) for text in texts]
        assert server.stats()["batches"] < 10
        speech.close()


def test_asynth_many_refuses_a_bad_text_before_anything_is_sent() -> None:
    with pytest.raises(cosy_sync.InvalidTextError) as caught:
        asyncio.run(asynth_many(["你好", ""]))
    assert caught.value.index == 1 and speech["default"].texts == []
    outcomes = asyncio.run(asynth_many([("a", ""), ("b", "你好")], on_error="return"))
    assert [(each.id, each.ok) for each in outcomes] == [("a", False), ("b", True)]


@pytest.mark.parametrize(
    "given",
    ["你好", b"x", {"a": "你好"}, {"你好"}, [None], [("a", "b", "c")], [("a", "b"), ("a", "c")]],
)
def test_asynth_many_refuses_what_synth_many_refuses(given: Any) -> None:
    with pytest.raises(cosy_sync.InvalidTextError) as plain:
        synth_many(given)
    with pytest.raises(cosy_sync.InvalidTextError) as later:
        asyncio.run(asynth_many(given))
    assert later.value.message.split(";")[0] == plain.value.message.split(";")[0]
    assert speech["default"].texts == []


@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_an_argument_that_asynth_many_does_not_know_is_no_text_that_failed(on_error: Any) -> None:
    with pytest.raises(ConfigError, match=r"deadlin: asynth_many takes no such .* deadline"):
        asyncio.run(asynth_many(["你好"], on_error=on_error, deadlin=3))
    with pytest.raises(ConfigError, match="on_error"):
        asyncio.run(asynth_many(["你好"], on_error="ignore"))  # type: ignore[arg-type]


def test_asynth_many_keeps_what_was_spoken_where_texts_failed() -> None:
    speech["default"].service.fail(400)
    with pytest.raises(cosy_sync.BatchError) as caught:
        asyncio.run(asynth_many([cosy_sync.Utterance("你好", id=7)]))
    assert caught.value.outcomes[0].error.id == 7
    assert caught.value.outcomes[0].error.index == 0


@pytest.mark.parametrize("after", [1, 2])
def test_asynth_many_takes_its_texts_back_when_it_is_cancelled(
    after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    futures: list[Any] = []
    with Server(latency=0) as server:
        server.inject("stall", times=2)
        with override_settings(COSY_SYNC={"default": {"URL": server.url}}):
            real = type(speech["default"]).submit

            def submit(*given: Any, **named: Any) -> Any:
                futures.append(real(*given, **named))
                return futures[-1]

            monkeypatch.setattr(type(speech["default"]), "submit", submit)

            async def leave() -> None:
                call = asyncio.ensure_future(asynth_many(["你好", "再见"]))
                while len(futures) < after:
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
                while not (len(futures) == 2 and all(each.done() for each in futures)):
                    await asyncio.sleep(0)

            asyncio.run(leave())
            assert [each.cancelled() for each in futures] == [True, True]
            speech["default"].close(0.0)


def test_asynth_many_reads_what_is_awaited() -> None:
    async def texts() -> Any:
        yield "你好"
        yield "再见"

    assert len(asyncio.run(asynth_many(texts()))) == 2


# -- database connections -----------------------------------------------------------------------


class Spy:
    """Uses the database, as a callback does, and remembers the connection."""

    def __init__(self) -> None:
        self.used: list[Any] = []

    def __call__(self, *_: object) -> bool:
        own = connections["default"]
        own.cursor().execute("SELECT 1")
        self.used.append((threading.current_thread(), own))
        return True

    on_event = __call__

    def left_open(self) -> list[Any]:
        mine = threading.current_thread()
        return [own for thread, own in self.used if thread is not mine and own.connection]


def test_callbacks_leave_no_database_connection_open() -> None:
    first, second = Spy(), Spy()
    futures = [speech["default"].submit(f"第{n}句", callback=first) for n in range(10)]
    for each in futures:
        each.add_done_callback(second)
    speech["default"].close()
    assert len(first.used) == len(second.used) == 10
    assert first.left_open() == second.left_open() == []


def test_checks_and_observers_leave_no_database_connection_open() -> None:
    check, observer = Spy(), Spy()
    options = {"verify": VerifyConfig(check=check), "observers": [observer]}
    with override_settings(COSY_SYNC={"default": {"BACKEND": FAKE, "OPTIONS": options}}):
        synth_many([f"第{n}句" for n in range(130)])
        speech.close()
    assert check.used and observer.used
    assert check.left_open() == observer.left_open() == []


def test_pieces_of_a_text_leave_no_database_connection_open(monkeypatch: Any) -> None:
    spy, fed = Spy(), []

    class Rows:
        """Asks the database when it is iterated, as a queryset does."""

        def __iter__(self) -> Any:
            spy()
            yield "你好"

    def stream(self: Any, pieces: Any, **settings: Any) -> None:
        thread = threading.Thread(target=lambda: fed.extend(pieces), name="cosy-feeder")
        thread.start()
        thread.join()

    monkeypatch.setattr(cosy_sync.CosyClient, "stream", stream)
    speech["default"].stream(Rows())  # type: ignore[arg-type]
    assert fed == ["你好"] and spy.used and spy.left_open() == []


def test_the_callers_own_connection_stays_open() -> None:
    connection.ensure_connection()
    options = {"serial": True}
    with override_settings(COSY_SYNC={"default": {"BACKEND": FAKE, "OPTIONS": options}}):
        spy = Spy()
        speech["default"].submit("你好", callback=spy).result(10)
    assert connection.connection is not None and spy.used


# -- views --------------------------------------------------------------------------------------


def test_a_sound_is_answered_with_ranges_and_marks() -> None:
    audio, factory = synth("你好"), RequestFactory()
    whole = audio_response(audio, factory.get("/"))
    assert (whole.content, whole["Content-Type"]) == (audio.data, "audio/wav")
    part = audio_response(audio, factory.get("/", HTTP_RANGE="bytes=0-3"))
    assert (part.status_code, part.content) == (206, b"RIFF")
    same = audio_response(audio, factory.get("/", HTTP_IF_NONE_MATCH=whole["ETag"]))
    assert (same.status_code, same.content) == (304, b"") and "Content-Type" not in same
    head = audio_response(audio, factory.head("/"), cache_control="no-store")
    assert (head.content, head["Content-Length"]) == (b"", str(len(audio.data)))
    assert head["Cache-Control"] == "no-store"


@pytest.fixture
def streaming() -> Any:
    with Server(latency=0) as server:
        client = {"URL": server.base_url, "OPTIONS": {"wire": "openai", "voice": "中文女"}}
        with override_settings(COSY_SYNC={"default": client}):
            yield speech["default"]


def test_a_stream_is_answered_as_it_comes(streaming: cosy_sync.CosyClient) -> None:
    reply = streaming_response(streaming.stream("你好"), RequestFactory().get("/"))
    head, *chunks = list(reply)
    assert reply["Content-Type"] == "audio/wav" and head[:4] == b"RIFF"
    assert b"".join(chunks) == tone_wav("你好")[44:]
    reply.close()


def test_a_stream_whose_listener_leaves_is_ended(streaming: cosy_sync.CosyClient) -> None:
    streaming_response(streaming.stream("你好" * 100)).close()
    assert streaming.stats().in_flight == 0


def test_head_of_a_stream_ends_it_and_has_no_body(streaming: cosy_sync.CosyClient) -> None:
    reply = streaming_response(streaming.stream("你好" * 100), RequestFactory().head("/"))
    assert (list(reply), reply["Content-Type"]) == ([], "audio/wav")
    assert streaming.stats().in_flight == 0


def test_a_coroutines_stream_is_awaited(streaming: cosy_sync.CosyClient) -> None:
    request = AsyncRequestFactory().get("/")

    async def read() -> list[bytes]:
        return [chunk async for chunk in streaming_response(streaming.stream("你好"), request)]

    assert b"".join(asyncio.run(read())[1:]) == tone_wav("你好")[44:]


def test_the_middleware_answers_errors_with_their_status() -> None:
    client = Client(raise_request_exception=False)
    assert client.post("/speak", {"text": "你好"}).content[:4] == b"RIFF"
    assert client.post("/speak", {"text": ""}).status_code == 400
    speech["default"].service.fail(503, times=99, Retry_After="7")
    with override_settings(COSY_SYNC={"default": {"BACKEND": FAKE, "OPTIONS": {"deadline": 0.01}}}):
        speech["default"].service.fail(503, times=99, Retry_After="7")
        reply = client.post("/speak", {"text": "你好"})
    assert reply.status_code in (503, 504)
    speech["default"].service.fail(402)
    assert client.post("/speak", {"text": "你好"}).status_code == 500


def test_the_middleware_serves_coroutines_too() -> None:
    async def ask() -> HttpResponse:
        async with ThreadSensitiveContext():  # ends its thread
            return await AsyncClient().post("/speak", {"text": ""})

    assert asyncio.run(ask()).status_code == 400


def test_a_decorated_view_answers_errors_with_their_status() -> None:
    @speech_errors
    def plain(request: object, error: Exception) -> HttpResponse:
        raise error

    @speech_errors
    async def later(request: object, error: Exception) -> HttpResponse:
        raise error

    shed = cosy_sync.ShedError("full", retry_after=4.5)
    for reply in (plain(None, shed), asyncio.run(later(None, shed))):
        assert (reply.status_code, reply["Retry-After"]) == (503, "5")
        assert json.loads(reply.content)["error"]["type"] == "ShedError"
    for view in (plain, lambda *given: asyncio.run(later(*given))):
        with pytest.raises(cosy_sync.AuthError):
            view(None, cosy_sync.AuthError("wrong key"))
        with pytest.raises(ZeroDivisionError):
            view(None, ZeroDivisionError())


def test_the_health_view_sends_nothing_and_tells_of_open_breakers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = RequestFactory().get("/health")
    assert json.loads(health(request).content) == {
        "ok": True,
        "clients": {"default": {"used": False}},
    }
    assert speech.made() == {}
    client = speech["default"]
    client.synth("你好")
    reply = health(request)
    assert reply.status_code == 200
    assert json.loads(reply.content)["clients"]["default"]["texts_ok"] == 1
    stats = client.stats()
    opened = cosy_sync.Stats(**{**vars(stats), "breakers": {"http://a.test": "open"}})
    monkeypatch.setattr(type(client), "stats", lambda self: opened)
    assert health(request).status_code == 503


# -- commands -----------------------------------------------------------------------------------


@pytest.fixture
def clips(configured: None, tmp_path: Path) -> Any:
    from clips.models import Clip

    with override_settings(MEDIA_ROOT=str(tmp_path)):
        yield Clip.objects
        Clip.objects.all().delete()


def fill(*more: str) -> str:
    out = io.StringIO()
    call_command("cosy_synth", "clips.Clip", *more, stdout=out, stderr=out)
    return out.getvalue()


def test_rows_get_their_recordings_and_a_second_run_speaks_nothing(clips: Any) -> None:
    clips.bulk_create(clips.model(text=f"第{n}句话") for n in range(25))
    clips.create(text="")
    assert "25 stored, 0 failed" in fill("--chunk", "10")
    fake = speech["default"].service
    for clip in clips.exclude(text=""):
        with clip.audio.open() as file:
            assert file.read() == fake.wav(clip.text)
    asked = len(speech["default"].texts)
    assert "0 stored" in fill()
    assert len(speech["default"].texts) == asked == 25


def test_a_file_adds_the_rows_that_are_missing(clips: Any, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("第一句\n第二句\n第一句\n", "utf-8")
    clips.create(text="第二句")
    assert "1 rows added\n2 stored" in fill("--from", str(texts))
    assert "0 rows added\n0 stored" in fill("--from", str(texts))


def test_a_filter_and_a_format_hold(clips: Any) -> None:
    pytest.importorskip("soundfile", reason="needs the extra audio")
    clips.create(text="要的")
    clips.create(text="不要的")
    assert "1 stored" in fill("--filter", "text=要的", "--format", "flac")
    assert clips.get(text="要的").audio.name.endswith(".flac")


def test_failed_rows_are_told_and_tried_by_the_next_run(clips: Any) -> None:
    good = clips.create(text="好的")
    bad = clips.create(text=" ")
    out = io.StringIO()
    with pytest.raises(CommandError, match="run it again"):
        call_command("cosy_synth", "clips.Clip", stdout=out, stderr=out)
    assert (
        f"{bad.pk}: InvalidTextError" in out.getvalue() and "1 stored, 1 failed" in out.getvalue()
    )
    good.refresh_from_db()
    assert good.audio


def test_a_run_that_was_killed_before_its_update_leaves_no_file_behind(
    clips: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cosy_sync.contrib.django.filling import Filling

    clips.create(text="你好")
    with monkeypatch.context() as patched:
        patched.setattr(Filling, "_update", lambda self: None)  # killed: it never came
        fill()
    assert clips.get().audio == "" and len(list(tmp_path.rglob("*.wav"))) == 1
    fill()
    assert clips.get().audio and len(list(tmp_path.rglob("*.wav"))) == 1


def test_what_was_finished_when_a_run_is_interrupted_is_kept(
    clips: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cosy_sync.contrib.django.filling import Filling

    clips.bulk_create(clips.model(text=f"第{n}句话") for n in range(9))
    real, stored = Filling._store, []

    def store(self: Any, row: Any, outcome: Any) -> None:
        real(self, row, outcome)
        stored.append(row.pk)
        if len(stored) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Filling, "_store", store)
        with pytest.raises(KeyboardInterrupt):
            fill()
    assert clips.exclude(audio="").count() >= 4
    fill()
    assert not clips.filter(audio="").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--to", "text"), "no FileField"),
        (("--to", "sound"), "sound"),
        (("--text", "words"), "words"),
        (("--filter", "nothing=1"), "nothing"),
        (("--using", "loud"), "loud"),
        (("--format", "mp4"), "format"),
        (("--chunk", "0"), "chunk"),
        (("--from", "/no/such.txt"), "such.txt"),
    ],
)
def test_what_the_command_cannot_do_is_said(more: tuple[str, ...], words: str, clips: Any) -> None:
    with pytest.raises(CommandError, match=words):
        fill(*more)


def test_cosy_check_speaks_with_each_client_and_ends_with_an_error_where_one_fails() -> None:
    out = io.StringIO()
    call_command("cosy_check", stdout=out)
    assert "default: spoke" in out.getvalue()
    speech["default"].service.fail(402, times=9)
    with pytest.raises(CommandError, match="default cannot speak"):
        call_command("cosy_check", stdout=out)
    assert "FAILED: BillingError" in out.getvalue()
    with pytest.raises(CommandError, match="loud"):
        call_command("cosy_check", "loud", stdout=out)
