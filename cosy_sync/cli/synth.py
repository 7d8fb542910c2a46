"""`cosy-sync synth`: texts in, a sound file for each out."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from cosy_sync import CosyClient, CosyError, Outcome, text_hash
from cosy_sync.audio.formats import CODECS
from cosy_sync.cli.console import Screen
from cosy_sync.cli.exits import (
    CODES,
    Exit,
    Stop,
    is_hopeless,
    meaning,
    refuses_key,
    uninterrupted,
)
from cosy_sync.cli.heap import give_back_large_blocks
from cosy_sync.cli.options import add_cache, add_lexicon, add_service_options, hasty, make_client
from cosy_sync.cli.reporter import Reporter
from cosy_sync.cli.silence import Silence
from cosy_sync.cli.source import Item, Source, check_kind, count_lines, read_lines
from cosy_sync.cli.target import Naming, Target, check_template, open_target

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  cosy-sync synth --url https://tts.example.com/batch 你好 -o hello.wav
  cosy-sync synth -f sentences.txt -o speech/          one file for each line
  cosy-sync synth -f sentences.txt -o speech/ --format mp3
  echo 你好 | cosy-sync synth -f - -o - | aplay        straight to the loudspeaker
  cosy-sync synth -f big.txt -o out --json > log.jsonl
  cosy-sync synth -o out -- -5度 "text that begins with a dash"

Each line of a file is one text; blank lines are left out. A file of a million lines needs no more
memory than a short one: each sound is written as it comes, whole or not at all. A file of the same
name is never replaced without --overwrite. Texts that fail are listed by their number, their line
and a hash, never by their words.
"""
_DIGITS = 4
_MOST_DIGITS = 9
# Texts that are sent one by one, while each is refused, until the key is to blame.
_TRIED_ALONE = 3


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "synth",
        help="speak texts and write sound files",
        description="Speak texts and write a sound file for each.",
        epilog=f"{_EXAMPLES}\n{CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("text", nargs="*", metavar="TEXT", help="what to speak")
    parser.add_argument("-f", "--file", help="a UTF-8 file with a text on each line; - for stdin")
    parser.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        default=".",
        help="a directory (made if it is missing); for a single text also a file (.wav, .mp3, "
        ".opus, .ogg, .flac or .pcm), or - for stdout (default: this directory)",
    )
    parser.add_argument(
        "--name",
        type=_template,
        metavar="TEMPLATE",
        help="names of the files in a directory, of {index}, {line} and {hash}: for example "
        "'{index:04d}-{hash}' (default: the index, with as many digits as the longest needs)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace recordings of an earlier run"
    )
    parser.add_argument("--json", action="store_true", help="tell of each text as a JSON line")
    parser.add_argument("--no-progress", action="store_true", help="draw no progress bar")
    add_service_options(parser)
    add_cache(parser)
    add_lexicon(parser)
    parser.set_defaults(run=run)


