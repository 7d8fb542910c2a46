"""Faults put into good recordings: what services were seen to send, and what may be sent."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cosy_sync.models import Audio

__all__ = ["FAULTS", "Fault", "Spoken"]


@dataclass(frozen=True)
class Spoken:
    """A text with its good recording, and others of the same voice to take sound from."""

    text: str
    audio: Audio
    others: Sequence[tuple[str, Audio]]


# Returns the text and the faulty audio, or None where this recording cannot have the fault.
Put = Callable[[Spoken, random.Random], tuple[str, Audio] | None]


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    `target`: whether the share that is caught has a target.
    """

    name: str
    put: Put
    target: bool = True


# What is no fault to a listener's ear: texts of few characters lose nothing that is noticed.
_FEW_SECONDS, _FEW = 1.5, 8
# A narrow band is heard where it takes so much of the power: -30 dB. Many texts have no consonant
# that loses any.
_HEARD_LOSS = 0.001


def _samples(audio: Audio) -> array[int]:
    return array("h", audio.data)


def _of(audio: Audio, samples: array[int]) -> Audio:
    data = samples.tobytes()
    return replace(audio, data=data, pcm_size=len(data))


def _cut(least: float, most: float) -> Put:
    def put(spoken: Spoken, drawn: random.Random) -> tuple[str, Audio] | None:
        if spoken.audio.duration < _FEW_SECONDS:
            return None
        samples = _samples(spoken.audio)
        kept = samples[: int(drawn.uniform(least, most) * len(samples))]
        return spoken.text, _of(spoken.audio, kept)

    return put


def _numbers(put: Put) -> Put:
    """Put it into texts that are mostly numbers: they can be read in several ways."""
    return lambda spoken, drawn: put(spoken, drawn) if not _is_words(spoken.text) else None


def _words(put: Put) -> Put:
    """Put it into texts of words, of some length."""
    return lambda spoken, drawn: put(spoken, drawn) if _is_words(spoken.text) else None


def _is_words(text: str) -> bool:
    return sum(map(str.isalpha, text)) >= _FEW and not any(map(str.isdigit, text))


