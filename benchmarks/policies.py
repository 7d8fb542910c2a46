"""Benchmark `policies`: what all policies together cost, encoding and decoding subtracted."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.machine import describe_machine
from benchmarks.runs import run_worker
from benchmarks.stage import parse_options, write_result
from benchmarks.table import Table, spread
from benchmarks.task import Task

__all__ = ["main"]

_TITLE = "All policies together: CPU on a network without sockets"
_LINES = (
    ("synth(), one text, on a thread of the caller's: the whole call", "synth_us"),
    ("the same on the main thread, which hands it to a worker", "synth_main_us"),
    ("  encoding, decoding, verifying alone", "codec_call_us"),
    ("  **policies, per call**", "policies_call_us"),
    ("  **policies, per call on the main thread**", "policies_main_call_us"),
    ("synth_many, batches of 64, threads: the whole text", "batch_threads_us"),
    ("synth_many, batches of 64, serial: the whole text", "batch_serial_us"),
    ("  encoding, decoding, verifying alone", "codec_text_us"),
    ("  **policies, per text, threads**", "policies_text_threads_us"),
    ("  **policies, per text, serial**", "policies_text_serial_us"),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print the table, write the JSON."""
    options = parse_options(_TITLE, argv, seconds=0.0, texts=10_000)
    machine = describe_machine()
    task = Task(texts=options.texts, in_flight=50)
    reports = [run_worker("policies", "cosy_stub", task) for _ in range(options.runs)]
    failed = [report["failed"] for report in reports if "failed" in report]
    rows = [[name, spread(reports, key)] for name, key in _LINES]
    rows += [["failed", why] for why in failed[:1]]
    table = Table(_TITLE, ["what", "CPU us: median (least..most)"], rows)
    print(table.markdown(), end="\n\n")
    data = {"upstream": "none: a stub in the process", "machine": machine, "runs": reports}
    write_result("policies", _TITLE, data, [table])


if __name__ == "__main__":
    main()
