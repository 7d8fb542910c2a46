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
