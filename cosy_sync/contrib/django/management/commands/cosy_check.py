"""manage.py cosy_check: speak one text with each client of settings.COSY_SYNC."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cosy_sync import ConfigError

from ....checking import check_client
from ...aliases import speech

__all__ = ["Command"]


class Command(BaseCommand):
    """Tries the clients."""

    help = "Speak one text with each client of COSY_SYNC; ends with 1 where one fails."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the command's options."""
        parser.add_argument("alias", nargs="*", help="clients to try (default: all)")
        parser.add_argument("--text", default="你好，世界。", help="what to speak")
        parser.add_argument("--quiet-service", action="store_true", help="speak nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        failed = []
        text = None if options["quiet_service"] else options["text"]
        for alias in options["alias"] or speech:
            try:
                well = check_client(alias, speech[alias], self.stdout.write, text)
            except ConfigError as error:
                self.stdout.write(f"{alias}: FAILED: {error}")
                well = False
            if not well:
                failed.append(alias)
        if failed:
            raise CommandError(f"{', '.join(failed)} cannot speak")
