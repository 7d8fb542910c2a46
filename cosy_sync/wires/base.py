"""What every wire is: texts to requests, replies to one payload or error per text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..config import ClientConfig
from ..errors import ConfigError, CosyError, CutError, ServerError
from ..messages import Payload, Reply, Request, TextSource, WireRequest
from ..models import PLAIN_FORMATS, Voice

__all__ = [
    "Capabilities",
    "DuplexWire",
    "HttpWire",
    "Send",
    "SpeechOptions",
    "StreamReader",
    "Wire",
]

# Sends a request within the time and memory that the attempt has, and returns the whole reply.
# Raises CosyError.
Send = Callable[[WireRequest], Reply]


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a wire can do, and what its services usually bear."""

    max_texts_per_call: int
    """Texts that one call takes."""
    max_text_chars: int | None = None
    """Characters that one text may have at most (None: not known); longer ones are refused before
    sending. A wire that counts otherwise than len() says the largest len() here, and refuses the
    rest by itself."""
    schemes: tuple[str, ...] = ("http", "https")
    """What may stand in an endpoint's URL."""
    formats: tuple[str, ...] = ("wav", "pcm")
    """Of ClientConfig.format, what the service itself can send; the client converts between
    them."""
    sample_rates: tuple[int, ...] | None = None
    """Hz that can be asked for; None: any, or set by the service alone."""
    voices: frozenset[str] = frozenset({"name"})
    """Ways to say who speaks, of `VOICES`."""
    reference_rates: tuple[int, int] = (16_000, 48_000)
    """The lowest and highest Hz that a reference recording may have; others are brought to them."""
    features: frozenset[str] = frozenset({"model", "speed"})
    """What else can be asked for: `model`, `speed`; by fields of `extra` that the wire's page
    names, `ssml` (the texts are marked up) and `words` (their times come with the sound)."""
    streaming: bool = False
    """Sound arrives while the text is still being spoken, and hanging up ends the work."""
    duplex: bool = False
    """A text may be given in pieces while it is already being spoken."""
    gzip: bool = True
    """Requests are compressed as BatchConfig.gzip_above says; where not, the option gives a
    warning."""
    max_connections: int = 50
    """Requests in flight that services usually allow one client."""
    rate: float = 100.0
    """Requests a second that services usually allow one client; math.inf for any number."""
    idle_expiry: float = 5.0
    """Seconds after which an idle connection is better closed by us than by the server."""
    stream_advice: str = ""
    """Where this does not stream, what to do for streams of the same service."""
    cut_advice: str = ""
    """What a reply that breaks off usually means at this service, and what to do."""

    def explain(self, error: CosyError) -> None:
        """Add to the message of a reply that broke off what that means at this service."""
        if isinstance(error, CutError) and self.cut_advice not in error.message:
            error.message += f"; {self.cut_advice}"


VOICES = {
    "name": "a speaker's name",
    "reference": "a reference recording",
    "instruction": "an instruction",
}


@dataclass(frozen=True, kw_only=True)
class SpeechOptions:
    """What a wire says in each request beside the texts. ClientConfig explains the fields."""

    voice: Voice | None
    model: str | None
    format: str
    sample_rate: int
    speed: float
    api_key: str | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    """They may hold keys as well."""
    extra: Mapping[str, Any] = field(repr=False)
    gzip_above: int
    gzip_replies: bool
    halve_refused: bool
    max_texts: int
    private_links: bool = False

    @classmethod
    def from_config(cls, config: ClientConfig) -> SpeechOptions:
        """Take what wires need out of a client's settings."""
        return cls(
            voice=config.voice,
            model=config.model,
            format=config.format if config.format in PLAIN_FORMATS else "wav",
            sample_rate=config.sample_rate,
            speed=config.speed,
            api_key=config.api_key,
            headers=config.headers,
            extra=config.extra,
            gzip_above=config.batch.gzip_above,
            gzip_replies=config.batch.gzip_replies,
            halve_refused=config.batch.halve_refused,
            max_texts=config.batch.max_texts,
            private_links=config.pool.private_links,
        )

    def check(self, wire: str, capabilities: Capabilities) -> None:
        """Raise ConfigError for what this wire cannot do, before anything is sent."""
        for asked in self.voice.asks if self.voice is not None else ():
            if asked not in capabilities.voices:
                can = ", ".join(VOICES[each] for each in sorted(capabilities.voices)) or "none"
                raise ConfigError(
                    f"voice: the wire {wire!r} cannot take {VOICES[asked]}; it takes: {can}"
                )
        for name, given in (("model", self.model is not None), ("speed", self.speed != 1)):
            if given and name not in capabilities.features:
                raise ConfigError(f"{name}: the wire {wire!r} cannot set it; leave it out")
        rates = capabilities.sample_rates
        if rates is not None and self.sample_rate not in rates:
            known = ", ".join(map(str, rates))
            raise ConfigError(
                f"sample_rate: the wire {wire!r} speaks at {known} Hz, not {self.sample_rate}"
            )

    def headers_with(
        self, fixed: Mapping[str, str], ours: frozenset[str]
    ) -> tuple[tuple[str, str], ...]:
        """Return a request's headers: the wire's, the key, and the user's, which replace them.

        Args:
            fixed: What the wire says, in the order in which it is sent.
            ours: Lower-case names that the user cannot set: the transport says them, or the wire
                alone, and another value would contradict it.
        """
        headers = dict(fixed)
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        given = [(name, value) for name, value in self.headers.items() if name.lower() not in ours]
        replaced = {name.lower() for name, _ in given}
        kept = [(name, value) for name, value in headers.items() if name.lower() not in replaced]
        return (*kept, *given)

    def best_format(self, capabilities: Capabilities) -> str:
        """Return what to ask the service for: the wanted format where it has that."""
        return self.format if self.format in capabilities.formats else capabilities.formats[0]


