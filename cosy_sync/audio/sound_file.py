"""A sound file that is written as its sound comes, and appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..joining import MOST_WAV
from ..models import Audio, wav_header
from .formats import CODECS, Encoder, check_encoder
from .whole_file import WholeFile

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SavedSound", "SoundFileWriter", "format_of", "save"]

# Rate and channels of a file to which nothing was written.
_SILENT = (24_000, 1)


def format_of(path: str | os.PathLike[str]) -> str:
    """Return the format that a file's ending names. Raises ConfigError for another ending, and for
    what is no path."""
    if not isinstance(path, (str, os.PathLike)):
        kind = type(path).__name__
        raise ConfigError(f"save: expected the path of a file, got {kind}")
    ending = Path(path).suffix.lower().removeprefix(".")
    if ending == "raw":
        return "pcm"
    if ending not in ("wav", "pcm", *CODECS):
        raise ConfigError(
            f"save: {Path(path).name!r} must end in .wav, .mp3, .opus, .ogg, .flac, .pcm or .raw"
        )
    return ending


def save(audio: Audio, path: str | os.PathLike[str], quality: float | None = None) -> Path:
    """Write a sound to a file; see Audio.save."""
    format = format_of(path)
    if quality is not None and format in ("wav", "pcm"):
        audio.as_format(format, quality)  # refuses it
    file = WholeFile(path)
    with file:
        if format == audio.format and quality is None:
            file.write(audio.data)  # as the service sent it
        elif format == "wav":
            file.write(audio.wav())
        else:
            file.write(audio.as_format(format, quality).data)
    return file.path


@dataclass(frozen=True)
class SavedSound:
    """A sound in a finished file: what its samples are, `size` in bytes."""

    path: Path
    format: str
    sample_rate: int
    channels: int
    size: int

    @property
    def duration(self) -> float:
        """Return the length of the sound in seconds."""
        return self.size / (2 * self.channels * self.sample_rate)

    def read(self) -> Audio:
        """Return the sound. Raises OSError where the file is gone."""
        data = self.path.read_bytes()
        start = len(data) - self.size if self.format in ("wav", "pcm") else 0
        return Audio(data, self.format, self.sample_rate, self.channels, start, self.size)


class SoundFileWriter:
    """Writes 16-bit samples to a sound file as they come; it appears whole or not at all.

    Use it in a `with` block. Raises ConfigError for an ending that is not known, and where its
    format cannot be written here; OSError when the directory is missing or full.
    """

    def __init__(self, path: str | os.PathLike[str], quality: float | None = None) -> None:
        self._format = format_of(path)
        if self._format in CODECS:  # not only when it begins: the sound may have cost money by then
            check_encoder(self._format, quality)
        self._quality = quality
        self._whole = WholeFile(path)
        self._encoder: Encoder | None = None
        self._layout: tuple[int, int] | None = None
        self._written = 0

    @property
    def path(self) -> Path:
        """Return the file's path."""
        return self._whole.path

    @property
    def encodes(self) -> bool:
        """Return whether the format takes an encoder."""
        return self._format in CODECS

    def write(self, pcm: bytes | memoryview, sample_rate: int, channels: int = 1) -> None:
        """Add samples. Raises ConfigError where the rate or the channels change."""
        if self._layout is None:
            self._layout = (sample_rate, channels)
            self._begin(sample_rate, channels)
        elif self._layout != (sample_rate, channels):
            raise ConfigError(
                f"save: the sound changes from {self._layout[0]} Hz and {self._layout[1]} channels "
                f"to {sample_rate} Hz and {channels}: do all endpoints serve the same model?"
            )
        self._written += len(pcm)
        if self._encoder is not None:
            self._encode(pcm)
        elif self._format == "wav" and self._written > MOST_WAV:
            raise ConfigError("save: a WAV file holds at most 4 GiB; save it as .flac or .mp3")
        else:
            self._whole.write(pcm)

    def saved(self) -> SavedSound:
        """Return what was written."""
        rate, channels = self._layout or _SILENT
        return SavedSound(self.path.absolute(), self._format, rate, channels, self._written)

    def __enter__(self) -> Self:
        self._whole.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failure = error
        try:
            if error is None:
                self._finish()
        except BaseException as late:
            failure = late
            raise
        finally:
            if self._encoder is not None:
                with contextlib.suppress(RuntimeError):
                    self._encoder.close()
            self._whole.__exit__(kind, failure, trace)

    def _begin(self, sample_rate: int, channels: int) -> None:
        if self._format in CODECS:
            # By its descriptor: in a Python file, soundfile would lose the error of a full disk.
            file = self._whole.file.fileno()
            self._encoder = Encoder(file, self._format, sample_rate, channels, self._quality)
        elif self._format == "wav":
            self._whole.write(wav_header(sample_rate, channels, 0))

    def _finish(self) -> None:
        if self._encoder is not None:
            self._encode(b"", last=True)
        elif self._format == "wav":
            rate, channels = self._layout or _SILENT
            self._whole.file.seek(0)
            self._whole.write(wav_header(rate, channels, self._written))

    def _encode(self, pcm: bytes | memoryview, *, last: bool = False) -> None:
        assert self._encoder is not None
        try:
            self._encoder.write(pcm, last=last)
            if last:
                self._encoder.close()
        except RuntimeError as error:  # soundfile's, which knows no number
            raise OSError(errno.EIO, f"{error} (is the disk full?)", str(self.path)) from error
