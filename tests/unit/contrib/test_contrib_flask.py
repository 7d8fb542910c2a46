"""Flask: the extension, its config, responses, errors and command."""

import subprocess
import sys
from typing import Any

import pytest

import cosy_sync
from cosy_sync import CanaryConfig, ConfigError, RetryConfig, Variant
from cosy_sync.contrib.fakes import FakeClient
from cosy_sync.testing import Server, tone_wav

flask = pytest.importorskip("flask", reason="needs flask (extra test)")

from cosy_sync.contrib.flask import CosySync, audio_response, health, streaming_response  # noqa: E402


@pytest.fixture
def app() -> Any:
    app = flask.Flask("speaking")
    app.config.update(COSY_SYNC_URL="http://tts.test/batch", COSY_SYNC_DEADLINE=7)
    speech = CosySync(make_client=FakeClient)
    speech.init_app(app)
    app.add_url_rule("/health", view_func=health)

    @app.get("/speak")
    def speak() -> Any:
        return audio_response(speech.synth(flask.request.args.get("text", "")))

    @app.get("/shed")
    def shed() -> Any:
        raise cosy_sync.ShedError("full", retry_after=2.5)

    @app.get("/several")
    def several() -> Any:
        return [audio.duration for audio in speech.synth_many(["你好", "再见"])]

    yield app
    if app.extensions["cosy_sync"].used is not None:
        app.extensions["cosy_sync"].used.close()


def test_the_client_is_made_at_its_first_use_with_the_applications_config(app: Any) -> None:
    state = app.extensions["cosy_sync"]
    assert app.test_client().get("/health").json == {"ok": True, "used": False, "breakers": {}}
    assert state.used is None
    assert state.client is state.client and state.client.config.deadline == 7
    state.client.close()
    assert not state.client.closed


def test_a_view_speaks_with_ranges_and_head(app: Any) -> None:
    client = app.test_client()
    whole = client.get("/speak?text=你好")
    assert (whole.status_code, whole.mimetype, whole.data[:4]) == (200, "audio/wav", b"RIFF")
    part = client.get("/speak?text=你好", headers={"Range": "bytes=-4"})
    assert (part.status_code, part.data) == (206, whole.data[-4:])
    same = client.get("/speak?text=你好", headers={"If-None-Match": whole.headers["ETag"]})
    assert (same.status_code, same.data) == (304, b"")
    none = client.get("/speak?text=你好", headers={"Range": "bytes=99999999-"})
    assert (none.status_code, none.data, none.content_type) == (416, b"", None)
    head = client.head("/speak?text=你好")
    assert (head.data, head.headers["Content-Length"]) == (b"", str(len(whole.data)))
    assert client.get("/several").json == pytest.approx([0.4, 0.4], abs=0.1)
    assert client.get("/health").json["used"] is True


def test_a_stream_is_answered_as_it_comes() -> None:
    app = flask.Flask("speaking")
    with Server(latency=0) as server:
        app.config.update(COSY_SYNC_URL=server.base_url, COSY_SYNC_WIRE="openai")
        app.config["COSY_SYNC_VOICE"] = "中文女"
        speech = CosySync(app)
        app.add_url_rule("/", "read", lambda: streaming_response(speech.client.stream("你好")))
        reply = app.test_client().get("/")
        assert reply.mimetype == "audio/wav" and reply.data[:4] == b"RIFF"
        assert reply.data[44:] == tone_wav("你好")[44:]
        app.extensions["cosy_sync"].client.close()


def test_errors_have_their_status_and_a_wrong_key_stays_an_exception(app: Any) -> None:
    client, service = app.test_client(), app.extensions["cosy_sync"].client.service
    assert client.get("/speak?text=").status_code == 400
    service.fail(402)
    assert client.get("/speak?text=你好").status_code == 500
    reply = client.get("/shed")
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "3")
    assert reply.json["error"]["type"] == "ShedError"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "COSY_SYNC_URL: no endpoint"),
        ({"COSY_SYNC_DEDLINE": 5}, "COSY_SYNC_DEADLINE"),
        ({"COSY_SYNC_DEADLINE": "soon"}, "COSY_SYNC_DEADLINE: expected a number"),
        ({"COSY_SYNC_DEADLINE": -1}, "COSY_SYNC_DEADLINE"),
        ({"COSY_SYNC_RETRY_MAX_RETRIES": -1}, "COSY_SYNC_RETRY_MAX_RETRIES"),
        ({"COSY_SYNC_RETRY": {"max_retrys": 1}}, "max_retries"),
        ({"COSY_SYNC_SPEAKER": object()}, "speaker"),
        ({"COSY_SYNC_DEADLIN": 5}, "no such setting; did you mean COSY_SYNC_DEADLINE"),
    ],
)
def test_the_config_is_checked_when_the_application_is_set_up(
    config: dict[str, Any], words: str
) -> None:
    app = flask.Flask("speaking")
    app.config.update({"COSY_SYNC_URL": "http://tts.test/batch"} if config else {}, **config)
    with pytest.raises(ConfigError, match=words):
        CosySync(app)
    assert "cosy_sync" not in app.extensions


def test_config_takes_objects_and_stands_before_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COSY_SYNC_DEADLINE", "9")
    monkeypatch.setenv("COSY_SYNC_SPEED", "2")
    app = flask.Flask("speaking")
    app.config.update(
        COSY_SYNC_URL=["http://a.test/batch", {"url": "http://b.test/batch", "rate": 7}],
        COSY_SYNC_DEADLINE=5,
        COSY_SYNC_RETRY=RetryConfig(max_retries=1),
        COSY_SYNC_HEDGE={"enabled": True},
        COSY_SYNC_VOICE="中文女",
        COSY_SYNC_MODEL=None,
        COSY_SYNC_CANARY={"url": "http://b.test/batch", "share": 0.1, "promote": True},
    )
    CosySync(app)
    with app.extensions["cosy_sync"].client as client:
        config = client.config
        assert (config.deadline, config.speed, config.retry.max_retries) == (5, 2, 1)
        assert config.hedge.enabled and config.voice.name == "中文女"
        assert [each.rate for each in client.endpoints][1] == 7
        assert (config.canary.variant.share, config.canary.promote) == (0.1, True)


def test_config_names_the_fields_of_a_canary_too() -> None:
    app = flask.Flask("speaking")
    app.config.update(
        COSY_SYNC_URL="http://a.test/batch", COSY_SYNC_CANARY_MODEL="v3", COSY_SYNC_CANARY_SHARE=0.1
    )
    CosySync(app)
    with app.extensions["cosy_sync"].client as client:
        assert client.config.canary == CanaryConfig(variant=Variant(model="v3", share=0.1))


def test_flask_cosy_check_speaks(app: Any) -> None:
    done = app.test_cli_runner().invoke(args=["cosy", "check"])
    assert done.exit_code == 0 and "spoke" in done.output
    app.extensions["cosy_sync"].client.service.fail(402)
    done = app.test_cli_runner().invoke(args=["cosy", "check"])
    assert done.exit_code == 1 and "BillingError" in done.output


def test_the_library_imports_no_framework() -> None:
    code = (
        "import sys, cosy_sync\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "named = {'django', 'flask', 'celery', 'redis', 'obstore', 'grpc', 'tornado', 'asgiref'}\n"
        "assert not named & loaded, named & loaded\n"
        "assert 'cosy_sync.contrib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
