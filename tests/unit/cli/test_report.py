"""The report: one well-formed page that loads nothing, escapes everything and hides no row."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from cosy_sync.cli.corpus import load_sentences
from cosy_sync.cli.report import Row, Summary, charts, render
from cosy_sync.cli.report.axes import labels, ticks
from cosy_sync.cli.report.charts import Span
from cosy_sync.cli.report.figures import duration, number, ratio, speech

VOID = {"meta", "link", "input", "br", "img", "hr"}
LOADING = {"src", "href", "xlink:href", "poster", "action", "data", "srcset", "formaction"}
EVIL = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "\"引号\" 'single' & &amp; <b>粗体</b>",
    "\u2028行\u2029段\x00空\ud800",
    "$css ${js} $$data {rows}",
]


class Page(HTMLParser):
    """Checks that tags nest, and collects what the page holds."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.inside: dict[str, list[str]] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.inside.setdefault(self.open[-1] if self.open else "", []).append(data)


def row(index: int = 0, **changes: object) -> Row:
    made = Row(
        index=index,
        text=f"第{index}句",
        category="service",
        file=f"audio/{index:04d}.wav",
        seconds=3.2,
        started=0.01 * (index // 64),
        latency=0.25,
        batch=index // 64,
        error=None,
        bytes=150_000,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


SUMMARY = Summary(
    texts=1000,
    failed=0,
    speech_seconds=4000.0,
    wall_seconds=1.9,
    texts_per_second=526.3,
    p50=0.25,
    p99=0.31,
    requests=16,
    retries=1,
    throttled=2,
    connections_peak=16,
    peak_requests_per_second=16.0,
    serial_texts_per_second=4.6,
    serial_count=40,
    speedup=114.0,
    real_time_factor=0.0005,
    engine="tone",
    endpoint="http://127.0.0.1:9/batch?<x>&y",
    version="0.1.0",
    created="2026-03-04T10:22:31+08:00",
)
NOTHING = replace(
    SUMMARY, texts=0, speech_seconds=0.0, wall_seconds=0.0, texts_per_second=0.0, speedup=0.0,
    p50=math.nan, p99=math.nan, real_time_factor=math.nan, serial_texts_per_second=0.0,
)  # fmt: skip


def table(html: str) -> list[dict[str, str]]:
    """Read the rows of the sentences: each cell by its class, and the file's address."""
    body = re.search(r'<tbody id="rows">(.*?)</tbody>', html, re.DOTALL)
    assert body
    found = []
    for line in re.findall(r"<tr .*?</tr>", body[1], re.DOTALL):
        cells = dict(re.findall(r'<td class="(\w+)">(.*?)</td>', line, re.DOTALL))
        plain = {name: unescape(re.sub(r"<[^>]*>", "", cell)) for name, cell in cells.items()}
        spoken = re.search(r'<span lang="zh-CN">(.*?)</span>', cells["text"], re.DOTALL)
        address = re.search(r'<a href="(.*?)">', cells["file"])
        assert spoken
        plain["address"] = unescape(address[1]) if address else ""
        found.append({**plain, "spoken": unescape(spoken[1])})
    return found


def corpus_rows(copies: int = 1) -> list[Row]:
    texts = load_sentences() * copies
    return [row(i, text=s.text, category=s.category) for i, s in enumerate(texts)]


def shapes(picture: str, kind: str) -> list[ElementTree.Element]:
    return [e for e in ElementTree.fromstring(picture).iter() if e.get("class") == kind]


def test_the_page_is_well_formed_and_has_every_text_in_order() -> None:
    rows = corpus_rows()
    html = render(rows, SUMMARY)
    Page(html)
    assert [(cells["index"], cells["spoken"], cells["category"]) for cells in table(html)] == [
        (str(r.index), r.text, r.category) for r in rows
    ]


def test_a_thousand_rows_make_a_small_page() -> None:
    assert len(render(corpus_rows(), SUMMARY).encode()) < 600_000


@pytest.mark.parametrize("text", EVIL)
def test_no_text_leaves_its_place(text: str) -> None:
    rows = [row(0, text=text, error=text, category=text, file=text)]
    summary = replace(SUMMARY, engine=text, endpoint=text)
    html = render(rows, summary)
    plain = render([row(0, error="broken")], SUMMARY)
    assert html.count("<script") == plain.count("<script")
    assert [t for t, *_ in Page(html).attributes] == [t for t, *_ in Page(plain).attributes]
    assert table(html)[0]["spoken"] == unescape(text.replace("\ud800", "?")) or "&" in text
    assert [t for t, *_ in Page(html).attributes] == [t for t, *_ in Page(plain).attributes]


def test_the_page_can_be_written_as_utf8_whatever_the_texts_hold() -> None:
    assert render(
        [row(0, text="\ud800", file="\ud800.wav")], replace(SUMMARY, engine="\udfff")
    ).encode()


@pytest.mark.parametrize(
    "path", ["音频/第 1 句#?%.wav", "//host/x.wav", "http://host/x.wav", "javascript:alert(1)"]
)
def test_a_file_is_an_encoded_address_below_the_page(path: str) -> None:
    address = table(render([row(0, file=path)], SUMMARY))[0]["address"]
    assert re.fullmatch(r"\./[\w./%~-]+", address, re.ASCII)
    assert unquote(address) == f"./{path}"


def test_nothing_is_loaded_from_anywhere() -> None:
    html = render(corpus_rows(), SUMMARY)
    page = Page(html)
    loads = [value for _, name, value in page.attributes if name in LOADING]
    assert all(value.startswith(("#", "data:,", "./audio/")) for value in loads)
    assert not re.search(r"@import|url\(|\bimport\b|fetch\(|XMLHttpRequest|WebSocket", html)
    assert html.count("http://") == html.count(f"<dd>{SUMMARY.endpoint.split('?')[0]}")
    assert "https://" not in html


def test_the_policy_of_the_page_forbids_the_network() -> None:
    policy = [v for t, n, v in Page(render([], NOTHING)).attributes if "default-src" in v]
    assert policy and policy[0].startswith("default-src 'none'")


def test_a_failed_row_shows_its_error_and_no_length() -> None:
    failed = row(3, error="ReplyTimeout: 30 s", file=None, seconds=None, bytes=0)
    cells = table(render([row(0), failed], replace(SUMMARY, failed=1)))[1]
    assert (cells["address"], cells["seconds"]) == ("", "–")
    assert cells["text"].endswith("ReplyTimeout: 30 s")


def test_what_was_not_measured_is_a_dash() -> None:
    cells = table(render([row(0, seconds=math.nan, latency=math.inf)], SUMMARY))[0]
    assert cells["seconds"] == cells["latency"] == "–"


@pytest.mark.parametrize(
    "rows",
    [[], [row(0)], [row(0, error="broken", file=None, seconds=None)] * 3, [row(0, latency=0.0)]],
    ids=["none", "one", "all failed", "no time at all"],
)
def test_small_and_broken_runs_make_a_page(rows: Sequence[Row]) -> None:
    html = render(rows, replace(NOTHING, texts=len(rows)))
    assert len(ElementTree.fromstring(f"<a>{pictures(html)}</a>")) == 3
    assert "nan" not in re.sub(r"<(style|script).*?</\1>", "", html, flags=re.DOTALL).lower()


def pictures(html: str) -> str:
    Page(html)
    return "".join(re.findall(r'<svg class="chart".*?</svg>', html, re.DOTALL))


def test_every_chart_is_xml_with_a_title_and_a_description_of_its_own() -> None:
    found = ElementTree.fromstring(f"<a>{pictures(render(corpus_rows(), SUMMARY))}</a>")
    names = [(p.findtext("title"), p.findtext("desc"), p.get("aria-labelledby")) for p in found]
    assert len(set(names)) == 3 and all(all(parts) for parts in names)


def test_the_histogram_counts_every_latency() -> None:
    bars = shapes(charts.latency_histogram([0.2, 0.21, 0.21, 0.4, math.nan], 0.21, 0.4), "bar")
    tips = [bar.findtext("title") or "" for bar in bars]
    assert sum(int(tip.split(": ")[1].split()[0]) for tip in tips) == 4


def test_throughput_counts_every_text() -> None:
    counts = charts.counted([0.01, 0.02, 0.06, 0.3, 0.3], 0.0, 0.05, 6)
    picture = charts.throughput(counts, 0.05, "5 texts.")
    tips = [bar.findtext("title") or "" for bar in shapes(picture, "bar")]
    assert [tip.split(": ")[1] for tip in tips] == ["2 texts", "1 texts", "2 texts"]


@pytest.mark.parametrize("span", [0.001, 1.9, 3.1, 250.0, 90_000.0, 1e7])
def test_buckets_stay_readable_however_long_the_run(span: float) -> None:
    assert span / charts.bucket_for(span) <= charts.MOST_BUCKETS


def test_batches_that_overlap_get_lanes_of_their_own() -> None:
    spans = [
        Span(batch=i, start=start, end=end, texts=64, failed=0)
        for i, (start, end) in enumerate([(0, 2), (1, 3), (2, 4), (1.5, 1.8), (3, 5)])
    ]
    assert [(lane, s.batch) for lane, s in charts.lanes(spans)] == [
        (0, 0), (1, 1), (2, 3), (0, 2), (1, 4),
    ]  # fmt: skip
    assert charts.peak(spans) == 3
    assert len(shapes(charts.batches_in_flight(spans), "flight")) == 5


def test_a_batch_of_which_nothing_came_back_is_marked() -> None:
    span = Span(batch=0, start=0.0, end=1.0, texts=2, failed=2)
    assert len(shapes(charts.batches_in_flight([span]), "flight failed")) == 1


def test_the_speed_up_is_told_once_and_what_is_heard_and_why_it_waits() -> None:
    html = render(corpus_rows(), replace(SUMMARY, engine="espeak"))
    assert html.count("114×") == 1
    assert "espeak-ng" in html and "not CosyVoice" in html
    assert "A text waits for its whole call, here of up to 64 texts" in html
    unmeasured = render([row(0)], replace(SUMMARY, serial_texts_per_second=0.0, speedup=0.0))
    assert "one by one was not measured" in unmeasured


@pytest.mark.parametrize("high", [0.003, 0.9, 1, 7, 64, 999, 123_456.0])
@pytest.mark.parametrize("low", [0.0, 0.0001, 0.0029])
def test_ticks_are_even_and_cover_the_range(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found[0] <= low and found[-1] >= high - 1e-9
    assert 2 <= len(found) <= 8
    assert len(set(labels(found))) == len(found)


def test_ticks_of_counts_are_whole() -> None:
    assert ticks(0, 1, whole=True) == [0, 1]
    assert ticks(5, 5)[0] <= 5 < ticks(5, 5)[-1]


def test_figures_read_as_people_write_them() -> None:
    assert [duration(s) for s in (0.0, 0.0123, 0.2264, 1.934, 61.0)] == [
        "0 ms", "12.3 ms", "226 ms", "1.93 s", "61.0 s",
    ]  # fmt: skip
    assert [speech(s) for s in (5.24, 75, 4210)] == ["5.2 s", "1 min 15 s", "1 h 10 min"]
    assert [speech(h * 3600) for h in (99, 100, 2496.4)] == ["99 h 0 min", "100 h", "2,496 h"]
    assert [ratio(x) for x in (0.0, math.nan, 3.14, 410.2)] == ["–", "–", "3.1×", "410×"]
    assert [number(x) for x in (0, 4.634, 1899.6, 0.000125)] == ["0", "4.63", "1,900", "0.000125"]


def test_the_parts_of_the_page_cannot_close_their_own_element() -> None:
    folder = Path(charts.__file__).parent
    assert "</script" not in (folder / "demo.js").read_text(encoding="utf-8")
    for name in ("base.css", "demo.css"):
        assert "</style" not in (folder / name).read_text(encoding="utf-8")
