"""Ejection: by each one's own failures, never over half, longer each time, back by a probe."""

from __future__ import annotations

import pytest

from cosy_sync.config import EjectionConfig
from cosy_sync.errors import ConfigError
from cosy_sync.policies import Ejector, Health

NOW = 1000.0
# Each call counts half: two failures in a row make 0.75.
CONFIG = EjectionConfig(failure_ratio=0.75, calls=3, base=5, longest=40, probe_lease=60)


class Hosts:
    def __init__(self, count: int, config: EjectionConfig = CONFIG) -> None:
        self.ejector = Ejector(config)
        self.all = [Health() for _ in range(count)]
        assert self.ejector.change(self.all) == []

    def call(self, host: int, failed: float, now: float = NOW, sent: float | None = None) -> bool:
        member = self.all[host]
        if not self.ejector.fared(member, failed):
            return False
        return self.ejector.judge(member, failed, now if sent is None else sent, now)

    def eject(self, host: int, now: float = NOW) -> None:
        while not self.call(host, 1.0, now):
            assert self.all[host].average < 1 - 1e-9
        assert self.all[host].ejected

    def out(self) -> list[bool]:
        return [member.ejected for member in self.all]


def test_it_is_ejected_when_its_average_reaches_the_ratio() -> None:
    hosts = Hosts(2)
    assert not hosts.call(0, 1.0)
    assert hosts.all[0].average == 0.5
    assert hosts.call(0, 1.0)  # exactly 0.75
    assert hosts.all[0].average == 0.75
    assert hosts.out() == [True, False]


def test_successes_lower_the_average() -> None:
    hosts = Hosts(2)
    for _ in range(10):
        assert not hosts.call(0, 1.0)
        assert not hosts.call(0, 0.0)
        assert not hosts.call(0, 0.0)
    assert hosts.out() == [False, False]


def test_part_of_a_call_counts_in_part() -> None:
    hosts = Hosts(2)
    assert not any(hosts.call(0, 0.7) for _ in range(100))
    assert hosts.all[0].average == pytest.approx(0.7)
    assert any(hosts.call(0, 0.8) for _ in range(10))


def test_a_success_never_ejects() -> None:
    hosts = Hosts(1)
    for _ in range(20):
        assert not hosts.call(0, 1.0)
    hosts.all.append(Health())
    hosts.ejector.change(hosts.all)
    hosts.all[0].average = 1.6  # stays above the ratio for one more call
    assert not hosts.call(0, 0.0)
    assert hosts.call(0, 1.0)


def test_the_defaults_eject_after_fifteen_failures_in_a_row() -> None:
    hosts = Hosts(2, EjectionConfig())
    assert [hosts.call(0, 1.0) for _ in range(15)] == [False] * 14 + [True]


@pytest.mark.parametrize(("count", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (8, 4)])
def test_never_more_than_half_are_out(count: int, most: int) -> None:
    hosts = Hosts(count)
    for host in range(count):
        for _ in range(10):
            hosts.call(host, 1.0)
    assert hosts.out() == [True] * most + [False] * (count - most)


def test_who_is_no_member_is_not_ejected() -> None:
    hosts = Hosts(4)
    hosts.ejector.change(hosts.all[1:])
    assert not any(hosts.call(0, 1.0) for _ in range(10))


def test_when_there_are_fewer_those_come_back_whose_time_is_over_first() -> None:
    hosts = Hosts(4)
    hosts.eject(1, NOW + 1)
    hosts.eject(0, NOW + 2)
    one, two, three, four = hosts.all
    assert hosts.ejector.change([one, two, three, four]) == []
    assert hosts.ejector.change([one, two, three]) == [two]
    assert (one.ejected, two.ejected, two.average) == (True, False, 0.0)
    assert hosts.ejector.change([one, three]) == []
    assert hosts.ejector.change([one]) == [one]
    assert hosts.ejector.change([]) == []


def test_the_wait_is_what_is_left_of_the_time() -> None:
    hosts = Hosts(2)
    member = hosts.all[0]
    assert member.wait(NOW) == 0.0
    hosts.eject(0)
    assert member.wait(NOW) == 5.0
    assert member.wait(NOW + 4) == 1.0
    assert member.wait(NOW + 5) == 0.0
    assert member.wait(NOW + 6) == 0.0


