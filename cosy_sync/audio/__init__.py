"""Bytes to sound and back, and what makes sound a success."""

from typing import TYPE_CHECKING

from .decode import read_audio
from .recording import load_recording
from .sound_file import SoundFileWriter
from .verify import Verifier
from .wav import WavInfo, parse_wav

if TYPE_CHECKING:
    # Never run. What packs a program into one file, such as PyInstaller, finds it by this.
    from . import playing  # noqa: F401

__all__ = [
    "SoundFileWriter",
    "Verifier",
    "WavInfo",
    "load_recording",
    "parse_wav",
    "read_audio",
]
