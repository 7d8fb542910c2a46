"""The code that protoc makes of the services' own protos, made anew for the tests."""

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
    """Return the official runtime's modules of messages and of stubs; skip the test without
    protoc."""
    return _generated("cosyvoice")


@functools.cache
def kserve() -> tuple[Any, Any]:
    """Return the modules of Triton's service; skip the test without protoc."""
    return _generated("kserve")


def _generated(proto: str) -> tuple[Any, Any]:
    pytest.importorskip("grpc_tools", reason="needs grpcio-tools (extra test)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it imports is not ours to mend
        from grpc_tools import protoc

        with tempfile.TemporaryDirectory() as place:
            arguments = ["protoc", f"-I{Path(__file__).parent}"]
            arguments += [f"--python_out={place}", f"--grpc_python_out={place}", f"{proto}.proto"]
            assert protoc.main(arguments) == 0
            sys.path.insert(0, place)
            try:
                names = f"{proto}_pb2", f"{proto}_pb2_grpc"
                messages, stubs = map(importlib.import_module, names)
            finally:
                sys.path.remove(place)
    return messages, stubs
