"""gRPC and processes: forks, the end of the interpreter, and a missing package."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cosy_sync.testing import Server

pytest.importorskip("grpc", reason="needs grpcio (extra grpc)")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Server(grpc_port=0, latency=0.05, rate=0, grpc_max_conc=64) as server:
        yield server.grpc_url


def run(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


START = """
import os, sys, threading, time
from cosy_sync import ConfigError, CosyClient
from cosy_sync.testing import tone_wav

client = CosyClient(sys.argv[1], wire="runtime_grpc", voice="中文女")

def right(prefix):
    texts = [f"{prefix}第{n}句自己的话" for n in range(20)]
    return [a.data for a in client.synth_many(texts)] == [tone_wav(text) for text in texts]

def fork(work, end=os._exit):
    pid = os.fork()
    if pid == 0:
        end(work())
    return pid

def codes(pids):
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
"""

BETWEEN = """
assert right("父亲的")
pids = [fork(lambda: 0 if right(f"孩子{n}的") else 1) for n in range(8)]
assert right("父亲的")
# Ends as a whole interpreter does, with everything that it frees.
pids += [fork(lambda: 0 if right("第九个孩子的") else 1, sys.exit)]
print(codes(pids))
"""

AMIDST = """
def traffic():
    while not over.is_set():
        assert right("父亲的")
    print("the parent goes on")

def child():
    # It may just have been a moment between calls.
    try:
        return 3 if client.synth("孩子的话").data == tone_wav("孩子的话") else 1
    except ConfigError as error:
        return 0 if "fork between calls" in str(error) else 2

over = threading.Event()
thread = threading.Thread(target=traffic)
thread.start()
pids = []
for number in range(10):
    while client.stats().in_flight < 4:
        time.sleep(0.001)
    time.sleep(0.02)
    pids.append(fork(child, sys.exit if number % 2 else os._exit))
print(codes(pids))
over.set()
thread.join()
assert right("父亲的")
client.close()
"""

BEFORE = """
pids = [fork(lambda: 0 if right(f"孩子{n}的") else 1) for n in range(4)]
assert right("父亲的")
print(codes(pids))
"""


def test_children_forked_before_or_between_calls_speak_for_themselves(url: str) -> None:
    done = run(START + BETWEEN, url)
    assert done.stdout.strip().endswith(str([0] * 9)), done.stdout + done.stderr
    done = run(START + BEFORE, url)
    assert done.stdout.strip() == str([0] * 4), done.stdout + done.stderr


def test_children_forked_in_the_middle_of_calls_are_told_so_and_end(url: str) -> None:
    done = run(START + AMIDST, url)
    codes = json.loads(done.stdout.splitlines()[0])
    # gRPC skips its own handlers while calls are in flight, and then a child may crash in it
    # (SIGABRT, SIGSEGV).
    assert set(codes) <= {0, 3, -6, -11} and codes.count(0) >= 5, done.stdout + done.stderr
    assert "the parent goes on" in done.stdout, done.stderr


def test_a_program_that_ends_without_closing_its_client_ends(url: str) -> None:
    code = START + "client.submit('没有人等的话')\nprint(right('最后的'))"
    done = run(code, url)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_grpc_is_imported_by_the_first_call_only() -> None:
    code = (
        "import sys\n"
        "from cosy_sync import CosyClient\n"
        "CosyClient('grpc://tts.test:50000', wire='runtime_grpc', voice='中文女').close()\n"
        "print('grpc' in sys.modules)\n"
    )
    assert run(code).stdout == "False\n"


def test_without_the_package_the_extra_is_named() -> None:
    code = (
        "import sys\n"
        "sys.modules['grpc'] = None\n"
        "from cosy_sync import ConfigError, CosyClient\n"
        "from cosy_sync.server import MissingExtraError\n"
        "from cosy_sync.testing import Server\n"
        "try:\n"
        "    client = CosyClient('grpc://127.0.0.1:1', wire='runtime_grpc', voice='中文女')\n"
        "    client.synth('你好')\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
        "try:\n"
        "    Server(grpc_port=0).start()\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
        "Server().start().close()\n"
    )
    done = run(code)
    first, second = done.stdout.splitlines()
    assert "'runtime_grpc' needs the package 'grpc'; pip install 'grpcio>=1.62'" in first
    assert second == "grpc is not installed: pip install 'grpcio>=1.62'"
    assert done.returncode == 0, done.stderr


def test_the_program_serves_grpc_too() -> None:
    command = [sys.executable, "-m", "cosy_sync", "serve", "--port", "0", "--grpc-port", "0"]
    command += ["--grpc-max-conc", "1", "--json-ready", "--exit-with-parent", "--latency", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        ready = json.loads(process.stdout.readline())
        assert ready["url"].startswith("http://") and ready["pid"] == process.pid
        done = run(START + "print(right('父亲的'))", ready["grpc_url"])
        assert done.stdout == "True\n", done.stderr
    finally:
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "with 20 texts" in said
