"""The wire `batch`: up to 64 texts in one POST, an array of audio back."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from typing import Any

from ..errors import BadAudioError, CosyError, InvalidTextError, ServerError, TextError
from ..messages import Payload, Reply, Request, kind_of
from . import item_errors
from .base import Capabilities, HttpWire, SpeechOptions
from .error_bodies import CUT_SHORT, cut_short, false_success, read_error, text_error
from .fastjson import dump_json, from_base64, load_json
from .long_strings import LARGE_BODY, load_with_views
from .matching import index_of, match_results
from .multipart import Part, split_parts
from .redaction import request_id_of, type_shown, without_texts

__all__ = ["BatchWire"]

_OURS = frozenset(
    {"connection", "content-encoding", "content-length", "host", "transfer-encoding"}
    | {"x-request-id"}
)
_HEADERS = {
    "Accept": "multipart/mixed, application/json;q=0.9",
    "Accept-Encoding": "gzip",
    "Content-Type": "application/json",
}
_GOOD_STATUS = frozenset({"success", "ok", "200", ""})
_BINARY = frozenset({"binary", "8bit", "7bit", "identity", ""})
_AUDIO = frozenset({"audio_data"})
_ENCODINGS = ("content-encoding", "content-transfer-encoding")
_MEDIA_TYPES = {"wav": "audio/wav", "pcm": "audio/pcm"}
# Refusals that are never the fault of a single text of the batch: of the key, the account, the
# address, the proxy, the rate.
_WHOLE = frozenset({401, 402, 404, 407, 408, 429})


class BatchWire(HttpWire):
    """Speak the batch protocol with one endpoint."""

    name = "batch"
    capabilities = Capabilities(max_texts_per_call=64)

    def __init__(
        self, endpoint_url: str, options: SpeechOptions, *, unknown_is_passing: bool = False
    ) -> None:
        """Build it; `unknown_is_passing` as in `text_error`."""
        self._url = endpoint_url
        self._unknown_is_passing = unknown_is_passing
        plain = {} if options.gzip_replies else {"Accept-Encoding": "identity"}
        self._headers = options.headers_with({**_HEADERS, **plain}, _OURS)
        self._after_texts = _fixed_fields(options)
        self._gzip_above = options.gzip_above
        self._media_type = _MEDIA_TYPES[options.format]
        self._halves = options.halve_refused

    def __repr__(self) -> str:
        return f"<BatchWire {self._url.partition('?')[0]}>"

    def encode(self, texts: Sequence[str], request_id: str) -> Request:
        """Build the request for these texts. Raises InvalidTextError for one not encodable."""
        try:
            body = b'{"texts":' + dump_json(list(texts)) + self._after_texts
        except ValueError:
            raise InvalidTextError(
                "a text holds half a character that UTF-8 cannot carry"
            ) from None
        headers = (*self._headers, ("X-Request-Id", request_id))
        if 0 < self._gzip_above <= len(body):
            body = gzip.compress(body, compresslevel=6, mtime=0)
            headers = (*headers, ("Content-Encoding", "gzip"))
        return Request(self._url, headers, body)

    def _refusal(self, reply: Reply, texts: Sequence[str]) -> ServerError:
        error = read_error(reply, texts)
        if reply.status == 404:
            error.message += "; requests go to exactly the URL that was given"
        return error

    def decode(self, reply: Reply, texts: Sequence[str]) -> list[Payload | CosyError]:
        """Return one payload or error per text; the reply's own order does not matter.

        Raises ServerError for a refusal, BadAudioError when the whole reply is of no use.
        """
        if not 200 <= reply.status <= 203:
            raise self._refusal(reply, texts)
        if not reply.body:
            raise _bad("empty", "nothing")
        content_type = reply.headers.get("content-type", "")
        is_json = content_type == "application/json"  # mostly
        kind = content_type if is_json else kind_of(content_type)
        if kind.startswith("multipart/"):
            # Twice as many as texts, so that doubled ones are told apart from chaos.
            parts = split_parts(content_type, reply.body, 2 * len(texts))
            claims = [(_part_index(part), self._read_part(part, reply, texts)) for part in parts]
        elif is_json or _is_json(kind, reply.body):
            claims = self._read_json(reply, texts)
        else:
            error = _bad("not_audio", without_texts(kind, texts, 60) or "an unknown media type")
            # A format stays what it is; a page or plain words may have been an error's.
            raise error.with_details(retryable=not kind.startswith("audio/"))
        if len(claims) == 1 == len(texts) and claims[0][0] in (None, 0):  # most calls
            results = [claims[0][1]]
        else:
            results = match_results(claims, len(texts))
        for index, result in enumerate(results):
            if isinstance(result, Payload) and result.echo:
                results[index] = _check_echo(result, texts[index])
        return results

    def splits(self, error: ServerError) -> bool:
        """Return whether one text may be to blame for the refusal of the whole call."""
        status = error.status or 0
        one = isinstance(error, TextError) or (400 <= status < 500 and status not in _WHOLE)
        return self._halves and one

    def _read_part(self, part: Part, reply: Reply, texts: Sequence[str]) -> Payload | CosyError:
        headers = part.headers
        media_type = headers.get("content-type", self._media_type)
        failed = headers.get("x-status", "").lower() not in _GOOD_STATUS
        if failed or kind_of(media_type) == "application/json":
            return self._part_error(part, failed, reply, texts)
        for name in _ENCODINGS:
            if name in headers and headers[name].lower() not in _BINARY:
                # Bare samples that are really gzip or base64 would be played as noise.
                what = f"a part with a {name.title()} that is not supported"
                return _bad("header", what).with_details(retryable=False)
        if media_type != self._media_type:
            media_type = type_shown(media_type)
        return Payload(part.body, media_type, headers.get("x-text-sha256", ""))

    def _part_error(
        self, part: Part, failed: bool, reply: Reply, texts: Sequence[str]
    ) -> CosyError:
        try:
            said = load_json(part.body)
        except ValueError:
            plain = kind_of(part.headers.get("content-type", "")).startswith("text/")
            said = str(part.body[:1_000], "utf-8", "replace") if plain else None
        if not failed and not (isinstance(said, dict) and said.get("error")):
            return _bad("not_audio", "a part of JSON instead of audio")
        return text_error(said, reply, texts, unknown_is_passing=self._unknown_is_passing)

    def _read_json(
        self, reply: Reply, texts: Sequence[str]
    ) -> list[tuple[int | None, Payload | CosyError]]:
        try:
            large = len(reply.body) >= LARGE_BODY
            value = load_with_views(reply.body, _AUDIO) if large else load_json(reply.body)
        except ValueError:
            raise _bad("not_json", f"{len(reply.body)} bytes that are no JSON") from None
        items = value.get("results") if isinstance(value, dict) else value
        if not items:
            error = false_success(value, reply, texts)
            if error is not None:
                raise error
        if not isinstance(items, list):
            raise _bad("not_audio", "JSON without results")
        if len(items) > 2 * len(texts):
            raise _bad("count", f"{len(items)} results for {len(texts)} texts")
        claims = []
        for item in items:
            index = item.get("index") if isinstance(item, dict) else None
            if index is not None and type(index) is not int:
                index = _odd_index(index)
            claims.append((index, self._read_item(item, reply, texts)))
        return claims

    def _read_item(self, item: Any, reply: Reply, texts: Sequence[str]) -> Payload | CosyError:
        if item is None:
            return TextError(
                "the service returned null for this text; change or drop it",
                blames=item_errors.UNKNOWN,
                request_id=request_id_of(reply.headers),
            )
        if not isinstance(item, dict):
            item = {"audio_data": item}
        status = str(item.get("status") or "")
        if item.get("error") or status.lower() not in _GOOD_STATUS:
            return text_error(item, reply, texts, unknown_is_passing=self._unknown_is_passing)
        sound = item.get("audio_data")
        if sound is None:
            return _bad("missing", "a success without audio_data")
        if item.get("finish_reason") == CUT_SHORT:
            return cut_short()
        media_type, echo = item.get("media_type"), item.get("text_sha256")
        if media_type != self._media_type:
            media_type = type_shown(media_type) if isinstance(media_type, str) else self._media_type
        try:
            if isinstance(sound, (str, memoryview)):
                data = from_base64(sound)
                return Payload(data, media_type, "" if echo is None else str(echo))
        except ValueError:
            pass
        return _bad("base64", "audio that is no valid base64")


def _check_echo(payload: Payload, text: str) -> Payload | BadAudioError:
    """Refuse audio that the service itself says is another text's."""
    if payload.echo.lower() == hashlib.sha256(text.encode()).hexdigest():
        return payload
    return BadAudioError(
        "the service says that this audio speaks another text (X-Text-SHA256, text_sha256); try "
        "again, and look at the service if it stays",
        reason="misplaced",
    )


def _fixed_fields(options: SpeechOptions) -> bytes:
    voice = None if options.voice is None else options.voice.name
    fields: dict[str, Any] = {**options.extra, "voice": voice, "model": options.model}
    fields = {name: value for name, value in fields.items() if value is not None}
    fields |= {
        "format": options.format,
        "sample_rate": options.sample_rate,
        "speed": options.speed,
    }
    return b"," + dump_json(fields)[1:]


def _is_json(kind: str, body: bytes | bytearray | memoryview) -> bool:
    if kind == "application/json" or kind.endswith("+json"):
        return True
    # Simple services forget the media type, or call everything text/plain.
    start = bytes(body[:16]).lstrip()[:1]
    return kind in ("", "text/plain", "application/octet-stream") and start in (b"[", b"{")


def _part_index(part: Part) -> int | None:
    text = part.headers.get("x-index")
    return None if text is None else index_of(text)


def _odd_index(index: Any) -> int:
    if isinstance(index, str):
        raise _bad("index", "an index that is no number")
    return index_of(index)


def _bad(reason: str, what: str) -> BadAudioError:
    return BadAudioError(
        f"expected audio for each text, got {what}; check the URL, the wire and the service",
        reason=reason,
    )
