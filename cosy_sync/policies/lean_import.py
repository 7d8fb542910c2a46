"""Import pybreaker without redis and tornado, which it takes along wherever they are installed."""

from __future__ import annotations

import builtins
import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import MappingProxyType, ModuleType
from typing import Any

__all__ = ["without_extras"]

_LIBRARY = "pybreaker"
# What it takes along, the note that it was found, and the names taken: where each comes from.
_EXTRAS: Mapping[str, tuple[str, Mapping[str, str]]] = MappingProxyType(
    {
        "redis": (
            "HAS_REDIS_SUPPORT",
            {"Redis": "redis", "Pipeline": "redis.client", "RedisError": "redis.exceptions"},
        ),
        "tornado": ("HAS_TORNADO_SUPPORT", {"gen": "tornado"}),
    }
)


@contextlib.contextmanager
def without_extras() -> Iterator[None]:
    """Let pybreaker be imported in the block without its extras: 100 ms less where both are there.

    Only its own import statements leave them out: other threads import meanwhile what they want.
    Whoever uses pybreaker's Redis storage or its coroutines later finds them as ever: they are
    imported then.
    """
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder:
    """Finds pybreaker as everybody else does, and has it loaded without its extras."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _LIBRARY:
            return None
        for finder in [each for each in sys.meta_path if each is not self]:
            find = getattr(finder, "find_spec", None)  # the import system skips one without, too
            found: ModuleSpec | None = None if find is None else find(name, path, target)
            if found is not None:
                if hasattr(found.loader, "exec_module"):
                    lean: Any = _Loader(found.loader)
                    found.loader = lean
                return found
        return None


class _Loader:
    """Loads a module as `real` does, with an `import` of its own that knows no extras."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._real.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        names = vars(module)
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._real
        left_out: set[str] = set()
        loading = True

        def without(name: str, *args: Any, **kind: Any) -> ModuleType:
            package = name.partition(".")[0]
            if loading and package in _EXTRAS and package not in sys.modules:
                left_out.add(package)
                raise ImportError(f"{package} is imported when it is needed")
            return builtins.__import__(name, *args, **kind)

        names["__builtins__"] = {**vars(builtins), "__import__": without}
        try:
            self._real.exec_module(module)
        finally:
            loading = False
            names["__builtins__"] = vars(builtins)
        for package in left_out:
            flag, taken = _EXTRAS[package]
            if flag in names:
                names[flag] = _Later(names, flag, taken)
        if "tornado" in left_out:
            names["gen"] = _LateModule("tornado.gen")  # used without a look at the flag


class _Later:
    """Stands where a module notes that an extra is there: found out, and imported, when asked."""

    def __init__(self, names: dict[str, Any], flag: str, taken: Mapping[str, str]) -> None:
        self._names = names
        self._flag = flag
        self._taken = taken

    def __bool__(self) -> bool:
        found = True
        try:
            for name, place in self._taken.items():
                self._names[name] = _taken(place, name)
        except ImportError:
            found = False
        self._names[self._flag] = found
        return found


class _LateModule:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)


def _taken(place: str, name: str) -> Any:
    module = importlib.import_module(place)
    with contextlib.suppress(AttributeError):
        return getattr(module, name)
    return importlib.import_module(f"{place}.{name}")
