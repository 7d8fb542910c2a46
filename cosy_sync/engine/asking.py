"""The user's own check of audio: called last, when no connection and no permit is held."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ..audio import Verifier
from ..errors import CosyError
from ..models import Audio
from .job import Job

__all__ = ["ask", "asking", "has_place"]


class _Asking(threading.local):
    """The batch whose audio this thread has the user check, if it does.

    A call that the check makes itself runs on this very thread, and within the batch's place at its
    tenant's gate: it must not wait for workers and places that other checks keep.
    """

    job: Job | None = None


asking = _Asking()


def ask(
    verifier: Verifier, job: Job, texts: Sequence[str], results: Sequence[Audio | CosyError]
) -> Sequence[Audio | CosyError]:
    """Return the results with an error in place of audio that the user's check refuses."""
    before, asking.job = asking.job, job
    try:
        checked = verifier.ask(texts, results)
    finally:
        asking.job = before
    if job.backlog is not None:
        for audio, result in zip(results, checked, strict=True):
            if isinstance(audio, Audio) and result is not audio:
                job.backlog.change(-len(audio.data))
    return checked


def has_place(tenant: str) -> bool:
    """Return whether this thread has a place at the tenant's gate already."""
    return asking.job is not None and asking.job.tenant == tenant
