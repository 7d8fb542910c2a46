"""gRPC channels: their options, and TLS as far as gRPC takes it from a TLS context."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import urlsplit

import grpc

from ..config import ClientConfig, PoolConfig
from ..errors import ConfigError
from ..messages import RpcRequest
from .connect import default_ssl_context
from .request_encoding import USER_AGENT

__all__ = ["make_channel"]

# The largest size that gRPC's options can say, in bytes.
_MOST = (1 << 31) - 1
# Milliseconds between two tries to connect: when to send again, retries and breakers decide.
_LEAST_PAUSE, _MOST_PAUSE = 100, 1_000


def make_channel(request: RpcRequest, config: ClientConfig) -> Any:
    """Make a channel to the request's address; it connects with its first call.

    Raises ConfigError for a TLS setting that gRPC cannot follow.
    """
    parts = urlsplit(request.url)
    options = _options(config)
    target = parts.netloc
    if request.address is not None:
        version = "ipv6:[{}]:{}" if ":" in request.address else "ipv4:{}:{}"
        target = version.format(request.address, parts.port)
        options.append(("grpc.default_authority", parts.netloc))
        options.append(("grpc.ssl_target_name_override", parts.hostname or ""))
    if parts.scheme == "grpc":
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, _credentials(config.pool), options)


def _options(config: ClientConfig) -> list[tuple[str, int | str]]:
    return [
        # Calls then run on their callers' threads alone.
        ("SingleThreadedUnaryStream", 1),
        # Another client's connection, broken or cut, is not ours.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", min(config.limits.max_reply_bytes, _MOST)),
        # The name promises something else: it bounds connecting.
        ("grpc.min_reconnect_backoff_ms", _milliseconds(config.timeouts.connect)),
        ("grpc.initial_reconnect_backoff_ms", _LEAST_PAUSE),
        ("grpc.max_reconnect_backoff_ms", _MOST_PAUSE),
        ("grpc.client_idle_timeout_ms", _milliseconds(config.pool.idle_expiry)),
        ("grpc.enable_retries", 0),
        ("grpc.primary_user_agent", USER_AGENT),
        ("grpc.enable_http_proxy", int(config.pool.trust_env)),
    ]


def _milliseconds(seconds: float) -> int:
    return max(1, min(round(seconds * 1000), _MOST))


def _credentials(pool: PoolConfig) -> Any:
    if pool.ssl_context is None and not pool.verify_tls:
        raise ConfigError(
            "pool.verify_tls: gRPC always checks the server's certificate; give "
            "PoolConfig(ssl_context=ssl.create_default_context(cafile=...)) with its CA"
        )
    context = pool.ssl_context or default_ssl_context(True)
    if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        raise ConfigError(
            "pool.ssl_context: gRPC always checks the server's certificate and its host name; "
            "give a context that does"
        )
    roots = [ssl.DER_cert_to_PEM_cert(der) for der in context.get_ca_certs(binary_form=True)]
    if not roots:
        raise ConfigError(
            "pool.ssl_context: of a context, gRPC takes the certificates of CAs that were loaded "
            "from a file; this one has none: use load_verify_locations(cafile=...)"
        )
    return grpc.ssl_channel_credentials("".join(roots).encode("ascii"))
