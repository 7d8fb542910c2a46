from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cosy_sync.config import EjectionConfig
from cosy_sync.policies import Ejector, Health, LatencyEwma, pick

# Choice


@dataclass(eq=False)
class Place:
    weight: float
    busy: int
    places: int
    seconds: float
    per_char: float | None

    def wait(self, now: float) -> float:
        return self.seconds

    def pace(self, now: float) -> float | None:
        return self.per_char


PLACES = st.builds(
    Place,
    weight=st.floats(1e-3, 1e3),
    busy=st.integers(0, 100),
    places=st.integers(1, 50),
    seconds=st.one_of(st.just(0.0), st.floats(0.0, 2.0), st.floats(0.0, 1e6)),
    per_char=st.one_of(st.none(), st.floats(1e-6, 1e3)),
)


@settings(deadline=None)
@given(
    places=st.lists(PLACES, min_size=1, max_size=8),
    avoided=st.sets(st.integers(0, 7)),
    source=st.randoms(use_true_random=False),
)
def test_the_choice_falls_only_on_those_that_may_be_sent_to(places, avoided, source):
    avoid = [place for number, place in enumerate(places) if number in avoided]
    chosen = pick(places, avoid, 0.0, source.random)
    soon = [place for place in places if place.seconds <= 1.0]
    allowed = [place for place in soon if place not in avoid]
    if allowed:
        assert chosen in allowed
        # With two to choose from, a full one is never taken before one that is not.
        free = [place for place in allowed if place.busy < place.places]
        assert len(allowed) > 2 or not free or chosen in free
    elif soon:
        assert chosen in soon
        assert len(soon) == 1 or chosen is not avoid[-1]
    else:
        assert chosen.seconds == min(place.seconds for place in places)


@given(
    calls=st.lists(
        st.tuples(st.floats(1e-4, 100.0), st.integers(1, 12_000), st.floats(0.0, 60.0)), min_size=1
    )
)
def test_a_pace_lies_between_the_slowest_and_the_fastest_call(calls):
    pace, now = LatencyEwma(), 0.0
    for seconds, chars, gap in calls:
        now += gap
        pace.add(seconds, chars, now)
    paces = [seconds / chars for seconds, chars, _ in calls]
    known = pace.per_char(now, 0)
    assert known is not None
    assert min(paces) * (1 - 1e-9) <= known <= max(paces) * (1 + 1e-9)


# Ejection


class Ejections(RuleBasedStateMachine):
    """Hosts come, go, fail and are probed in any order."""

    def __init__(self):
        super().__init__()
        self.config = EjectionConfig(failure_ratio=0.5, calls=2, base=5, longest=30)
        self.ejector = Ejector(self.config)
        self.members, self.now = [], 0.0

    @rule(seconds=st.floats(0.0, 40.0))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(count=st.integers(1, 4))
    def join(self, count):
        self.members = (self.members + [Health() for _ in range(count)])[:9]
        assert self.ejector.change(self.members) == []

    @rule(keep=st.sets(st.integers(0, 8)))
    def leave(self, keep):
        before = {id(m) for m in self.members if m.ejected}
        self.members = [m for number, m in enumerate(self.members) if number in keep]
        back = self.ejector.change(self.members)
        assert {id(m) for m in back} == before & {id(m) for m in self.members if not m.ejected}

    @rule(at=st.integers(0, 8), failed=st.sampled_from([0.0, 0.3, 1.0]), age=st.floats(0.0, 40.0))
    def call(self, at, failed, age):
        if at >= len(self.members):
            return
        member = self.members[at]
        before = (member.ejected, member.until)
        changed = self.ejector.fared(member, failed) and self.ejector.judge(
            member, failed, self.now - age, self.now
        )
        assert changed == ((member.ejected, member.until) != before) or failed >= 0.5
        if failed == 0.0:
            assert not member.ejected or before[0]

    @rule(at=st.integers(0, 8))
    def probe(self, at):
        if at >= len(self.members):
            return
        member = self.members[at]
        free = not member.ejected or member.until <= self.now
        assert self.ejector.probe(member, self.now) == free
        if member.ejected:
            assert not self.ejector.probe(member, self.now)

    @invariant()
    def never_below_half(self):
        assert 2 * sum(member.ejected for member in self.members) <= len(self.members)

    @invariant()
    def nobody_is_out_for_ever(self):
        for member in self.members:
            longest = max(self.config.longest, self.config.probe_lease)
            assert member.wait(self.now) <= longest + 1e-6  # what rounding may add


Ejections.TestCase.settings = settings(max_examples=75, stateful_step_count=40, deadline=None)
TestEjections = Ejections.TestCase
