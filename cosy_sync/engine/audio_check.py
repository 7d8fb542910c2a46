"""The user's own check of audio: called last, when no connection and no permit is held."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ..audio import Verifier
from ..errors import CosyError
from ..models import Audio
from ..threads import leave
from .batch import Batch

__all__ = ["ask", "asking", "has_place"]


class _Asking(threading.local):
    """The batch whose audio this thread has the user check, if it does.

    A call that the check makes itself runs on this very thread, and within the batch's place in its
    tenant's limit: it must not wait for workers and places that other checks keep.
    """

    batch: Batch | None = None


asking = _Asking()


def ask(
    verifier: Verifier, batch: Batch, texts: Sequence[str], results: Sequence[Audio | CosyError]
) -> Sequence[Audio | CosyError]:
    """Return the results with an error in place of audio that the user's check refuses."""
    before, asking.batch = asking.batch, batch
    leave()
    try:
        checked = verifier.ask(texts, results)
    finally:
        asking.batch = before
    if batch.reorder is not None:
        for audio, result in zip(results, checked, strict=True):
            if isinstance(audio, Audio) and result is not audio:
                batch.reorder.change(-len(audio.data))
    return checked


def has_place(tenant: str) -> bool:
    """Return whether this thread has a place of the tenant's limit already."""
    return asking.batch is not None and asking.batch.tenant == tenant
