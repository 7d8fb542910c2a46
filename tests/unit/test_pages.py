"""The pages of docs/ are whole: every error, variable, public name and link."""

import importlib
import re
import runpy
from pathlib import Path

import pytest

import cosy_sync
from cosy_sync.contrib.statuses import status_of
from cosy_sync.errors import CosyError
from cosy_sync.jobs import JobIsBusy

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LINKED = [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
ERRORS = (DOCS / "errors.md").read_text("utf-8")


def errors() -> dict[str, type[BaseException]]:
    """Return every exception class that a user of the library can meet."""
    public = [getattr(cosy_sync, name) for name in cosy_sync.__all__]
    found = [each for each in public if isinstance(each, type) and issubclass(each, BaseException)]
    return {each.__name__: each for each in [*found, JobIsBusy]}


def test_the_error_catalogue_has_each_error_once_with_the_status_that_the_code_gives() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", ERRORS, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(errors())
    for name, told in rows:
        cls = errors()[name]
        if issubclass(cls, CosyError) and cls is not cosy_sync.BatchError:
            assert told == str(status_of(cls("")) or 500), name


def test_the_page_of_variables_is_what_the_settings_say() -> None:
    page = runpy.run_path(str(DOCS / "make_tables.py"))["page"]
    assert (DOCS / "environment.md").read_text("utf-8") == page(), "run docs/make_tables.py"


def test_each_page_stands_once_in_the_table_of_contents() -> None:
    named = []
    for page in (DOCS / "index.md", DOCS / "api" / "index.md"):
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            lines = [line for line in block.splitlines() if line and not line.startswith(":")]
            names = [line.rpartition("<")[2].rstrip(">") for line in lines]
            named += [(page.parent / f"{name}.md").relative_to(DOCS).as_posix() for name in names]
    pages = [page.relative_to(DOCS).as_posix() for page in PAGES]
    assert sorted([*named, "index.md"]) == pages, "add the page to a toctree of docs/index.md"


def anchors_of(page: Path) -> set[str]:
    """Return what the headings of a page are linked by."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]
    return set(plain)


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_link_inside_the_documents_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+://", target):
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.exists(), target
        assert not anchor or anchor in anchors_of(place), target


# What users import from, beside `cosy_sync` itself.
MODULES = [
    *("audio", "cache", "config", "events", "instrumentation", "jobs", "messages", "storage"),
    *("testing", "text", "wires", "contrib.celery", "contrib.distributed", "contrib.django"),
    *("contrib.fakes", "contrib.flask", "contrib.statuses"),
]


def documented() -> set[str]:
    """Return the names that the pages of docs/api/ ask autodoc for."""
    found = set()
    for page in (DOCS / "api").glob("*.md"):
        for kind, name in re.findall(r"^\.\. (\w+:?\w+):: ([\w.]+)", page.read_text("utf-8"), re.M):
            if kind == "automodule":
                found |= {f"{name}.{each}" for each in importlib.import_module(name).__all__}
            found.add(name)
    return found


def test_each_public_name_has_its_entry_in_the_reference() -> None:
    for module in ("django", "flask", "celery"):
        pytest.importorskip(module)
    names, known = [f"cosy_sync.{name}" for name in cosy_sync.__all__], documented()
    for module in MODULES:
        path = f"cosy_sync.{module}"
        names += [f"{path}.{name}" for name in importlib.import_module(path).__all__]
    objects = {id(_found(name)) for name in known}
    assert [
        name
        for name in names
        if name not in known and id(_found(name)) not in objects and "__" not in name
    ] == []


def _found(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        return importlib.import_module(name)
