"""Every option of the server, with its default and its check."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from cosy_sync.fields import tells_fields

from .faults import check_fault
from .schedule import Outage, Shortage
from .tone import MIN_AUDIO_BYTES, SECONDS_PER_CHAR

ENGINES = ("tone", "espeak")
OVERRUNS = ("auto", "502", "503")
GZIP_MODES = ("auto", "always", "never")
REPLY_FORMS = ("auto", "multipart", "results", "array")


@tells_fields
@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """How one server listens, speaks, limits and fails. 0 switches a limit off."""

    host: str = "127.0.0.1"
    """Address to listen on; only this machine by default."""
    port: int = 0
    """0 takes any free port."""
    grpc_port: int | None = None
    """Speak the wires `runtime_grpc` and `triton` at this port, too; 0 takes any free one, None
    leaves it out."""
    grpc_max_conc: int = 4
    """gRPC calls at the same time; what is beyond is refused at once, as the real server does."""
    engine: str = "tone"
    """`tone` costs nothing; `espeak` is real speech, about 8 ms of one core a sentence."""
    audio_bytes: int | None = None
    """Tone engine: PCM bytes for every text; None lets the audio grow with the text."""
    seconds_per_char: float = SECONDS_PER_CHAR
    """Tone engine: seconds of audio for each character at speed 1.0."""
    speakers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Espeak engine: copies of the library, each speaking on a thread of its own."""
    api_key: str | None = field(default=None, repr=False)
    """Asked of every call but /health and /stats; None lets everybody in."""
    latency: float = 0.2
    """Seconds that a call takes at least, counted from the arrival of its request."""
    text_latency: float = 0.0
    """Seconds that a call takes beside for each of its texts."""
    workers: int = 0
    """Calls that are worked on at the same time, first come first served; the others wait, and
    their latency begins when their turn comes."""
    max_connections: int = 50
    """Connections from one address; what is beyond is answered 503."""
    rate: int = 100
    """Calls from one address in any sliding second; what is beyond is answered 429."""
    overrun: str = "auto"
    """Status of what is beyond these two limits; `auto` is 503 and 429, as said there."""
    accept_delay: float = 0.0
    """Seconds before the first bytes of a new connection are read."""
    idle_timeout: float = 60.0
    """Seconds before an idle connection is closed; 0 closes after each reply."""
    gzip: str = "auto"
    """`auto` compresses JSON only: audio shrinks little and costs the processor much."""
    reply_form: str = "auto"
    """`auto` lets the client's Accept header choose."""
    faults: Mapping[str, float] = field(default_factory=dict)
    """Name of a fault -> its probability for each batch; together at most 1."""
    outages: Sequence[Outage] = ()
    """Spans in which every call meets one fault, or nobody listens."""
    shortages: Sequence[Shortage] = ()
    """Spans in which only a share of `rate` is granted."""
    echo: bool = True
    """Send a hash of the text beside its audio, so that a client sees when places are mixed up."""
    seed: int | None = None
    """Makes the faults the same in every run."""
    max_body_bytes: int = 4_000_000
    """Largest request body, also after decompression, in bytes."""
    max_texts: int = 64
    """Largest batch."""
    max_text_chars: int = 5_000
    """Longest text, in characters."""

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_ranges()
        self._check_audio_bytes()
        self._check_faults()
        # A caller's later change of its own dict must not reach a running server.
        object.__setattr__(self, "faults", MappingProxyType(dict(self.faults)))
        object.__setattr__(self, "outages", tuple(self.outages))
        object.__setattr__(self, "shortages", tuple(self.shortages))

    def _check_choices(self) -> None:
        for name, choices in (
            ("engine", ENGINES),
            ("gzip", GZIP_MODES),
            ("overrun", OVERRUNS),
            ("reply_form", REPLY_FORMS),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name} is {value!r}: use one of {', '.join(choices)}")

    def _check_ranges(self) -> None:
        for name, low, high in (
            ("port", 0, 65_535),
            ("grpc_max_conc", 1, 10_000),
            ("seconds_per_char", 0.01, 10),
            ("speakers", 1, 256),
            ("latency", 0, 3600),
            ("text_latency", 0, 3600),
            ("workers", 0, 1_000_000),
            ("max_connections", 0, 1_000_000),
            ("rate", 0, 1_000_000),
            ("accept_delay", 0, 3600),
            ("idle_timeout", 0, 86_400),
            ("max_body_bytes", 1, 1_000_000_000),
            ("max_texts", 1, 100_000),
            ("max_text_chars", 1, 1_000_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}: use a number from {low} to {high}")
        port = self.grpc_port
        if port is not None and not 0 <= port <= 65_535:
            raise ValueError(f"grpc_port is {port}: use a number from 0 to 65535, or None")

    def _check_audio_bytes(self) -> None:
        size = self.audio_bytes
        if size is not None and (size < MIN_AUDIO_BYTES or size % 2 or size > 100_000_000):
            raise ValueError(
                f"audio_bytes is {size}: use an even number (whole 16-bit samples) "
                f"from {MIN_AUDIO_BYTES} to 100000000, or None"
            )

    def _check_faults(self) -> None:
        for name, probability in self.faults.items():
            check_fault(name)
            if not 0 <= probability <= 1:
                raise ValueError(f"faults[{name!r}] is {probability}: use a number from 0 to 1")
        if sum(self.faults.values()) > 1 + 1e-9:
            raise ValueError("faults add up to more than 1: lower some probabilities")
        if self.shortages and not self.rate:
            raise ValueError("shortages: without rate there is nothing to lower")
