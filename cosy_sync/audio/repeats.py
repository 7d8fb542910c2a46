"""The same recording for different texts: within one reply, and one reply after another."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import combinations

from ..errors import BadAudioError, CosyError
from ..models import Audio
from .homophones import may_sound_alike
from .speakable import sounds_like

__all__ = ["RepeatGuard"]

# How many recordings are known, and of each how many texts: mostly one. A text of more characters
# is kept as a digest.
_RECORDINGS = 512
_TEXTS = 64
_LONGEST = 500
# Bytes that are looked at: at both ends, and so many between them.
_END, _PLACES = 256, 64


class RepeatGuard:
    """Refuse a recording that other texts had, of one voice and model.

    An engine that is stuck sends the same sound for everything. One that is deterministic does so
    for texts that are read alike, and is right. What tells them apart is the spelling: texts that
    cannot be read alike (张三, 李四) are refused; those that may be (张三, 章三) are right once a
    request for one of them alone brings the same bytes.
    """

    def __init__(self) -> None:
        # Guards _known.
        self._lock = threading.Lock()
        # The texts of the last recordings, newest last, by a digest of the sound.
        self._known: OrderedDict[int, list[str]] = OrderedDict()

    def check(self, texts: Sequence[str], checked: list[Audio | CosyError]) -> None:
        """Put BadAudioError in place of recordings that are other texts'."""
        if len(texts) > 1:
            self._check_reply(texts, checked)
        fresh = []
        for index, audio in enumerate(checked):
            if isinstance(audio, Audio):
                text = texts[index]
                kept = text if len(text) <= _LONGEST else _kept(text)
                fresh.append((index, digest_of(audio), kept))
        # Those that only other texts had, and these.
        met = []
        with self._lock:
            for index, digest, text in fresh:
                known = self._known.setdefault(digest, [text])
                if text not in known:
                    met.append((index, list(known)))
                self._known.move_to_end(digest)
            for _ in range(len(self._known) - _RECORDINGS):
                self._known.popitem(last=False)
        if met:  # almost never
            self._judge(texts, checked, met)

    def forget(self, text: str, audio: Audio) -> None:
        """Take it back that a recording is a text's: somebody who listened says that it is not."""
        digest = digest_of(audio)
        with self._lock:
            known = self._known.get(digest, [])
            if _kept(text) in known:
                known.remove(_kept(text))
            if not known:
                self._known.pop(digest, None)

    # -- one reply ------------------------------------------------------------------------------

    def _check_reply(self, texts: Sequence[str], checked: list[Audio | CosyError]) -> None:
        """Refuse every member of a group with the same sound, since nobody knows whose it is."""
        groups: dict[tuple[int, bytes], list[int]] = {}
        for index, audio in enumerate(checked):
            if isinstance(audio, Audio):
                middle = audio.pcm_start + audio.pcm_size // 2
                key = audio.pcm_size, bytes(audio.data[middle : middle + 32])
                groups.setdefault(key, []).append(index)
        if len(groups) == len(checked):
            return
        for group in groups.values():
            if len(group) > 1:
                self._check_group(group, texts, checked)

    def _check_group(
        self, group: list[int], texts: Sequence[str], checked: list[Audio | CosyError]
    ) -> None:
        same: dict[bytes, list[int]] = {}
        for index in group:
            audio = checked[index]
            assert isinstance(audio, Audio)
            same.setdefault(bytes(audio.pcm()), []).append(index)
        for members in same.values():
            different = {sounds_like(texts[index]): texts[index] for index in members}
            if len(different) < 2 or self._are_known(checked[members[0]], different):
                continue
            alike = all(may_sound_alike(*pair) for pair in combinations(different.values(), 2))
            what = f"{len(members)} texts of a batch came back with the same audio"
            for index in members:
                checked[index] = _refusal(what, alone=alike)

    # -- one reply after another ----------------------------------------------------------------

    def _are_known(self, audio: Audio | CosyError, texts: dict[str, str]) -> bool:
        """Return whether each of the texts had this recording when it was asked for alone."""
        assert isinstance(audio, Audio)
        digest = digest_of(audio)
        with self._lock:
            known = set(self._known.get(digest, ()))
        return all(_kept(text) in known for text in texts.values())

    def _judge(
        self,
        texts: Sequence[str],
        checked: list[Audio | CosyError],
        met: Sequence[tuple[int, Sequence[str]]],
    ) -> None:
        """Refuse recordings that other texts had, unless they may be read alike."""
        for index, others in met:
            if _has_same(texts[index], others):
                continue
            if all(may_sound_alike(texts[index], other) for other in others):
                audio = checked[index]
                if len(texts) == 1 and isinstance(audio, Audio):
                    self._add(digest_of(audio), texts[index])
                else:
                    checked[index] = _refusal("another text's recording came back", alone=True)
            else:
                checked[index] = _refusal("a recording came back that another text had before")

    def _add(self, digest: int, text: str) -> None:
        kept = _kept(text)
        with self._lock:
            known = self._known.setdefault(digest, [])
            if kept not in known and len(known) < _TEXTS:
                known.append(kept)


def digest_of(audio: Audio) -> int:
    """Return what stands for a recording here: a hash of its length and of pieces of it."""
    start, size = audio.pcm_start, audio.pcm_size
    end = start + size
    head = bytes(audio.data[start : start + _END])
    tail = bytes(audio.data[max(start, end - _END) : end])
    # An odd step meets the low and the high bytes of samples in turn.
    pieces = bytes(audio.data[start : end : size // _PLACES | 1])
    return hash(b"%d %b%b%b" % (size, head, tail, pieces))


def _kept(text: str) -> str:
    """Return a text as it is kept; of a long one, what is equal for those that sound alike."""
    if len(text) <= _LONGEST:
        return text
    spoken = sounds_like(text).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(spoken, digest_size=16).hexdigest()


def _has_same(text: str, known: Sequence[str]) -> bool:
    """Return whether one of them differs from the text in nothing that is spoken."""
    spoken = sounds_like(text)
    return any(sounds_like(other) == spoken for other in known)


def _refusal(what: str, *, alone: bool = False) -> BadAudioError:
    return BadAudioError(
        f"{what}, though the texts differ in more than punctuation; try again, and look at the "
        "service if it stays",
        reason="identical",
        alone=alone,
    )
