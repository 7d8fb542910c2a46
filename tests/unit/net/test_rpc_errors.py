"""What gRPC says of calls that failed on the way, and the errors that this becomes."""

from __future__ import annotations

import pytest

from cosy_sync.errors import BadAudioError, ConnectError, CosyError, CutError, ResourceError
from cosy_sync.net.rpc_errors import translate

URL = "grpc://tts.test:50000"
NOWHERE = "failed to connect to all addresses; last error: "

# Written down from grpcio 1.85 and older ones.
SAID: list[tuple[str, str, type[CosyError], str, bool]] = [
    (
        "UNAVAILABLE",
        NOWHERE + "UNKNOWN: ipv4:127.0.0.1:1: Too many open files",
        ResourceError,
        "ulimit -n",
        True,
    ),
    (
        "UNAVAILABLE",
        NOWHERE + "UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused",
        ConnectError,
        "remote host: Connection refused; is the service running there",
        True,
    ),
    (
        "UNAVAILABLE",
        "errors resolving no.such.host:50000: [field:hostname lookup error:address lookup failed]",
        ConnectError,
        "address lookup failed",
        True,
    ),
    ("UNAVAILABLE", "DNS resolution failed for x: C-ares", ConnectError, "C-ares", True),
    (
        "UNAVAILABLE",
        NOWHERE + "UNKNOWN: ipv4:127.0.0.1:1: connection attempt timed out before receiving "
        "SETTINGS frame",
        ConnectError,
        "in time; is it a gRPC server",
        True,
    ),
    (
        "UNAVAILABLE",
        NOWHERE + "INTERNAL: ipv4:127.0.0.1:1: Failed parsing HTTP/2 (Expected SETTINGS frame as "
        "the first frame, got frame type 80) (Trying to connect an http1.x server (HTTP status "
        "400))",
        ConnectError,
        "wire='runtime_http'",
        False,
    ),
    (
        "UNAVAILABLE",
        NOWHERE + "UNKNOWN: ipv4:127.0.0.1:1: Ssl handshake failed (TSI_PROTOCOL_FAILURE): "
        "SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED",
        ConnectError,
        "certificate was refused",
        False,
    ),
    (
        "UNAVAILABLE",
        NOWHERE + "UNKNOWN: ipv4:127.0.0.1:1: Custom verification check failed with error: "
        "UNAUTHENTICATED: Hostname Verification Check failed.",
        ConnectError,
        "certificate was refused",
        False,
    ),
    (
        "UNAVAILABLE",
        NOWHERE + "UNAUTHENTICATED: ipv4:127.0.0.1:1: Peer name other is not in peer certificate",
        ConnectError,
        "check the host name",
        False,
    ),
    (
        "UNAVAILABLE",
        NOWHERE + "UNKNOWN: ipv4:127.0.0.1:1: Ssl handshake failed (TSI_PROTOCOL_FAILURE): "
        "SSL_ERROR_SSL: error:100000f7:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER",
        ConnectError,
        "does not speak TLS on this port: give grpc://",
        False,
    ),
    ("UNAVAILABLE", "Stream removed (Socket closed)", CutError, "broke", True),
    ("UNAVAILABLE", "Socket closed", CutError, "Socket closed", True),
    ("UNAVAILABLE", "recvmsg:Connection reset by peer", CutError, "reset", True),
    ("UNAVAILABLE", "GOAWAY received", CutError, "GOAWAY", True),
    ("UNKNOWN", "Stream removed", CutError, "broke", True),
    ("CANCELLED", "Cancelling all calls", CutError, "cancelled", True),
    (
        "RESOURCE_EXHAUSTED",
        "Stream removed (CLIENT: Received message larger than max (3000 vs. 1000))",
        BadAudioError,
        "max_reply_bytes",
        False,
    ),
    (
        "RESOURCE_EXHAUSTED",
        "Received message larger than max (5000000 vs. 4194304)",
        BadAudioError,
        "max_reply_bytes",
        False,
    ),
]


@pytest.mark.parametrize(("code", "said", "cls", "words", "retryable"), SAID)
def test_what_failed_on_the_way(
    code: str, said: str, cls: type[CosyError], words: str, retryable: bool
) -> None:
    error = translate(code, said, URL)
    assert type(error) is cls
    assert words in str(error) and error.retryable == retryable
    if cls is ConnectError:
        assert URL in str(error) and not error.sent


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("UNAVAILABLE", "draining"),
        ("UNAVAILABLE", ""),
        ("UNKNOWN", "Exception iterating responses: 'nobody'"),
        ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!"),
        ("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (900 vs. 500)"),
        ("INTERNAL", "Stream removed"),
        ("INVALID_ARGUMENT", "failed to connect the words"),
    ],
)
def test_what_the_server_says_is_left_to_the_wire(code: str, said: str) -> None:
    assert translate(code, said, URL) is None


def test_what_grpc_says_is_short_and_printable() -> None:
    error = translate("UNAVAILABLE", NOWHERE + "\x00\x1b[31m" + "a" * 1000, URL)
    assert error is not None and str(error).isprintable() and len(str(error)) < 400
