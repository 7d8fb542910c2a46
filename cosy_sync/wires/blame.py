"""Whose fault a failure is, where a service says it in a bare sentence without any code."""

from __future__ import annotations

import re

__all__ = ["SERVICE", "TEXT", "UNKNOWN", "VOICE", "blame"]

TEXT, VOICE, SERVICE, UNKNOWN = "text", "voice", "service", "unknown"

# Of the voice. Looked for first: its name may be any word.
_NO_VOICE = re.compile(
    r"(?:unknown|invalid|unsupported) (?:voice|speaker)|voice '[^']*' (?:is missing|not found|uses)"
    r"|requires '?ref_(?:audio|text)|ref_audio must be|reference audio (?:is )?too"
    r"|reference audio (?:must|is no)",
    re.IGNORECASE,
)
# What engines say of themselves. Looked for before _CHECKED: such a sentence may hold any words.
_ENGINE = re.compile(
    r"\b(?:cuda|cudnn|cublas|nccl|gpu)|out of memory|\boom\b|engine ?core|engine ?dead|dead ?engine"
    r"|engine (?:is|has|was|loop|process)|timed? ?out|internal (?:server )?error|broken pipe"
    r"|connection (?:reset|refused|closed|error|aborted)|disconnected|no space left|traceback"
    r"|overload|unavailable|queue is full|server busy",
    re.IGNORECASE,
)
# How vLLM-Omni and servers like it refuse a request that they have checked.
_CHECKED = re.compile(
    r"(?:cannot|can not|can't|must not|may not) (?:be )?(?:empty|blank|exceed)|(?:is|are) empty"
    r"|must (?:not )?be (?:a|an|at least|at most|between|one of|non-empty|positive)\b"
    r"|must contain|at most \d+ (?:characters|are allowed)|exceed(?:s|ing)? the max"
    r"|(?:is|are) not (?:supported|allowed|valid)|(?:text|input|prompt|is|are) too (?:long|short)\b"
    r"|is required|requires (?:a |an |non-empty )?'?[a-z_]+'"
    r"|longer than the (?:model|max)|maximum context length|disallowed special token"
    r"|cannot (?:be )?(?:said|say|speak|spoken)|nothing to (?:say|speak)",
    re.IGNORECASE,
)


def blame(sentence: str) -> str:
    """Return TEXT, VOICE or SERVICE for a sentence that is known, else UNKNOWN."""
    if _NO_VOICE.search(sentence):
        return VOICE
    if _ENGINE.search(sentence):
        return SERVICE
    return TEXT if _CHECKED.search(sentence) else UNKNOWN
