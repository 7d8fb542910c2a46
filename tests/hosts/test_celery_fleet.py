"""Real Celery workers: the page on Celery, the example, and a process that is killed."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cosy_sync.storage import LocalStore
from cosy_sync.testing import Server, tone_wav

celery = pytest.importorskip("celery", reason="needs celery (extra test)")

from cosy_sync.contrib.distributed import close_clients  # noqa: E402

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "celery"


@pytest.fixture
def tts() -> Iterator[Server]:
    with Server(latency=0, rate=0, max_connections=0, echo=False) as server:
        yield server
        close_clients()


def module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    made.app.set_current()
    return made


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in LocalStore(folder).get("manifest.jsonl").splitlines()]


def local(code: str, tts: Server, tmp_path: Path) -> str:
    """Return a program of the documents that needs neither Redis nor a bucket."""
    told = {
        "redis://localhost:6379/0": "memory://",
        "backend=redis": "backend='cache+memory://'",
        "http://localhost:8000/batch": tts.url,
        "s3://bucket/speech": str(tmp_path / "bucket"),
        "/shared/speech": str(tmp_path / "shared"),
        "range(1_000)": "range(100)",
        'if __name__ == "__main__":': "def main():",
        "print(": "return (",
    }
    for shown, here in told.items():
        code = code.replace(shown, here)
    return code


def test_the_programs_of_the_page_on_celery_run(tts: Server, tmp_path: Path) -> None:
    page = (ROOT / "docs/celery.md").read_text("utf-8")
    first, canvas, own = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "speech.py").write_text(local(first, tts, tmp_path), "utf-8")
    speech = module(tmp_path / "speech.py")
    known: dict[str, Any] = {}
    exec(local(own, tts, tmp_path), known)
    speech.app.conf.task_always_eager = True  # tasks run where they are sent
    assert speech.main()["texts"] == 100
    exec(local(canvas, tts, tmp_path), known)
    sound = known["speak"].delay("你好。", str(tmp_path / "one.wav")).get(20)
    assert known["counts"][0]["stored"] == 3
    assert Path(sound).read_bytes() == tone_wav("你好。")
    for row in lines(tmp_path / "bucket"):
        assert (tmp_path / "bucket" / row["file"]).read_bytes() == tone_wav(row["text"])


def children_of(pid: int) -> list[int]:
    found = subprocess.run(
        ["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True, check=True
    )
    return [int(each) for each in found.stdout.split()]


def test_the_example_loses_and_doubles_nothing_when_a_process_is_killed(
    tts: Server, redis_server: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    given = {
        "PYTHONPATH": str(ROOT),
        "REDIS_URL": redis_server.url,
        "COSY_SYNC_URL": tts.url,
        "COSY_SYNC_BATCH_MAX_TEXTS": "4",
        "COSY_SYNC_ENDPOINT_RATE": "20",
        "SPEECH": str(tmp_path),
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "celery", "-A", "speech", "worker", "-c", "2"]
    command += ["--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
    process = subprocess.Popen(command, cwd=EXAMPLE, stderr=subprocess.PIPE)
    killer = threading.Thread(target=kill_a_child, args=(process.pid, tts))
    killer.start()
    speech = module(EXAMPLE / "speech.py")
    try:
        speech.main()
        spoken = tts.stats()["texts"]
        speech.main()
    finally:
        killer.join()
        speech.app.close()
        process.terminate()
        said = process.communicate(timeout=30)[1].decode()
    assert capsys.readouterr().out.count("'texts': 100, 'failed': 0") == 2, said[-3000:]
    assert "SIGKILL" in said and "COSY_SYNC_SHARING_REDIS_URL" in said
    rows = lines(tmp_path)
    assert len(list(tmp_path.rglob("*.wav"))) == len({row["id"] for row in rows}) == 100
    for row in rows:
        assert (tmp_path / row["file"]).read_bytes() == tone_wav(row["text"])
    assert spoken == tts.stats()["texts"] <= 100 + 32


def kill_a_child(pid: int, tts: Server) -> None:
    until = time.monotonic() + 60
    while tts.stats()["texts"] < 20 and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(children_of(pid)[0], signal.SIGKILL)


def test_the_readme_of_the_example_is_short() -> None:
    assert len((EXAMPLE / "README.md").read_text("utf-8").splitlines()) <= 12
