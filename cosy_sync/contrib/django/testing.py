"""A backend for tests, which needs no network: write its name as BACKEND of an alias."""

from __future__ import annotations

from ..fakes import FakeClient as _FakeClient
from .client import DjangoClient

__all__ = ["FakeClient"]


class FakeClient(_FakeClient, DjangoClient):
    """Speaks tones: `"BACKEND": "cosy_sync.contrib.django.testing.FakeClient"`.

    `speech["default"].texts` are those that it was asked for, and `speech["default"].service` can
    be told to fail.
    """
