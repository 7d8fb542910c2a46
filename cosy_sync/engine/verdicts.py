"""What texts of one call of many end with unsent, as what became of others has shown."""

from __future__ import annotations

from ..bounded import BoundedCache
from ..errors import BadRequestError, CosyError, TextError
from ..models import Utterance
from ..policies import Unanimity
from .batch import Batch

__all__ = ["Verdicts"]

# Refusals that may be of a text's own settings, where others have other ones: of its voice, not of
# the key.
_OF_SETTINGS = (BadRequestError, TextError)
# Settings of texts whose refusals are remembered.
_MOST = 256


class Verdicts:
    """The error with which every further text of a call would end, or every one with the same
    settings: a voice that the service does not know says nothing about another one.

    `whole` is written by workers and the caller, each time as a whole. It is taken back only where
    the first text with settings of its own comes, of which it says nothing.
    """

    def __init__(self) -> None:
        self.whole: CosyError | None = None
        # The caller's thread alone changes these two.
        self._records: BoundedCache[int, tuple[object, Unanimity]] = BoundedCache(_MOST)
        self._mixed = False

    def record_of(self, text: Utterance) -> Unanimity:
        """Return where refusals of texts with the same settings are noted."""
        settings = text.settings
        known = self._records.get(id(settings))
        if known is None:
            known = self._records.keep(id(settings), (settings, Unanimity()))
        return known[1]

    def on(self, text: Utterance) -> CosyError | None:
        """Return the error with which such a text would end, where that is known."""
        self._mixed = self._mixed or text.settings is not None
        if self._mixed and isinstance(self.whole, _OF_SETTINGS):
            self.whole = None  # it was of those before, and stays theirs, in their record
        return self.whole or self.record_of(text).verdict

    def note(self, batch: Batch, *, alone: bool) -> None:
        """Note what a batch has shown; `alone`: there is no other endpoint."""
        of_record = None if batch.record is None else batch.record.verdict
        for verdict in (batch.hopeless if alone else None, of_record):
            if verdict is not None and not (self._mixed and isinstance(verdict, _OF_SETTINGS)):
                self.whole = verdict
