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

    voice: Voice | None = None
    """Who speaks. None leaves it to the service; wires whose services need one refuse that."""
    api_key: str | None = field(default=None, repr=False)
    """Sent as `Authorization: Bearer`; never shown or logged."""
    wire: str = "batch"
    """The protocol that the endpoints speak. `auto` takes it from the URL, or asks the service:
    up to two requests and 3 s for each endpoint when the client is made."""
    model: str | None = None
    """The model's name, where the service has several."""
    format: str = "wav"
    """What `Audio.data` holds: a WAV file, bare samples (pcm), or a file that is encoded here
    once the audio is checked; that takes up to 2 s of a core for each minute, and the extra
    `audio`."""
    quality: float | None = None
    """Of mp3, opus and ogg, from 0 (smallest file) to 1 (best). None leaves it to the
    encoder."""
    sample_rate: int = 24_000
    """Hz. CosyVoice 1 speaks at 22 050 Hz, 2 and 3 at 24 000 Hz."""
    speed: float = 1.0
    """Pace of the speech; 1 is normal."""
    prepare: Sequence[Callable[[str], str]] = ()
    """Functions from text to text, or one, that change each text once before it is sent, on the
    caller's thread: numbers, dates, names that are read wrongly. Outcomes keep the given text."""
    deadline: float = 60.0
    """Seconds for each text: in `synth`, `submit` and `stream` from the call on, in
    `synth_many` and `synth_iter` from its sending on, since their texts wait for their turn
    first (`within` bounds a whole `synth_many`); at a service that answers nothing they share
    one deadline. A web or task host's own limit should be longer."""
    priority: str | None = None
    """`interactive` goes first, and fails at once where `bulk` waits for a breaker. None means
    `interactive` for synth and submit, `bulk` for synth_many and synth_iter."""
    tenant: str | None = None
    """Callers with the same tenant share `max_in_flight`."""
    max_in_flight: int | None = None
    """Batches of a tenant in flight at once. Without a tenant, callers with the same number share
    it. None sets no bound beside the endpoints' own."""
    serial: bool = False
    """Run everything on the caller's own thread, one call after the other: for debugging."""
    cache: Any = field(default=None, repr=False)
    """Where the audio of spoken texts is kept: "memory", a folder, a redis:// URL, a store such
    as DiskCache(...), several of these in a list, or a CacheConfig. None keeps nothing."""
    canary: Any = None
    """A new model that speaks a few of the texts, and is rolled back where it is worse: a Variant,
    or a CanaryConfig. None tries nothing."""
    variant: str | None = None
    """Which of a canary's two speaks: `stable` or `canary`. None leaves it to the text."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with each request."""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Further fields for the service, sent unchanged; the wire's page says where it puts them."""

    batch: BatchConfig = BatchConfig()
    """How texts are packed into calls."""
    pool: PoolConfig = PoolConfig()
    """Connections: how many, how long they are kept, TLS, proxies, look-ups."""
    timeouts: TimeoutConfig = TimeoutConfig()
    """Seconds that one attempt may spend in each phase."""
    retry: RetryConfig = RetryConfig()
    """When a failed call is sent again."""
    breaker: BreakerConfig = BreakerConfig()
    """When an endpoint is left alone for a while."""
    ejection: EjectionConfig = EjectionConfig()
    """When one of several endpoints is left out."""
    overload: OverloadConfig = OverloadConfig()
    """How the client holds back when the service has too much to do."""
    limits: LimitConfig = LimitConfig()
    """How much may be in flight or waiting at once, in the whole client."""
    sharing: SharingConfig = SharingConfig()
    """What several processes and hosts share through Redis."""
    verify: VerifyConfig = VerifyConfig()
    """What audio must be like to count as a success."""
    coalesce: CoalesceConfig = CoalesceConfig()
    """How concurrent calls of few texts share requests."""
    hedge: HedgeConfig = HedgeConfig()
    """When a late call is sent a second time, to another endpoint."""
    narration: NarrationConfig = NarrationConfig()
    """How `narrate` cuts a long text and joins what was spoken."""

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
    """Who speaks."""
    instruction: str | None
    """How to speak, such as 用四川话说这句话; part of the voice."""
    model: str | None
    """The model's name, where the service has several."""
    format: Literal["pcm", "wav", "mp3", "opus", "ogg", "flac"]
    """What `Audio.data` holds: a WAV file, bare samples (pcm), or a file that is encoded here
    once the audio is checked; that takes up to 2 s of a core for each minute, and the extra
    `audio`."""
    quality: float | None
    """Of mp3, opus and ogg, from 0 (smallest file) to 1 (best)."""
    sample_rate: int
    """Hz. CosyVoice 1 speaks at 22 050 Hz, 2 and 3 at 24 000 Hz."""
    speed: float
    """Pace of the speech; 1 is normal."""
    prepare: Callable[[str], str] | Sequence[Callable[[str], str]] | None
    """Functions from text to text, or one, that change each text once before it is sent, on the
    caller's thread: numbers, dates, names that are read wrongly."""
    deadline: float
    """Seconds for each text: in `synth`, `submit` and `stream` from the call on, in
    `synth_many` and `synth_iter` from its sending on, since their texts wait for their turn
    first (`within` bounds a whole `synth_many`); at a service that answers nothing they share
    one deadline."""
    priority: Literal["bulk", "interactive"] | None
    """`interactive` goes first, and fails at once where `bulk` waits for a breaker."""
    tenant: str | None
    """Callers with the same tenant share `max_in_flight`."""
    max_in_flight: int | None
    """Batches of a tenant in flight at once."""
    cache: Any
    """Where the audio of spoken texts is kept: "memory", a folder, a redis:// URL, a store such
    as DiskCache(...), several of these in a list, or a CacheConfig."""
    variant: Literal["stable", "canary"] | None
    """Which of a canary's two speaks: `stable` or `canary`. None leaves it to the text."""
    headers: Mapping[str, str]
    """Sent with each request."""
    extra: Mapping[str, Any]
    """Further fields for the service, sent unchanged; the wire's page says where it puts them."""


