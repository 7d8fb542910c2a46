"""Whose reply this is: the id of the request, where the service sends it back."""

from __future__ import annotations

from ..errors import BadAudioError
from .connection import Connection

__all__ = ["check_echo", "check_trust", "is_of_another", "sent_id"]

_NAME = b"\r\nx-request-id: "


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


def check_trust(connection: Connection) -> None:
    """Raise BadAudioError for a reply over a connection that lost trust while it was awaited."""
    if connection.is_distrusted:
        raise BadAudioError(
            "the reply before it, on the same connection, was another request's, and so may this "
            "one be; try again, and look at the service, or a proxy before it, if it stays",
            reason="misplaced",
        )
