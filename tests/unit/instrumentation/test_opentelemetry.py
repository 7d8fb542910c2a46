"""Spans and metrics for OpenTelemetry."""

import sys
import threading
from collections import Counter
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from cosy_sync import ConfigError, CosyClient, RetryConfig, Variant
from cosy_sync.instrumentation import OpenTelemetryObserver
from cosy_sync.testing import Server


class Told:
    """What an observer has told."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._reader = InMemoryMetricReader()
        self.observer = OpenTelemetryObserver(
            {"gen_ai.request.model": "cosyvoice-v2"},
            tracer_provider=self.tracers,
            meter_provider=MeterProvider([self._reader]),
        )

    @property
    def spans(self) -> list[Any]:
        return list(self._spans.get_finished_spans())

    def metric(self, name: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        assert data is not None
        found = [
            metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        ]
        return list(found[0].data.data_points) if found else []


def test_each_request_is_a_span_and_each_text_is_counted() -> None:
    told = Told()
    with (
        Server(latency=0.05) as server,
        CosyClient(server.url, observers=[told.observer]) as client,
    ):
        client.synth_many([f"第{number}句话，今天天气很好。" for number in range(100)])
        requests = client.stats().requests
        port = int(server.url.split(":")[2].split("/")[0])
    spans = told.spans
    assert len(spans) == requests
    assert sum(span.attributes["cosy_sync.texts"] for span in spans) == 100
    for span in spans:
        facts = span.attributes
        assert facts["server.address"] == "127.0.0.1" and facts["server.port"] == port
        assert facts["gen_ai.output.type"] == "speech"
        assert facts["gen_ai.request.model"] == "cosyvoice-v2"
        assert span.end_time - span.start_time >= 0.05e9
        assert span.status.status_code is StatusCode.UNSET
    assert sum(point.value for point in told.metric("cosy_sync.texts")) == 100
    (duration,) = told.metric("gen_ai.client.operation.duration")
    assert duration.count == requests


def test_a_span_of_synth_is_below_the_callers_on_threads_that_send_themselves() -> None:
    told = Told()
    tracer = told.tracers.get_tracer("caller")

    def view() -> None:
        with tracer.start_as_current_span("view"):
            client.synth("今天天气很好。")

    with (
        Server(latency=0) as server,
        CosyClient(server.url, observers=[told.observer]) as client,
    ):
        thread = threading.Thread(target=view)
        thread.start()
        thread.join()
    ours, around = told.spans
    assert ours.parent.span_id == around.context.span_id


def test_spans_of_a_bulk_call_are_below_its_callers_and_of_shared_requests_below_none() -> None:
    told = Told()
    with (
        Server(latency=0) as server,
        CosyClient(server.url, observers=[told.observer]) as client,
        told.tracers.get_tracer("caller").start_as_current_span("view") as around,
    ):
        client.synth_many([f"第{n}句" for n in range(150)])
        below = [span.parent.span_id for span in told.spans]
        for future in [client.submit(f"第{n}个") for n in range(20)]:
            future.result()
    assert len(below) == 3 and set(below) == {around.get_span_context().span_id}
    shared = [span for span in told.spans[3:] if span.name != "view"]
    assert shared and {span.parent for span in shared} == {None}


def test_what_fails_is_marked_by_its_class() -> None:
    told = Told()
    retry = RetryConfig(max_retries=0, outlast=0.5)
    url = "http://127.0.0.1:1/batch"
    with CosyClient(url, observers=[told.observer], retry=retry, deadline=3.0) as client:
        assert not client.synth_many(["你好，朋友。"], on_error="return")[0]
    assert told.spans[0].status.status_code is StatusCode.ERROR
    assert told.spans[0].attributes["error.type"] == "ConnectError"
    (texts,) = told.metric("cosy_sync.texts")
    assert texts.value == 1 and "error.type" in texts.attributes


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ConfigError, match=r"pip install 'cosy-sync\[opentelemetry\]'"):
        OpenTelemetryObserver()


def test_what_the_cache_answered_is_counted() -> None:
    told = Told()
    with (
        Server(latency=0) as server,
        CosyClient(server.url, observers=[told.observer], cache="memory") as client,
    ):
        client.synth("今天天气很好。")
        client.synth("今天天气很好。")
        saved = client.stats().cache_bytes
    lookups = {
        point.attributes["cosy_sync.result"]: point.value
        for point in told.metric("cosy_sync.cache.lookups")
    }
    assert lookups == {"hit": 1, "miss": 1}
    assert [point.value for point in told.metric("cosy_sync.cache.saved")] == [saved]


def test_a_canarys_share_verdict_and_texts_show() -> None:
    told = Told()
    with (
        Server(latency=0) as old,
        Server(latency=0, faults={"status-500": 1.0}) as new,
        CosyClient(
            [old.url, new.url],
            canary=Variant(url=new.url, share=0.2),
            observers=[told.observer],
            batch_size=1,
        ) as client,
    ):
        client.synth_many([f"第{number}句话，今天天气很好。" for number in range(200)])
        assert (client.stats().canary or ("",))[0] == "rolled back"
    (share,) = told.metric("cosy_sync.canary.share")
    name = new.url.removeprefix("http://")
    assert share.value == 0 and share.attributes == {"cosy_sync.canary.name": name}
    changes = {
        point.attributes["cosy_sync.canary.state"]: point.value
        for point in told.metric("cosy_sync.canary.changes")
    }
    assert changes == {"running": 1, "rolled back": 1}
    texts: Counter[tuple[str, str]] = Counter()
    for point in told.metric("cosy_sync.canary.texts"):
        facts = point.attributes
        texts[facts["cosy_sync.canary.variant"], facts.get("error.type", "ok")] += point.value
    good = sum(count for (_, result), count in texts.items() if result == "ok")
    # What the breaker held back was no request of the new one.
    assert good == 200 and 0 < texts["canary", "UnavailableError"] <= texts["fallback", "ok"]
