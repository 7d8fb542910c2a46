"""A store that fails for a while is asked again; what it refuses for good is told at once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bucket_server import BucketServer, serve_bucket
from seaweed import KEYS

import cosy_sync
from cosy_sync import ConfigError, CosyClient
from cosy_sync.jobs import JobOptions, JobText, run_job
from cosy_sync.storage import Boto3Store, ObjectStore, boto3_store, objects, open_store
from cosy_sync.testing import Server

pytest.importorskip("obstore", reason="needs the extra storage")


@pytest.fixture
def bucket() -> Iterator[BucketServer]:
    with serve_bucket() as made:
        yield made


@pytest.fixture(params=["obstore", "boto3"])
def store(
    bucket: BucketServer, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    # As often as ever, but without the pauses.
    soon = timedelta(milliseconds=1)
    quick = {"init_backoff": soon, "max_backoff": soon, "base": 2}
    monkeypatch.setattr(objects, "_RETRY", {**objects._RETRY, "backoff": quick})
    monkeypatch.setattr(objects, "_first_user", 0)
    monkeypatch.setattr(objects, "_PAUSE", 0.001)
    monkeypatch.setattr(boto3_store, "_LONGEST_PAUSE", 0.001)
    monkeypatch.setattr(boto3_store, "_FIRST_PAUSE", 0.001)
    settings = {**KEYS, "region": "us-east-1", "endpoint": bucket.url}
    if request.param == "boto3":
        made: Any = Boto3Store("s3://speech/x", **settings)
    else:
        made = ObjectStore("s3://speech/x", client_options={"allow_http": True}, **settings)
    yield made
    made.close()


def test_a_store_that_fails_for_a_while_keeps_what_it_was_given(
    store: Any, bucket: BucketServer
) -> None:
    bucket.failures = [500, 503] * 15
    assert store.put("a", b"sound", if_absent=True)
    assert bucket.failures == [] and store.get("a") == b"sound"


@pytest.mark.parametrize("if_absent", [True, False])
def test_a_write_whose_reply_is_lost_is_repeated(
    store: Any, bucket: BucketServer, if_absent: bool
) -> None:
    bucket.unanswered = 2
    assert store.put("a", b"sound", if_absent=if_absent) is not if_absent
    assert store.get("a") == b"sound" and bucket.unanswered <= 1


def test_a_store_that_refuses_the_keys_is_not_asked_again(store: Any, bucket: BucketServer) -> None:
    bucket.failures = [403]
    with pytest.raises(PermissionError, match="refuses these keys"):
        store.put("a", b"sound")
    assert bucket.failures == [] and bucket.requests == ["PUT"]


def test_a_job_whose_bucket_fails_for_good_goes_on_when_it_is_mended(
    store: Any, bucket: BucketServer, tmp_path: Path
) -> None:
    texts = [JobText(f"t{number}", f"第{number}句话，今天好。") for number in range(40)]
    options = JobOptions(journal=tmp_path)
    with Server(latency=0) as server, CosyClient(server.url) as client:
        bucket.room = 15
        with pytest.raises(PermissionError):
            run_job(texts, store, client, options)
        bucket.room = None
        before = server.stats()["texts"]
        result = run_job(texts, store, client, options)
        assert result.complete and result.counts.skipped >= 15
        assert server.stats()["texts"] - before == result.counts.spoken
    sounds = [key for key in bucket.objects if key.endswith(".wav")]
    assert len(sounds) == 40


def test_under_gevent_a_bucket_is_reached_by_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    class Monkey:
        @staticmethod
        def is_module_patched(name: str) -> bool:
            return name == "threading"

    assert isinstance(open_store("s3://speech/x"), ObjectStore)
    monkeypatch.setitem(sys.modules, "gevent.monkey", Monkey())  # type: ignore[arg-type]
    assert isinstance(open_store("s3://speech/x"), Boto3Store)
    assert isinstance(open_store("gs://speech/x"), ObjectStore)


def test_boto3_takes_buckets_of_s3_only_and_settings_that_there_are() -> None:
    with pytest.raises(ConfigError, match="use ObjectStore"):
        Boto3Store("gs://speech/x")
    with pytest.raises(ConfigError, match="regionn"):
        Boto3Store("s3://speech/x", regionn="eu").get("a")


_FORKING = """
import os, sys
from cosy_sync.storage import ObjectStore, open_store
ObjectStore("memory:///").put("a", b"1")
child = os.fork()
if not child:
    store = open_store("s3://speech/forked")
    assert type(store).__name__ == "Boto3Store"
    assert store.put("a", b"sound", if_absent=True) and store.get("a") == b"sound"
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_child_of_a_process_that_used_obstore_reaches_the_bucket_by_boto3(
    bucket: BucketServer,
) -> None:
    env = {
        **os.environ,
        "PYTHONPATH": str(Path(cosy_sync.__file__).parents[1]),
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": bucket.url,
    }
    subprocess.run([sys.executable, "-c", _FORKING], env=env, check=True, timeout=60)
    assert bucket.objects["forked/a"][0] == b"sound"
