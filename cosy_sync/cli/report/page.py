"""The frame of every page: its head, figures, sections and facts, everything escaped."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from urllib.parse import quote

from cosy_sync.cli.report.charts import Chart

__all__ = ["Page", "address_of", "charts", "part", "section", "table"]


@dataclass(frozen=True, kw_only=True)
class Page:
    """One HTML text that loads nothing but sound beside it. Its words are plain, its body HTML."""

    # What of cosy_sync it is of.
    kind: str
    headline: str
    lead: str
    # Name, figure, note and class ("", "lead", "bad") of each.
    tiles: Sequence[tuple[str, str, str, str]]
    body: str
    facts: Sequence[tuple[str, str]]
    # A file of this package.
    script: str = ""

    def html(self) -> str:
        """Build the page."""
        page = Template(part("page.html")).substitute(
            kind=escape(self.kind),
            css=part("style.css"),
            headline=escape(self.headline),
            lead=escape(self.lead),
            tiles="".join(_tile(*each) for each in self.tiles),
            body=self.body,
            facts="".join(f"<p>{escape(k)}: {escape(v)}</p>" for k, v in self.facts),
            policy="script-src 'unsafe-inline'; " if self.script else "",
            script=f"<script>\n{part(self.script)}</script>" if self.script else "",
        )
        # A lone surrogate has no UTF-8 form; the page must be writable all the same.
        return page.encode("utf-8", "replace").decode("utf-8")


def part(name: str) -> str:
    """Return a file that pages are made of."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def address_of(path: str) -> str:
    """Turn a relative path into an address that stays below the page, whatever it contains."""
    return "./" + quote(path, safe="/", errors="replace")


def section(title: str, content: str, note: str = "", kind: str = "") -> str:
    """Return a part of the page under its heading; `content` is HTML."""
    told = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{told}{content}</section>'


def charts(*pictures: Chart) -> str:
    """Return pictures beside one another."""
    return f'<div class="charts">{"".join(each.html() for each in pictures)}</div>'


def table(names: Iterable[str], rows: Iterable[str]) -> str:
    """Return a table on a card of its own; a row is HTML, a name plain."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    return (
        f'<div class="card scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _tile(name: str, figure: str, note: str, kind: str) -> str:
    told = f"<b>{escape(figure)}</b> <small>{escape(note)}</small>"
    return f'<div class="card {kind}"><dt>{escape(name)}</dt><dd>{told}</dd></div>'
