"""The examples in the documents run as they stand there."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from array import array
from pathlib import Path
from typing import Any

import pytest

from cosy_sync import CosyClient
from cosy_sync.cli import _COMMANDS, _parser
from cosy_sync.cli.parser import parse
from cosy_sync.models import wav_header
from cosy_sync.testing import FAULTS, Server, tone_wav
from cosy_sync.wires import known_wires
from cosy_sync.wires.forms import Form

ROOT = Path(__file__).parents[2]


def examples(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text("utf-8"), re.DOTALL)


def test_the_tests_of_the_testing_page_pass(tmp_path: Path) -> None:
    page = "\n\n".join(examples("docs/testing.md"))
    (tmp_path / "test_page.py").write_text(page, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_page.py"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=100,
    )
    count = len(re.findall("^def test_", page, re.MULTILINE))
    assert f"{count} passed" in done.stdout, done.stdout


def test_the_first_examples_of_the_readme_and_of_usage_run_as_they_stand(tmp_path: Path) -> None:
    first, second = examples("README.md")[0], examples("docs/usage.md")[0]
    with Server(latency=0, api_key="sk-of-the-readme") as server:
        env = {**os.environ, "COSY_SYNC_URL": server.url, "COSY_SYNC_API_KEY": "sk-of-the-readme"}
        subprocess.run([sys.executable, "-c", first], check=True, timeout=60, env=env, cwd=tmp_path)
        given = (
            "key, done = 'sk-of-the-readme', lambda future: print(future.result())\n"
            "texts, endless = ['一句话', '两句话'], iter(['三句话', '四句话'])\n"
            "chapter = '今天的天气真是好得不得了。我们一起出去走一走吧朋友！'\n"
        )
        code = given + second.replace("https://tts.example.com/batch", server.url)
        code += "\nassert len(audios) == len(outcomes) == 2 and outcome.audio\n"
        run = [sys.executable, "-W", "error", "-c", code]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            run, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=env
        )
        assert server.stats()["texts"] == 13
    assert (tmp_path / "chapter.mp3").stat().st_size > 1_000
    assert (tmp_path / "left.wav").stat().st_size > 1_000
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("<Audio wav")


def test_the_examples_of_the_endpoints_page_run() -> None:
    blocks = examples("docs/endpoints.md")
    assert len(blocks) == 3
    code = "\n".join(blocks).replace("timeout=60", "timeout=0.1")
    code += "\nassert endpoint.per_address and len(client.endpoints) == 2\nclient.close()\n"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_the_example_for_web_hosts_works() -> None:
    block, _ = examples("docs/deployment.md")  # the other patches a whole process
    code = f"{block}\nassert quick.config.deadline == 5.0\nclient.close()\n"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_the_command_of_the_page_on_deployment_is_one_that_gunicorn_takes() -> None:
    config = pytest.importorskip("gunicorn.config", reason="needs gunicorn (extra test)")
    page = (ROOT / "docs/deployment.md").read_text("utf-8")
    (line,) = re.findall(r"^gunicorn (project.*)$", page, re.MULTILINE)
    told = config.Config().parser().parse_args(shlex.split(line))
    assert (told.workers, told.threads, told.preload_app) == (2, 32, True)
    deadline = int(re.findall(r"COSY_SYNC_DEADLINE=(\d+)\n", page)[0])
    assert deadline < told.graceful_timeout < told.timeout


def command_lines() -> list[str]:
    """Return what the documents show to type, after `cosy-sync` and up to a pipe or a comment."""
    found: list[str] = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text("utf-8")
        found += re.findall(r"^(?: {4}|echo .*\| )?cosy-sync ([^#|<>\n]*)", text, re.MULTILINE)
        found += re.findall(r"`cosy-sync ([^`|<>]*)`", text)
    return found


def test_every_command_line_of_the_documents_is_taken() -> None:
    ends = ("--help", "--version")  # these print and end
    lines = [line for line in command_lines() if not line.strip().endswith(ends)]
    assert len(lines) > 15
    for line in lines:
        given = shlex.split(line)
        assert parse(_parser(given), given, _COMMANDS).run is not None, line


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120


def test_the_tutorial_runs_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    page = (ROOT / "docs/tutorial.md").read_text("utf-8")
    shell = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    lines = [line for block in shell for line in block.splitlines() if line.startswith("cosy-sync")]
    assert len(lines) == 6
    (tmp_path / "lines.txt").write_text("早上好。\n晚上好。\n", "utf-8")
    code = "\n".join([*examples("docs/tutorial.md"), *examples("docs/errors.md")])
    with Server(latency=0) as server:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "COSY_SYNC_URL": server.url}
        env["COSY_SYNC_VOICE"] = "中文女"
        commands = [[sys.executable, "-m", "cosy_sync", *shlex.split(line)[1:]] for line in lines]
        code = code.replace("http://localhost:8000/batch", server.url)
        for command in [c for c in commands if "serve" not in c] + [[sys.executable, "-c", code]]:
            subprocess.run(
                command, check=True, timeout=60, cwd=tmp_path, env=env, capture_output=True
            )
    assert len(list(tmp_path.glob("train-*.wav"))) == 1_000
    assert len(list(tmp_path.glob("out/*.wav"))) == len(list(tmp_path.glob("speech/*/*.wav"))) == 2


def test_the_examples_of_the_overload_page_run() -> None:
    for block in examples("docs/overload.md"):
        subprocess.run([sys.executable, "-c", block], check=True, timeout=60)


def test_the_examples_of_the_runtime_http_page_run(tmp_path: Path) -> None:
    blocks = examples("docs/wire-runtime_http.md")
    assert len(blocks) == 3
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Server(latency=0) as server:
        for block in blocks:
            code = block.replace("http://gpu1:50000", server.base_url)
            subprocess.run(
                [sys.executable, "-c", code], check=True, timeout=60, env=env, cwd=tmp_path
            )
        assert server.stats()["texts"] == 2
    assert (tmp_path / "hello.wav").stat().st_size > 1_000


@pytest.mark.parametrize(
    "page",
    ["long-texts", "formats", "notebooks", "texts", "verification", "jobs", "storage", "metrics"],
)
def test_the_examples_of_the_pages_on_texts_and_sound_run(page: str, tmp_path: Path) -> None:
    pytest.importorskip("soundfile", reason="needs the extra audio")
    blocks = examples(f"docs/{page}.md")
    if importlib.util.find_spec("wetext") is None:  # 45 MB, which the tests need not have
        blocks = [block for block in blocks if "wetext" not in block]
    code = "\n".join(blocks)
    with Server(latency=0) as server:
        run = [
            sys.executable,
            "-W",
            "error",
            "-c",
            code.replace("http://localhost:8000/batch", server.url),
        ]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(run, check=True, timeout=60, cwd=tmp_path, env=env)
        assert server.stats()["texts"] > 0


def test_the_examples_and_commands_of_the_cache_page_run(tmp_path: Path) -> None:
    blocks = examples("docs/cache.md")
    assert len(blocks) == 4
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    code = "\n".join(blocks)
    run = [sys.executable, "-W", "error", "-c", code]
    subprocess.run(run, check=True, timeout=60, cwd=tmp_path, env=env)
    page = (ROOT / "docs/cache.md").read_text("utf-8")
    (commands,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    (tmp_path / "greetings.txt").write_text("早上好\n晚上好\n", "utf-8")
    told = []
    with Server(latency=0) as server:
        for line in commands.splitlines():
            command = [sys.executable, "-m", *line.replace("cosy-sync", "cosy_sync").split()]
            env["COSY_SYNC_URL"] = server.url
            done = subprocess.run(
                command, check=True, timeout=60, cwd=tmp_path, env=env, capture_output=True
            )
            told.append(done.stdout.decode())
    assert told[0] == "2 texts spoken, 0 known, 0 failed\n"
    assert told[1].startswith("2 texts, ") and told[2].endswith(" forgotten\n")


def test_the_commands_of_the_page_on_jobs_run(tmp_path: Path) -> None:
    page = (ROOT / "docs/jobs.md").read_text("utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 4
    rows = [f'{{"id": "a{number}", "text": "第{number}句话，今天好。"}}' for number in range(30)]
    (tmp_path / "texts.jsonl").write_text("\n".join(rows), "utf-8")
    shared = blocks[2].replace("/shared/speech", "shared")
    with Server(latency=0) as server:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "COSY_SYNC_URL": server.url}
        for line in f"{blocks[0]}{shared}".strip().splitlines():
            command = line.partition("#")[0].split()
            assert command[0] == "cosy-sync"
            run = [sys.executable, "-W", "error", "-m", "cosy_sync", *command[1:]]
            subprocess.run(run, check=True, timeout=60, cwd=tmp_path, env=env)
    here = blocks[1].replace("cosy-sync", "python -m cosy_sync")
    here = here.replace("python ", f"{shlex.quote(sys.executable)} ")
    subprocess.run(f"set -e\n{here}", shell=True, check=True, cwd=tmp_path, env=env, timeout=60)
    assert len((tmp_path / "sums").read_text("utf-8").splitlines()) == 30
    assert len(list(tmp_path.glob("speech/*/*.wav"))) == 30
    assert len((tmp_path / "shared" / "manifest.jsonl").read_text("utf-8").splitlines()) == 30
    assert (tmp_path / "speech" / "metadata.csv").exists()


def test_the_examples_on_stores_and_jobs_run(tmp_path: Path) -> None:
    blocks = [*examples("docs/storage.md"), *examples("docs/jobs.md")]
    assert len(blocks) == 3
    (commands,) = re.findall(
        r"```sh\n(.*?)```", (ROOT / "docs/storage.md").read_text("utf-8"), re.S
    )
    (tmp_path / "texts.txt").write_text("这是第1句话。\n你好\n", "utf-8")
    with Server(latency=0) as server:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "COSY_SYNC_URL": server.url}
        code = "\n".join(blocks).replace("http://localhost:8000/batch", server.url)
        run = [sys.executable, "-W", "error", "-c", code]
        subprocess.run(run, check=True, timeout=60, cwd=tmp_path, env=env)
        command = [*commands.strip().split(), "--voice", "中文女"]
        assert command[0] == "cosy-sync" and "\n" not in commands.strip()
        run = [sys.executable, "-W", "error", "-m", "cosy_sync", *command[1:]]
        done = subprocess.run(
            run, check=True, timeout=60, cwd=tmp_path, env=env, capture_output=True, text=True
        )
    assert done.stdout == "1 texts spoken, 1 known, 0 failed; addresses in speech/map.json\n"


def test_the_testing_page_names_every_fault() -> None:
    page = (ROOT / "docs/testing.md").read_text("utf-8")
    assert [fault for fault in FAULTS if f"`{fault}`" not in page] == []


def test_the_example_of_priorities_works() -> None:
    (block,) = examples("docs/priorities.md")
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
    for option, default in (("--max-texts", 1000), ("--rate", 100), ("--max-connections", 50)):
        assert re.search(rf"{option} N\s[^-]*\(default:\s+{default}\b", told)
        assert re.search(rf"`{option}` \({default:,}", page)


def test_the_examples_of_shared_limits_work(redis_server) -> None:
    use = "client.synth('你好'); client.close()\n"
    front = (
        "import httpx, functools, cosy_sync\n"
        "from cosy_sync.testing import FakeService\n"
        "cosy_sync.CosyClient = functools.partial(\n"
        "    cosy_sync.CosyClient, http_client=lambda: httpx.Client(transport=FakeService())\n)\n"
    )
    blocks = examples("docs/shared-limits.md")
    assert len(blocks) == 4
    code = front + "".join(block + use for block in blocks)
    code = code.replace("redis://localhost:6379/0", redis_server.url)
    code = code.replace("redis.Redis(", f"redis.Redis(port={redis_server.port}, ")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    keys = redis_server.client().keys()
    assert b"cosy_sync:{http://tts.test/batch}:log" in keys
    assert b"http://tts.test/batch:pybreaker:state" in keys


def test_the_examples_of_the_canary_page_work(redis_server) -> None:
    front = (
        "import httpx, functools, cosy_sync\n"
        "from cosy_sync.testing import FakeService\n"
        "make = functools.partial(\n"
        "    cosy_sync.CosyClient, http_client=lambda: httpx.Client(transport=FakeService())\n)\n"
        "def client_of(url, **settings):\n"
        "    settings.pop('wire', None)\n"
        "    return make(url, **settings)\n"
        "cosy_sync.CosyClient = client_of\n"
    )
    use = "assert client.synth('你好').variant and client.stats().canary[0] == 'running'\n"
    blocks = examples("docs/canary.md")
    assert len(blocks) == 4
    code = front + "".join(block + use + "client.close()\n" for block in blocks)
    code = code.replace("redis://localhost:6379/0", redis_server.url)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n")[0].endswith("('running', 0.05, '')")
    assert "cosyvoice-v3 running 0.05" in done.stdout
    keys = redis_server.client().keys()
    assert b"cosy_sync:canary:{cosyvoice-v3}" in keys


def test_the_examples_of_the_interactive_page_work() -> None:
    blocks = examples("docs/interactive.md")
    assert len(blocks) == 2
    for block in blocks:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", block], check=True, timeout=60, env=env)


def upload_alice(server: Server) -> None:
    alice = Form("name", {"consent": "true"}, {"audio_sample": tone_wav("a")})
    upload = urllib.request.Request(
        f"{server.base_url}/v1/audio/voices",
        alice.body("alice"),
        {"Content-Type": alice.content_type},
    )
    urllib.request.urlopen(upload).close()


def test_every_service_of_the_readme_answers() -> None:
    pytest.importorskip("websockets", reason="needs websockets (extra websocket)")
    pytest.importorskip("grpc", reason="needs grpcio (extra grpc)")
    (block,) = [block for block in examples("README.md") if "dashscope_ws" in block]
    clients: list[CosyClient] = []
    with Server(latency=0, grpc_port=0) as server:
        upload_alice(server)
        places = {"grpc": server.grpc_url, "wss": server.base_url.replace("http", "ws", 1)}

        def local(url: str, **settings: Any) -> CosyClient:
            scheme, _, path = re.fullmatch(r"(\w+)://([^/]+)(.*)", url).groups()  # type: ignore[union-attr]
            client = CosyClient(places.get(scheme, server.base_url) + path, **settings)
            clients.append(client)
            return client

        exec(block, {"CosyClient": local, "key": "sk-of-the-readme"})
        wires = [client.config.wire for client in clients]
        for client in clients:
            with client:
                assert client.synth("你好").duration > 0.1
    # The example of PAI-EAS is in its page.
    assert sorted({*wires, "batch", "pai_eas"}) == list(known_wires())


def test_the_example_of_the_pai_eas_page_works(tmp_path: Path) -> None:
    (block,) = examples("docs/wire-pai_eas.md")
    with Server(latency=0, api_key="TOKEN") as server:
        local = block.replace("https://SERVICE.cn-hangzhou.pai-eas.aliyuncs.com", server.base_url)
        code = local.replace("58f2a1c0", "中文女")
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code], check=True, timeout=60, cwd=tmp_path
        )
    assert (tmp_path / "weather.wav").stat().st_size > 1_000


def test_the_examples_of_the_openai_page_work(tmp_path: Path) -> None:
    blocks = examples("docs/wire-openai.md")
    assert len(blocks) == 6
    # Every name is this machine's, so that the host can stand there as users write it.
    front = (
        "import socket\n"
        "real = socket.getaddrinfo\n"
        "socket.getaddrinfo = lambda host, *more, **named: real('127.0.0.1', *more, **named)\n"
    )
    with Server(latency=0) as server:
        port = server.base_url.rpartition(":")[2]
        upload_alice(server)
        for block in blocks:
            code, count = re.subn(
                r"https?://([a-z.]+)(:[0-9]+)?/", rf"http://\1:{port}/", front + block
            )
            assert count == 1
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            command = [sys.executable, "-W", "error", "-c", code]
            subprocess.run(command, check=True, timeout=60, env=env, cwd=tmp_path)
        assert server.stats()["texts"] == 8
    assert (tmp_path / "hello.wav").stat().st_size > 44


def test_the_examples_of_the_dashscope_ws_page_work() -> None:
    pytest.importorskip("websockets", reason="needs websockets (extra websocket)")
    blocks = examples("docs/wire-dashscope_ws.md")
    assert len(blocks) == 4
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Server(latency=0, api_key="sk-of-the-example") as server:
        local = server.base_url.replace("http", "ws", 1)
        for block in blocks:
            assert "wss://dashscope.aliyuncs.com" in block
            code = block.replace("wss://dashscope.aliyuncs.com", local)
            env["COSY_SYNC_API_KEY"] = "sk-of-the-example"
            subprocess.run(
                [sys.executable, "-W", "error", "-c", code], check=True, timeout=60, env=env
            )
        assert server.stats()["texts"] == 6


def test_the_examples_of_the_grpc_page_work(tmp_path: Path) -> None:
    pytest.importorskip("grpc", reason="needs grpcio (extra grpc)")
    blocks = examples("docs/wire-runtime_grpc.md")
    assert len(blocks) == 2
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Server(grpc_port=0, latency=0) as server:
        for block in blocks:
            code = block.replace("grpc://gpu1:50000", server.grpc_url)
            subprocess.run(
                [sys.executable, "-c", code], check=True, timeout=60, env=env, cwd=tmp_path
            )
    assert (tmp_path / "hello.wav").read_bytes() == tone_wav("你好，世界。")


def test_the_examples_of_the_triton_page_work(tmp_path: Path) -> None:
    pytest.importorskip("grpc", reason="needs grpcio (extra grpc)")
    blocks = examples("docs/wire-triton.md")
    assert len(blocks) == 2
    samples = array("h", [(n * 977) % 20_000 - 10_000 for n in range(16_000)])
    (tmp_path / "me.wav").write_bytes(wav_header(16_000, 1, 32_000) + samples.tobytes())
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Server(grpc_port=0, latency=0) as server:
        for block in blocks:
            code = block.replace("grpc://gpu1:8001", server.grpc_url)
            subprocess.run(
                [sys.executable, "-c", code], check=True, timeout=60, env=env, cwd=tmp_path
            )
    assert (tmp_path / "hello.wav").read_bytes() == tone_wav("你好，世界。")


def test_the_examples_of_the_streaming_page_work(tmp_path: Path) -> None:
    page = (ROOT / "docs/streaming.md").read_text("utf-8")
    assert "```text" not in page
    player = tmp_path / "aplay"
    player.write_text("#!/bin/sh\nexec cat > heard.pcm\n", "utf-8")
    player.chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    playing, breaking = examples("docs/streaming.md")
    text = "今天天气很好，我们去公园走走。"
    with Server(latency=0) as server:
        for block, fault in ((playing, None), (breaking, None), (breaking, "cut")):
            if fault is not None:
                server.inject(fault, times=9)
            code = block.replace("http://localhost:8000", server.base_url)
            done = subprocess.run(
                [sys.executable, "-W", "error", "-c", code],
                check=True,
                timeout=60,
                env=env,
                cwd=tmp_path,
                capture_output=True,
                text=True,
            )
            assert ("heard" in done.stdout) == (fault is not None)
    assert (tmp_path / "heard.pcm").read_bytes() == tone_wav(text)[44:]
