"""What packs a program into one file finds all of the library by following its imports."""

import modulefinder
from pathlib import Path

import cosy_sync

ROOT = Path(cosy_sync.__file__).parent
EDGES = ("testing", "server", "cli", "jobs", "instrumentation", "contrib", "__main__")


def test_every_module_is_found_from_an_import_of_the_library(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import cosy_sync\n")
    finder = Finder(path=[str(ROOT.parent)])
    finder.run_script(str(program))
    wanted = {
        ".".join(("cosy_sync", *path.relative_to(ROOT).with_suffix("").parts))
        for path in ROOT.rglob("*.py")
        if path.relative_to(ROOT).parts[0].removesuffix(".py") not in EDGES
    }
    wanted = {name.removesuffix(".__init__") for name in wanted}
    assert wanted - set(finder.modules) == set()


class Finder(modulefinder.ModuleFinder):
    """Follows our own imports only."""

    def import_hook(self, name, caller=None, fromlist=None, level=-1):  # type: ignore[no-untyped-def]
        if level == 0 and not name.startswith("cosy_sync"):
            return None
        return super().import_hook(name, caller, fromlist, level)
