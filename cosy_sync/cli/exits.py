"""How a command ends: its exit codes, and the error that ends it with one of them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from cosy_sync import (
    AuthError,
    BillingError,
    ConfigError,
    ConnectError,
    CosyError,
    DeadlineError,
    InvalidTextError,
    RefusedError,
    ServerError,
    TextError,
)
from cosy_sync.cli.wording import in_options

__all__ = [
    "CODES",
    "Exit",
    "Stop",
    "because",
    "code_for",
    "interruptible",
    "is_hopeless",
    "meaning",
    "refuses_key",
    "uninterrupted",
    "was_tried",
    "words_of",
]

# Where a deadline ran out after the text was sent, and on the way there.
# Signals that tell a command to end; Windows has no SIGHUP.
_ENDS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_WAITS = ("waiting for the service", "waiting for room")
_UNSENT = ("(connect)", "(dns)", "(handshake)", "(pool)", "(proxy)", "(tls)")
# Answers of a web server that has no speech service at this address.
_NO_SERVICE = (301, 302, 303, 307, 308, 404, 405)


class Exit(IntEnum):
    """Exit codes."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    INTERRUPTED = 130


CODES = """\
exit codes:
  0    all done
  1    some texts failed, or the work ended half way
  2    wrong usage or configuration; nothing was done
  3    the service could not be reached, or refused the key
  130  interrupted (Ctrl-C, SIGTERM, or the terminal was closed)
"""


class Stop(Exception):
    """Ends a command: a message for its user, and the exit code."""

    def __init__(self, message: str, code: int = Exit.USAGE) -> None:
        super().__init__(message)
        self.code = code


def code_for(error: CosyError) -> int:
    """Return the exit code that an error of the library leads to."""
    if isinstance(error, ConfigError):
        # A service that was asked for a setting, as wire="auto" does, and could not be reached.
        cause = error.__cause__
        return code_for(cause) if isinstance(cause, CosyError) else Exit.USAGE
    return Exit.UNREACHABLE if is_hopeless(error) else Exit.FAILED


def refuses_key(error: CosyError) -> bool:
    """Tell whether the service does not want to work for this key, or this key may not do so."""
    return isinstance(error, (AuthError, BillingError))


def is_hopeless(error: CosyError) -> bool:
    """Tell whether no text will fare better: no service there, or it refuses the key."""
    if refuses_key(error):
        return True
    if isinstance(error, ServerError) and not isinstance(error, TextError):
        return error.status in _NO_SERVICE
    return _was_unreachable(error)


def _was_unreachable(error: CosyError) -> bool:
    # Time that ran out and refusals of our own are no attempts.
    own = (DeadlineError, RefusedError)
    tries = [each for each in (*error.attempts, error) if not isinstance(each, own)]
    return bool(tries) and all(isinstance(each, ConnectError) for each in tries)


def was_tried(error: CosyError) -> bool:
    """Tell whether a text may have reached the service, or can never be sent as it is."""
    tries = [*error.attempts, error]
    return isinstance(error, InvalidTextError) or any(map(_is_attempt, tries))


def _is_attempt(error: CosyError) -> bool:
    if isinstance(error, DeadlineError):
        # Its class cannot know: the time may have run out before anything was sent.
        phase = error.phase or ""
        return phase.startswith(_WAITS) and not phase.endswith(_UNSENT)
    return error.sent


def because(error: OSError) -> str:
    """Say what the system refused, without the number and the path."""
    return error.strerror or str(error) or type(error).__name__


def words_of(error: CosyError) -> str:
    """Say what happened, at which endpoint, and what failed before we sent nothing more."""
    words = in_options(error.message)
    if error.endpoint is not None and error.endpoint not in words:
        words += f" [{error.endpoint}]"
    tries = [each for each in error.attempts if not isinstance(each, RefusedError)]
    if isinstance(error, RefusedError) and tries:
        words += f"; before: {in_options(tries[-1].message)}"
    return words


def meaning(error: BaseException) -> tuple[int, str]:
    """Return the exit code of an error that ends a command, and what to tell its user."""
    if isinstance(error, Stop):
        return error.code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED, "interrupted"
    if isinstance(error, CosyError):
        return code_for(error), words_of(error)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return Exit.USAGE, f"{place}{because(error)}"
    words = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Exit.FAILED, f"{words} (unforeseen: -v shows where it comes from)"


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command like Ctrl-C: what is finished is kept and told of, and
    no half a file is left. One that somebody ignores or handles, as nohup does, stays so."""
    ours = threading.current_thread() is threading.main_thread()
    ends = [each for each in _ENDS if ours and signal.getsignal(each) is signal.SIG_DFL]
    for number in ends:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in ends:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until what has begun is finished: a file must not be written uncounted."""
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDS)}
    # None: somebody else's, in C, which could not be put back. An ignored one stays ignored.
    left = (None, signal.SIG_IGN)
    held = {number: handler for number, handler in before.items() if handler not in left}
    for number in held:
        signal.signal(number, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    if pressed:
        raise KeyboardInterrupt
