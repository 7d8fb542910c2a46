"""Content faults: well-formed replies with wrong contents.

A fault meets one text of the batch, drawn at random, so that a client must save the others;
`swapped-audio` meets two of them, `same-audio` all.
"""

from __future__ import annotations

import dataclasses
import json
from base64 import b64encode
from collections.abc import Callable
from random import Random

from .batch import Part
from .sound import SAMPLE_BYTES, Clip, Failure, encode_clip, wav_header

_SHORT_SECONDS = 0.02

# What a corruption may look at: the parts, the sample rate and the random source.
_Corruption = Callable[[list[Part], int, Random], None]


def corrupt(fault: str, parts: list[Part], sample_rate: int, random: Random) -> None:
    """Change the parts in place as the fault's name says.

    Args:
        fault: one of CONTENT_FAULTS; other names change nothing.
        parts: the whole reply, in order.
        sample_rate: of the audio, in Hz.
        random: draws the victim.
    """
    corruption = _CORRUPTIONS.get(fault)
    if corruption is not None:
        corruption(parts, sample_rate, random)


def _victim(parts: list[Part], random: Random) -> tuple[Part, bytes]:
    """Draw a text that has audio, and give that audio; any text when none has."""
    candidates = [part for part in parts if isinstance(part.content, Clip)] or parts
    part = random.choice(candidates)
    return part, part.content.data if isinstance(part.content, Clip) else b""


def _is_wav(part: Part) -> bool:
    return part.media_type == "audio/wav"


def _pcm_of(part: Part, audio: bytes) -> bytes:
    return audio[44:] if _is_wav(part) else audio


def _replace_pcm(part: Part, pcm: bytes, sample_rate: int) -> None:
    part.content = encode_clip(Clip.of(pcm), "wav" if _is_wav(part) else "pcm", sample_rate)


def _empty_audio(parts: list[Part], _rate: int, random: Random) -> None:
    part, _ = _victim(parts, random)
    part.content = Clip.of(b"")


def _silent_audio(parts: list[Part], rate: int, random: Random) -> None:
    part, audio = _victim(parts, random)
    _replace_pcm(part, bytes(len(_pcm_of(part, audio))), rate)


def _same_audio(parts: list[Part], _rate: int, random: Random) -> None:
    chosen, _ = _victim(parts, random)
    for part in parts:
        part.content = chosen.content


def _odd_audio(parts: list[Part], rate: int, random: Random) -> None:
    part, audio = _victim(parts, random)
    _replace_pcm(part, _pcm_of(part, audio)[:-1], rate)


def _bad_wav(parts: list[Part], rate: int, random: Random) -> None:
    part, audio = _victim(parts, random)
    pcm = _pcm_of(part, audio)
    part.content = Clip.of(wav_header(2 * len(pcm), rate), pcm)


def _short_audio(parts: list[Part], rate: int, random: Random) -> None:
    part, audio = _victim(parts, random)
    _replace_pcm(part, _pcm_of(part, audio)[: int(_SHORT_SECONDS * rate) * SAMPLE_BYTES], rate)


def _swapped_type(parts: list[Part], _rate: int, random: Random) -> None:
    part, _ = _victim(parts, random)
    error = {"error": {"code": "internal", "message": "the model has failed"}}
    part.content = Clip.of(json.dumps(error).encode())


def _text_error(parts: list[Part], _rate: int, random: Random) -> None:
    random.choice(parts).content = Failure("synthesis_failed", "the model has failed")


def _bad_base64(parts: list[Part], _rate: int, random: Random) -> None:
    part, audio = _victim(parts, random)
    encoded = b64encode(audio)
    middle = len(encoded) // 2
    # A foreign character, and a length that is no multiple of four.
    part.base64 = encoded[:middle] + b"*" + encoded[middle:]


def _swapped_audio(parts: list[Part], _rate: int, random: Random) -> None:
    # Each recording keeps the hash of its own text, as it does where a service mixes up the
    # places of what it has made.
    if len(parts) > 1:
        first, second = random.sample(parts, 2)
        first.content, second.content = second.content, first.content
        first.echo, second.echo = second.echo, first.echo


def _too_few(parts: list[Part], _rate: int, random: Random) -> None:
    parts.remove(random.choice(parts))


def _too_many(parts: list[Part], _rate: int, random: Random) -> None:
    part = random.choice(parts)
    parts.append(dataclasses.replace(part, index=len(parts)))


def _double_index(parts: list[Part], _rate: int, random: Random) -> None:
    if len(parts) == 1:
        parts.append(dataclasses.replace(parts[0]))
        return
    first, second = random.sample(parts, 2)
    second.index = first.index


def _missing_index(parts: list[Part], _rate: int, random: Random) -> None:
    random.choice(parts).index = None


_CORRUPTIONS: dict[str, _Corruption] = {
    "bad-base64": _bad_base64,
    "bad-wav": _bad_wav,
    "double-index": _double_index,
    "empty-audio": _empty_audio,
    "missing-index": _missing_index,
    "odd-audio": _odd_audio,
    "same-audio": _same_audio,
    "short-audio": _short_audio,
    "silent-audio": _silent_audio,
    "swapped-audio": _swapped_audio,
    "swapped-type": _swapped_type,
    "text-error": _text_error,
    "too-few": _too_few,
    "too-many": _too_many,
}