def test_only_one_probe_goes_and_not_before_its_time() -> None:
    hosts = Hosts(2)
    member = hosts.all[0]
    assert hosts.ejector.probe(member, NOW)  # not ejected: anybody may
    assert hosts.ejector.probe(member, NOW)
    hosts.eject(0)
    assert not hosts.ejector.probe(member, NOW + 4.999)
    assert hosts.ejector.probe(member, NOW + 5)
    assert not hosts.ejector.probe(member, NOW + 5)
    assert member.wait(NOW + 5) == 60.0
    assert hosts.ejector.probe(member, NOW + 65)  # the first never reported


def test_a_probe_that_succeeds_brings_it_back() -> None:
    hosts = Hosts(2)
    hosts.eject(0)
    assert hosts.ejector.probe(hosts.all[0], NOW + 5)
    assert hosts.call(0, 0.0, NOW + 6, sent=NOW + 5)
    assert (hosts.all[0].ejected, hosts.all[0].average) == (False, 0.0)
    assert hosts.all[0].wait(NOW + 6) == 0.0


@pytest.mark.parametrize(("failed", "back"), [(0.74, True), (0.75, False)])
def test_a_probe_that_partly_fails_is_measured_by_the_ratio(failed: float, back: bool) -> None:
    hosts = Hosts(2)
    hosts.eject(0)
    hosts.ejector.probe(hosts.all[0], NOW + 5)
    assert hosts.call(0, failed, NOW + 6)
    assert hosts.all[0].ejected is not back


def test_what_was_sent_before_the_probe_neither_ends_nor_prolongs_it() -> None:
    hosts = Hosts(2)
    member = hosts.all[0]
    hosts.eject(0)
    for failed in (0.0, 1.0):
        assert not hosts.call(0, failed, NOW + 1)
        assert member.wait(NOW + 1) == 4.0
    hosts.ejector.probe(member, NOW + 5)
    for failed in (0.0, 1.0):
        assert not hosts.call(0, failed, NOW + 6, sent=NOW + 4.999)
        assert member.ejected and member.wait(NOW + 6) == 59.0


def test_the_time_doubles_with_each_probe_that_fails_up_to_the_longest() -> None:
    hosts = Hosts(2)
    member, now, lengths = hosts.all[0], NOW, []
    hosts.eject(0)
    for _ in range(100):
        lengths.append(member.wait(now))
        now = member.until
        hosts.ejector.probe(member, now)
        assert hosts.call(0, 1.0, now)
        # The probe is over: nothing that was sent while it was under way counts any more.
        assert not hosts.call(0, 0.0, now)
    assert lengths[:5] == [5, 10, 20, 40, 40]
    assert set(lengths[3:]) == {40}


def readmit(hosts: Hosts, now: float) -> None:
    hosts.ejector.probe(hosts.all[0], now)
    assert hosts.call(0, 0.0, now)


def test_one_that_soon_fails_again_is_left_out_for_longer() -> None:
    hosts = Hosts(2)
    hosts.eject(0)
    readmit(hosts, NOW + 20)
    hosts.eject(0, NOW + 60)  # 40 after it came back: not longer than the longest
    assert hosts.all[0].wait(NOW + 60) == 10.0


def test_one_that_was_well_for_long_begins_anew() -> None:
    hosts = Hosts(2)
    hosts.eject(0)
    readmit(hosts, NOW + 20)
    hosts.eject(0, NOW + 60.001)
    assert hosts.all[0].wait(NOW + 60.001) == pytest.approx(5.0)


@pytest.mark.parametrize("field", ["failure_ratio", "calls", "base", "longest", "probe_lease"])
def test_impossible_settings_are_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        EjectionConfig(**{field: 0})


def test_a_share_above_one_is_refused() -> None:
    EjectionConfig(failure_ratio=1.0)
    with pytest.raises(ConfigError, match="failure_ratio"):
        EjectionConfig(failure_ratio=1.1)
