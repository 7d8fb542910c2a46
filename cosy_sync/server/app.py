"""The service with all its wires."""

from __future__ import annotations

from .config import ServerConfig
from .engines import Engine
from .service import Service
from .wires import dashscope_http, dashscope_ws, openai, pai_eas, runtime_http, triton_http

__all__ = ["make_service"]


def make_service(config: ServerConfig, engine: Engine) -> Service:
    """Return a service that answers at the paths of every wire that speaks HTTP."""
    service = Service(config, engine)
    for wire in (runtime_http, openai, dashscope_ws, dashscope_http, pai_eas, triton_http):
        service.add_routes(wire.routes(service))
    return service
