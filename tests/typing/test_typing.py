"""Type checkers find the API as it is meant: the right lines pass, each wrong one is refused."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

API = Path(__file__).with_name("api.py")
ROOT = API.parents[2]
BIN = Path(sys.executable).parent


def run(program: str, *options: str) -> None:
    path = shutil.which(program, path=BIN) or shutil.which(program)
    if path is None:
        pytest.skip(f"needs {program}" + (" (extra lint)" if program == "mypy" else ""))
    ran = subprocess.run([path, *options, str(API)], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_mypy_finds_the_api_as_it_is_meant() -> None:
    run("mypy", "--strict", "--warn-unused-ignores")


def test_pyright_finds_the_api_as_it_is_meant() -> None:
    run("pyright", "--pythonpath", sys.executable)
