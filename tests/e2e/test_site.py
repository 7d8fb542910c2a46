"""The documentation site builds without a warning, and its search finds every setting."""

import dataclasses
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import cosy_sync
import cosy_sync.config

pytestmark = [pytest.mark.site, pytest.mark.timeout(330)]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(module, reason='needs the extra "docs"')
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(out / "trees"), str(ROOT / "docs"), str(out / "html")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return out / "html"


@pytest.fixture(scope="module")
def entries(site: Path) -> set[str]:
    """Return the names that the site has an entry for."""
    packed = (site / "objects.inv").read_bytes().split(b"zlib.\n", 1)[1]
    return {line.split()[0] for line in zlib.decompress(packed).decode().splitlines()}


def test_each_name_of_the_package_has_an_entry(entries: set[str]) -> None:
    elsewhere = {"Event", "Observer"}  # of cosy_sync.events
    names = {f"cosy_sync.{name}" for name in set(cosy_sync.__all__) - {"__version__"} - elsewhere}
    names |= {f"cosy_sync.events.{name}" for name in elsewhere}
    assert sorted(names - entries) == []


def test_the_search_finds_each_setting(site: Path, entries: set[str]) -> None:
    index = (site / "searchindex.js").read_text("utf-8")
    for kind in cosy_sync.config.__all__:
        cls = getattr(cosy_sync.config, kind)
        if dataclasses.is_dataclass(cls):
            for field in dataclasses.fields(cls):
                assert f"cosy_sync.{kind}.{field.name}" in entries
                assert f'"{field.name}"' in index, field.name
