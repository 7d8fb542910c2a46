"""The documentation site: `sphinx-build -W --keep-going -b html docs docs/_build`."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from cosy_sync import __version__
from cosy_sync.fields import field_docs

project = "cosy_sync"
author = copyright = "The cosy_sync authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code"  # `name` in a docstring is code, as in Markdown

myst_heading_anchors = 3

html_theme = "furo"
html_title = "cosy_sync"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "undoc-members": True}
# Frameworks that a module of cosy_sync.contrib is for; the reference can be made without them.
autodoc_mock_imports = [
    name for name in ("celery", "django", "flask", "obstore", "redis") if find_spec(name) is None
]


_AS_WRITTEN: dict[str, list[str]] = {}


def before_napoleon(app: Any, what: str, name: str, *rest: Any) -> None:
    """Cut what `help()` shows of a class' fields, as each has an entry of its own below, and keep
    the words of an attribute: napoleon would take what stands before a colon for its type."""
    lines: list[str] = rest[-1]
    if what == "class" and "Fields:" in lines:
        del lines[lines.index("Fields:") :]
    elif what in ("attribute", "property"):
        _AS_WRITTEN[name] = lines[:]


def after_napoleon(app: Any, what: str, name: str, *rest: Any) -> None:
    """Give an attribute its words back."""
    rest[-1][:] = _AS_WRITTEN.pop(name, rest[-1])


def short_signature(app: Any, what: str, name: str, obj: Any, options: Any, *said: Any) -> Any:
    """Leave out the signature of a class whose fields have entries of their own."""
    return ("", None) if what == "class" and said[0] and field_docs(obj) else None


def setup(app: Any) -> None:
    """Connect the above."""
    app.connect("autodoc-process-signature", short_signature)
    app.connect("autodoc-process-docstring", before_napoleon, priority=100)
    app.connect("autodoc-process-docstring", after_napoleon, priority=900)
