"""Benchmark `dashscope_ws`: texts one after the other over WebSocket, ours and Alibaba's SDK."""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.stage import parse_options, write_result
from benchmarks.table import Table, number, spread
from benchmarks.target import Results, Target, Values, judged
from benchmarks.task import Place
from benchmarks.upstream.embedded import serve_embedded
from cosy_sync import CosyClient, Endpoint

__all__ = ["TARGETS", "main"]

_TITLE = "Texts one after the other over WebSocket, 20 ms of work at the server"
_PLACE = Place(form="plain", size=48_000, latency=0.02)
_MODEL, _VOICE = "cosyvoice-v3-flash", "longanyang"
_PATH = "/api-ws/v1/inference"
# Of the rows in which each text costs a connection, this many times fewer.
_FEWER = 10

Speak = Callable[[str], object]


@contextmanager
def _ours(url: str) -> Iterator[Speak]:
    endpoint = Endpoint(url, rate=100_000)
    with CosyClient(endpoint, wire="dashscope_ws", model=_MODEL, voice=_VOICE) as client:
        yield client.synth


@contextmanager
def _sdk(url: str) -> Iterator[Speak]:
    from dashscope.audio.tts_v2 import AudioFormat, SpeechSynthesizer

    pcm = AudioFormat.PCM_24000HZ_MONO_16BIT

    def speak(text: str) -> object:
        return SpeechSynthesizer(_MODEL, _VOICE, format=pcm, url=url).call(text)

    yield speak


@contextmanager
def _sdk_pool(url: str) -> Iterator[Speak]:
    from dashscope.audio.tts_v2 import AudioFormat, SpeechSynthesizerObjectPool

    pcm = AudioFormat.PCM_24000HZ_MONO_16BIT
    pool = SpeechSynthesizerObjectPool(max_size=1, url=url)

    def speak(text: str) -> object:
        made = pool.borrow_synthesizer(_MODEL, _VOICE, format=pcm)
        audio = made.call(text)
        pool.return_synthesizer(made)
        return audio

    yield speak
    pool.shutdown()


# Label -> how it speaks, and by how much fewer texts.
OURS = "cosy_sync"
_ROWS: dict[str, tuple[Any, int]] = {
    OURS: (_ours, 1),
    "dashscope, its pool": (_sdk_pool, 1),
    "dashscope": (_sdk, _FEWER),
}


def _above(results: Results) -> Values:
    return [run["above_ms"] for run in results["dashscope_ws"]["runs"][OURS]]


TARGETS = (Target("dashscope_ws: each text above the server's time", 10, 3, _above, "ms", False),)


def main(argv: Sequence[str] | None = None) -> None:
    """Run A B C, A B C, ..., print the table, write the JSON."""
    options = parse_options(_TITLE, argv, seconds=0.0, texts=200, runs=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dashscope
    dashscope.api_key = "of no meaning here"
    machine = describe_machine()
    measured: dict[str, list[dict[str, Any]]] = {label: [] for label in _ROWS}
    with serve_embedded([_PLACE]) as urls:
        url = urls[_PLACE.name][0].replace("http", "ws", 1).replace("/batch", _PATH)
        for run in range(options.runs):
            for label, (open_speaker, fewer) in _ROWS.items():
                print(f"  dashscope_ws {run + 1}/{options.runs} {label}", file=sys.stderr)
                with open_speaker(url) as speak:
                    measured[label].append(_measure(speak, max(5, options.texts // fewer)))
    rows = [_row(label, reports) for label, reports in measured.items()]
    columns = ["client", "ms above the server", "p50 ms", "p99 ms", "CPU us/text"]
    table = Table(_TITLE, columns, rows)
    print(table.markdown(), end="\n\n")
    result = {"upstream": "the embedded server", "paired_runs": options.runs, "runs": measured}
    verdict = judged("Targets", TARGETS, {"dashscope_ws": result})
    print(verdict.markdown(), end="\n\n")
    write_result("dashscope_ws", _TITLE, {**result, "machine": machine}, [table, verdict])


def _measure(speak: Speak, texts: int) -> dict[str, Any]:
    speak("热身。")
    times, cpu = [], time.process_time()
    for index in range(texts):
        began = time.perf_counter()
        assert speak(f"第{index}位司机，前方路口请左转。")
        times.append(1000 * (time.perf_counter() - began))
    cpu = time.process_time() - cpu
    times.sort()
    return {
        "above_ms": statistics.fmean(times) - 1000 * _PLACE.latency,
        "p50_ms": times[len(times) // 2],
        "p99_ms": times[int(0.99 * (len(times) - 1))],
        "cpu_us": 1e6 * cpu / texts,
    }


def _row(label: str, reports: list[dict[str, Any]]) -> list[str]:
    middle = statistics.median(report["p50_ms"] for report in reports)
    return [
        label,
        spread(reports, "above_ms"),
        number(middle),
        spread(reports, "p99_ms"),
        spread(reports, "cpu_us"),
    ]


if __name__ == "__main__":
    main()
