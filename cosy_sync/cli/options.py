"""The options by which a command reaches the service, and the client made of them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cosy_sync import BatchConfig, ClientConfig, CosyClient, Endpoint, Observer, Voice
from cosy_sync.cli.console import say
from cosy_sync.cli.exits import Stop, because
from cosy_sync.cli.parser import add_old_name
from cosy_sync.config.client import FORMATS
from cosy_sync.settings import endpoints_from_environment, endpoints_of, load_config
from cosy_sync.text import Lexicon

__all__ = [
    "add_cache",
    "add_lexicon",
    "add_service_options",
    "endpoints",
    "hasty",
    "make_client",
    "number",
]

# Options whose names are those of the client's settings.
_SETTINGS = (
    "wire",
    "voice",
    "model",
    "format",
    "quality",
    "sample_rate",
    "speed",
    "deadline",
    "batch_size",
    "extra",
    "cache",
)
# Seconds for which texts wait for a service that has answered nothing yet: a wrong address shows
# soon.
_FIRST_CONTACT = 10.0
_VOICE = ("reference", "transcript", "instruction")
_LIMITS = ("rate", "max_connections")


def add_service_options(
    parser: argparse.ArgumentParser,
    *,
    url: str = "its address; again for each further endpoint (default: COSY_SYNC_URL)",
    format: bool = True,
) -> None:
    """Add what says where the service is, what it may take and what it should speak like.

    Args:
        url: the help for --url.
        format: whether there is an option for it.
    """
    _add_service(parser.add_argument_group("the service"), url)
    speech = parser.add_argument_group("the speech")
    _add_speech(speech)
    if format:
        speech.add_argument(
            "--format",
            choices=FORMATS,
            help=f"of the sound (default: {ClientConfig.format}); most need soundfile",
        )
        speech.add_argument(
            "--quality",
            type=number(float, 0, 1),
            metavar="X",
            help="of mp3, opus and ogg: 0 is the smallest file, 1 the best",
        )


def _add_service(group: argparse._ArgumentGroup, url: str) -> None:
    group.add_argument("--url", action="append", help=url)
    group.add_argument(
        "--wire",
        metavar="NAME",
        help=f"the protocol that it speaks, or auto (default: {ClientConfig.wire})",
    )
    group.add_argument(
        "--api-key-file",
        metavar="FILE",
        help="a file that holds the key (default: the variable COSY_SYNC_API_KEY). There is no "
        "option for the key itself: other users of the machine can read command lines",
    )
    # Known only to say why there is none.
    group.add_argument("--api-key", type=_refuse_key, help=argparse.SUPPRESS)
    default = Endpoint("http://localhost")
    for name, kind, words, value in (
        ("--rate", float, "requests per second to each endpoint", default.rate_limit),
        ("--max-connections", int, "connections to each endpoint", default.max_connections),
        ("--batch-size", int, "texts in one request", BatchConfig.max_texts),
        ("--deadline", float, "seconds for each text, from its sending on", ClientConfig.deadline),
    ):
        less = "" if name == "--deadline" else "; other wires: what is usual there"
        help = f"{words} (default: {value:g}{less})"
        group.add_argument(name, type=kind, metavar="N", help=help)
    add_old_name(group, "--connections", "--max-connections", int)


def _add_speech(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--voice", metavar="NAME", help="who speaks, such as 中文女")
    group.add_argument(
        "--reference", metavar="FILE", help="a recording of a voice to imitate, 3 to 10 s are best"
    )
    group.add_argument("--transcript", metavar="TEXT", help="what is said in the recording")
    group.add_argument("--instruction", metavar="TEXT", help="how to speak: 用四川话说这句话")
    group.add_argument("--model", metavar="NAME", help="where the service has several")
    group.add_argument(
        "--extra",
        type=_fields,
        metavar="JSON",
        help='further fields for the service: \'{"service": "vllm"}\'; the wire\'s page names them',
    )
    group.add_argument(
        "--sample-rate",
        type=int,
        metavar="HZ",
        help=f"of the sound (default: {ClientConfig.sample_rate})",
    )
    group.add_argument(
        "--speed",
        type=float,
        metavar="X",
        help=f"pace of the speech (default: {ClientConfig.speed:g})",
    )


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add the option for a cache of spoken texts."""
    parser.add_argument(
        "--cache",
        metavar="PLACE",
        help="a folder or a redis:// URL, in which texts are looked up and their sound is kept "
        "(default: the variable COSY_SYNC_CACHE, else none)",
    )


