"""Threads and what they wait for: knows nothing of speech, requests or endpoints."""

from .poller import Turn, Watched, enter, leave, pause, resume, watch
from .scheduler import Schedule, leave_behind, open_schedule

__all__ = [
    "Schedule",
    "Turn",
    "Watched",
    "enter",
    "leave",
    "leave_behind",
    "open_schedule",
    "pause",
    "resume",
    "watch",
]
