"""Retry-After in its three forms."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from cosy_sync.wires.retry_after import retry_after

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("7", 7.0), (" 2.5 ", 2.5)])
def test_seconds_are_read(text: str, seconds: float) -> None:
    assert retry_after({"retry-after": text}) == seconds


def test_milliseconds_go_first() -> None:
    assert retry_after({"retry-after": "9", "retry-after-ms": "1500"}) == 1.5


def test_a_date_is_compared_with_the_replys_own() -> None:
    headers = {"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": DATE}
    assert retry_after(headers) == 30


def test_a_date_without_zone_is_utc() -> None:
    headers = {"retry-after": "Wed, 21 Oct 2026 07:28:30 -0000", "date": DATE}
    assert retry_after(headers) == 30


def test_a_date_in_the_past_is_now() -> None:
    assert retry_after({"retry-after": DATE, "date": "Wed, 21 Oct 2026 09:00:00 GMT"}) == 0


def test_a_date_without_another_is_compared_with_the_clock() -> None:
    seconds = retry_after({"retry-after": formatdate(time.time() + 100, usegmt=True)})
    assert seconds is not None
    assert 90 < seconds <= 100


@pytest.mark.parametrize("text", ["", "soon", "-3", "nan", "inf", "1e999", "Wed, 99 Oct 2026", "²"])
def test_what_is_not_clear_is_nothing(text: str) -> None:
    assert retry_after({"retry-after": text}) is None
