"""Ctrl-C and fork in the middle of shared batches, in processes of their own."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from cosy_sync.server import Server, ServerConfig


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Server(ServerConfig(engine="tone", latency=0.2)) as server:
        yield server.url


def run(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


INTERRUPTS = """
import queue, signal, sys, threading, time
from cosy_sync import CosyClient

client = CosyClient(sys.argv[1])
client.synth("先说一句")  # an import that Ctrl-C hits may lock up the interpreter's imports
lost, spoken, over = [], [], threading.Event()

def speak(number):
    turn = 0
    while not over.is_set():
        turn += 1
        try:
            spoken.append(client.synth(f"第{number}位的第{turn}句"))
        except BaseException as error:
            lost.append(error)

threads = [threading.Thread(target=speak, args=(number,)) for number in range(20)]
for thread in threads:
    thread.start()
asked = queue.SimpleQueue()

def interrupt():
    for turn in range(25):
        asked.get()
        time.sleep(0.009 * turn)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

threading.Thread(target=interrupt).start()
interrupts = 0
for turn in range(25):
    try:
        asked.put(turn)
        # Now it waits itself, now it goes on.
        (client.synth if turn % 2 else client.submit)(f"主线程的第{turn}句")
        time.sleep(20)
    except KeyboardInterrupt:
        interrupts += 1
before = len(spoken)
time.sleep(1.0)
over.set()
for thread in threads:
    thread.join(20)
print(interrupts, lost, len(spoken) - before >= 20)
client.close(5)
print([thread.name for thread in threading.enumerate()])
"""


def test_ctrl_c_on_the_main_thread_never_hurts_the_texts_of_others(url: str) -> None:
    done = run(INTERRUPTS, url)
    assert done.stdout.splitlines() == ["25 [] True", "['MainThread']"], done.stderr


FORK = """
import os, sys, threading, time
from cosy_sync import CosyClient

client = CosyClient(sys.argv[1])
over = threading.Event()
client.synth("先说一句")  # what is imported on first use is there

def speak(number):
    turn = 0
    while not over.is_set():
        turn += 1
        client.synth(f"第{number}位的第{turn}句")

threads = [threading.Thread(target=speak, args=(number,)) for number in range(30)]
for thread in threads:
    thread.start()
codes = []
for turn in range(5):
    time.sleep(0.05)
    pid = os.fork()
    if pid == 0:
        # The same text may be under way in the parent: nobody there will tell the child.
        futures = [client.submit(f"第{number}位的第{turn}句") for number in range(30)]
        good = client.synth("孩子说话").duration > 0
        os._exit(0 if good and all(future.result(20) for future in futures) else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
over.set()
for thread in threads:
    thread.join(20)
client.close()
print(codes)
"""


def test_children_forked_while_batches_are_shared_speak_for_themselves(url: str) -> None:
    done = run(FORK, url)
    assert done.stdout.strip() == "[0, 0, 0, 0, 0]", done.stderr


def test_a_program_that_ends_with_futures_under_way_ends_at_once(url: str) -> None:
    code = (
        "import sys, cosy_sync\n"
        "client = cosy_sync.CosyClient(sys.argv[1])\n"
        "futures = [client.submit(f'第{n}句话') for n in range(100)]\n"
        "futures[0].add_done_callback(lambda f: print('spoken', f.result().duration > 0))\n"
    )
    done = run(code, url)
    assert (done.returncode, done.stdout) == (0, "spoken True\n"), done.stderr
