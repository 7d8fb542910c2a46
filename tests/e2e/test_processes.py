"""Forks, Ctrl-C and the end of the interpreter, in processes of their own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from cosy_sync.server import Server, ServerConfig


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    config = ServerConfig(engine="tone", latency=0.05, rate=0, max_connections=0)
    with Server(config) as server:
        yield server.url


def run(code: str, *args: str, **kind: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        timeout=100,
        **kind,  # type: ignore[call-overload]
    )


FORK = """
import os, sys, threading, time
import cosy_sync
from cosy_sync import CosyClient
from cosy_sync.server import tone_wav

client = CosyClient(sys.argv[1], batch_size=4)

def right(prefix, audios):
    return all(a.data == tone_wav(f"{prefix}第{n}句自己的话") for n, a in enumerate(audios))

def texts(prefix):
    return [f"{prefix}第{n}句自己的话" for n in range(100)]

traffic = threading.Thread(target=lambda: [client.synth_many(texts("父亲的")) for _ in range(5)])
traffic.start()
while client.stats().texts_ok < 20:
    time.sleep(0.001)
children = []
for number in range(10):
    pid = os.fork()
    if pid == 0:
        good = right(f"孩子{number}的", client.synth_many(texts(f"孩子{number}的")))
        os._exit(0 if good and client.stats().texts_ok == 100 else 1)
    children.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
traffic.join()
assert right("父亲的", client.synth_many(texts("父亲的")))
client.close()
print(codes)
"""


def test_children_forked_in_the_middle_of_traffic_get_their_own_audio(url: str) -> None:
    done = run(FORK, url)
    assert done.stdout.strip() == str([0] * 10), done.stderr


def test_a_child_of_multiprocessing_uses_the_module_level_client(url: str) -> None:
    code = (
        "import multiprocessing, sys, cosy_sync\n"
        "cosy_sync.configure(sys.argv[1])\n"
        "cosy_sync.synth('父进程先说话')\n"
        "with multiprocessing.get_context('fork').Pool(3) as pool:\n"
        "    audios = pool.map(cosy_sync.synth, ['孩子们一起说话', '第二个孩子说话'] * 6)\n"
        "print(len(audios), cosy_sync.default_client().stats().texts_ok)\n"
    )
    done = run(code, url)
    assert done.stdout.strip() == "12 1", done.stderr


def test_the_callers_httpx_client_is_refused_in_a_child(url: str) -> None:
    code = (
        "import httpx, os, sys, cosy_sync\n"
        "http_client = httpx.Client()\n"
        "client = cosy_sync.CosyClient(sys.argv[1], http_client=http_client)\n"
        "client.synth('父进程先说话')\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    try:\n"
        "        client.synth('孩子说话')\n"
        "    except cosy_sync.ConfigError as error:\n"
        "        print(error)\n"
        "    sys.stdout.flush()\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "client.close()\n"
        "http_client.close()\n"
    )
    assert "before the process forked" in run(code, url).stdout


INTERRUPT = """
import os, signal, sys, threading, time
from cosy_sync import CosyClient

def interrupt():
    while client.stats().texts_ok < 100:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)

texts = [f"这是第{number}句要说的话" for number in range(20000)]
try:
    with CosyClient(sys.argv[1], batch_size=2) as client:
        threading.Thread(target=interrupt).start()
        client.synth_many(texts)
except KeyboardInterrupt as error:
    good = [o for o in error.outcomes if o.ok]
    assert 50 <= len(good) < 20000, len(good)
    assert len({o.index for o in error.outcomes}) == len(error.outcomes)
    print("kept", all(texts[o.index] == o.text for o in error.outcomes))
