"""The deadline: the instant at which a caller's time runs out."""

from __future__ import annotations

from ..errors import DeadlineError

__all__ = ["Deadline"]


class Deadline:
    """The end of one caller's time.

    Args:
        started: When the time began, in monotonic seconds.
        seconds: How long it lasts: the number that the caller gave, and that errors report.
        name: What the caller gave it as.
    """

    __slots__ = ("_name", "at", "seconds", "started")

    def __init__(self, started: float, seconds: float, name: str = "deadline") -> None:
        self._name = name
        self.started = started
        self.seconds = seconds
        self.at = started + seconds

    def remaining(self, now: float) -> float:
        """Return the seconds that are left, never below 0: sockets refuse negative timeouts."""
        left = self.at - now
        return left if left > 0.0 else 0.0

    def expired(self, now: float) -> bool:
        """Return whether nothing is left."""
        return now >= self.at

    def cut(self, seconds: float, now: float) -> float:
        """Return a timeout shortened to what is left."""
        return min(seconds, self.remaining(now))

    def later(self, seconds: float) -> Deadline:
        """Return a deadline of the same length that began `seconds` later."""
        return Deadline(self.started + seconds, self.seconds, self._name)

    def error(self, phase: str, *, in_flight: bool = False) -> DeadlineError:
        """Build the error for a deadline that passed during a phase, such as "waiting for room".

        Args:
            phase: What lasted too long.
            in_flight: Whether it cut an attempt of which there is no error.
        """
        message = f"not done within {self.seconds:g} s ({self._name}): {phase}"
        return DeadlineError(message, deadline=self.seconds, phase=phase, in_flight=in_flight)

    def behind(self, heard: float) -> DeadlineError:
        """Build the error for a service that gave so many seconds of sound, and fell behind."""
        message = (
            f"the service fell {self.seconds:g} s (deadline) behind the {heard:.1f} s of sound "
            "that it gave"
        )
        return DeadlineError(message, deadline=self.seconds, phase="stream", in_flight=True)

    def __repr__(self) -> str:
        return f"<Deadline {self.seconds:g} s, at {self.at:.3f}>"
