"""Checked audio in the format of a client's setting: encoded when nothing else is held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import CosyError
from ..models import PLAIN_FORMATS, Audio
from ..threads import leave
from .batch import Batch

__all__ = ["Encoding", "plain_format"]


def plain_format(format: str) -> str:
    """Return in which format audio is checked that becomes one of this format."""
    return format if format in PLAIN_FORMATS else "wav"


@dataclass(frozen=True)
class Encoding:
    """A format to encode in. It runs where an attempt was made, on a worker or a caller's own
    thread, once the attempt has ended: with no connection, no place and no slot. Many workers do so
    side by side, and the encoders run without the interpreter's lock."""

    format: str
    quality: float | None

    def encode(
        self, batch: Batch, results: Sequence[Audio | CosyError]
    ) -> Sequence[Audio | CosyError]:
        """Return the results encoded; an error in place of audio that cannot be."""
        leave()
        encoded = [self._encode(each) if isinstance(each, Audio) else each for each in results]
        if batch.reorder is not None:
            batch.reorder.change(sum(map(_size, encoded)) - sum(map(_size, results)))
        return encoded

    def _encode(self, audio: Audio) -> Audio | CosyError:
        try:
            return audio.as_format(self.format, self.quality)
        except CosyError as error:
            return error


def _size(result: Audio | CosyError) -> int:
    return len(result.data) if isinstance(result, Audio) else 0
