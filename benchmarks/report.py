"""RESULTS.md: the machine, the targets, and every table, out of results/*.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.stage import RESULTS
from benchmarks.table import Table
from benchmarks.targets import judge

__all__ = ["CASES", "write_report"]

CASES = ("transport", "single", "job", "texts", "paced", "cost", "policies", "million")
# Run one by one, each when it is wanted.
OTHERS = (
    "headline",
    "survival",
    "coalesce",
    "cache",
    "wires",
    "dashscope_ws",
    "streaming",
    "choices",
)
_PATH = Path(__file__).resolve().parent / "RESULTS.md"

_READING = """\
Medians over paired runs (A B C, A B C, ...), least and most in brackets; `x` is the median of the
runs' own ratios to the row where it is 1. [README.md](README.md) says how to read the columns, and
what is and is not tuned."""


def write_report() -> Path:
    """Write RESULTS.md from what lies in results/."""
    found, others = _load(CASES), _load(OTHERS)
    blocks = ["# Results", "Made by `benchmarks/run`.", *_machine(found), judge().markdown()]
    blocks.append(_READING)
    for result in found:
        blocks += _section(result)
    blocks.append("# Further results\n\nMade one by one, by their own commands, at other times.")
    for result in others:
        blocks += _section(result)
    _PATH.write_text("\n\n".join(blocks) + "\n", "utf-8")
    return _PATH


def _load(names: Sequence[str]) -> list[dict[str, Any]]:
    paths = [RESULTS / f"{name}.json" for name in names]
    return [json.loads(path.read_text("utf-8")) for path in paths if path.exists()]


def _machine(results: list[dict[str, Any]]) -> Iterator[str]:
    if not results:
        return
    machine = results[0]["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    yield (
        f"{machine['cores']} cores of {machine['model']}, Linux {machine['kernel']}, "
        f"{machine['python']}. {versions}."
    )
    yield (
        "Each client runs in a process of its own, on the first core where a title does not say "
        f"that it is free; the upstream on the last: {results[0]['upstream']}."
    )
    commits = sorted({each["machine"].get("commit", "not noted") for each in results})
    yield f"Commit measured: {', '.join(commits)}."
    runs = [f"{each['case']} {each['paired_runs']}" for each in results if "paired_runs" in each]
    yield f"Paired runs: {', '.join(runs)}."
    busy = [f"{result['case']} {result['machine']['busy_before']:.0%}" for result in results]
    yield f"Share of all cores that others used in the second before each case: {', '.join(busy)}."


def _section(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {result['case']}"
    command = f"`python -m benchmarks.{result['case']}`"
    yield f"{result['title']}. Upstream: {result['upstream']}. {command}"
    for table in result["tables"]:
        yield Table(**table).markdown()


if __name__ == "__main__":
    print(f"wrote {write_report()}")
