"""The documents tell the limits that hold where nobody sets others."""

import re
from pathlib import Path

import pytest
from wires import Case, cases

from cosy_sync import BatchConfig, CosyClient, Endpoint, OverloadConfig

PAGE = (Path(__file__).parents[2] / "docs" / "services.md").read_text("utf-8")
# Its services differ; the wire's own page has a table of them.
DIFFERS = "openai"


def told(wire: str) -> str:
    (row,) = re.findall(rf"^\| `{wire}` \| .*\|$", PAGE, re.MULTILINE)
    return str(row)


def rows() -> list[Case]:
    return [
        case for case in cases() if (case.wire or case.name) != DIFFERS and "old" not in case.name
    ]


@pytest.mark.parametrize("case", rows(), ids=lambda case: case.name)
def test_the_page_of_services_tells_each_wires_usual_limits(case: Case) -> None:
    can, row = case.capabilities, told(case.wire or case.name)
    rate = f"{can.rate:,.0f}".replace(",", " ")
    assert re.search(rf"\| {can.max_texts_per_call} \|", row)
    assert re.search(rf"\| {can.max_connections} (in flight|connections), {rate} \w+/s \|", row)


def test_synth_iter_tells_how_far_it_reads_ahead() -> None:
    most, size = Endpoint("http://tts.test/batch").max_connections, BatchConfig.max_texts
    first = 2 * size * max(OverloadConfig.start, most // 12)
    words = " ".join((CosyClient.synth_iter.__doc__ or "").split())
    assert f"{first} texts at the start, and {2 * size * most:,} at most".replace(",", " ") in (
        words.replace(",", " ")
    )
