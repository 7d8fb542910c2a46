"""Threads and what they wait for: knows nothing of speech, requests or endpoints."""

from .poller import Watched, enter, leave, watch
from .scheduler import Schedule, leave_behind, open_schedule

__all__ = ["Schedule", "Watched", "enter", "leave", "leave_behind", "open_schedule", "watch"]
