"""Join settings: arguments over environment variables over defaults."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from .config import BatchConfig, ClientConfig, Endpoint, Settings
from .config.canary import plain_canary, plain_fields
from .config.client import GROUPS, LOSSLESS
from .errors import ConfigError
from .hints import RENAMED, advice_for, is_service_link, variable_for
from .models import Voice

__all__ = [
    "Target",
    "endpoints_from_environment",
    "endpoints_of",
    "load_config",
    "refuse_attribute",
    "variable_of",
    "variable_paths",
]

ENV_PREFIX = "COSY_SYNC_"
_ENDPOINT_HINTS = {"max_connections": "int", "rate": "float", "per_address": "bool"}
_C = TypeVar("_C")

Target = str | Endpoint


def load_config(
    config: ClientConfig | None,
    settings: Settings | Mapping[str, Any],
    environ: Mapping[str, str] | None = None,
) -> ClientConfig:
    """Join arguments, environment and defaults, in this order of precedence.

    Raises ConfigError for a name that does not exist or a value that cannot be.
    """
    if config is not None and not isinstance(config, ClientConfig):
        raise ConfigError(f"config: expected a ClientConfig, got {type(config).__name__}")
    given = dict(settings)
    _refuse_unknown(given, _arguments(), "argument")
    if config is None:
        config = _from_environment(os.environ if environ is None else environ)
    if given.get("format") in LOSSLESS:
        given.setdefault("quality", None)  # what the settings before had belongs to their format
    size = given.pop("batch_size", None)
    instructed, instruction = "instruction" in given, given.pop("instruction", None)
    config = _build(ClientConfig, {**_shallow(config), **given})
    if instructed:
        config = _instruct(config, instruction)
    if size is not None:
        batch = _build(
            BatchConfig, {**_shallow(config.batch), "max_texts": size}, {"max_texts": "batch_size"}
        )
        config = dataclasses.replace(config, batch=batch)
    return config


def _instruct(config: ClientConfig, instruction: str | None) -> ClientConfig:
    """Return settings whose voice has this instruction."""
    voice = config.voice
    if voice is not None and voice.asks != ("instruction",):
        voice = _build(Voice, {**_shallow(voice), "instruction": instruction})
    else:
        voice = None if instruction is None else _build(Voice, {"instruction": instruction})
    return dataclasses.replace(config, voice=voice)


def endpoints_of(
    url: Target | Sequence[Target] | None, environ: Mapping[str, str] | None = None
) -> list[Endpoint]:
    """Return the endpoints that were given, or those that the environment names; a plain address
    has the environment's limits.

    Raises ConfigError where there is none, or one twice.
    """
    if url is None:
        found = endpoints_from_environment(environ)
    else:
        one = isinstance(url, (str, bytes)) or not isinstance(url, Iterable)
        given: Any = [url] if one else url
        variables = _given(os.environ if environ is None else environ)
        found = [
            each if isinstance(each, Endpoint) else _limited(each, variables) for each in given
        ]
    if not found:
        raise ConfigError("url: no endpoint; give its address or set COSY_SYNC_URL")
    urls = [endpoint.url for endpoint in found]
    for each in urls:
        if urls.count(each) > 1:
            raise ConfigError(
                f"url: {Endpoint(each).label} is given twice; raise its limits instead"
            )
    return found


def endpoints_from_environment(environ: Mapping[str, str] | None = None) -> list[Endpoint]:
    """Read COSY_SYNC_URL, one address or several with commas between, and their limits."""
    given = _given(os.environ if environ is None else environ)
    urls = [part.strip() for part in given.get(f"{ENV_PREFIX}URL", "").split(",") if part.strip()]
    limits, shown = _limits(given)
    shown["url"] = f"{ENV_PREFIX}URL"
    return [_build(Endpoint, {"url": url, **limits}, shown) for url in urls]


def _limited(url: Any, given: Mapping[str, str]) -> Endpoint:
    limits, shown = _limits(given)
    return _build(Endpoint, {"url": url, **limits}, shown)


def _limits(given: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the limits of an endpoint that variables set, and the variables' names."""
    limits: dict[str, Any] = {}
    shown = {key: f"{ENV_PREFIX}ENDPOINT_{key}".upper() for key in _ENDPOINT_HINTS}
    for key, hint in _ENDPOINT_HINTS.items():
        if shown[key] in given:
            limits[key] = _parse(shown[key], given[shown[key]], hint)
    return limits, {key: shown[key] for key in limits}


