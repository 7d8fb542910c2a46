"""Ejection: leaves out the one of several endpoints whose calls fail, and tries it again."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..config import EjectionConfig

__all__ = ["Ejector", "Health"]

# Doublings of the time of an ejection: more reach any longest one.
_MOST = 60


class Health:
    """How one endpoint fared lately. `average` moves towards 1 with failures, 0 with successes."""

    __slots__ = ("average", "ejected", "since", "times", "until")

    def __init__(self) -> None:
        self.average = 0.0
        # Left out until a probe succeeds; the next probe may go at `until`.
        self.ejected = False
        self.until = -math.inf
        # While ejected, only what was sent from this instant on counts: the probe.
        self.since = math.inf
        # Ejections in a row; the time that the next one lasts grows with them.
        self.times = 0

    def wait(self, now: float) -> float:
        """Return the seconds until the endpoint takes a request."""
        return self.until - now if self.ejected and self.until > now else 0.0


class Ejector:
    """Decides which of several endpoints are left out: each by its own failures, never over half.

    Its owner's lock guards it, `fared` excepted.

    Modelled on Envoy's outlier detection, without its comparison of hosts: a standard deviation of
    two to eight hosts says nothing. An endpoint comes back by a probe: one request is let through,
    and its success re-admits the endpoint.
    """

    def __init__(self, config: EjectionConfig) -> None:
        self._config = config
        self._step = 2.0 / (config.calls + 1)  # of an exponential average over so many calls
        self._members: Sequence[Health] = ()

    def change(self, members: Sequence[Health]) -> list[Health]:
        """Note which endpoints there are; return those re-admitted so that at most half are out."""
        self._members = members
        out = sorted((m for m in members if m.ejected), key=lambda member: member.until)
        back = out[: max(0, len(out) - len(members) // 2)]
        for member in back:
            _admit(member)
        return back

    def fared(self, member: Health, failed: float) -> bool:
        """Count a call, `failed` being the share of its texts that did; return whether `judge`
        must look at it.

        Needs no lock: of two calls that end at the same time one may not be counted, which does no
        harm.
        """
        member.average += self._step * (failed - member.average)
        return member.ejected or (failed > 0 and member.average >= self._config.failure_ratio)

    def judge(self, member: Health, failed: float, sent: float, now: float) -> bool:
        """Decide after a call that `fared` asked about; return whether the member was ejected,
        again or anew, or re-admitted."""
        if not member.ejected:
            return self._may_eject(member) and self._eject(member, now)
        if sent < member.since:  # from before the ejection: it neither prolongs nor ends it
            return False
        if failed >= self._config.failure_ratio:
            return self._eject(member, now)
        _admit(member)
        member.until = now
        return True

    def probe(self, member: Health, now: float) -> bool:
        """Take the one place for a probe; return False when it is too early, or it is taken."""
        if not member.ejected:
            return True
        if member.until > now:
            return False
        # Should it never report, another one may go when its lease ends.
        member.until = now + self._config.probe_lease
        member.since = now
        return True

    def _may_eject(self, member: Health) -> bool:
        out = sum(other.ejected for other in self._members)
        return member in self._members and 2 * (out + 1) <= len(self._members)

    def _eject(self, member: Health, now: float) -> bool:
        config = self._config
        if now - member.until > config.longest:  # it was well for long
            member.times = 0
        member.until = now + min(config.base * 2.0 ** min(member.times, _MOST), config.longest)
        member.since = math.inf
        member.times += 1
        member.ejected = True
        return True


def _admit(member: Health) -> None:
    member.average = 0.0
    member.ejected = False
