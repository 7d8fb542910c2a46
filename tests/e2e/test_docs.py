"""The examples in the documents run as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def examples(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text("utf-8"), re.DOTALL)


def test_the_tests_of_the_testing_page_pass(tmp_path: Path) -> None:
    blocks = examples("docs/testing.md")
    (tmp_path / "test_page.py").write_text("\n\n".join(blocks), "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_page.py"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert f"{len(blocks)} passed" in done.stdout, done.stdout


def test_the_readmes_mock_works() -> None:
    (block,) = [block for block in examples("README.md") if "respx" in block]
    subprocess.run([sys.executable, "-c", block], check=True, timeout=60)


def test_the_examples_of_sizing_work() -> None:
    blocks = examples("docs/bench.md")
    assert len(blocks) == 2
    for block in blocks:
        subprocess.run([sys.executable, "-c", block], check=True, timeout=60)


def test_the_bench_page_tells_the_defaults() -> None:
    page = (ROOT / "docs/bench.md").read_text("utf-8")
    told = subprocess.run(
        [sys.executable, "-m", "cosy_sync", "bench", "--help"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    for option, default in (("--max-texts", 1000), ("--rate", 100), ("--connections", 50)):
        assert re.search(rf"{option} N\s[^-]*\(default:\s+{default}\)", told)
        assert re.search(rf"`{option}` \({default:,}", page)
