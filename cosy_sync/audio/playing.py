"""Sound through this machine's loudspeaker, by a program that can."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError
from ..models import Audio

__all__ = ["play"]

# Programs that play a WAV file to its end, with their arguments.
_PLAYERS: Sequence[Sequence[str]] = (
    ("afplay",),
    ("aplay", "-q"),
    ("paplay",),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error"),
)


def play(audio: Audio) -> None:
    """Play a sound and wait for its end. Raises ConfigError where nothing here can."""
    player = next((each for each in _PLAYERS if shutil.which(each[0])), None)
    if player is None:
        what = "ffmpeg (ffplay)" if sys.platform == "darwin" else "alsa-utils (aplay) or ffmpeg"
        raise ConfigError(f"play: no program here plays sound; install {what}, or save the audio")
    with tempfile.TemporaryDirectory(prefix="cosy-sync-") as folder:
        path = Path(folder, "sound.wav")
        path.write_bytes(audio.wav())
        done = subprocess.run([*player, str(path)], capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ConfigError(
            f"play: {player[0]} could not play it ({said[-1] if said else done.returncode}); "
            "is there a sound device here?"
        )
