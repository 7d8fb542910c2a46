"""`cosy-sync warm`: what is missing is spoken into a store, and the addresses are listed."""

import errno
import json
from pathlib import Path

import pytest

from cosy_sync import CosyClient
from cosy_sync.cli import main, warm
from cosy_sync.storage import LocalStore, ObjectStore, objects
from cosy_sync.testing import Server

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "texts.txt"
    file.write_text("你好世界\n\n再见了朋友\n", "utf-8")
    return file


def test_only_what_is_missing_is_spoken_and_the_map_names_all(
    texts: Path, capsys: Captured
) -> None:
    with Server(latency=0) as server:
        options = ["--url", server.url, "--voice", "中文女", "--no-progress"]
        run = ["warm", "texts.txt", "--to", "out", *options]
        assert main(run) == 0
        told = capsys.readouterr().out
        assert told == "2 texts spoken, 0 known, 0 failed; addresses in out/map.json\n"
        texts.write_text("早上好你\n再见了朋友\n", "utf-8")
        public = ["--public-url", "https://cdn.example.com/speech/"]
        assert main([*run, *public, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told == {"spoken": 1, "known": 1, "failed": 0, "map": "out/map.json"}
        assert server.stats()["texts"] == 3
        with CosyClient(server.url, voice="中文女") as client:
            digests = [client.digest(text) for text in ("你好世界", "再见了朋友", "早上好你")]
    addresses = json.loads(Path("out", "map.json").read_text("utf-8"))
    assert set(addresses) == set(digests)
    assert (
        addresses[digests[0]]
        == Path("out", digests[0][:2], f"{digests[0]}.wav").absolute().as_uri()
    )
    for digest in digests[1:]:
        key = f"{digest[:2]}/{digest}.wav"
        assert addresses[digest] == f"https://cdn.example.com/speech/{key}"
        assert Path("out", key).stat().st_size > 1000


def test_nothing_is_spoken_for_a_folder_that_cannot_be(capsys: Captured) -> None:
    with Server(latency=0) as server:
        run = ["warm", "texts.txt", "--url", server.url, "--no-progress", "--to"]
        assert main([*run, "texts.txt"]) == 2
        assert "texts.txt is a file; give a directory" in capsys.readouterr().err
        assert main([*run, "texts.txt/out"]) == 2
        assert "cannot make the directory texts.txt/out: Not a" in capsys.readouterr().err
        assert server.stats()["texts"] == 0


def test_a_bucket_sends_its_sounds_with_cache_control(
    texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_first_user", 0)
    made: list[ObjectStore] = []

    def open_store(place: str, meta: dict[str, str]) -> ObjectStore:
        made.append(ObjectStore("memory:///", meta=meta))
        return made[-1]

    monkeypatch.setattr(warm, "open_store", open_store)
    with Server(latency=0) as server:
        assert main(["warm", "texts.txt", "--to", "memory:///", "--url", server.url]) == 0
    store = made[0]
    heads = {key: store.head(key) for key in list(store.keys())}
    assert len(heads) == 3
    for key, found in heads.items():
        assert found is not None
        sound = key != "map.json"
        wanted = "public, max-age=31536000, immutable" if sound else "no-cache"
        assert found.meta["cache-control"] == wanted
        assert found.meta["content-type"] == ("audio/wav" if sound else "application/json")


def test_a_text_that_fails_is_told_by_its_line_and_a_wrong_address_at_once(
    texts: Path, capsys: Captured
) -> None:
    with Server(latency=0, max_text_chars=4) as server:
        run = ["warm", "texts.txt", "--to", "out", "--no-progress"]
        assert main([*run, "--url", server.url]) == 1
        told = capsys.readouterr()
        assert "cosy-sync: line 3: " in told.err and "再见" not in told.err
        assert "1 failed" in told.out
        assert main([*run[:3], "none", "--url", server.url.replace("/batch", "/nothing")]) == 3
    texts.write_text("\n", "utf-8")
    assert main([*run, "--url", server.url]) == 0
    assert "0 texts spoken" in capsys.readouterr().out


def test_a_folder_that_can_be_written_no_more_says_so(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalStore, "put", refuse)
    with Server(latency=0) as server:
        assert main(["warm", "texts.txt", "--to", "out", "--url", server.url]) == 1
    assert "cosy-sync: error: out: No space left on device; 0 " in capsys.readouterr().err
