"""What services say when they refuse, in all its shapes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cosy_sync.errors import (
    AuthError,
    BadRequestError,
    BillingError,
    ServerError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.messages import Reply
from cosy_sync.wires import read_error
from cosy_sync.wires.refusals import false_success, text_error


def refused(
    status: int, body: Any = b"", content_type: str = "application/json", **headers: str
) -> ServerError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_error(Reply(status, {"content-type": content_type, **fields}, raw))


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"error": {"code": "bad", "message": "boom"}}, "bad", "boom"),
        ({"error": {"type": "bad", "msg": "boom"}}, "bad", "boom"),
        ({"error": {"message": "boom", "code": 400}}, "400", "boom"),
        ({"error": "boom"}, None, "boom"),
        ({"error": "boom", "code": "bad"}, "bad", "boom"),
        ({"detail": "boom"}, None, "boom"),
        ({"detail": {"code": "bad", "message": "boom"}}, "bad", "boom"),
        ({"detail": [{"loc": ["body", "texts", 0], "msg": "boom", "type": "str"}]}, "str", "boom"),
        ({"detail": [], "message": "boom"}, None, "boom"),
        ({"code": "bad", "message": "boom"}, "bad", "boom"),
        ({"error": True, "message": "boom"}, None, "boom"),
        ("boom", None, "boom"),
    ],
)
def test_every_shape_of_json_is_told(body: Any, code: str | None, message: str) -> None:
    error = refused(400, body)
    assert isinstance(error, BadRequestError)
    assert error.code == code
    assert message in str(error)


def test_a_validation_error_names_its_place() -> None:
    body = {"detail": [{"loc": ["body", "texts", 0], "msg": "too long", "input": "秘密"}]}
    assert "body.texts.0: too long" in str(refused(422, body))


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"<html><title>502 Bad &amp; Gateway</title>", "text/html", "502 Bad & Gateway"),
        (b"<html><H1 class=x>Oh</H1>", "text/html", "Oh"),
        (b" <!doctype html><p>secret", "", "an HTML page"),
        (b"upstream is gone", "text/plain", "upstream is gone"),
        (b"{broken", "text/plain", "{broken"),
    ],
)
def test_pages_and_plain_text_are_told_in_short(
    body: bytes, content_type: str, message: str
) -> None:
    error = refused(502, body, content_type)
    assert isinstance(error, UnavailableError)
    assert error.message == f"the service answered HTTP 502: {message}"


@pytest.mark.parametrize(
    "body", [b"", b"{broken", b"\x00\xff", b"[]", b"{}", b"5", b"null", b"[[]]", b" " * (2 << 20)]
)
def test_a_body_that_says_nothing_leaves_the_status(body: bytes) -> None:
    assert refused(503, body).message == "HTTP 503"


def test_a_message_is_cut_to_200_printable_characters() -> None:
    error = refused(500, {"error": "a\n\t\x07b" + "x" * 500})
    shown = error.message.partition(": ")[2]
    assert shown.startswith("a bxxx")
    assert len(shown) == 200
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, AuthError), (402, BillingError), (403, AuthError), (429, ThrottledError)],
)
def test_the_status_decides_the_class(status: int, kind: type[ServerError]) -> None:
    assert type(refused(status)) is kind


def test_request_id_and_retry_after_are_kept() -> None:
    error = refused(429, x_request_id="r7", retry_after="3")
    assert (error.request_id, error.retry_after) == ("r7", 3.0)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://u:p@other.example/v2/batch?key=secret", "other.example/v2/batch"),
        ("/v2/batch", "/v2/batch"),
        ("", "nowhere"),
        ("http://[broken", "no URL"),
    ],
)
def test_a_redirect_names_host_and_path(location: str, shown: str) -> None:
    error = refused(308, location=location)
    assert shown in str(error)
    assert "secret" not in str(error)
    assert "u:p" not in str(error)


def test_a_page_full_of_titles_is_no_trap() -> None:
    assert "HTTP 500" in str(refused(500, b"<h1>" * 200_000, "text/html"))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, {"error": {"message": "no", "type": "insufficient_quota"}}),
        (429, {"error": {"message": "no", "code": "billing_hard_limit_reached"}}),
        (429, {"error": {"message": "no", "type": "x", "code": "insufficient_user_quota"}}),
        (429, {"error": {"message": "check your plan and billing details", "code": None}}),
        (403, {"code": 30001, "message": "Sorry, your account balance is insufficient"}),
        (400, {"code": "Arrearage", "message": "Access denied"}),
        (403, {"message": "账户余额不足"}),
        (402, {"error": "Insufficient Balance"}),
    ],
)
def test_an_empty_account_is_told_whatever_the_status(status: int, body: Any) -> None:
    error = refused(status, body)
    assert type(error) is BillingError and error.hopeless and not error.retryable
    assert error.status == status and error.retry_after is None


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}},
        {"error": {"message": "too many", "type": "requests"}},
        {"message": "quota of requests per minute exceeded"},
        "slow down",
    ],
)
def test_a_limit_that_passes_is_no_empty_account(body: Any) -> None:
    assert type(refused(429, body)) is ThrottledError


def test_words_of_money_with_a_time_to_come_back_are_a_limit_that_passes() -> None:
    said = {"error": {"message": "check your plan and billing details"}}
    error = refused(429, said, retry_after="3")
    assert type(error) is ThrottledError and error.retry_after == 3


def test_a_failure_of_the_service_that_speaks_of_money_is_no_empty_account() -> None:
    assert type(refused(503, {"code": "insufficient_quota"})) is UnavailableError


@pytest.mark.parametrize(
    "value",
    [
        {"error": {"code": "insufficient_quota", "message": "no"}},
        {"status_code": 429, "message": "your account balance is insufficient"},
    ],
)
def test_an_empty_account_inside_a_success_is_told(value: Any) -> None:
    reply = Reply(200, {}, b"")
    whole = false_success(value, reply, [])
    assert type(whole) is BillingError
    assert type(text_error(value, reply, [])) is BillingError
