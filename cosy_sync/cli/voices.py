"""`cosy-sync voices`: the voices that there are, and who named them."""

from __future__ import annotations

import argparse
import contextlib
import json

from cosy_sync import ConfigError, CosyClient, VoiceList
from cosy_sync.cli.console import emit, say
from cosy_sync.cli.exits import CODES, Exit
from cosy_sync.cli.options import add_service_options, make_client

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  cosy-sync voices --url http://localhost:8000/v1/audio/speech
  cosy-sync voices --url wss://dashscope.aliyuncs.com/api-ws/v1/inference --model cosyvoice-v2

Names go to standard output, one a line; who named them to standard error.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "voices",
        help="list the voices of a service",
        description="List the voices that a service names, else those that its documents name.",
        epilog=f"{_EXAMPLES}\n{CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    add_service_options(parser, format=False)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the list; return the exit code. Raises Stop and CosyError."""
    with _client(args) as client:
        voices = client.voices()
    if args.json:
        listed = [{"name": voice.name, "source": voice.source} for voice in voices]
        told = {"voices": listed, "asked": voices.asked, "documents": voices.documents}
        emit(json.dumps(told, ensure_ascii=False))
    else:
        for name in voices.names:
            emit(name)
        say(_sources(voices))
    return Exit.DONE


def _client(args: argparse.Namespace) -> CosyClient:
    """Make a client, of a wire that wants to know a voice as well: whoever asks for the list knows
    none yet. Raises ConfigError."""
    try:
        return make_client(args)
    except ConfigError:
        if args.voice is not None or args.reference is not None:
            raise
        args.voice = "unknown"
        with contextlib.suppress(ConfigError):
            return make_client(args)
        raise


def _sources(voices: VoiceList) -> str:
    """Say who named them."""
    counts = {"service": 0, "documents": 0}
    for voice in voices:
        counts[voice.source] += 1
    told = "the service gives no list"
    if voices.asked:
        told = f"{counts['service']} named by the service"
    if counts["documents"]:
        return f"{told}; {counts['documents']} from {voices.documents}"
    return told if voices.asked else f"{told}, and no documents name its voices"
