"""Joins what was spoken of a long text: each piece in its place, silence between them."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Protocol

from .audio import SoundFileWriter
from .audio.sound_file import format_of
from .config import ClientConfig
from .errors import BatchError, ConfigError, InvalidTextError
from .joining import SoundBuffer, as_wav, shift_words, silence, silent_blocks, trim
from .models import Audio, Outcome, detach
from .narration import Narration, Segment
from .progress import ProgressCallback
from .text import Plan, find_words, plan_narration, split_text
from .texts import as_text, is_several, prepare_text, refuse_surrogates

__all__ = ["Narrator", "Schedule", "place", "plan_text", "with_sound"]

# Silence, speech and silence, one after the other: samples.
_Sounds = list["bytes | memoryview"]
# Where the sound of a text lies in the samples of the whole: its first byte, and the one behind it.
_Span = tuple[int, int]
# Rate in Hz, and channels.
_Layout = tuple[int, int]


class Schedule(Protocol):
    """Says how much silence there is around the pieces of a text, in seconds."""

    def before(self, index: int, now: float) -> float:
        """Return the silence before a piece, where so much of the whole lies before that."""
        ...

    def after(self, index: int) -> float:
        """Return the silence after a piece."""
        ...

    def overrun(self, index: int, end: float) -> float:
        """Return for how long a piece that ends then is heard in the next one's time."""
        ...


def plan_text(text: Any, config: ClientConfig) -> Plan:
    """Cut a text as the configuration says. Raises InvalidTextError."""
    if is_several(text):
        raise InvalidTextError(
            "narrate: expected one text, got several; join them: '\\n'.join(...)"
        )
    whole = as_text(None, text).removeprefix("\ufeff")
    if config.prepare:  # all of it at once: a piece might end within a number
        whole = prepare_text(None, whole, config.prepare)
    refuse_surrogates(whole)
    return plan_narration(whole, config.narration, config.batch.max_text_chars)


def with_sound(
    schedule: Schedule, outcomes: Iterable[Outcome], config: ClientConfig
) -> Iterator[Segment]:
    """Yield segments in their places, each with its sound."""
    for segment, sounds, layout, _ in place(schedule, outcomes, config):
        yield replace(
            segment, audio=as_wav(sounds, *layout).as_format(config.format, config.quality)
        )


def place(
    schedule: Schedule, outcomes: Iterable[Outcome], config: ClientConfig
) -> Iterator[tuple[Segment, _Sounds, _Layout, _Span]]:
    """Yield segments in their places, with their samples, and where their text's sound lies.

    Those that failed at the beginning wait for the first that was spoken: it tells the rate of
    their silence.
    """
    first, outcomes = _find_first(iter(outcomes))
    layout = (config.sample_rate, 1) if first is None else (first.sample_rate, first.channels)
    rate, frame = layout[0], 2 * layout[1]
    size = number = 0
    for outcome in outcomes:
        index, said = outcome.index, outcome.audio
        if said is not None and (said.sample_rate, said.channels) != layout:
            raise _changed(index, said, rate)
        before = silent_blocks(schedule.before(index, size / frame / rate), *layout)
        if said is not None and config.narration.trim:
            detach(said)  # it may lie in its reply
            said = trim(said)
        sound = _samples(said, config, layout)
        after = silent_blocks(schedule.after(index), *layout)
        begin = size + sum(map(len, before))
        start, end = begin / frame / rate, (begin + len(sound)) / frame / rate
        segment = Segment(
            index=number,
            text=outcome.text,
            start=start,
            end=end,
            error=outcome.error,
            timing=outcome.timing,
            words=shift_words(said.words if said is not None else (), start),
            overrun=schedule.overrun(index, end),
        )
        size = begin + len(sound) + sum(map(len, after))
        spoken = [(each, [part]) for each, part in _by_sentence(segment, sound, config, layout)]
        spoken[0][1][:0] = before
        spoken[-1][1].extend(after)
        for each, sounds in spoken:
            yield each, sounds, layout, (begin, begin + len(sound))
        number += len(spoken)


