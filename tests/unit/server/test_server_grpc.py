"""The gRPC port of the server: its options, and its address."""

from __future__ import annotations

import socket

import pytest

from cosy_sync.server import Server, ServerConfig

pytest.importorskip("grpc", reason="needs grpcio (extra grpc)")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"grpc_port": -1}, "grpc_port is -1: use a number from 0 to 65535, or None"),
        ({"grpc_port": 65_536}, "grpc_port"),
        ({"grpc_max_conc": 0}, "grpc_max_conc is 0: use a number from 1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ServerConfig(**options)  # type: ignore[arg-type]
    ServerConfig(grpc_port=65_535)


def test_without_the_option_there_is_no_port() -> None:
    with Server() as server:
        assert server.grpc_url == ""


def test_a_port_that_is_taken_is_an_os_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port}"):
            Server(grpc_port=port).start()
    with Server(grpc_port=0) as first:
        port = int(first.grpc_url.rpartition(":")[2])
        with pytest.raises(OSError, match=f"port {port}"):
            Server(grpc_port=port).start()
