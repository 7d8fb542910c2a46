"""Speaks the rows of a queryset into a file field; what has a file is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.files.base import ContentFile
from django.db.models import Q

from cosy_sync import CosyClient, CosyError, Outcome, Utterance, text_hash

from ...jobs import read_texts

__all__ = ["Filling", "add_rows"]


class Filling:
    """One run over the rows that have no file yet.

    A row's file is stored under a name that follows from its key and text, so a run that was
    killed between storing files and updating their rows leaves none behind: the next one writes
    them again. Rows are updated `chunk` at a time, and what was finished when something ends the
    run is updated too.

    Args:
        client: Who speaks.
        rows: A queryset.
        text: The name of the field with the text.
        field: The FileField.
        chunk: Rows that are read, and updated, at once.
    """

    def __init__(self, client: CosyClient, rows: Any, text: str, field: Any, chunk: int) -> None:
        self._client, self._text, self._field, self._chunk = client, text, field, chunk
        self.rows = rows
        self._empty = rows.filter(_empty(field.name)).exclude(_empty(text)).order_by("pk")
        # Rows whose texts are with the client, by their place in the call.
        self._waiting: dict[int, Any] = {}
        self._spoken: list[Any] = []
        self.stored = self.failed = 0

    @property
    def text_field(self) -> str:
        """Return the name of the field with the text."""
        return self._text

    @property
    def chunk(self) -> int:
        """Return how many rows are read, and updated, at once."""
        return self._chunk

    def run(self) -> Iterator[tuple[CosyError, Any]]:
        """Speak and store; yield each text's error and its row's key."""
        outcomes = self._client.synth_iter(self._texts())
        try:
            for outcome in outcomes:
                row = self._waiting.pop(outcome.index)
                if outcome.error is not None:
                    self.failed += 1
                    yield outcome.error, row.pk
                else:
                    self._store(row, outcome)
        except BaseException as error:
            for outcome in getattr(error, "outcomes", ()):  # finished, and not handed out
                if outcome.audio is not None and outcome.index in self._waiting:
                    self._store(self._waiting.pop(outcome.index), outcome)
            raise
        finally:
            self._update()

    def _texts(self) -> Iterator[Utterance]:
        # By their keys: no cursor stays open while texts are spoken, and rows that are updated
        # meanwhile are not met again.
        index, rows = 0, list(self._empty[: self._chunk])
        while rows:
            for row in rows:
                self._waiting[index] = row
                index += 1
                yield Utterance(str(getattr(row, self._text)))
            rows = list(self._empty.filter(pk__gt=rows[-1].pk)[: self._chunk])

    def _store(self, row: Any, outcome: Outcome) -> None:
        audio, field = outcome.result(), self._field
        ending = "raw" if audio.format == "pcm" else audio.format
        name = field.generate_filename(row, f"{row.pk}-{text_hash(outcome.text)}.{ending}")
        if field.storage.exists(name):  # of a run that was killed; it may be half of one
            field.storage.delete(name)
        stored = field.storage.save(name, ContentFile(audio.data), max_length=field.max_length)
        setattr(row, field.attname, stored)
        self._spoken.append(row)
        if len(self._spoken) >= self._chunk:
            self._update()

    def _update(self) -> None:
        spoken, self._spoken = self._spoken, []
        if spoken:
            self.rows.model._base_manager.using(self.rows.db).bulk_update(
                spoken, [self._field.name]
            )
            self.stored += len(spoken)


def _empty(name: str) -> Q:
    return Q(**{name: ""}) | Q(**{f"{name}__isnull": True})


def add_rows(filling: Filling, path: str) -> int:
    """Add a row for each text of a file that no row has yet; return how many were added."""
    rows, name, added = filling.rows, filling.text_field, 0
    texts = iter(read_texts(path))
    while chunk := [each.text for _, each in zip(range(filling.chunk), texts, strict=False)]:
        wanted = dict.fromkeys(chunk)
        known = set(rows.filter(**{f"{name}__in": list(wanted)}).values_list(name, flat=True))
        new = [rows.model(**{name: text}) for text in wanted if text not in known]
        rows.model._base_manager.using(rows.db).bulk_create(new)
        added += len(new)
    return added
