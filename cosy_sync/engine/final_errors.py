"""The error that a text ends with."""

from __future__ import annotations

from ..errors import CosyError, TransportError
from ..models import Utterance
from .batch import Batch
from .group import Group

__all__ = ["final_error", "verdict_for"]

# What cures a service that gets more than it can speak in time.
_SEND_LESS = "send less at once (batch_size, max_connections)"


def final_error(
    batch: Batch, load: str, text: Utterance, error: CosyError, now: float
) -> CosyError:
    """Return the error that ends a text: the deadline where that is what cut the attempt. One that
    came too late says how much was in flight (`load`), and what to change."""
    if not isinstance(error, TransportError):
        return error
    phase = getattr(error, "phase", None) or "reply"
    if not (error.timed_out and batch.deadline.expired(now)):
        if phase != "first byte":
            return error
        setting = "timeouts=TimeoutConfig(first_byte=...)"
        told = error.reworded(f"{error.message}; {load}: raise {setting} or {_SEND_LESS}")
        batch.tries[text.index][-1] = told  # else it would count as an attempt before itself
        return told
    where = f"waiting for the service ({phase}); {load}"
    late = batch.deadline.error(f"{where}: raise the deadline, or {_SEND_LESS}")
    late.phase = f"waiting for the service ({phase})"
    late.__cause__ = error
    return late.with_details(endpoint=error.endpoint)


def verdict_for(
    batch: Batch, group: Group, text: Utterance, verdict: CosyError, just_sent: bool
) -> CosyError:
    """Return the error that ends a text whose call has a verdict: it knows whether the text was
    ever sent."""
    before = batch.tries.get(text.index, ())
    # Of texts that failed together and are sent in smaller parts no attempt is noted.
    sent = just_sent or group.splits or group.mark is not None or any(each.sent for each in before)
    return verdict if sent else verdict.with_details(sent=False)