def add_lexicon(group: argparse._ActionsContainer) -> None:
    """Add the option for words that are read wrongly."""
    group.add_argument(
        "--lexicon",
        metavar="FILE",
        help="words that are read wrongly: on each line a word, a tab, and what is said",
    )


def _refuse_key(key: str) -> None:
    raise argparse.ArgumentTypeError(
        "a key does not belong on a command line, which others can read: put it into a file for "
        "--api-key-file, or into the variable COSY_SYNC_API_KEY"
    )


def _fields(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON object, such as '{\"seed\": 1}'")
    return value


def make_client(
    args: argparse.Namespace,
    config: ClientConfig | None = None,
    observers: Sequence[Observer] = (),
) -> CosyClient:
    """Make a client of the options, and of COSY_SYNC_* variables for those that were not given.

    Args:
        config: takes the place of the variables.
        observers: told of what happens.

    Raises ConfigError, and Stop for a key that cannot be read.
    """
    given = {name: getattr(args, name, None) for name in _SETTINGS}
    settings: Any = {name: value for name, value in given.items() if value is not None}
    voice = {name: getattr(args, name) for name in _VOICE}
    if any(value is not None for value in voice.values()):
        settings["voice"] = Voice(_speaker(args, config), **voice)
    if getattr(args, "lexicon", None) is not None:
        _say_right(settings, _read_lexicon(args.lexicon), load_config(config, settings))
    if args.api_key_file is not None:
        settings["api_key"] = _read_key(args.api_key_file)
    if hasattr(args, "cache"):
        _try_cache(args.cache or os.environ.get("COSY_SYNC_CACHE", "").strip())
    return CosyClient(endpoints(args), config=config, observers=observers, **settings)


def _try_cache(place: str) -> None:
    """Say that a cache's folder cannot be written: the client goes on without it."""
    if place in ("", "memory") or "://" in place:
        return
    try:
        os.makedirs(place, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        say(f"warning: cannot write to the cache {place}: {because(error)}; nothing is kept")


def _read_lexicon(path: str) -> Lexicon:
    try:
        return Lexicon.from_file(path)
    except OSError as error:
        raise Stop(f"cannot read the lexicon {path}: {because(error)}") from error


def _say_right(settings: dict[str, Any], lexicon: Lexicon, config: ClientConfig) -> None:
    """Add what brings the words of a lexicon to the service: its own field where it has one."""
    if config.wire.startswith("dashscope"):
        settings["extra"] = {**config.extra, "hot_fix": lexicon.hot_fix()}
    else:
        settings["prepare"] = [*config.prepare, lexicon]


def hasty(client: CosyClient) -> CosyClient:
    """Return a view that waits a few seconds only for a service that has answered nothing yet."""
    retry = client.config.retry
    if retry.first_contact is not None:
        return client
    return client.with_options(retry=dataclasses.replace(retry, first_contact=_FIRST_CONTACT))


def _speaker(args: argparse.Namespace, config: ClientConfig | None) -> str | None:
    """Return the name that belongs to an instruction; a recording needs none."""
    given: str | None = args.voice
    if given is not None or args.reference is not None:
        return given
    if config is not None:
        return config.voice.name if config.voice is not None else None
    return os.environ.get("COSY_SYNC_VOICE", "").strip() or None


def endpoints(args: argparse.Namespace) -> list[Endpoint] | None:
    """Return the endpoints with their limits, as the options or COSY_SYNC_URL say; None for none.

    Raises ConfigError.
    """
    urls = args.url
    found = endpoints_from_environment() if urls is None else endpoints_of(urls)
    given = {name: getattr(args, name) for name in _LIMITS}
    limits = {field: value for field, value in given.items() if value is not None}
    return [dataclasses.replace(endpoint, **limits) for endpoint in found] or None


def _read_key(path: str) -> str:
    try:
        key = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Stop(f"cannot read the key from {path}: {because(error)}") from error
    except UnicodeDecodeError:
        raise Stop(f"cannot read the key from {path}: it is not text") from None
    if not key or len(key.split()) > 1:
        raise Stop(f"cannot read the key from {path}: it must hold the key and nothing else")
    return key


def number(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], float]:
    """Return a type for an option that is a number in these bounds."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = low - 1
        # Written so that NaN is refused too.
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be a number from {low:g} to {high:g}")
        return value

    return read
