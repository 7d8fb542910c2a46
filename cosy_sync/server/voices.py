"""The preset voices that the server knows, under CosyVoice's own names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """How espeak-ng speaks one voice."""

    # espeak-ng language, `+` and the variant that changes the timbre.
    espeak_voice: str
    # espeak-ng words per minute at speed 1.0: about 4.5 s for 20 Chinese characters.
    rate: int
    # 0 to 99; espeak-ng's own middle is 50.
    pitch: int


PRESETS: dict[str, Preset] = {
    "中文女": Preset("cmn+f2", 200, 55),
    "中文男": Preset("cmn+m3", 200, 45),
    "粤语女": Preset("yue+f2", 175, 55),
    "英文女": Preset("en-us+f3", 160, 55),
    "英文男": Preset("en-us+m3", 160, 45),
}

DEFAULT_VOICE = next(iter(PRESETS))
