"""Wires of other packages: found by their entry point, as the document tells."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cosy_sync import ClientConfig, ConfigError, CosyClient
from cosy_sync.server import tone_wav
from cosy_sync.wires import BatchWire, SpeechOptions, create_wire, known_wires

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/own-wire.md").read_text("utf-8")
CLASS, USE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(LINES,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
OPTIONS = SpeechOptions.from_config(ClientConfig())

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package as pip leaves it: its module, and a dist-info directory beside."""

    def put(line: str, name: str = "acme_tts", code: str = CLASS) -> Path:
        place = tmp_path / name
        info = place / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[cosy_sync.wires]\n{line}\n")
        (place / f"{name}.py").write_text(code, "utf-8")
        monkeypatch.setattr(sys, "path", [str(place), *sys.path])
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        return place

    return put


class Acme(BaseHTTPRequestHandler):
    """The service of the document."""

    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        good = said.get("as") == "anna"
        body = tone_wav(said["say"]) if good else b'{"error":"nobody is called so"}'
        self.send_response(200 if good else 404)
        self.send_header("Content-Type", "audio/wav" if good else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def acme() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Acme)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/say"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_documents_line_is_what_is_installed_here() -> None:
    assert LINES == '[project.entry-points."cosy_sync.wires"]\nacme = "acme_tts:AcmeWire"\n'


def test_the_documents_wire_works_after_installing(
    install: Install, acme: str, tmp_path: Path
) -> None:
    place = install("acme = acme_tts:AcmeWire")
    path = os.pathsep.join([str(place), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", USE.replace("http://localhost:8000/say", acme)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "hello.wav").read_bytes() == tone_wav("你好")


def test_it_has_all_that_the_others_have(install: Install, acme: str) -> None:
    install("acme = acme_tts:AcmeWire")
    assert "acme" in known_wires()
    with CosyClient(acme, wire="acme", voice="anna") as client:
        (endpoint,) = client.endpoints
        assert (endpoint.max_connections, endpoint.rate) == (8, 20.0)
        audios = client.synth_many(["你好", "再见", "谢谢"])
        assert [audio.data for audio in audios] == [tone_wav(t) for t in ("你好", "再见", "谢谢")]
        with pytest.raises(ConfigError, match="speed: the wire 'acme' cannot set it"):
            client.with_options(speed=2.0)
    with CosyClient(acme, wire="acme", voice="bert") as client:
        (outcome,) = client.synth_many(["你好"], on_error="return")
        assert "nobody is called so" in str(outcome.error)


def test_a_built_in_name_cannot_be_taken(install: Install) -> None:
    install("batch = acme_tts:AcmeWire")
    assert known_wires().count("batch") == 1
    assert isinstance(create_wire("batch", "http://tts/batch", OPTIONS), BatchWire)
    assert "acme_tts" not in sys.modules


def test_a_package_that_cannot_be_imported_is_named_and_the_others_work(install: Install) -> None:
    install("broken = broken_tts:Wire", "broken_tts", "import no_such_module_anywhere")
    install("acme = acme_tts:AcmeWire")
    with pytest.raises(ConfigError, match="'broken' of another package cannot be imported") as e:
        create_wire("broken", "http://tts/say", OPTIONS)
    assert "no_such_module_anywhere" in str(e.value)
    assert isinstance(e.value.__cause__, ModuleNotFoundError)
    assert create_wire("acme", "http://tts/say", OPTIONS).name == "acme"
    assert create_wire("batch", "http://tts/batch", OPTIONS).name == "batch"


def test_a_class_that_is_not_there_is_named(install: Install) -> None:
    install("acme = acme_tts:Acme")
    with pytest.raises(ConfigError, match=r"'acme' of another package cannot .*AttributeError"):
        create_wire("acme", "http://tts/say", OPTIONS)


def test_two_packages_with_one_name_are_refused(install: Install) -> None:
    install("acme = acme_tts:AcmeWire")
    install("acme = other_tts:AcmeWire", "other_tts")
    with pytest.raises(ConfigError) as caught:
        create_wire("acme", "http://tts/say", OPTIONS)
    assert caught.value.message == (
        "wire: several packages bring 'acme' (acme_tts:AcmeWire, other_tts:AcmeWire); "
        "remove all but one"
    )
    assert known_wires().count("acme") == 1


def test_one_package_that_is_seen_twice_is_one(install: Install) -> None:
    install("acme = acme_tts:AcmeWire")
    install("acme = acme_tts:AcmeWire", "copy_tts")
    assert create_wire("acme", "http://tts/say", OPTIONS).name == "acme"
