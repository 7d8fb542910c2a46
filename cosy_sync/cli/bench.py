"""`cosy-sync bench`: how much an endpoint gives, at how many calls in flight."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from cosy_sync import BatchConfig, ClientConfig, CosyError, Endpoint, PoolConfig, __version__
from cosy_sync.cli.console import emit, say
from cosy_sync.cli.exits import CODES, Exit, Stop, because, meaning, uninterrupted
from cosy_sync.cli.options import add_service_options, make_client, number
from cosy_sync.cli.report.figures import count
from cosy_sync.cli.source import check_kind, read_lines
from cosy_sync.cli.target import try_writing, write_whole
from cosy_sync.wires import capabilities_of

if TYPE_CHECKING:
    from cosy_sync.cli.bench_results import BenchResults
    from cosy_sync.cli.bench_search import Search
    from cosy_sync.cli.bench_sweep import Plan

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  cosy-sync bench                                     try it, with a server of its own
  cosy-sync bench --url https://tts.example.com/batch --api-key-file key
  cosy-sync bench --url URL --max-texts 5000 --texts sentences.txt

Each step keeps more calls in flight: 1, 2, 4, 8 ..., with as many texts in each call as a client
sends by itself, then with a quarter of them and so on while that brings as many texts a second; or
with --batch-size alone. What it recommends is the step with the fewest texts in flight among those
as good as the best: its texts wait least. It never exceeds --rate and --max-connections, says
before it starts how much it sends at most, sends no text again that failed, and stops by itself at
the first refusal (429, 5xx, no connection), when texts fail, and when more calls in flight bring no
more. Services cost money: --max-texts is the bound. Ctrl-C keeps what was measured.
"""
# Texts in all, where nobody says how many: services that take one text a call are mostly paid for.
_TEXTS = 1_000
_BATCHED_TEXTS = 50_000
_SECONDS = 2.0
# Requests per second to the bench's own server, which allows 100: what leaves apart may arrive
# together.
_OWN_RATE = 90.0
_FAILED = {"refused": Exit.FAILED, "errors": Exit.FAILED, "interrupted": Exit.INTERRUPTED}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "bench",
        help="measure how much a service gives, and say what to configure",
        description="Keep more and more calls in flight to an endpoint, measure what it gives, "
        "and say what to configure.",
        epilog=f"{_EXAMPLES}\n{CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default="cosy-bench.html",
        help="the page with the pictures; the figures go into a .json beside it, and older ones "
        "are replaced (default: %(default)s)",
    )
    parser.add_argument(
        "--texts",
        metavar="FILE",
        help="a UTF-8 file with a text on each line; - for stdin (default: 1,000 sentences)",
    )
    # A service that counts requests per second shows it only to steps of a whole second.
    for name, low, high, default, words in (
        (
            "--max-texts",
            1,
            10_000_000,
            None,
            f"texts to send at most, in all (default: {_TEXTS}, or {_BATCHED_TEXTS} "
            "where a request takes several)",
        ),
        ("--seconds", 1.0, 600.0, _SECONDS, "seconds for each step, or longer for 8 calls"),
        ("--max-in-flight", 1, 10_000, None, "most calls in flight (default: --max-connections)"),
    ):
        kind = number(type(low), low, high)
        words += "" if default is None else f" (default: {default:g})"
        parser.add_argument(name, type=kind, metavar="N", default=default, help=words)
    url = "its address (default: a server of its own, on this machine)"
    add_service_options(parser, url=url)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the bench; return the exit code. Raises Stop and CosyError."""
    from cosy_sync.cli.bench_results import line_of
    from cosy_sync.cli.bench_search import Search

    if args.url and len(args.url) > 1:
        raise Stop("bench measures one endpoint: give --url once")
    page = _page(args.output)
    with _service(args) as (endpoint, config):
        plan = _plan(args, endpoint, config)
        sizes = _sizes(args, config)
        search = Search(endpoint, config, plan, sizes, lambda step: say(line_of(step)))
        _announce(endpoint, plan, search)
        _run(search)
        with uninterrupted():
            results = _results(search, plan, args, endpoint, config)
            _keep(results, page)
    if results.end.kind in _FAILED:
        raise Stop(results.end.words, _FAILED[results.end.kind])
    return Exit.DONE


# -- before it starts -----------------------------------------------------------------------------


def _page(output: str) -> Path:
    page = Path(output)
    if page.suffix.lower() not in (".html", ".htm"):
        raise Stop(f"cannot write {page}: use a name that ends in .html")
    for path in (page, page.with_suffix(".json")):
        if path.is_dir():
            raise Stop(f"cannot write {path}: it is a directory")
    try_writing(page.parent)
    return page


@contextlib.contextmanager
def _service(args: argparse.Namespace) -> Iterator[tuple[Endpoint, ClientConfig]]:
    """Give what to measure; run a server meanwhile if there is no address."""
    if args.url:
        yield _client(args)
        return
    if args.wire not in (None, ClientConfig.wire):
        raise Stop(
            f"--wire {args.wire} needs --url: without one, a server of its own is measured by the "
            f"wire {ClientConfig.wire}; for another one start `cosy-sync serve`, and give its --url"
        )
    from cosy_sync.cli.demo_server import run_server

    with run_server(["--engine", "tone"]) as server:
        say("no --url, so a server of its own: 200 ms a call, 50 connections, 100 requests/s")
        if os.environ.get("COSY_SYNC_URL", "").strip():
            say("COSY_SYNC_URL is left alone: its service is measured, and paid, by --url only")
        args.url = [server.url]
        args.rate = args.rate or _OWN_RATE
        # The user's own variables and proxies are for the user's own service.
        config = ClientConfig(pool=PoolConfig(trust_env=False))
        yield _client(args, config)


def _client(
    args: argparse.Namespace, config: ClientConfig | None = None
) -> tuple[Endpoint, ClientConfig]:
    client = make_client(args, config)  # opens nothing: the sweep makes its own
    return client.endpoints[0], client.config


def _plan(args: argparse.Namespace, endpoint: Endpoint, config: ClientConfig) -> Plan:
    from cosy_sync.cli.bench_steps import ladder
    from cosy_sync.cli.bench_sweep import FEWEST, Plan

    if endpoint.rate_limit == math.inf:
        raise Stop("--rate: a bench must know how many requests it may send; give a finite one")
    size = config.batch.max_texts
    max_texts: int = args.max_texts or (_TEXTS if size == 1 else _BATCHED_TEXTS)
    plan = Plan(
        texts=_texts(args, config.batch, max_texts),
        batch_size=size,
        ladder=ladder(_top(args, endpoint, config)),
        seconds=args.seconds,
        rate=endpoint.rate_limit,
        max_texts=max_texts,
    )
    fewest = (1 + FEWEST) * size
    if max_texts < fewest:
        raise Stop(
            f"--max-texts {max_texts} is too little: a request takes {size}, and "
            f"the first step {FEWEST} of them after one alone; give {fewest} at least"
        )
    return plan


def _sizes(args: argparse.Namespace, config: ClientConfig) -> list[int]:
    """Return the batch sizes to try after the usual one; none if the user has chosen one."""
    from cosy_sync.cli.bench_search import sizes_below

    size = config.batch.max_texts
    chosen = args.batch_size is not None or size != _usual_size(args, config)
    return [] if chosen else sizes_below(size)


def _top(args: argparse.Namespace, endpoint: Endpoint, config: ClientConfig) -> int:
    allowed = min(endpoint.max_connections, config.pool.max_connections)
    top: int = args.max_in_flight or allowed
    if top > allowed:
        raise Stop(
            f"--max-in-flight {top} is more than the {allowed} connections of the endpoint; "
            "raise --max-connections if the service allows it"
        )
    return top


def _texts(args: argparse.Namespace, limits: BatchConfig, most: int) -> list[str]:
    if args.texts is None:
        from cosy_sync.cli.corpus import load_sentences

        return [sentence.text for sentence in load_sentences()]
    check_kind(args.texts, "--texts -")
    texts = []
    for line, text in islice(read_lines(args.texts), most):
        if len(text) > limits.max_text_chars:
            long = f"{len(text)} characters, more than {limits.max_text_chars}"
            raise Stop(f"{args.texts}: line {line} has {long}; split it")
        texts.append(text)
    if not texts:
        raise Stop(f"no texts: there is nothing in {args.texts}")
    return texts


def _announce(endpoint: Endpoint, plan: Plan, search: Search) -> None:
    requests, most = count(search.most_requests), search.most_texts
    limits = f"{endpoint.rate_limit:g} requests/s and {plan.ladder[-1]} in flight"
    say(
        f"bench of {endpoint.label}: at most {requests} requests with {count(most)} "
        f"texts in all, at most {limits}; {plan.seconds:g} s a step"
    )
    if most > len(plan.texts):
        say(
            f"the texts repeat after {count(len(plan.texts))}: a service that remembers what it "
            "spoke looks faster than it is"
        )


def _run(search: Search) -> None:
    try:
        search.run()
    except CosyError as error:
        code, words = meaning(error)
        words = f"the first request failed, so nothing was measured: {words}"
        raise Stop(words, code) from error
    except KeyboardInterrupt:
        # After its last step, what was measured is there all the same.
        if search.end is None:
            raise
        search.end = replace(search.end, kind="interrupted")


# -- afterwards -----------------------------------------------------------------------------------


def _results(
    search: Search, plan: Plan, args: argparse.Namespace, endpoint: Endpoint, config: ClientConfig
) -> BenchResults:
    from cosy_sync.cli.bench_code import left_out_of, settings_of
    from cosy_sync.cli.bench_results import BenchResults
    from cosy_sync.cli.bench_steps import knee

    assert search.end is not None
    best = knee(search.steps)
    return BenchResults(
        steps=search.steps,
        end=search.end,
        endpoint=endpoint.label,
        settings=settings_of(config, reference=args.reference, key_file=args.api_key_file),
        left_out=left_out_of(endpoint, config),
        wire=config.wire,
        batch_size=plan.batch_size if best is None else best.batch_size,
        usual_size=_usual_size(args, config),
        seconds=plan.seconds,
        rate=endpoint.rate_limit,
        max_connections=endpoint.max_connections,
        requests=search.requests,
        texts=search.texts,
        untried=search.notes,
        version=__version__,
        created=datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds"),
    )


def _usual_size(args: argparse.Namespace, config: ClientConfig) -> int | None:
    """Return how many texts a client sends in a request by itself; None if that is not known."""
    can = capabilities_of(config.wire)
    if can is not None:
        return min(BatchConfig.max_texts, can.max_texts_per_call)
    return config.batch.max_texts if args.batch_size is None else None


def _keep(results: BenchResults, page: Path) -> None:
    """Write page and figures, and tell them. The table is told also when nothing can be written."""
    from cosy_sync.cli.bench_page import page_of
    from cosy_sync.cli.bench_results import json_of, table_of

    figures = page.with_suffix(".json")
    places = [("picture", page.resolve().as_uri()), ("figures", str(figures))]
    try:
        write_whole(page, page_of(results))
        write_whole(figures, json_of(results))
    except OSError as error:
        emit(table_of(results, []))
        words = f"cannot write {error.filename or page}: {because(error)}"
        raise Stop(words, Exit.FAILED) from error
    emit(table_of(results, places))
