"""Settings: the only home of defaults, and what each costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import urlsplit

from .checks import (
    Rule,
    check,
    checked_headers,
    checked_url,
    count,
    count_or_none,
    flag,
    header_text_or_none,
    name_or_none,
    not_negative,
    positive,
    whole,
)
from .errors import ConfigError
from .models import Audio, Voice

if TYPE_CHECKING:
    import ssl

__all__ = [
    "BatchConfig",
    "BreakerConfig",
    "ClientConfig",
    "Endpoint",
    "LimitConfig",
    "PoolConfig",
    "RetryConfig",
    "Settings",
    "TimeoutConfig",
    "VerifyConfig",
]

PRIORITIES = ("bulk", "interactive")
FORMATS = ("pcm", "wav")


@dataclass(frozen=True)
class Endpoint:
    """One address of the service with the limits that it sets for one client.

    Args:
        url: The whole URL that requests are sent to, such as https://tts.example.com/batch.
        max_connections: Connections, and so requests in flight, at the same time.
        rate: Requests per second; no sliding second exceeds it.
        weight: Share of the traffic when there are several endpoints.
    """

    url: str = field(repr=False)
    max_connections: int = field(default=50, kw_only=True)
    rate: float = field(default=100.0, kw_only=True)
    weight: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        checked_url("url", self.url)
        check(self, count("max_connections") + positive("rate", "weight"))

    def __repr__(self) -> str:
        return (
            f"Endpoint({self.label!r}, max_connections={self.max_connections}, "
            f"rate={self.rate:g}, weight={self.weight:g})"
        )

    @property
    def label(self) -> str:
        """Return the address without query, as errors and logs show it."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How texts are packed into calls."""

    # Texts in one call. More texts, fewer round trips; the service takes 64.
    max_texts: int = 64
    # Characters in one call. Bounds the size of a reply and the time that a call takes.
    max_chars: int = 12_000
    # Characters of one text; a longer one is refused before sending.
    max_text_chars: int = 5_000
    # How many batches are sorted by length together. More makes batches more even, and the first
    # audio of an endless input come later.
    sort_window: int = 4
    # Compress request bodies from this many bytes on; 0 never. Saves little for short texts.
    gzip_above: int = 0
    # Ask for compressed replies: worth it for JSON and PCM over slow links; costs CPU.
    gzip_replies: bool = True

    def __post_init__(self) -> None:
        check(
            self,
            count("max_texts", "max_chars", "max_text_chars", "sort_window")
            + not_negative("gzip_above")
            + flag("gzip_replies"),
        )


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Connections that are kept for reuse."""

    # Open connections to all endpoints together, busy and idle.
    max_connections: int = 800
    # Seconds after which an idle connection is closed. Keep it below the server's own.
    idle_expiry: float = 5.0
    # Check the server's certificate. False invites anybody on the way to listen and answer.
    verify_tls: bool = True
    # A TLS context of your own: private CA, client certificate. Overrules verify_tls.
    ssl_context: ssl.SSLContext | None = None
    # Take proxies from HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.
    trust_env: bool = True

    def __post_init__(self) -> None:
        check(
            self,
            count("max_connections") + positive("idle_expiry") + flag("verify_tls", "trust_env"),
        )


@dataclass(frozen=True, kw_only=True)
class TimeoutConfig:
    """Seconds that one attempt may spend in each phase; `deadline` bounds them all together."""

    # Name look-up, TCP and TLS together.
    connect: float = 3.0
    # From the last byte of the request until the first byte of the reply: the synthesis itself.
    first_byte: float = 30.0
    # Between two bytes of the reply.
    idle: float = 15.0

    def __post_init__(self) -> None:
        check(self, positive("connect", "first_byte", "idle"))


@dataclass(frozen=True, kw_only=True)
class RetryConfig:
    """When a failed call is sent again: 200 ms, 400 ms, 800 ms, each with jitter."""

    # Repetitions after the first attempt.
    max_retries: int = 3
    # Seconds before the first repetition; doubled each time.
    base: float = 0.2
    # The longest wait in seconds. A longer Retry-After from the service is obeyed all the same.
    max_wait: float = 10.0
    # Repetitions after audio that was wrong or missing.
    max_bad_audio: int = 2

    def __post_init__(self) -> None:
        check(self, whole("max_retries", "max_bad_audio") + positive("base", "max_wait"))


_BREAKER_RULES: tuple[Rule, ...] = (
    ("failure_ratio", lambda v: v <= 1, "at most 1"),
    ("jitter", lambda v: v < 1, "below 1"),
)


@dataclass(frozen=True, kw_only=True)
class BreakerConfig:
    """When an endpoint is left alone for a while."""

    # Share of failures that opens the breaker.
    failure_ratio: float = 0.5
    # Seconds over which the share is counted.
    window: float = 10.0
    # Calls in the window below which it never opens.
    min_calls: int = 20
    # Seconds that it stays open; `jitter` is a share of them, so that clients do not return as one.
    open_for: float = 30.0
    jitter: float = 0.1
    # Calls let through afterwards; all of them must succeed to close it.
    probes: int = 5
    # Seconds after which a probe that never reported gives its place to another.
    probe_lease: float = 60.0

    def __post_init__(self) -> None:
        check(
            self,
            positive("failure_ratio", "window", "open_for", "probe_lease")
            + count("min_calls", "probes")
            + not_negative("jitter")
            + _BREAKER_RULES,
        )


@dataclass(frozen=True, kw_only=True)
class LimitConfig:
    """How much may be under way at once."""

    # Bytes, as announced, of all the replies that come in at once; more wait at the network's end.
    max_bytes_in_flight: int = 1 << 30
    # Bytes of audio that one `synth_iter` holds, coming in or waiting for its turn.
    max_bytes_waiting: int = 8 << 20
    # Bytes of one reply, after decompression. A larger one is refused while it is read.
    max_reply_bytes: int = 256 << 20
    # Texts given to `submit` and not finished; more make `submit` wait.
    max_submitted: int = 10_000

    def __post_init__(self) -> None:
        names = ["max_bytes_in_flight", "max_bytes_waiting", "max_reply_bytes", "max_submitted"]
        check(self, count(*names))


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """What audio must be like to count as a success."""

    # False accepts any well-formed audio; missing or doubled items are refused all the same.
    enabled: bool = True
    # Seconds of speech per character: the widest plausible bounds.
    min_seconds_per_char: float = 0.02
    max_seconds_per_char: float = 2.0
    # Seconds that every text may last longer: pauses at both ends.
    slack: float = 2.0
    # The caller's own check, (text, audio) -> bool, on a worker thread; False refuses the audio.
    check: Callable[[str, Audio], bool] | None = None

    def __post_init__(self) -> None:
        check(
            self,
            (
                *flag("enabled"),
                ("check", lambda v: v is None or callable(v), "a function (text, audio) -> bool"),
                *positive("max_seconds_per_char"),
                *not_negative("min_seconds_per_char", "slack"),
            ),
        )


_CLIENT_RULES: tuple[Rule, ...] = (
    ("voice", lambda v: v is None or isinstance(v, Voice), "a Voice or a speaker's name"),
    ("api_key", header_text_or_none, "printable ASCII text"),
    ("wire", lambda v: isinstance(v, str) and bool(v), "the name of a wire, such as 'batch'"),
    ("model", name_or_none, "a model's name"),
    ("format", lambda v: v in FORMATS, f"one of {', '.join(FORMATS)}"),
    ("sample_rate", lambda v: isinstance(v, int) and 8_000 <= v <= 192_000, "8000 to 192000 Hz"),
    ("speed", lambda v: 0.25 <= v <= 4, "0.25 to 4"),
    *positive("deadline"),
    ("priority", lambda v: v is None or v in PRIORITIES, f"one of {', '.join(PRIORITIES)}"),
    ("tenant", name_or_none, "a name"),
    *count_or_none("max_in_flight"),
    *flag("serial"),
)


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """Everything that a client needs to know beside its endpoints."""

    # Who speaks. None leaves it to the service.
    voice: Voice | None = None
    # Sent as `Authorization: Bearer`; never shown or logged.
    api_key: str | None = field(default=None, repr=False)
    # The protocol that the endpoints speak.
    wire: str = "batch"
    # The model's name, where the service has several.
    model: str | None = None
    # What the service sends: a WAV file, or bare samples (pcm).
    format: str = "wav"
    # Hz. CosyVoice 1 speaks at 22 050 Hz, 2 and 3 at 24 000 Hz.
    sample_rate: int = 24_000
    # Pace of the speech; 1 is normal.
    speed: float = 1.0
    # Seconds for each text, from the moment that the client takes it up.
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
    # Sent with each request.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    batch: BatchConfig = BatchConfig()
    pool: PoolConfig = PoolConfig()
    timeouts: TimeoutConfig = TimeoutConfig()
    retry: RetryConfig = RetryConfig()
    breaker: BreakerConfig = BreakerConfig()
    limits: LimitConfig = LimitConfig()
    verify: VerifyConfig = VerifyConfig()

    def __post_init__(self) -> None:
        if isinstance(self.voice, str):
            object.__setattr__(self, "voice", Voice(self.voice))
        object.__setattr__(self, "headers", checked_headers(self.headers))
        check(self, _CLIENT_RULES)
        for name, cls in GROUPS.items():
            if not isinstance(getattr(self, name), cls):
                raise ConfigError(f"{name}: expected a {cls.__name__}, got {getattr(self, name)!r}")


class Settings(TypedDict, total=False):
    """The keyword arguments of a client: the fields of ClientConfig, and `batch_size`."""

    voice: Voice | str | None
    api_key: str | None
    wire: str
    model: str | None
    format: str
    sample_rate: int
    speed: float
    deadline: float
    priority: str | None
    tenant: str | None
    max_in_flight: int | None
    serial: bool
    headers: Mapping[str, str]
    batch_size: int
    batch: BatchConfig
    pool: PoolConfig
    timeouts: TimeoutConfig
    retry: RetryConfig
    breaker: BreakerConfig
    limits: LimitConfig
    verify: VerifyConfig


GROUPS: Mapping[str, type] = MappingProxyType(
    {
        "batch": BatchConfig,
        "pool": PoolConfig,
        "timeouts": TimeoutConfig,
        "retry": RetryConfig,
        "breaker": BreakerConfig,
        "limits": LimitConfig,
        "verify": VerifyConfig,
    }
)