def refuse_attribute(name: str, whole: Sequence[str]) -> NoReturn:
    """Raise ConfigError for an attribute that is set on a client, where it would do nothing.

    Args:
        name: The attribute's.
        whole: What cannot differ between a client and its views.
    """
    setting = RENAMED.get(name, name)
    settings = _arguments()
    place = _place_of(name, "argument")
    near = difflib.get_close_matches(name, [*settings, *whole], n=1)
    if name == "config":
        advice = "take a view with others: client.with_options(...)"
    elif setting in whole:
        advice = f"make another client: CosyClient(url, {setting}=...)".replace(", url=...", "")
    elif setting in settings:
        advice = f"take a view with others: client.with_options({setting}=...)"
    elif place is not None:
        advice = f"make another client; {place}"
    elif near:
        advice = f"did you mean {near[0]}? Take a view with others: client.with_options(...)"
    else:
        advice = "keep what is yours elsewhere, or in a subclass of CosyClient"
    raise ConfigError(f"{name}: setting an attribute of a client changes nothing; {advice}")


def variable_of(field: str) -> str | None:
    """Return the variable that sets a field of ClientConfig or of one of its groups.

    None where there is none, or where several groups have such a field.
    """
    paths = [path for path in _paths() if path[-1] == field]
    return f"{ENV_PREFIX}{'_'.join(paths[0])}".upper() if len(paths) == 1 else None


def variable_paths() -> dict[str, tuple[str, ...]]:
    """Return each variable but COSY_SYNC_URL with the field that it sets: its group, where it is in
    one (`endpoint` for an address's limits), and its name."""
    paths = [*_paths(), *(("endpoint", key) for key in _ENDPOINT_HINTS)]
    return {f"{ENV_PREFIX}{'_'.join(path)}".upper(): path for path in paths}


def _given(environ: Mapping[str, str]) -> dict[str, str]:
    """Return our variables that are set to something. Links to services are not ours."""
    return {
        name: text
        for name, text in environ.items()
        if name.startswith(ENV_PREFIX) and text.strip() and not is_service_link(name, text)
    }


def _from_environment(environ: Mapping[str, str]) -> ClientConfig:
    names = {**variable_paths(), f"{ENV_PREFIX}URL": ("endpoint", "url")}
    given = _given(environ)
    _refuse_unknown(given, list(names), "environment variable")
    values: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {}
    for name, text in given.items():
        *group, key = names[name]
        if group == ["endpoint"]:
            continue
        place = groups.setdefault(group[0], {}) if group else values
        place[key] = _parse(name, text, _hint(group, key))
    if "batch_size" in values:
        groups.setdefault("batch", {})["max_texts"] = values.pop("batch_size")
    if "canary" in groups:
        _check_canary(groups["canary"])
    for group_name, fields in groups.items():
        shown = {key: f"{ENV_PREFIX}{group_name}_{key}".upper() for key in fields}
        if f"{ENV_PREFIX}BATCH_SIZE" in given and group_name == "batch":
            shown["max_texts"] = f"{ENV_PREFIX}BATCH_SIZE"
        values[group_name] = _build(GROUPS.get(group_name, plain_canary), fields, shown)
    instruction = values.pop("instruction", None)
    shown = {key: f"{ENV_PREFIX}{key}".upper() for key in values}
    config = _build(ClientConfig, values, shown)
    return config if instruction is None else _instruct(config, instruction)


def _check_canary(given: Iterable[str]) -> None:
    """Refuse a canary of which nothing says what is new. Addresses out of the environment have no
    weights, by which the last of several could be known."""
    if not {"model", "url"} & set(given):
        first = f"{ENV_PREFIX}CANARY_{next(iter(given))}".upper()
        raise ConfigError(
            f"{first}: say what is new: {ENV_PREFIX}CANARY_MODEL, or {ENV_PREFIX}CANARY_URL for "
            f"one of the addresses in {ENV_PREFIX}URL"
        )


