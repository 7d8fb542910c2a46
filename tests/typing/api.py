"""The API as type checkers see it: never run, only checked; each wrong line must be one."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from typing_extensions import assert_type

import cosy_sync
from cosy_sync import (
    Audio,
    BatchError,
    CacheConfig,
    CacheStats,
    CacheStore,
    CanaryConfig,
    CosyClient,
    CosyError,
    DiskCache,
    Endpoint,
    Event,
    Outcome,
    RetryConfig,
    SpeechStream,
    Stats,
    StoredOutcome,
    Timing,
    Utterance,
    Variant,
    Voice,
)
from cosy_sync.storage import LocalStore


def calls(client: CosyClient, texts: list[str]) -> None:
    assert_type(client.synth("你好"), Audio)
    assert_type(client.submit("你好"), Future[Audio])
    assert_type(client.stream("你好"), SpeechStream)
    assert_type(client.synth_many(texts), list[Audio])
    assert_type(client.synth_many(texts, on_error="return"), list[Outcome])
    assert_type(client.synth_iter(texts), Iterator[Outcome])
    assert_type(client.synth_many(texts, to="s3://bucket/prefix"), list[StoredOutcome])
    assert_type(client.synth_many(texts, to=Path("a"), on_error="return"), list[StoredOutcome])
    assert_type(client.synth_iter(texts, to=LocalStore("a")), Iterator[StoredOutcome])
    assert_type(client.synth_iter(texts, to="a", read_ahead=9), Iterator[StoredOutcome])
    client.synth_many(texts, to=5)  # type: ignore[call-overload]
    assert_type(client.stats(), Stats)
    assert_type(client.with_options(deadline=5), CosyClient)
    assert_type(client.drain("http://a.test/batch"), bool)
    client.synth(5)  # type: ignore[arg-type]
    assert_type(client.synth("你好", voice="中文女", speed=1.5, deadline=5), Audio)
    assert_type(client.submit("你好", voice=Voice("中文女"), instruction="慢"), Future[Audio])
    assert_type(client.stream("你好", model="cosyvoice-v2"), SpeechStream)
    assert_type(client.synth_many(texts, voice="中文女", within=60), list[Audio])
    assert_type(client.synth_many(texts, on_error="return", speed=2), list[Outcome])
    assert_type(client.synth_iter(texts, tenant="a"), Iterator[Outcome])
    pairs = [("a", "你好"), ("b", "再见")]
    assert_type(client.synth_many(pairs), list[Audio])
    item = Utterance("早上好", id=3, voice="中文男", speed=1.2)
    assert_type(client.synth_many([*texts, ("a", "再见"), item], on_error="return"), list[Outcome])
    assert_type(client.synth_iter(Utterance(text, id=text) for text in texts), Iterator[Outcome])
    assert_type(cosy_sync.synth_many(list({"a": "你好"}.items())), list[Audio])
    client.synth_many([["a", "你好"]])  # type: ignore[list-item]
    client.synth("你好", voice=5)  # type: ignore[arg-type]
    client.synth("你好", speaker="中文女")  # type: ignore[call-arg]
    client.synth("你好", retry=RetryConfig())  # type: ignore[call-arg]
    client.synth_many(texts, on_error="ignore")  # type: ignore[call-overload]


def module_calls(texts: list[str]) -> None:
    assert_type(cosy_sync.synth("你好"), Audio)
    assert_type(cosy_sync.synth("你好", voice="中文女"), Audio)
    assert_type(cosy_sync.submit("你好"), Future[Audio])
    assert_type(cosy_sync.synth_many(texts), list[Audio])
    assert_type(cosy_sync.synth_many(texts, on_error="return"), list[Outcome])
    assert_type(cosy_sync.synth_iter(texts), Iterator[Outcome])
    assert_type(cosy_sync.synth_many(texts, to="out"), list[StoredOutcome])
    assert_type(cosy_sync.synth_iter(texts, to="out"), Iterator[StoredOutcome])
    assert_type(cosy_sync.configure("http://a.test/batch", deadline=5), CosyClient)


def outcomes(outcome: Outcome) -> None:
    assert_type(outcome.result(), Audio)
    assert_type(outcome.result().pcm(), bytes)
    assert_type(bool(outcome), bool)
    assert_type(outcome.id, str | int | None)
    assert_type(outcome.timing, Timing | None)
    if outcome.audio is not None:
        assert_type(outcome.audio, Audio)
    if outcome.error is not None:
        assert_type(outcome.error, CosyError)
    outcome.audio.pcm()  # type: ignore[union-attr]


def settings() -> None:
    with CosyClient(
        "http://a.test/batch", voice="中文女", retry=RetryConfig(max_retries=1)
    ) as client:
        assert_type(client, CosyClient)
    CosyClient([Endpoint("http://a.test/batch", rate=5)], voice=Voice("中文女"), format="pcm")
    RetryConfig(retries=3)  # type: ignore[call-arg]
    Endpoint("http://a.test/batch", rps=5)  # type: ignore[call-arg]
    CosyClient("http://a.test/batch", timeout=5)  # type: ignore[call-arg]
    CosyClient("http://a.test/batch", format="mp3", quality=0.3, prepare=str.strip)
    CosyClient("http://a.test/batch", format="aac")  # type: ignore[arg-type]
    CosyClient("http://a.test/batch", prepare=[str.strip, str.lower])
    client.voice = "中文女"  # type: ignore[attr-defined]
    client.retry = RetryConfig()  # type: ignore[attr-defined]


def cached(path: str) -> None:
    store: CacheStore = DiskCache(path, max_bytes=1 << 30)
    with CosyClient("http://a.test/batch", cache=CacheConfig(store=store)) as client:
        assert_type(client.cache.stats(), CacheStats)
        assert_type(client.digest("你好"), str)
        assert_type(client.synth("你好").from_cache, bool)
    DiskCache(path, size=3)  # type: ignore[call-arg]


def canary(new: Endpoint) -> None:
    with CosyClient("http://a.test/batch", canary=Variant(model="v3", share=0.05)) as client:
        assert_type(client.synth("你好", variant="canary").variant, str)
        assert_type(client.stats().canary, tuple[str, float, str] | None)
        client.synth("你好", variant="control")  # type: ignore[arg-type]
    config = CanaryConfig(variant=Variant(url=new.url), promote=True, false_alarms=0.001)
    CosyClient(["http://a.test/batch", new], canary=config)
    CosyClient("http://a.test/batch", canary="v3")  # type: ignore[arg-type]


def errors(error: BatchError) -> None:
    assert_type(error.failures, list[Outcome])
    assert_type(error.attempts, tuple[CosyError, ...])
    assert_type(error.attempt_count, int)


class Watcher:
    """An observer, by its method alone."""

    def on_event(self, event: Event) -> None:
        """Take notice."""


CosyClient("http://a.test/batch", observers=[Watcher()])
