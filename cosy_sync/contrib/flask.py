"""Speech for Flask: `speech = CosySync(app)`, and `speech.synth(...)` in its views."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import click
from flask import Flask, Response, current_app, jsonify, request
from flask.cli import AppGroup

from cosy_sync import Audio, CosyClient, CosyError, SpeechStream

from ..forks import notice_fork, renew_after_fork
from ..given_texts import Item
from ..loading import FIRST_TEXT, load
from .checking import check_client
from .plain_settings import from_names
from .replies import CACHE_CONTROL, Reply, StreamedSound, audio_reply
from .statuses import error_reply

__all__ = ["AppSpeech", "CosySync", "audio_response", "health", "streaming_response"]

# Guards: _made of every application.
_lock = threading.Lock()


class CosySync:
    """The extension. Its settings are COSY_SYNC_* names of the application's config.

    Args:
        app: The application; or call `init_app` later, also for several.
        make_client: Makes the client in place of CosyClient, given its keywords: in tests
            `cosy_sync.contrib.fakes.FakeClient`.
    """

    def __init__(
        self, app: Flask | None = None, make_client: Callable[..., CosyClient] = CosyClient
    ) -> None:
        self._make_client = make_client
        if app:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Check the config, and let the application answer errors of texts with a status.

        Makes no client and opens no connection: the first text does. Raises ConfigError.
        """
        load("cosy_sync.core", *FIRST_TEXT)
        app.extensions["cosy_sync"] = AppSpeech(from_names(app.config), self._make_client)
        app.register_error_handler(CosyError, _answer)
        app.cli.add_command(_commands)

    @property
    def client(self) -> CosyClient:
        """Return the current application's client; the first use makes it."""
        state: AppSpeech = current_app.extensions["cosy_sync"]
        return state.client

    def synth(self, text: str, **settings: Any) -> Audio:
        """Speak one text."""
        return self.client.synth(text, **settings)

    def synth_many(self, texts: Iterable[Item], **settings: Any) -> Any:
        """Speak several texts; see CosyClient.synth_many."""
        return self.client.synth_many(texts, **settings)


class AppSpeech:
    """What `app.extensions["cosy_sync"]` is: its client, made at the first use."""

    def __init__(self, arguments: dict[str, Any], make_client: Callable[..., CosyClient]) -> None:
        self._arguments, self._make_client = arguments, make_client
        self._made: CosyClient | None = None

    @property
    def used(self) -> CosyClient | None:
        """Return the client, if there is one yet."""
        return self._made

    @property
    def client(self) -> CosyClient:
        """Return the client; anew once it was closed."""
        known = self._made
        if known is not None and not known.closed:
            return known
        notice_fork()
        made = self._make_client(**self._arguments)  # it may ask the service: outside the lock
        with _lock:
            known = self._made
            if known is None or known.closed:
                known = self._made = made
        if known is not made:
            made.close(0.0)
        return known


def audio_response(audio: Audio, *, cache_control: str = CACHE_CONTROL) -> Response:
    """Return a response with a sound, or what was asked for of it; 304 where it is known."""
    return _response(audio_reply(audio, request.method, dict(request.headers), cache_control))


def streaming_response(stream: SpeechStream) -> Response:
    """Return a response that plays while its text is still being spoken: a WAV file without end."""
    sound = StreamedSound(stream, request.method)
    return Response(sound, content_type=sound.content_type, headers={"Cache-Control": "no-store"})


def health() -> Any:
    """Tell how this process's client is, and send nothing: 503 where every breaker is open."""
    client = current_app.extensions["cosy_sync"].used
    states = {} if client is None or client.closed else dict(client.stats().breakers)
    well = not states or set(states.values()) != {"open"}
    reply = jsonify(ok=well, used=client is not None, breakers=states)
    return reply, 200 if well else 503, {"Cache-Control": "no-store"}


def _response(reply: Reply) -> Response:
    response = Response(reply.body, status=reply.status)
    del response.headers["Content-Type"]  # HTML, where there is nothing
    response.headers.update(reply.headers)  # afterwards: of HEAD, the length is not the body's
    return response


def _answer(error: CosyError) -> Response:
    reply = error_reply(error)
    if reply is None:
        raise error
    return _response(reply)


_commands = AppGroup("cosy", help="Speech.")


@_commands.command("check")
@click.option("--text", default="你好，世界。", help="What to speak.")
def _check(text: str) -> None:
    """Speak one text; ends with 1 where that fails."""
    if not check_client("cosy_sync", current_app.extensions["cosy_sync"].client, click.echo, text):
        raise SystemExit(1)


def _renew() -> None:
    # Another thread may have held the lock when the process forked.
    global _lock
    _lock = threading.Lock()


renew_after_fork(_renew)
