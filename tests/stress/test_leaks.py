"""Many threads and many faults: afterwards nothing is held, open or running."""

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lanes import eventually
from served import served

import cosy_sync
from cosy_sync import CosyClient, Endpoint, RetryConfig, TimeoutConfig
from cosy_sync.server import tone_wav

# Threads, and seconds of traffic; more of both look for slow leaks: 800 and 60.
THREADS = int(os.environ.get("STRESS_THREADS", "200"))
# Above 64 connections one thread waits for all replies: epoll and its bell stay for the next time.
POLLER = 2
SECONDS = float(os.environ.get("STRESS_SECONDS", "4"))
FAULTS = [
    "reset:0.03",
    "reset-mid:0.03",
    "cut:0.03",
    "status-502:0.03",
    "stall:0.02",
    "not-json:0.02",
]


@pytest.fixture
def eager_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def speak_while(goes_on: Callable[[], bool], client: CosyClient, wrong: list[str]) -> None:
    number = 0
    while goes_on():
        number += 1
        text = f"线程{threading.get_ident()}的第{number}句"
        try:
            audio = client.synth(text) if random.random() < 0.5 else client.submit(text).result(60)
            if audio.data != tone_wav(text):
                wrong.append(text)
        except cosy_sync.CosyError:
            pass
        except BaseException as error:
            wrong.append(repr(error))
            raise


@pytest.mark.timeout(90 + 2 * SECONDS)
def test_after_a_storm_of_faults_nothing_is_left(eager_switching: None) -> None:
    options = ["--latency", "0.01", "--rate", "0", "--max-connections", "0"]
    for fault in FAULTS:
        options += ["--fault", fault]
    before, wrong = descriptors(), []
    with served(*options) as url:
        client = CosyClient(
            Endpoint(url, max_connections=THREADS, rate=1e5),
            deadline=2.0,
            timeouts=TimeoutConfig(first_byte=0.2, idle=0.2),
            retry=RetryConfig(base=0.01),
        )
        storm = threading.Event()
        threads = [
            threading.Thread(target=speak_while, args=(storm.is_set, client, wrong))
            for _ in range(THREADS)
        ]
        storm.set()
        for thread in threads:
            thread.start()
        time.sleep(SECONDS)
        # How many of each there are by then depends on the machine.
        eventually(lambda: client.stats().texts_ok > 0 and client.stats().errors)
        storm.clear()
        for thread in threads:
            thread.join(60)
        # A text may end at its deadline a moment before its last request does.
        eventually(lambda: client.stats().in_flight == 0)
        engine = client._core.engine()
        eventually(lambda: engine._memory.used == engine._submitted.used == 0)
        stats = client.stats()
        assert wrong == []
        assert stats.connections_open == stats.connections_idle <= THREADS
        client.close()
    assert client.stats().connections_open == 0
    eventually(lambda: descriptors() <= before + POLLER)
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("cosy-")])


@pytest.mark.timeout(90 + 2 * SECONDS)
def test_closing_in_the_middle_of_a_storm_ends_everything() -> None:
    before = descriptors()
    options = ["--latency", "0.2", "--rate", "0", "--max-connections", "0", "--fault", "stall:0.2"]
    with served(*options) as url:
        client = CosyClient(Endpoint(url, max_connections=THREADS, rate=1e5), batch_size=1)
        ended: list[BaseException] = []

        def speak() -> None:
            try:
                for number in range(10_000):
                    client.synth_many([f"第{number}句{n}号" for n in range(5)], on_error="return")
            except cosy_sync.ClosedError as error:
                ended.append(error)

        threads = [threading.Thread(target=speak) for _ in range(THREADS // 4)]
        for thread in threads:
            thread.start()
        middle = time.monotonic() + SECONDS / 2
        while client.stats().texts_ok < 50 or time.monotonic() < middle:
            time.sleep(0.01)
        client.close(timeout=0.1)
        for thread in threads:
            thread.join(30)
    assert len(ended) == THREADS // 4
    assert client.stats().in_flight == 0 and client.stats().connections_open == 0
    assert descriptors() <= before + POLLER


@pytest.mark.timeout(120)
def test_a_long_lazy_call_holds_its_memory() -> None:
    options = ["--latency", "0", "--rate", "0", "--audio-bytes", "32768"]
    with served(*options) as url, CosyClient(Endpoint(url, rate=1e5)) as client:
        client.synth("先说一句话")
        start = most = resident()
        texts = (f"第{number}句话，请大家保持安静" for number in range(10_000))
        for count, outcome in enumerate(client.synth_iter(texts)):
            assert outcome.ok
            if count % 500 == 0:
                most = max(most, resident())
        assert most - start < 100 << 20
