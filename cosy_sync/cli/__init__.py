"""The command `cosy-sync`: its sub-commands, its log, and how errors are told."""

from __future__ import annotations

import argparse
import codecs
import importlib
import io
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cosy_sync import __version__
from cosy_sync.cli.console import drop_output, say
from cosy_sync.cli.exits import CODES, Exit, interruptible, meaning
from cosy_sync.cli.parser import Parser, parse
from cosy_sync.cli.wording import in_options

if TYPE_CHECKING:
    # Never run. What packs a program into one file, such as PyInstaller, finds them by this.
    from cosy_sync.cli import (  # noqa: F401
        bench,
        cache,
        canary,
        demo,
        doctor,
        job,
        narrate,
        serve,
        synth,
        voices,
        warm,
    )

__all__ = ["main"]

_DESCRIPTION = "Speak texts through a CosyVoice service, at the full speed that it allows."
_EPILOG = f"""\
examples:
  cosy-sync demo                               1 000 sentences, with a server of its own
  cosy-sync serve --port 8000                  a stand-in for the service, on this machine
  cosy-sync synth -f sentences.txt -o speech   speak a file, line by line
  cosy-sync narrate book.txt -o book.mp3       a long text in one file, with --srt for subtitles
  cosy-sync job run texts.jsonl --to speech    very many texts, stopped and continued at any time
  cosy-sync doctor --url URL                   why it does not work, and what to do
  cosy-sync voices --url URL                   which voices there are, and who says so
  cosy-sync bench --url URL                    how much a service gives, and what to configure
  cosy-sync cache warm -f texts.txt            speak now what is asked for often later
  cosy-sync canary                             how a new model fares, and to roll it back by hand
  cosy-sync warm texts.txt --to s3://bucket    the same for a CDN, with a map of addresses
  cosy-sync COMMAND --help                     everything about a command

COSY_SYNC_URL, COSY_SYNC_API_KEY and the other COSY_SYNC_* variables set what no option does.

{CODES}"""
_COMMANDS = (
    *("synth", "narrate", "job", "voices", "doctor"),
    *("serve", "demo", "bench", "cache", "warm", "canary"),
)
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code.

    Raises SystemExit, as argparse does, for --help, --version and options that do not exist.
    """
    given = sys.argv[1:] if argv is None else argv
    _write_anything(sys.stdout)
    verbose = False
    try:
        parser = _parser(given)
        args = parse(parser, given, _COMMANDS)
        if args.run is None:
            parser.print_help(sys.stderr)
            return Exit.USAGE
        verbose = args.verbose > 0
        with _log_on_stderr(args.verbose), _plain_warnings(), interruptible():
            code: int = args.run(args)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        drop_output()
        return Exit.FAILED
    except (Exception, KeyboardInterrupt) as error:
        return _told(error, verbose=verbose)


def _write_anything(stream: object) -> None:
    """Let a stream of another encoding escape the characters that it lacks, as stderr does."""
    if not isinstance(stream, io.TextIOWrapper):
        return
    # In the locale C without Python's UTF-8 mode, only the bytes of odd file names would go out.
    plain = codecs.lookup(stream.encoding).name == "ascii"
    if stream.errors == "strict" or (plain and stream.errors == "surrogateescape"):
        stream.reconfigure(errors="backslashreplace")


def _parser(given: Sequence[str]) -> Parser:
    parser = Parser(
        prog="cosy-sync",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cosy-sync {__version__}")
    parser.set_defaults(run=None)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in _wanted(given):
        importlib.import_module(f"{__name__}.{command}").add_parser(subparsers)
    _add_verbose(parser, 0)
    for each in subparsers.choices.values():
        # Without a default of its own, or it would undo a -v before the command.
        _add_verbose(each, argparse.SUPPRESS)
    return parser


def _wanted(given: Sequence[str]) -> Sequence[str]:
    """Return the command that was named; all of them if none was, for the help."""
    # The others stay unloaded: `synth` needs no server, and starts in half the time.
    first = next((word for word in given if not word.startswith("-")), None)
    return [first] if first in _COMMANDS else _COMMANDS


def _add_verbose(parser: argparse.ArgumentParser, default: int | str) -> None:
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=default,
        help="show the library's log on stderr, and where an error comes from; -vv shows more",
    )


@contextmanager
def _log_on_stderr(verbose: int) -> Iterator[None]:
    """Show the library's log while a command runs, from -v on."""
    if not verbose or sys.stderr is None:
        yield
        return
    log = logging.StreamHandler()
    log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("cosy_sync")
    before = logger.level
    logger.addHandler(log)
    logger.setLevel(_LEVELS[min(verbose, len(_LEVELS) - 1)])
    try:
        yield
    finally:
        logger.removeHandler(log)
        logger.setLevel(before)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show the library's warnings as one line each, without a place in its code."""
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if category is UserWarning:
            say(f"cosy-sync: warning: {in_options(str(message))}")
        else:
            before(message, category, *place, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def _told(error: BaseException, *, verbose: bool) -> int:
    """Tell an error in one line, with -v also its way; return the exit code."""
    if verbose:
        say("".join(traceback.format_exception(error)).rstrip())
    code, words = meaning(error)
    say(f"cosy-sync: {words}" if code == Exit.INTERRUPTED else f"cosy-sync: error: {words}")
    return code
