"""Metrics for Prometheus: they equal what the client counts, and examples use no others."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import prometheus_client
import pytest

import cosy_sync
from cosy_sync import BatchError, ConfigError, CosyClient, RetryConfig, Variant
from cosy_sync.events import BreakerChanged, CanaryChanged, TextsShared
from cosy_sync.instrumentation import PrometheusObserver, names
from cosy_sync.testing import Server

ROOT = Path(cosy_sync.__file__).parents[1]
TEXTS = [f"第{number}句话，今天天气很好。" for number in range(100)]


def value(registry: prometheus_client.CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(f"cosy_sync_{name}", labels) or 0.0


def test_the_metrics_are_what_the_client_counts() -> None:
    registry = prometheus_client.CollectorRegistry()
    observer = PrometheusObserver(registry)
    with (
        Server(latency=0) as server,
        CosyClient(server.url, observers=[observer], retry=RetryConfig(max_retries=0)) as client,
    ):
        client.synth_many(TEXTS)
        with pytest.raises(BatchError):
            client.synth_many(["坏了[fail]坏了", "好的，谢谢你。"])
        stats = client.stats()
        endpoint = client.endpoints[0].label
    assert value(registry, "texts_total", result="ok") == stats.texts_ok == 101
    assert value(registry, "texts_total", result="TextError") == stats.texts_failed == 1
    assert value(registry, "characters_total") == stats.chars_ok
    assert value(registry, "audio_seconds_total") == pytest.approx(stats.audio_seconds)
    assert value(registry, "text_seconds_count") == 101
    requests = value(registry, "request_seconds_count", endpoint=endpoint, result="ok")
    assert requests == stats.requests


def test_a_canarys_share_and_rollbacks_show() -> None:
    registry = prometheus_client.CollectorRegistry()
    observer = PrometheusObserver(registry)
    observer.on_event(CanaryChanged("v3", "running", 0.0, 0.05, ""))
    assert value(registry, "canary_share", canary="v3") == 0.05
    observer.on_event(CanaryChanged("v3", "rolled back", 0.05, 0.0, "slow"))
    assert value(registry, "canary_share", canary="v3") == 0.0
    assert value(registry, "canary_rollbacks_total", canary="v3") == 1


@pytest.mark.parametrize(("state", "number"), [("running", 0), ("promoted", 1), ("rolled back", 2)])
def test_a_canarys_verdict_is_a_number(state: str, number: int) -> None:
    registry = prometheus_client.CollectorRegistry()
    PrometheusObserver(registry).on_event(CanaryChanged("v3", state, 0.0, 0.5, ""))
    assert value(registry, "canary_state", canary="v3") == number


def test_texts_and_errors_are_counted_by_variant() -> None:
    registry = prometheus_client.CollectorRegistry()
    with (
        Server(latency=0) as old,
        Server(latency=0, faults={"status-500": 1.0}) as new,
        CosyClient(
            [old.url, new.url],
            canary=Variant(url=new.url, share=0.2),
            observers=[PrometheusObserver(registry)],
        ) as client,
    ):
        variants = Counter(audio.variant for audio in client.synth_many(TEXTS))
        client.synth("你好", variant="canary")

    def spoken(variant: str, result: str = "ok") -> float:
        labels = {"canary": new.url.removeprefix("http://"), "variant": variant, "result": result}
        return value(registry, "canary_texts_total", **labels)

    assert spoken("stable") == variants["stable"] and spoken("control") == variants["control"]
    assert spoken("fallback") == variants["fallback"] + 1 == spoken("canary", "UnavailableError")
    assert not spoken("canary")


def test_what_the_cache_answered_is_counted_as_the_client_does() -> None:
    registry = prometheus_client.CollectorRegistry()
    observer = PrometheusObserver(registry)
    with (
        Server(latency=0) as server,
        CosyClient(server.url, observers=[observer], cache="memory") as client,
    ):
        client.synth_many(TEXTS[:60])
        client.synth_many(TEXTS)
        client.synth_many(["坏了[fail]坏了"], on_error="return")
        client.synth_many(["坏了[fail]坏了"], on_error="return")
        stats = client.stats()
    assert value(registry, "texts_total", result="cached") == stats.cache_hits - 1 == 60
    assert value(registry, "cache_lookups_total", result="hit") == 60
    assert value(registry, "cache_lookups_total", result="miss") == stats.cache_misses == 101
    assert value(registry, "cache_lookups_total", result="refused") == 1
    assert value(registry, "cache_saved_bytes_total") == stats.cache_bytes > 60_000


def test_an_outage_shows_in_requests_and_texts() -> None:
    registry = prometheus_client.CollectorRegistry()
    observer = PrometheusObserver(registry)
    retry = RetryConfig(max_retries=1, outlast=1.0)
    url = "http://127.0.0.1:1/batch"
    with CosyClient(url, observers=[observer], retry=retry, deadline=5.0) as client:
        outcomes = client.synth_many(TEXTS, on_error="return")
        endpoint = client.endpoints[0].label
    assert not any(outcomes)
    assert value(registry, "request_seconds_count", endpoint=endpoint, result="ConnectError") > 0
    failed = registry.get_sample_value
    names = {type(outcome.error).__name__ for outcome in outcomes}
    assert sum(failed("cosy_sync_texts_total", {"result": name}) or 0 for name in names) == 100


@pytest.mark.parametrize(("state", "number"), [("open", 2), ("half-open", 1), ("closed", 0)])
def test_a_breakers_state_is_a_number(state: str, number: int) -> None:
    registry = prometheus_client.CollectorRegistry()
    PrometheusObserver(registry).on_event(BreakerChanged("http://a", "closed", state))
    assert registry.get_sample_value("cosy_sync_breaker_state", {"endpoint": "http://a"}) == number


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"pip install 'cosy-sync\[prometheus\]'"):
        PrometheusObserver()


def test_processes_of_a_prefork_host_are_added_up(tmp_path: Path) -> None:
    program = """
