"""The pages on Django and Flask, and their examples, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cosy_sync.testing import Server

pytest.importorskip("django", reason="needs django (extra test)")
pytest.importorskip("flask", reason="needs flask (extra test)")

ROOT = Path(__file__).parents[2]
DJANGO, FLASK = ROOT / "examples" / "django", ROOT / "examples" / "flask"


def blocks(page: str, language: str = "python") -> list[str]:
    text = (ROOT / "docs" / page).read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


# What is loaded before a host forks need not be imported by the first visitor of each process.
BEFORE = "known = {name for name in sys.modules}\n"
AFTER = (
    "late = [n for n in sys.modules if n not in known and n.split('.')[0] in\n"
    "        ('cosy_sync', 'httpx', 'httpcore', 'urllib3', 'backoff', 'pybreaker', 'encodings')]\n"
    "assert not late, late\n"
)


def run(code: str, server: Server, folder: Path, **more: str) -> None:
    code = code.replace("http://localhost:8000/batch", server.url)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{DJANGO}", "DATA_DIR": str(folder), **more}
    command = [sys.executable, "-W", "error", "-c", code]
    subprocess.run(command, check=True, timeout=60, cwd=folder, env=env)


def test_the_blocks_of_the_page_on_django_run(tmp_path: Path) -> None:
    first, calls, later, streaming, tests = blocks("django.md")
    settings, views = first.split("# views.py\n")
    front = (
        "import asyncio, django, sys, unittest\nfrom django.conf import settings\n"
        "INSTALLED_APPS = []\n"
    )
    setup = (
        "settings.configure(INSTALLED_APPS=INSTALLED_APPS, COSY_SYNC=COSY_SYNC)\ndjango.setup()\n"
        "from django.core.management import call_command\ncall_command('check')\n"
        "from django.test import RequestFactory\nfactory = RequestFactory()\n"
    )
    use = (
        "assert speak(factory.get('/', {'text': '你好'})).content[:4] == b'RIFF'\n"
        "assert speak(factory.get('/', {'text': ''})).status_code == 400\n"
        "assert future.result(10).duration > 0 and len(audios) == 2\n"
        "reply = asyncio.run(durations(factory.get('/', {'text': ['你好', '再见']})))\n"
        "assert reply.status_code == 200\n"
        "from cosy_sync import ConfigError\n"
        "try:\n    read_aloud(factory.get('/', {'text': '你好'}))\n"
        "except ConfigError:\n    pass  # this wire does not stream\n"
        "found = unittest.defaultTestLoader.loadTestsFromTestCase(SpeakTests)\n"
        "done = unittest.TextTestRunner().run(found)\n"
        "assert done.testsRun == 2 and done.wasSuccessful()\nspeech.close()\n"
    )
    with Server(latency=0) as server:
        parts = [front, settings, setup, views, BEFORE, calls, AFTER, later, streaming, tests, use]
        run("\n".join(parts), server, tmp_path)
        assert server.stats()["texts"] == 7


def test_the_blocks_of_the_page_on_flask_run(tmp_path: Path) -> None:
    use = (
        f"import sys\n{BEFORE}client = app.test_client()\n"
        f"assert client.get('/speak?text=你好').data[:4] == b'RIFF'\n{AFTER}"
        "assert client.get('/speak?text=').status_code == 422\n"
        "assert 'cosy_sync' in create_app().extensions\n"
        "app.extensions['cosy_sync'].client.close()\ntest_the_text_is_spoken()\n"
    )
    with Server(latency=0) as server:
        run("\n".join([*blocks("flask.md"), use]), server, tmp_path)
        assert server.stats()["texts"] == 1


def readme(example: Path) -> list[list[str]]:
    """Return the commands of an example's README that start nothing for good."""
    text = (example / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 12
    lines = re.findall(r"^ {4}(.*)$", text, re.MULTILINE)
    every = [part.split() for line in lines for part in line.split(" && ")]
    return [
        words
        for words in every
        if "check" in words or "cosy_check" in words or words[2:3] in (["migrate"], ["cosy_synth"])
    ]


def test_the_django_example_runs_as_its_readme_says(tmp_path: Path) -> None:
    commands = readme(DJANGO)
    assert [words[2] for words in commands] == ["migrate", "cosy_check", "cosy_synth"]
    lines = "".join(f"call_command({str(words[2:])[1:-1]})\n" for words in commands)
    code = (
        "import os, django\nos.environ['DJANGO_SETTINGS_MODULE'] = 'project.settings'\n"
        f"django.setup()\nfrom django.core.management import call_command\n"
        f"os.chdir({str(DJANGO)!r})\n"
        "call_command('check', '--fail-level', 'WARNING')\n"
        "call_command('makemigrations', '--check', '--dry-run')\n"
        f"{lines}"
        "from django.test import Client\nfrom clips.models import Clip\n"
        "assert Clip.objects.exclude(audio='').count() == 3\n"
        "client = Client(headers={'host': 'localhost'}, enforce_csrf_checks=True)\n"
        "page = client.get('/')\nassert b'Type a text' in page.content\n"
        "token = client.cookies['csrftoken'].value\n"
        "said = client.post('/speak', {'text': '你好', 'csrfmiddlewaretoken': token})\n"
        "assert said.content[:4] == b'RIFF'\n"
        "assert client.post('/speak', {'text': '你好'}).status_code == 403\n"
        "health = client.get('/health').json()\nassert health['ok']\n"
        "from cosy_sync.contrib.django import speech\nspeech.close()\n"
        "from django.db import connections\nconnections.close_all()\n"
    )
    with Server(latency=0) as server:
        run(code, server, tmp_path, COSY_SYNC_URL=server.url)
        assert server.stats()["texts"] == 5


def test_the_flask_example_runs_as_its_readme_says(tmp_path: Path) -> None:
    assert readme(FLASK) == [["flask", "cosy", "check"]]
    code = (
        "from app import app\nclient = app.test_client()\n"
        "assert client.post('/speak', data={'text': '你好'}).data[:4] == b'RIFF'\n"
        "assert client.post('/speak', data={'text': ''}).status_code == 400\n"
        "assert client.get('/health').json['ok']\n"
        "done = app.test_cli_runner().invoke(args=['cosy', 'check'])\n"
        "assert done.exit_code == 0, done.output\napp.extensions['cosy_sync'].client.close()\n"
    )
    with Server(latency=0) as server:
        more = {"COSY_SYNC_URL": server.url, "PYTHONPATH": f"{ROOT}:{FLASK}"}
        run(code, server, tmp_path, **more)
        assert server.stats()["texts"] == 2
