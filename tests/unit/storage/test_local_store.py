"""A folder as a store: whole files or none, and no file replaced that must not be."""

import errno
import os
from pathlib import Path

import pytest

from cosy_sync import ConfigError
from cosy_sync.storage import LocalStore, open_store


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_what_is_put_can_be_got(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "a")
    assert store.put("x/y.wav", b"sound", if_absent=True)
    assert store.get("x/y.wav") == b"sound"
    found = store.head("x/y.wav")
    assert found is not None and found.size == 5
    assert store.head("x/z.wav") is None
    assert store.url("x/y.wav").startswith("file:///")
    with pytest.raises(FileNotFoundError):
        store.get("x/z.wav")


def test_a_folder_in_which_nothing_is_left_goes_with_its_last_file(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for key in ("a", "b/c", "d/e", "d/f"):
        store.put(key, b"1")
    store.delete(["a", "b/c", "d/e", "d/none"])
    store.delete([])
    assert list(store.keys()) == ["d/f"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["d"]


def test_a_file_that_came_meanwhile_stays_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    link = os.link

    def late(part: Path, path: Path) -> None:
        Path(path).write_bytes(b"theirs")
        link(part, path)

    monkeypatch.setattr(os, "link", late)
    assert not store.put("a", b"ours", if_absent=True)
    assert store.get("a") == b"theirs"
    assert files(tmp_path) == ["a"]


@pytest.mark.parametrize("links", [True, False])
def test_a_second_key_has_the_same_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    store = LocalStore(tmp_path)
    store.put("a/1", b"sound", if_absent=True)
    store.link("a/1", "b/2")
    assert store.get("b/2") == b"sound"
    assert store.put("c", b"more", if_absent=True) and not store.put("c", b"x", if_absent=True)
    assert files(tmp_path) == ["a/1", "b/2", "c"]


def test_keys_are_found_by_their_beginning(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for key in ("a/1", "a/2", "ab/3", "c"):
        store.put(key, b"", if_absent=True)
    assert list(store.keys("a")) == ["a/1", "a/2", "ab/3"]
    assert list(store.keys("a/")) == ["a/1", "a/2"]
    assert list(store.keys()) == ["c", "a/1", "a/2", "ab/3"]


@pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", "a/.", "a\0"])
def test_no_key_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match="key: "):
        LocalStore(tmp_path).put(key, b"", if_absent=False)


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / ".0123.part").write_bytes(b"torn")
    store = LocalStore(tmp_path / "a", scratch=tmp_path / "scratch")
    assert files(tmp_path) == []
    store.put("x", b"1", if_absent=False)
    assert files(tmp_path) == ["a/x"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        LocalStore(tmp_path).put("a/b", b"1", if_absent=False)
    assert files(tmp_path) == []


@pytest.mark.parametrize("place", ["s3:/bucket/x", "s3//bucket/x", "S3:bucket", "gs:/b", "file:/x"])
def test_an_address_that_lacks_a_sign_is_not_taken_for_a_folder(place: str) -> None:
    with pytest.raises(ConfigError, match=r"is no address: they begin like s3://.* write \./"):
        open_store(place)
    assert isinstance(open_store(f"./{place}"), LocalStore)
    assert isinstance(open_store("s3-sounds/x"), LocalStore)
