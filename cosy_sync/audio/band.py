"""Whether a recording has anything above a sixth of its rate, as what came by telephone has not."""

from __future__ import annotations

from functools import lru_cache

from ..models import Audio

__all__ = ["count_sharp", "is_bright"]

# Filtered are so many single places, evenly spread. Fewer say mostly enough: these must find so
# many times what would be the fewest that are usual there, and so many at least, as chance may.
_PLACES = 8_192
_GLANCES = (256, 1_024)
_TIMES, _AT_LEAST = 2.0, 2
# A sample counts where the filter 1 -3 4 -3 1 gives so much, in 128ths of full scale: nothing is
# left of 4 000 Hz of 24 000 and little of what is below; 10 000 Hz become eleven times louder. It
# is told from the result's low byte: of the loudest a tenth is overlooked.
_TAPS, _LEAST = 5, 12
_COUNTS = bytes(_LEAST <= result < 256 - _LEAST for result in range(256))


@lru_cache(maxsize=8)
def _numbers(places: int) -> tuple[int, int]:
    """Return each second byte of so many, and an offset for each of those."""
    each = places // 2
    return int.from_bytes(b"\xff\0" * each, "little"), int.from_bytes(b"\0\x08" * each, "little")


def is_bright(audio: Audio, fewest: float) -> bool:
    """Return whether as much has sound above a sixth of the rate: `fewest`, as count_sharp has."""
    for places in _GLANCES:
        enough = max(_AT_LEAST, _TIMES * fewest * places / _PLACES)
        if count_sharp(audio, places) >= enough:
            return True
    return count_sharp(audio) >= fewest


def count_sharp(audio: Audio, places: int = _PLACES) -> int:
    """Return at how many of the places there is sound above a sixth of the rate.

    All of them where it cannot be told: of several channels, and of what is short. The places'
    samples are the bytes of one number, and so are their neighbours', so that each step of the
    filter is one on a whole number. Results have 16 bits: even places and odd ones go apart.
    """
    data, step = audio.data, (audio.pcm_size - 2 * _TAPS) // places // 2 * 2
    if audio.channels > 1 or step <= 0:
        return places
    number, (even, offset) = int.from_bytes, _numbers(places)
    first = audio.pcm_start + 1
    last = first + places * step
    one = number(data[first:last:step], "little")
    two = number(data[first + 2 : last + 2 : step], "little")
    three = number(data[first + 4 : last + 4 : step], "little")
    four = number(data[first + 6 : last + 6 : step], "little")
    five = number(data[first + 8 : last + 8 : step], "little")
    here = (one & even) + (five & even) + ((three & even) << 2) + offset
    here -= 3 * ((two & even) + (four & even))
    one, two, three, four, five = one >> 8, two >> 8, three >> 8, four >> 8, five >> 8
    beside = (one & even) + (five & even) + ((three & even) << 2) + offset
    beside -= 3 * ((two & even) + (four & even))
    results = here & even | (beside & even) << 8
    return results.to_bytes(places, "little").translate(_COUNTS).count(1)
