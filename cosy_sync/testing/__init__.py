"""For tests of code that uses cosy_sync: a clock that does not wait, a service without sockets."""

from .clock import FakeClock
from .service import FakeService

__all__ = ["FakeClock", "FakeService"]
