"""Retry-After in its three forms, and the headers of rate limits where it is missing."""

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


@pytest.mark.parametrize("name", ["ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset"])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1", 1.0),
        ("0", 0.0),
        (" 2.5 ", 2.5),
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3.5s", 3_600.0),
        ("5;w=60", 5.0),
        ("1792567710", 30.0),
        ("1792567710000", 30.0),
        ("1792567680", 0.0),
        ("1000000000", 0.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("2026-10-21T07:28:30Z", 30.0),
        ("86400", 3_600.0),
        ("9" * 19, 3_600.0),
    ],
)
def test_a_limits_reset_counts_where_retry_after_is_missing(
    name: str, value: str, seconds: float
) -> None:
    headers = {name: value, "date": DATE}
    assert retry_after(headers) == pytest.approx(seconds)
    assert retry_after({**headers, "retry-after": "7"}) == 7


@pytest.mark.parametrize(
    "value",
    ["", "soon", "-1", "-1s", "nan", "inf", "1e400", "1x", "s", "1s2", "9" * 400, "\u0661", "0x10"],
)
def test_a_reset_that_is_not_clear_is_nothing(value: str) -> None:
    assert retry_after({"x-ratelimit-reset": value}) is None


def test_of_several_limits_the_longest_counts_that_is_used_up() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert retry_after(headers) == 1
    assert retry_after({**headers, "x-ratelimit-remaining-tokens": "0"}) == 360
    assert retry_after({**headers, "x-ratelimit-remaining-requests": "5"}) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ('"default";r=0;t=5', 5),
        ('"default";t=5', 5),
        ('"a";r=0; t=5, "b";r=9;t=60', 5),
        ('"a";r=0; t=5, "b";r=0;t=60', 60),
        ('"default";r=9;t=60', None),
        ("limit=10, remaining=0, reset=5", 5),
        ('"default";r=0;t=-5', None),
        ("10", None),
    ],
)
def test_the_field_of_the_standard_to_come_is_read(value: str, seconds: float | None) -> None:
    assert retry_after({"ratelimit": value}) == seconds


def test_only_what_speaks_of_a_limit_waits_for_its_reset() -> None:
    # Some services send these headers with every reply.
    headers = {"x-ratelimit-reset": "60"}
    assert [retry_after(headers, status) for status in (200, 400, 500)] == [None] * 3
    assert retry_after({**headers, "retry-after": "3"}, 400) == 3
    for status in (429, 503):
        assert retry_after(headers, status) == 60
        assert retry_after({**headers, "x-ratelimit-remaining": "0"}, status) == 60
        # Something else was too much than what this counts.
        assert retry_after({**headers, "x-ratelimit-remaining": "99"}, status) is None


def test_a_proxy_that_protects_its_service_is_left_alone_for_a_moment() -> None:
    assert retry_after({"x-envoy-overloaded": "true"}, 503) == 0.1
    assert retry_after({"x-envoy-overloaded": "true", "retry-after": "4"}, 503) == 4
    assert retry_after({"x-envoy-overloaded": "false"}, 503) is None


def test_no_wait_is_longer_than_a_day() -> None:
    assert retry_after({"retry-after": "1e300"}) == 86_400
