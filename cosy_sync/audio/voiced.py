"""How much of a recording is heard: silence, faint noise, clicks and constants are not."""

from __future__ import annotations

import sys
from array import array
from typing import NamedTuple

from ..models import Audio

__all__ = ["Voiced", "measure"]

# Speech is measured in frames of so many seconds. One is heard if its samples differ by more than
# this: twice -60 dB of full scale, which dither and a vocoder's noise floor stay below, while even
# whispered speech peaks ten times higher.
_FRAME = 0.02
_LEAST_SWING = 64
# So many samples a second say as much about that as all of them.
_ENOUGH = 6_000


class Voiced(NamedTuple):
    """Seconds that are heard, from the first to the last that is, the longest without any among
    these, and anywhere."""

    heard: float
    span: float
    rest: float
    silence: float


def measure(audio: Audio) -> Voiced:
    """Return what is heard of a recording. Costs about 0.2 ms for a second of sound."""
    samples = array("h", bytes(audio.data[audio.pcm_start : audio.pcm_start + audio.pcm_size]))
    if sys.byteorder == "big":
        samples.byteswap()
    each = max(1, audio.sample_rate // _ENOUGH)
    channels = [samples[side :: audio.channels * each] for side in range(audio.channels)]
    rate = audio.sample_rate / each
    size = max(1, round(_FRAME * rate))
    frames = bytearray()
    for at in range(0, len(channels[0]), size):
        pieces = [channel[at : at + size] for channel in channels]
        frames.append(any(max(piece) - min(piece) > _LEAST_SWING for piece in pieces))
    second = rate / size
    whole = len(channels[0]) / size
    silence = max(map(len, frames.split(b"\1")))
    speech = frames.strip(b"\0")
    rest = max(map(len, speech.split(b"\1")))
    # The last frame may be shorter.
    cut = len(frames) - whole if frames[-1:] == b"\1" else 0
    heard, span = frames.count(1) - cut, len(speech) - cut
    return Voiced(heard / second, span / second, rest / second, silence / second)
