"""The task that speaks into a store: what is stored is skipped, what may pass is tried again."""

import json
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from cosy_sync import AuthError, ConfigError, RetryConfig, ThrottledError, Utterance
from cosy_sync.storage import LocalStore
from cosy_sync.testing import FakeService

celery = pytest.importorskip("celery", reason="needs celery (extra test)")
pytest.importorskip("celery.signals")

from celery.exceptions import Retry, SoftTimeLimitExceeded  # noqa: E402

from cosy_sync.contrib import celery as tasks  # noqa: E402
from cosy_sync.contrib.celery_checks import found_traps  # noqa: E402
from cosy_sync.contrib.distributed import client_here, close_clients  # noqa: E402

URL = "http://tts.test/batch"
TEXTS = [f"第{number}句话，今天好。" for number in range(40)]


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def app(service: FakeService) -> Iterator[Any]:
    app = celery.Celery("test", broker="memory://", backend="cache+memory://")
    app.set_current()
    app.conf.task_always_eager = True
    app.conf.cosy_sync = {
        "url": URL,
        "http_client": lambda: httpx.Client(transport=service),
        "retry": RetryConfig(max_retries=0),
        "deadline": 5.0,
    }
    yield app
    close_clients()
    app.close()


@pytest.fixture
def pauses(app: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What each retry was told to wait; it ends the task."""
    told: list[float] = []

    def retry(*, exc: Exception, countdown: float, argsrepr: str) -> None:
        assert argsrepr.endswith(" texts)")  # and not the texts
        told.append(countdown)
        raise Retry("again", exc, countdown)

    task = app.tasks[tasks.speak_to_storage.name]
    monkeypatch.setattr(task, "retry", retry)
    return told


def speak(texts: Any, to: Path, **settings: Any) -> Any:
    (chunk,) = tasks.split(texts)
    return tasks.speak_to_storage.apply(args=[chunk, str(to), settings]).get()


def manifest(to: Path, part: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in LocalStore(to).get(part).splitlines()]


def test_each_text_has_its_sound_and_its_line(app: Any, tmp_path: Path) -> None:
    done = speak(enumerate(TEXTS), tmp_path)
    assert (done["texts"], done["stored"], done["failed"]) == (40, 40, 0)
    rows = manifest(tmp_path, done["manifest"])
    assert [(row["id"], row["text"]) for row in rows] == list(enumerate(TEXTS))
    for row in rows:
        assert (tmp_path / row["file"]).read_bytes() == FakeService.wav(row["text"])
        assert row["seconds"] > 0 and row["bytes"] > 44


def test_what_is_stored_is_neither_spoken_nor_written_again(
    app: Any, service: FakeService, tmp_path: Path
) -> None:
    first = speak(TEXTS[:30], tmp_path)
    known = manifest(tmp_path, first["manifest"])
    service.calls.clear()
    second = speak(TEXTS, tmp_path)
    assert sum(map(len, service.calls)) == second["stored"] == 10
    assert manifest(tmp_path, second["manifest"])[:30] == known


def test_a_text_that_has_changed_is_another_sound(app: Any, tmp_path: Path) -> None:
    rows = []
    for text, settings in (("你好。", {}), ("再见。", {}), ("再见。", {"speed": 1.5})):
        done = speak([("a1", text)], tmp_path, **settings)
        rows += manifest(tmp_path, done["manifest"])
    assert len({row["file"] for row in rows}) == 3
    for row in rows:
        assert (tmp_path / row["file"]).read_bytes() == FakeService.wav(row["text"])


def test_a_throttle_is_a_retry_after_what_the_service_asks(
    app: Any, service: FakeService, pauses: list[float], tmp_path: Path
) -> None:
    service.fail(429, times=9, retry_after="77")
    speak(TEXTS, tmp_path)
    assert [round(pause) for pause in pauses] == [77]


def test_a_wait_is_never_longer_than_what_brokers_bear(
    app: Any, service: FakeService, pauses: list[float], tmp_path: Path
) -> None:
    service.fail(429, times=9, retry_after="7000")
    speak(TEXTS, tmp_path)
    assert pauses == [900.0]


def test_an_open_breaker_is_a_retry(
    app: Any, service: FakeService, pauses: list[float], tmp_path: Path
) -> None:
    app.conf.cosy_sync["priority"] = "interactive"  # which does not wait for a breaker
    service.fail(503, times=1_000)
    for _ in range(30):
        speak(TEXTS, tmp_path)
    sent = len(service.calls)
    speak(TEXTS, tmp_path)
    assert len(service.calls) == sent
    assert 0 < pauses[-1] <= 900


def test_after_a_retry_every_text_is_there_and_none_was_spoken_twice(
    app: Any, service: FakeService, tmp_path: Path
) -> None:
    service.answer(lambda request: FakeService.speak(json.loads(request.read())["texts"]))
    service.fail(503, times=1)
    app.conf.cosy_sync["batch_size"] = 10
    done = speak(TEXTS, tmp_path)
    assert done["failed"] == 0 and len(list(tmp_path.rglob("*.wav"))) == 40
    assert sum(map(len, service.calls)) == 50  # the refused request's ten are no sound


def test_a_wrong_key_fails_at_once(
    app: Any, service: FakeService, pauses: list[float], tmp_path: Path
) -> None:
    service.fail(401, times=99)
    with pytest.raises(AuthError):
        speak(TEXTS, tmp_path)
    assert pauses == []


def test_a_text_that_is_refused_is_in_the_manifest_and_the_others_are_stored(
    app: Any, pauses: list[float], tmp_path: Path
) -> None:
    done = speak([("good", "你好。"), ("bad", "  ")], tmp_path)
    assert (done["stored"], done["failed"]) == (1, 1)
    good, bad = manifest(tmp_path, done["manifest"])
    assert bad["error"]["type"] == "InvalidTextError" and "file" not in bad
    assert pauses == [] and (tmp_path / good["file"]).exists()


def test_a_soft_time_limit_keeps_what_was_finished_and_goes_on(
    app: Any, service: FakeService, pauses: list[float], tmp_path: Path, monkeypatch: Any
) -> None:
    given = iter(range(1_000))

    def outcomes(self: Any, texts: Any, **more: Any) -> Iterator[Any]:
        for outcome in self.synth_many(texts, on_error="return"):
            if next(given) == 3:
                error = SoftTimeLimitExceeded()
                error.outcomes = [outcome]
                raise error
            yield outcome

    monkeypatch.setattr("cosy_sync.CosyClient.synth_iter", outcomes)
    speak(TEXTS, tmp_path)
    assert pauses == [0] and len(list(tmp_path.rglob("*.wav"))) == 4


def test_a_soft_time_limit_between_two_outcomes_keeps_what_was_finished(
    app: Any, service: FakeService, pauses: list[float], tmp_path: Path, monkeypatch: Any
) -> None:
    from cosy_sync.contrib.stored_batch import StoredBatch

    class Threads:
        """Raises where the caller's own code runs, as a signal does."""

        def __init__(self, threads: Any) -> None:
            self._threads, self.left = threads, 1

        def submit(self, *given: Any) -> Any:
            self.left -= 1
            put = self._threads.submit(*given)
            if self.left == 0:
                raise SoftTimeLimitExceeded()
            return put

    real = StoredBatch._speak
    monkeypatch.setattr(
        StoredBatch, "_speak", lambda self, missing, threads: real(self, missing, Threads(threads))
    )
    speak(TEXTS[:8], tmp_path)  # of one request
    assert len(list(tmp_path.rglob("*.wav"))) == 8


def test_a_store_that_hangs_does_not_hold_up_the_end_of_a_task(
    app: Any, pauses: list[float], tmp_path: Path, monkeypatch: Any
) -> None:
    freed = threading.Event()

    class Hanging(LocalStore):
        def put(self, *given: Any, **more: Any) -> bool:
            freed.wait(20)
            return True

    def outcomes(self: Any, texts: Any, **more: Any) -> Iterator[Any]:
        yield from self.synth_many(texts, on_error="return")
        raise SoftTimeLimitExceeded()

    monkeypatch.setattr("cosy_sync.contrib.stored_batch._GRACE", 0.01)
    monkeypatch.setattr("cosy_sync.CosyClient.synth_iter", outcomes)
    tasks._stores[str(tmp_path)] = Hanging(tmp_path)
    speak(TEXTS, tmp_path)
    freed.set()
    assert pauses == [1.0]


def test_a_soft_time_limit_without_any_progress_is_tried_again_later(
    app: Any, pauses: list[float], tmp_path: Path, monkeypatch: Any
) -> None:
    def outcomes(self: Any, texts: Any, **more: Any) -> Iterator[Any]:
        raise SoftTimeLimitExceeded()
        yield

    monkeypatch.setattr("cosy_sync.CosyClient.synth_iter", outcomes)
    speak(TEXTS, tmp_path)
    assert pauses == [1.0]


@pytest.mark.parametrize(
    ("error", "again"), [(OSError("busy"), True), (PermissionError("keys"), False)]
)
def test_a_store_that_is_away_is_a_retry_and_one_that_refuses_is_not(
    app: Any, service: FakeService, pauses: list[float], tmp_path: Path, error: Any, again: bool
) -> None:
    class Store(LocalStore):
        def put(self, *given: Any, **more: Any) -> bool:
            raise error

    tasks._stores[str(tmp_path)] = Store(tmp_path)
    with nullcontext() if again else pytest.raises(PermissionError):
        speak(TEXTS, tmp_path)
    assert len(pauses) == again


def test_chunks_are_plain_values_of_every_kind_of_text() -> None:
    given = [
        "你好",
        ("a", "再见"),
        Utterance("早", id=3, voice="中文女"),
        {"text": "晚", "speed": 2},
    ]
    np = pytest.importorskip("numpy")
    given = [each if each != ("a", "再见") else (np.int64(7), "再见") for each in given]
    chunks = list(tasks.split(given, 3))
    assert json.loads(json.dumps(chunks)) == chunks
    assert chunks == [
        [
            {"text": "你好"},
            {"text": "再见", "id": 7},
            {"text": "早", "id": 3, "voice": "中文女"},
        ],
        [{"text": "晚", "speed": 2}],
    ]


@pytest.mark.parametrize("given", ["你好", {"text": "你好"}, [3], [{"text": "a", "speak": 1}]])
def test_what_is_no_list_of_texts_is_refused_before_it_is_sent(given: Any) -> None:
    with pytest.raises(ConfigError, match="texts: expected"):
        list(tasks.split(given))


def test_monitors_are_not_shown_the_texts(app: Any, tmp_path: Path) -> None:
    app.conf.task_always_eager = False
    tasks.speak_all(TEXTS, tmp_path)
    with app.connection_for_read() as connection, connection.SimpleQueue("celery") as queue:
        headers = [queue.get_nowait().headers for _ in range(2)]
    assert headers[0]["argsrepr"] == "(40 texts)"
    assert not any(text in json.dumps(headers, ensure_ascii=False) for text in TEXTS)


def test_chunks_of_no_texts_are_refused() -> None:
    with pytest.raises(ConfigError, match="size: must be at least 1"):
        list(tasks.split(TEXTS, 0))


def test_all_chunks_end_in_one_manifest_in_order(app: Any, tmp_path: Path) -> None:
    done = tasks.speak_all(enumerate(TEXTS), str(tmp_path), size=7).get()
    assert (done["texts"], done["failed"]) == (40, 0) and done["seconds"] > 4
    rows = manifest(tmp_path, done["manifest"])
    assert [row["id"] for row in rows] == list(range(40))


def left(to: Path) -> list[str]:
    return sorted(each.name for each in (to / ".cosy-parts").iterdir())


def test_the_manifests_of_chunks_are_removed_once_they_are_joined(app: Any, tmp_path: Path) -> None:
    tasks.speak_all(TEXTS, str(tmp_path), size=10).get()
    (note,) = left(tmp_path)
    assert note.endswith(".json") and len(manifest(tmp_path, "manifest.jsonl")) == 40


def test_a_join_that_comes_twice_tells_the_same_again(
    app: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(tasks, "uuid4", lambda: UUID(int=7))
    first = tasks.speak_all(TEXTS, str(tmp_path), size=10).get()
    again = [str(tmp_path), UUID(int=7).hex, 4, "manifest.jsonl", 4]
    assert tasks.merge_parts.apply(args=again).get() == first


def test_keys_that_may_not_remove_leave_the_chunks_manifests(
    app: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    def refuse(*given: Any) -> None:
        raise PermissionError("these keys may not remove")

    monkeypatch.setattr(LocalStore, "delete", refuse)
    assert tasks.speak_all(TEXTS, str(tmp_path), size=10).get()["texts"] == 40
    assert len(left(tmp_path)) == 2


def test_an_id_that_comes_twice_is_refused_before_anything_is_sent(
    app: Any, service: FakeService, tmp_path: Path
) -> None:
    texts = [*((number, "你好") for number in range(9)), ("7", "再见")]
    with pytest.raises(ConfigError, match="texts 7 and 9 have the same, '7'"):
        tasks.speak_all(texts, str(tmp_path), size=4)
    assert service.calls == []
    assert len(list(tasks.split(["你好", "你好"]))) == 1  # without an id, each is one by itself


@pytest.mark.parametrize("count", [0, 1])
def test_few_texts_end_in_a_manifest_too(app: Any, tmp_path: Path, count: int) -> None:
    done = tasks.speak_all(TEXTS[:count], str(tmp_path)).get()
    assert done["texts"] == count == len(manifest(tmp_path, "manifest.jsonl"))


def test_a_manifest_waits_for_a_chunk_that_is_still_spoken(
    app: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    told: list[Any] = []

    def retry(*, args: Any, exc: Exception, countdown: float) -> None:
        told.append((args[-1], str(exc)))
        raise Retry("again", exc, countdown)

    monkeypatch.setattr(app.tasks[tasks.merge_parts.name], "retry", retry)
    part = tasks.part_key("run", 0)
    tasks.speak_to_storage.apply(args=[TEXTS[:3], str(tmp_path), None, part]).get()
    tasks.merge_parts.apply(args=[str(tmp_path), "run", 2, "manifest.jsonl"]).get()
    assert told == [(1, f"{tmp_path}: chunk 2 of 2 has not ended")]


def test_chunks_that_fail_for_good_are_in_the_manifest_with_their_error(
    app: Any, service: FakeService, tmp_path: Path
) -> None:
    service.fail(401, times=99)
    done = tasks.speak_all(TEXTS, str(tmp_path), size=10).get()
    assert (done["texts"], done["failed"]) == (40, 40)
    rows = manifest(tmp_path, "manifest.jsonl")
    assert {row["error"]["type"] for row in rows} == {"AuthError"}
    assert [row["text"] for row in rows] == TEXTS


def test_settings_that_cannot_be_are_in_the_manifest_too(app: Any, tmp_path: Path) -> None:
    done = tasks.speak_all(TEXTS[:2], str(tmp_path), settings={"speed": 99}).get()
    assert done["failed"] == 2
    assert "speed" in manifest(tmp_path, "manifest.jsonl")[0]["error"]["message"]


def test_a_task_whose_retries_are_used_up_lists_what_is_missing(
    app: Any, service: FakeService, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(app.tasks[tasks.speak_to_storage.name], "max_retries", 1)
    service.answer(FakeService.speak(TEXTS[:10]))
    service.fail(429, times=99, retry_after="0")
    app.conf.cosy_sync["batch_size"] = 10
    done = tasks.speak_all(TEXTS[:20], str(tmp_path)).get()
    assert (done["texts"], done["failed"]) == (20, 10)


def test_an_error_reaches_whoever_waits_as_itself(app: Any, service: FakeService) -> None:
    backend, error = app.backend, ThrottledError("slower", retry_after=3.0, status=429)
    again = backend.exception_to_python(backend.prepare_exception(error, "json"))
    assert isinstance(again, ThrottledError) and again.retry_after == 3.0


def test_settings_may_be_plain_values_as_a_broker_or_a_file_has_them() -> None:
    url = [{"url": URL, "rate": 7}, "http://b.test/batch"]
    given = json.loads(json.dumps({"url": url, "retry": {"max_retries": 1}}))
    client = client_here(given)
    assert (client.config.retry.max_retries, client.endpoints[0].rate) == (1, 7)
    assert client_here(given) is client
    with pytest.raises(ConfigError, match="did you mean max_retries"):
        client_here({"url": URL, "retry": {"max_retrys": 1}})
    close_clients()


def test_a_process_has_one_client_of_the_same_settings(app: Any) -> None:
    settings = dict(app.conf.cosy_sync)
    first = client_here(settings)
    assert client_here(dict(settings)) is first
    assert client_here({**settings, "speed": 2.0}) is not first
    close_clients()
    assert first.closed and client_here(settings) is not first


@pytest.mark.parametrize("end", ["worker_process_shutdown", "worker_shutdown"])
def test_the_client_is_closed_when_its_process_ends(app: Any, end: str) -> None:
    client = client_here(app.conf.cosy_sync)
    getattr(celery.signals, end).send(sender=None)
    assert client.closed


def test_a_bucket_opens_only_where_it_is_used_not_before_a_worker_forks() -> None:
    assert tasks._store("s3://bucket/speech")._made is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": URL, "voise": "中文女"}, "did you mean voice?"),
        ({"url": "tts.test/batch"}, "has no scheme"),
        ({"voice": "中文女"}, "no endpoint"),
    ],
)
def test_a_worker_tells_at_its_start_of_settings_that_no_client_takes(
    settings: dict[str, Any], words: str
) -> None:
    assert words in traps("solo", cosy_sync=settings)


def traps(pool: str = "prefork", concurrency: int = 2, **conf: Any) -> str:
    return " ".join(found_traps(conf, pool, concurrency))


def test_a_worker_tells_at_its_start_what_would_surprise_later(monkeypatch: Any) -> None:
    assert "COSY_SYNC_SHARING_REDIS_URL" in traps()
    assert traps(concurrency=1) == traps("thread") == traps("solo") == ""
    assert traps(cosy_sync={"url": URL, "sharing": {"redis_url": "redis://here"}}) == ""
    monkeypatch.setenv("COSY_SYNC_SHARING_REDIS_URL", "redis://here")
    assert traps() == ""
    assert "task_soft_time_limit" in traps(task_time_limit=200)
    slow = {
        "broker_url": "redis://here",
        "task_time_limit": 4_000,
        "task_soft_time_limit": 3_900,
    }
    assert "visibility_timeout" in traps(**slow)
    assert traps(**slow, broker_transport_options={"visibility_timeout": 5_000}) == ""
    assert traps(**{**slow, "broker_url": "amqp://here"}) == ""
    assert "COSY_SYNC_DEADLINE" in traps(task_soft_time_limit=30)
    assert traps(task_soft_time_limit=30, cosy_sync={"url": URL, "deadline": 20}) == ""
