"""What the wire of a client's endpoints makes of its settings, and what it cannot do."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from .audio import load_recording
from .audio.formats import CODECS, check_encoder
from .config import BatchConfig, ClientConfig, Endpoint, PoolConfig
from .effects import warn_user, warn_without_effect
from .errors import ConfigError
from .wires import (
    Capabilities,
    SpeechOptions,
    Wire,
    capabilities_of,
    create_wire,
    streaming_wires,
)

__all__ = ["WireRules", "make_wire"]


def make_wire(endpoint: Endpoint, config: ClientConfig) -> Wire:
    """Return an endpoint's wire for a configuration. Raises ConfigError."""
    return create_wire(config.wire, endpoint.url, SpeechOptions.from_config(config))


class WireRules:
    """Settles configurations: those of a client, of its views and of single calls.

    Args:
        endpoints: As they were given; their limits are completed by what is usual at the wire.
        config: The client's settings.
        over_http_client: Whether requests go over an httpx.Client of the caller's.

    Raises ConfigError for what the wire cannot do.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], config: ClientConfig, *, over_http_client: bool
    ) -> None:
        config = _with_recording(config)
        wires = [make_wire(endpoint, config) for endpoint in endpoints]
        self.capabilities = [wire.capabilities for wire in wires]
        self._over_http_client = over_http_client
        if any("grpc" in can.schemes for can in self.capabilities):
            _refuse_gevent(config.wire)
        if over_http_client and not all("http" in can.schemes for can in self.capabilities):
            # Else what was meant to be mocked, or to go through hooks, would go out past it.
            raise ConfigError(
                f"http_client: the wire {config.wire!r} does not go over httpx; leave it out"
            )
        self.endpoints = [
            endpoint.settled(can.max_connections, can.rate)
            for endpoint, can in zip(endpoints, self.capabilities, strict=True)
        ]

    def warn(self, config: ClientConfig, before: ClientConfig) -> None:
        """Give a UserWarning for each option that does nothing here, or makes TLS unsafe, and was
        not there before."""
        can, pool = self.capabilities, config.pool
        if before.pool.verify_tls and not (
            self._over_http_client or pool.verify_tls or pool.ssl_context
        ):
            warn_user(
                "verify_tls=False: anybody on the way can listen and answer in the service's place"
            )
        warn_without_effect(
            config, before, self.endpoints, can, over_http_client=self._over_http_client
        )

    def settle(self, config: ClientConfig) -> ClientConfig:
        """Return a view's settings with what they leave to the wire.

        What the wire cannot do is refused here, not at the first text. Raises ConfigError.
        """
        config = _with_recording(config)
        if config.format in CODECS:
            check_encoder(config.format, config.quality, config.sample_rate)
        wires = [make_wire(endpoint, config) for endpoint in self.endpoints]
        most = min(wire.capabilities.max_texts_per_call for wire in wires)
        batch, pool = config.batch, config.pool
        if batch.max_texts > most:
            if batch.max_texts != BatchConfig.max_texts:
                texts = "1 text" if most == 1 else f"at most {most} texts"
                raise ConfigError(f"batch_size: the wire {config.wire!r} takes {texts} a call")
            batch = dataclasses.replace(batch, max_texts=most)
        bounds = [wire.capabilities.max_text_chars for wire in wires]
        longest = min((bound for bound in bounds if bound is not None), default=None)
        if longest is not None and batch.max_text_chars > longest:
            if batch.max_text_chars != BatchConfig.max_text_chars:
                raise ConfigError(
                    f"max_text_chars: the wire {config.wire!r} takes {longest} characters a text; "
                    "split longer ones"
                )
            batch = dataclasses.replace(batch, max_text_chars=longest)
        if pool.idle_expiry == PoolConfig.idle_expiry:
            expiry = min(can.idle_expiry for can in self.capabilities)
            pool = dataclasses.replace(pool, idle_expiry=expiry)
        return dataclasses.replace(config, batch=batch, pool=pool)

    def check_streaming(self, config: ClientConfig) -> None:
        """Raise ConfigError where the wire cannot stream; it says which wires can."""
        if not all(can.streaming for can in self.capabilities):
            able = streaming_wires()
            where = f"{config.wire!r} " + ("at this URL " if config.wire in able else "")
            others = ", ".join(able) or "none of those that are installed"
            own = {can.stream_advice for can in self.capabilities} - {""}
            advice = own.pop() if own else f"use synth, or a wire that can stream: {others}"
            raise ConfigError(f"stream: the wire {where}sends whole replies only; {advice}")

    def check_duplex(self, config: ClientConfig) -> None:
        """Raise ConfigError where the wire takes no text in pieces, or they cannot be prepared."""
        if config.prepare:
            raise ConfigError(
                "stream: prepare= works on whole texts, and these are pieces of one, which may end "
                "within a number: prepare them yourself, and write stream(pieces, prepare=None)"
            )
        if not all(can.duplex for can in self.capabilities):
            raise ConfigError(
                f"stream: the wire {config.wire!r} takes whole texts only; join the pieces, or use "
                "a service with a wire that takes them as they come: dashscope_ws"
            )


def _refuse_gevent(wire: str) -> None:
    """Raise ConfigError where gRPC's calls would stop all greenlets: they wait in C, unpatched."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("socket"):
        raise ConfigError(
            f"wire: {wire!r} blocks gevent's hub: while one call waits, no other greenlet runs; "
            "use an HTTP address, such as with wire='runtime_http', or workers that are threads"
        )


def _with_recording(config: ClientConfig) -> ClientConfig:
    """Read the voice's reference, once for each Voice, so that wires only meet a Recording.

    Raises ConfigError.
    """
    voice = config.voice
    if voice is None or voice.reference is None:
        return config
    can = capabilities_of(config.wire)
    if can is not None and "reference" not in can.voices:
        return config  # the wire is about to refuse it
    rates = Capabilities.reference_rates if can is None else can.reference_rates
    whole = voice.transcript is not None
    recording = voice.read_once(
        rates, lambda: load_recording(voice.reference, rates=rates, whole=whole)
    )
    if recording is voice.reference:
        return config
    return dataclasses.replace(config, voice=dataclasses.replace(voice, reference=recording))
