"""What a demo leaves behind: WAV files, `manifest.jsonl` that lists them, and the page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TextIO

from cosy_sync.cli.exits import Stop
from cosy_sync.cli.target import make_folder, write_whole

__all__ = ["DemoFolder", "Entry", "write_entry"]

_OURS = re.compile(r"wav/\d{4,}\.wav")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One text of a demo: a line of the manifest. `index` counts from 1, `seconds` the speech."""

    index: int
    text: str
    category: str
    file: str | None
    seconds: float | None
    bytes: int
    sha256: str | None
    # Seconds that the call took which brought the sound.
    latency: float | None
    attempts: int
    request_id: str | None
    error: str | None


class DemoFolder:
    """The directory of a demo. Touches only what a demo has made there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = path / "manifest.jsonl"
        self.page = path / "index.html"

    def prepare(self, texts: int) -> None:
        """Make the directory. Raises Stop when it cannot be written, or has others' files."""
        make_folder(self.path)
        make_folder(self.path / "wav")
        if self._is_ours():
            return
        for path in (self.manifest, self.page, *map(self.sound, range(1, texts + 1))):
            if path.exists() or path.is_symlink():
                raise Stop(f"{path} is not from a demo: choose another directory with -o")

    def sound(self, index: int) -> Path:
        """Return the place of a text's sound."""
        return self.path / "wav" / f"{index:04d}.wav"

    def clear(self) -> None:
        """Remove what an earlier demo has left; keep an empty manifest: it shows that all is ours.

        The manifest goes last: after a crash it still lists what is left to be removed.
        """
        listed = list(self._listed())
        self.page.unlink(missing_ok=True)
        for name in listed:
            (self.path / name).unlink(missing_ok=True)
        self.manifest.write_bytes(b"")

    def write_page(self, page: str) -> None:
        """Write the page, whole or not at all."""
        write_whole(self.page, page)

    def _is_ours(self) -> bool:
        if not self.manifest.is_file():
            return False
        with open(self.manifest, encoding="utf-8", errors="replace") as file:
            first = file.readline()
        # Nothing in it: a demo that was killed at its first file.
        return not first or _parsed(first).keys() == {field.name for field in fields(Entry)}

    def _listed(self) -> Iterable[str]:
        if not self.manifest.is_file():
            return
        with open(self.manifest, encoding="utf-8", errors="replace") as file:
            for line in file:
                name = _parsed(line).get("file")
                if isinstance(name, str) and _OURS.fullmatch(name):
                    yield name


def write_entry(file: TextIO, entry: Entry) -> None:
    """Add a line to the manifest."""
    file.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")


def _parsed(line: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