print([t.name for t in threading.enumerate()])
"""


def test_ctrl_c_keeps_what_is_finished_and_leaves_no_thread(url: str) -> None:
    done = run(INTERRUPT, url)
    assert done.stdout.split("\n")[:2] == ["kept True", "['MainThread']"], done.stderr


def test_ctrl_c_keeps_the_finished_texts_of_a_batch_that_is_still_repeated(url: str) -> None:
    code = (
        "import os, signal, sys, threading, time\n"
        "from cosy_sync import CosyClient, RetryConfig\n"
        "def interrupt():\n"
        "    while client.stats().retries < 4: time.sleep(0.001)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "texts = [f'这是第{n}句要说的话' for n in range(256)]\n"
        "slow = RetryConfig(base=20, max_wait=30)\n"
        "try:\n"
        "    with CosyClient(sys.argv[1], retry=slow) as client:\n"
        "        threading.Thread(target=interrupt).start()\n"
        "        client.synth_many(texts)\n"
        "except KeyboardInterrupt as error:\n"
        "    print(sum(o.ok for o in error.outcomes))\n"
    )
    config = ServerConfig(latency=0, rate=0, max_connections=0, faults={"silent-audio": 1.0})
    with Server(config) as server:
        assert run(code, server.url).stdout.strip() == "252"


def test_ctrl_c_in_synth_leaves_nothing_taken(url: str) -> None:
    code = (
        "import os, signal, sys, threading, time\n"
        "from cosy_sync import CosyClient\n"
        "client = CosyClient(sys.argv[1])\n"
        "client.synth('先说一句话')\n"
        "stop = threading.Event()\n"
        "def interrupt():\n"
        "    while not stop.wait(0.011): os.kill(os.getpid(), signal.SIGINT)\n"
        "thread = threading.Thread(target=interrupt)\n"
        "thread.start()\n"
        "caught = 0\n"
        "while caught < 100:\n"
        "    try:\n"
        "        while True: client.synth('再说一句话')\n"
        "    except KeyboardInterrupt: caught += 1\n"
        "while True:\n"
        "    try:\n"
        "        stop.set()\n"
        "        thread.join()\n"
        "        break\n"
        "    except KeyboardInterrupt: pass\n"
        "engine = client._core.engine()\n"
        "engine.drain(10)\n"
        "stats = client.stats()\n"
        "busy = stats.connections_open - stats.connections_idle\n"
        "print(stats.in_flight, engine._memory.used, busy)\n"
        "client.close(3)\n"
        "print([t.name for t in threading.enumerate()])\n"
    )
    done = run(code, url)
    assert done.stdout.split("\n")[:2] == ["0 0 0", "['MainThread']"], done.stderr


def test_a_lazy_call_of_the_parent_ends_in_a_child_with_closed_error(url: str) -> None:
    code = (
        "import os, sys, cosy_sync\n"
        "client = cosy_sync.CosyClient(sys.argv[1], batch_size=1)\n"
        "outcomes = client.synth_iter(f'这是第{n}句要说的话' for n in range(10**6))\n"
        "next(outcomes)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    try:\n"
        "        next(outcomes)\n"
        "    except cosy_sync.ClosedError as error:\n"
        "        print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "outcomes.close()\n"
        "client.close(1)\n"
    )
    assert "forked" in run(code, url).stdout


def test_what_was_submitted_is_finished_when_the_program_ends(url: str) -> None:
    code = (
        "import sys, cosy_sync\n"
        "client = cosy_sync.CosyClient(sys.argv[1])\n"
        "client.submit('最后一句话', callback=lambda f: print(f.result().duration > 0))\n"
    )
    assert run(code, url).stdout.strip() == "True"


def test_the_interpreter_does_not_hang_at_exit_on_a_silent_server() -> None:
    code = (
        "import sys, time, cosy_sync\n"
        "client = cosy_sync.CosyClient(sys.argv[1])\n"
        "future = client.submit('没有人回答')\n"
        "while client.stats().connections_open == 0: time.sleep(0.001)\n"
        "print('leaving')\n"
    )
    with Server(ServerConfig(latency=0, faults={"stall": 1.0})) as server:
        started = time.monotonic()
        done = run(code, server.url)
    assert done.stdout.strip() == "leaving", done.stderr
    assert time.monotonic() - started < 20  # first_byte alone would be 30 s


def test_a_killed_client_leaves_the_server_able_to_serve_the_next(url: str) -> None:
    code = (
        "import sys, cosy_sync\n"
        "client = cosy_sync.CosyClient(sys.argv[1], batch_size=1)\n"
        "texts = (f'第{n}句话在这里' for n in range(10**6))\n"
        "for n, outcome in enumerate(client.synth_iter(texts)):\n"
        "    if n == 50: print('speaking', flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"speaking\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    child.stdout.close()
    done = run("import sys, cosy_sync; print(cosy_sync.CosyClient(sys.argv[1]).synth('你好'))", url)
    assert done.stdout.startswith("<Audio wav"), done.stderr


STALLED = """
import signal, sys, threading
import cosy_sync

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
client = cosy_sync.CosyClient(sys.argv[1])
ways = {
    "synth": lambda: client.synth("你好呀"),
    "synth_many": lambda: client.synth_many(["你好呀"] * 100),
    "submit": lambda: client.submit("你好呀").result(),
    "nothing": lambda: threading.Event().wait(),
}
print("ready", flush=True)
ways[sys.argv[2]]()
"""


def test_a_process_that_is_told_to_stop_while_the_service_stalls_ends_within_5_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=200) as service:
        url = f"http://127.0.0.1:{service.getsockname()[1]}/batch"
        children = [
            subprocess.Popen(
                [sys.executable, "-c", STALLED, url, way], stdout=subprocess.PIPE, text=True
            )
            for way in ("nothing", "synth", "synth_many", "submit")
        ]
        try:
            for child in children:
                assert child.stdout is not None
                assert child.stdout.readline() == "ready\n"
            time.sleep(0.5)
            told = time.monotonic()
            for child in children:
                child.terminate()
            took = []
            for child in children:
                child.communicate(timeout=60)
                took.append(time.monotonic() - told)
            # The promise itself, beside a process that has nothing to end on the same machine.
            assert took[-1] - took[0] < 5.0
            assert [child.returncode for child in children] == [0] * 4
        finally:
            for child in children:
                child.kill()
                child.wait()
