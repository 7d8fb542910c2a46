"""The page on voices says of every wire what it really takes, and its examples run."""

import os
import re
import subprocess
import sys
from array import array
from pathlib import Path

from wires import Case, cases

from cosy_sync.models import wav_header

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/voices.md").read_text("utf-8")


def row(case: Case) -> str:
    can = case.capabilities
    low, high = can.reference_rates
    words = ["yes" if way in can.voices else "no" for way in ("name", "reference", "instruction")]
    rates = f"{low} Hz" if low == high else f"{low} to {high} Hz"
    last = f" {rates} |" if "reference" in can.voices else " |"
    name = f"`{case.wire or case.name}`" + (", batch route" if "-batch" in case.name else "")
    return f"| {name} | {' | '.join(words)} |{last}"


def test_the_table_says_what_each_wire_takes() -> None:
    told = re.findall(r"^\| `.*\|$", PAGE, re.MULTILINE)
    # Of a wire with two addresses that take the same, one row.
    right = [*dict.fromkeys(row(case) for case in cases())]
    assert told == right, "docs/voices.md should say:\n" + "\n".join(right)


def test_the_examples_of_the_voices_page_work(tmp_path: Path) -> None:
    samples = array("h", [(n * 977) % 20_000 - 10_000 for n in range(24_000)])
    (tmp_path / "voice.wav").write_bytes(wav_header(24_000, 1, 48_000) + samples.tobytes())
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.startswith("1.0 24000 ")
