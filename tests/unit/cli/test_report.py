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

import cosy_sync
from cosy_sync.cli.corpus import load_sentences
from cosy_sync.cli.report import Row, Summary, charts, render
from cosy_sync.cli.report.charts import Box, Chart, Dot, Mark, Rule, bars, ticks
from cosy_sync.cli.report.figures import duration, number, ratio, speech

VOID = {"meta", "link", "input", "br", "img", "hr"}
COLUMNS = ("play", "index", "text", "category", "seconds", "latency", "file")
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
        cells = re.findall(r"<td[^>]*>(.*?)</td>", line, re.DOTALL)
        plain = dict(zip(COLUMNS, map(words, cells), strict=True))
        spoken = re.search(r'<span lang="zh-CN">(.*?)</span>', cells[2], re.DOTALL)
        address = re.search(r'<a href="(.*?)">', cells[6])
        assert spoken
        plain["address"] = unescape(address[1]) if address else ""
        found.append({**plain, "spoken": unescape(spoken[1])})
    return found


def words(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html))


def corpus_rows(copies: int = 1) -> list[Row]:
    texts = load_sentences() * copies
    return [row(i, text=s.text, category=s.category) for i, s in enumerate(texts)]


def drawn(html: str) -> list[ElementTree.Element]:
    """Return the pictures of a page, or of a figure."""
    found = re.findall(r"<svg .*?</svg>", html, re.DOTALL)
    return [ElementTree.fromstring(picture) for picture in found]


def figure(*marks: Mark, names: Sequence[str] = ()) -> str:
    return Chart(
        title="Title <&>", caption="Caption.", x_title="x", y_title="y", marks=marks, names=names
    ).html()


def picture(*marks: Mark, names: Sequence[str] = ()) -> ElementTree.Element:
    (svg,) = drawn(figure(*marks, names=names))
    return svg


def places(svg: ElementTree.Element, tag: str, *names: str) -> list[list[float]]:
    return [[float(e.get(name, "nan")) for name in names] for e in svg.iter(tag)]


def texts(svg: ElementTree.Element) -> list[str]:
    return [e.text or "" for e in svg.iter("text")]


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
    assert html.count("http://") == html.count(f"Endpoint: {SUMMARY.endpoint.partition('?')[0]}")
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
    Page(html)
    assert len(drawn(html)) + html.count("There is nothing to draw.") == 2
    assert "nan" not in re.sub(r"<(style|script).*?</\1>", "", html, flags=re.DOTALL).lower()


def test_every_chart_is_xml_with_a_label_of_its_own() -> None:
    labels = [svg.get("aria-label") for svg in drawn(render(corpus_rows(), SUMMARY))]
    assert len(set(labels)) == 2 and all(labels)
    assert picture(Dot(1, 1, "tip")).get("aria-label") == "Title <&>. Caption."


def test_a_histogram_counts_every_latency() -> None:
    rows = [row(i, latency=wait) for i, wait in enumerate([0.2, 0.21, 0.21, 0.4, math.nan])]
    svg = drawn(render(rows, SUMMARY))[-1]
    tips = [box.findtext("title") or "" for box in svg.iter("rect")]
    assert sum(int(tip.split(": ")[1].split()[0]) for tip in tips) == 4


def test_bars_lie_side_by_side_and_an_empty_one_is_not_drawn() -> None:
    boxes = bars([2, 0, 3], 10.0, 5.0)
    assert [(box.left, box.right, box.high) for box in boxes] == [(10, 15, 2), (20, 25, 3)]
    assert boxes[1].tip == "20.0: 3 texts"


@pytest.mark.parametrize("span", [0.001, 1.9, 3.1, 250.0, 90_000.0, 1e7])
def test_buckets_stay_readable_however_long_the_run(span: float) -> None:
    assert span / charts.bucket_for(span) <= charts._MOST_BUCKETS


def test_calls_that_overlap_lie_above_one_another_and_failed_ones_are_marked() -> None:
    rows = [row(0, started=1.0, batch=7), row(1, started=0.0, batch=9, error="x"), row(2, batch=9)]
    rows += [row(3, started=2.0, batch=3, error="x")]
    (svg, _) = drawn(render(rows, replace(SUMMARY, failed=2)))
    boxes = [*svg.iter("rect")]
    assert [(box.findtext("title") or "").split(",")[0] for box in boxes] == [
        "batch 9: 2 texts", "batch 7: 1 texts", "batch 3: 1 texts",
    ]  # fmt: skip
    assert [box.get("class") for box in boxes] == ["", "", "failed"]
    heights = [float(box.get("y", "nan")) for box in boxes]
    assert heights == sorted(heights, reverse=True)


