"""The commands' memory: what large replies took goes back to the system."""

import subprocess
import sys

import pytest

# Prints how many blocks of 1 MB came from the system itself after one was freed.
_BLOCKS = """
import ctypes
from cosy_sync.cli.heap import give_back_large_blocks

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in "abcdefghij"]

libc = ctypes.CDLL(None)
libc.mallinfo.restype = Info
give_back_large_blocks()
first = bytearray(1 << 20)
del first
before = libc.mallinfo().d
kept = [bytearray(1 << 20) for _ in range(8)]
print(libc.mallinfo().d - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
@pytest.mark.parametrize("variable", [{}, {"MALLOC_MMAP_THRESHOLD_": "33554432"}])
def test_large_blocks_go_back_to_the_system_unless_a_variable_says_otherwise(
    variable: dict[str, str],
) -> None:
    run = [sys.executable, "-c", _BLOCKS]
    done = subprocess.run(run, env=variable, capture_output=True, text=True, check=True)
    assert int(done.stdout) == (0 if variable else 8)
