"""Sound above a sixth of the rate: what counts, and how much of a recording is looked at."""

from __future__ import annotations

import random
from array import array

import pytest
from made_sounds import tone

from cosy_sync.audio import band
from cosy_sync.models import Audio

RATE = 24_000


def recording(samples: array[int], channels: int = 1) -> Audio:
    data = samples.tobytes()
    return Audio(data, "pcm", RATE, channels, 0, len(data))


def noise(seconds: float, peak: int = 9_000) -> array[int]:
    drawn = random.Random(seconds)
    return array("h", [drawn.randint(-peak, peak) for _ in range(round(seconds * RATE))])


def counted_one_by_one(samples: array[int], places: int) -> int:
    step = (2 * len(samples) - 10) // places // 2
    highs = [sample >> 8 for sample in samples]
    count = 0
    for at in range(0, places * step, step):
        one, two, three, four, five = highs[at : at + 5]
        count += 12 <= (one - 3 * two + 4 * three - 3 * four + five) % 256 < 244
    return count


@pytest.mark.parametrize("places", [256, 1_024, 8_192])
@pytest.mark.parametrize("peak", [900, 9_000, 32_767])
def test_the_filter_on_whole_numbers_is_the_filter_on_each_sample(places: int, peak: int) -> None:
    samples = noise(3.1, peak)
    assert band.count_sharp(recording(samples), places) == counted_one_by_one(samples, places)


@pytest.mark.parametrize(("hertz", "sharp"), [(300, 0), (4_000, 0), (8_000, 1), (10_000, 1)])
def test_what_is_above_a_sixth_of_the_rate_counts_and_nothing_else(hertz: int, sharp: int) -> None:
    share = band.count_sharp(recording(tone(3.0, hertz=hertz + 0.7, peak=6_000))) / 8_192
    assert abs(share - sharp) < 0.1


@pytest.mark.parametrize(
    ("samples", "looked_at"), [(noise(3.0), [256]), (tone(3.0), [256, 1_024, 8_192])]
)
def test_of_a_bright_recording_few_samples_are_filtered_and_of_a_dull_one_all(
    samples: array[int], looked_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    true = band.count_sharp

    def counting(audio: Audio, places: int = 8_192) -> int:
        asked.append(places)
        return true(audio, places)

    monkeypatch.setattr(band, "count_sharp", counting)
    assert band.is_bright(recording(samples), 20.0) is (len(looked_at) == 1)
    assert asked == looked_at


def test_of_several_channels_and_of_what_is_short_nothing_can_be_told() -> None:
    two = recording(tone(3.0) + tone(3.0), channels=2)
    assert band.is_bright(two, 20.0) and band.is_bright(recording(tone(0.001)), 20.0)


def test_sound_that_still_lies_in_its_reply_is_filtered_like_any_other() -> None:
    audio = recording(noise(3.0))
    view = Audio(memoryview(bytearray(audio.data)), "pcm", RATE, 1, 0, audio.pcm_size)  # type: ignore[arg-type]
    assert band.count_sharp(view) == band.count_sharp(audio) > 1_000
