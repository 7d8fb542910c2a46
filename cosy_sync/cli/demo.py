"""`cosy-sync demo`: a thousand sentences through a server of its own, measured and checked."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cosy_sync import ClientConfig, CosyClient, Endpoint, InterruptedBatch, Outcome, PoolConfig
from cosy_sync.cli.console import emit, say
from cosy_sync.cli.demo_results import Results
from cosy_sync.cli.exits import CODES, Exit, Stop, because
from cosy_sync.cli.options import number
from cosy_sync.cli.parser import add_old_name
from cosy_sync.hints import install_line

if TYPE_CHECKING:
    from cosy_sync.cli.corpus import Sentence
    from cosy_sync.cli.demo_server import DemoServer
    from cosy_sync.cli.manifest import DemoFolder, Entry

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  cosy-sync demo                         1 000 sentences into cosy-demo/; open its index.html
  cosy-sync demo --engine tone -o /tmp/d tones instead of speech, for a machine without espeak-ng
  cosy-sync demo --latency 1 --rate 20    a slower service

The server runs on this machine only and ends with the demo. Wall time counts from the first call to
the last reply; the files are written afterwards. Files of an earlier demo are replaced, others in
the directory are left alone.
"""
_SERIAL_TEXTS = 20
_SHOWN_PROBLEMS = 10
# Seconds of speech that are believed, by engine: a sentence of the corpus has about 20 characters.
_SPEECH_SECONDS = {"espeak": (1.0, 15.0), "tone": (0.1, 60.0)}
_SPEECH_HINT = f"for real speech: {install_line('server')}"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "demo",
        help="speak 1 000 sentences with a server of its own",
        description="Start a server on this machine, speak Chinese sentences through it, check "
        "every file, and make a page to listen to them.",
        epilog=f"{_EXAMPLES}\n{CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", default="cosy-demo", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "espeak", "tone"),
        default="auto",
        help="speech, tones, or speech where it is installed (default: %(default)s)",
    )
    for name, low, high, default, words in (
        ("--texts", 1, 1000, 1000, "how many"),
        ("--latency", 0.0, 20.0, 0.2, "seconds that the service takes for a call"),
        ("--rate", 1, 10_000, 100, "requests per second that it allows"),
        ("--max-connections", 1, 800, 50, "connections that it allows"),
    ):
        words = f"{words}, {low:g} to {high:g} (default: {default:g})"
        kind = number(type(low), low, high)
        parser.add_argument(name, type=kind, metavar="N", default=default, help=words)
    add_old_name(parser, "--rps", "--rate", number(int, 1, 10_000))
    parser.add_argument(
        "--no-serial", action="store_true", help="do not measure one text after another first"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo; return the exit code. Raises Stop and CosyError."""
    from cosy_sync.cli.corpus import load_sentences
    from cosy_sync.cli.demo_table import page_of, table_of
    from cosy_sync.cli.manifest import DemoFolder

    folder = DemoFolder(Path(args.output))
    folder.prepare(args.texts)
    results = Results(sentences=load_sentences()[: args.texts])
    with _server(args) as (server, engine):
        results.engine, results.url = engine, server.url
        _speak(args, results)
        results.server = server.stats()
    try:
        _keep(folder, results)
        _check(args, folder, results)
        folder.write_page(page_of(results))
    except (OSError, KeyboardInterrupt) as error:
        raise _half_way(error, folder, results) from error
    emit(table_of(results, folder.page))
    return _verdict(results)


def _half_way(error: OSError | KeyboardInterrupt, folder: DemoFolder, results: Results) -> Stop:
    there = f"{len(results.entries)} of {len(results.outcomes)} texts are in {folder.path}"
    if isinstance(error, KeyboardInterrupt):
        return Stop(f"interrupted; {there}", Exit.INTERRUPTED)
    place = error.filename or folder.path
    return Stop(f"cannot write {place}: {because(error)}; {there}, the rest is not", Exit.FAILED)


# -- speaking -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _server(args: argparse.Namespace) -> Iterator[tuple[DemoServer, str]]:
    from cosy_sync.cli.demo_server import run_server

    options = ["--latency", str(args.latency), "--rate", str(args.rate)]
    options += ["--max-connections", str(args.max_connections)]
    with contextlib.ExitStack() as stack:
        engine = "espeak" if args.engine == "auto" else args.engine
        try:
            server = stack.enter_context(run_server(["--engine", engine, *options]))
        except Stop as stop:
            if args.engine == "tone":
                raise
            if args.engine == "espeak":
                raise Stop(f"{stop}\n{_SPEECH_HINT}", stop.code) from stop
            reason = str(stop).splitlines()[-1].strip()
            say(f"cosy-sync: no speech here, so tones instead ({reason})\n{_SPEECH_HINT}")
            engine = "tone"
            server = stack.enter_context(run_server(["--engine", engine, *options]))
        yield server, engine


def _speak(args: argparse.Namespace, results: Results) -> None:
    texts = [sentence.text for sentence in results.sentences]
    endpoint = Endpoint(results.url, max_connections=args.max_connections, rate=args.rate)
    # The user's own variables and proxies are for the user's own service.
    config = ClientConfig(pool=PoolConfig(trust_env=False))
    if not args.no_serial:
        _speak_serially(CosyClient(endpoint, config=config, batch_size=1), texts, results)
    with CosyClient(endpoint, config=config) as client:
        say(f"speaking {len(texts)} sentences with synth_many ...")
        results.started = time.monotonic()
        try:
            results.outcomes = client.synth_many(texts, on_error="return", progress=True)
        except InterruptedBatch as interrupt:
            words = f"interrupted with {len(interrupt.outcomes)} texts spoken; no file was written"
            raise Stop(words, Exit.INTERRUPTED) from interrupt
        results.wall_seconds = time.monotonic() - results.started
        results.client = client.stats()


def _speak_serially(client: CosyClient, texts: Sequence[str], results: Results) -> None:
    few = texts[:_SERIAL_TEXTS]
    say(f"speaking {len(few)} sentences one after the other ...")
    with client:
        started = time.monotonic()
        for text in few:
            client.synth(text)
        results.serial_seconds = time.monotonic() - started
    results.serial_count = len(few)
    # The next client has a rate limit of its own: let these requests leave the server's second.
    time.sleep(1.0)


# -- keeping ------------------------------------------------------------------------------------


def _keep(folder: DemoFolder, results: Results) -> None:
    from cosy_sync.cli.manifest import write_entry

    say(f"writing {len(results.outcomes)} files ...")
    folder.clear()
    with open(folder.manifest, "w", encoding="utf-8", buffering=1) as manifest:
        for outcome, sentence in zip(results.outcomes, results.sentences, strict=True):
            entry = _entry(folder, outcome, sentence)
            write_entry(manifest, entry)
            results.entries.append(entry)


def _entry(folder: DemoFolder, outcome: Outcome, sentence: Sentence) -> Entry:
    from cosy_sync.cli.manifest import Entry

    audio, timing, error = outcome.audio, outcome.timing, outcome.error
    index, data, file = outcome.index + 1, b"", None
    if audio is not None:
        data = audio.wav()
        file = audio.save(folder.sound(index)).relative_to(folder.path).as_posix()
    return Entry(
        index=index,
        text=sentence.text,
        category=sentence.category,
        file=file,
        seconds=None if audio is None else round(audio.duration, 4),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest() if file else None,
        latency=None if timing is None else round(timing.total, 4),
        attempts=error.attempt_count if error else timing.attempts if timing else 1,
        request_id=timing.request_id if timing else getattr(error, "request_id", None),
        error=None if error is None else f"{type(error).__name__}: {error.message}",
    )


def _check(args: argparse.Namespace, folder: DemoFolder, results: Results) -> None:
    """Note everything that does not hold."""
    from cosy_sync.cli.verify_files import check_files

    problems = results.problems
    problems += [f"text {e.index} failed: {e.error}" for e in results.entries if e.error]
    problems += check_files(folder.path, results.entries, _SPEECH_SECONDS[results.engine])
    server = results.server
    if server["connections_peak"] > args.max_connections:
        problems.append(f"{server['connections_peak']} connections were open at once")
    if server["peak_requests_per_second"] > args.rate:
        problems.append(f"{server['peak_requests_per_second']} requests were sent in one second")
    if server["throttled"] or server["refused"]:
        refusals = server["throttled"] + server["refused"]
        problems.append(f"the server refused {refusals} requests as too many")


def _verdict(results: Results) -> int:
    if not results.problems:
        return Exit.DONE
    for problem in results.problems[:_SHOWN_PROBLEMS]:
        say(f"cosy-sync: {problem}")
    raise Stop(f"{len(results.problems)} things are not as they should be", Exit.FAILED)
