"""What `cosy-sync bench` prints for each wire is code that runs, and reaches the same service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from wires import Case, Serve

from cosy_sync import CosyClient
from cosy_sync.cli import main


def test_the_code_that_bench_prints_speaks(
    case: Case,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("key").write_text("sk-of-the-bench")
    server = serve(latency=0.02, api_key="sk-of-the-bench")
    argv = ["bench", "--url", case.url(server), "--wire", case.wire or case.name]
    argv += ["--api-key-file", "key", "--rate", "1000", "--max-in-flight", "1"]
    if "voice" not in case.settings:
        argv += ["--voice", "中文女"]
    if "model" in case.settings:
        argv += ["--model", case.settings["model"]]
    assert main([*argv, "--seconds", "1", "--max-texts", "5000"]) == 0
    _, _, code = capsys.readouterr().out.partition("configure:\n\n")
    assert code.strip() == json.loads(Path("cosy-bench.json").read_text())["code"]
    assert "sk-of" not in code
    names: dict[str, object] = {}
    exec(code, names)
    client = names["client"]
    assert isinstance(client, CosyClient)
    with client:
        assert client.synth("你好，世界。").pcm() == case.right("你好，世界。")
