"""What an extra is for, done where nothing but that extra is installed.

`python tests/alone.py grpc`; the sessions `core` and `extra` of the noxfile make such environments.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cosy_sync
from cosy_sync import CosyClient, CosyError, Voice
from cosy_sync.testing import Server

# The modules that are of one extra, and what they ask for.
BELONGS = {
    "cosy_sync.contrib.celery": "celery",
    "cosy_sync.contrib.django": "django",
    "cosy_sync.contrib.flask": "flask",
    "cosy_sync.net.rpc": "grpc",
    "cosy_sync.server.wires.runtime_grpc": "grpc",
    "cosy_sync.net.websocket": "websocket",
}
TEXTS = ["前方路口请左转", "您已到达目的地", "请系好安全带"]


def modules() -> Iterator[str]:
    """Name every module that this environment must be able to import."""

    def refused(name: str) -> bool:
        return not any(name.startswith(each) for each in BELONGS)

    for found in pkgutil.walk_packages(cosy_sync.__path__, "cosy_sync.", onerror=refused):
        if refused(found.name) and not found.name.endswith("__main__"):
            yield found.name


@contextlib.contextmanager
def client(url: str = "{0.url}", *, options: Any = None, **settings: Any) -> Iterator[CosyClient]:
    """Open a client of a server that hums."""
    given = {"engine": "tone", "latency": 0.0, "rate": 0, "max_connections": 0, **(options or {})}
    with (
        Server(**given) as server,
        CosyClient(
            url.format(server).replace("http:", settings.pop("scheme", "http:")), **settings
        ) as opened,
    ):
        yield opened


def core() -> None:
    with client() as speaking, tempfile.TemporaryDirectory() as folder:
        speaking.synth(TEXTS[0]).save(Path(folder, "a.wav"))
        assert [each.error for each in speaking.synth_many(TEXTS, on_error="return")] == [None] * 3
        assert all(outcome.ok for outcome in speaking.synth_iter(TEXTS))
        assert speaking.submit(TEXTS[2]).result(30).pcm()


def audio() -> None:
    with client() as speaking:
        heard = speaking.synth(TEXTS[0])
        assert heard.resample(8_000).sample_rate == 8_000
        assert len(heard.numpy()) and heard.as_format("flac").data[:4] == b"fLaC"


def server() -> None:
    with client(options={"engine": "espeak"}) as speaking:
        assert speaking.synth(TEXTS[0]).pcm()


def websocket() -> None:
    path = "{0.base_url}/api-ws/v1/inference"
    settings = {"wire": "dashscope_ws", "model": "cosyvoice-v2", "voice": Voice("longanyang")}
    with client(path, scheme="ws:", **settings) as speaking:
        assert b"".join(speaking.stream(TEXTS[0]))


def speed() -> None:
    from cosy_sync.wires import fastjson

    core()
    assert "orjson" in sys.modules and fastjson


def redis() -> None:
    with client(cache="redis://127.0.0.1:1/0") as speaking:  # nothing there: a miss, no error
        assert speaking.synth(TEXTS[0]).pcm()


def grpc() -> None:
    options = {"grpc_port": 0}
    with client(
        "{0.grpc_url}", options=options, wire="runtime_grpc", voice=Voice("中文女")
    ) as speaking:
        assert len(speaking.synth_many(TEXTS)) == 3


def markdown() -> None:
    from cosy_sync.text import plain_from_markdown

    assert plain_from_markdown("# 标题\n\n*你好*") == "标题。\n\n你好。"


def storage() -> None:
    from cosy_sync.storage import open_store

    store = open_store("memory:///speech")
    store.put("a.wav", b"sound", if_absent=True)
    assert store.get("a.wav") == b"sound"
    store.close()


def boto3() -> None:
    from cosy_sync.storage import Boto3Store

    keys = {"access_key_id": "key", "secret_access_key": "secret"}
    store = Boto3Store("s3://speech", region="us-east-1", endpoint="http://127.0.0.1:1", **keys)
    assert "speech" in store.url("a.wav")
    store.close()


def prometheus() -> None:
    import prometheus_client

    from cosy_sync.instrumentation import PrometheusObserver

    registry = prometheus_client.CollectorRegistry()
    with client(observers=[PrometheusObserver(registry)]) as speaking:
        speaking.synth_many(TEXTS)
    assert b"cosy_sync" in prometheus_client.generate_latest(registry)


def opentelemetry() -> None:
    from cosy_sync.instrumentation import OpenTelemetryObserver

    with client(observers=[OpenTelemetryObserver()]) as speaking:
        assert len(speaking.synth_many(TEXTS)) == 3


def django() -> None:
    import django
    from django.conf import settings

    with Server(engine="tone", latency=0.0) as server:
        app = "cosy_sync.contrib.django"
        settings.configure(INSTALLED_APPS=[app], COSY_SYNC={"default": {"URL": server.url}})
        django.setup()
        speech = importlib.import_module(app)
        assert speech.synth(TEXTS[0]).pcm()
        speech.speech["default"].close()


def flask() -> None:
    import flask

    from cosy_sync.contrib.flask import CosySync

    with Server(engine="tone", latency=0.0) as server:
        app = flask.Flask("app")
        app.config["COSY_SYNC_URL"] = server.url
        speech = CosySync(app)
        with app.app_context():
            assert speech.client.synth(TEXTS[0]).pcm()
            speech.client.close()


def celery() -> None:
    from cosy_sync.contrib.celery import speak_all

    assert callable(speak_all)


def numbers() -> None:
    import wetext

    assert wetext


ALONE: dict[str, Callable[[], None]] = {
    **{"core": core, "audio": audio, "clips": audio, "server": server, "websocket": websocket},
    **{"speed": speed, "redis": redis, "grpc": grpc, "markdown": markdown, "storage": storage},
    **{"prometheus": prometheus, "opentelemetry": opentelemetry, "django": django},
    **{"flask": flask, "celery": celery, "numbers": numbers, "boto3": boto3},
}


def main(name: str) -> None:
    """Import what must be importable with this extra, and do what the extra is for."""
    try:
        ALONE[name]()
    except CosyError as error:
        raise SystemExit(f"{name}: {error}") from error
    count = sum(1 for each in modules() if importlib.import_module(each))
    print(f"{name}: {count} modules imported, and it does what it is for")


if __name__ == "__main__":
    main(*sys.argv[1:])
