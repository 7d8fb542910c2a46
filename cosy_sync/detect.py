"""Which wire an endpoint speaks, for `wire="auto"`: by its URL, else by asking it."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .config import ClientConfig, Endpoint
from .errors import AuthError, ConfigError, ConnectError, CosyError
from .loading import load
from .logs import logger
from .messages import Reply, Request
from .wires import known_wires

if TYPE_CHECKING:
    from .net import HttpClient, Sender

__all__ = ["detect_wire", "wire_of_url"]

_SCHEMES = {
    "ws": "dashscope_ws",
    "wss": "dashscope_ws",
    "grpc": "runtime_grpc",
    "grpcs": "runtime_grpc",
}
_HOSTS = (
    (re.compile(r"dashscope[\w-]*\.aliyuncs\.com|.+\.maas\.aliyuncs\.com"), "dashscope_http"),
    (re.compile(r".+\.pai-eas\.aliyuncs\.com"), "pai_eas"),
    (re.compile(r"api\.siliconflow\.\w+"), "openai"),
)
# A model of a Triton server, over HTTP and gRPC alike.
_TRITON = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?(/infer)?$")
# Ends of a path, those of what stands in a service's own description among them.
_PATHS = (
    (re.compile(r"/(inference_\w+|api/inference(/[\w-]+)?)$"), "runtime_http"),
    (re.compile(r"/tts/SpeechSynthesizer$"), "dashscope_http"),
    (re.compile(r"/audio/speech(/batch)?$"), "openai"),
    (_TRITON, "triton"),
    (re.compile(r"/batch$"), "batch"),
)

# Seconds that asking one endpoint may take, and bytes of an answer.
_SECONDS = 3.0
_MAX_BYTES = 4 << 20


def wire_of_url(url: str) -> str | None:
    """Return the wire that a URL gives away; None where it could be any."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if parts.scheme in _SCHEMES:
        named = parts.scheme.startswith("grpc") and _TRITON.search(path)
        return "triton" if named else _SCHEMES[parts.scheme]
    for host, wire in _HOSTS:
        if host.fullmatch(parts.hostname or ""):
            return wire
    return _wire_of_path(path) or ("openai" if path.endswith("/v1") else None)


def detect_wire(
    endpoints: Sequence[Endpoint], config: ClientConfig, http_client: HttpClient | None
) -> str:
    """Return the wire that all endpoints speak, and log what it was told by.

    Waits for those whose URL does not give it away, at most 3 s each. Raises ConfigError with what
    was tried where nothing fits, and where endpoints differ.
    """
    found: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        sender: Sender | None = None
        for endpoint in endpoints:
            wire, why = wire_of_url(endpoint.url), "its URL"
            if wire is None:
                if sender is None:
                    sender = _sender(config, http_client)
                    stack.callback(sender.close)
                wire, why = _ask(endpoint, config, sender)
            logger.info("%s speaks the wire %s, by %s", endpoint.label, wire, why)
            found[endpoint.label] = wire
    if len(set(found.values())) > 1:
        told = ", ".join(f"{label} speaks {wire}" for label, wire in found.items())
        raise ConfigError(f"wire: a client speaks one, but {told}; make a client for each")
    return next(iter(found.values()))


def _sender(config: ClientConfig, http_client: HttpClient | None) -> Sender:
    load("cosy_sync.net", "encodings.idna")
    from .net import provide_sender

    return provide_sender(config, http_client, forked=False)


def _ask(endpoint: Endpoint, config: ClientConfig, sender: Sender) -> tuple[str, str]:
    """Return the wire, and what told it. Raises ConfigError, whose cause is why nobody answered."""
    until = time.monotonic() + _SECONDS
    parts = urlsplit(endpoint.url)
    tried: list[str] = []
    unanswered: list[CosyError] = []
    refused: CosyError | None = None
    advice = ""
    for tail, read in (("/openapi.json", _described), ("/v1/models", _listed)):
        path = parts.path.rstrip("/") + tail
        url = parts._replace(path=path, fragment="").geturl()
        request = Request(url, _headers(config), b"", method="GET")
        try:
            reply = sender.post(request, until - time.monotonic(), _MAX_BYTES)
        except CosyError as error:
            # What to do comes behind the first semicolon of a message, and of ours.
            what, _, todo = error.message.partition("; ")
            tried.append(f"GET {path}: {what}")
            unanswered.append(error)
            if isinstance(error, ConnectError):
                advice = todo and f"{todo}{' ' if todo.endswith('?') else '; '}"
                break
            continue
        wire = read(_json(reply)) if reply.status == 200 else None
        if wire is not None:
            return wire, f"GET {path}"
        if reply.status in (401, 403):
            refused = AuthError(f"HTTP {reply.status}", status=reply.status)
        notes = {200: ", with nothing known in it", 401: ", check api_key", 403: ", check api_key"}
        tried.append(f"GET {path}: HTTP {reply.status}{notes.get(reply.status, '')}")
    raise ConfigError(
        f"wire: nothing tells what {endpoint.label} speaks ({', and '.join(tried)}); "
        f"{advice}give its name, one of {', '.join(known_wires())}, and check the URL"
    ) from (refused or (unanswered[0] if len(unanswered) == len(tried) else None))


def _headers(config: ClientConfig) -> tuple[tuple[str, str], ...]:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    if config.api_key is not None:
        headers["Authorization"] = f"Bearer {config.api_key}"
    given = {name.lower() for name in config.headers}
    kept = [(name, value) for name, value in headers.items() if name.lower() not in given]
    return (*kept, *config.headers.items())


def _json(reply: Reply) -> dict[str, Any]:
    try:
        value = json.loads(bytes(reply.body))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _described(value: dict[str, Any]) -> str | None:
    """Return the wire of a service that describes its paths, as those made with FastAPI do."""
    paths = value.get("paths")
    if not isinstance(paths, dict):
        return None
    # The runtime of 2024 is asked at another address than its root, which the user must give.
    found = {_wire_of_path(path) for path in paths if not path.startswith("/api/inference")}
    return next((wire for _, wire in _PATHS if wire in found), None)


def _listed(value: dict[str, Any]) -> str | None:
    """Return the wire of a service that lists its models as OpenAI does."""
    return "openai" if isinstance(value.get("data"), list) else None


def _wire_of_path(path: str) -> str | None:
    return next((wire for tail, wire in _PATHS if tail.search(path)), None)
