"""Bare samples out of a reply that is still coming, whether a WAV header stands before them."""

from __future__ import annotations

import struct

from ..errors import BadAudioError

__all__ = ["SampleReader"]

_CHUNK = struct.Struct("<4sI")
_FMT = struct.Struct("<HHIIHH")
_CODES = (1, 0xFFFE)
# What services that cannot know the length write in its place, less a few header bytes; no speech
# is 2 GiB long.
_ENDLESS = 0x7FFF_0000
_MAX_HEADER = 1 << 16
_MAX_CHANNELS = 8
_RATES = range(8_000, 192_001)
# How other formats begin. MP3 without a tag has no such mark.
_FOREIGN = (b"ID3\x02", b"ID3\x03", b"ID3\x04", b"OggS", b"fLaC")


class SampleReader:
    """Takes bytes in, split anywhere; gives out signed 16-bit samples, whole ones only.

    `sample_rate` (Hz) and `channels` hold from the first samples on. With `wav` only a WAV file
    will do; with `bare` only samples without a header.
    """

    def __init__(self, sample_rate: int, *, wav: bool = False, bare: bool = False) -> None:
        self.sample_rate = sample_rate
        self.channels = 1
        self._wav = wav
        self._bare = bare
        self._held = bytearray()
        self._in_head = True
        # Bytes of samples still to come, None where nobody knows.
        self._left: int | None = None
        self._given = 0

    @property
    def has_heard(self) -> bool:
        """Return whether anything came."""
        return bool(self._given or self._held)

    def feed(self, data: bytes) -> bytes:
        """Return the samples that these bytes complete, maybe none. Raises BadAudioError."""
        if self._given and not self._held and self._left is None and not len(data) % 2:
            self._given += len(data)
            return data
        self._held += data
        if self._in_head and not self._passes_head():
            return b""
        return self._take()

    def end(self) -> bytes:
        """Return the samples still held. Raises BadAudioError when the sound is not whole."""
        if self._in_head:
            if self._held[:4] == b"RIFF":
                raise _bad("cut", "the WAV file ends before its samples")
            if self._wav and self._held:
                raise _bad("not_audio", "the service sent another format than it says")
            self._in_head = False
        given = self._take(last=True)
        if self._left is not None and self._left > 0:
            raise _bad("cut", f"the WAV file ends {self._left} bytes before its samples do")
        if self._held and self._left is None:
            raise _bad("odd", "the sound ends in the middle of a 16-bit sample")
        if not self._given:
            raise BadAudioError(
                "the service sent no sound for this text; does it hold anything to speak?",
                reason="empty",
            )
        return given

    def _passes_head(self) -> bool:
        """Return whether the samples begin at the start of what is held; a header is dropped."""
        held = self._held
        if len(held) < 4:
            return False
        if self._bare:
            _check_bare(held)
        elif held[:4] == b"RIFF":
            return self._passes_wav()
        if self._wav or bytes(held[:4]) in _FOREIGN:
            raise _bad(
                "not_audio", "the service sent another format than it was asked for, or says"
            )
        self._in_head = False
        return True

    def _passes_wav(self) -> bool:
        held, at, known = self._held, 12, False
        while at + 8 <= len(held):
            name, size = _CHUNK.unpack_from(held, at)
            if name == b"data":
                if not known:
                    raise _bad("header", "the WAV file does not say how it is to be played")
                self._left = None if size >= _ENDLESS or not size else size
                if self._left is not None and size % 2:
                    raise _bad("odd", f"{size} bytes are no whole number of 16-bit samples")
                self._in_head = False
                del held[: at + 8]
                return True
            if name == b"fmt ":
                if at + 24 > len(held):
                    return False
                self._read_layout(at + 8)
                known = True
            at += 8 + size + (size & 1)
        if held[8:12] not in b"WAVE" or at > _MAX_HEADER:
            raise _bad("header", "the WAV file's header cannot be read")
        return False

    def _read_layout(self, at: int) -> None:
        code, channels, rate, _, frame, bits = _FMT.unpack_from(self._held, at)
        whole = 0 < channels <= _MAX_CHANNELS and frame == 2 * channels and rate in _RATES
        if code not in _CODES or bits != 16 or not whole:
            raise _bad(
                "header",
                f"expected 16-bit samples, got WAV format {code} with {bits} bits, "
                f"{channels} channels and {rate} Hz",
            )
        self.sample_rate, self.channels = rate, channels

    def _take(self, last: bool = False) -> bytes:
        held = self._held
        size = len(held) & ~1
        if not self._given:
            if held[:4] == b"RIFF":
                raise _bad("header", "a second WAV header stands where the samples should begin")
            if len(held) < 4 and b"RIFF".startswith(held) and not last:
                return b""  # it may still become one
        if self._left is not None:
            size = min(size, self._left)
            self._left -= size
        given = bytes(held[:size])
        del held[:size]
        self._given += size
        if self._left == 0:
            self._check_behind()
        return given

    def _check_behind(self) -> None:
        # What follows the samples must be a chunk of another kind: a size that counts only the
        # first piece, or files one after the other, would play as the beginning of the speech.
        name = bytes(self._held[:4])
        shown = name.isascii() and name.decode("ascii").isprintable()
        if len(name) == 4 and (name in (b"RIFF", b"data") or not shown):
            raise _bad("header", "the sound goes on after what its WAV header announces")
        del self._held[4:]


def _check_bare(start: bytearray) -> None:
    for mark, reason, what in ((b"RIFF", "header", "a WAV file"), (b'{"', "not_audio", "JSON")):
        if start.startswith(mark):
            raise BadAudioError(
                f"expected bare samples, got {what}; check the URL, the wire and the service",
                reason=reason,
            )


def _bad(reason: str, message: str) -> BadAudioError:
    return BadAudioError(
        f"{message}; the service must send whole 16-bit WAV files or bare samples", reason=reason
    )
