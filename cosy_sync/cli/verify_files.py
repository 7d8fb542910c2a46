"""Whether a demo holds what it promises: its files heard again, its limits kept."""

from __future__ import annotations

import hashlib
import io
import wave
from collections.abc import Sequence
from pathlib import Path

from cosy_sync.cli.manifest import Entry

__all__ = ["check_files"]

_BLOCK = 1 << 16


def check_files(folder: Path, entries: Sequence[Entry], seconds: tuple[float, float]) -> list[str]:
    """Read every file again; return what is wrong, in words.

    Args:
        seconds: the shortest and the longest speech that is believed.
    """
    wrong: list[str] = []
    first: dict[str, int] = {}
    for entry in entries:
        if entry.file is None:
            continue
        data, fault = _read(folder / entry.file)
        digest = hashlib.sha256(data).hexdigest()
        fault = fault or _compare(data, digest, entry, seconds)
        if not fault and digest in first:
            fault = f"sounds exactly like text {first[digest]}"
        first.setdefault(digest, entry.index)
        if fault:
            wrong.append(f"{entry.file}: {fault}")
    return wrong


def _read(path: Path) -> tuple[bytes, str]:
    try:
        return path.read_bytes(), ""
    except OSError as error:
        return b"", f"cannot be read: {error.strerror}"


def _compare(data: bytes, digest: str, entry: Entry, seconds: tuple[float, float]) -> str:
    if digest != entry.sha256:
        return "is not what was written"
    try:
        length = _length(data)
    except (wave.Error, EOFError, ValueError) as error:
        return f"is no WAV file: {error}"
    if not seconds[0] <= length <= seconds[1]:
        return f"is {length:.2f} s long"
    if entry.seconds is None or abs(length - entry.seconds) > 0.01:
        return f"is {length:.2f} s long, and not {entry.seconds} s"
    return ""


def _length(data: bytes) -> float:
    """Return the seconds of a WAV file, as the frames that are really there tell."""
    with wave.open(io.BytesIO(data)) as sound:
        size, frames = sound.getnchannels() * sound.getsampwidth(), 0
        while block := sound.readframes(_BLOCK):
            frames += len(block) // size
        if frames != sound.getnframes():
            raise ValueError(f"{sound.getnframes()} frames promised, {frames} there")
        rate: int = sound.getframerate()
        return frames / rate
