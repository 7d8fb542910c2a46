"""Whose fault a failure is, where a service says it in a bare sentence without any code."""

from __future__ import annotations

import re

__all__ = ["SERVICE", "TEXT", "UNKNOWN", "VOICE", "blame"]

TEXT, VOICE, SERVICE, UNKNOWN = "text", "voice", "service", "unknown"

# What engines say of themselves. Looked for first: such a sentence may hold any other words.
_ENGINE = re.compile(
    r"\b(?:cuda|cudnn|cublas|nccl|gpu)|out of memory|\boom\b|engine ?core|engine ?dead|dead ?engine"
    r"|engine (?:is|has|was|loop|process)|timed? ?out|internal (?:server )?error|broken pipe"
    r"|connection (?:reset|refused|closed|error|aborted)|disconnected|no space left|traceback"
    r"|overload|unavailable|queue is full|server busy",
    re.IGNORECASE,
)
_NO_VOICE = re.compile(
    r"(?:unknown|invalid|unsupported) (?:voice|speaker)|voice '[^']*' (?:is missing|not found|uses)"
    r"|requires '?ref_(?:audio|text)|ref_audio must be|reference audio (?:is )?too"
    r"|reference audio (?:must|is no)",
    re.IGNORECASE,
)
# How vLLM-Omni and servers like it refuse a request that they have checked.
_CHECKED = re.compile(
    r"(?:cannot|can not|can't|must not|may not) (?:be )?(?:empty|blank|exceed)|(?:is|are) empty"
    r"|must (?:not )?be (?:a|an|at least|at most|between|one of|non-empty|positive)\b"
    r"|must contain|at most \d+|exceed(?:s|ing)? the max|(?:is|are) not (?:supported|allowed|valid)"
    r"|is required|requires (?:a |an |non-empty )?'?[a-z_]+'|too (?:long|short)\b"
    r"|longer than the (?:model|max)|maximum context length|disallowed special token"
    r"|cannot (?:be )?(?:said|say|speak|spoken)|nothing to (?:say|speak)",
    re.IGNORECASE,
)


def blame(sentence: str) -> str:
    """Return TEXT, VOICE or SERVICE for a sentence that is known, else UNKNOWN."""
    if _ENGINE.search(sentence):
        return SERVICE
    if _NO_VOICE.search(sentence):
        return VOICE
    return TEXT if _CHECKED.search(sentence) else UNKNOWN
