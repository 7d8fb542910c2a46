"""How much at once, and for how long: batches, connections, time-outs, memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..checks import Rule, check, count, flag, not_negative, positive, positive_or_unlimited
from ..errors import ConfigError
from ..fields import tells_fields
from .load import Load

if TYPE_CHECKING:
    import ssl

    from typing_extensions import Self

ON_FULL = ("block", "shed")

__all__ = ["BatchConfig", "DefaultCount", "LimitConfig", "PoolConfig", "TimeoutConfig"]


class DefaultCount(int):
    """A number that nobody gave: a wire may know a better one."""


@tells_fields
@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How texts are packed into calls."""

    max_texts: int = DefaultCount(64)
    """Texts in one call, where the wire takes as many. More texts, fewer round trips."""
    max_chars: int = 12_000
    """Characters in one call. Bounds the size of a reply and the time that a call takes."""
    max_text_chars: int = 5_000
    """Characters of one text; a longer one is refused before sending. At most what the wire
    takes."""
    sort_window: int = 4
    """How many batches are sorted by length together. More makes batches more even, and delays
    the first audio of an endless input."""
    halve_refused: bool = True
    """Send a batch that is refused, or fails, as a whole in smaller parts: to find the text at
    fault, at up to twice as many requests as the batch has texts, or the size that a gateway
    lets through. False repeats and fails whole batches only."""
    gzip_above: int = 0
    """Compress request bodies from this many bytes on; 0 never. Saves little for short texts."""
    gzip_replies: bool = True
    """Ask for compressed replies: worth it for JSON and PCM over slow links; costs CPU."""

    def __post_init__(self) -> None:
        check(
            self,
            count("max_texts", "max_chars", "max_text_chars", "sort_window")
            + not_negative("gzip_above")
            + flag("halve_refused", "gzip_replies"),
        )


@tells_fields
@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Connections that are kept for reuse."""

    max_connections: int = 800
    """Open connections to all endpoints together, busy and idle."""
    idle_expiry: float = 5.0
    """Seconds after which an idle connection is closed. Keep it below the server's own. A wire
    whose services are known to close earlier makes this default less."""
    max_age: float = 300.0
    """Seconds after which a connection is replaced, up to a fifth earlier so that they do not
    all go at once, and never during a request: a host name that moved is then followed. A
    shorter time costs more connecting."""
    dns_refresh: float = 30.0
    """Seconds between two look-ups of the name of an endpoint with `per_address`."""
    dns_keep: float = 0.0
    """Seconds for which an address of such an endpoint is kept after the last answer that had it.
    Give it some minutes where the name server answers with one address out of many."""
    verify_tls: bool = True
    """Check the server's certificate. False invites anybody on the way to listen and answer."""
    ssl_context: ssl.SSLContext | None = None
    """A TLS context of your own: private CA, client certificate. Overrules verify_tls."""
    trust_env: bool = True
    """Take proxies from HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY. One that is itself
    reached through TLS (https://) is refused where the service is too."""
    private_links: bool = False
    """Follow a service's link to its sound (wire `dashscope_http`) into private networks too.
    True lets whoever answers for the service make this machine send requests there."""

    def __post_init__(self) -> None:
        check(
            self,
            count("max_connections")
            + positive("idle_expiry", "max_age", "dns_refresh")
            + not_negative("dns_keep")
            + flag("verify_tls", "trust_env", "private_links"),
        )

    @classmethod
    def for_load(cls, requests_per_second: float, latency: float, **settings: Any) -> Self:
        """Return a pool that carries this load: rate x latency (Little's law), and head-room.

        It bounds all endpoints together; each has limits of its own as well, which
        `Endpoint.for_load` sizes. `Load` has the formula. Raises ConfigError.

        Args:
            requests_per_second: Of all endpoints together.
            latency: Mean seconds from sending a request to the end of its reply.
            settings: Other fields.
        """
        if "max_connections" in settings:
            raise ConfigError("max_connections: for_load works it out; leave one of them out")
        connections = Load(requests_per_second, latency).connections
        return cls(max_connections=connections, **settings)


@tells_fields
@dataclass(frozen=True, kw_only=True)
class TimeoutConfig:
    """Seconds that one attempt may spend in each phase; `deadline` bounds them all together."""

    connect: float = 3.0
    """Name look-up, TCP and TLS together."""
    first_byte: float = 30.0
    """Until the first byte of the reply's body: the synthesis itself. Counts from the request's
    end, or from the latest good reply of the same address, where others are spoken meanwhile."""
    first_byte_per_char: float = 0.01
    """Seconds that are added to `first_byte` for each character of the request's texts."""
    idle: float = 15.0
    """Between two bytes of the reply."""

    def __post_init__(self) -> None:
        check(
            self,
            positive("connect", "first_byte", "idle") + not_negative("first_byte_per_char"),
        )


@tells_fields
@dataclass(frozen=True, kw_only=True)
class LimitConfig:
    """How much may be in flight at once."""

    max_bytes_in_flight: int = 1 << 30
    """Bytes, as announced, of all the replies that come in at once; further ones are not read
    until there is room."""
    max_bytes_waiting: int = 8 << 20
    """Bytes of audio that one `synth_iter` holds, coming in or waiting for its turn: how far it
    gets ahead of a text that is held up."""
    max_reply_bytes: int = 256 << 20
    """Bytes of one reply, after decompression. A larger one is refused while it is read."""
    max_submitted: int = 10_000
    """Texts given to `submit` and not finished. Each costs about 7 KB while it waits."""
    on_full: str = "block"
    """What happens to further ones: `block` lets `submit` wait, up to the deadline; `shed` refuses
    them at once, but an interactive text takes the place of the latest bulk one that has not
    begun."""
    rate: float | None = None
    """Requests per second to all endpoints together, beside what each of them allows: for a key
    or an address whose limit they share. None (or math.inf) for no such limit."""

    def __post_init__(self) -> None:
        names = ["max_bytes_in_flight", "max_bytes_waiting", "max_reply_bytes", "max_submitted"]
        full: Rule = ("on_full", ON_FULL.__contains__, "one of block, shed")
        check(self, (*count(*names), full, *positive_or_unlimited("rate")))
