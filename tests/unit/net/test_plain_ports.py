"""TLS spoken to a port without it, and none to a port with it: how that shows."""

import ssl

import httpx
import pytest

from cosy_sync.errors import ConnectError, TransportError
from cosy_sync.net.httpx_errors import translate
from cosy_sync.net.plain_ports import ask_for_tls, is_plain, not_http, plain_port
from cosy_sync.net.route import Proxy, Route

PLAIN = Route("tts.test", 80, False, None)
SECURE = Route("tts.test", 443, True, None)
PROXIED = Route("tts.test", 80, False, Proxy("proxy.test", 3128, False, None))


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] some words (_ssl.c:1006)")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    "said",
    [
        tls_error("WRONG_VERSION_NUMBER"),
        tls_error("RECORD_LAYER_FAILURE"),
        tls_error("PACKET_LENGTH_TOO_LONG"),
        "SSL_ERROR_SSL: error:100000f7:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER",
        "[SSL: RECORD_LAYER_FAILURE] record layer failure",
    ],
)
def test_an_answer_that_is_no_tls_is_known_under_each_of_its_names(
    said: ssl.SSLError | str,
) -> None:
    assert is_plain(said)


@pytest.mark.parametrize(
    "said", [tls_error("CERTIFICATE_VERIFY_FAILED"), OSError("reset"), "handshake failed", None]
)
def test_other_failures_are_not_taken_for_it(said: Exception | str | None) -> None:
    assert not is_plain(said)


def test_its_error_is_for_good_and_names_what_to_write() -> None:
    error = plain_port("cannot connect to wss://tts.test", "wss")
    assert not error.retryable and not error.sent
    assert "give ws:// in place of wss://" in str(error)


def test_with_a_client_of_the_callers_own_it_says_the_same() -> None:
    failed = httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version number")
    failed.__cause__ = tls_error("WRONG_VERSION_NUMBER")
    error = translate(failed)
    assert type(error) is ConnectError and not error.retryable
    assert "give http:// in place of https://" in str(error)


def test_an_alert_in_place_of_http_says_that_the_port_speaks_tls() -> None:
    error = not_http(PLAIN, b"\x15\x03\x03\x00\x02\x02\x46", "no")
    assert type(error) is ConnectError and not error.retryable
    assert "give https:// in place of http://" in str(error)


@pytest.mark.parametrize(
    ("route", "data"),
    [(PLAIN, b"SSH-2.0-OpenSSH"), (SECURE, b"\x15\x03\x03"), (PROXIED, b"\x15\x03\x03")],
)
def test_anything_else_is_only_no_http(route: Route, data: bytes) -> None:
    error = not_http(route, data, "no")
    assert type(error) is TransportError and error.retryable


def test_silence_is_asked_about_where_no_proxy_and_no_tls_is_between() -> None:
    assert "Then give https://" in ask_for_tls(PLAIN)
    assert ask_for_tls(SECURE) == ask_for_tls(PROXIED) == ""
