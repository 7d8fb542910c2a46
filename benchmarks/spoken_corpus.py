"""A corpus of speech: texts from word lists, spoken by the embedded server's espeak-ng.

The same seed gives the same texts; recordings may differ by some samples.
"""

# ruff: noqa: SIM905  a list of words reads best as words
from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cosy_sync.models import Audio
from cosy_sync.server.voices import Preset

__all__ = ["SPEAKERS", "SPEEDS", "Group", "groups_of", "speak", "texts_for"]

# Words a minute, as espeak-ng counts them.
SPEEDS = (80, 120, 160, 200, 250, 320, 400)
# espeak-ng's voice, its pitch, the language of its texts.
SPEAKERS = (
    ("cmn+f2", 55, "mandarin"),
    ("cmn+m3", 45, "mandarin"),
    ("cmn+whisper", 50, "mandarin"),
    ("yue+f2", 55, "cantonese"),
    ("en-us+f3", 55, "english"),
    ("en-us+m3", 45, "english"),
    ("en-us+whisperf", 50, "english"),
    ("cmn+f4", 60, "mixed"),
)
_RATE = 24_000

_WHO = "我 你 他 她 我们 他们 老师 医生 孩子 朋友 妈妈 司机 记者 同事 邻居 小王 张三 李丽".split()
_WHEN = "今天 明天 昨天 早上 晚上 周末 春天 下午三点 上个星期 这个月 很久以前 刚才".split()
_WHERE = "在公园里 在北京 在学校 在家里 在图书馆 在车站 在海边 在办公室 在山上 在医院".split()
_WHAT = (
    "散步 读书 唱歌 工作 开会 做饭 看电影 学习英语 等朋友 买水果 修电脑 写一封信 讨论新的计划 "
    "练习太极拳 准备明天的考试 照顾生病的小猫 听一场很长的音乐会"
).split()
_MORE = (
    "因为天气真好 虽然下了一点小雨 所以大家都很高兴 但是没有人知道为什么 后来一起吃了晚饭 "
    "然后坐地铁回家 这件事情让人非常感动 听说那里的风景很美 请您注意安全 欢迎再次光临"
).split()
_CANTONESE = (
    "今日天气几好 我哋一齐去饮茶 你食咗饭未呀 佢喺屋企睇电视 听日要返工 唔该借过 呢度好多人 "
    "我唔知点解 边个同你讲㗎 巴士仲未到 小朋友喺公园玩 下个礼拜去旅行 呢本书好好睇 收工之后去买餸"
).split()
_ENGLISH = (
    "the of and to in is that it was for on are with they at be this from have or by one had not "
    "but what all were when we there can an your which their said if do will each about how up out "
    "them then she many some so these would other into has more her two like him see time could no "
    "make than first been its who now people my made over did down only way find use may water "
    "long little very after words called just where most know weather station morning yesterday "
    "passenger attention beautiful understand information university government experience"
).split()
_SHORT = {
    "mandarin": (
        "好 嗯 好的 是的 你好 谢谢 再见 不行 没问题 对不起 一 七 12 777 张三 章三 他 她".split()
    ),
    "cantonese": "好 系 唔该 多谢 早晨 得 冇问题 唔系 十二 7 88".split(),
    "english": "Yes No OK Hi Hello Thanks Goodbye Sure 7 12 777 there their two too I A".split(),
    "mixed": "OK好的 Hi你好 A股 3D 5G网 KTV CEO 12点 T恤".split(),
}
_BRANDS = "iPhone WiFi Python OK email CEO GPS VIP APP Windows Google meeting deadline".split()


@dataclass(frozen=True)
class Group:
    """One voice at one speed: what one Verifier judges."""

    voice: str
    pitch: int
    language: str
    speed: int
    seed: int

    @property
    def preset(self) -> Preset:
        """Return what the embedded server's speaker wants to know."""
        return Preset(self.voice, self.speed, self.pitch)


def groups_of(seed: int) -> list[Group]:
    """Return every voice at every speed."""
    return [
        Group(*speaker, speed, seed * 1_000 + number)
        for number, (speaker, speed) in enumerate(
            (speaker, speed) for speaker in SPEAKERS for speed in SPEEDS
        )
    ]


def texts_for(group: Group, count: int) -> Iterator[str]:
    """Yield so many texts of the group's language; every 16th is short, every 40th long."""
    drawn = random.Random(group.seed)
    sentence = _SENTENCES[group.language]
    for number in range(count):
        if number % 16 == 15:
            yield drawn.choice(_SHORT[group.language])
        elif number % 40 == 38:
            yield "".join(sentence(drawn) for _ in range(drawn.randint(8, 20)))
        elif number % 10 == 9:
            yield _digits(group.language, drawn)
        else:
            yield "".join(sentence(drawn) for _ in range(drawn.choice((1, 1, 1, 2, 2, 3))))


def speak(speaker: Any, group: Group, text: str) -> Audio:
    """Return what the server's speaker makes of a text: bare samples at 24 000 Hz."""
    # Its own resampling would cost as much as its speech.
    own = speaker.sample_rate
    pcm = speaker.say(text, group.preset, own, 1.0)
    pcm = Audio(pcm, "pcm", own, 1, 0, len(pcm)).resample(_RATE).pcm()
    return Audio(pcm, "pcm", _RATE, 1, 0, len(pcm))


def _mandarin(drawn: random.Random) -> str:
    parts = [drawn.choice(_WHEN), drawn.choice(_WHO), drawn.choice(_WHERE), drawn.choice(_WHAT)]
    head = "".join(parts[drawn.randint(0, 2) :])
    tail = "".join("，" + drawn.choice(_MORE) for _ in range(drawn.randint(0, 2)))
    return head + tail + drawn.choice("。。。！？；")


def _cantonese(drawn: random.Random) -> str:
    return "，".join(drawn.sample(_CANTONESE, drawn.randint(1, 3))) + drawn.choice("。！？")


def _english(drawn: random.Random) -> str:
    words = [drawn.choice(_ENGLISH) for _ in range(drawn.randint(4, 16))]
    if len(words) > 8 and drawn.random() < 0.5:
        words[5] += ","
    return " ".join(words).capitalize() + drawn.choice(".?!") + " "


def _mixed(drawn: random.Random) -> str:
    words = " ".join(drawn.sample(_BRANDS, drawn.randint(1, 2)))
    return drawn.choice(_WHO) + drawn.choice(_WHAT) + words + "，" + _mandarin(drawn)


def _digits(language: str, drawn: random.Random) -> str:
    number = drawn.choice(
        (drawn.randint(0, 99), drawn.randint(100, 99_999), drawn.randint(0, 10**11))
    )
    if language == "english":
        return drawn.choice(("Call {} now.", "It costs {} dollars and 50 cents.", "{}")).format(
            number
        )
    return drawn.choice(("请拨打{}，谢谢。", "一共{}元，2024年5月1日到期", "{}")).format(number)


_SENTENCES: dict[str, Callable[[random.Random], str]] = {
    "mandarin": _mandarin,
    "cantonese": _cantonese,
    "english": _english,
    "mixed": _mixed,
}
