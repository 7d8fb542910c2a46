"""A bucket as a store, over obstore's store in memory; a real S3 server is asked elsewhere."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from cosy_sync import ConfigError
from cosy_sync.storage import LocalStore, ObjectStore, objects, open_store


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setattr(objects, "_first_user", 0)
    return ObjectStore("memory:///")


def test_what_is_not_there_is_told_as_of_a_folder(store: ObjectStore) -> None:
    assert store.head("none") is None
    with pytest.raises(FileNotFoundError, match=r"memory:.*none: is not there"):
        store.get("none")


def test_a_wrong_address_or_setting_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_first_user", 0)
    with pytest.raises(ConfigError, match=r"^s3x://bucket: .*[Uu]nable to recogni"):
        ObjectStore("s3x://bucket").head("a")
    with pytest.raises(ConfigError, match=r"^s3://bucket: .*regionn"):
        ObjectStore("s3://bucket", regionn="eu").head("a")


def test_a_child_of_a_process_that_used_it_is_refused(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a", b"1")
    monkeypatch.setattr(os, "getpid", lambda: 1)
    for ask in (lambda: store.get("a"), lambda: ObjectStore("memory:///").head("a")):
        with pytest.raises(ConfigError, match="forked from one that had used an ObjectStore"):
            ask()


@pytest.mark.parametrize("read", ["get", "fetch"])
def test_an_object_whose_connection_breaks_while_it_is_read_is_asked_for_again(
    read: str, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore

    store.put("a", b"1")
    found = obstore.get

    class Broken:
        def __init__(self, result: Any) -> None:
            self.meta, self.attributes = result.meta, result.attributes

        def bytes(self) -> bytes:
            monkeypatch.setattr(obstore, "get", found)
            raise obstore.exceptions.GenericError("while it was read - HTTP error: cut")

    monkeypatch.setattr(obstore, "get", lambda *asked: Broken(found(*asked)))
    monkeypatch.setattr(objects, "_PAUSE", 0.0)
    read_again = getattr(store, read)("a")
    assert read_again == b"1" if read == "get" else read_again[0] == b"1"


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_first_user", 0)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigError, match=r"pip install 'cosy-sync\[storage\]'"):
        ObjectStore("s3://bucket").get("a")


def test_an_address_says_which_store_it_is(tmp_path: Path) -> None:
    assert isinstance(open_store("s3://bucket/prefix"), ObjectStore)
    assert isinstance(open_store(tmp_path), LocalStore)
    found = open_store(f"file://{tmp_path}")
    assert isinstance(found, LocalStore) and found.path == tmp_path
