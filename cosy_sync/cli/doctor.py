"""`cosy-sync doctor`: why it does not work, and what to do."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
from collections.abc import Iterator

from cosy_sync import ConfigError, CosyClient, __version__
from cosy_sync.cli.console import emit
from cosy_sync.cli.doctor_checks import (
    Check,
    check_cache,
    check_endpoint,
    check_machine,
    check_redis,
)
from cosy_sync.cli.exits import CODES, Exit, Stop, meaning
from cosy_sync.cli.options import add_service_options, make_client
from cosy_sync.cli.report.figures import duration

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  cosy-sync doctor --url https://tts.example.com/batch
  cosy-sync doctor --json > report.json      to attach to a bug report; it holds no key

It looks at the settings and where they come from, open files, DNS, connections, TLS, the proxy
between, the clock, Redis, the cache, and has each endpoint speak one sentence (which is billed).
The last line says what to do.
"""
_MARKS = {"ok": "ok     ", "warning": "warning", "failed": "FAILED ", "skipped": "skipped"}
_SECRETS = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|HEADERS", re.IGNORECASE)
_USER = re.compile(r"//[^/@\s]*@")
# Options whose values come from the command line, as they are called there.
_OPTIONS = (
    *("url", "wire", "voice", "model", "sample_rate", "speed", "deadline", "batch_size", "rate"),
    *("max_connections", "reference", "transcript", "instruction", "api_key_file", "extra"),
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "doctor",
        help="why it does not work, and what to do",
        description="Look at everything between this machine and spoken audio.",
        epilog=f"{_EXAMPLES}\n{CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_service_options(parser, format=False)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look at everything and tell it; return the exit code."""
    settings = dict(_settings(args))
    if not args.json:
        for name, value in settings.items():
            emit(f"{name} = {value}")
    checks = []
    for check in _checks(args):
        checks.append(check)
        if not args.json:
            emit(_line(check))
    diagnosis, code = _diagnosis(checks)
    if args.json:
        facts = [dataclasses.asdict(check) for check in checks]
        told = {"version": __version__, "settings": settings, "checks": facts}
        emit(json.dumps({**told, "diagnosis": diagnosis}, ensure_ascii=False))
    else:
        emit(diagnosis)
    return code


def _checks(args: argparse.Namespace) -> Iterator[Check]:
    try:
        client = make_client(args)
    except (ConfigError, Stop, OSError) as error:
        code, words = meaning(error)
        what, _, advice = words.partition("; ")
        yield Check(name="settings", state="failed", words=what, advice=advice, code=code)
        return
    with client:
        yield Check(name="settings", state="ok", words=f"wire {client.config.wire}")
        yield check_machine(client.endpoints)
        yield from check_redis(client.config.sharing.redis_url)
        yield from check_cache(client.config)
        yield from _endpoints(client)


def _endpoints(client: CosyClient) -> Iterator[Check]:
    several = len(client.endpoints) > 1
    for endpoint in client.endpoints:
        for check in check_endpoint(client, endpoint):
            name = f"{endpoint.label}: {check.name}" if several else check.name
            yield dataclasses.replace(check, name=name)


def _settings(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Yield what was set, by the name under which it was; secrets are masked."""
    for name in _OPTIONS:
        value = getattr(args, name, None)
        if value is not None:
            yield f"--{name.replace('_', '-')}", _masked(name, str(value))
    for name in sorted(os.environ):
        if name.startswith("COSY_SYNC_") and os.environ[name].strip():
            yield name, _masked(name, os.environ[name])
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        for each in (name, name.lower()):
            if os.environ.get(each):
                yield each, _masked(each, os.environ[each])


def _masked(name: str, value: str) -> str:
    if _SECRETS.search(name) and not name.endswith("key_file"):
        return "***"
    return _USER.sub("//***@", value)


def _line(check: Check) -> str:
    time = "" if check.seconds is None else f" ({duration(check.seconds)})"
    return f"{_MARKS[check.state]}  {check.name}: {check.words}{time}"


def _diagnosis(checks: list[Check]) -> tuple[str, int]:
    """Return the last line, and the exit code: of what failed first, else of the first warning."""
    for state in ("failed", "warning"):
        for check in checks:
            if check.state == state:
                words = f"{check.name}: {check.words}"
                todo = f". What to do: {check.advice}" if check.advice else ""
                return f"{words}{todo}", check.code if state == "failed" else Exit.DONE
    return "all is well", Exit.DONE
