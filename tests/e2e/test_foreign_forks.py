"""Forks that Python's hooks do not see, from C and in uWSGI: parent and child share nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosy_sync.testing import Server, tone_wav

needs_c = pytest.mark.skipif(sys.platform == "darwin", reason="forks through glibc's own symbol")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    pytest.importorskip("grpc", reason="needs grpcio (extra grpc)")
    with Server(latency=0.05, rate=0, max_connections=0, grpc_port=0, grpc_max_conc=64) as server:
        yield server


def run(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", START + code, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


START = """
import contextlib, ctypes, os, sys, threading, time
import cosy_sync
from cosy_sync import ConfigError, CosyClient, Endpoint
from cosy_sync.testing import tone_wav

def runs(thread):
    with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "R"

def c_fork():
    # Where another thread waits for the interpreter, the child's copy of it counts that thread for
    # ever, and hangs before any code of ours runs: so all the others are asleep first.
    looks, mine = 0, str(threading.get_native_id())
    while looks < 3:
        time.sleep(0.005)
        others = [each for each in os.listdir("/proc/self/task") if each != mine]
        looks = 0 if any(map(runs, others)) else looks + 1
    return ctypes.PyDLL(None).fork()

def right(client, name):
    # Eight threads at once, six texts each.
    wrong = []
    def work(number):
        for n in range(6):
            text = f"{name}的第{number}个线程第{n}句话"
            try:
                if client.synth(text).data != tone_wav(text): wrong.append(text)
            except Exception as error: wrong.append(repr(error))
    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    if wrong: print(os.getpid(), len(wrong), wrong[0], flush=True)
    return not wrong

def answers(client):
    # The main thread hands its texts to workers: those of the parent are not there.
    return client.synth("主线程的话").data == tone_wav("主线程的话")

def codes(pids):
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]

def warm(url, **settings):
    client = CosyClient(Endpoint(url, max_connections=50, rate=2000), deadline=20, **settings)
    client.synth_many([f"先说的第{n}句话" for n in range(16)])
    assert right(client, "大家")
    return client
"""

GENERATIONS = """
client = warm(sys.argv[1], wire=sys.argv[2], **eval(sys.argv[3]))
name, child, depth = "父亲", 0, 0
while depth < 3:
    child = c_fork()
    if child: break
    depth += 1
    name = f"第{depth}代"
    assert answers(client)
    assert client.stats().texts_ok == 1
good = right(client, name)
if child: good = good and codes([child]) == [0]
if depth: os._exit(0 if good else 1)
client.close()
print(good)
"""

RUNTIME = {"voice": "中文女"}
DASHSCOPE = {"voice": "longanyang", "model": "cosyvoice-v3-flash", "api_key": "sk-1234567890"}


@needs_c
@pytest.mark.parametrize(
    "wire",
    [
        "openai",
        "dashscope_ws",
        "runtime_grpc",
    ],
)
def test_three_generations_speak_at_once_and_each_gets_its_own_audio(
    server: Server, wire: str
) -> None:
    base = server.base_url
    url, settings = {
        "openai": (f"{base}/v1/audio/speech", {}),
        "dashscope_ws": (base.replace("http", "ws") + "/api-ws/v1/inference", DASHSCOPE),
        "runtime_grpc": (server.grpc_url, RUNTIME),
    }[wire]
    done = run(GENERATIONS, url, wire, repr(settings))
    assert done.stdout == "True\n", done.stdout + done.stderr


LOCKED = """
import gc
from cosy_sync import default
from cosy_sync.net import connect as dial
from cosy_sync.wires import redaction

def locks():
    # Every lock that an object of ours holds as an attribute, or a module of ours.
    found = [default._lock, redaction._lock, dial._lock]
    for each in gc.get_objects():
        if str(type(each).__module__).startswith("cosy_sync."):
            names = [*getattr(each, "__dict__", ())]
            for kind in type(each).__mro__: names += getattr(kind, "__slots__", ())
            found += [getattr(each, name, None) for name in names]
    return {id(lock): lock for lock in found if type(lock) is type(threading.Lock())}.values()

client = cosy_sync.configure(Endpoint(sys.argv[1], rate=2000), wire="openai", deadline=20)
assert right(client, "父亲")
held = [lock for lock in locks() if lock.acquire(blocking=False)]
assert len(held) > 20
pid = c_fork()
if pid == 0:
    assert cosy_sync.default_client() is client
    assert cosy_sync.synth("孩子的话").data == tone_wav("孩子的话")
    assert client.stats().texts_ok == 1
    dial.default_ssl_context(True)
    other = CosyClient(sys.argv[1], wire="openai", api_key="sk-another-key")
    assert right(other, "孩子")
    cosy_sync.configure(sys.argv[1], wire="openai").synth("还有一句")
    client.close()
    os._exit(0)
