"""A client's whole configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, TypedDict

from ..checks import (
    Rule,
    check,
    checked_extra,
    checked_headers,
    checked_prepare,
    count_or_none,
    flag,
    header_text_or_none,
    name_or_none,
    positive,
)
from ..errors import ConfigError
from ..fields import tells_fields
from ..hints import advice_for_group
from ..models import Voice
from .amounts import BatchConfig, LimitConfig, PoolConfig, TimeoutConfig
from .caching import CacheConfig
from .canary import NEW, VARIANTS, CanaryConfig, Variant, as_canary
from .interactive import CoalesceConfig, HedgeConfig
from .narration import NarrationConfig
from .sharing import SharingConfig
from .survival import BreakerConfig, EjectionConfig, OverloadConfig, RetryConfig, VerifyConfig

__all__ = ["CallSettings", "ClientConfig", "Settings", "as_spoken"]

PRIORITIES = ("bulk", "interactive")
FORMATS = ("pcm", "wav", "mp3", "opus", "ogg", "flac")
LOSSLESS = ("pcm", "wav", "flac")


_CLIENT_RULES: tuple[Rule, ...] = (
    ("voice", lambda v: v is None or isinstance(v, Voice), "a Voice or a speaker's name"),
    ("api_key", header_text_or_none, "printable ASCII text without line breaks"),
    ("wire", lambda v: isinstance(v, str) and bool(v), "the name of a wire, such as 'batch'"),
    ("model", name_or_none, "a model's name"),
    ("format", lambda v: v in FORMATS, f"one of {', '.join(FORMATS)}"),
    ("sample_rate", lambda v: isinstance(v, int) and 8_000 <= v <= 192_000, "8000 to 192000 Hz"),
    ("quality", lambda v: v is None or 0 <= v <= 1, "0 (smallest file) to 1 (best)"),
    ("speed", lambda v: 0.25 <= v <= 4, "0.25 to 4"),
    *positive("deadline"),
    ("variant", lambda v: v is None or v in VARIANTS, "'stable' or 'canary'"),
    ("priority", lambda v: v is None or v in PRIORITIES, f"one of {', '.join(PRIORITIES)}"),
    ("tenant", name_or_none, "a name"),
    *count_or_none("max_in_flight"),
    *flag("serial"),
)


@tells_fields
@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """Everything that a client needs to know beside its endpoints."""

    # Who speaks. None leaves it to the service; wires whose services need one refuse that.
    voice: Voice | None = None
    # Sent as `Authorization: Bearer`; never shown or logged.
    api_key: str | None = field(default=None, repr=False)
    # The protocol that the endpoints speak. `auto` takes it from the URL, or asks the service:
    # up to two requests and 3 s for each endpoint when the client is made.
    wire: str = "batch"
    # The model's name, where the service has several.
    model: str | None = None
    # What `Audio.data` holds: a WAV file, bare samples (pcm), or a file that is encoded here once
    # the audio is checked; that takes up to 2 s of a core for each minute, and the extra `audio`.
    format: str = "wav"
    # Of mp3, opus and ogg, from 0 (smallest file) to 1 (best). None: what their encoders think
    # right.
    quality: float | None = None
    # Hz. CosyVoice 1 speaks at 22 050 Hz, 2 and 3 at 24 000 Hz.
    sample_rate: int = 24_000
    # Pace of the speech; 1 is normal.
    speed: float = 1.0
    # Functions from text to text, or one, that change each text once before it is sent, on the
    # caller's thread: numbers, dates, names that are read wrongly. Outcomes keep the given text.
    prepare: Sequence[Callable[[str], str]] = ()
    # Seconds for each text: in `synth`, `submit` and `stream` from the call on, in `synth_many` and
    # `synth_iter` from its sending on, since their texts wait for their turn first (`within` bounds
    # a whole `synth_many`); at a service that answers nothing they share one deadline. A web or
    # task host's own limit should be longer.
    deadline: float = 60.0
    # `interactive` goes first, and fails at once where `bulk` waits for a breaker. None means
    # `interactive` for synth and submit, `bulk` for synth_many and synth_iter.
    priority: str | None = None
    # Callers of one tenant share `max_in_flight` batches; without a tenant, those with the same
    # number share them.
    tenant: str | None = None
    max_in_flight: int | None = None
    # Run everything on the caller's own thread, one call after the other: for debugging.
    serial: bool = False
    # Where the audio of spoken texts is kept: "memory", a folder, a redis:// URL, a store such as
    # DiskCache(...), several of these in a list, or a CacheConfig. None keeps nothing.
    cache: Any = field(default=None, repr=False)
    # A new model that speaks a few of the texts, and is rolled back where it is worse: a Variant,
    # or a CanaryConfig. None tries nothing.
    canary: Any = None
    # Which of a canary's two speaks: `stable` or `canary`. None leaves it to the text.
    variant: str | None = None
    # Sent with each request.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    # Further fields for the service, sent as they are; docs say where each wire puts them.
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    batch: BatchConfig = BatchConfig()
    pool: PoolConfig = PoolConfig()
    timeouts: TimeoutConfig = TimeoutConfig()
    retry: RetryConfig = RetryConfig()
    breaker: BreakerConfig = BreakerConfig()
    ejection: EjectionConfig = EjectionConfig()
    overload: OverloadConfig = OverloadConfig()
    limits: LimitConfig = LimitConfig()
    sharing: SharingConfig = SharingConfig()
    verify: VerifyConfig = VerifyConfig()
    coalesce: CoalesceConfig = CoalesceConfig()
    hedge: HedgeConfig = HedgeConfig()
    narration: NarrationConfig = NarrationConfig()

    def __post_init__(self) -> None:
        if isinstance(self.voice, str):
            object.__setattr__(self, "voice", Voice(self.voice))
        if self.cache is not None and not isinstance(self.cache, CacheConfig):
            object.__setattr__(self, "cache", CacheConfig(store=self.cache))
        object.__setattr__(self, "canary", as_canary(self.canary))
        if self.variant is not None and self.canary is None:
            raise ConfigError("variant: this client has no canary; leave it out")
        object.__setattr__(self, "headers", checked_headers(self.headers))
        object.__setattr__(self, "extra", checked_extra(self.extra))
        object.__setattr__(self, "prepare", checked_prepare(self.prepare))
        check(self, _CLIENT_RULES)
        if self.quality is not None and self.format in LOSSLESS:
            raise ConfigError(f"quality: {self.format} loses nothing and has none; leave it out")
        for name, cls in GROUPS.items():
            if not isinstance(getattr(self, name), cls):
                kind = cls.__name__
                raise ConfigError(
                    f"{name}: expected {'an' if kind[0] in 'EO' else 'a'} {kind}, got "
                    f"{getattr(self, name)!r}; {advice_for_group(name, cls)}"
                )


def as_spoken(config: ClientConfig) -> ClientConfig:
    """Return a configuration with what its variant has of its own: a canary's model, and the
    version of what it speaks."""
    if config.variant not in NEW:
        return config
    variant: Variant = config.canary.variant
    model, cache = variant.model or config.model, config.cache
    if cache is not None:
        # A model tells itself apart, an endpoint does not.
        other = variant.name if variant.url is not None else cache.version
        version = other if variant.version is None else variant.version
        cache = replace(cache, version=version)
    return replace(config, model=model, cache=cache)


class CallSettings(TypedDict, total=False):
    """The settings that a single call may have of its own, as keyword arguments."""

    voice: Voice | str | None
    instruction: str | None
    model: str | None
    format: Literal["pcm", "wav", "mp3", "opus", "ogg", "flac"]
    quality: float | None
    sample_rate: int
    speed: float
    prepare: Callable[[str], str] | Sequence[Callable[[str], str]] | None
    deadline: float
    priority: Literal["bulk", "interactive"] | None
    tenant: str | None
    max_in_flight: int | None
    cache: Any
    variant: Literal["stable", "canary"] | None
    headers: Mapping[str, str]
    extra: Mapping[str, Any]


class Settings(CallSettings, total=False):
    """The keyword arguments of a client: the fields of ClientConfig, and `batch_size` and
    `instruction`, which stand for one field of a group and of the voice."""

    api_key: str | None
    wire: str
    serial: bool
    canary: Variant | CanaryConfig | None
    batch_size: int
    batch: BatchConfig
    pool: PoolConfig
    timeouts: TimeoutConfig
    retry: RetryConfig
    breaker: BreakerConfig
    ejection: EjectionConfig
    overload: OverloadConfig
    limits: LimitConfig
    sharing: SharingConfig
    verify: VerifyConfig
    coalesce: CoalesceConfig
    hedge: HedgeConfig
    narration: NarrationConfig


GROUPS: Mapping[str, type] = MappingProxyType(
    {
        "batch": BatchConfig,
        "pool": PoolConfig,
        "timeouts": TimeoutConfig,
        "retry": RetryConfig,
        "breaker": BreakerConfig,
        "ejection": EjectionConfig,
        "overload": OverloadConfig,
        "limits": LimitConfig,
        "sharing": SharingConfig,
        "verify": VerifyConfig,
        "coalesce": CoalesceConfig,
        "hedge": HedgeConfig,
        "narration": NarrationConfig,
    }
)
