"""200 web threads, a text at a time: they share requests, and nobody gets another's audio."""

import threading
import time

import pytest
from served import served

import cosy_sync
from cosy_sync import CosyClient, Endpoint
from cosy_sync.server import tone_wav

THREADS = 200
SECONDS = 4.0
# Of the service: 200 ms a request, 50 connections, 100 requests/s.
SERVICE = ("--engine", "tone", "--latency", "0.2", "--max-connections", "50", "--rate", "100")


class Callers:
    """Threads that call synth again and again, and what came of it."""

    def __init__(self, client: CosyClient, seconds: float) -> None:
        self.client = client
        self.until = time.monotonic() + seconds
        self.start = threading.Barrier(THREADS)
        self.latencies: list[float] = []
        self.errors: list[BaseException] = []
        self.wrong: list[str] = []
        self.threads = [threading.Thread(target=self._run, args=(n,)) for n in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def _run(self, number: int) -> None:
        self.start.wait(30)
        turn = 0
        while time.monotonic() < self.until:
            turn += 1
            # Every tenth text is one that others ask for at the same time.
            text = f"第{number}位司机的第{turn}句" if number % 10 else f"大家的第{turn}句"
            started = time.monotonic()
            try:
                audio = self.client.synth(text)
            except cosy_sync.CosyError as error:
                self.errors.append(error)
                if isinstance(error, cosy_sync.ClosedError):
                    return
                continue
            self.latencies.append(time.monotonic() - started)
            if audio.data != tone_wav(text):
                self.wrong.append(text)

    def join(self) -> None:
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.timeout(120)
def test_200_threads_share_requests_and_each_gets_its_own_audio() -> None:
    with served(*SERVICE) as url, CosyClient(Endpoint(url)) as client:
        callers = Callers(client, SECONDS)
        callers.join()
        stats = client.stats()
    assert callers.errors == [] and callers.wrong == []
    assert stats.texts_ok == len(callers.latencies) > THREADS * 3
    assert stats.texts_shared > 0 and stats.in_flight == 0
    # Without sharing it would be 1. How many there are on a quiet machine is in the benchmarks.
    assert (stats.texts_ok - stats.texts_shared) / stats.requests >= 5


@pytest.mark.timeout(120)
def test_closing_in_the_middle_ends_every_call_and_leaves_nothing() -> None:
    before = set(threading.enumerate())
    with served(*SERVICE) as url:
        client = CosyClient(Endpoint(url))
        callers = Callers(client, 60.0)
        while len(callers.latencies) < THREADS:
            time.sleep(0.01)
        futures = [client.submit(f"最后的第{number}句") for number in range(100)]
        client.close(0)
        callers.join()
        assert all(future.done() for future in futures)
    assert callers.wrong == []
    assert {type(error) for error in callers.errors} == {cosy_sync.ClosedError}
    assert len(callers.errors) == THREADS
    assert client.stats().in_flight == 0
    limit = time.monotonic() + 10
    while {t for t in threading.enumerate() if t.name.startswith("cosy")} - before:
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.timeout(120)
def test_short_deadlines_among_others_hurt_only_themselves() -> None:
    with served(*SERVICE) as url, CosyClient(Endpoint(url)) as client:
        callers = Callers(client, SECONDS)
        hasty = client.with_options(deadline=0.05)
        late = 0
        while time.monotonic() < callers.until:
            with pytest.raises(cosy_sync.DeadlineError):
                hasty.submit(f"急的第{late}句").result(30)
            late += 1
        callers.join()
    assert callers.errors == [] and callers.wrong == []
    assert late > 5
