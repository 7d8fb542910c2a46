"""Pulls the pieces of a text out of the caller's iterable, on a thread of its own."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable
from contextvars import copy_context

from ..errors import CosyError, InvalidTextError
from ..user_code import unexpected

__all__ = ["TextPump"]


class TextPump:
    """A TextSource. The pieces stay, so that a repetition can begin with the first one.

    The thread ends with the iterable, or with the next piece after `stop`. Nothing can wake it
    while the iterable waits; so it is a daemon, and holds nothing of the client's.
    """

    def __init__(self, source: Iterable[str]) -> None:
        self._source = source
        self._stopped = False
        self.pieces: list[str] = []
        self.ended = False
        self.error: CosyError | None = None

    def start(self) -> None:
        """Begin to pull."""
        pull = functools.partial(copy_context().run, self._pull)
        threading.Thread(target=pull, name="cosy-feeder", daemon=True).start()

    def stop(self) -> None:
        """Pull no more: the stream has ended."""
        self._stopped = True

    def _pull(self) -> None:
        try:
            for piece in self._source:
                if self._stopped:
                    break
                self._take(piece)
        except CosyError as error:
            self.error = error
        except BaseException as error:
            self.error = unexpected(error)
        finally:
            self._source = ()  # a generator that nobody else holds is closed with it
            self.ended = True

    def _take(self, piece: object) -> None:
        if not isinstance(piece, str):
            kind = type(piece).__name__
            raise InvalidTextError(f"expected pieces of a text, got {kind}")
        piece = str.__str__(piece)  # its characters: methods of a subclass may do anything
        if piece:
            self.pieces.append(piece)
