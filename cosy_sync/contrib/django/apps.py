"""The application: registers the system checks."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["CosySyncConfig"]


class CosySyncConfig(AppConfig):
    """Makes no client and opens no connection: the first text does."""

    name = "cosy_sync.contrib.django"
    label = "cosy_sync"
    verbose_name = "Speech"

    def ready(self) -> None:
        """Register the checks; import what the first text would wait for, before a host forks."""
        from django.core import checks

        from ...loading import FIRST_TEXT, load
        from .checks import check_settings

        load("cosy_sync.core", *FIRST_TEXT)
        checks.register(check_settings, "cosy_sync")
