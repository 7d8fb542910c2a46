"""What a signal's handler raises, at random moments, leaves nothing taken and nobody waiting."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from subprocess import PIPE, Popen

import pytest

from cosy_sync.server import Server, ServerConfig


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Server(ServerConfig(latency=0.01, rate=0, max_connections=0)) as server:
        yield server.url


STORM = """
import random, signal, sys, threading, time
from cosy_sync import CosyClient, Endpoint

class Limit(Exception):
    pass

def handle(*_):
    raise kind

signal.signal(signal.SIGALRM, handle)
client = CosyClient(Endpoint(sys.argv[1], max_connections=8, rate=1e6), batch_size=8, deadline=20)
tenant = client.with_options(tenant="a", max_in_flight=2)
texts = [f"这是第{number}句要说的话" for number in range(60)]
client.synth_many(texts)
draw = random.Random(5)
work = [
    lambda: client.synth_many(texts),
    lambda: tenant.synth_many(texts[:20]),
    lambda: client.synth_many(texts[:3]),
    lambda: tenant.synth_many(texts[:3]),
    lambda: [future.result() for future in [client.submit(text) for text in texts[:20]]],
    lambda: list(client.synth_iter(texts[:20])),
]
lost = 0
for turn in range(300):
    kind = (KeyboardInterrupt, Limit)[turn // 6 % 2]
    inside = True
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0001 + 0.008 * draw.random())
        work[turn % 6]()
        inside = False
        time.sleep(0.02)
    except kind as error:
        outcomes = getattr(error, "outcomes", None)
        lost += inside and turn % 6 < 4 and outcomes is None
        if outcomes:
            assert len({o.index for o in outcomes}) == len(outcomes)
signal.setitimer(signal.ITIMER_REAL, 0)
print(len(client.synth_many(texts)), len(tenant.synth_many(texts)))
print(client.submit("你好吗").result(9).format, client.synth("你好").format, lost < 5)
engine = client._core.engine()
engine.drain(5)
print(client.stats().in_flight, [g._permits.used for g in engine._tenant_limits.everybody()],
      engine._submitted.used)
started = time.monotonic()
client.close(1)
print("closed in time", time.monotonic() - started < 20)
"""


def test_exceptions_of_signals_at_random_moments_lose_no_lock_no_place_and_no_worker(
    url: str,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STORM, url], capture_output=True, text=True, timeout=100
    )
    assert done.stdout.splitlines() == [
        "60 60",
        "wav wav True",
        "0 [0] 0",
        "closed in time True",
    ], done.stderr[-2000:]


FIRST = """
import sys
from cosy_sync import CosyClient
print("go", flush=True)
CosyClient(sys.argv[1]).synth_many([f"第{n}句话，前方路口请左转" for n in range(100)])
"""


@pytest.mark.parametrize("seed", range(5))
def test_ctrl_c_in_the_first_call_ends_the_program(url: str, seed: int) -> None:
    process = Popen([sys.executable, "-c", FIRST, url], stdout=PIPE, stderr=PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "go\n"
    time.sleep(random.Random(seed).uniform(0, 0.3))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


IMPORTS = """
import sys, threading
from cosy_sync import CosyClient

late = set()

def watch(event, args):
    name = threading.current_thread().name
    if event == "import" and name not in ("MainThread", "cosy-import"):
        late.add(args[0])

sys.addaudithook(watch)
with CosyClient(sys.argv[1].replace("127.0.0.1", "localhost")) as client:
    client.synth("你好，世界")
    client.synth_many([f"第{n}句话" for n in range(70)])
    client.submit("再见，世界").result()
print(late)
"""


def test_workers_import_nothing(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, url], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "set()\n", done.stderr
