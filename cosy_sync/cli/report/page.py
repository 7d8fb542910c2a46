"""The frame of every page: its head, figures, sections and facts, everything escaped."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

__all__ = ["Page", "figure", "part", "section", "table"]


@dataclass(frozen=True, kw_only=True)
class Page:
    """One HTML text that loads nothing but sound beside it. Its words are plain, its body HTML."""

    # What of cosy_sync it is of.
    kind: str
    headline: str
    lead: str
    # Name, figure, note and class of each.
    tiles: Sequence[tuple[str, str, str, str]]
    body: str
    facts: Sequence[tuple[str, str]]
    # Style and script that only this page has.
    css: str = ""
    script: str = ""

    def html(self) -> str:
        """Build the page."""
        facts = (f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in self.facts)
        page = Template(part("page.html")).substitute(
            kind=escape(self.kind),
            css=part("base.css") + self.css,
            headline=escape(self.headline),
            lead=escape(self.lead),
            tiles="".join(_tile(*each) for each in self.tiles),
            body=self.body,
            facts="".join(facts),
            policy="script-src 'unsafe-inline'; " if self.script else "",
            script=f"<script>\n{self.script}</script>" if self.script else "",
        )
        # A lone surrogate has no UTF-8 form; the page must be writable all the same.
        return page.encode("utf-8", "replace").decode("utf-8")


def part(name: str) -> str:
    """Return a file that pages are made of."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def section(name: str, title: str, content: str, note: str = "") -> str:
    """Return a part of the page under its heading; `content` is HTML."""
    told = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        f'<section class="page" aria-labelledby="{name}">'
        f'<h2 id="{name}">{escape(title)}</h2>{told}{content}</section>'
    )


def table(names: Iterable[str], rows: Iterable[str]) -> str:
    """Return a table on a card of its own; a row is HTML, a name plain."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    return (
        f'<div class="card scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def figure(title: str, picture: str, caption: str) -> str:
    """Return a picture in its frame."""
    head = f"<h3>{escape(title)}</h3><figcaption>{escape(caption)}</figcaption>"
    return f'<figure class="card">{head}{picture}</figure>'


def _tile(name: str, figure: str, note: str, kind: str) -> str:
    return (
        f'<div class="tile {kind}"><dt>{escape(name)}</dt>'
        f"<dd><b>{escape(figure)}</b><span>{escape(note)}</span></dd></div>"
    )
