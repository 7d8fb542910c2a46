"""One private copy of the espeak-ng library: real speech through ctypes.

espeak-ng keeps its state in global variables, so one loaded library speaks for one thread at a
time. A second *file* with the same contents is a second library to the dynamic loader, with
globals of its own: N copies speak on N threads, and ctypes releases the interpreter lock
meanwhile. The library also contains sonic, whose windowed-sinc resampling does the change of
sample rate in C (60 to 78 dB signal to noise up to 6 kHz): no other dependency is needed.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
import shutil
import tempfile
from pathlib import Path

from .errors import MissingExtraError
from .sound import SAMPLE_BYTES
from .voices import Preset

# Constants of espeak-ng's speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_POSITION_CHARACTER = 1
_PARAMETER_RATE = 1
_PARAMETER_PITCH = 3
_RATE_RANGE = (80, 450)

# One callback for almost any sentence: each callback takes the interpreter lock again.
_BUFFER_MS = 60_000

_SYNTH_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


def _load_private_copy(library: str) -> ctypes.CDLL:
    folder = tempfile.mkdtemp(prefix="cosy-espeak-")
    try:
        copy = Path(folder, Path(library).name)
        shutil.copyfile(library, copy)
        return ctypes.CDLL(str(copy))
    finally:
        # A loaded library needs its name no more: even kill -9 later leaves no file behind.
        shutil.rmtree(folder, ignore_errors=os.name == "nt")


def _declare(lib: ctypes.CDLL) -> None:
    """Tell ctypes the argument types that it cannot guess."""
    lib.espeak_Synth.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    lib.sonicChangeShortSpeed.argtypes = [
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_float,
        ctypes.c_float,
        ctypes.c_float,
        ctypes.c_float,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
    ]


class Speaker:
    """One voice box; used by one thread at a time."""

    def __init__(self) -> None:
        """Load a fresh copy. Raises MissingExtraError when espeakng-loader is not installed."""
        try:
            import espeakng_loader
        except ImportError:
            raise MissingExtraError("espeakng-loader") from None
        self._lib = _load_private_copy(espeakng_loader.get_library_path())
        _declare(self._lib)
        self.sample_rate: int = self._lib.espeak_Initialize(
            _OUTPUT_SYNCHRONOUS, _BUFFER_MS, espeakng_loader.get_data_path().encode(), _DONT_EXIT
        )
        if self.sample_rate <= 0:
            raise RuntimeError("espeak-ng does not start: reinstall espeakng-loader")
        self._pieces: list[bytes] = []
        # Kept here: the library holds only the address.
        self._callback = _SYNTH_CALLBACK(self._collect)
        self._lib.espeak_SetSynthCallback(self._callback)
        self._language = ""

    def say(self, text: str, preset: Preset, sample_rate: int, speed: float) -> bytes:
        """Speak one text as PCM16LE mono. Waits for the synthesis, about 8 ms a sentence."""
        low, high = _RATE_RANGE
        wanted = preset.rate * speed
        rate = min(max(round(wanted), low), high)
        self._choose(preset, rate)
        self._pieces.clear()
        data = text.replace("\0", " ").encode()
        self._lib.espeak_Synth(
            data, len(data) + 1, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None
        )
        # What espeak-ng's own range of rates cannot give, sonic does.
        return self._convert(b"".join(self._pieces), sample_rate, wanted / rate)

    def close(self) -> None:
        """Unload the library."""
        self._lib.espeak_Terminate()
        if os.name != "nt":
            _ctypes.dlclose(self._lib._handle)

    def _choose(self, preset: Preset, rate: int) -> None:
        # Naming a voice loads its dictionary: only when it changes.
        if preset.espeak_voice != self._language:
            if self._lib.espeak_SetVoiceByName(preset.espeak_voice.encode()):
                raise RuntimeError(f"espeak-ng has no voice {preset.espeak_voice}")
            self._language = preset.espeak_voice
        self._lib.espeak_SetParameter(_PARAMETER_RATE, rate, 0)
        self._lib.espeak_SetParameter(_PARAMETER_PITCH, preset.pitch, 0)

    def _collect(self, samples: ctypes.Array[ctypes.c_short], count: int, _events: int) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, count * SAMPLE_BYTES))
        return 0

    def _convert(self, pcm: bytes, sample_rate: int, speed: float) -> bytes:
        """Change sample rate and speed; sonic works in place, in a buffer with room to grow."""
        if sample_rate == self.sample_rate and abs(speed - 1) < 0.01:
            return pcm
        # Reading at this ratio of the speed, and saying that nothing else changed, resamples.
        ratio = self.sample_rate / sample_rate
        count = len(pcm) // SAMPLE_BYTES
        room = int(count / min(ratio, 1) / min(speed, 1) * 1.01) + 8192
        buffer = ctypes.create_string_buffer(room * SAMPLE_BYTES)
        ctypes.memmove(buffer, pcm, len(pcm))
        made = self._lib.sonicChangeShortSpeed(
            buffer, count, speed, 1.0, ratio, 1.0, 0, self.sample_rate, 1
        )
        return ctypes.string_at(buffer, made * SAMPLE_BYTES)