_NOT_TEXT = (
    *("headers", "extra", "prepare", "check", "ssl_context", "listeners", "storage"),
    *("canary", "variant", "steps"),
)


# Arguments and variables that stand for a field of a group, or of the voice: how they are read.
_SHORTHANDS = {"batch_size": "int", "instruction": "str"}


def _arguments() -> list[str]:
    return [*_names(ClientConfig), *_SHORTHANDS]


def _paths() -> Iterable[tuple[str, ...]]:
    yield from ((name,) for name in _SHORTHANDS)
    for name in _names(ClientConfig):
        if name in GROUPS:
            yield from ((name, key) for key in _names(GROUPS[name]) if key not in _NOT_TEXT)
        elif name == "canary":
            yield from ((name, key) for key in plain_fields() if key not in _NOT_TEXT)
        elif name not in _NOT_TEXT:
            yield (name,)


def _hint(group: list[str], key: str) -> str:
    cls: type = ClientConfig
    if group:
        cls = plain_fields()[key] if group == ["canary"] else GROUPS[group[0]]
    return _SHORTHANDS.get(key) or str(cls.__annotations__[key])


def _parse(name: str, text: str, hint: str) -> Any:
    if "bool" in hint:
        return _parse_bool(name, text)
    for kind, noun in ((int, "a whole number"), (float, "a number")):
        if kind.__name__ in hint:
            try:
                return kind(text)
            except ValueError:
                raise ConfigError(f"{name}: expected {noun}, got {text!r}") from None
    return text


def _parse_bool(name: str, text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ConfigError(f"{name}: expected true or false, got {text!r}")


def _names(cls: type) -> list[str]:
    return [item.name for item in dataclasses.fields(cls) if item.init]


def _shallow(config: Any) -> dict[str, Any]:
    return {name: getattr(config, name) for name in _names(type(config))}


def _refuse_unknown(given: Iterable[str], known: list[str], noun: str) -> None:
    for name in given:
        if name not in known:
            hint = _place_of(name, noun)
            if hint is None:
                words = {each: each for each in known}
                if noun == "environment variable":
                    words = _short_names(known)
                near = difflib.get_close_matches(name.removeprefix(ENV_PREFIX), words, n=1)
                every = ", ".join(sorted(known))
                hint = f"did you mean {words[near[0]]}?" if near else f"known: {every}"
            raise ConfigError(f"{name}: no such {noun}; {hint}")


def _short_names(variables: Iterable[str]) -> dict[str, str]:
    """Return variables by what tells them apart: as all begin alike, each reminds of each."""
    words: dict[str, str] = {}
    for variable, path in variable_paths().items():
        if path[0] == "endpoint" or path[-1].upper() not in words:
            words[path[-1].upper()] = variable
    return {**words, **{each.removeprefix(ENV_PREFIX): each for each in variables}}


def _place_of(name: str, noun: str) -> str | None:
    """Say where a field belongs that was given as if it were the client's own, or is called here
    by another name."""
    if noun != "argument":
        return _variable_of(name.removeprefix(ENV_PREFIX).lower())
    if name in RENAMED:
        return advice_for(name)
    if name in _ENDPOINT_HINTS or name == "weight":
        return f"it belongs to an address: Endpoint(url, {name}=...)"
    for group, cls in GROUPS.items():
        if name in _names(cls):
            return f"write {group}={cls.__name__}({name}=...)"
    return advice_for(name)


def _variable_of(key: str) -> str | None:
    """Say which variable sets what this one seems to be meant for."""
    groups = [group for group, cls in GROUPS.items() if key in _names(cls)]
    if key in _ENDPOINT_HINTS:
        groups = ["endpoint"]
    there = groups and key not in RENAMED and key not in _NOT_TEXT
    right = f"{groups[0]}_{key}" if there else variable_for(key)
    return f"write {ENV_PREFIX}{right.upper()}" if right is not None else None


def _build(
    cls: Callable[..., _C], values: Mapping[str, Any], shown: Mapping[str, str] | None = None
) -> _C:
    try:
        return cls(**values)
    except ConfigError as error:
        name, _, rest = error.message.partition(":")
        raise ConfigError(f"{(shown or {}).get(name, name)}:{rest}") from None
