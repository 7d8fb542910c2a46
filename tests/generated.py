"""The code that protoc makes of the official runtime's service, made anew for the tests."""

from __future__ import annotations

import functools
import importlib
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest


@functools.cache
def cosyvoice() -> tuple[Any, Any]:
    """Return the generated modules of messages and of stubs; skip the test without protoc."""
    pytest.importorskip("grpc_tools", reason="needs grpcio-tools (extra test)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it imports is not ours to mend
        from grpc_tools import protoc

        with tempfile.TemporaryDirectory() as place:
            arguments = ["protoc", f"-I{Path(__file__).parent}"]
            arguments += [f"--python_out={place}", f"--grpc_python_out={place}", "cosyvoice.proto"]
            assert protoc.main(arguments) == 0
            sys.path.insert(0, place)
            try:
                names = "cosyvoice_pb2", "cosyvoice_pb2_grpc"
                messages, stubs = map(importlib.import_module, names)
            finally:
                sys.path.remove(place)
    return messages, stubs
