"""The example notebook: its cells run in order, and each ends with what it shows."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from cosy_sync import Audio
from cosy_sync.testing import Server

EXAMPLE = Path(__file__).parents[2] / "examples" / "notebook"


def run_cell(code: str, names: dict[str, Any]) -> Any:
    """Run a cell; return what a notebook shows of it: its last line, if that is an expression."""
    *lines, last = ast.parse(code).body
    shows = isinstance(last, ast.Expr) and not isinstance(last.value, ast.Call)
    exec(compile(ast.Module([*lines, *([] if shows else [last])], []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if shows else None


def test_the_cells_of_the_example_run_and_show_players_and_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("numpy", reason="needs numpy (extra test)")
    book = json.loads((EXAMPLE / "speech.ipynb").read_text("utf-8"))
    cells = ["".join(each["source"]) for each in book["cells"] if each["cell_type"] == "code"]
    names: dict[str, Any] = {}
    with Server(latency=0) as server:
        monkeypatch.setenv("COSY_SYNC_URL", server.url)
        audio, outcomes, narration, nothing = [run_cell(cell, names) for cell in cells]
    assert isinstance(audio, Audio) and nothing is None
    assert [(each.id, each.ok) for each in outcomes] == [
        ("a1", True),
        ("a2", True),
        ("empty", False),
    ]
    for shown in (audio, outcomes, narration):
        assert "<audio controls" in shown._repr_html_()
    assert names["client"].closed and "of full scale" in capsys.readouterr().out


def test_the_example_holds_no_output_and_a_short_readme() -> None:
    book = json.loads((EXAMPLE / "speech.ipynb").read_text("utf-8"))
    assert not any(each.get("outputs") or each.get("execution_count") for each in book["cells"])
    assert len((EXAMPLE / "README.md").read_text("utf-8").splitlines()) <= 12
