"""The wire `dashscope_http`: Alibaba's CosyVoice over HTTP, a link to the sound or a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from ..addresses import is_public, literal
from ..errors import (
    ConfigError,
    CosyError,
    InvalidTextError,
    ServerError,
    TransportError,
    UnavailableError,
)
from ..messages import Payload, Reply, Request
from ..riff import RIFF_NAMES, foreign_name, unreadable
from .base import Capabilities, Send, SpeechOptions
from .dashscope_fields import RATES, speech_fields
from .dashscope_sse import DashscopeStream, audio_of, bad_sound, decoded, output_of, refusal
from .error_bodies import check_end
from .fastjson import dump_json, load_json
from .redaction import without_texts

__all__ = ["DashscopeHttpWire"]

_PORTS = {"http": 80, "https": 443}
_SHOWN = 80
_ALLOW = (
    " and is not followed; if it is your service's own storage, allow it: "
    "pool=PoolConfig(private_links=True)"
)
_BASE = "/api/v1"
_PATH = "/services/audio/tts/SpeechSynthesizer"

_OURS = frozenset(
    {"accept", "accept-encoding", "connection", "content-encoding", "content-length"}
    | {"content-type", "host", "transfer-encoding"}
)
_HEADERS = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
# These change what the service answers: to a task to be asked for later, or to a stream.
_REFUSED = frozenset({"x-dashscope-async", "x-dashscope-sse"})
_STREAMED = (
    ("Accept", "text/event-stream"),
    ("X-DashScope-SSE", "enable"),
    ("X-Accel-Buffering", "no"),
)


class DashscopeHttpWire:
    """Speak Alibaba's HTTP protocol with one endpoint."""

    name = "dashscope_http"
    capabilities = Capabilities(
        max_texts_per_call=1,
        max_text_chars=20_000,
        sample_rates=RATES,
        voices=frozenset({"name", "instruction"}),
        features=frozenset({"model", "speed", "ssml"}),
        streaming=True,
        gzip=False,
        max_connections=3,
        rate=3.0,
    )

    def __init__(self, endpoint_url: str, options: SpeechOptions) -> None:
        self._url = _full_url(endpoint_url)
        self._headers = _fixed_headers(options)
        self._model, self._input = speech_fields(options)
        self._sample_rate = options.sample_rate
        self._private_links = options.private_links

    def __repr__(self) -> str:
        return f"<DashscopeHttpWire {self._url.partition('?')[0]}>"

    def exchange(
        self, texts: Sequence[str], send: Send, request_id: str
    ) -> list[Payload | CosyError]:
        """Ask for one text, and fetch its sound from where the service has put it; see Wire."""
        request = self._request(texts[0], "wav", (("Accept", "application/json"),))
        reply = send(request)
        audio = self._audio(reply, texts)
        data, url = audio.get("data"), audio.get("url")
        if isinstance(data, str) and data:
            return [_checked(decoded(data), "audio/wav")]
        if not isinstance(url, str) or not url:
            raise bad_sound("missing", "neither sound nor a link to it")
        return [_fetched(self._link(url), send)]

    def splits(self, error: ServerError) -> bool:
        """Return False: a call has one text, so that it is never in doubt which is to blame."""
        return False

    def listen(self, text: str, send: Send, request_id: str) -> DashscopeStream:
        """Return what asks for one text and reads its sound as it comes. Raises InvalidTextError"""
        return DashscopeStream(self._request(text, "pcm", _STREAMED), text, self._sample_rate)

    def _request(self, text: str, form: str, headers: tuple[tuple[str, str], ...]) -> Request:
        fields = {**self._input, "text": text, "format": form}
        try:
            body = dump_json({"model": self._model, "input": fields})
        except ValueError:
            raise InvalidTextError(
                "the text holds half a character that UTF-8 cannot carry"
            ) from None
        return Request(self._url, (*headers, *self._headers), body)

    def _link(self, url: str) -> Request:
        """Build the request for the file at a link. Raises BadAudioError for one that is not to be
        followed.

        Where it leads is the service's choice, so that it could make this machine ask others that
        only this machine can reach: it leads to public addresses, or back to the service.
        """
        host, port = _host_and_port(url)
        request = Request(url, (("Accept", "*/*"), ("Accept-Encoding", "identity")), b"")
        request.method, request.foreign = "GET", True
        if self._private_links or (host, port) == _host_and_port(self._url):
            return request
        request.public = True
        address = literal(host)
        if address is not None and not is_public(address):
            raise bad_sound("link", f"a link to {_shown(url)}, which is no public address{_ALLOW}")
        return request

    def _audio(self, reply: Reply, texts: Sequence[str]) -> dict[str, Any]:
        if reply.status != 200:
            raise refusal(reply, texts)
        try:
            value = load_json(reply.body)
        except ValueError:
            raise bad_sound("not_json", f"{len(reply.body)} bytes that are no JSON") from None
        output = output_of(value, reply.status, texts)
        reason = output.get("finish_reason")
        if reason != "stop":
            shown = reason if isinstance(reason, str) and reason.isidentifier() else "none"
            raise bad_sound("unfinished", f"finish_reason {shown[:20]!r} instead of 'stop'")
        return audio_of(output)


def _full_url(url: str) -> str:
    """Return the address of the synthesizer, for those who give only the host or its base."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if path == "":
        path = _BASE + _PATH
    elif path.endswith(_BASE):
        path += _PATH
    else:
        path = parts.path
    return parts._replace(path=path).geturl()


def _fixed_headers(options: SpeechOptions) -> tuple[tuple[str, str], ...]:
    for name in options.headers:
        if name.lower() in _REFUSED:
            raise ConfigError(f"headers: leave out {name}; this wire says itself what it wants")
    return options.headers_with(_HEADERS, _OURS)


def _fetched(request: Request, send: Send) -> Payload:
    """Get the file that a link leads to, with nothing about the caller in the request.

    What the network or the storage fails at is tried once more: the speech is made, and paid.
    """
    host = _shown(request.url)
    try:
        return _read_file(send(request), host)
    except (TransportError, UnavailableError):
        pass
    try:
        return _read_file(send(request), host)
    except TransportError as error:
        raise error.with_details(message=f"the sound at {host}: {error.message}") from error


def _host_and_port(url: str) -> tuple[str, int]:
    """Return where a URL leads. Raises BadAudioError for one that is not to be followed."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
    if not plain or not host or parts.scheme not in _PORTS or "@" in parts.netloc:
        raise bad_sound("link", "a link that is no plain http:// or https:// address")
    return host, port or _PORTS[parts.scheme]


def _shown(url: str) -> str:
    return without_texts(urlsplit(url).netloc, (), _SHOWN)


def _read_file(reply: Reply, host: str) -> Payload:
    if reply.status in (408, 429) or reply.status >= 500:
        raise UnavailableError(
            f"the sound was made, but {host} did not hand it out: HTTP {reply.status}",
            status=reply.status,
        )
    if reply.status != 200:
        raise bad_sound("link", f"a link to it that {host} answers with HTTP {reply.status}")
    check_end(reply)
    return _checked(bytes(reply.body), "audio/wav")


def _checked(data: bytes, media_type: str) -> Payload:
    if data and data[:4] not in RIFF_NAMES:
        name = foreign_name(data, may_be_samples=False)
        if name is not None:
            raise unreadable(name, "not_audio")
        raise bad_sound("not_audio", f"{len(data)} bytes that are no WAV file, as was asked for")
    return Payload(data, media_type)
