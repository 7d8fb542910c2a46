"""A reference recording uploaded once to vLLM-Omni's /v1/audio/voices."""

from __future__ import annotations

import hashlib
import threading

from ..errors import CosyError
from ..messages import Payload, Reply, Request
from ..models import Recording
from .base import Send
from .error_bodies import read_error
from .forms import Form

__all__ = ["UploadedVoice"]

_NEW, _BUSY, _THERE, _NEVER = "new", "busy", "there", "never"
# These say nothing about the upload as such: the key, the rate, the hour.
_NOT_NOW = frozenset({401, 403, 408, 429})
_NO_ROUTE = frozenset({404, 405})


class UploadedVoice:
    """One recording that a server may know by name. Any number of threads may share it."""

    def __init__(
        self,
        url: str,
        recording: Recording,
        transcript: str,
        headers: tuple[tuple[str, str], ...],
    ) -> None:
        self._url = url
        self._recording = recording
        self._transcript = transcript
        self._headers = headers
        said = hashlib.sha256(f"{recording.digest}\n{transcript}".encode())
        self.name = f"cosy-{said.hexdigest()[:32]}"
        # Guards: _state, uploads.
        self._lock = threading.Lock()
        self._state = _NEW
        # How often it was uploaded.
        self.uploads = 0

    def offer(self, send: Send) -> str | None:
        """Return the voice's name at the server, or None where the recording must go along.

        The first to ask uploads it and waits for that; others need not wait: until it is there,
        and where the server takes no uploads, the recording goes with each request. Raises what
        `send` raises, and the service's refusal where that may pass.
        """
        if self._state == _THERE:
            return self.name
        with self._lock:
            if self._state != _NEW:
                return None
            self._state = _BUSY
        state = _NEW
        try:
            state = self._upload(send)
        finally:
            with self._lock:
                self._state = state
                self.uploads += state == _THERE
        return self.name if state == _THERE else None

    def is_lost(self, reply: Reply) -> bool:
        """Return whether a refusal says that the server has forgotten the voice."""
        return reply.status in (400, 404) and self.name.encode() in bytes(reply.body)

    def is_named_in(self, result: Payload | CosyError) -> bool:
        """Return whether a text's error says so, of a reply whose other texts may be served."""
        return isinstance(result, CosyError) and self.name in result.message

    def forget(self, upload: int) -> None:
        """Note that the server lacks the voice; the next one to ask uploads it again.

        Args:
            upload: What `uploads` said when the voice was asked for. Of many texts that learn of
                the same loss, the later ones must not undo the upload that the first one made.
        """
        with self._lock:
            if self._state == _THERE and upload == self.uploads:
                self._state = _NEW

    def _upload(self, send: Send) -> str:
        said = {"consent": "true", "ref_text": self._transcript}
        form = Form("name", said, {"audio_sample": self._recording.wav})
        headers = (*self._headers, ("Content-Type", form.content_type))
        reply = send(Request(self._url, headers, form.body(self.name)))
        if 200 <= reply.status < 300:
            return _THERE
        if reply.status in _NOT_NOW or reply.status >= 500:
            raise read_error(reply)
        if reply.status in _NO_ROUTE:
            return _NEVER
        # Refused because another client has uploaded it, or because this server takes none (409
        # where several processes serve): its list tells.
        listed = send(Request(self._url, self._headers, b"", method="GET"))
        there = listed.status == 200 and self.name.encode() in bytes(listed.body)
        return _THERE if there else _NEVER
