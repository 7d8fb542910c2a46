"""How a long text is cut, and how much silence there is between its pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..checks import Rule, check, flag, not_negative
from ..fields import tells_fields

__all__ = ["NarrationConfig", "Splitter"]

# Cuts one paragraph into pieces.
Splitter = Callable[[str], Iterable[str]]

_PAUSES = ("sentence_pause", "paragraph_pause", "clause_pause", "gap")
_RULES: tuple[Rule, ...] = (
    *((name, lambda v: v <= 60, "at most 60 seconds") for name in _PAUSES),
    ("segment_length", lambda v: 10 <= v <= 1000, "10 to 1000"),
    ("quality", lambda v: v is None or 0 <= v <= 1, "0 to 1"),
    ("split", lambda v: v is None or callable(v), "a function that cuts a text into pieces"),
)


@tells_fields
@dataclass(frozen=True, kw_only=True)
class NarrationConfig:
    """How `narrate` cuts a long text, and how it joins what was spoken."""

    segment_length: float = 80.0
    """Length above which a sentence is cut, at its clauses if it has any. A Chinese, Japanese
    or Korean character counts as 1, any other as a third: 80 are some 20 s of speech, within
    which the models keep their pace. Longer segments are fewer requests with more waiting for
    each."""
    whole_paragraphs: bool = False
    """Speak what stands between two pauses (a paragraph, or up to a mark) as one text, if it is
    no longer than the client's max_text_chars: its intonation runs on, as `dashscope_ws` keeps
    it over a whole task. What fails is then repeated as a whole, its sentences are not spoken
    side by side, and the pauses between them are the service's own. They are segments of their
    own where the service tells the times of words."""
    sentence_pause: float = 0.25
    """Seconds of silence between two sentences. What the service leaves at the ends of its audio
    comes on top."""
    paragraph_pause: float = 0.75
    """Seconds of silence after a paragraph (a blank line)."""
    clause_pause: float = 0.0
    """Seconds of silence within a sentence that was cut."""
    gap: float = 1.0
    """Seconds of silence in place of a segment that failed, with on_error="return"."""
    trim: bool = False
    """Trim the silence at the ends of each segment (but for 20 ms), so that pauses are exact."""
    quality: float | None = None
    """Of a file that is written in MP3, Opus or Ogg: 0 is the smallest, 1 the best; None
    leaves it to the encoder."""
    split: Splitter | None = field(default=None, repr=False)
    """A function of yours that cuts a paragraph into pieces, in place of our rules."""

    def __post_init__(self) -> None:
        check(
            self,
            not_negative(*_PAUSES) + flag("trim", "whole_paragraphs") + _RULES,
        )