def _token_cap(spoken: Spoken, drawn: random.Random) -> tuple[str, Audio] | None:
    """Speak a text of some 1 000 characters, and stop after a third."""
    texts, sound = [], array("h")
    while sum(map(len, texts)) < 1_000:
        text, audio = drawn.choice(spoken.others)
        texts.append(text)
        sound += _samples(audio)
    return "".join(texts), _of(spoken.audio, sound[: len(sound) // 3])


def _trailing_silence(spoken: Spoken, drawn: random.Random) -> tuple[str, Audio] | None:
    """Speak a tenth to a half, and be silent for the rest."""
    if spoken.audio.duration < _FEW_SECONDS:
        return None
    samples = _samples(spoken.audio)
    kept = samples[: int(drawn.uniform(0.1, 0.5) * len(samples))]
    return spoken.text, _of(spoken.audio, kept + array("h", bytes(2 * (len(samples) - len(kept)))))


def _silence_behind(spoken: Spoken, drawn: random.Random) -> tuple[str, Audio] | None:
    """Add silence of 10 to 60 s."""
    silence = array("h", bytes(2 * int(drawn.uniform(10, 60) * spoken.audio.sample_rate)))
    return spoken.text, _of(spoken.audio, _samples(spoken.audio) + silence)


def _inner_silence(spoken: Spoken, drawn: random.Random) -> tuple[str, Audio] | None:
    """Be silent for half of the speech, in the middle."""
    samples = _samples(spoken.audio)
    if spoken.audio.duration < 2 * _FEW_SECONDS:
        return None
    size = len(samples) // 2
    at = int(drawn.uniform(0.1, 0.4) * len(samples))
    return spoken.text, _of(
        spoken.audio, samples[:at] + array("h", bytes(2 * size)) + samples[at + size :]
    )


def _leading_noise(spoken: Spoken, drawn: random.Random) -> tuple[str, Audio] | None:
    """Begin with a second or more of white noise, as loud as speech."""
    count = int(drawn.uniform(1, 3) * spoken.audio.sample_rate)
    noise = array("h", drawn.randbytes(2 * count))
    quieter = array("h", [each // 6 for each in noise])
    return spoken.text, _of(spoken.audio, quieter + _samples(spoken.audio))


def _constant(spoken: Spoken, drawn: random.Random) -> tuple[str, Audio] | None:
    """Have one value, or dither around it, all the time."""
    level, dither = drawn.randint(-20_000, 20_000), drawn.choice((0, 0, 5))
    count = spoken.audio.pcm_size // 2
    if not dither:
        return spoken.text, _of(spoken.audio, array("h", [level]) * count)
    few = [level + drawn.randint(-dither, dither) for _ in range(4_801)]
    return spoken.text, _of(spoken.audio, (array("h", few) * (count // 4_801 + 1))[:count])


def _others(times: float) -> Put:
    def put(spoken: Spoken, drawn: random.Random) -> tuple[str, Audio] | None:
        seconds = spoken.audio.duration
        if seconds < _FEW_SECONDS:
            return None
        far = [
            audio
            for _, audio in spoken.others
            if audio.duration > times * seconds or audio.duration * times < seconds
        ]
        return (spoken.text, drawn.choice(far)) if far else None

    return put


def _wrong_label(*rates: int) -> Put:
    """Label what has 24 000 Hz with another rate."""

    def put(spoken: Spoken, drawn: random.Random) -> tuple[str, Audio] | None:
        if spoken.audio.duration < _FEW_SECONDS:
            return None
        return spoken.text, replace(spoken.audio, sample_rate=drawn.choice(rates))

    return put


def _wrong_samples(*kilohertz: int) -> Put:
    """Send samples of another rate where 24 000 Hz are said."""

    def put(spoken: Spoken, drawn: random.Random) -> tuple[str, Audio] | None:
        if spoken.audio.duration < _FEW_SECONDS:
            return None
        return spoken.text, _of(spoken.audio, _resampled(spoken.audio, drawn.choice(kilohertz)))

    return put


def _narrow_band(spoken: Spoken, drawn: random.Random) -> tuple[str, Audio] | None:
    """Send 8 000 Hz made into 24 000: a telephone's sound."""
    if spoken.audio.duration < 2 * _FEW_SECONDS:
        return None
    narrow = replace(_of(spoken.audio, _resampled(spoken.audio, 8)), sample_rate=8_000)
    back = _resampled(narrow, 24)
    whole = np.frombuffer(spoken.audio.data, "<i2").astype(float)
    lost = whole[: len(back)] - np.frombuffer(back, "<i2")[: len(whole)]
    if (lost * lost).sum() < _HEARD_LOSS * (whole * whole).sum():
        return None
    return spoken.text, _of(spoken.audio, back)


def _resampled(audio: Audio, kilohertz: int) -> array[int]:
    return _samples(audio.resample(1_000 * kilohertz).as_format("pcm"))


FAULTS = (
    Fault("cut at 10 to 50 %", _words(_cut(0.1, 0.5))),
    Fault("cut at 50 to 65 %", _words(_cut(0.5, 0.65)), False),
    Fault("cut at 65 to 80 %", _words(_cut(0.65, 0.8)), False),
    Fault("cut at 80 to 90 %", _words(_cut(0.8, 0.9)), False),
    Fault("cut at 10 to 50 %, numbers", _numbers(_cut(0.1, 0.5)), False),
    Fault("stopped at a third of 1 000 characters", _token_cap),
    Fault("silence in place of the second half or more", _words(_trailing_silence)),
    Fault("10 to 60 s of silence behind the speech", _silence_behind),
    Fault("silence in place of the middle half", _words(_inner_silence)),
    Fault("1 to 3 s of noise before the speech", _leading_noise),
    Fault("a constant, or dither", _constant),
    Fault("another text's sound, 2.5 times longer or shorter", _words(_others(2.5))),
    Fault("another text's sound, 1.5 times longer or shorter", _words(_others(1.5)), False),
    Fault("24 000 Hz labelled 8 000 or 48 000", _words(_wrong_label(8_000, 48_000))),
    Fault("24 000 Hz labelled 16 000", _words(_wrong_label(16_000))),
    Fault("8 000 or 48 000 Hz labelled 24 000", _words(_wrong_samples(8, 48))),
    Fault("16 000 Hz labelled 24 000", _words(_wrong_samples(16)), False),
    Fault("8 000 Hz made into 24 000", _words(_narrow_band)),
)
