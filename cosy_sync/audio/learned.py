"""What a verifier learned of one voice at one speed: its pace, and what its recordings are like."""

from __future__ import annotations

import threading

from .pace import Pace
from .usual import Usual

__all__ = ["Learned"]


class Learned:
    """What is known of one voice at one speed."""

    def __init__(self) -> None:
        # Taken to teach. Both are read without: one recording more or less makes no difference.
        self.lock = threading.Lock()
        self.pace = Pace()
        self.usual = Usual()