# -- pictures -----------------------------------------------------------------------------------


def test_marks_lie_where_their_values_are() -> None:
    svg = picture(Dot(0, 0, ""), Dot(5, 5, ""), Dot(10, 10, ""))
    xs, ys = zip(*places(svg, "circle", "cx", "cy"), strict=True)
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.1) and xs[0] < xs[2]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.1) and ys[0] > ys[2]
    ((x, y, wide, tall),) = places(
        picture(Box(2, 4, 0, 8, "")), "rect", "x", "y", "width", "height"
    )
    assert wide > 1 and tall > 1 and x >= charts._LEFT and y + tall == charts._BOTTOM - 1


def test_the_thinnest_box_is_seen() -> None:
    svg = picture(Box(0, 1e-6, 0, 1, ""), Box(0, 1000, 0, 1, ""))
    assert min(places(svg, "rect", "width")) == [1.0]


def test_names_stand_in_the_middle_of_their_places_and_the_last_always() -> None:
    names = [str(2**n) for n in range(12)]
    svg = picture(*(Box(i, i + 1, 0, 1, "") for i in range(12)), names=names)
    assert "2048" in texts(svg) and "1024" not in texts(svg) and "512" in texts(svg)
    svg = picture(Box(0, 1, 0, 1, ""), Box(1, 2, 0, 1, ""), names=["1", "2"])
    at = {e.text: float(e.get("x", "nan")) for e in svg.iter("text")}
    assert at["2"] - at["1"] == pytest.approx((charts._RIGHT - charts._LEFT) / 2)


def test_names_of_rules_stay_inside_and_apart() -> None:
    svg = picture(Dot(0, 1, ""), Dot(9, 1, ""), Rule(9, "knee"), Rule(9, "refused", row=1))
    knee, refused = (e for e in svg.iter("text") if e.text in ("knee", "refused"))
    assert knee.get("text-anchor") == "end" and knee.get("y") != refused.get("y")
    (early,) = (e for e in picture(Dot(9, 1, ""), Rule(0, "p50")).iter("text") if e.text == "p50")
    assert early.get("text-anchor") == "start"


def test_what_is_not_finite_is_left_out_and_nothing_at_all_says_so() -> None:
    svg = picture(
        Dot(1, 1, ""), Dot(math.nan, 1, ""), Box(0, math.inf, 0, 1, ""), Rule(math.nan, "")
    )
    assert len([*svg.iter("circle")]) == 1 and not [*svg.iter("rect")]
    assert "There is nothing to draw." in figure(Rule(1, "p50")) and not drawn(figure())


def test_tips_and_names_are_escaped() -> None:
    svg = picture(Dot(1, 1, "<b>&"), Rule(1, "<i>"))
    assert svg.find("circle/title").text == "<b>&" and "<i>" in texts(svg)  # type: ignore[union-attr]


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
    assert len({words for _, words in charts._labels(found)}) == len(found)


def test_one_value_has_an_axis_too() -> None:
    assert ticks(5, 5)[0] <= 5 < ticks(5, 5)[-1]


def test_figures_read_as_people_write_them() -> None:
    assert [duration(s) for s in (0.0, 0.0123, 0.2264, 1.934, 61.0)] == [
        "0 ms", "12.3 ms", "226 ms", "1.93 s", "61.0 s",
    ]  # fmt: skip
    assert [speech(s) for s in (5.24, 75, 4210)] == ["5.2 s", "1 min 15 s", "1 h 10 min"]
    assert [speech(h * 3600) for h in (99, 100, 2496.4)] == ["99 h 0 min", "100 h", "2,496 h"]
    assert [ratio(x) for x in (0.0, math.nan, 3.14, 410.2)] == ["–", "–", "3.1×", "410×"]
    assert [number(x) for x in (0, 4.634, 1899.6, 0.000125)] == ["0", "4.63", "1,900", "0.000125"]


def test_pictures_are_drawn_in_one_place() -> None:
    package = Path(cosy_sync.__file__).parent
    files = [file for file in package.rglob("*") if file.suffix in (".py", ".js", ".html", ".css")]
    assert len(files) > 200
    found = [
        file.name for file in files if re.search(r"<(svg|rect|circle)", file.read_text("utf-8"))
    ]
    assert found == ["charts.py"]


def test_the_parts_of_the_page_cannot_close_their_own_element() -> None:
    folder = Path(charts.__file__).parent
    assert "</script" not in (folder / "demo.js").read_text(encoding="utf-8")
    assert "</style" not in (folder / "style.css").read_text(encoding="utf-8")
