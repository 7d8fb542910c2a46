"""HTTP replies that hold sound, without a framework: types, ranges, and streams."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cosy_sync import Audio, SpeechStream

from ..models import wav_header

__all__ = ["CACHE_CONTROL", "Reply", "StreamedSound", "audio_reply"]

# A browser may keep the sound of its own user's text for an hour.
CACHE_CONTROL = "private, max-age=3600"
_TYPES = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg; codecs=opus",
    "ogg": "audio/ogg; codecs=vorbis",
    "flac": "audio/flac",
}
# No sound has more digits; Python refuses to read thousands of them.
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)
# A WAV file whose end nobody knows yet says that it is as long as can be.
_ENDLESS = 0xFFFFFFFF - 36


@dataclass(frozen=True)
class Reply:
    """What a framework's response is made of."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def audio_reply(
    audio: Audio, method: str, asked: Mapping[str, str], cache_control: str = CACHE_CONTROL
) -> Reply:
    """Return the reply that holds a sound, or the part of it that was asked for.

    Args:
        method: That of the request; ranges and 304 are for GET and HEAD.
        asked: The request's headers; names must be found whatever their case is.
    """
    data, size = audio.data, len(audio.data)
    etag = f'"{hashlib.blake2b(data, digest_size=16).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": cache_control, "Accept-Ranges": "bytes"}
    status = 200
    if method in ("GET", "HEAD"):
        if _matches(etag, asked.get("If-None-Match", "")):
            return Reply(304, headers)
        found = _RANGE.fullmatch(asked.get("Range", "").strip()) if method == "GET" else None
        if found and any(found.groups()) and asked.get("If-Range", etag) == etag:
            first, end = _bounds(found[1], found[2], size)
            if first >= end:
                return Reply(416, {**headers, "Content-Range": f"bytes */{size}"})
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
            status, data = 206, data[first:end]
    headers["Content-Type"] = _TYPES.get(audio.format) or _raw(audio.sample_rate, audio.channels)
    headers["Content-Length"] = str(len(data))
    return Reply(status, headers, b"" if method == "HEAD" else data)


class StreamedSound(Iterator[bytes]):
    """A stream as the body of a WAV file that has no end yet; whoever ends it early closes it.

    Args:
        method: That of the request: HEAD ends the stream, and has no body.
    """

    content_type = _TYPES["wav"]

    def __init__(self, stream: SpeechStream, method: str | None = None) -> None:
        self._stream = stream
        self._begun = self._over = False
        if method == "HEAD":
            self._over = True
            stream.close()

    def __next__(self) -> bytes:
        if self._over:
            raise StopIteration
        if self._begun:
            return next(self._stream)
        self._begun = True
        return wav_header(self._stream.sample_rate, 1, _ENDLESS)

    def close(self) -> None:
        """End the stream."""
        self._stream.close()


def _raw(sample_rate: int, channels: int) -> str:
    return f"audio/pcm; rate={sample_rate}; channels={channels}"


def _matches(etag: str, wanted: str) -> bool:
    known = [each.strip().removeprefix("W/") for each in wanted.split(",")]
    return etag in known or known == ["*"]


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """Return where the part begins and ends; not before it begins where there is none."""
    if not first:  # the last so many
        return max(0, size - int(last)), size
    end = size if not last else min(size, int(last) + 1)
    return int(first), end
