"""manage.py cosy_synth: speak a model's texts into one of its file fields."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, FieldError, ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db.models import FileField

from cosy_sync import ConfigError, CosyError

from ...aliases import speech
from ...filling import Filling, add_rows

__all__ = ["Command"]


class Command(BaseCommand):
    """Fills a file field with speech."""

    help = (
        "Speak a text field of a model into a FileField through its storage. Rows that have a file "
        "are left alone, so a run that was ended goes on where it was."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the command's options."""
        add = parser.add_argument
        add("model", help="such as news.Article")
        add("--text", default="text", metavar="FIELD", help="field with the text (default: text)")
        add("--to", default="audio", metavar="FIELD", help="FileField to fill (default: audio)")
        add("--filter", action="append", default=[], metavar="NAME=VALUE", help="only these rows")
        add("--from", dest="source", metavar="FILE", help="add a row for each text of it first")
        add("--using", default="default", help="client of COSY_SYNC")
        add("--database", default="default", help="where the rows are")
        add("--format", default=None, help="such as mp3; left out, the client's own")
        add("--chunk", type=int, default=500, help="rows that are updated at once (default: 500)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        filling = self._filling(options)
        try:
            if options["source"]:
                added = add_rows(filling, options["source"])
                self.stdout.write(f"{added} rows added")
            for error, pk in filling.run():
                self.stderr.write(f"{pk}: {type(error).__name__}: {error}")
        except (ConfigError, FieldError, ValidationError, ValueError) as error:
            raise CommandError(str(error)) from error
        finally:
            self.stdout.write(f"{filling.stored} stored, {filling.failed} failed")
        if filling.failed:
            raise CommandError("some texts failed; run it again for them alone")

    def _filling(self, options: dict[str, Any]) -> Filling:
        try:
            model = apps.get_model(options["model"])
            field = model._meta.get_field(options["to"])
            model._meta.get_field(options["text"])
        except (LookupError, FieldDoesNotExist, ValueError) as error:
            raise CommandError(str(error)) from error
        if not isinstance(field, FileField):
            raise CommandError(f"--to: {options['to']} is no FileField")
        if options["chunk"] < 1:
            raise CommandError("--chunk: give 1 or more")
        pairs = [each.partition("=") for each in options["filter"]]
        rows = model._default_manager.using(options["database"])
        try:
            rows = rows.filter(**{name: value for name, _, value in pairs})
            client = speech[options["using"]]
            if options["format"]:
                client = client.with_options(format=options["format"])
        except (CosyError, FieldError, ValidationError, ValueError) as error:
            raise CommandError(str(error)) from error
        return Filling(client, rows, options["text"], field, options["chunk"])
