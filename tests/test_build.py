"""What builds and checks the project names things that are there."""

import re
from pathlib import Path

import pytest

from benchmarks.cost import dearer

ROOT = Path(__file__).parents[1]
NOXFILE = (ROOT / "noxfile.py").read_text("utf-8")
SESSIONS = set(re.findall(r"^@nox\.session.*\n(?:@.*\n)*def (\w+)", NOXFILE, re.MULTILINE))
CI = (ROOT / ".ci" / "run").read_text("utf-8")
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")


def test_ci_runs_the_readmes_test_command() -> None:
    assert re.search(r"python -m pytest -n 4$", (ROOT / "README.md").read_text("utf-8"), re.M)
    assert "grep -m 1 'python -m pytest -n 4$' README.md" in CI


def test_every_session_that_is_named_is_there() -> None:
    named = re.findall(r"^\.venv/bin/nox -s ([\w. -]+?)(?: -- .*)?$", CI, re.MULTILINE)
    ran = {name.split("-")[0] for names in named for name in names.split()}
    assert {"lint", "types", "cost", "coverage", "wheel"} <= ran <= SESSIONS
    told = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert set(re.findall(r"`nox -s (\w+)`", told)) <= SESSIONS


def test_all_that_ci_installs_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text("utf-8")
    pinned = {line.partition("==")[0] for line in pins.splitlines() if "==" in line}
    wanted = {
        re.sub(r"[-_.]+", "-", name).lower()
        for part in ("dependencies", "server", "speed", "test", "lint")
        for block in re.findall(rf"^{part} = \[(.*?)\]\n", PYPROJECT, re.DOTALL | re.MULTILINE)
        for name in re.findall(r'"([\w-]+)', block)
    }
    assert len(wanted) > 30 and wanted <= pinned, sorted(wanted - pinned)
    assert not re.search(r"https?:|--", pins)


def test_every_extra_is_tried_alone() -> None:
    block = re.search(r"^\[project\.optional-dependencies\]\n(.*?)^\[", PYPROJECT, re.S | re.M)
    assert block
    extras = set(re.findall(r"^(\w+) = \[", block[1], re.MULTILINE))
    tried = re.search(r"^ALONE.*?^}", (ROOT / "tests/alone.py").read_text("utf-8"), re.S | re.M)
    assert tried
    assert extras - {"test", "bench", "lint", "docs"} <= set(re.findall(r'"(\w+)":', tried[0]))


@pytest.mark.parametrize(("now", "fails"), [(100.0, False), (110.0, False), (111.0, True)])
def test_a_text_that_costs_a_tenth_more_fails(now: float, fails: bool) -> None:
    before = {"alone": {"Python calls": 100.0}}
    assert bool(dearer({"alone": {"Python calls": now}}, before)) is fails


def test_a_small_count_may_wait_once_more_in_ten_texts() -> None:
    before = {"batched": {"lock acquisitions": 0.27}}
    assert not dearer({"batched": {"lock acquisitions": 0.35}}, before)
    assert dearer({"batched": {"lock acquisitions": 0.40}}, before)


def test_fragments_are_of_a_kind_that_the_changelog_knows() -> None:
    kinds = set(re.findall(r'^directory = "(\w+)"$', PYPROJECT, re.MULTILINE))
    for path in (ROOT / "changelog.d").glob("*.md"):
        assert path.name == "README.md" or path.name.split(".")[-2] in kinds, path.name