def _by_sentence(
    segment: Segment, sound: bytes | memoryview, config: ClientConfig, layout: _Layout
) -> list[tuple[Segment, bytes | memoryview]]:
    """Return the sentences of a paragraph that was spoken as one text, where the times of words
    tell them apart: each with its sound, up to the first word of the next."""
    whole = [(segment, sound)]
    if not (config.narration.whole_paragraphs and segment.words):
        return whole
    length, most = config.narration.segment_length, config.batch.max_text_chars
    texts = [text for text, _ in split_text(segment.text, target=length, max_chars=most)]
    heard = find_words(texts, segment.words)
    if len(texts) < 2 or heard is None:
        return whole
    rate, frame = layout[0], 2 * layout[1]
    starts = [round((words[0].start - segment.start) * rate) * frame for words in heard[1:]]
    bounds = [0, *(min(max(0, start), len(sound)) for start in starts), len(sound)]
    if bounds != sorted(bounds):
        return whole
    numbers = itertools.count(segment.index)
    return [
        (
            replace(
                segment,
                index=next(numbers),
                text=text,
                start=words[0].start,
                end=words[-1].end,
                words=words,
            ),
            memoryview(sound)[begin:end],
        )
        for text, words, (begin, end) in zip(texts, heard, itertools.pairwise(bounds), strict=True)
    ]


def _samples(said: Audio | None, config: ClientConfig, layout: _Layout) -> bytes | memoryview:
    if said is None:
        return silence(config.narration.gap, *layout)
    return memoryview(said.data)[said.pcm_start : said.pcm_start + said.pcm_size]


def _find_first(outcomes: Iterator[Outcome]) -> tuple[Audio | None, Iterator[Outcome]]:
    """Return the first audio, and all outcomes again."""
    held: list[Outcome] = []
    for outcome in outcomes:
        held.append(outcome)
        if outcome.audio is not None:
            return outcome.audio, itertools.chain(held, outcomes)
    return None, iter(held)


def _without_samples(audio: Audio) -> Audio:
    start, end = audio.pcm_start, audio.pcm_start + audio.pcm_size
    return replace(audio, data=b"".join((audio.data[:start], audio.data[end:])), pcm_size=0)


def _with_samples(audio: Audio, pcm: bytes) -> Audio:
    start = audio.pcm_start
    data = b"".join((audio.data[:start], pcm, audio.data[start:]))
    return replace(audio, data=data, pcm_size=len(pcm))


def _quality(to: str | os.PathLike[str], config: ClientConfig) -> float | None:
    own = config.narration.quality
    return config.quality if own is None and format_of(to) == config.format else own


def _changed(index: int, audio: Audio, rate: int) -> ConfigError:
    return ConfigError(
        f"narrate: segment {index} came with {audio.sample_rate} Hz and {audio.channels} channels, "
        f"those before it with {rate} Hz: do all endpoints serve the same model?"
    )


