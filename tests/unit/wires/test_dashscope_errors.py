"""Alibaba's error codes: who is to blame, and whether it may be tried again."""

import pytest

from cosy_sync.errors import (
    AuthError,
    BadRequestError,
    BillingError,
    CosyError,
    TextError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.wires.dashscope_errors import dashscope_error


def told(code: str, message: str = "said so", status: int | None = None) -> CosyError:
    return dashscope_error(status, code, message, "r-1", ["今天天气怎么样"])


@pytest.mark.parametrize(
    ("code", "expected", "status"),
    [
        ("InvalidParameter", BadRequestError, 400),
        ("ClientDisconnect", UnavailableError, 500),
        ("DataInspectionFailed", TextError, 400),
        ("Arrearage", BillingError, 400),
        ("InvalidApiKey", AuthError, 401),
        ("AccessDenied", AuthError, 403),
        ("Model.AccessDenied", AuthError, 403),
        ("Workspace.AccessDenied", AuthError, 403),
        ("AllocationQuota.FreeTierOnly", BillingError, 403),
        ("ModelNotFound", BadRequestError, 404),
        ("Throttling", ThrottledError, 429),
        ("Throttling.RateQuota", ThrottledError, 429),
        ("Throttling.BurstRate", ThrottledError, 429),
        ("Throttling.Concurrency", ThrottledError, 429),
        ("Throttling.AllocationQuota", ThrottledError, 429),
        ("CommodityNotPurchased", BillingError, 429),
        ("PrepaidBillOverdue", BillingError, 429),
        ("PostpaidBillOverdue", BillingError, 429),
        ("InternalError", UnavailableError, 500),
        ("InternalError.Algo", UnavailableError, 500),
        ("InternalError.Timeout", UnavailableError, 500),
        ("SystemError", UnavailableError, 500),
        ("ModelServiceFailed", UnavailableError, 500),
        ("RequestTimeOut", UnavailableError, 500),
        ("ResponseTimeout", UnavailableError, 500),
        ("ServiceUnavailable", UnavailableError, 503),
        ("ModelUnavailable", UnavailableError, 503),
        ("CLIENT_ERROR", BadRequestError, 400),
        ("SomethingNew", UnavailableError, 500),
        ("", UnavailableError, 500),
    ],
)
def test_every_code_has_its_class(code: str, expected: type[CosyError], status: int) -> None:
    error = told(code)
    assert type(error) is expected
    assert error.status == status  # type: ignore[attr-defined]
    assert error.code == (code or None)  # type: ignore[attr-defined]
    assert error.request_id == "r-1"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("InvalidParameter", "[tts:]Engine return error code: 418", BadRequestError),
        ("InvalidParameter", "Request voice is invalid!", BadRequestError),
        ("InvalidParameter", "task can not be null", TextError),
        ("InvalidParameter", "Please ensure input text is valid.", TextError),
        ("InvalidParameter", "Text request limit violated, expected 1.", BadRequestError),
        ("CLIENT_ERROR", "request timeout after 23 seconds.", UnavailableError),
        ("", "request timeout after 23 seconds.", UnavailableError),
        # The words count only where the code leaves it open.
        ("Arrearage", "task can not be null", BillingError),
    ],
)
def test_messages_tell_more_where_the_code_is_general(
    code: str, message: str, expected: type[CosyError]
) -> None:
    assert type(told(code, message)) is expected


def test_a_wrong_voice_is_told_from_a_wrong_text() -> None:
    assert "belongs to the model" in str(
        told("InvalidParameter", "[tts:]Engine return error code: 418")
    )


@pytest.mark.parametrize("status", [429, 400, None])
def test_billing_is_permanent_whatever_the_status(status: int | None) -> None:
    error = told("PostpaidBillOverdue", status=status)
    assert isinstance(error, BillingError)
    assert not error.retryable and error.hopeless


def test_only_too_many_at_the_same_time_are_a_crowd() -> None:
    assert told("Throttling.Concurrency").crowded  # type: ignore[attr-defined]
    assert not told("Throttling.RateQuota").crowded  # type: ignore[attr-defined]
    assert not told("Throttling").crowded  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("code", "retryable"),
    [
        ("InvalidParameter", False),
        ("DataInspectionFailed", False),
        ("Arrearage", False),
        ("InvalidApiKey", False),
        ("AccessDenied.Unpurchased", False),
        ("ModelNotFound", False),
        ("CommodityNotPurchased", False),
        ("ClientDisconnect", True),
        ("Throttling.AllocationQuota", True),
        ("InternalError.Algo", True),
        ("RequestTimeOut", True),
        ("ServiceUnavailable", True),
        ("ModelUnavailable", True),
    ],
)
def test_what_may_be_tried_again(code: str, retryable: bool) -> None:
    assert told(code).retryable is retryable


def test_an_http_status_is_kept_and_decides_for_unknown_codes() -> None:
    assert told("InternalError", status=502).status == 502  # type: ignore[attr-defined]
    assert type(told("Whatever", status=429)) is ThrottledError
    assert type(told("Whatever", status=401)) is AuthError
    assert type(told("Whatever", status=503)) is UnavailableError
    assert type(told("Whatever", status=418)) is BadRequestError


def test_a_missing_model_ends_like_this_for_every_text() -> None:
    assert told("ModelNotFound").hopeless
    assert not told("InvalidParameter").hopeless


def test_no_text_stands_in_an_error() -> None:
    error = told("InvalidParameter", "cannot speak 今天天气怎么样 with this voice")
    assert "天气" not in str(error)
    assert "cannot speak" in str(error)


def test_an_error_without_words_still_says_something() -> None:
    assert "no reason given" in str(told("", ""))


def test_a_gateways_word_for_an_empty_account_is_understood() -> None:
    for status in (None, 429):
        error = dashscope_error(status, "insufficient_quota", "top up", "r", [])
        assert type(error) is BillingError
    assert type(dashscope_error(429, "rate_limit_exceeded", "", "r", [])) is ThrottledError
