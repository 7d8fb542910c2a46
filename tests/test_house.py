"""The house rules: imports go one way, rooms stay small, public lists are honest."""

import ast
import functools
import importlib
import pkgutil
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import cosy_sync
from cosy_sync.testing import Server

ROOT = Path(cosy_sync.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# Each unit may import the units of lower floors, its own, and of its own floor only what is listed.
FLOORS = [
    [
        *("errors", "batch_errors", "error_forms", "fields", "hints", "system", "addresses"),
        *("atomic", "bounded", "clock", "forks"),
        *(
            "joining",
            "loading",
            "models",
            "riff",
            "messages",
            "checks",
            "config",
            "settings",
            "events",
        ),
        *("user_code", "version"),
    ],
    ["threads"],
    ["policies", "audio", "text", "wires", "net", "shared", "storage"],
    ["endpoints"],
    ["engine"],
    [
        "texts",
        "cache",
        "canary",
        "narration",
        "notebook",
        "narrator",
        "dubbing",
        "long_texts",
        "many_texts",
        "stored_call",
        "stored_place",
        "gathering",
        "progress",
        "logs",
        "stats",
        "given_texts",
        "views",
        "hooks",
        "speech_stream",
        "wire_rules",
        "core",
        "client",
        "default",
        "detect",
        "effects",
        "voice_list",
        "__init__",
    ],
    ["testing", "server", "instrumentation"],
    ["jobs"],
    ["cli", "contrib", "__main__"],
]
FLOOR_OF = {unit: floor for floor, units in enumerate(FLOORS) for unit in units}
WINGS = set(FLOORS[2])
EDGES = {unit for floor in FLOORS[6:] for unit in floor}


@functools.lru_cache(maxsize=1)  # the rules of one file are looked at one after the other
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def unit_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[str]:
    """Return the dotted names inside cosy_sync that a file imports, from its root on."""
    package = list(path.relative_to(ROOT).parts[:-1])
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            found.append(".".join(base + (node.module or "").split(".")).strip("."))
            if not node.module:
                found += [".".join([*base, alias.name]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cosy_sync":
            found.append((node.module or "").removeprefix("cosy_sync").strip("."))
    return [name for name in found if name]


def functions_of(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = tree_of(path)
    return [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module", params=FILES, ids=name_of)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_imports_go_down(path: Path) -> None:
    unit = unit_of(path)
    for name in imports_of(path):
        other = name.split(".")[0]
        if other == unit or other not in FLOOR_OF:
            continue
        assert FLOOR_OF[other] <= FLOOR_OF[unit], f"{unit} imports {name} from a floor above"
        assert not (unit in WINGS and other in WINGS), f"the wings {unit} and {other} are strangers"


def test_the_engine_knows_only_the_base_of_wires_and_no_net(path: Path) -> None:
    if unit_of(path) == "engine":
        assert not [n for n in imports_of(path) if n.startswith("net") or n == "wires"]


# What is named for type checkers only, in a circle: an error carries outcomes, and these an error.
NAMED_IN_A_CIRCLE = {("errors", "models")}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def modules_imported_by(path: Path) -> set[str]:
    """Return the modules that a file imports: at its top, in a function or for type checkers."""
    package = list(path.relative_to(ROOT).parts[:-1])
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            whole = (node.module or "").split(".") if node.module else []
            if not node.level and whole[:1] != ["cosy_sync"]:
                continue
            base = package[: len(package) - node.level + 1] if node.level else []
            parts = base + (whole if node.level else whole[1:])
            for alias in node.names:
                deep = ".".join([*parts, alias.name])
                found.add(deep if deep in MODULES else ".".join(parts) or "__init__")
        elif isinstance(node, ast.Import):
            found |= {each.name.removeprefix("cosy_sync.") for each in node.names}
    return {
        name
        for name in found & set(MODULES) - {module_of(path)}
        if (module_of(path), name) not in NAMED_IN_A_CIRCLE
    }


def test_imports_form_no_circle_wherever_they_stand() -> None:
    imports = {name: modules_imported_by(path) for name, path in MODULES.items()}
    # Those that import nothing that is left are taken away, again and again: a circle stays.
    while free := [name for name, others in imports.items() if not others & set(imports)]:
        for name in free:
            del imports[name]
    while free := set(imports).difference(*imports.values()):  # they only import a circle
        for name in free:
            del imports[name]
    assert {name: sorted(others & set(imports)) for name, others in imports.items()} == {}


def test_what_is_only_named_in_a_circle_is_never_imported_there() -> None:
    for importer, _ in NAMED_IN_A_CIRCLE:
        lines = MODULES[importer].read_text("utf-8").splitlines()
        places = [n for n, line in enumerate(lines) if line.startswith("    from .models import")]
        assert [lines[n - 1] for n in places] == ["if TYPE_CHECKING:"]
        assert not any(line.startswith("from .models") for line in lines)


def test_the_house_rules_name_every_unit_on_its_floor() -> None:
    rules = (ROOT.parent / "CONTRIBUTING.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d) \w+ \| (.*?) \| ", rules, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(len(FLOORS)))
    for (_, told), units in zip(rows, FLOORS, strict=True):
        named = {unit for words in re.findall("`(.*?)`", told) for unit in words.split()}
        assert named == {unit for unit in units if not unit.startswith("__")}


def test_every_unit_has_a_floor() -> None:
    assert {unit_of(path) for path in FILES} <= set(FLOOR_OF)


def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text("utf-8")
    # Its docstring does not count, or a state machine could not list its states.
    head = ast.get_docstring(tree_of(path), clean=False) or ""
    assert text.count("\n") - head.count("\n") < 400
    for function in functions_of(path):
        doc = ast.get_docstring(function, clean=False) or ""
        size = (function.end_lineno or 0) - function.lineno + 1
        assert size - doc.count("\n") <= 45 + 1, f"{function.name} has {size} lines"
        args = function.args.args + function.args.kwonlyargs
        count = len([a for a in args if a.arg not in ("self", "cls")])
        assert count <= 6, f"{function.name} has {count} parameters"


# What a line under a lock must not call: it waits, works for long, or is somebody else's code.
# tests/unit/test_locks.py looks at what is called from there.
NEVER_UNDER_A_LOCK = {
    *("open", "print", "import_module", "create_transport", "create_wire"),
    *("acquire", "sleep", "start", "submit", "now", "on_event"),
    *("connect", "send", "sendall", "recv", "getaddrinfo"),
}


def locked_blocks(path: Path) -> list[ast.With]:
    tree = tree_of(path)
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        and ast.unparse(node.items[0].context_expr).endswith(("_lock", ".lock"))
    ]


def test_under_a_lock_there_is_no_io_no_user_code_and_no_other_lock(path: Path) -> None:
    for block in locked_blocks(path):
        for node in (each for line in block.body for each in ast.walk(line)):
            assert not isinstance(node, (ast.Import, ast.ImportFrom, ast.Yield, ast.YieldFrom))
            assert not isinstance(node, ast.With), f"another lock at line {node.lineno}"
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func).rpartition(".")[2]
                assert name not in NEVER_UNDER_A_LOCK, f"{name}() at line {node.lineno}"


def jumps_back_on_a_condition(node: ast.AST) -> bool:
    """Whether the last thing that each round of a loop does is to look whether there is another."""
    if isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp)):
        return any(part.ifs for part in node.generators)
    if isinstance(node, ast.While) and not isinstance(node.test, ast.Constant):
        return True
    if isinstance(node, (ast.For, ast.While)):
        last = node.body[-1]
        return isinstance(last, ast.If) and not last.orelse
    return False


def test_ctrl_c_in_a_loop_leaves_no_lock_locked(path: Path) -> None:
    # Python 3.12 and later give such a jump no place in the table of handlers, and 3.13 lets
    # signals in at it: the exception passes every `with` and `try` of the function that has it, and
    # is caught by those of its callers. So the loop goes into a function of its own.
    for block in locked_blocks(path):
        for node in (each for line in block.body for each in ast.walk(line)):
            assert not jumps_back_on_a_condition(node), f"a loop at line {node.lineno}"


def test_ctrl_c_in_a_loop_passes_no_try_that_gives_something_back(path: Path) -> None:
    # As above; where such a loop costs nothing it goes on unconditionally, and breaks.
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Try) and (
            node.finalbody
            or any(ast.unparse(h.type or node) == "BaseException" for h in node.handlers)
        ):
            for loop in (each for line in node.body for each in ast.walk(line)):
                assert not jumps_back_on_a_condition(loop), f"a loop at line {loop.lineno}"


