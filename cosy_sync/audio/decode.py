"""One text's payload read as sound."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

from ..errors import BadAudioError
from ..messages import Payload
from ..models import Audio, Timing, wav_header
from ..riff import RIFF_NAMES, bad_wav, foreign_name, unreadable
from .wav import PLAIN_HEADER, find_plain, find_samples

__all__ = ["read_audio"]

_WAV = frozenset({"audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"})
_PCM = frozenset({"audio/l16", "audio/pcm", "audio/raw", "audio/x-pcm", "application/octet-stream"})
# Sound that would be noise as samples, and what it is called.
_FOREIGN = {
    **{"audio/mpeg": "MP3", "audio/mp3": "MP3", "audio/ogg": "Ogg", "audio/opus": "Opus"},
    **{"audio/flac": "FLAC", "audio/x-flac": "FLAC", "audio/aac": "AAC", "audio/mp4": "AAC"},
    **{"audio/basic": "mu-law", "audio/pcmu": "mu-law", "audio/pcma": "A-law"},
    **{"audio/webm": "WebM", "audio/aiff": "AIFF", "audio/x-aiff": "AIFF"},
}

_MEDIA = ("audio/", "video/", "image/")

_QUOTED = re.compile(r"""(?:(?<!\w)'|["“‘「『]).*?(?:["'”’」』]|$)""", re.DOTALL)
_SAID_CHARS = 80


def read_audio(payload: Payload, *, sample_rate: int, timing: Timing | None = None) -> Audio:
    """Read a payload as 16-bit sound; what begins as a WAV file is one, whatever it is called.

    A WAV file whose header is true is kept as it is; of another one, a true file is made.

    Args:
        payload: One text's bytes and the media type that the service gave them.
        sample_rate: Hz of bare samples that do not say it themselves.
        timing: What the audio is given as its timing.

    A view of a reply stays one, until the audio is detached.
    Raises BadAudioError when there is no whole sound in it.
    """
    data: Any = payload.data
    if data[:4] in RIFF_NAMES:
        plain = find_plain(data)
        if plain is not None:  # almost always
            rate, channels, size = plain
            return Audio(data, "wav", rate, channels, PLAIN_HEADER, size, timing)
        return _wav(data, timing)
    media_type, _, parameters = payload.media_type.partition(";")
    kind = media_type.strip().lower()
    if not data:
        raise BadAudioError(
            "the service sent no audio for this text; does it hold anything to speak?",
            reason="empty",
        )
    name = foreign_name(data, may_be_samples=kind not in _WAV)
    if name is not None or kind in _FOREIGN:
        shown = f" ({kind})" if kind in _FOREIGN else ""
        raise unreadable(f"{name or _FOREIGN[kind]}{shown}", "not_audio")
    if kind in _WAV:
        return _wav(data, timing)
    if kind not in _PCM:
        raise _no_audio(kind, data)
    audio = _pcm(data, parameters, sample_rate, timing)
    return dataclasses.replace(audio, words=payload.words) if payload.words else audio


def _wav(data: Any, timing: Timing | None) -> Audio:
    found = find_samples(data)
    rate, channels = found.format.sample_rate, found.format.channels
    if found.is_plain:
        return Audio(data, "wav", rate, channels, found.start, found.size, timing)
    pcm = found.pcm16(data)
    if pcm[:4] == b"RIFF" and pcm[8:12] == b"WAVE":
        raise bad_wav("header", "another WAV file was converted into the samples of this one")
    header = wav_header(rate, channels, len(pcm))
    return Audio(header + pcm, "wav", rate, channels, len(header), len(pcm), timing)


def _pcm(data: Any, parameters: str, sample_rate: int, timing: Timing | None) -> Audio:
    # RFC 2586 puts L16 in network byte order; every CosyVoice service sends it little-endian, as
    # it comes out of numpy, so that is what all bare samples are taken for.
    channels = 1
    if parameters:
        sample_rate = _number(parameters, "rate", sample_rate, 192_000)
        channels = _number(parameters, "channels", channels, 8)
    if len(data) % (2 * channels):
        raise BadAudioError(
            f"{len(data)} bytes are no whole number of {16 * channels}-bit frames; "
            "the service must send 16-bit samples to their end",
            reason="odd",
        )
    return Audio(data, "pcm", sample_rate, channels, 0, len(data), timing)


def _number(parameters: str, name: str, default: int, highest: int) -> int:
    for parameter in parameters.split(";"):
        key, _, text = parameter.partition("=")
        if key.strip().lower() != name:
            continue
        text = text.strip().strip('"')
        if not (text.isascii() and text.isdigit() and len(text) < 9 and 0 < int(text) <= highest):
            raise BadAudioError(
                f"the media type's {name} must be 1 to {highest}; the service sent another",
                reason="header",
                retryable=False,
            )
        return int(text)
    return default


def _no_audio(kind: str, data: bytes | memoryview) -> BadAudioError:
    shown = "".join(char for char in kind[:40] if char.isprintable()) or "no media type"
    said = _said(data) if kind == "application/json" or kind.startswith("text/") else ""
    says = f", which says: {said}" if said else ""
    return BadAudioError(
        f"expected audio, got {len(data)} bytes of {shown}{says}; "
        "check what the service answers, and format",
        reason="not_audio",
        # A format stays what it is; what is no sound at all may have been an error's words.
        retryable=not kind.startswith(_MEDIA),
    )


def _said(data: bytes | memoryview) -> str:
    """Return the message of an error in JSON. What it quotes may be the text: that is left out."""
    if len(data) > 100_000:
        return ""
    try:
        value = json.loads(bytes(data))
    except (ValueError, RecursionError):
        return ""
    for key in ("error", "detail", "message"):
        if isinstance(value, dict):
            value = value.get(key, value)
    if not isinstance(value, str):
        return ""
    unquoted = _QUOTED.sub("[…]", value[:1_000])
    return "".join(char if char.isprintable() else " " for char in unquoted)[:_SAID_CHARS]
