"""`cosy-sync warm`: hot texts into a folder or a bucket ahead of time, for a CDN to serve."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from contextlib import suppress

from cosy_sync import StoredOutcome
from cosy_sync.cli.console import Screen, emit
from cosy_sync.cli.exits import CODES, Exit, Stop, because, is_hopeless, words_of
from cosy_sync.cli.heap import give_back_large_blocks
from cosy_sync.cli.options import add_cache, add_lexicon, add_service_options, hasty, make_client
from cosy_sync.cli.silence import Silence
from cosy_sync.cli.source import Source, check_kind, count_lines
from cosy_sync.cli.target import make_folder
from cosy_sync.storage import Boto3Store, LocalStore, ObjectStore, open_store

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  cosy-sync warm texts.txt --to s3://bucket/speech --public-url https://cdn.example.com/speech
  cosy-sync warm texts.txt --to public/speech --voice 中文女

Each line of the file is one text. Its sound gets the key of its digest, such as
5f/5fd9….wav, and never changes: what is there is not spoken again. PLACE/map.json tells the address
of each digest; a program gets the digest of a text by client.digest(text), with the same settings.
"""
_SHOWN_FAILURES = 10
_MAP = "map.json"
_FOREVER = "public, max-age=31536000, immutable"
_FRESH = {"content-type": "application/json", "cache-control": "no-cache"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "warm",
        help="speak hot texts into a folder or a bucket, for a CDN",
        description="Speak what is missing of a list of texts into a folder or a bucket, and list "
        "the addresses.",
        epilog=f"{_EXAMPLES}\n{CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file", metavar="IN", help="a UTF-8 file with a text on each line; - for stdin"
    )
    parser.add_argument(
        "--to", required=True, metavar="PLACE", help="a folder, or s3://bucket/prefix"
    )
    parser.add_argument(
        "--public-url",
        metavar="URL",
        help="under which PLACE can be read; the map holds addresses that begin with it (default: "
        "PLACE itself)",
    )
    parser.add_argument(
        "--cache-control",
        metavar="TEXT",
        default=_FOREVER,
        help=f"the header that a bucket sends with each sound (default: {_FOREVER})",
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--no-progress", action="store_true", help="draw no progress bar")
    add_service_options(parser)
    add_cache(parser)
    add_lexicon(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Speak what is missing; return the exit code. Raises Stop and CosyError."""
    check_kind(args.file, "-")
    give_back_large_blocks()
    silence = Silence()
    store = open_store(args.to, {"cache-control": args.cache_control})
    if isinstance(store, LocalStore):  # or the first texts would be paid for in vain
        if store.path.is_file():
            raise Stop(f"--to: {args.to} is a file; give a directory, or s3://bucket/prefix")
        make_folder(store.path)
    warming = _Warming(args, store)
    bar, total = not args.no_progress, count_lines(args.file)
    with (
        make_client(args, observers=[silence]) as client,
        Screen(bar=bar, total=total, trouble=silence.words) as screen,
    ):
        source = Source.of_file(args.file)
        try:
            for outcome in hasty(client).synth_iter(source, to=store):
                warming.take(outcome, source.next_item().line, screen)
            warming.write_map()
        except OSError as error:
            raise Stop(
                f"{args.to}: {because(error)}; {warming.done} texts are there. To go on, run this "
                "again",
                Exit.FAILED,
            ) from error
    return warming.close()


class _Warming:
    """Counts what is there, and notes where."""

    def __init__(
        self, args: argparse.Namespace, store: LocalStore | ObjectStore | Boto3Store
    ) -> None:
        self._args, self._store = args, store
        self._counts = dict.fromkeys(("spoken", "known", "failed"), 0)
        self._addresses: dict[str, str] = {}

    @property
    def done(self) -> int:
        """Return how many texts have their sound."""
        return self._counts["spoken"] + self._counts["known"]

    def take(self, outcome: StoredOutcome, line: int, screen: Screen) -> None:
        """Note a text. Raises the error that every further text would meet."""
        error = outcome.error
        if error is None:
            assert outcome.digest is not None and outcome.key is not None
            self._counts["spoken" if outcome.created else "known"] += 1
            self._addresses[outcome.digest] = self._address_of(outcome.key)
        else:
            if is_hopeless(error) and not self.done:
                raise error
            self._counts["failed"] += 1
            if self._counts["failed"] <= _SHOWN_FAILURES:
                screen.say(f"cosy-sync: line {line}: {words_of(error)}")
        screen.draw(sum(self._counts.values()))

    def _address_of(self, key: str) -> str:
        if self._args.public_url is not None:
            return f"{self._args.public_url.rstrip('/')}/{key}"
        if isinstance(self._store, LocalStore):
            return self._store.url(key)
        return f"{self._store.address}/{key}"

    def write_map(self) -> None:
        """Add the addresses to those that earlier runs have listed. Raises OSError."""
        if not self._addresses:
            return
        known: Mapping[str, str] = {}
        with suppress(FileNotFoundError, ValueError):
            known = json.loads(self._store.get(_MAP))
        lines = json.dumps({**known, **self._addresses}, indent=0, sort_keys=True)
        self._store.put(_MAP, lines.encode(), _FRESH)

    def close(self) -> int:
        """Tell the end; return the exit code."""
        spoken, known, failed = self._counts.values()
        place = f"{self._args.to.rstrip('/')}/{_MAP}"
        if self._args.json:
            emit(json.dumps({**self._counts, "map": place}))
        else:
            emit(f"{spoken} texts spoken, {known} known, {failed} failed; addresses in {place}")
        return Exit.FAILED if failed else Exit.DONE
