"""The routes of CosyVoice's FastAPI runtimes, and which of them can say a voice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import ConfigError
from ..models import Voice
from .base import VOICES

__all__ = ["OLD_BASE", "Route", "choose_route"]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One route: the form field for each thing that it is told; empty where it is not told."""

    path: str
    text: str
    name: str = ""
    transcript: str = ""
    reference: str = ""
    instruction: str = ""
    # Of the server of 2024.
    old: bool = False

    @property
    def needs(self) -> set[str]:
        """Return what of a Voice's `asks` it takes, all of it required."""
        return {key for key in ("name", "reference", "instruction") if getattr(self, key)}

    def suits(self, voice: Voice) -> bool:
        """Return whether it can say all of this voice; a transcript too much is no harm."""
        told = not self.transcript or voice.transcript is not None
        return self.needs == set(voice.asks) and told

    def __str__(self) -> str:
        kinds = [VOICES[key] for key in ("name", "reference", "instruction") if key in self.needs]
        return " with ".join([*kinds, "its transcript"] if self.transcript else kinds)


# The first that suits a voice is taken.
_NEW_ROUTES = (
    Route(path="/inference_sft", text="tts_text", name="spk_id"),
    Route(
        path="/inference_zero_shot",
        text="tts_text",
        transcript="prompt_text",
        reference="prompt_wav",
    ),
    Route(path="/inference_cross_lingual", text="tts_text", reference="prompt_wav"),
    Route(path="/inference_instruct", text="tts_text", name="spk_id", instruction="instruct_text"),
    Route(
        path="/inference_instruct2",
        text="tts_text",
        reference="prompt_wav",
        instruction="instruct_text",
    ),
)
OLD_BASE = "/api/inference"
_OLD_ROUTES = (
    Route(old=True, path="/sft", text="tts", name="role"),
    Route(old=True, path="/zero-shot", text="tts", transcript="prompt", reference="audio"),
    Route(old=True, path="/cross-lingual", text="tts", reference="audio"),
    Route(old=True, path="/instruct", text="tts", name="role", instruction="instruct"),
)


def choose_route(url: str, voice: Voice) -> tuple[str, Route]:
    """Return the path before the route, and the route: the URL's own, or the voice's.

    Raises ConfigError when none can say this voice.
    """
    base, routes = _routes(url)
    for route in routes:
        if route.suits(voice):
            return base, route
    given = " with ".join(VOICES[each] for each in voice.asks)
    where = routes[0].path if len(routes) == 1 else "this runtime"
    raise ConfigError(f"voice: {where} takes {', or '.join(map(str, routes))}; not {given}")


def _routes(url: str) -> tuple[str, Sequence[Route]]:
    """Return the path before the routes, and which of them the URL leaves open."""
    path = urlsplit(url).path.rstrip("/")
    for route in _NEW_ROUTES:
        if path.endswith(route.path):
            return path.removesuffix(route.path), (route,)
    for route in _OLD_ROUTES:
        if path.endswith(OLD_BASE + route.path):
            return path.removesuffix(route.path), (route,)
    return path, _OLD_ROUTES if path.endswith(OLD_BASE) else _NEW_ROUTES
