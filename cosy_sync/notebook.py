"""How sounds and outcomes look in a notebook: tables with players, errors in red."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

from .errors import ConfigError
from .joining import as_wav
from .models import Audio, Outcome

__all__ = ["show_outcomes", "show_player", "show_segments"]

# Bytes of sound that one table holds at most: a notebook keeps them all in its file.
_MOST_BYTES = 20_000_000
# Bytes of samples that MP3 makes small enough for that.
_MOST_SAMPLES = 6 * _MOST_BYTES
# Rows of one table, and players of the segments of a whole that has one already.
_MOST_ROWS = 200
_MOST_PLAYERS = 50
# Characters of a text that are shown.
_MOST_CHARS = 200
_MEDIA_TYPES = {"opus": "audio/ogg", "ogg": "audio/ogg", "mp3": "audio/mpeg"}
_CELL = "text-align:left;vertical-align:middle"


def show_player(audio: Audio) -> str:
    """Return a player with the sound in it, compressed where soundfile is installed."""
    if audio.pcm_size > _MOST_SAMPLES:
        return f"({audio.duration / 60:.0f} minutes of sound: too much for a notebook; save it)"
    # A browser's player counts whole seconds: 0.9 s would be 0:00.
    return f"{_player(*_embed(audio))} {_length(audio.duration)}"


def show_outcomes(outcomes: Sequence[Outcome]) -> str:
    """Return a table: number, id if there are any, text, and the player with its length, or the
    error."""
    left = _MOST_BYTES
    rows = []
    named = any(outcome.id is not None for outcome in outcomes[:_MOST_ROWS])
    for outcome in outcomes[:_MOST_ROWS]:
        if outcome.audio is None:
            heard = _error(outcome.error)
        else:
            media_type, data = _embed(outcome.audio)
            left -= len(data)
            length = _length(outcome.audio.duration)
            heard = f"{_player(media_type, data)} {length}" if left >= 0 else length
        id = () if not named else ("" if outcome.id is None else _short(str(outcome.id)),)
        rows.append((str(outcome.index), *id, _short(outcome.text), heard))
    return _table(("", *(("id",) if named else ()), "text", "audio"), rows, len(outcomes))


def show_segments(
    audio: Audio | str, rows: Iterable[tuple[float, float, str, Exception | None]]
) -> str:
    """Return a player of the whole, and a table: from when to when, what is said then, and a player
    of it, for as many as there is room for.

    Args:
        audio: The whole, or why there is none.
        rows: Start and end in seconds, text, and the error if it was not spoken.
    """
    given = list(rows)
    whole = f"<p>{html.escape(audio)}</p>" if isinstance(audio, str) else show_player(audio)
    left = _MOST_BYTES - len(whole) * 3 // 4  # as it stands there in base64
    parts = _Parts(audio, left) if isinstance(audio, Audio) and len(given) > 1 else None
    told = []
    for start, end, text, error in given[:_MOST_ROWS]:
        heard = parts.show(start, end) if parts is not None and error is None else ""
        words = _short(text) if error is None else _error(error)
        told.append((_clock(start), _clock(end), words, heard))
    return whole + _table(("from", "to", "text", "audio"), told, len(given))


class _Parts:
    """Players of parts of a sound, beside the one of the whole, while there is room for them."""

    def __init__(self, audio: Audio, most: int) -> None:
        self._audio = audio
        fits = audio.pcm_size <= _MOST_SAMPLES
        self._pcm = audio.pcm() if fits else b""
        # Bytes and players that may still be embedded.
        self._left = most if fits else 0
        self._players = _MOST_PLAYERS

    def show(self, start: float, end: float) -> str:
        """Return the player of what is heard between two times, in seconds."""
        if not self._players or self._left <= 0:
            return ""
        audio = self._audio
        frame = 2 * audio.channels
        first, last = (round(seconds * audio.sample_rate) * frame for seconds in (start, end))
        kind, data = _embed(as_wav([self._pcm[first:last]], audio.sample_rate, audio.channels))
        self._left -= len(data)
        self._players -= 1
        return _player(kind, data) if self._left >= 0 else ""


def _embed(audio: Audio) -> tuple[str, bytes]:
    """Return a sound's media type and its file, as small as can be made here."""
    if audio.format in _MEDIA_TYPES:
        return _MEDIA_TYPES[audio.format], audio.data
    try:
        # MP3: every browser plays it, and knows its length at once.
        return _MEDIA_TYPES["mp3"], audio.as_format("mp3").data
    except ConfigError:  # soundfile is not installed
        return "audio/wav", audio.wav()


def _player(media_type: str, data: bytes) -> str:
    if len(data) > _MOST_BYTES:
        return f"({len(data) / 1e6:.0f} MB of sound: too much for a notebook; save it)"
    sound = base64.b64encode(data).decode("ascii")
    return f'<audio controls preload="metadata" src="data:{media_type};base64,{sound}"></audio>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], total: int) -> str:
    cells = "".join(f'<th style="{_CELL}">{name}</th>' for name in head)
    lines = [f"<tr>{cells}</tr>"]
    for row in rows:
        lines.append("<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in row) + "</tr>")
    more = f"<p>and {total - len(rows):,} more</p>" if total > len(rows) else ""
    return f"<table>{''.join(lines)}</table>{more}"


def _error(error: Exception | None) -> str:
    words = f"{type(error).__name__}: {error}"
    return f'<span style="color:#c00">{html.escape(words)}</span>'


def _short(given: object) -> str:
    text = given if isinstance(given, str) else repr(given)  # an item may be no text
    shown = text if len(text) <= _MOST_CHARS else text[: _MOST_CHARS - 1] + "…"
    return html.escape(shown)


def _length(seconds: float) -> str:
    return f"{seconds:.1f} s"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 2), 60)
    return f"{minutes:.0f}:{rest:05.2f}"
