"""`cosy-sync cache`: what is kept of spoken texts, looked at, emptied or filled ahead."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cosy_sync import Audio, CosyClient, CosyError, DiskCache
from cosy_sync.cache import open_store
from cosy_sync.cache.ports import CacheStore, Entry, MeasuredStore
from cosy_sync.cli.console import Screen, emit
from cosy_sync.cli.exits import CODES, Exit, Stop, because, is_hopeless, words_of
from cosy_sync.cli.options import add_service_options, make_client
from cosy_sync.cli.silence import Silence
from cosy_sync.cli.source import Source, check_kind, count_lines

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  cosy-sync cache stats --cache ~/.cache/cosy           how much there is
  cosy-sync cache warm -f greetings.txt --voice 中文女    speak what is missing, line by line
  cosy-sync cache clear --cache redis://127.0.0.1/0     forget everything

`warm` speaks with the settings of the options and of the COSY_SYNC_* variables: a program finds its
texts if it speaks with the same (see docs/cache.md).
"""
_SHOWN_FAILURES = 10
# Texts after which it is looked whether the cache has them.
_GROUP = 64
# The digest of what is written to try a store.
_TRIAL = "0" * 64


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "cache",
        help="look at a cache of spoken texts, fill it or empty it",
        description="Look at a cache of spoken texts, fill it ahead, or empty it.",
        epilog=f"{_EXAMPLES}\n{CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "action", choices=("stats", "clear", "warm"), help="look at it, empty it, or fill it"
    )
    parser.add_argument(
        "--cache",
        metavar="PLACE",
        help="a folder, or a redis:// URL (default: the variable COSY_SYNC_CACHE)",
    )
    parser.add_argument(
        "-f", "--file", help="of warm: a UTF-8 file with a text on each line; - for stdin"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--no-progress", action="store_true", help="draw no progress bar")
    add_service_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what the options ask for; return the exit code. Raises Stop and CosyError."""
    place = args.cache or os.environ.get("COSY_SYNC_CACHE", "").strip()
    if not place:
        raise Stop("no cache: give --cache PLACE, or set COSY_SYNC_CACHE")
    if place == "memory":
        raise Stop("a cache in memory ends with its program; give a folder or a redis:// URL")
    if (args.file is not None) != (args.action == "warm"):
        raise Stop("-f FILE belongs to warm" if args.file else "warm: give the texts by -f FILE")
    if args.action == "warm":
        return _warm(args, place)
    with _opened(place) as store:
        entries, size = store.usage() if isinstance(store, MeasuredStore) else (0, 0)
        if args.action == "clear":
            store.delete(None)
    verb = "held" if args.action == "stats" else "forgotten"
    words = f"{entries} texts, {size / 1e6:.1f} MB {verb}"
    _tell(args, words, {"entries": entries, "bytes": size})
    return Exit.DONE


@contextmanager
def _opened(place: str) -> Iterator[CacheStore]:
    """Give the store at a place. Raises Stop for what it raises."""
    store = open_store(place)
    try:
        with _reached():
            yield store
    finally:
        if isinstance(store, DiskCache):
            store.close()


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except CosyError:
        raise
    except Exception as error:  # Redis' own errors have no common base with OSError
        why = because(error) if isinstance(error, OSError) else str(error)
        raise Stop(f"cannot reach the cache: {why}", Exit.FAILED) from error


class _Kept:
    """Looks whether the cache has what was spoken: a client goes on without it, and each further
    text would be paid for, and once more later."""

    def __init__(self, client: CosyClient) -> None:
        self._client = client
        self._spoken: set[str] = set()

    def note(self, text: str, audio: Audio) -> None:
        """Note a text. Raises Stop as `look` does."""
        if audio.variant != "fallback":  # what is not a canary's own is not kept for it
            self._spoken.add(self._client.digest(text))
        if len(self._spoken) >= _GROUP:
            self.look()

    def look(self) -> None:
        """Raise Stop if the cache has not got all that was noted."""
        spoken, self._spoken = self._spoken, set()
        with _reached():
            lost = spoken - self._client.cache.known(list(spoken))
        if lost:
            raise Stop(
                f"{len(lost)} of the latest {len(spoken)} texts were spoken, and the cache has not "
                "kept them: look at its disk, its rights, or Redis' memory. To go on, run this "
                "again",
                Exit.FAILED,
            )


def _warm(args: argparse.Namespace, place: str) -> int:
    check_kind(args.file, "-f -")
    # A client goes on without its cache: texts would be paid for, and nothing kept.
    with _opened(place) as store:
        store.put_many([Entry(_TRIAL, b"", 1.0)])
        store.delete([_TRIAL])
    args.cache, silence = place, Silence()
    client = make_client(args, observers=[silence])
    source, counts = Source.of_file(args.file), dict.fromkeys(("spoken", "known", "failed"), 0)
    bar, total = not args.no_progress, count_lines(args.file)
    kept = _Kept(client)
    with client, Screen(bar=bar, total=total, trouble=silence.words) as screen:
        for outcome in client.synth_iter(source):
            item, error = source.next_item(), outcome.error
            if outcome.audio is not None:
                counts["known" if outcome.audio.from_cache else "spoken"] += 1
                kept.note(outcome.text, outcome.audio)
            elif error is not None:
                if is_hopeless(error) and not counts["spoken"]:
                    raise error
                counts["failed"] += 1
                if counts["failed"] <= _SHOWN_FAILURES:
                    screen.say(f"cosy-sync: line {item.line}: {words_of(error)}")
            screen.draw(sum(counts.values()))
        kept.look()
    spoken, known, failed = counts.values()
    _tell(args, f"{spoken} texts spoken, {known} known, {failed} failed", counts)
    return Exit.FAILED if failed else Exit.DONE


def _tell(args: argparse.Namespace, words: str, numbers: dict[str, int]) -> None:
    emit(json.dumps(numbers) if args.json else words)
