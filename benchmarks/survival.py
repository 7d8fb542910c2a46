"""Benchmark `survival`: what the client does when the service fails, measured in real time."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.rows import COLUMNS, Row
from benchmarks.sharing import redis_killed, shared_limit
from benchmarks.slow_start import fast_service, slow_service
from benchmarks.stage import parse_options, write_result
from benchmarks.table import Table
from benchmarks.upstream.limited import serve_limited, stats_of
from cosy_sync import CosyClient, CosyError, Endpoint, Event, Outcome, RetryConfig
from cosy_sync.events import AttemptFinished

__all__ = ["main"]

_TITLE = "When the service fails: the embedded server in a process of its own, 200 ms latency"
_FREE = ("--max-connections", "0", "--rate", "0")
_AUDIO = ("--audio-bytes", "24000")


@dataclass
class _Sends:
    """An observer: when each call was sent, how many texts it held, how it ended."""

    calls: list[tuple[float, int, bool]] = field(default_factory=list)

    def on_event(self, event: Event) -> None:
        """Note a call; list.append is atomic."""
        if isinstance(event, AttemptFinished):
            self.calls.append((event.timing.started, event.texts, event.error is None))

    def texts(self, since: float = -math.inf, until: float = math.inf) -> int:
        """Count the texts sent in a span."""
        return sum(texts for at, texts, _ in self.calls if since <= at < until)

    def busiest(self, length: float) -> float:
        """Return the most texts per second in any stretch of this length."""
        instants = sorted((at, texts) for at, texts, _ in self.calls)
        most = first = held = 0
        for at, texts in instants:
            held += texts
            while at - instants[first][0] >= length:
                held -= instants[first][1]
                first += 1
            most = max(most, held)
        return most / length


# -- work -----------------------------------------------------------------------------------------


def _sentences() -> Iterator[str]:
    count = 0
    while True:
        count += 1
        yield f"请第{count:08d}号车辆注意前方路口"


def _texts_for(seconds: float) -> Iterator[str]:
    until = time.monotonic() + seconds
    for text in _sentences():
        if time.monotonic() >= until:
            return
        yield text


def _bulk(client: CosyClient, seconds: float) -> tuple[list[Outcome], list[float]]:
    """Speak for so many seconds; return the outcomes and when each was handed out."""
    outcomes, times = [], []
    for outcome in client.synth_iter(_texts_for(seconds)):
        outcomes.append(outcome)
        times.append(time.monotonic())
    return outcomes, times


@dataclass(frozen=True)
class _Answer:
    """What became of one text of an open loop."""

    arrived: float
    took: float
    error: BaseException | None


def _open_loop(client: CosyClient, rate: float, seconds: float) -> list[_Answer]:
    """Submit texts evenly, whatever becomes of them; wait for all."""
    answers: list[_Answer] = []
    began, texts = time.monotonic(), _sentences()
    count = int(rate * seconds)

    def offer(at: float) -> None:
        def ended(future: Any) -> None:
            answers.append(_Answer(at, time.monotonic() - at, future.exception()))

        client.submit(next(texts), ended)

    for place in range(count):
        time.sleep(max(0.0, began + place / rate - time.monotonic()))
        offer(began + place / rate)
    while len(answers) < count:
        time.sleep(0.01)
    return sorted(answers, key=lambda answer: answer.arrived)


def _share_ok(answers: Sequence[_Answer], since: float = -math.inf) -> float:
    counted = [answer for answer in answers if answer.arrived >= since]
    return 100 * sum(answer.error is None for answer in counted) / len(counted)


def _p99(answers: Sequence[_Answer]) -> float:
    waits = sorted(answer.took for answer in answers)
    return waits[int(0.99 * (len(waits) - 1))]


# -- situations -----------------------------------------------------------------------------------


def _random_failures_bulk(seconds: float) -> list[Row]:
    name = "30 % of requests fail, bulk"
    rows, rates = [], []
    for fault, retries, least in (("", 3, 0.0), ("0.3", 3, 99.0), ("0.3", 6, 99.9)):
        sends = _Sends()
        options = ("--fault", f"status-502:{fault}") if fault else ()
        with serve_limited(*_AUDIO, *_FREE, *options) as url:
            retry = RetryConfig(max_retries=retries)
            with CosyClient(url, observers=[sends], batch_size=1, retry=retry) as client:
                outcomes, _ = _bulk(client, seconds if fault else seconds / 3)
        rates.append(sends.busiest(1.0))
        if not fault:
            continue
        done = 100 * sum(outcome.ok for outcome in outcomes) / len(outcomes)
        total = sends.texts() / len(outcomes)
        rows.append(Row(name, f"texts done, {retries} retries", least, done, unit="%"))
        rows.append(Row(name, "sends per text over 1/0.7", 1.05, total * 0.7, most=True))
        growth = rates[-1] / rates[0]
        rows.append(Row(name, "busiest second over the same without faults", 1.1, growth, True))
    return rows


def _random_failures_interactive(seconds: float) -> list[Row]:
    name, offered = "30 % of requests fail, interactive, open loop at half the limit", 50.0
    sends = _Sends()
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(serve_limited(*_AUDIO, *_FREE, "--fault", "status-502:0.3"))
        client = stack.enter_context(CosyClient(url, observers=[sends], batch_size=1))
        answers = _open_loop(client, offered, seconds)
    failed = [answer for answer in answers if answer.error is not None]
    own = sum(getattr(answer.error, "status", None) == 502 for answer in failed)
    return [
        Row(name, "texts sent over texts offered", 1.1, sends.texts() / len(answers), most=True),
        Row(name, "succeed", 75.0, _share_ok(answers), unit="%"),
        Row(name, "of the others, with the server's own error", 95.0, 100 * own / len(failed)),
        Row(name, "p99 of those that fail", 2.0, _p99(failed), most=True, unit="s"),
    ]


def _outage(seconds: float) -> list[Row]:
    name = f"outage of {seconds:g} s, bulk, deadline 120 s"
    sends, start = _Sends(), 10.0
    with serve_limited(*_AUDIO, *_FREE, "--outage", f"{start}:{seconds}:status-503") as url:
        began = time.monotonic()
        with CosyClient(url, observers=[sends], batch_size=1, deadline=120.0) as client:
            outcomes, _ = _bulk(client, start + seconds + 60.0)
    good = sorted(at + 0.2 for at, _, ok in sends.calls if ok)
    back = began + start + seconds
    before = sum(began + 2 <= at < began + start for at in good) / (start - 2)
    first = min(at for at in good if at > back)
    after = sum(first + 15 <= at < first + 20 for at in good) / 5
    during = sends.texts(began + start + 1, back) / (seconds - 1)
    return [
        Row(name, "traffic during it over before", 0.1, during / before, most=True),
        Row(name, "first success after the return", 35.0, first - back, most=True, unit="s"),
        Row(name, "goodput 15 s after that", 95.0, 100 * after / before, unit="%"),
        Row(name, "texts done", 100.0, 100 * sum(o.ok for o in outcomes) / len(outcomes), unit="%"),
    ]


def _late_start(seconds: float) -> list[Row]:
    rows = []
    for texts, size in ((1, 64), (64, 64), (300, 64), (10, 1), (300, 1)):
        name = f"away for {seconds:g} s from the start, {texts} texts in batches of {size}"
        sends = _Sends()
        with serve_limited(*_AUDIO, *_FREE, "--outage", f"0:{seconds}:refuse") as url:
            back = time.monotonic() + seconds
            with CosyClient(url, observers=[sends], batch_size=size) as client:
                sentences = [text for text, _ in zip(_sentences(), range(texts), strict=False)]
                outcomes = client.synth_many(sentences, on_error="return")
        late = time.monotonic() - back
        calls = sum(at < back for at, _, _ in sends.calls)
        done = 100 * sum(outcome.ok for outcome in outcomes) / texts
        rows.append(Row(name, "texts done", 100.0, done, unit="%"))
        rows.append(Row(name, "the last text after the return", 6.0, late, most=True, unit="s"))
        rows.append(Row(name, "requests during it", 80.0, calls, most=True))
    return rows


def _shortage(seconds: float) -> list[Row]:
    name, start, length = "capacity falls to 30 % for 5 s, interactive at 80 % load", 10.0, 5.0
    sends = _Sends()
    limits = ("--max-connections", "0", "--rate", "100", "--shortage", f"{start}:{length}:0.3")
    with serve_limited(*_AUDIO, *limits) as url:
        began = time.monotonic()
        with CosyClient(url, observers=[sends], batch_size=1) as client:
            answers = _open_loop(client, 80.0, start + length + seconds)
    late = began + start + length + 15.0
    return [
        Row(name, "succeed from 15 s after it", 95.0, _share_ok(answers, late), unit="%"),
        Row(name, "traffic over the offered, busiest 10 s", 1.1, sends.busiest(10.0) / 80, True),
        Row(name, "traffic over the offered, busiest second", 1.1, sends.busiest(1.0) / 80, True),
    ]


def _lost_endpoint(fault: str, seconds: float) -> list[Row]:
    name, start = f"one of 4 endpoints: {fault}", 8.0
    with contextlib.ExitStack() as stack:
        trouble = ("--outage", f"{start}:1000:{fault}")
        urls = [
            stack.enter_context(serve_limited(*_AUDIO, *_FREE, *(trouble if place == 0 else ())))
            for place in range(4)
        ]
        began = time.monotonic()
        client = stack.enter_context(CosyClient([Endpoint(url) for url in urls], batch_size=1))
        answers = _open_loop(client, 150.0, start + seconds)
    normal = [a for a in answers if began + 2 <= a.arrived < began + start - 2]
    later = [a for a in answers if a.arrived >= began + start + 5]
    return [
        Row(name, "succeed", 99.9, _share_ok(answers), unit="%"),
        Row(name, "p99 from 5 s later over normal", 2.0, _p99(later) / _p99(normal), most=True),
    ]


def _web_threads(seconds: float) -> list[Row]:
    name, latency, took = "200 web threads, synth one text at a time", 0.2, list[_Answer]()
    until = time.monotonic() + seconds

    def speak(client: CosyClient, number: int) -> None:
        count = 0
        while time.monotonic() < until:
            started, error = time.monotonic(), None
            count += 1
            try:
                client.synth(f"请第{number * 100_000 + count:08d}号车辆注意前方路口")
            except CosyError as failure:
                error = failure
            took.append(_Answer(started, time.monotonic() - started, error))

    with serve_limited(*_AUDIO) as url, CosyClient(url) as client:
        threads = [threading.Thread(target=speak, args=(client, n)) for n in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stats = stats_of(url)
    return [
        Row(name, "texts per request", 20.0, stats["texts"] / stats["requests"]),
        Row(name, "p99 over the server's latency", 2.5, _p99(took) / latency, most=True),
        Row(name, "succeed", 100.0, _share_ok(took), unit="%"),
    ]


def _limit_used(seconds: float) -> list[Row]:
    name = "limit of 100/s, one client"
    with serve_limited(*_AUDIO) as url, CosyClient(url, batch_size=1) as client:
        outcomes, times = _bulk(client, seconds)
        stats = stats_of(url)
    steady = [at for at in times if times[0] + 1 <= at < times[0] + seconds - 1]
    return [
        Row(name, "accepted requests/s", 98.0, len(steady) / (seconds - 2)),
        Row(name, "refused", 0.1, 100 * stats["throttled"] / stats["requests"], True, "%"),
        Row(name, "texts done", 100.0, 100 * sum(o.ok for o in outcomes) / len(outcomes), unit="%"),
    ]


_SITUATIONS: Sequence[tuple[str, Callable[[float], list[Row]], float]] = (
    ("failing-bulk", _random_failures_bulk, 60.0),
    ("failing-interactive", _random_failures_interactive, 60.0),
    ("outage", _outage, 20.0),
    ("late-start", _late_start, 4.0),
    ("shortage", _shortage, 30.0),
    ("dies", lambda seconds: _lost_endpoint("refuse", seconds), 20.0),
    ("stalls", lambda seconds: _lost_endpoint("stall", seconds), 20.0),
    ("garbage", lambda seconds: _lost_endpoint("not-json", seconds), 20.0),
    ("web-threads", _web_threads, 30.0),
    ("limit", _limit_used, 30.0),
    ("shared", shared_limit, 30.0),
    ("redis", redis_killed, 20.0),
    ("slow-service", slow_service, 1.0),
    ("fast-service", fast_service, 1.0),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Meet every situation once, print the table, write the JSON."""
    options = parse_options(_TITLE, argv, seconds=1.0, texts=0, runs=1)
    machine = describe_machine()
    rows: list[list[str]] = []
    for key, situation, seconds in _SITUATIONS:
        if options.only in key:
            found = situation(seconds)
            rows += [row.cells() for row in found]
            print(Table("", list(COLUMNS), [row.cells() for row in found]).markdown(), flush=True)
    table = Table(_TITLE, list(COLUMNS), rows)
    upstream = "the embedded server in a process of its own"
    write_result("survival", _TITLE, {"upstream": upstream, "machine": machine}, [table])


if __name__ == "__main__":
    main()
