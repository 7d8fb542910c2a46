"""One task of Alibaba's WebSocket protocol, from run-task to task-finished."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from ..errors import (
    BadAudioError,
    BadRequestError,
    CosyError,
    InvalidTextError,
    UnavailableError,
)
from ..messages import CutOff, Reply, TextSource
from ..models import Word, is_utf8
from .dashscope_errors import dashscope_error
from .error_bodies import read_error
from .fastjson import dump_json, load_json
from .redaction import without_texts
from .retry_after import retry_after

__all__ = ["SpeechTask", "TaskPlan"]

# Characters of one message and of one task, as the service counts them.
_MESSAGE_UNITS = 20_000
TASK_UNITS = 200_000
# Of a word's begin and end: a day.
_MOST_MILLISECONDS = 86_400_000
# What counts twice: Chinese characters, those of Japanese and Korean texts among them.
_IDEOGRAPH = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_TAG = re.compile(r"<[^<>]*>")

# Waiting for task-started; texts may go out; all texts are out; ended well; ended otherwise.
_OPENING, _SPEAKING, _FINISHING, _FINISHED, _BROKEN = range(5)
# Close codes (RFC 6455, 7.4.1) that blame what was sent, and that excuse the service.
_REFUSALS = (1003, 1007, 1008, 1009)
_PASSING = (1001, 1011, 1012, 1013, 1014)


@dataclass(frozen=True, kw_only=True)
class TaskPlan:
    """What all tasks of one wire have in common."""

    # Either may hold the key.
    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    # The payload of run-task.
    payload: Mapping[str, Any]
    # The texts are SSML: the service takes one message of it.
    has_ssml: bool = False


class SpeechTask:
    """A Conversation that speaks texts: used once, by one thread.

    `texts` are sent as soon as the service has begun, and then the pieces of `source` as they come;
    no two of them may be more than 23 s apart, or the service ends the task. `words` are known at
    the end, where word_timestamp_enabled asks for them.
    """

    def __init__(
        self, plan: TaskPlan, texts: Sequence[str], source: TextSource | None = None
    ) -> None:
        self.url = plan.url
        self.headers = plan.headers
        self.address: str | None = None
        self.again: Callable[[CosyError], None] | None = None
        self.stop: CutOff | None = None
        self.task_id = uuid.uuid4().hex
        self._plan = plan
        self._texts: list[str] = []
        # Pieces that are to be sent.
        self._waiting: list[str] = []
        self._units = 0
        self._source = source
        self._taken = 0
        self._ends = source is None
        self._state = _OPENING
        self._audio: list[bytes] = []
        # By sentence and place in it: later events repeat what earlier ones said.
        self._words: dict[tuple[int, int], Word] = {}
        for text in texts:
            self._take_text(text)

    def open(self) -> Sequence[str | bytes]:
        """Return run-task: nothing else may be said before the service has answered it."""
        return (self._say("run-task", self._plan.payload),)

    @property
    def listens(self) -> bool:
        """Return whether more pieces may come."""
        return not self._ends and not self.done

    def pending(self) -> Sequence[str | bytes]:
        """Return the frames that carry the pieces which came meanwhile; none before the task has
        begun. Raises InvalidTextError, and why the pieces ended too early."""
        source = self._source
        if source is None or self._ends:
            return ()
        ended = source.ended  # before the pieces: the last of them come first
        for piece in source.pieces[self._taken :]:
            self._take_text(piece)
            self._taken += 1
        if ended:
            if source.error is not None:
                raise source.error
            if not self._taken:
                raise InvalidTextError("no piece of text came, so there is nothing to speak")
            self._ends = True
        return tuple(self._next())

    def receive(self, frame: str | bytes) -> Sequence[str | bytes]:
        """Take in audio or an event; return what is to be said next. Raises CosyError."""
        if isinstance(frame, str):
            return self._take_event(frame)
        if self._state not in (_SPEAKING, _FINISHING):
            raise self._fail(_bad("misplaced", "audio before the task has begun"))
        self._audio.append(frame)
        return ()

    def take(self) -> bytes:
        """Return the audio that came since the last call."""
        audio, self._audio = self._audio, []
        return audio[0] if len(audio) == 1 else b"".join(audio)

    def cancel(self) -> Sequence[str | bytes]:
        """Return the directive that ends the task at once; none where it cannot be given."""
        if self._state not in (_SPEAKING, _FINISHING):
            return ()
        self._state = _FINISHING
        return (self._say("finish-task", {"input": {"directive": "cancel"}}),)

    @property
    def done(self) -> bool:
        """Return whether the task has ended, in whatever way."""
        return self._state in (_FINISHED, _BROKEN)

    @property
    def reusable(self) -> bool:
        """Return whether the socket may take another task: only after task-finished."""
        return self._state == _FINISHED

    @property
    def words(self) -> tuple[Word, ...]:
        """Return the words and their times, as far as the service told them."""
        return tuple(self._words[key] for key in sorted(self._words))

    def refuse(self, reply: Reply) -> CosyError:
        """Return the error that a refused handshake means."""
        try:
            said = load_json(reply.body)
        except ValueError:
            said = None
        code = said.get("code") if isinstance(said, dict) else None
        if reply.status < 400 or not isinstance(code, str) or not isinstance(said, dict):
            return read_error(reply, self._texts)
        wait = retry_after(reply.headers, reply.status)
        error = dashscope_error(
            reply.status, code, str(said.get("message") or ""), _text(said, "request_id"), []
        )
        return error if wait is None else error.with_details(retry_after=wait)

    def closed(self, code: int, reason: str) -> CosyError | None:
        """Return the error that the service's goodbye means; None where it gives no reason."""
        self._state = _BROKEN
        said = without_texts(reason, self._texts, 120) or "no reason given"
        text = f"the service closed the connection (WebSocket code {code}: {said})"
        if code in _REFUSALS:
            return BadRequestError(f"{text}; check extra and the texts", request_id=self.task_id)
        return UnavailableError(text, request_id=self.task_id) if code in _PASSING else None

    # -- events -----------------------------------------------------------------------------------

    def _take_event(self, frame: str) -> Sequence[str | bytes]:
        try:
            message = load_json(frame.encode())
        except ValueError:
            raise self._fail(_bad("not_json", "a text frame that is no JSON")) from None
        header = _dict(message, "header")
        event = header.get("event")
        if event not in ("task-started", "result-generated", "task-finished", "task-failed"):
            return ()
        named = _text(header, "task_id")
        if named is not None and named.replace("-", "").lower() != self.task_id:
            # Audio carries no name: from here on nobody knows whose it is.
            raise self._fail(_bad("misplaced", "an event of another task"))
        if event == "task-failed":
            raise self._fail(self._failure(header))
        if event == "task-started":
            return self._begin()
        if event == "task-finished":
            self._end()
        else:
            self._note_words(_dict(_dict(_dict(message, "payload"), "output"), "sentence"))
        return ()

    def _begin(self) -> Sequence[str | bytes]:
        if self._state == _OPENING:
            self._state = _SPEAKING
        return tuple(self._next())

    def _end(self) -> None:
        if self._state != _FINISHING:
            raise self._fail(_bad("cut", "task-finished before all texts were sent"))
        self._state = _FINISHED

    def _failure(self, header: Mapping[str, Any]) -> CosyError:
        code, message = _text(header, "error_code"), _text(header, "error_message")
        return dashscope_error(None, code or "", message or "", self.task_id, self._texts)

    def _fail(self, error: CosyError) -> CosyError:
        self._state = _BROKEN
        return error

    def _note_words(self, sentence: Mapping[str, Any]) -> None:
        words, index = sentence.get("words"), sentence.get("index")
        if not isinstance(words, list) or not isinstance(index, int):
            return
        for place, word in enumerate(words):
            if not isinstance(word, dict):
                continue
            begin, end = word.get("begin_time"), word.get("end_time")
            if _is_time(begin) and _is_time(end):
                at = word.get("begin_index")
                key = (index, at if isinstance(at, int) else place)
                self._words[key] = Word(str(word.get("text", "")), begin / 1000, end / 1000)

    # -- texts ------------------------------------------------------------------------------------

    def _take_text(self, text: str) -> None:
        if not is_utf8(text):
            raise InvalidTextError("the text holds half a character that UTF-8 cannot carry")
        has_ssml = self._plan.has_ssml
        units = _units(_TAG.sub("", text) if has_ssml else text)
        most = _MESSAGE_UNITS if has_ssml else TASK_UNITS - self._units
        if units > most:
            what = "SSML text" if has_ssml else "text"
            raise InvalidTextError(
                f"the {what} has {units} characters as the service counts them (Chinese ones "
                f"twice), more than {most}; split it"
            )
        self._units += units
        self._texts.append(text)
        if units <= _MESSAGE_UNITS:
            self._waiting.append(text)
            return
        half = _MESSAGE_UNITS // 2
        self._waiting += [text[start : start + half] for start in range(0, len(text), half)]

    # -- what is said -----------------------------------------------------------------------------

    def _next(self) -> Iterator[str]:
        if self._state != _SPEAKING:
            return
        waiting, self._waiting = self._waiting, []
        for text in waiting:
            yield self._say("continue-task", {"input": {"text": text}})
        if self._ends:
            self._state = _FINISHING
            yield self._say("finish-task", {"input": {}})

    def _say(self, action: str, payload: Mapping[str, Any]) -> str:
        header = {"action": action, "task_id": self.task_id, "streaming": "duplex"}
        return dump_json({"header": header, "payload": payload}).decode()


def _units(text: str) -> int:
    """Count characters as the service does: Chinese ones twice."""
    return len(text) if text.isascii() else len(text) + len(_IDEOGRAPH.findall(text))


def _dict(value: Any, key: str) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _is_time(value: Any) -> TypeGuard[float]:
    """Return whether these are milliseconds: neither NaN nor more than any speech has."""
    return isinstance(value, (int, float)) and abs(value) < _MOST_MILLISECONDS


def _text(value: Mapping[str, Any], key: str) -> str | None:
    found = value.get(key)
    return found if isinstance(found, str) and found else None


def _bad(reason: str, what: str) -> BadAudioError:
    return BadAudioError(
        f"expected the events and the audio of one task, got {what}; try again, and look at the "
        "service if it stays",
        reason=reason,
    )