class Settings(CallSettings, total=False):
    """The keyword arguments of a client: the fields of ClientConfig, and `batch_size` and
    `instruction`, which stand for one field of a group and of the voice."""

    api_key: str | None
    """Sent as `Authorization: Bearer`; never shown or logged."""
    wire: str
    """The protocol that the endpoints speak."""
    serial: bool
    """Run everything on the caller's own thread, one call after the other: for debugging."""
    canary: Variant | CanaryConfig | None
    """A new model that speaks a few of the texts, and is rolled back where it is worse: a Variant,
    or a CanaryConfig."""
    batch_size: int
    """Texts in one call; the same as `batch=BatchConfig(max_texts=...)`."""
    batch: BatchConfig
    """How texts are packed into calls."""
    pool: PoolConfig
    """Connections: how many, how long they are kept, TLS, proxies, look-ups."""
    timeouts: TimeoutConfig
    """Seconds that one attempt may spend in each phase."""
    retry: RetryConfig
    """When a failed call is sent again."""
    breaker: BreakerConfig
    """When an endpoint is left alone for a while."""
    ejection: EjectionConfig
    """When one of several endpoints is left out."""
    overload: OverloadConfig
    """How the client holds back when the service has too much to do."""
    limits: LimitConfig
    """How much may be in flight or waiting at once, in the whole client."""
    sharing: SharingConfig
    """What several processes and hosts share through Redis."""
    verify: VerifyConfig
    """What audio must be like to count as a success."""
    coalesce: CoalesceConfig
    """How concurrent calls of few texts share requests."""
    hedge: HedgeConfig
    """When a late call is sent a second time, to another endpoint."""
    narration: NarrationConfig
    """How `narrate` cuts a long text and joins what was spoken."""


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
