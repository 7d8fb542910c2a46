"""Texts before they are spoken: long ones in pieces, marked pauses, subtitles."""

from .cuts import Cut
from .lexicon import Lexicon
from .markdown import plain_from_markdown
from .plan import Plan, plan_narration
from .script import Part, read_script
from .splitting import split_text
from .subtitles import Cue, find_words, format_srt, format_vtt, read_subtitles, wrap_cue

__all__ = [
    "Cue",
    "Cut",
    "Lexicon",
    "Part",
    "Plan",
    "find_words",
    "format_srt",
    "format_vtt",
    "plain_from_markdown",
    "plan_narration",
    "read_script",
    "read_subtitles",
    "split_text",
    "wrap_cue",
]
