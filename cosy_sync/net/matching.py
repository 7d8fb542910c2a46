"""Whose reply this is: the id of the request, where the service sends it back."""

from __future__ import annotations

from ..errors import BadAudioError

__all__ = ["check_answer", "check_echo", "is_of_another", "lost_trust", "sent_id"]

_NAME = b"\r\nx-request-id: "
# As our wires write it.
_OURS = b"\r\nX-Request-Id: "


def check_answer(request: bytes, got: bytes) -> None:
    """Raise BadAudioError where a reply's X-Request-Id is not the one of this request, as it
    travels, but of another one of ours."""
    start = request.find(_OURS)
    # Mostly the very same comes back.
    if start < 0 or not request.startswith(got + b"\r\n", start + len(_OURS)):
        check_echo(sent_id(request), got)


def sent_id(request: bytes) -> bytes:
    """Return the X-Request-Id of a request as it travels; nothing where it has none."""
    head = request[: request.find(b"\r\n\r\n") + 2]
    start = head.lower().find(_NAME)
    if start < 0:
        return b""
    start += len(_NAME)
    return head[start : head.index(b"\r\n", start)].strip()


def is_of_another(sent: bytes, got: bytes) -> bool:
    """Return whether a reply names another request of this process.

    Ids of ours are a run's name and a number. Whatever else stands there, services and proxies
    have made for themselves.
    """
    sent, got = sent.strip().lower(), got.strip().lower()
    run, _, number = sent.rpartition(b"-")
    its_run, _, its_number = got.rpartition(b"-")
    return bool(run) and run == its_run and number != its_number and its_number.isdigit()


def check_echo(sent: bytes, got: bytes) -> None:
    """Raise BadAudioError for a reply that names another request of ours."""
    if is_of_another(sent, got):
        raise BadAudioError(
            "the reply belongs to another request (its X-Request-Id says so): the service, or a "
            "proxy before it, sent a reply twice or late; try again, and look there if it stays",
            reason="misplaced",
        )


def lost_trust() -> BadAudioError:
    """Build the error for a reply over a connection that lost trust while it was awaited."""
    return BadAudioError(
        "the reply before it, on the same connection, was another request's, and so may this "
        "one be; try again, and look at the service, or a proxy before it, if it stays",
        reason="misplaced",
    )
