"""Write what docs/environment.md says of each variable, from the settings themselves.

    python docs/make_tables.py

A test fails where the page differs from what this would write.
"""

import dataclasses
from pathlib import Path
from typing import Any

from cosy_sync.config import ClientConfig, Endpoint
from cosy_sync.config.canary import plain_fields
from cosy_sync.config.client import GROUPS
from cosy_sync.fields import field_docs
from cosy_sync.settings import variable_paths

PAGE = Path(__file__).parent / "environment.md"
START, END = "<!-- variables -->", "<!-- end of variables -->"
_ADDRESS = "One address, or several with commas between."
_SHORTHANDS = {
    "batch_size": "Texts in one call; the same as COSY_SYNC_BATCH_MAX_TEXTS.",
    "instruction": "How to speak, such as 用四川话说这句话; part of the voice.",
}


def sections() -> str:
    """Return a table for the client, the endpoints and each group of settings."""
    tables = {"The client": [("COSY_SYNC_URL", "", _ADDRESS)], "Limits of each address": []}
    for variable, path in variable_paths().items():
        title = f"`{path[0]}`: {GROUPS[path[0]].__name__}" if path[0] in GROUPS else "The client"
        cls: type = GROUPS.get(path[0], ClientConfig)
        if path[0] == "canary":
            title, cls = "`canary`: Variant and CanaryConfig", plain_fields()[path[-1]]
        if path[0] == "endpoint":
            title, cls = "Limits of each address", Endpoint
        said = _SHORTHANDS.get(path[-1]) or field_docs(cls)[path[-1]]
        tables.setdefault(title, []).append((variable, default_of(cls, path[-1]), said))
    return "\n\n".join(table(title, rows) for title, rows in tables.items())


def default_of(cls: type, name: str) -> str:
    """Return a field's default as it would be written in the environment."""
    found = {field.name: field.default for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    value: Any = found.get(name, dataclasses.MISSING)
    if value is None or value is dataclasses.MISSING:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else format_number(value)}`"


def format_number(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def table(title: str, rows: list[tuple[str, str, str]]) -> str:
    """Return one table of Markdown, below its heading."""
    lines = [f"| `{name}` | {default} | {said.replace('|', '/')} |" for name, default, said in rows]
    return "\n".join(
        [f"## {title}", "", "| variable | default | what |", "| --- | --- | --- |", *lines]
    )


def page() -> str:
    """Return the page as it should be."""
    text = PAGE.read_text("utf-8")
    head, _, rest = text.partition(START)
    return f"{head}{START}\n\n{sections()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
