"""Real web and task hosts, their processes, threads and greenlets: every text's own audio, and
metrics whose sums over all processes are what the service counted.

`COSY_TEST_TEXTS=2000` speaks that many texts in each host; by default a tenth of them.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import prometheus_client
import pytest
from prometheus_client import multiprocess

from cosy_sync.testing import Server

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
CALLS = int(os.environ.get("COSY_TEST_TEXTS", "200")) // 2  # two texts each

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def tts() -> Iterator[Server]:
    with Server(latency=0.02, rate=0, max_connections=0, echo=False) as server:
        yield server


@contextmanager
def host(
    command: Sequence[str], tts: Server, ends_with: int = signal.SIGTERM, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    environ = {**os.environ, "TTS_URL": tts.url, "PYTHONPATH": str(HERE), **variables}
    process = subprocess.Popen(command, env=environ, cwd=HERE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.send_signal(ends_with)
        try:
            said = process.communicate(timeout=30)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            said = process.communicate()[1]
            pytest.fail(f"it did not end: {said.decode()[-2000:]}")
        print(said.decode()[-4000:])  # shown when the test fails


def check_metrics(folder: Path, tts: Server) -> None:
    """Compare what all processes of a host have counted with what the service has."""
    registry = prometheus_client.CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, str(folder))
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    texts, requests = (
        sum(sample.value for sample in samples if sample.name == f"cosy_sync_{name}")
        for name in ("texts_total", "request_seconds_count")
    )
    stats = tts.stats()
    assert (texts, requests) == (stats["texts"], stats["requests"])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def needs(program: str) -> str:
    path = BIN / program
    if not path.exists():
        pytest.skip(f"needs {program} (extra test)")
    return str(path)


def ask(port: int, number: int) -> list[int]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", f"/?n={number}")
        reply = connection.getresponse()
        body = reply.read()
        assert reply.status == 200, body
        return [int(part) for part in body.split()]
    finally:
        connection.close()


def await_port(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            ask(port, -1)
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail("the host did not come up")


WEB = {
    "gunicorn sync": ("gunicorn", "--preload", "-w", "2", "-k", "sync"),
    "gunicorn gthread": ("gunicorn", "--preload", "-w", "2", "-k", "gthread", "--threads", "8"),
    "gunicorn gevent": ("gunicorn", "-w", "2", "-k", "gevent"),
    "uwsgi": ("pyuwsgi", "--master", "--processes", "2", "--threads", "8", "--enable-threads"),
    "uwsgi without threads": ("pyuwsgi", "--master", "--processes", "4", "--enable-threads"),
}


@pytest.mark.parametrize("name", WEB)
def test_a_web_host_speaks_each_callers_own_text(name: str, tts: Server, tmp_path: Path) -> None:
    program, *options = WEB[name]
    port = free_port()
    address = f"127.0.0.1:{port}"
    command = [needs(program), *options]
    if program == "gunicorn":
        command += ["--bind", address, "--log-level", "warning", "wsgi_app:application"]
    else:
        home = f"--home={sys.prefix}"
        command += ["--http-socket", address, "--disable-logging", home, "--die-on-term"]
        command += ["--module", "wsgi_app:application"]
    if "gevent" in name:
        pytest.importorskip("gevent", reason="needs gevent (extra test)")
    with host(command, tts, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) as process:
        await_port(process, port)
        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(lambda number: ask(port, number), range(CALLS)))
    if "gevent" not in name:  # there one process may take them all
        assert len({pid for pid, _, _ in answers}) > 1
    assert sum(texts for _, texts, _ in answers) == 2 * CALLS
    assert sum(wrong for _, _, wrong in answers) == 0
    check_metrics(tmp_path, tts)


TASKS = {
    "celery prefork": ("--pool", "prefork", "-c", "4"),
    "celery threads": ("--pool", "threads", "-c", "8"),
    "celery gevent": ("--pool", "gevent", "-c", "8"),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_host_speaks_each_tasks_own_text(
    name: str, tts: Server, redis_server, tmp_path: Path
) -> None:
    celery = pytest.importorskip("celery", reason="needs celery (extra test)")
    if "gevent" in name:
        pytest.importorskip("gevent", reason="needs gevent (extra test)")
    command = [needs("celery"), "-A", "celery_app", "worker", *TASKS[name]]
    command += ["--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
    app = celery.Celery("speech", broker=redis_server.url, backend=redis_server.url)
    try:
        variables = {"BROKER_URL": redis_server.url, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        with host(command, tts, **variables):
            sent = [app.send_task("celery_app.speak", [number]) for number in range(CALLS)]
            answers = [each.get(timeout=240) for each in sent]
    finally:
        app.close()
    assert sum(texts for _, texts, _ in answers) == 2 * CALLS
    assert sum(wrong for _, _, wrong in answers) == 0
    check_metrics(tmp_path, tts)
