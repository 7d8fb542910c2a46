"""The nouns: Voice, Recording, Utterance, Audio, Timing, Outcome."""

from __future__ import annotations

import hashlib
import importlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from .error_forms import MAKERS
from .errors import ConfigError, CosyError
from .fields import tells_fields

__all__ = [
    "Audio",
    "Outcome",
    "Recording",
    "Timing",
    "Utterance",
    "Voice",
    "Word",
    "detach",
    "is_utf8",
    "text_hash",
]


# Formats whose samples lie in their data as they are.
PLAIN_FORMATS = ("wav", "pcm")


def text_hash(text: str) -> str:
    """Return 10 hexadecimal digits that stand for a text in logs and errors."""
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=5).hexdigest()


def is_utf8(text: str) -> bool:
    """Return whether a text can be sent: half a surrogate pair cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class Recording:
    """A checked reference recording: a whole WAV file, mono, 16-bit; `digest` is its SHA-256.

    Whoever makes one by hand answers for it: it is not looked at again.
    """

    wav: bytes = field(repr=False, compare=False)
    sample_rate: int
    duration: float
    digest: str


@tells_fields
@dataclass(frozen=True)
class Voice:
    """Who speaks, and how. Which of it a wire can say, its page in docs tells.

    Args:
        name: A speaker that the service knows, such as 中文女.
        reference: A recording of the voice to imitate: a sound file's path or bytes, samples
            with their rate such as (array, 24_000), or a Recording. It is read and checked once,
            when a client is made with it.
        transcript: What is said in the recording, word for word.
        instruction: How to speak, such as 用四川话说这句话.
    """

    name: str | None = None
    reference: Recording | str | os.PathLike[str] | bytes | tuple[Any, int] | None = field(
        default=None, kw_only=True, repr=False
    )
    transcript: str | None = field(default=None, kw_only=True, repr=False)
    instruction: str | None = field(default=None, kw_only=True)
    # What `read_once` keeps.
    _read: dict[tuple[int, int], Recording] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for key in ("name", "transcript", "instruction"):
            value = getattr(self, key)
            if value is not None and not _sayable(value):
                what = "the name of a speaker, such as Voice('中文女')"
                raise ConfigError(f"voice: expected {what if key == 'name' else f'words as {key}'}")
        if self.transcript is not None and self.reference is None:
            raise ConfigError("voice: a transcript belongs to a reference recording; give both")
        if not self.asks:
            raise ConfigError("voice: give a name, such as Voice('中文女'), or a reference")

    @property
    def asks(self) -> tuple[str, ...]:
        """Return which of name, reference and instruction it has."""
        every = ("name", "reference", "instruction")
        return tuple(key for key in every if getattr(self, key) is not None)

    def read_once(self, rates: tuple[int, int], read: Callable[[], Recording]) -> Recording:
        """Return the reference within these rates in Hz, as `read` returned it the first time.

        Two threads that come at the same time may both call `read`.
        """
        recording = self._read.get(rates)
        if recording is None:
            recording = self._read[rates] = read()
        return recording


def _sayable(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and is_utf8(value)


@dataclass(slots=True)
class Utterance:
    """One text with its voice: the unit of success or failure; an item of `synth_many` and
    `synth_iter`, which take plain texts as well.

    Args:
        text: What to speak.
        id: A str or an int by which you know it again: of its Outcome and of errors. It changes
            nothing of what is sent.
        voice: Who speaks, where that differs from its call: a Voice or a speaker's name.
        speed: Pace of the speech, where that differs.
    """

    text: str
    id: str | int | None = field(default=None, kw_only=True)
    voice: Voice | str | None = field(default=None, kw_only=True)
    speed: float | None = field(default=None, kw_only=True)
    # The engine's, in utterances of its own: the place in the call, and the settings where they are
    # not the call's.
    index: int = field(default=0, kw_only=True, repr=False, compare=False)
    settings: Any = field(default=None, kw_only=True, repr=False, compare=False)

    @property
    def hash(self) -> str:
        """Return the short hash that stands for the text in logs and errors."""
        return text_hash(self.text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How long the call took that brought a text's audio. Seconds; texts of a batch share one.

    `started` is on the clock of `time.monotonic()`; `queued` counts from the client's accepting
    the text until its last attempt was sent; `connect` is 0 on a reused connection. Of a stream,
    `first_audio` lasts until its first sound and `total` leaves out what the listener took between
    two chunks; of a whole reply, `first_audio` is 0.
    """

    started: float
    queued: float
    connect: float
    first_byte: float
    total: float
    attempts: int
    endpoint: str
    request_id: str
    first_audio: float = 0.0


