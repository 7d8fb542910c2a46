"""The example of the page on notebooks in a real kernel: what each cell shows."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cosy_sync.testing import Server

for package in ("nbclient", "ipykernel"):
    pytest.importorskip(package, reason=f"needs {package}, which brings all of Jupyter")
pytest.importorskip("soundfile", reason="needs the extra audio")

ROOT = Path(__file__).parents[2]
# In a process of its own: Jupyter's client has threads that it leaves behind.
EXECUTE = """
import json, sys
import nbformat
from nbclient import NotebookClient

cells = [nbformat.v4.new_code_cell(code) for code in json.load(sys.stdin)]
book = nbformat.v4.new_notebook(cells=cells)
NotebookClient(book, timeout=60, kernel_name="python3").execute()
json.dump([[dict(each) for each in cell.outputs] for cell in book.cells], sys.stdout)
"""


def test_each_cell_shows_what_the_page_says() -> None:
    page = (ROOT / "docs/notebooks.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    with Server(latency=0) as server:
        code = example.replace("http://localhost:8000/batch", server.url)
        done = subprocess.run(
            [sys.executable, "-c", EXECUTE],
            input=json.dumps([code, "audio", "outcomes", "narration"]),
            env={**os.environ, "PYTHONPATH": str(ROOT), "JUPYTER_PLATFORM_DIRS": "1"},
            capture_output=True,
            text=True,
            timeout=90,
        )
    assert done.returncode == 0, done.stderr
    drawn, audio, outcomes, narration = json.loads(done.stdout)
    assert drawn, "progress is drawn"
    assert not [each for each in drawn if each["output_type"] == "error"]
    players = [
        each[0]["data"]["text/html"].count('<audio controls preload="metadata"')
        for each in (audio, outcomes, narration)
    ]
    assert players == [1, 2, 1 + 2]
