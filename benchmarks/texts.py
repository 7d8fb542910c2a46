"""Benchmark `texts`: synth_many of many texts in batches of 64, against aiohttp."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.corpus import whole_batches
from benchmarks.stage import Case, Options, run_case
from benchmarks.task import Contender, Place, Setting, Task

__all__ = ["CASE"]

MULTIPART = "cosy_sync, multipart"
JSON = "cosy_sync, JSON"
BASELINE = "aiohttp, JSON (json, base64)"

_CONTENDERS = (
    Contender(MULTIPART, "cosy", form="multipart"),
    Contender(JSON, "cosy", form="json"),
    Contender(BASELINE, "aiohttp_peer", form="json"),
    Contender("aiohttp, JSON (orjson, pybase64)", "aiohttp_peer", "fast", "json"),
    Contender("aiohttp, its MultipartReader", "aiohttp_peer", "multipart", "multipart"),
)
# Twelve times the audio for a text: fewer of them hold the run within 2 GB and some seconds.
_FEWER = 8


def _settings(options: Options) -> Sequence[Setting]:
    return [_setting(16_000, options.texts), _setting(190_000, options.texts // _FEWER)]


def _setting(size: int, texts: int) -> Setting:
    count = whole_batches(texts)
    return Setting(
        key=f"audio-{size // 1000}k",
        title=f"{count} texts in batches of 64, {size // 1000} KB of audio each, 50 connections",
        place=Place(form="multipart", texts=64, size=size),
        task=Task(texts=count),
        contenders=_CONTENDERS,
        unit="texts",
    )


CASE = Case(
    name="texts",
    title="Many texts in batches: all audio decoded to bytes and held, ours also verified",
    settings=_settings,
    baseline=BASELINE,
    texts=20_000,
)

if __name__ == "__main__":
    run_case(CASE)