import os, prometheus_client
from prometheus_client import multiprocess
from cosy_sync import CosyClient
from cosy_sync.instrumentation import PrometheusObserver, names
from cosy_sync.testing import Server
client_of = lambda url: CosyClient(url, observers=[PrometheusObserver()])
with Server(latency=0) as server:
    client = client_of(server.url)
    children = []
    for number in range(3):
        pid = os.fork()
        if pid == 0:
            client.synth_many([f"第{number}个孩子说的第{n}句话。" for n in range(10)])
            os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    client.synth("父亲说的一句话。")
    registry = prometheus_client.CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    print(registry.get_sample_value("cosy_sync_texts_total", {"result": "ok"}))
    client.close()
"""
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "31.0\n"


def test_all_names_are_in_the_one_table_and_on_the_page() -> None:
    registry = prometheus_client.CollectorRegistry()
    PrometheusObserver(registry)
    made = {metric.name.removeprefix("cosy_sync_") for metric in registry.collect()}
    assert made == set(names.METRICS)
    page = (ROOT / "docs/metrics.md").read_text("utf-8")
    ours = [f"cosy_sync.{name}" for name in names.MEASURES]
    theirs = [value for name, value in vars(names).items() if name.isupper() and type(value) is str]
    assert [name for name in (*ours, *theirs) if f"`{name}`" not in page] == []
    for module in ("prometheus", "opentelemetry"):
        source = (ROOT / f"cosy_sync/instrumentation/{module}.py").read_text("utf-8")
        assert not re.findall(r'"cosy_sync[._](?!\{)', source)


def test_the_alert_on_failed_texts_counts_none_that_got_its_audio() -> None:
    registry = prometheus_client.CollectorRegistry()
    observer = PrometheusObserver(registry)
    with (
        Server(latency=0) as server,
        CosyClient(server.url, observers=[observer], cache="memory") as client,
    ):
        assert not client.synth("你好").from_cache
        assert client.synth("你好").from_cache
    observer.on_event(TextsShared(1, 2))
    results = {
        sample.labels["result"]
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "cosy_sync_texts_total" and sample.value
    }
    rules = (ROOT / "examples/prometheus/alerts.yml").read_text("utf-8")
    (left_out,) = re.findall(r'result!~"([\w|]+)"', rules)
    assert results == set(left_out.split("|")) == {"ok", "shared", "cached"}


@pytest.mark.parametrize("name", ["dashboard.json", "alerts.yml"])
def test_the_examples_use_metrics_that_there_are(name: str) -> None:
    registry = prometheus_client.CollectorRegistry()
    PrometheusObserver(registry)
    known = set()
    for metric in registry.collect():
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}
        known |= {metric.name + ending for ending in endings[metric.type]}
    text = (ROOT / "examples/prometheus" / name).read_text("utf-8")
    if name.endswith("json"):
        json.loads(text)
    used = set(re.findall(r"cosy_sync_\w+", text)) - {"cosy_sync"}
    assert used and used <= known
    page = (ROOT / "docs/metrics.md").read_text("utf-8")
    assert [metric.name for metric in registry.collect() if metric.name not in page] == []
