"""Bytes to sound and back, and what makes sound a success."""

from .decode import read_audio
from .recording import load_recording
from .verify import Verifier
from .wav import WavInfo, parse_wav

__all__ = ["Verifier", "WavInfo", "load_recording", "parse_wav", "read_audio"]
