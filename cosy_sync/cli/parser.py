"""The parser of options: what is mistyped is refused with the usage of its command and the fix."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn

from cosy_sync.cli.console import say
from cosy_sync.cli.wording import OPTIONS, in_options
from cosy_sync.config import VerifyConfig
from cosy_sync.hints import MOVED, RENAMED, advice_for_group, variable_for
from cosy_sync.settings import variable_of

__all__ = ["Parser", "add_old_name", "parse"]

# What other commands call our options, beside the names of the library's settings.
_OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        name: option
        for option, names in (
            ("--file", "in infile input input-file from-file text-file"),
            ("--output", "out outfile out-dir outdir output-dir dir directory dest to"),
            ("--overwrite", "force replace clobber yes"),
            ("--no-progress", "quiet silent no-bar"),
            ("--name", "template names filename"),
            ("--json", "jsonl json-lines"),
            ("--max-texts", "limit count max"),
            ("--verbose", "debug log-level"),
            ("--max-connections", "conn conns"),
            ("--url", "base-url api-base endpoint endpoint-url host server address port"),
            ("--reference", "ref-audio reference-audio prompt-audio prompt-wav speaker-wav clone"),
            ("--transcript", "prompt-text ref-text reference-text"),
            ("--instruction", "instruct instructions instruct-text style emotion"),
        )
        for name in names.split()
    }
)

_PROXY = "set HTTPS_PROXY, HTTP_PROXY or ALL_PROXY (and NO_PROXY) in the environment"
_IN_ENVIRONMENT = dict.fromkeys(("proxy", "proxies", "http_proxy", "https_proxy"), _PROXY)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that knows what was probably meant, and takes no option by its beginning:
    what is short for one option today may be another's name tomorrow."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def commands(self) -> dict[str, Parser]:
        """Return the parsers of its commands."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                return dict(action.choices)
        return {}

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        known = action.choices
        if known is not None and value not in known:
            near = difflib.get_close_matches(str(value), [*map(str, known)], n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            words = f"there is no {value!r}; {hint}known: {', '.join(map(str, known))}"
            raise argparse.ArgumentError(action, words)

    def refuse_option(self, option: str) -> NoReturn:
        """End with the usage, and the option that was probably meant."""
        known = [
            name
            for action in self._actions
            if action.help != argparse.SUPPRESS
            for name in action.option_strings
        ]
        name = option.partition("=")[0]
        self.error(f"{name}: no such option; {_hint(name, known)}")


def parse(parser: Parser, given: Sequence[str], known: Sequence[str]) -> argparse.Namespace:
    """Return the options. Raises SystemExit for what is mistyped, as argparse does.

    Args:
        known: the names of all commands.
    """
    command = next((word for word in given if not word.startswith("-")), None)
    first = given[0] if given else ""
    if first.startswith("--") and first not in ("--help", "--verbose", "--version"):
        parser.error(f"{first}: options follow a command, as in: cosy-sync synth {first} ...")
    if command is not None and command not in known:
        near = difflib.get_close_matches(command, known, n=1)
        near += [f"--{command}"] if command in ("help", "version") else []
        hint = f"did you mean {near[0]}? " if near else ""
        names = ", ".join(known)
        parser.error(
            f"{command!r}: no such command; {hint}known: {names} (to speak a text: synth TEXT)"
        )
    args, unknown = parser.parse_known_args(given)
    if unknown:
        used = parser
        for word in given:
            used = used.commands().get(word, used)
        option = next((word for word in unknown if word.startswith("-")), None)
        if option is not None:
            used.refuse_option(option)
        used.error(f"unrecognized arguments: {' '.join(unknown)}")
    return args


def add_old_name(
    group: argparse._ActionsContainer, old: str, new: str, kind: Callable[[str], Any]
) -> None:
    """Take an option by the name that it had before, and tell the one that it has."""

    class OldName(argparse.Action):
        def __call__(
            self, parser: Any, namespace: argparse.Namespace, value: Any, option: Any = None
        ) -> None:
            say(f"warning: {old} is called {new} now")
            setattr(namespace, self.dest, value)

    dest = new.lstrip("-").replace("-", "_")
    group.add_argument(
        old,
        dest=dest,
        action=OldName,
        type=kind,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )


def _hint(option: str, known: Sequence[str]) -> str:
    word = option.lstrip("-").lower()
    setting = word.replace("-", "_")
    said = in_options(MOVED.get(setting, ""))
    named = re.search(r"write (--[\w-]+)", said)
    found = [
        OPTIONS.get(RENAMED.get(setting, setting)),
        _OTHER_NAMES.get(word),
        named[1] if named else None,
    ]
    # A setting's own name, or that of its opposite.
    own = variable_of(setting.removeprefix("no_")) if "--url" in known else None
    if setting in ("verify", "no_verify"):
        return in_options(advice_for_group("verify", VerifyConfig))
    if not said and setting not in RENAMED and own is None:  # a slip, rather than another name
        longer = [name for name in known if name.startswith(option)]
        if len(longer) > 1 and not any(name in known for name in found):
            return f"did you mean {' or '.join(longer)}?"
        bare = {name.lstrip("-"): name for name in known}  # or every dash would be alike
        near = difflib.get_close_matches(word, bare, n=1)
        found += longer or [bare[name] for name in near]
    meant = next((name for name in found if name in known), None)
    if meant is not None:
        return f"did you mean {meant}?"
    variable = variable_for(setting) if "--url" in known else None
    if own is not None:
        return f"set the variable {own}"
    if variable is not None:
        return f"set the variable COSY_SYNC_{variable.upper()}"
    if setting in _IN_ENVIRONMENT:
        return _IN_ENVIRONMENT[setting]
    if re.fullmatch(r"--?[a-z][\w-]*", option, re.ASCII | re.IGNORECASE) is None:
        return "what begins with a dash and is no option goes behind --, as in: ... -- -5"
    return "the usage above names them all"
