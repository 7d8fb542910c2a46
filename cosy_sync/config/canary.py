"""A new model that speaks a few of the texts, until it is known whether it is worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any
from urllib.parse import urlsplit

from ..checks import check, checked_url, flag, name_or_none
from ..errors import ConfigError
from ..fields import tells_fields
from .endpoint import Endpoint

__all__ = ["CanaryConfig", "Variant", "as_canary", "plain_canary", "plain_fields"]

# Which of a canary's two speaks, where somebody has said so. Where its share says so: the new one's
# texts, and those of the old one that are packed alike. Texts that are heard together, so that one
# of the two speaks all of them.
VARIANTS = ("stable", "canary", "trial", "control", "whole")
# Those that the new one speaks.
NEW = ("canary", "trial")
_STEPS = (0.05, 0.25, 0.5, 1.0)


@tells_fields
@dataclass(frozen=True, kw_only=True)
class Variant:
    """The new one of two: another model, another endpoint, or both."""

    model: str | None = None
    """The model's name, where it differs from the client's."""
    url: str | None = field(default=None, repr=False)
    """Which of the client's endpoints has it; the others speak for the old one alone then."""
    share: float = 0.05
    """Share of the texts that it speaks at first, from 0 to 1. The same text goes to the same one
    while the share stays, and the texts that the new one has are still its own when that grows."""
    version: str | None = None
    """In place of CacheConfig's `version` for what it speaks, so that no cache takes the audio of
    one for the other's. Left out, `model` or the endpoint tells them apart."""

    def __post_init__(self) -> None:
        if self.model is None and self.url is None:
            raise ConfigError("canary: say what is new: Variant(model=...) or Variant(url=...)")
        if self.url is not None:
            checked_url("url", self.url)
        rules = (
            ("model", name_or_none, "a model's name"),
            ("share", lambda v: _is_share(v, 0), "a number above 0 and at most 1, such as 0.05"),
            ("version", name_or_none, "a word"),
        )
        check(self, rules)

    @property
    def name(self) -> str:
        """Return what the canary is called in Redis, events and logs: its model and endpoint."""
        parts = urlsplit(self.url or "")
        place = f"{parts.netloc}{parts.path}"
        return " ".join(filter(None, (self.model, place, self.version)))


@tells_fields
@dataclass(frozen=True, kw_only=True)
class CanaryConfig:
    """A new model is tried on a share of the texts, and rolled back at once where it is worse."""

    variant: Variant | None = None
    """What is new. None: the last of several endpoints, and its `weight` is its share."""
    false_alarms: float = 0.01
    """Probability of rolling back one that is as good, in all its life, however often it is looked
    at. A smaller one takes more texts to find a worse one."""
    tolerance: float = 0.001
    """What its share of failed requests and of refused audio may be above the old one's."""
    slower: float = 1.25
    """How many times the old one's seconds for each character its requests may take."""
    pace: float = 1.15
    """How many times longer or shorter its speech may be."""
    promote: bool = False
    """Give it more texts, step by step, once it is known to be as good: up to all of them."""
    steps: Sequence[float] = _STEPS
    """The shares that come after its first one, with `promote`."""

    def __post_init__(self) -> None:
        if self.variant is not None and not isinstance(self.variant, Variant):
            raise ConfigError(f"variant: expected a Variant, got {type(self.variant).__name__}")
        rules = (
            ("false_alarms", lambda v: _is_share(v, 0) and v < 1, "a number between 0 and 1"),
            ("tolerance", lambda v: _is_share(v, -1) and v < 1, "0 to 1"),
            ("slower", lambda v: v >= 1, "at least 1"),
            ("pace", lambda v: v >= 1, "at least 1"),
            ("steps", _are_steps, "growing shares up to 1, such as (0.05, 0.25, 0.5, 1)"),
            *flag("promote"),
        )
        check(self, rules)
        object.__setattr__(self, "steps", tuple(self.steps))

    def settled(self, endpoints: Sequence[Endpoint]) -> CanaryConfig:
        """Return it with a variant that these endpoints have. Raises ConfigError."""
        variant = self.variant
        if variant is None:
            last = endpoints[-1]
            # A weight of 1 is that of an endpoint which was given none.
            if len(endpoints) < 2 or not last.weight < 1:
                raise ConfigError(
                    "canary: give the new model's endpoint last, with its share of the texts as "
                    "weight: [Endpoint(old), Endpoint(new, weight=0.05)], or "
                    "canary=Variant(model=..., share=0.05)"
                )
            variant = Variant(url=last.url, share=last.weight)
        elif variant.url is not None:
            urls = [endpoint.url for endpoint in endpoints]
            if variant.url not in urls or len(urls) < 2:
                raise ConfigError("canary: the variant's url must be one of several endpoints'")
        return replace(self, variant=variant)


def as_canary(given: Any) -> CanaryConfig | None:
    """Return what a client's `canary` stands for: a Variant may be given alone. Raises
    ConfigError."""
    if isinstance(given, Variant):
        return CanaryConfig(variant=given)
    if given is not None and not isinstance(given, CanaryConfig):
        raise ConfigError(
            f"canary: expected a Variant or a CanaryConfig, got {type(given).__name__}; write "
            "canary=Variant(model=..., share=0.05)"
        )
    return given


def plain_fields() -> dict[str, type]:
    """Return what `plain_canary` takes, by name, with the class that each belongs to."""
    own = {each.name: CanaryConfig for each in fields(CanaryConfig) if each.name != "variant"}
    return {**{each.name: Variant for each in fields(Variant)}, **own}


def plain_canary(**given: Any) -> CanaryConfig:
    """Return a canary of the fields of Variant and CanaryConfig side by side, as variables and
    configuration files have them. Raises ConfigError."""
    known = plain_fields()
    of_variant = {name: value for name, value in given.items() if known.get(name) is Variant}
    rest = {name: value for name, value in given.items() if name not in of_variant}
    variant = rest.pop("variant", None)
    if isinstance(variant, Mapping):
        of_variant, variant = {**variant, **of_variant}, None
    if of_variant:
        variant = Variant(**of_variant)
    return CanaryConfig(variant=variant, **rest)


def _is_share(value: object, above: float) -> bool:
    return type(value) in (int, float) and above < value <= 1  # type: ignore[operator]


def _are_steps(value: Any) -> bool:
    steps = list(value)
    return bool(steps) and all(_is_share(each, 0) for each in steps) and sorted(steps) == steps
