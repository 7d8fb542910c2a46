"""`cosy-sync serve`: run the embedded server in the foreground."""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import sys
from collections.abc import Sequence

from cosy_sync.cli.parser import add_old_name
from cosy_sync.server import MissingExtraError, Outage, ServerConfig, Shortage, serve_forever
from cosy_sync.server.config import ENGINES, GZIP_MODES, OVERRUNS, REPLY_FORMS
from cosy_sync.server.errors import GrpcPortError
from cosy_sync.server.faults import REFUSE

_DEFAULTS = ServerConfig()
_DEFAULT_PORT = 8000

_ADDRESSES = """\
addresses, for --url or CosyClient, by --wire:
  batch           http://HOST:PORT/batch
  openai          http://HOST:PORT/v1, or in batches http://HOST:PORT/v1/audio/speech/batch
  runtime_http    http://HOST:PORT, or as in 2024 http://HOST:PORT/api/inference
  runtime_grpc    grpc://HOST:GRPC_PORT
  triton          http://HOST:PORT or grpc://HOST:GRPC_PORT, and --model cosyvoice2
  dashscope_ws    ws://HOST:PORT/api-ws/v1/inference
  dashscope_http  http://HOST:PORT
  pai_eas         http://HOST:PORT

Voices: 中文女, 中文男, 粤语女, 英文女, 英文男; triton: none; dashscope_*: all that begin with
`long`.
/health and /stats tell how it is, and what it did.
"""

