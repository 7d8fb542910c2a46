"""Threads and what they wait for: knows nothing of speech, requests or endpoints."""

from .scheduler import Schedule, leave_behind, open_schedule

__all__ = ["Schedule", "leave_behind", "open_schedule"]
