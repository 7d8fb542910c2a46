"""`cosy-sync canary`: how a new model fares, as all processes that share a Redis know it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time

from cosy_sync import SharingConfig
from cosy_sync.canary import CanaryReport, FleetCanaries
from cosy_sync.cli.console import emit
from cosy_sync.cli.exits import CODES, Exit, Stop

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  cosy-sync canary --redis redis://127.0.0.1/0      all that there are
  cosy-sync canary cosyvoice-v3 --roll-back         the new model speaks no more texts
  cosy-sync canary cosyvoice-v3 --reset             it begins anew, with its configured share
"""
# Seconds that Redis may take for an answer.
_PATIENCE = 2.0


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "canary",
        help="how a new model fares in a fleet; roll it back or reset it",
        description="How a new model fares, as all processes that share a Redis know it.",
        epilog=f"{_EXAMPLES}\n{CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", help="one of them, as the list calls it (default: all)")
    parser.add_argument(
        "--redis",
        metavar="URL",
        help="where the state is (default: the variable COSY_SYNC_SHARING_REDIS_URL)",
    )
    parser.add_argument(
        "--prefix",
        help="how the keys in Redis begin (default: COSY_SYNC_SHARING_PREFIX, or cosy_sync)",
    )
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument("--roll-back", action="store_true", help="give it no more texts")
    actions.add_argument("--reset", action="store_true", help="let it begin anew")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what the options ask for; return the exit code. Raises Stop and ConfigError."""
    url = args.redis or os.environ.get("COSY_SYNC_SHARING_REDIS_URL", "").strip()
    if not url:
        raise Stop("no Redis: give --redis URL, or set COSY_SYNC_SHARING_REDIS_URL")
    if (args.roll_back or args.reset) and args.name is None:
        raise Stop("say which one: cosy-sync canary NAME --roll-back")
    prefix = args.prefix or os.environ.get("COSY_SYNC_SHARING_PREFIX", "").strip() or "cosy_sync"
    fleet = FleetCanaries(SharingConfig(redis_url=url, prefix=prefix, timeout=_PATIENCE))
    try:
        reports = _act(fleet, args)
    except Exception as error:  # Redis' own errors have no common base with OSError
        if not isinstance(error, OSError) and not type(error).__module__.startswith("redis"):
            raise
        raise Stop(
            f"cannot ask Redis: {type(error).__name__}: {error}; start it, or correct "
            f"{'--redis' if args.redis else 'COSY_SYNC_SHARING_REDIS_URL'}",
            Exit.FAILED,
        ) from error
    finally:
        fleet.close()
    if args.json:
        emit(json.dumps([dataclasses.asdict(report) for report in reports], ensure_ascii=False))
    elif reports:
        emit("\n\n".join(map(_words_of, reports)))
    else:
        emit("no canary: none of the processes with this Redis and prefix has one")
    return Exit.DONE


def _act(fleet: FleetCanaries, args: argparse.Namespace) -> list[CanaryReport]:
    names = fleet.names()
    if args.name is not None:
        if args.name not in names:
            known = ", ".join(names) or "none"
            raise Stop(f"no canary is called {args.name!r}; there are: {known}")
        names = [args.name]
    if args.roll_back:
        fleet.roll_back(args.name)
    if args.reset:
        fleet.reset(args.name)
    return [fleet.read(name) for name in names]


def _words_of(report: CanaryReport) -> str:
    share = "the configured share" if report.share is None else f"{report.share:.0%}"
    lines = [f"{report.name}: {report.state}, {share} of the texts"]
    if report.changed is not None:
        lines[0] += time.strftime(", since %Y-%m-%d %H:%M:%S", time.localtime(report.changed))
    if report.reason:
        by_hand = report.reason == "by hand"
        lines.append(f"  {report.reason}" if by_hand else f"  because of {report.reason}")
    for words, (bad, count, old_bad, old_count) in report.shares.items():
        if count or old_count:
            old = f", old {_share(old_bad, old_count)}" if old_count else ""
            lines.append(f"  {words}: new {_share(bad, count)}{old}")
    return "\n".join(lines)


def _share(bad: float, count: float) -> str:
    return f"{bad / count:.1%} of {count:g}" if count else "none"