def test_every_module_says_what_lives_there(path: Path) -> None:
    assert ast.get_docstring(tree_of(path))


PUBLIC = [
    info.name
    for info in pkgutil.walk_packages([str(ROOT)], "cosy_sync.")
    if not info.name.endswith("__main__")
]


@pytest.mark.parametrize("name", ["cosy_sync", *PUBLIC])
def test_public_lists_are_sorted_and_honest(name: str) -> None:
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])
    assert list(listed) == sorted(set(listed))
    assert all(hasattr(module, each) for each in listed)


@pytest.mark.parametrize(
    ("library", "home"),
    [("pybreaker", "policies/breaker.py"), ("backoff", "policies/retry.py")],
)
def test_aging_libraries_stand_behind_one_file(library: str, home: str) -> None:
    homes = {
        name_of(path)
        for path in FILES
        if library in path.read_text("utf-8")
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.Import) and any(a.name == library for a in node.names))
        or (isinstance(node, ast.ImportFrom) and not node.level and node.module == library)
    }
    assert homes == {home}


def test_importing_starts_no_thread_and_leaves_heavy_libraries_alone() -> None:
    code = (
        "import sys, threading, cosy_sync\n"
        "assert threading.active_count() == 1\n"
        "heavy = {'httpx', 'urllib3', 'asyncio', 'numpy', 'backoff'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_importing_takes_less_than_150_ms_of_cpu() -> None:
    # The one promise about time that is a test: the best of many runs, CPU time, not wall.
    code = "import time; t = time.process_time(); import cosy_sync; print(time.process_time() - t)"
    run = [sys.executable, "-c", code]
    assert any(
        float(subprocess.run(run, capture_output=True, check=True).stdout) < 0.150
        for _ in range(20)
    )


ARCHITECTURE = (ROOT.parent / "docs" / "architecture.md").read_text("utf-8")
# Rooms of which every public class has its line in the table of nouns.
MAPPED = {"engine", "endpoints", "threads"}


def nouns() -> dict[tuple[str, str], str]:
    """Return what docs/architecture.md says of each class and its file."""
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| `([\w/]+\.py)` \|$", ARCHITECTURE, re.MULTILINE)
    return {(noun, file): sentence for noun, sentence, file in rows}


def classes_of(path: Path) -> set[str]:
    tree = tree_of(path)
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


def public_names_of(path: Path) -> list[str]:
    for node in tree_of(path).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def test_every_noun_of_the_architecture_is_where_it_says() -> None:
    assert len(nouns()) > 60
    for noun, file in nouns():
        assert noun in classes_of(ROOT / file), f"{file} has no {noun}"


def test_every_file_that_the_architecture_names_exists() -> None:
    named = re.findall(r"`((?:tests/)?[\w/]+\.py|[\w]+/)`", ARCHITECTURE)
    assert named
    for name in named:
        assert any((home / name).exists() for home in (ROOT, ROOT.parent)), name


def test_every_public_class_of_the_machines_is_in_the_architecture() -> None:
    known = set(nouns())
    for path in FILES:
        if unit_of(path) in MAPPED:
            public = classes_of(path) & set(public_names_of(path))
            missing = {noun for noun in public if (noun, name_of(path)) not in known}
            assert not missing, f"{name_of(path)}: say in docs/architecture.md what these are"


@pytest.mark.parametrize(
    "name",
    [
        "engine/audio_stream.py",
        "engine/bulk.py",
        "engine/retrying.py",
        "engine/splitting.py",
        "engine/text_queue.py",
        "policies/breaker.py",
        "policies/unanimity.py",
    ],
)
def test_a_state_machine_begins_with_its_states(name: str) -> None:
    doc = ast.get_docstring(ast.parse((ROOT / name).read_text("utf-8"))) or ""
    _, found, rest = doc.partition("\nStates")
    assert found
    steps = [line for line in rest.splitlines() if line.startswith("    ") and "->" in line]
    assert len(steps) >= 4
    assert "lock" in rest


# The one background thread beside the workers; what else may wait has a thread while it lasts.
BACKGROUND = {"cosy-keeper"}
WHILE_IT_LASTS = {"cosy-feeder", "cosy-import", "cosy-lookup", "cosy-poller", "cosy-reaper"}
SHARED_LIMITS = {"cosy-breaker", "cosy-canary", "cosy-limit", "cosy-places"}
WORKER = re.compile(r"cosy-worker-\d+")


def is_worker(name: str) -> bool:
    return WORKER.fullmatch(name) is not None


def test_a_client_that_speaks_has_one_background_thread_beside_its_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[str] = []
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        started.append(thread.name)
        real(thread)

    with Server() as server:
        before = set(threading.enumerate())
        monkeypatch.setattr(threading.Thread, "start", start)
        with cosy_sync.CosyClient(server.url) as client:
            client.synth("你好")
            client.synth_many([f"第{n}句" for n in range(40)])
            client.submit("再见").result(10)
            assert next(iter(client.synth_iter(["前方路口请左转"] * 3))).ok
            alive = [each.name for each in threading.enumerate() if each not in before]
        monkeypatch.undo()
    ours = [name for name in alive if name.startswith("cosy-")]
    others = [n for n in ours if not is_worker(n) and not n.startswith("cosy-server")]
    assert sorted(set(others) - WHILE_IT_LASTS) == sorted(BACKGROUND)
    assert len([name for name in others if name in BACKGROUND]) == len(BACKGROUND)
    mine = {n for n in started if n.startswith("cosy-") and not n.startswith("cosy-server")}
    assert {n for n in mine if not is_worker(n)} <= BACKGROUND | WHILE_IT_LASTS
    assert any(map(is_worker, mine))


def test_every_thread_that_is_started_has_a_name_that_the_architecture_explains() -> None:
    makers = {"Thread", "Keeper", "run_aside", "start_aside"}
    names = set()
    for path in FILES:
        if unit_of(path) in EDGES or '"cosy-' not in path.read_text("utf-8"):
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in makers:
                values = [*node.args, *(keyword.value for keyword in node.keywords)]
                texts = [v.value for v in values if isinstance(v, ast.Constant)]
                names |= {t for t in texts if isinstance(t, str) and t.startswith("cosy-")}
    assert names == BACKGROUND | WHILE_IT_LASTS | SHARED_LIMITS
    for name in {*names, "cosy-worker-N"}:
        assert f"`{name}`" in ARCHITECTURE