class StreamReader(Protocol):
    """One text's sound out of a reply that is still coming: without I/O, used by one thread.

    `sample_rate` (Hz) holds from the first sound on; the sound is signed 16-bit little-endian,
    mono, in whole samples.
    """

    request: WireRequest
    sample_rate: int

    def accept(self, status: int, headers: Mapping[str, str]) -> bool:
        """Return whether what follows this head is a stream of sound; if not, the reply is read
        whole and given to `refuse`. Of a gRPC call, its status joins `headers` before `end`."""
        ...

    def refuse(self, reply: Reply) -> CosyError:
        """Return the error that a whole reply means, which is not a stream of sound."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Take in the next bytes (of gRPC: the next message; of a conversation: audio); return
        the sound that they complete, maybe none. Raises CosyError."""
        ...

    def end(self) -> bytes:
        """Note that the reply ended as it should; return the sound still held. Raises CosyError
        when the sound is not whole."""
        ...


class Wire(Protocol):
    """One protocol spoken with one endpoint. Any number of threads may share it."""

    @property
    def name(self) -> str:
        """Return the name that the registry knows it by."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """Return what it can do."""
        ...

    def exchange(
        self, texts: Sequence[str], send: Send, request_id: str
    ) -> list[Payload | CosyError]:
        """Ask for these texts; return one payload or error per text, in their order.

        Raises CosyError when the reply as a whole is of no use, InvalidTextError for a text that
        cannot be encoded.
        """
        ...

    def splits(self, error: ServerError) -> bool:
        """Return whether one text may be to blame for the refusal of the whole call."""
        ...

    def listen(self, text: str, send: Send, request_id: str) -> StreamReader:
        """Return what asks for one text and reads its sound as it comes; only where the wire's
        capabilities have streaming. `send` is for what must be asked before. Raises CosyError."""
        ...


class DuplexWire(Wire, Protocol):
    """A wire whose capabilities have duplex."""

    def listen_to(self, source: TextSource, send: Send, request_id: str) -> StreamReader:
        """Do as `listen` for a text that comes in pieces."""
        ...


class HttpWire:
    """A wire of one request and one whole reply for each call."""

    def encode(self, texts: Sequence[str], request_id: str) -> Request:
        """Build the request for these texts. Raises InvalidTextError for one not encodable."""
        raise NotImplementedError

    def decode(self, reply: Reply, texts: Sequence[str]) -> list[Payload | CosyError]:
        """Return one payload or error per text, in their order.

        The texts are only counted, and blanked out of what the service says, so that no error
        and no log shows them. Raises CosyError when the whole reply is of no use.
        """
        raise NotImplementedError

    def exchange(
        self, texts: Sequence[str], send: Send, request_id: str
    ) -> list[Payload | CosyError]:
        """Ask for these texts; see Wire."""
        return self.decode(send(self.encode(texts, request_id)), texts)

    def splits(self, error: ServerError) -> bool:
        """Return whether one text may be to blame: with one text a call that is never in doubt."""
        return False

    def listen(self, text: str, send: Send, request_id: str) -> StreamReader:
        """Refuse: this wire does not stream."""
        raise ConfigError(f"stream: the wire {type(self).__name__} sends whole replies only")
