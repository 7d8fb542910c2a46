"""Say in our own words how gRPC calls fail on the way: the only place that knows gRPC's texts."""

from __future__ import annotations

from ..errors import BadAudioError, ConnectError, CosyError, CutError
from .plain_ports import is_plain, plain_port
from .scarcity import scarcity_of

__all__ = ["translate"]

_UNREACHED = ("failed to connect", "errors resolving", "dns resolution", "name resolution")
_BROKEN = (
    "stream removed",
    "socket closed",
    "connection reset",
    "broken pipe",
    "recvmsg",
    "sendmsg",
    "goaway",
    "endpoint closing",
    "transport closed",
    "ping timeout",
    "keepalive",
)
_REFUSED = ("certificate_verify_failed", "verification check failed", "peer name")
_REASON_CHARS = 200


def translate(code: str, details: str, label: str) -> CosyError | None:
    """Return the error of a call that failed on our side or on the way; None for the server's.

    gRPC gives both the same status, so what it says decides.

    Args:
        code: The status' name.
        details: What gRPC says.
        label: The address that it was sent to.
    """
    said = details.lower()
    if code == "CANCELLED":
        return CutError("the service, or something before it, cancelled the call")
    if code == "RESOURCE_EXHAUSTED" and "larger than max" in said and "server:" not in said:
        return BadAudioError(
            "a message of the reply is larger than LimitConfig(max_reply_bytes=...); if the "
            "service is right, raise that",
            reason="too_large",
            retryable=False,
        )
    if code not in ("UNAVAILABLE", "UNKNOWN"):
        return None
    scarce = scarcity_of(said)
    if scarce is not None:
        return scarce
    if any(words in said for words in _UNREACHED):
        return _unreached(said, details, label)
    if any(words in said for words in _BROKEN):
        return CutError(f"the connection to {label} broke: {_reason(details)}")
    return None


def _unreached(said: str, details: str, label: str) -> ConnectError:
    where = f"cannot connect to {label}"
    if "http1" in said or "http/2" in said:
        advice = "this is no gRPC server; for the runtime's HTTP server use wire='runtime_http'"
        return ConnectError(f"{where}: {advice}", phase="connect", retryable=False)
    if any(words in said for words in _REFUSED):
        return ConnectError(
            f"{where}: its certificate was refused; check the host name and the server's "
            "certificate; for a CA of your own, give PoolConfig(ssl_context=...)",
            phase="tls",
            retryable=False,
        )
    if is_plain(said):
        return plain_port(where, "grpcs")
    if "handshake" in said or "ssl_error" in said:
        text = f"{where}: TLS failed; does the server speak TLS on this port? If not, give grpc://"
        return ConnectError(text, phase="tls")
    if "timed out" in said:
        text = f"{where} in time; is it a gRPC server, and reachable?"
        return ConnectError(text, phase="connect", timed_out=True)
    text = f"{where}: {_reason(details)}; is the service running there?"
    if label.startswith("grpc://") and any(words in said for words in _BROKEN):
        text += " Does it speak TLS on this port? Then give grpcs://"
    return ConnectError(text, phase="connect")


def _reason(details: str) -> str:
    """Return the innermost of what gRPC says."""
    reason = details.rpartition("last error: ")[2]
    shown = "".join(char if char.isprintable() else " " for char in reason)
    return shown[:_REASON_CHARS]
