"""A long text as sound, with the times of its pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigError, CosyError
from .models import Audio, Timing, Word

if TYPE_CHECKING:
    from .audio.sound_file import SavedSound
    from .text import Cue

__all__ = ["Narration", "Segment"]


@dataclass(frozen=True, slots=True)
class Segment:
    """One piece of a long text: heard from `start` to `end`, in seconds of the whole sound.

    `audio` is what was spoken and the silence around it, so that the sounds of all segments one
    after the other are the whole; a Narration's segments hold none. Where `error` says why nothing
    was spoken, it is silence. `words` have times where the service gave them.
    """

    index: int
    text: str = field(repr=False)
    start: float
    end: float
    audio: Audio | None = field(default=None, repr=False)
    error: CosyError | None = None
    timing: Timing | None = field(default=None, repr=False)
    words: tuple[Word, ...] = field(default=(), repr=False)
    # Spoken to subtitles: seconds for which it is heard after the next cue should have begun.
    overrun: float = 0.0

    @property
    def ok(self) -> bool:
        """Return whether it was spoken."""
        return self.error is None


class Narration:
    """A long text as sound, with the times of its pieces: `segments`, in order.

    `path` is the file that it was written to, if it was.
    """

    def __init__(self, segments: Sequence[Segment], sound: Audio | SavedSound) -> None:
        self.segments = tuple(segments)
        self._sound = sound

    @property
    def duration(self) -> float:
        """Return the length of the whole sound in seconds."""
        return self._sound.duration

    @property
    def path(self) -> Path | None:
        """Return the file that it was written to, if it was."""
        return None if isinstance(self._sound, Audio) else self._sound.path

    @property
    def audio(self) -> Audio:
        """Return the whole sound; one that was written to a file is read from there.

        Raises OSError where the file is gone.
        """
        return self._sound if isinstance(self._sound, Audio) else self._sound.read()

    def srt(self, max_chars: int | None = None) -> str:
        """Return subtitles as SubRip has them: a cue for each segment, exact to the millisecond, or
        lines of at most `max_chars` (see `vtt`)."""
        from .text import format_srt  # `import cosy_sync` stays quick

        return format_srt(self._cues(max_chars))

    def vtt(self, max_chars: int | None = None) -> str:
        """Return subtitles as WebVTT has them.

        With `max_chars`, longer segments are cut into lines of at most so many Chinese characters,
        or three times as many letters; their times are those of their words where the service
        gives them, else shares by length, good to some tenths of a second.
        """
        from .text import format_vtt

        return format_vtt(self._cues(max_chars))

    def _cues(self, max_chars: int | None) -> Iterator[Cue]:
        if max_chars is not None and not (type(max_chars) is int and max_chars > 0):
            raise ConfigError(
                f"max_chars: must be a whole number of characters above 0, got {max_chars!r}"
            )
        from .text import Cue, wrap_cue

        for segment in self.segments:
            cue = Cue(segment.start, segment.end, segment.text)
            if segment.error is None:
                yield from [cue] if max_chars is None else wrap_cue(cue, segment.words, max_chars)

    def _repr_html_(self) -> str:
        from .notebook import show_segments

        try:
            audio: Audio | str = self.audio
        except OSError as error:  # its file is gone
            audio = f"{type(error).__name__}: {self.path}"
        rows = ((each.start, each.end, each.text, each.error) for each in self.segments)
        return show_segments(audio, rows)

    def __repr__(self) -> str:
        failed = sum(segment.error is not None for segment in self.segments)
        lost = f", {failed} failed" if failed else ""
        return f"<Narration {len(self.segments)} segments, {self.duration:.2f} s{lost}>"
