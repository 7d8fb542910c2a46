"""The benchmark of verification, small: it speaks, puts faults in, and counts."""

import pytest

from benchmarks.sound_faults import FAULTS
from benchmarks.spoken_corpus import groups_of
from benchmarks.verification import run_group, tables


def test_good_speech_passes_and_faults_are_counted() -> None:
    pytest.importorskip("soxr", reason="needs the extra audio")
    tally = run_group((groups_of(1)[3], 64, 1))
    assert tally.alarms == []
    assert sum(tally.good.values()) == 64
    assert set(tally.faults) == {fault.name for fault in FAULTS}
    assert tally.caught["a constant, or dither"] == 1
    assert [len(table.rows) for table in tables(tally)] == [2, len(FAULTS)]
