"""Repetitions as the peers make them: 3 after 200, 400 and 800 ms with jitter, like ours."""

from __future__ import annotations

import random

__all__ = ["RETRIES", "RETRY_STATUS", "TransientError", "pause"]

RETRIES = 3
RETRY_STATUS = frozenset({429, 500, 502, 503, 504})


class TransientError(Exception):
    """A status that deserves another attempt."""


def pause(attempt: int) -> float:
    """Return the seconds to wait after an attempt, the first being 0."""
    return 0.2 * 2.0**attempt * (0.5 + random.random() / 2)
