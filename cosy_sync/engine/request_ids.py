"""The ids of requests: of one run for all clients of a process, so that each knows the others'."""

from __future__ import annotations

import itertools
import secrets

from ..forks import renew_after_fork

__all__ = ["next_request_id"]

_run = secrets.token_hex(6)
_numbers = itertools.count(1)


def next_request_id() -> str:
    """Return the id of the next request."""
    return f"{_run}-{next(_numbers)}"


def _renew() -> None:
    global _run, _numbers
    _run, _numbers = secrets.token_hex(6), itertools.count(1)


renew_after_fork(_renew)
