"""What an error knows, as plain values that JSON can hold, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["MAKERS", "plain", "restored"]

# What makes an "error" and an "outcome" again. Their modules import this one, and put it in here.
MAKERS: dict[str, Callable[..., Any]] = {}


def plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known beside the message, as plain values; neither sound nor text."""
    known: dict[str, Any] = {}
    for name, value in state.items():
        if name == "attempts":
            if value:
                known[name] = [error.to_dict() for error in value]
        elif name == "outcomes":
            known[name] = [_outcome(each) for each in value]
        elif name != "message" and isinstance(value, (str, int, float)):
            known[name] = value
    return known


def restored(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `plain` wrote down, as an error holds it."""
    state = dict(known)
    if "attempts" in state:
        state["attempts"] = tuple(map(_error, state["attempts"]))
    if "outcomes" in state:
        state["outcomes"] = _outcomes(state["outcomes"])
    return state


def _outcome(outcome: Any) -> dict[str, Any]:
    error = outcome.error
    named = {} if outcome.id is None else {"id": outcome.id}
    return {"index": outcome.index, **named, "error": None if error is None else error.to_dict()}


def _outcomes(forms: Sequence[Any]) -> list[Any]:
    make = MAKERS["outcome"]
    return [
        make(form["index"], "", None, form["error"] and _error(form["error"]), form.get("id"))
        if isinstance(form, Mapping)
        else form
        for form in forms
    ]


def _error(form: Any) -> Any:
    return MAKERS["error"](form) if isinstance(form, Mapping) else form