# Options that are fields of ServerConfig under the same name.
_FIELDS = (
    "host",
    "port",
    "grpc_port",
    "grpc_max_conc",
    "engine",
    "audio_bytes",
    "seconds_per_char",
    "speakers",
    "api_key",
    "latency",
    "text_latency",
    "workers",
    "max_connections",
    "rate",
    "overrun",
    "accept_delay",
    "idle_timeout",
    "gzip",
    "reply_form",
    "seed",
    "max_body_bytes",
    "max_texts",
    "max_text_chars",
)


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the defaults that say something, and the addresses line by line."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False) or action.default == []:
            return action.help
        return super()._get_help_string(action)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "serve",
        help="run a stand-in for the CosyVoice service",
        description="Run a stand-in for the CosyVoice services: all of their wires on one port "
        "(gRPC on one of\nits own), their limits, and failures on request.",
        epilog=_ADDRESSES,
        formatter_class=_Help,
    )
    _add_listening(parser)
    _add_speaking(parser)
    _add_work(parser)
    _add_limits(parser)
    _add_manners(parser)
    _add_faults(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""
    try:
        config = ServerConfig(
            faults=_read_faults(args.fault),
            outages=[_read_outage(option) for option in args.outage],
            shortages=[_read_shortage(option) for option in args.shortage],
            echo=not args.no_echo,
            **{name: getattr(args, name) for name in _FIELDS},
        )
    except ValueError as error:
        return _complain(_in_options(str(error)))
    try:
        numbers = serve_forever(
            config,
            on_ready=_announce_json if args.json_ready else _announce,
            exit_with_parent=args.exit_with_parent,
        )
    except MissingExtraError as error:
        return _complain(str(error))
    except GrpcPortError as error:
        return _complain(f"{error}: choose another --grpc-port; 0 takes any free one")
    except OSError as error:
        taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        fix = "Choose another --port; 0 takes any free one" if taken else "Check --host"
        place = f"{config.host}:{config.port}"
        return _complain(f"cannot listen on {place}: {error.strerror or error}. {fix}")
    except KeyboardInterrupt:
        return 0
    if not args.quiet:
        print(_summary(numbers), file=sys.stderr)
    return 0


def _add_listening(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("listening")
    group.add_argument("--host", default=_DEFAULTS.host, help="address to listen on")
    group.add_argument(
        "--port", type=int, default=_DEFAULT_PORT, metavar="N", help="port; 0 takes any free one"
    )
    group.add_argument(
        "--grpc-port",
        type=int,
        default=None,
        metavar="N",
        help="speak the wires runtime_grpc and triton at this port; 0 takes any free one "
        "(extra grpc)",
    )
    group.add_argument(
        "--api-key", default=None, metavar="KEY", help="demand this key as Bearer token"
    )
    group.add_argument(
        "--json-ready",
        action="store_true",
        help='print one JSON line {"url": ..., "pid": ...} when clients can connect',
    )
    group.add_argument(
        "--exit-with-parent", action="store_true", help="stop when the parent process has died"
    )
    group.add_argument("--quiet", action="store_true", help="print no summary at the end")


def _add_speaking(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("speaking")
    group.add_argument(
        "--engine",
        choices=ENGINES,
        default=_DEFAULTS.engine,
        help="tone: deterministic and nearly free; espeak: real speech",
    )
    group.add_argument(
        "--audio-bytes",
        type=int,
        default=_DEFAULTS.audio_bytes,
        metavar="BYTES",
        help="tone: PCM bytes for every text; without it the audio grows with the text",
    )
    _add_number(
        group,
        "--seconds-per-char",
        "SECONDS",
        "tone: seconds of audio for each character",
    )
    _add_number(
        group,
        "--speakers",
        "N",
        "espeak: texts spoken at the same time",
    )
    group.add_argument(
        "--reply-form",
        choices=REPLY_FORMS,
        default=_DEFAULTS.reply_form,
        help="form of the replies; auto lets the Accept header choose",
    )
    group.add_argument(
        "--gzip",
        choices=GZIP_MODES,
        default=_DEFAULTS.gzip,
        help="compress replies for clients that accept it; auto compresses JSON only",
    )


def _add_number(group: argparse._ArgumentGroup, option: str, metavar: str, text: str) -> None:
    """Add an option whose type and default are those of the server's setting of this name."""
    default = getattr(_DEFAULTS, option.removeprefix("--").replace("-", "_"))
    group.add_argument(option, type=type(default), default=default, metavar=metavar, help=text)


def _add_work(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("time that the work takes")
    _add_number(
        group,
        "--latency",
        "SECONDS",
        "least time that a call takes",
    )
    _add_number(
        group,
        "--text-latency",
        "SECONDS",
        "time that each text of a call takes beside",
    )
    _add_number(
        group,
        "--workers",
        "N",
        "calls worked on at the same time, the others wait in line; 0 for all",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits (0 switches one off)")
    _add_number(
        group,
        "--max-connections",
        "N",
        "connections from one address; 503 beyond",
    )
    _add_number(
        group,
        "--rate",
        "N",
        "calls from one address in any sliding second; 429 beyond",
    )
    add_old_name(group, "--rps", "--rate", int)
    _add_number(
        group,
        "--grpc-max-conc",
        "N",
        "gRPC calls at the same time; RESOURCE_EXHAUSTED beyond",
    )
    _add_number(
        group,
        "--idle-timeout",
        "SECONDS",
        "close connections idle for so long; 0 closes after each reply",
    )
    _add_number(group, "--max-body-bytes", "N", "largest request body, also unpacked")
    _add_number(group, "--max-texts", "N", "largest batch")
    _add_number(group, "--max-text-chars", "N", "longest text")


def _add_manners(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how it refuses and accepts")
    group.add_argument(
        "--overrun",
        choices=OVERRUNS,
        default=_DEFAULTS.overrun,
        help="status beyond these limits of connections and calls; auto: 503 and 429",
    )
    _add_number(
        group,
        "--accept-delay",
        "SECONDS",
        "let a new connection wait before anything is read from it",
    )


def _add_faults(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("faults")
    group.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME:PROBABILITY",
        help="inject a fault into this share of the batches, such as status-500:0.01; "
        "repeatable; an unknown name lists the known ones",
    )
    group.add_argument(
        "--outage",
        action="append",
        default=[],
        metavar="START:SECONDS[:FAULT]",
        help="from this second on, for so long, every call meets the fault; without one, and with "
        "refuse, nobody listens; repeatable",
    )
    group.add_argument(
        "--shortage",
        action="append",
        default=[],
        metavar="START:SECONDS:SHARE",
        help="from this second on, for so long, grant only this share of --rate; repeatable",
    )
    group.add_argument(
        "--no-echo", action="store_true", help="send no hash of the text beside its audio"
    )
    group.add_argument(
        "--seed", type=int, default=None, metavar="N", help="make the faults repeatable"
    )


def _read_faults(options: Sequence[str]) -> dict[str, float]:
    """Read NAME:PROBABILITY pairs. Raises ValueError."""
    faults: dict[str, float] = {}
    for option in options:
        name, _, probability = option.partition(":")
        try:
            faults[name] = faults.get(name, 0.0) + float(probability)
        except ValueError:
            raise ValueError(
                f"--fault {option}: write NAME:PROBABILITY, as in reset:0.01"
            ) from None
    return faults


def _read_outage(option: str) -> Outage:
    """Read START:SECONDS[:FAULT]. Raises ValueError."""
    start, _, rest = option.partition(":")
    seconds, _, fault = rest.partition(":")
    try:
        numbers = float(start), float(seconds)
    except ValueError:
        raise ValueError(
            f"--outage {option}: write START:SECONDS or START:SECONDS:FAULT, as in 20:20:stall"
        ) from None
    return Outage(start=numbers[0], seconds=numbers[1], fault=fault or REFUSE)


def _read_shortage(option: str) -> Shortage:
    """Read START:SECONDS:SHARE. Raises ValueError."""
    try:
        start, seconds, share = map(float, option.split(":"))
    except ValueError:
        raise ValueError(f"--shortage {option}: write START:SECONDS:SHARE, as 10:5:0.3") from None
    return Shortage(start=start, seconds=seconds, share=share)


def _announce(url: str, grpc_url: str) -> None:
    urls = f"{url} and {grpc_url}" if grpc_url else url
    print(f"listening on {urls} (Ctrl-C stops)", flush=True)


def _announce_json(url: str, grpc_url: str) -> None:
    ready = {"url": url, "grpc_url": grpc_url} if grpc_url else {"url": url}
    print(json.dumps({**ready, "pid": os.getpid()}), flush=True)


def _summary(numbers: dict[str, object]) -> str:
    return (
        f"served {numbers['requests']} requests with {numbers['texts']} texts; "
        f"peak {numbers['connections_peak']} connections, "
        f"{numbers['peak_requests_per_second']} requests/s"
    )


def _in_options(message: str) -> str:
    """Name the option of a field, and leave out what only Python can give."""
    named = re.sub(r"^faults\[(.*?)\] is", r"--fault \1: the probability is", message)
    named = re.sub(r"^(\w+) is ", lambda found: f"--{found[1].replace('_', '-')} is ", named)
    named = re.sub(r"^shortages: ", "--shortage: ", named)
    return named.removesuffix(", or None")


def _complain(message: str) -> int:
    print(f"cosy-sync serve: {message}", file=sys.stderr)
    return 2
