"""Bare samples out of a reply that is still coming, whether a WAV header stands before them."""

from __future__ import annotations

from ..errors import BadAudioError
from ..riff import RIFF_NAMES, SampleFormat, foreign_name, read_header, to_pcm16, unreadable

__all__ = ["SampleReader", "is_wav"]

_WAV = frozenset({"audio/wav", "audio/wave", "audio/x-wav", "audio/vnd.wave"})

_MAX_HEADER = 1 << 16
# Hz, as for whole replies.
_MAX_RATE = 192_000
_PCM16 = SampleFormat(0, 1)


def is_wav(kind: str) -> bool:
    """Return whether a media type, without its parameters, is that of WAV files."""
    return kind in _WAV


class SampleReader:
    """Takes bytes in, split anywhere; gives out signed 16-bit samples, whole ones only.

    A WAV header says how they come, maybe as floats or with 24 bits; without one they are as given
    out. `sample_rate` (Hz) and `channels` hold from the first samples on. With `wav` only a WAV
    file will do; with `bare` only samples without a header.
    """

    def __init__(self, sample_rate: int, *, wav: bool = False, bare: bool = False) -> None:
        self.sample_rate = sample_rate
        self.channels = 1
        self._wav = wav
        self._bare = bare
        self._held = bytearray()
        self._in_head = True
        self._layout = _PCM16
        # Bytes of samples still to come, None where nobody knows.
        self._left: int | None = None
        # Bytes of padding behind them.
        self._padding = 0
        self._given = 0

    @property
    def has_heard(self) -> bool:
        """Return whether anything came."""
        return bool(self._given or self._held)

    def feed(self, data: bytes) -> bytes:
        """Return the samples that these bytes complete, maybe none. Raises BadAudioError."""
        known = self._given and self._left is None and self._layout is _PCM16
        if known and not self._held and not len(data) % 2:
            self._given += len(data)
            return data
        self._held += data
        if self._in_head and not self._passes_head():
            return b""
        return self._take()

    def end(self) -> bytes:
        """Return the samples still held. Raises BadAudioError when the sound is not whole."""
        if self._in_head:
            if self._held[:4] in RIFF_NAMES and not self._bare:
                raise _bad("cut", "the WAV file ends before its samples")
            if self._wav and self._held:
                raise _bad("not_audio", "the service sent another format than it says")
            self._in_head = False
        given = self._take(last=True)
        if self._left is not None and self._left > 0:
            raise _bad("cut", f"the WAV file ends {self._left} bytes before its samples do")
        if self._held and self._left is None:
            raise _bad("odd", "the sound ends in the middle of a sample")
        if not self._given:
            raise BadAudioError(
                "the service sent no sound for this text; does it hold anything to speak?",
                reason="empty",
            )
        return given

    def mono(self, samples: bytes) -> bytes:
        """Return samples that came. Raises BadAudioError where they are of several channels, or of
        a rate that no sound has."""
        if samples and self.channels != 1:
            raise BadAudioError(
                f"expected one channel, got {self.channels}; the service must speak in mono",
                reason="header",
                retryable=False,
            )
        if samples and not 0 < self.sample_rate <= _MAX_RATE:
            raise BadAudioError(
                f"the media type's rate must be 1 to {_MAX_RATE}; the service sent another",
                reason="header",
                retryable=False,
            )
        return samples

    def _passes_head(self) -> bool:
        """Return whether the samples begin at the start of what is held; a header is dropped."""
        held = self._held
        if len(held) < 4:
            return False
        if self._bare:
            _check_bare(held)
        elif held[:4] in RIFF_NAMES:
            return self._passes_wav()
        name = foreign_name(held, may_be_samples=not self._wav)
        if name is not None:
            raise unreadable(name, "not_audio")
        if self._wav:
            raise _bad("not_audio", "the service sent another format than it says")
        self._in_head = False
        return True

    def _passes_wav(self) -> bool:
        held = self._held
        if held[8:12] not in b"WAVE":
            raise _bad("header", "the WAV file's header cannot be read")
        header = read_header(held, _MAX_HEADER)
        if header is None:
            return False
        layout = header.format
        self._layout = _PCM16 if layout.is_pcm16 and layout.channels == 1 else layout
        self.sample_rate, self.channels = layout.sample_rate, layout.channels
        self._left = header.size
        self._padding = (header.size or 0) & 1
        if self._left is not None and self._left % layout.frame:
            bits = 8 * layout.frame
            raise _bad("odd", f"{self._left} bytes are no whole number of {bits}-bit frames")
        self._in_head = False
        del held[: header.start]
        return True

    def _take(self, last: bool = False) -> bytes:
        held = self._held
        size = len(held) - len(held) % self._layout.frame
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
        return given if self._layout is _PCM16 else to_pcm16(given, self._layout)

    def _check_behind(self) -> None:
        # What follows the samples must be a chunk of another kind: a size that counts only the
        # first piece, or files one after the other, would play as the beginning of the speech.
        skipped = min(self._padding, len(self._held))
        self._padding -= skipped
        del self._held[:skipped]
        name = bytes(self._held[:4])
        shown = name.isascii() and name.decode("ascii").isprintable()
        if len(name) == 4 and (name in (b"RIFF", b"data") or not shown):
            raise _bad("header", "the sound goes on after what its WAV header announces")
        del self._held[4:]


def _check_bare(start: bytearray) -> None:
    if start.startswith(RIFF_NAMES):
        raise BadAudioError(
            "expected bare samples, got a WAV file; check the URL, the wire and the service",
            reason="header",
            retryable=False,
        )
    if start.startswith(b'{"'):
        raise BadAudioError(
            "expected bare samples, got JSON; check the URL, the wire and the service",
            reason="not_audio",
        )


def _bad(reason: str, message: str) -> BadAudioError:
    return BadAudioError(
        f"{message}; the service must send whole WAV files or bare samples", reason=reason
    )