class Narrator:
    """Joins the segments of one narration, in memory or in a file."""

    def __init__(
        self,
        call: str,
        count: Callable[[], int],
        config: ClientConfig,
        to: str | os.PathLike[str] | None,
        progress: ProgressCallback | None = None,
    ) -> None:
        # The method that was called, for messages.
        self._call = call
        # How many segments there are; a text is only cut to its end when somebody asks.
        self._count = count
        self._config = config
        self._progress = progress
        self._file = None if to is None else SoundFileWriter(to, _quality(to, config))
        self._memory = SoundBuffer(config.sample_rate)
        self._segments: list[Segment] = []
        # Whether all outcomes are there before the first is joined: they keep their audio then.
        self.keeps = False
        # Else without their audio where that is written to a file; without its samples where these
        # are in the memory: what breaks the call off puts them back.
        self.outcomes: list[Outcome] = []
        # Of the text that was joined last.
        self._span = (0, 0)
        self._spans: dict[int, _Span] = {}

    @property
    def encodes(self) -> bool:
        """Return whether the sound is encoded as it comes."""
        return self._file is not None and self._file.encodes

    def narrate(self, outcomes: Iterable[Outcome], schedule: Schedule, on_error: str) -> Narration:
        """Return the whole of the outcomes, each where the schedule has it.

        Raises BatchError where a segment failed, unless on_error is "return"; a file does not
        appear then. Nor does one of nothing but silence, whatever on_error is.
        """
        try:
            with self._file or contextlib.nullcontext():
                self._take(outcomes, schedule, on_error)
                silent = not any(segment.ok for segment in self._segments)
                if on_error == "raise" or (silent and self._file is not None):
                    self._refuse_failed()
            return self._finish()
        except BaseException:
            try:
                self._put_back()
            except BaseException:  # Ctrl-C once more: no outcome may be left without its sound
                self._put_back()
                raise
            raise

    def _take(self, outcomes: Iterable[Outcome], schedule: Schedule, on_error: str) -> None:
        write = (self._file or self._memory).write
        for segment, sounds, layout, span in place(schedule, self._note(outcomes), self._config):
            self._span = span
            if self._file is None:  # hours of silence take no memory before they are joined
                self._memory.check_room(sum(map(len, sounds)))
            for sound in sounds:
                write(sound, *layout)
            self._segments.append(segment)
            if segment.error is not None and on_error == "raise" and not self._is_complete:
                break  # there will be no file: what follows need not be spoken

    @property
    def _is_complete(self) -> bool:
        """Return whether a BatchError has every outcome, with its audio."""
        return self.keeps or self._file is None

    def _note(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        if self.keeps:
            self.outcomes += outcomes
            yield from self.outcomes
            return
        for number, outcome in enumerate(outcomes):
            kept, audio = outcome, outcome.audio
            if self._file is not None and audio is not None:
                kept = Outcome(outcome.index, outcome.text)
            self.outcomes.append(kept)
            if self._progress is not None:
                self._progress(len(self.outcomes), self._count())
            yield outcome
            begin, end = self._span
            # All of it was joined, unless its ends were trimmed.
            if self._file is None and audio is not None and end - begin == audio.pcm_size:
                self._spans[number] = self._span
                self.outcomes[number] = replace(outcome, audio=_without_samples(audio))

    def _put_back(self) -> None:
        """Give the outcomes their sounds again; those that have them keep them."""
        for number, outcome in enumerate(self.outcomes):
            audio, span = outcome.audio, self._spans.get(number)
            if audio is None:
                continue
            if audio.pcm_size or span is None:
                detach(audio)  # it may lie in its reply
            else:
                again = _with_samples(audio, self._memory.read(*span))
                self.outcomes[number] = replace(outcome, audio=again)

    def _finish(self) -> Narration:
        if self._file is not None:
            return Narration(self._segments, self._file.saved())
        config = self._config
        return Narration(
            self._segments, self._memory.audio().as_format(config.format, config.quality)
        )

    def _refuse_failed(self) -> None:
        failed = [segment for segment in self._segments if segment.error is not None]
        if not failed:
            return
        self._put_back()
        first = next(outcome for outcome in self.outcomes if outcome.error is not None)
        count = self._count()
        lost = f"segment {first.index} of {count} failed"
        if len(failed) > 1:
            lost = f"{len(failed)} of {count} segments failed, segment {first.index} first"
        spoken = len(failed) < len(self._segments)
        advice = ", and on_error='return' leaves silence in place of what failed" if spoken else ""
        has = ".outcomes has them all, finished audio included"
        if not self._is_complete:
            has = "no file was made; with to= .outcomes holds no audio"
        raise BatchError(
            f"{self._call}: {lost}; {has}{advice}. "
            f"The first: {type(first.error).__name__}: {first.error}",
            outcomes=self.outcomes,
        ) from first.error
