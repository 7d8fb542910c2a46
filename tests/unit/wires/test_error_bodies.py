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
from cosy_sync.wires.error_bodies import false_success
from cosy_sync.wires.redaction import hide


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
        (429, {"error": {"message": "quota", "type": "insufficient_quota", "code": None}}),
        (429, {"error": {"message": "quota", "code": "insufficient_quota"}}),
        (429, {"error": {"code": 429, "type": "insufficient_quota", "message": "quota"}}),
        (400, {"error": {"code": "billing_hard_limit_reached", "message": "limit"}}),
        (403, {"error": {"code": "insufficient_user_quota", "type": "new_api_error"}}),
        (403, {"code": 30001, "message": "Sorry, your account balance is insufficient"}),
        (400, {"code": 30001, "message": "Sorry, your account balance is insufficient"}),
        (429, {"code": "30001"}),
        (403, {"message": "您的账户余额不足"}),
        (400, {"code": "Arrearage", "message": "Access denied"}),
        (429, {"code": "PrepaidBillOverdue", "message": "overdue"}),
        (402, b""),
    ],
)
def test_an_empty_account_is_told_whatever_its_status(status: int, body: Any) -> None:
    error = refused(status, body)
    assert type(error) is BillingError and error.hopeless and not error.retryable
    assert error.status == status
    assert "balance" in str(error)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, {"error": {"code": "rate_limit_exceeded", "type": "requests"}}, ThrottledError),
        (429, {"error": {"code": "rate_limit_exceeded", "message": "quota"}}, ThrottledError),
        (429, {"message": "You exceeded your current quota"}, ThrottledError),
        (
            429,
            {"error": {"code": "rate_limit_exceeded", "type": "insufficient_quota"}},
            ThrottledError,
        ),
        (400, {"code": 30001, "message": "the text is too long"}, BadRequestError),
        (403, {"message": "no permission"}, AuthError),
    ],
)
def test_other_refusals_are_no_empty_account(status: int, body: Any, kind: type) -> None:
    assert type(refused(status, body)) is kind


def test_a_text_about_money_that_is_quoted_empties_no_account() -> None:
    text = "您的账户余额不足，请充值"
    reply = Reply(403, {"content-type": "text/plain"}, f"blocked: {text}".encode())
    assert type(read_error(reply, [text])) is AuthError


@pytest.mark.parametrize(
    "said",
    [
        "[address=h:1, pid=2] Invalid voice x, CosyVoice available speakers: ['y']",
        "Unknown voice 'x'",
    ],
)
def test_an_unknown_voice_that_is_told_as_a_failure_is_a_mistake_of_the_caller(said: str) -> None:
    told = false_success({"status_code": 500, "detail": said}, Reply(200, {}, b""), [])
    for error in (refused(500, {"detail": said}), told):
        assert type(error) is BadRequestError and error.status == 500
        assert "check the voice" in str(error)
    assert type(refused(503, {"detail": said})) is UnavailableError


def test_a_503_by_which_a_proxy_protects_its_service_is_throttling() -> None:
    error = refused(503, b"upstream overflow", "text/plain", x_envoy_overloaded="true")
    assert type(error) is ThrottledError and error.crowded and not error.trips
    assert (error.status, error.retry_after) == (503, 0.1)
    assert "max_connections" in str(error) and "upstream overflow" in str(error)
    assert type(refused(503, x_envoy_overloaded="")) is UnavailableError


def test_envoy_may_protect_itself_too() -> None:
    error = refused(503, b"envoy overloaded", "text/plain", x_envoy_local_overloaded="true")
    assert type(error) is ThrottledError and error.crowded and error.retry_after == 0.1


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"local_rate_limited", {}),
        (b"", {"x_envoy_ratelimited": "true"}),
        (b"", {"ratelimit_remaining": "0", "ratelimit_reset": "2"}),
    ],
)
def test_a_gateways_limit_of_requests_in_a_time_is_told_from_one_at_the_same_time(
    status: int, body: bytes, headers: dict[str, str]
) -> None:
    error = refused(status, body, "text/plain", **headers)
    assert type(error) is ThrottledError and error.by_rate and not error.crowded
    assert error.status == status and error.message.endswith(
        "lower the endpoint's rate to what the service allows"
    )


def test_a_bare_429_may_mean_either_limit() -> None:
    for headers in ({}, {"retry_after": "1"}, {"x_ratelimit_remaining": "5"}):
        error = refused(429, b"slow down", "text/plain", **headers)
        assert type(error) is ThrottledError and not error.by_rate and not error.crowded
        assert "max_connections" in str(error)


def test_the_reset_of_a_limit_is_the_wait_of_a_429() -> None:
    assert refused(429, x_ratelimit_reset="2").retry_after == 2.0
    assert refused(400, x_ratelimit_reset="2").retry_after is None


def test_what_stands_in_headers_is_redacted_and_cut() -> None:
    hide(["sk-secret-in-a-header"])
    for error in (
        refused(302, location="http://u@h/" + "sk-secret-in-a-header" + "x" * 500),
        refused(500, x_request_id="sk-secret-in-a-header" + "y" * 500),
    ):
        assert "sk-secret" not in str(error) + str(error.request_id)
        assert len(error.message) < 300 and len(error.request_id or "") <= 128
