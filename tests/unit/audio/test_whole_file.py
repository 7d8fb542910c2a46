"""Files that appear whole: what other processes see, and what those that died left behind."""

import errno
import os
from pathlib import Path

import pytest

from cosy_sync.audio import whole_file
from cosy_sync.audio.whole_file import WholeFile

fcntl = pytest.importorskip("fcntl", reason="parts are locked on POSIX only")


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.part"))


def test_nothing_has_the_name_before_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    with WholeFile(path) as file:
        file.write(b"one")
        assert not path.exists() and len(parts(tmp_path)) == 1
        file.write(b"two")
    assert path.read_bytes() == b"onetwo" and not parts(tmp_path)


def test_an_error_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), WholeFile(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old" and not parts(tmp_path)


def leave_part(path: Path) -> Path:
    """Leave what a process leaves that is killed while it writes."""
    file = WholeFile(path).__enter__()
    file.write(b"a long half")
    file.file.close()
    os.close(file._lock)
    (part,) = parts(path.parent)
    return part


def test_the_part_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    part = leave_part(path)
    with WholeFile(path) as file:
        assert parts(tmp_path) == [part]
        file.write(b"whole")
    assert path.read_bytes() == b"whole" and not parts(tmp_path)


def test_the_part_of_somebody_who_writes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    with WholeFile(path) as first:
        first.write(b"first")
        with WholeFile(path) as second:
            assert len(parts(tmp_path)) == 2
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first" and not parts(tmp_path)


def test_a_part_of_another_file_is_left_alone(tmp_path: Path) -> None:
    part = leave_part(tmp_path / "x.wav")
    with WholeFile(tmp_path / "y.wav") as file:
        file.write(b"y")
    assert parts(tmp_path) == [part]


@pytest.mark.parametrize("made", ["directory", "link"])
def test_what_bears_the_name_of_a_part_and_is_none_is_left_alone(tmp_path: Path, made: str) -> None:
    path, other = tmp_path / "x.wav", tmp_path / "other"
    part = leave_part(path)
    part.unlink()
    other.write_bytes(b"precious")
    part.mkdir() if made == "directory" else part.symlink_to(other)
    with WholeFile(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole" and other.read_bytes() == b"precious"
    assert parts(tmp_path) == [part]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_nothing_can_be_locked_parts_have_names_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no locks")

    path = tmp_path / "x.wav"
    monkeypatch.setattr(whole_file.fcntl, "flock", refuse)
    with WholeFile(path) as first, WholeFile(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first" and not [
        each for each in parts(tmp_path) if each.stat().st_size
    ]
