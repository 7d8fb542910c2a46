"""Run every benchmark and write RESULTS.md: `python -m benchmarks`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.report import CASES, write_report

_ROOT = Path(__file__).resolve().parent.parent


def _main() -> None:
    """Run the cases one after the other; arguments such as --runs go to each."""
    began = time.monotonic()
    failed = []
    for case in CASES:
        print(f"== {case}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{case}", *sys.argv[1:]]
        if subprocess.run(command, cwd=_ROOT).returncode:
            failed.append(case)
    print(f"wrote {write_report()} after {(time.monotonic() - began) / 60:.1f} minutes")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; RESULTS.md shows older numbers for them, if any")


if __name__ == "__main__":
    _main()
