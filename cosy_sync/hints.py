"""What other clients call our settings, and what to write here instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, NoReturn

from .errors import ConfigError

__all__ = [
    "INSTALL",
    "MOVED",
    "RENAMED",
    "Takers",
    "advice_for",
    "advice_for_group",
    "install_line",
    "is_service_link",
    "refuse_keyword",
    "variable_for",
]


def _table(*rows: tuple[str, str]) -> Mapping[str, str]:
    """Return what is said for each name, given names with spaces between and what is said."""
    return MappingProxyType({name: said for names, said in rows for name in names.split()})


# Other names of a client's own setting.
RENAMED = _table(
    ("timeout request_timeout timeout_s max_time", "deadline"),
    ("token key apikey access_token auth_token bearer bearer_token api_token", "api_key"),
    ("secret password credentials", "api_key"),
    ("speaker spk spk_id speaker_id voice_id voice_name", "voice"),
    ("model_id model_name engine", "model"),
    ("protocol backend provider api", "wire"),
    ("response_format output_format audio_format codec encoding", "format"),
    ("bit_rate bitrate compression_level", "quality"),
    ("samplerate sampling_rate sample_rate_hz sr target_sample_rate", "sample_rate"),
    ("speech_rate speed_factor tempo pace", "speed"),
    ("instructions instruct instruct_text style emotion", "instruction"),
    ("batchsize max_batch_size texts_per_call", "batch_size"),
    ("default_headers extra_headers", "headers"),
    ("extra_body additional_params extra_params params", "extra"),
    ("cache_dir cache_path cache_folder caching use_cache", "cache"),
)

_CONNECTIONS = "write Endpoint(url, max_connections=...) for the requests in flight at an address"
_RATE = "write Endpoint(url, rate=...), in requests per second"
_ADDRESS = "the address is the first argument: CosyClient(url, ...), or a list of several"
_CLONE = "it belongs to the voice: voice=Voice(reference=..., transcript=...)"
_TLS = "write pool=PoolConfig(verify_tls=...)"
_RETRIES = "write retry=RetryConfig(max_retries=...)"
_BACKOFF = "write retry=RetryConfig(base=...), the seconds before the first repetition"
_KEEPALIVE = "write pool=PoolConfig(idle_expiry=...), in seconds"
_GZIP = "write batch=BatchConfig(gzip_above=...), in bytes"
_HEDGING = "write hedge=HedgeConfig(enabled=True)"
_CONNECT = "write timeouts=TimeoutConfig(connect=...), in seconds"

# Names of things that are said in another place; `{0}` stands for the name.
MOVED = _table(
    ("reference reference_audio ref_audio prompt_audio prompt_wav prompt_speech_16k", _CLONE),
    ("speaker_wav transcript prompt_text ref_text reference_text", _CLONE),
    ("threads num_threads workers max_workers num_workers n_jobs parallel", _CONNECTIONS),
    ("concurrency max_concurrency concurrent connections", _CONNECTIONS),
    ("pool_size pool_maxsize pool_connections", _CONNECTIONS),
    ("rps qps rate_limit requests_per_second max_rate", _RATE),
    ("base_url api_base endpoint_url server_url endpoint endpoints urls host port", _ADDRESS),
    ("server address base_http_api_url base_websocket_api_url", _ADDRESS),
    (
        "proxy proxies http_proxy https_proxy",
        "set HTTPS_PROXY, HTTP_PROXY or ALL_PROXY (and NO_PROXY) in the environment, or write "
        "http_client=httpx.Client(proxy=...)",
    ),
    ("cert ca_cert ca_certs ca_bundle client_cert", "write pool=PoolConfig(ssl_context=...)"),
    ("ssl ssl_verify verify_ssl check_hostname insecure", _TLS),
    (
        "auth",
        "write api_key=... for a bearer token, headers={{...}} for another header, or "
        "http_client=httpx.Client(auth=...)",
    ),
    ("retries max_retry num_retries retry_count max_attempts", _RETRIES),
    ("retry_policy retry_config retry_options retry_strategy", _RETRIES),
    ("backoff backoff_factor retry_backoff retry_delay retry_wait retry_interval", _BACKOFF),
    ("keepalive keep_alive keepalive_expiry", _KEEPALIVE),
    ("gzip compress compression", _GZIP),
    ("hedging hedged", _HEDGING),
    ("user_agent", "write headers={{'User-Agent': ...}}"),
    ("connect_timeout", _CONNECT),
    (
        "read_timeout",
        "write deadline=... for all of a text's time, or "
        "timeouts=TimeoutConfig(first_byte=..., idle=...)",
    ),
    (
        "session client transport event_hooks hooks http2 mounts follow_redirects cookies",
        "write http_client=httpx.Client(...)",
    ),
    ("organization project workspace", "write headers={{...}}; the wire's page names it"),
    (
        "volume pitch pitch_rate seed temperature top_p language lang language_type",
        "it is the service's own field: write extra={{{0!r}: ...}}",
    ),
    (
        "language_hints text_frontend stream_format",
        "it is the service's own field: write extra={{{0!r}: ...}}",
    ),
    ("callback callbacks on_done", "it belongs to the call: submit(text, callback=...)"),
    ("on_error within", "it belongs to the call: synth_many(texts, {0}=...)"),
    ("progress progress_bar", "it belongs to the call: synth_many(texts, progress=True)"),
    ("stream streaming", "call stream(text) in place of synth(text)"),
    ("text texts input tts_text", "it belongs to the call: synth(text) or synth_many(texts)"),
    (
        "debug verbose log_level logger logging",
        "use the logger: logging.getLogger('cosy_sync').setLevel(...)",
    ),
)

# What was probably meant by a group of settings that is given as something else.
_GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "verify": "for certificates write pool=PoolConfig(verify_tls=False), for the check of the "
        "audio verify=VerifyConfig(enabled=False)",
        "retry": "write retry=RetryConfig(max_retries=...)",
        "batch": "write batch_size=...",
        "pool": "write pool=PoolConfig(max_connections=...)",
        "timeouts": "write deadline=... for all of a text's time, or timeouts=TimeoutConfig(...)",
        "limits": "write Endpoint(url, max_connections=..., rate=...) for an address, or "
        "limits=LimitConfig(...) for the client",
        "breaker": "write breaker=BreakerConfig(...)",
    }
)


def advice_for_group(name: str, cls: type) -> str:
    """Say what to write for a group of settings that was given as something else."""
    return _GROUPS.get(name, f"write {name}={cls.__name__}(...)")


# -- calls ----------------------------------------------------------------------------------------

# Keywords of one call that another takes.
_OF_CALLS: Mapping[str, str] = MappingProxyType(
    {
        "callback": "submit(text, callback=...)",
        "on_error": "synth_many(texts, on_error=...)",
        "progress": "synth_many(texts, progress=True)",
        "within": "synth_many(texts, within=...)",
    }
)
# What other calls of the kind call these: asyncio.gather, concurrent.futures, tqdm.
_CALL_NAMES = _table(
    ("return_exceptions raise_on_error raise_errors raise_exceptions ignore_errors", "on_error"),
    ("done_callback on_done on_complete callback_fn", "callback"),
    ("progress_bar show_progress tqdm verbose", "progress"),
)
# For on_error of synth_iter, which has no other way.
_OUTCOMES = "leave it out: each text gives an Outcome, with .audio or .error"
_PATH = "save what comes back: audio.save('speech.wav')"
_OUTPUTS = ("path", "file", "filename", "output", "output_path", "out", "save_to", "file_path")
_TEXTS = ("input", "texts", "tts_text", "prompt", "content", "sentence", "text")


class Takers(NamedTuple):
    """Who takes which settings: a single call, a view of a client, and only a whole client; and the
    fields of their groups, each with how it is given."""

    call: frozenset[str]
    view: frozenset[str]
    client: frozenset[str]
    fields: Mapping[str, tuple[str, str]]


def refuse_keyword(call: str, name: str, takers: Takers) -> NoReturn:
    """Raise ConfigError for a keyword that a call does not take; say what was meant, or where it
    belongs.

    Args:
        call: The method's name.
        name: The keyword.
        takers: Who takes which settings.
    """
    setting = RENAMED.get(name, name)
    meant = _CALL_NAMES.get(name, name)
    if name in _OUTPUTS:
        advice = _PATH
    elif name in _TEXTS:
        advice = f"what to speak is its first argument: {call}(...)"
    elif call == "synth_iter" and meant == "on_error":
        advice = _OUTCOMES
    elif meant in _OF_CALLS:
        advice = f"write {_OF_CALLS[meant]}"
    elif setting in takers.call:
        advice = f"write {setting}=..."
        if setting == "deadline" and call in ("synth_many", "narrate"):
            advice += " for each text, or within=... for all together"
    elif setting in takers.client or setting in takers.view:
        advice = _of_client(call, setting, f"{setting}=...", takers)
    elif name in takers.fields:
        advice = _of_client(call, *takers.fields[name], takers)
    else:
        near = difflib.get_close_matches(name, sorted(takers.call), n=1)
        instead = (
            f"did you mean {near[0]}?" if near else f"help(CosyClient.{call}) tells what it takes"
        )
        advice = advice_for(name) or instead
    raise ConfigError(f"{name}: {call} takes no such argument; {advice}")


def _of_client(call: str, setting: str, given: str, takers: Takers) -> str:
    whole = f"it belongs to the client: CosyClient(url, {given})"
    if setting in takers.client:
        return whole
    return f"{whole}, or client.with_options({given}).{call}(...)"


def advice_for(name: str) -> str | None:
    """Say what to write in place of a name that another client has for it; None for any other."""
    if name in RENAMED:
        return f"write {RENAMED[name]}=..."
    return MOVED[name].format(name) if name in MOVED else None


# -- the environment ------------------------------------------------------------------------------

# What some of the advice is as a variable, without its prefix.
_VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        _CONNECTIONS: "endpoint_max_connections",
        _RATE: "endpoint_rate",
        _ADDRESS: "url",
        _TLS: "pool_verify_tls",
        _RETRIES: "retry_max_retries",
        _BACKOFF: "retry_base",
        _KEEPALIVE: "pool_idle_expiry",
        _GZIP: "batch_gzip_above",
        _HEDGING: "hedge_enabled",
        _CONNECT: "timeouts_connect",
    }
)


def variable_for(name: str) -> str | None:
    """Return which variable sets what another client calls so, without its prefix."""
    return RENAMED.get(name) or _VARIABLES.get(MOVED.get(name, ""))


# Variables that Kubernetes and Docker set for a service which bears our name: what they end in,
# and what they hold. https://kubernetes.io/docs/concepts/services-networking/service/
_LINKS = tuple(
    (re.compile(name + r"\Z"), re.compile(value + r"\Z"))
    for name, value in (
        (r".*_SERVICE_HOST", r"[\w.:\[\]-]+"),
        (r".*_SERVICE_PORT(_[A-Z0-9_]+)?", r"\d+"),
        (r".*_PORT", r"(tcp|udp|sctp)://\S+"),
        (r".*_PORT_\d+_(TCP|UDP|SCTP)", r"(tcp|udp|sctp)://\S+"),
        (r".*_PORT_\d+_(TCP|UDP|SCTP)_PROTO", r"(tcp|udp|sctp)"),
        (r".*_PORT_\d+_(TCP|UDP|SCTP)_PORT", r"\d+"),
        (r".*_PORT_\d+_(TCP|UDP|SCTP)_ADDR", r"[\w.:\[\]-]+"),
        (r"COSY_SYNC(_[A-Z0-9_]+)?_NAME", r"/\S+/\S+"),
    )
)


def is_service_link(name: str, value: str) -> bool:
    """Tell whether a variable is not a setting but an address of a service with such a name."""
    return any(named.match(name) and held.match(value) for named, held in _LINKS)


# -- packages -------------------------------------------------------------------------------------

# What our extras bring, as pip takes it. Said in place of the extra's name: pip finds that only
# where we are in the index.
INSTALL: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "audio": ("numpy>=1.24", "soundfile>=0.13", "soxr>=0.4"),
        "grpc": ("grpcio>=1.62",),
        "markdown": ("markdown-it-py>=3",),
        "redis": ("redis>=5.0.1",),
        "server": ("espeakng-loader>=0.2.4", "websockets>=16"),
        "websocket": ("websockets>=16",),
    }
)


def install_line(extra: str) -> str:
    """Return the command that installs what an extra needs."""
    return f"pip install {' '.join(map(repr, INSTALL[extra]))}"