for lock in held: lock.release()
print(codes([pid]), client.stats().texts_ok)
client.close()
"""


@needs_c
def test_a_child_waits_for_no_lock_that_was_held_when_it_was_forked_from_c(server: Server) -> None:
    done = run(LOCKED, f"{server.base_url}/v1/audio/speech")
    assert done.stdout.strip() == "[0] 48", done.stdout + done.stderr


CLOSING = """
import gc
client = warm(sys.argv[1], wire="openai")
def close(): client.close()
def finish(): cosy_sync.core._finish_all()
def drop():
    global client
    del client
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "cosy-reaper": thread.join()
for end in (close, finish, drop):
    pid = c_fork()
    if pid == 0:
        end()
        os._exit(0)
    assert codes([pid]) == [0]
    before = client.stats().connects
    assert right(client, "父亲")
    assert client.stats().connects == before, "a child cut the parent's connections"
client.close()
print("whole")
"""


@needs_c
def test_a_child_that_ends_its_copy_of_the_client_leaves_the_parents_connections_alone(
    server: Server,
) -> None:
    done = run(CLOSING, f"{server.base_url}/v1/audio/speech")
    assert done.stdout == "whole\n", done.stdout + done.stderr


ALONE = """
import httpx
from types import SimpleNamespace
from cosy_sync.config import PoolConfig, TimeoutConfig
from cosy_sync.net import PoolTransport

client = httpx.Client(transport=PoolTransport(PoolConfig(), TimeoutConfig(), 1 << 24))

class Speaker:
    def synth(self, text):
        said = {"input": text, "response_format": "wav"}
        return SimpleNamespace(data=client.post(sys.argv[1], json=said).content)

speaker = Speaker()
assert right(speaker, "大家")
pids = []
for fork in (os.fork, c_fork):
    pid = fork()
    if pid == 0: os._exit(0 if right(speaker, "孩子") else 1)
    pids.append(pid)
good = right(speaker, "父亲")
print(good, codes(pids))
client.close()
"""


@needs_c
def test_a_transport_of_a_callers_own_client_is_not_shared_with_children_either(
    server: Server,
) -> None:
    done = run(ALONE, f"{server.base_url}/v1/audio/speech")
    assert done.stdout == "True [0, 0]\n", done.stdout + done.stderr


SITE = """
import json, os
from urllib.parse import unquote
from cosy_sync import CosyClient, Endpoint

client = CosyClient(
    Endpoint(os.environ["TTS"], rate=2000), deadline=20, **json.loads(os.environ["SETTINGS"])
)
client.synth_many([f"先说的第{n}句话" for n in range(16)])

def application(environ, start_response):
    try:
        said = client.synth(unquote(environ["QUERY_STRING"])).data
    except Exception as error:
        said = repr(error).encode()
    start_response("200 OK", [("X-Process", str(os.getpid()))])
    return [said]
"""


@pytest.mark.parametrize("wire", ["openai", "runtime_grpc"])
def test_processes_of_uwsgi_with_a_client_warmed_before_their_fork_get_their_own_audio(
    server: Server, tmp_path: Path, wire: str
) -> None:
    uwsgi = shutil.which("uwsgi", path=sysconfig.get_path("scripts"))
    if uwsgi is None:
        pytest.skip("needs pyuwsgi (extra test, where it has a wheel)")
    (tmp_path / "site.py").write_text(SITE, "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    options = ["--http-socket", f"127.0.0.1:{port}", "--wsgi-file", str(tmp_path / "site.py")]
    options += [
        "--master",
        "--processes",
        "2",
        "--threads",
        "8",
        "--enable-threads",
        "--die-on-term",
    ]
    url, settings = {
        "openai": (f"{server.base_url}/v1/audio/speech", {}),
        "runtime_grpc": (server.grpc_url, RUNTIME),
    }[wire]
    environment = {
        **os.environ,
        "TTS": url,
        "SETTINGS": json.dumps({"wire": wire, **settings}),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    process = subprocess.Popen(
        [uwsgi, *options],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(port, process)
        wrong, processes = _ask(port)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
    assert (wrong, len(processes)) == ([], 2)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)


def _ask(port: int) -> tuple[list[str], set[str]]:
    """Ask from 14 threads, 4 texts each, until both processes have answered."""
    wrong: list[str] = []
    processes: set[str] = set()

    def work(number: int) -> None:
        for n in range(4):
            text = f"page-{number}-says-{n}"
            url = f"http://127.0.0.1:{port}/?{text}"
            with urllib.request.urlopen(url, timeout=60) as got:
                processes.add(got.headers["X-Process"])
                data = got.read()
            if data != tone_wav(text):
                wrong.append(f"{text}: {data[:200]!r}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(14)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong, processes