class Word(NamedTuple):
    """A piece of a text, and when it is heard, in seconds of its audio."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Audio:
    """Checked speech: `data` is a whole file (`wav`, or one of `mp3`, `opus`, `ogg` and `flac`), or
    bare samples (`pcm`).

    As it comes from a call it is as the service sent it, but for a WAV file with sizes that are not
    true, or with samples that have no 16 bits: then a true one is made of it.

    Samples are signed 16-bit little-endian; `sample_rate` in Hz. `pcm_start` and `pcm_size`
    say where in `data` the samples lie, in bytes; of another format than wav and pcm, `pcm_size` is
    what they would be. `words` are there where a service that knows their times was asked for them.

    Two are equal if they sound the same: samples, rate and channels, whatever their files and
    timings are.
    """

    data: bytes = field(repr=False)
    format: str
    sample_rate: int
    channels: int = 1
    pcm_start: int = 0
    pcm_size: int = 0
    timing: Timing | None = None
    words: tuple[Word, ...] = field(default=(), repr=False)
    from_cache: bool = False
    """Whether it was spoken before, and comes out of the client's cache: then it has no timing."""
    variant: str = ""
    """Which of a canary's two spoke it: "stable" or "canary"; "fallback" is the stable one in place
    of the other, which failed. Without a canary it is empty."""

    @property
    def duration(self) -> float:
        """Return the length of the sound in seconds."""
        return self.pcm_size / (2 * self.channels * self.sample_rate)

    def pcm(self) -> bytes:
        """Return the bare samples: signed 16-bit little-endian, channels interleaved.

        Raises ConfigError where the extra `audio` is needed to decode them.
        """
        if self.format not in PLAIN_FORMATS:
            samples: bytes = _later("audio.formats").decode(self)
            return samples
        if self.pcm_size == len(self.data):
            return self.data
        return self.data[self.pcm_start : self.pcm_start + self.pcm_size]

    def wav(self) -> bytes:
        """Return a whole WAV file; a header is added to bare samples."""
        if self.format == "wav":
            return self.data
        return wav_header(self.sample_rate, self.channels, self.pcm_size) + self.pcm()

    def numpy(self) -> Any:
        """Return the samples as a numpy array: int16, of shape (frames,) or (frames, channels).

        Raises ConfigError where numpy is not installed.
        """
        return _later("audio.formats").as_array(self)

    def resample(self, sample_rate: int) -> Audio:
        """Return the sound at another rate, in Hz, as a WAV file.

        Raises ConfigError for a rate that cannot be, or where the extra `audio` is needed.
        """
        made: Audio = _later("audio.formats").resample(self, sample_rate)
        return made

    def as_format(self, format: str, quality: float | None = None) -> Audio:
        """Return it in another format: `wav`, `pcm` (bare samples), `mp3`, `opus`, `ogg` (Vorbis)
        or `flac`.

        Encoding takes up to a second of a core for each minute of sound; its length stays as it
        is. Raises ConfigError for another format, or where the extra `audio` is needed.

        Args:
            format: Opus at a rate that it does not have (22 050 Hz) gets the next higher one.
            quality: From 0 (smallest file) to 1 (best), of `mp3`, `opus` and `ogg`. Left out, it is
                what their encoders think right.
        """
        if format in PLAIN_FORMATS:
            if quality is not None:
                raise ConfigError(f"quality: {format} loses nothing and has none; leave it out")
            if self.format == format:
                return self
            data = self.wav() if format == "wav" else self.pcm()
            start = len(data) - self.pcm_size
            return replace(self, data=data, format=format, pcm_start=start)
        made: Audio = _later("audio.formats").encode(self, format, quality)
        return made

    def save(self, path: str | os.PathLike[str], quality: float | None = None) -> Path:
        """Write the sound to a file: its ending says which format, as in `as_format`; `.raw` are
        bare samples.

        The file appears whole or not at all: it is written beside its place and then renamed.
        Raises OSError when the directory is missing or full, ConfigError for another ending.
        """
        saved: Path = _later("audio.sound_file").save(self, path, quality)
        return saved

    def play(self) -> None:
        """Play the sound here, and wait for its end.

        Raises ConfigError where there is no program for it: aplay, afplay, paplay or ffplay.
        """
        _later("audio.playing").play(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Audio):
            return NotImplemented
        return self._sounds() == other._sounds()

    def __hash__(self) -> int:
        return hash(self._sounds())

    def _sounds(self) -> tuple[int, int, bytes]:
        return self.sample_rate, self.channels, bytes(self.pcm())

    def __repr__(self) -> str:
        return (
            f"<Audio {self.format}, {self.sample_rate} Hz, {self.duration:.2f} s, "
            f"{len(self.data)} bytes>"
        )

    def _repr_html_(self) -> str:
        shown: str = _later("notebook").show_player(self)
        return shown


def detach(audio: Audio) -> None:
    """Copy the sound out of the reply that it lies in, if it does: now it is the caller's.

    Until it is detached, `data` may be a view of the reply, so that the replies of many threads
    are not copied into the heaps of as many threads, which would keep what is freed.
    """
    if not isinstance(audio.data, bytes):
        object.__setattr__(audio, "data", bytes(audio.data))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one text: `audio`, or the `error` that ended it.

    `index` is its place in the call, `text` what was given there, and `id` came with it, if one
    did. As a condition it is true where there is audio.
    """

    index: int
    text: str = field(repr=False)
    audio: Audio | None = None
    error: CosyError | None = None
    id: str | int | None = None

    @property
    def ok(self) -> bool:
        """Return whether there is audio."""
        return self.error is None

    def __bool__(self) -> bool:
        return self.error is None

    def result(self) -> Audio:
        """Return the audio. Raises the error where there is none."""
        if self.error is not None:
            raise self.error
        assert self.audio is not None
        return self.audio

    @property
    def timing(self) -> Timing | None:
        """Return the timing of the call that brought the audio."""
        return self.audio.timing if self.audio is not None else None


MAKERS["outcome"] = Outcome


def wav_header(sample_rate: int, channels: int, pcm_size: int) -> bytes:
    """Build the 44 bytes that make 16-bit samples a WAV file (RIFF, Microsoft 1991)."""
    frame = 2 * channels
    rates = (sample_rate, sample_rate * frame, frame, 16)
    return (
        struct.pack("<4sI4s", b"RIFF", 36 + pcm_size, b"WAVE")
        + struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, *rates)
        + struct.pack("<4sI", b"data", pcm_size)
    )


def _later(module: str) -> Any:
    """Import a module that works with sound on first use: most programs need none of them."""
    return importlib.import_module(f".{module}", __package__)
