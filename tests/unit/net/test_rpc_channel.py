"""What of our TLS settings gRPC can follow; the rest is refused with the fix."""

from __future__ import annotations

import ssl

import pytest

from cosy_sync.config import ClientConfig, PoolConfig
from cosy_sync.errors import ConfigError
from cosy_sync.messages import RpcRequest
from cosy_sync.net import Sender

channels = pytest.importorskip("cosy_sync.net.rpc_channel", reason="needs grpcio (extra grpc)")
trustme = pytest.importorskip("trustme", reason="needs trustme (extra test)")


def make(scheme: str = "grpcs", address: str | None = None, **pool: object) -> None:
    config = ClientConfig(pool=PoolConfig(**pool))  # type: ignore[arg-type]
    request = RpcRequest(f"{scheme}://tts.test:50000", "/a/b", b"", (), address)
    channels.make_channel(request, config).close()


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trustme.CA().configure_trust(made)
    return made


def test_a_private_ca_and_the_usual_ones_are_taken() -> None:
    make(ssl_context=context())
    make(ssl_context=context(), address="127.0.0.1")
    make(ssl_context=context(), address="::1")
    make()
    # Overruled, as for other wires.
    make(ssl_context=context(), verify_tls=False)


def test_without_tls_its_settings_do_not_matter() -> None:
    make("grpc", verify_tls=False)


def test_a_certificate_is_always_checked() -> None:
    with pytest.raises(ConfigError, match=r"pool\.verify_tls: .*ssl_context="):
        make(verify_tls=False)
    for change in ("verify_mode", "check_hostname"):
        lax = context()
        lax.check_hostname = False
        if change == "verify_mode":
            lax.verify_mode = ssl.CERT_NONE
        with pytest.raises(ConfigError, match=r"pool\.ssl_context: .*host name"):
            make(ssl_context=lax)


def test_a_context_whose_cas_cannot_be_read_is_refused() -> None:
    with pytest.raises(ConfigError, match="load_verify_locations"):
        make(ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def test_the_package_is_imported_before_the_first_request_has_its_turn() -> None:
    sender = Sender(ClientConfig())
    sender.prepare("https://tts.test/batch")
    assert sender._task_transports == {}
    sender.prepare("grpcs://tts.test:443")
    sender.prepare("grpc://tts.test:50000")
    assert list(sender._task_transports) == ["grpc"]
    sender.close()