def _template(text: str) -> str:
    try:
        return check_template(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(args: argparse.Namespace) -> int:
    """Speak what the options ask for; return the exit code. Raises Stop and CosyError."""
    _check(args)
    total = len(args.text) if args.file is None else count_lines(args.file)
    give_back_large_blocks()
    silence = Silence()
    ending = Path(args.output).suffix.lower().removeprefix(".")
    if args.format is None and ending in CODECS and not Path(args.output).is_dir():
        args.format = ending
    client = make_client(args, observers=[silence])
    naming = _naming(args, total)
    target = open_target(args.output, naming, args.format or client.config.format)
    if total is not None and target.several and not args.overwrite:
        _check_names(args, target)
    source = Source.of_arguments(args.text) if args.file is None else Source.of_file(args.file)
    # Sound on standard output is for a player, whose own messages a bar would disturb.
    to_stdout = args.output == "-"
    bar = not (args.no_progress or to_stdout)
    with Screen(bar=bar, total=total, trouble=silence.words) as screen:
        reporter = Reporter(screen, as_json=args.json, quiet_output=to_stdout)
        return Synthesis(source, target, reporter).run(client)


def _check_names(args: argparse.Namespace, target: Target) -> None:
    """Raise Stop before anything is sent if a text's sound would replace a recording."""
    with os.scandir(args.output) as there:
        if next(there, None) is None:
            return
    lines = enumerate(args.text, 1) if args.file is None else read_lines(args.file)
    for index, (line, text) in enumerate(lines, 1):
        target.check(Item(index, line, text_hash(text)))


def _naming(args: argparse.Namespace, total: int | None) -> Naming:
    digits = max(_DIGITS, len(str(total or 0)))
    if total is None and args.json:
        # What was told of cannot be renamed any more.
        digits = _MOST_DIGITS
    return Naming(template=args.name, digits=digits, grows=total is None, overwrite=args.overwrite)


def _check(args: argparse.Namespace) -> None:
    if args.text and args.file is not None:
        raise Stop("give texts or -f FILE, not both")
    if not args.text and args.file is None:
        raise Stop("nothing to speak: give texts, or -f FILE (- for standard input)")
    if args.json and args.output == "-":
        raise Stop("--json and -o - both want standard output: write the sound to a file")
    if args.file is not None:
        check_kind(args.file, "-f -")
    for text in args.text:
        if Path(text).suffix and len(text) < 256 and os.path.isfile(text):
            raise Stop(f"{text} is a file: to speak its lines, write -f {text}")


class Synthesis:
    """Takes texts from a source to a target, and counts them."""

    def __init__(self, source: Source, target: Target, reporter: Reporter) -> None:
        self._source = source
        self._target = target
        self._reporter = reporter
        # What ended it: an error that every further text would meet too.
        self._hopeless: CosyError | None = None
        # A refusal of the key that may be the latest text's own fault.
        self._doubt: CosyError | None = None

    def run(self, client: CosyClient) -> int:
        """Speak everything; return the exit code.

        Raises Stop when it ended early: what was finished is kept, counted and told of.
        """
        reporter = self._reporter
        try:
            with client:
                self._speak(client)
            ended = self._hopeless or self._doubt
            if ended is not None:
                raise ended
        except BrokenPipeError:
            raise
        except (Stop, CosyError, KeyboardInterrupt) as error:
            raise self._ended(error) from error
        reporter.close(str(self._target))
        return Exit.FAILED if reporter.failed or reporter.unsent else Exit.DONE

    def _speak(self, client: CosyClient) -> None:
        client = hasty(client)
        if not self._target.several:
            texts = list(islice(self._checked(self._source), 2))
            if len(texts) != 1:
                self._refuse(len(texts))
            self._take_all(client, texts)
            return
        # The first text goes alone: a wrong address or key shows before a million texts wait, and
        # a pipe hears it before the next line comes. A refusal that may be the text's own fault
        # is only the key's once a few others met it too.
        for _ in range(_TRIED_ALONE):
            self._take_all(client, islice(self._checked(self._source), 1))
            if self._doubt is None:
                self._take_all(client, self._checked(self._source))
                return

    def _take_all(self, client: CosyClient, texts: Iterable[str]) -> None:
        for outcome in client.synth_iter(texts):
            self._take_whole(outcome)

    def _take_whole(self, outcome: Outcome) -> None:
        with uninterrupted():
            self._take(outcome)

    def _checked(self, texts: Iterable[str]) -> Iterator[str]:
        """Yield texts whose files are not there yet: none is sent whose sound cannot be kept."""
        for text in texts:
            self._target.check(self._source.newest())
            yield text

    def _refuse(self, texts: int) -> None:
        if not texts:
            raise Stop("nothing to speak: the input is empty")
        raise Stop(
            f"several texts do not fit into {self._target}: give a directory, such as -o speech"
            f"{os.sep}"
        )

    def _take(self, outcome: Outcome) -> None:
        item = self._source.next_item()
        if outcome.audio is not None:
            file = self._target.save(item, outcome.audio)
            self._reporter.saved(item, outcome.audio, file)
            self._doubt = None
            return
        assert outcome.error is not None
        # Numbered as everywhere here, also where -v shows it.
        error = outcome.error.with_details(index=item.index)
        # A service that has answered before may come back; a key that is refused will not, nor
        # what refuses every text.
        doubtful = refuses_key(error) and not error.hopeless
        self._doubt = error if doubtful and not self._reporter.ok else None
        if error.hopeless or (not doubtful and is_hopeless(error) and not self._reporter.ok):
            self._hopeless = error
            self._source.stop()
        self._reporter.lost(item, error, listed=self._hopeless is None)

    def _ended(self, error: Stop | CosyError | KeyboardInterrupt) -> Stop:
        reporter = self._reporter
        code, words = meaning(error)
        reporter.close(str(self._target), stopped=words)
        if reporter.done:
            words += f"; {reporter.half_way(str(self._target))}"
            code = Exit.FAILED if code == Exit.USAGE else code
        return Stop(words, code)
