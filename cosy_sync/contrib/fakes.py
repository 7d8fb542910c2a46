"""A client for tests of an application: it speaks tones, without a network."""

from __future__ import annotations

from typing import Any

from cosy_sync import ClientConfig, CosyClient

__all__ = ["FakeClient"]

# What a real service, or its network, needs: here it is as if nobody had said it.
_REAL = ("wire", "model", "extra", "sharing", "cache", "api_key", "pool")
_FIELDS = ClientConfig.__dataclass_fields__


class FakeClient(CosyClient):
    """Speaks every text as a tone of its own; `texts` are those that it was asked for.

    Settings of the connection are taken and left aside, all others hold. `service` is the
    FakeService behind it: `client.service.fail(503)` lets the next request fail.
    """

    def __init__(self, url: Any = None, **settings: Any) -> None:
        import httpx

        from cosy_sync.testing import FakeService

        self.service = service = FakeService()
        plain = {name: getattr(ClientConfig(), name) for name in _REAL if name in _FIELDS}
        front = {"http_client": lambda: httpx.Client(transport=service)}
        super().__init__("http://speech.test/batch", **{**settings, **plain, **front})

    @property
    def texts(self) -> list[str]:
        """Return the texts that were sent, in the order of their requests."""
        return [text for texts in list(self.service.calls) for text in texts]
