"""The recipes for programs of several processes run as they stand there."""

import importlib.util
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosy_sync import CosyClient, InvalidTextError
from cosy_sync.contrib.distributed import close_clients, speak_batch
from cosy_sync.testing import Server, tone_wav

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/distributed.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
# What each block needs, in their order, and what it prints.
RECIPES = {"multiprocessing": 8, "distributed": 8, "ray": 8, "datasets": 1}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(latency=0, rate=0, max_connections=0) as server:
        yield server
    close_clients()


def test_every_recipe_of_the_page_is_known_here() -> None:
    assert len(BLOCKS) == len(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_as_it_stands(name: str, server: Server, tmp_path: Path) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}, which is too large for the extra test")
    code = BLOCKS[list(RECIPES).index(name)].replace("http://localhost:8000/batch", server.url)
    (tmp_path / "recipe.py").write_text(code, "utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "recipe.py"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
    )
    said = [line for line in done.stdout.splitlines() if re.fullmatch(r"\d+ \d+", line)]
    assert done.returncode == 0 and len(said) == RECIPES[name], done.stderr[-2000:]
    assert all(line.split()[0] == line.split()[1] for line in said)
    assert server.stats()["texts"] == sum(int(line.split()[0]) for line in said)


def test_a_batch_comes_back_whole_from_another_process(server: Server) -> None:
    texts = ["今天天气很好。", " ", ("a7", "明天下雨。")]
    outcomes = speak_batch(texts, {"url": server.url})
    first, bad, third = pickle.loads(pickle.dumps(outcomes))
    assert first.result().data == tone_wav("今天天气很好。")
    assert isinstance(bad.error, InvalidTextError)
    assert (third.id, third.result().data) == ("a7", tone_wav("明天下雨。"))


def test_a_process_keeps_its_client(server: Server) -> None:
    for _ in range(3):
        speak_batch(["你好。"], {"url": server.url})
    assert server.stats()["connections_peak"] == 1


@pytest.mark.parametrize("pickler", ["pickle", "cloudpickle", "dill"])
def test_a_client_in_a_task_says_what_to_write_instead(pickler: str, server: Server) -> None:
    dumps = pickle.dumps if pickler == "pickle" else pytest.importorskip(pickler).dumps
    with (
        CosyClient(server.url) as client,
        pytest.raises(TypeError, match=r"contrib\.distributed\.speak_batch\(texts, settings\)"),
    ):
        dumps(client.synth_many)


def test_dask_passes_on_what_a_client_says(server: Server) -> None:
    distributed = pytest.importorskip("distributed")
    serialize = distributed.protocol.serialize
    tokenize = pytest.importorskip("dask.base").tokenize
    with CosyClient(server.url) as client:
        # Or it would end with a message of its own before it tries to pickle.
        assert tokenize(client.synth, ensure_deterministic=True)
        with pytest.raises(TypeError) as caught:
            serialize(client.synth, serializers=["pickle"], on_error="raise")
    assert "speak_batch" in str(caught.value.__cause__ or caught.value)
