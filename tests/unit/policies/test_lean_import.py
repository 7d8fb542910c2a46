"""pybreaker is imported without redis and tornado, and whoever wants them finds them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = {
    "redis/__init__.py": "class Redis:\n    def setnx(self, *a): ...\n",
    "redis/client.py": "class Pipeline: ...\n",
    "redis/exceptions.py": "class RedisError(Exception): ...\n",
    "tornado/__init__.py": "",
    "tornado/gen.py": "class Return(Exception): ...\ndef coroutine(f): return f\n",
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Make a directory with small stand-ins for the packages that pybreaker takes along."""
    for name, text in PACKAGES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def run(code: str, site: Path) -> None:
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        timeout=60,
    )


START = """
import sys, httpx, cosy_sync
from cosy_sync.testing import FakeService
finders = list(sys.meta_path)
with cosy_sync.CosyClient("http://a/b", http_client=httpx.Client(transport=FakeService())) as c:
    c.synth("你好")
taken = {"redis", "tornado"} & set(sys.modules)
assert sys.meta_path[0] in finders or "_distutils_hack" in type(sys.meta_path[0]).__module__
"""


def test_a_client_takes_neither_along(site: Path) -> None:
    run(START + "assert not taken, taken", site)


def test_the_libraries_of_the_user_are_found_afterwards(site: Path) -> None:
    code = """
assert not taken
import pybreaker, redis
storage = pybreaker.CircuitRedisStorage("closed", redis.Redis())
assert pybreaker.RedisError is redis.exceptions.RedisError
assert pybreaker.HAS_REDIS_SUPPORT is True and pybreaker.Redis is redis.Redis
assert "tornado" not in sys.modules
assert pybreaker.CircuitBreaker().call_async(lambda: None) is not None
assert "tornado" in sys.modules and pybreaker.HAS_TORNADO_SUPPORT
import inspect, importlib
assert "class CircuitBreaker" in inspect.getsource(pybreaker)
importlib.reload(pybreaker)
assert pybreaker.HAS_REDIS_SUPPORT is True
"""
    run(START + code, site)


@pytest.mark.parametrize("first", ["redis, redis.client, redis.exceptions", "pybreaker"])
def test_what_the_user_has_imported_is_used(first: str, site: Path) -> None:
    code = f"import {first}\n{START}import pybreaker; assert pybreaker.HAS_REDIS_SUPPORT is True"
    run(code, site)


def test_a_missing_package_is_missing_as_ever(tmp_path: Path) -> None:
    code = """
import pybreaker
sys.modules["redis"] = sys.modules["tornado"] = None  # whatever is installed here
assert not pybreaker.HAS_REDIS_SUPPORT and not pybreaker.HAS_TORNADO_SUPPORT
try:
    pybreaker.CircuitRedisStorage("closed", None)
except ImportError:
    pass
else:
    raise AssertionError
"""
    run(START + "assert not taken, taken" + code, tmp_path)


def test_other_threads_import_meanwhile_what_they_want(site: Path) -> None:
    code = """
import threading, sys
from cosy_sync.policies.lean_import import without_extras
with without_extras():
    import redis, tornado.gen
assert redis.Redis and tornado.gen
"""
    run(code, site)


def test_a_finder_of_the_old_kind_stands_in_nobodys_way(site: Path) -> None:
    code = """
import sys, warnings
warnings.simplefilter("ignore")
class Old:
    def find_module(self, name, path=None): return None
sys.meta_path.insert(0, Old())
from cosy_sync.policies.breaker import Breaker
"""
    run(code, site)
