"""Who speaks at /v1/audio/speech: presets, uploaded recordings, recordings sent along."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

from ..errors import RequestError, bad_request
from .openai_forms import Fields

__all__ = ["InvalidItem", "Voices"]

_MAX_VOICES = 1_000
_MAX_SAMPLE = 10_000_000
# vox-box's names of the speakers that this server has.
_ENGLISH = {
    **{"Chinese Female": "中文女", "Chinese Male": "中文男", "Cantonese Female": "粤语女"},
    **{"English Female": "英文女", "English Male": "英文男"},
}
# SiliconFlow's own speakers, asked for as MODEL:NAME.
_HOSTED = ("alex", "anna", "bella", "benjamin", "charles", "claire", "david", "diana")


class InvalidItem(RequestError):
    """What vLLM-Omni finds wrong with a text or its voice, once the fields as such are right: a 400
    for a single text, a bare sentence in place of an item's sound."""

    def __init__(self, sentence: str) -> None:
        super().__init__(400, "bad_request", sentence)


class Voices:
    """The speakers of one server. A recording is imitated by a preset that its bytes choose."""

    def __init__(self, presets: Sequence[str]) -> None:
        self._presets = presets
        self._uploaded: dict[str, str] = {}
        self._transcripts: dict[str, str] = {}

    def listed(self) -> dict[str, Any]:
        """Give the body of a list."""
        uploaded = [{"name": name, "ref_text": text} for name, text in self._transcripts.items()]
        return {"voices": [*self._presets, *self._uploaded], "uploaded_voices": uploaded}

    def add(self, fields: Fields) -> dict[str, str]:
        """Take a recording in. Raises RequestError."""
        for name in ("audio_sample", "consent", "name"):
            if not fields.get(name):
                raise bad_request(f"{name}: Field required")
        name, sample = str(fields["name"]).lower(), fields["audio_sample"]
        # A name that is there already is overwritten.
        is_new = name not in self._uploaded
        if (is_new and len(self._uploaded) >= _MAX_VOICES) or len(sample) > _MAX_SAMPLE:
            raise bad_request(f"at most {_MAX_VOICES} voices of {_MAX_SAMPLE} bytes are kept")
        self._uploaded[name] = self._imitate(sample)
        self._transcripts[name] = fields.get("ref_text", "")
        return {"name": name}

    def remove(self, name: str) -> None:
        """Forget an uploaded voice. Raises RequestError."""
        if self._uploaded.pop(name.lower(), None) is None:
            raise RequestError(404, "not_found", f"Voice '{name}' not found")
        del self._transcripts[name.lower()]

    def speaker(self, fields: Fields) -> str:
        """Return the preset that speaks a request. Raises InvalidItem."""
        sample = fields.get("prompt_speech") or _sent_along(fields)
        if sample:
            return self._imitate(sample)
        voice = fields.get("voice") or fields.get("speaker") or "default"
        name = voice.get("id") if isinstance(voice, dict) else voice
        if name == "default":
            return self._presets[0]
        name = _ENGLISH.get(str(name), name)
        if name in self._presets:
            return str(name)
        if str(name).lower() in self._uploaded:
            return self._uploaded[str(name).lower()]
        hosted = str(name).rpartition(":")[2]
        if hosted != name and hosted in _HOSTED:
            return self._presets[_HOSTED.index(hosted) % len(self._presets)]
        known = ", ".join(self._presets)
        raise InvalidItem(
            f"Unknown voice '{name!s:.80}'. Built-in speakers: {known}. Upload a voice first via "
            "POST /v1/audio/voices, or use ref_audio + ref_text."
        )

    def _imitate(self, sample: bytes) -> str:
        if not isinstance(sample, bytes) or sample[:4] != b"RIFF":
            raise InvalidItem("the reference audio is no WAV file")
        return self._presets[hashlib.sha256(sample).digest()[0] % len(self._presets)]


def _sent_along(fields: Fields) -> bytes:
    """Read vLLM-Omni's ref_audio and ref_text, or SiliconFlow's references."""
    audio, text = fields.get("ref_audio"), fields.get("ref_text")
    references = fields.get("references")
    if isinstance(references, list) and references and isinstance(references[0], dict):
        audio, text = references[0].get("audio"), references[0].get("text")
    if audio is None:
        return b""
    if not isinstance(text, str) or not text.strip():
        raise InvalidItem("CosyVoice3 requires 'ref_text' (transcript of the reference audio)")
    head, found, data = str(audio).partition(";base64,")
    try:
        if not found or not head.startswith("data:"):
            raise ValueError
        return base64.b64decode(data, validate=True)
    except ValueError:
        raise InvalidItem("ref_audio must be a base64 data URL (data:...) here") from None
