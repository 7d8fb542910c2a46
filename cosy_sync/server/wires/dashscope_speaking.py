"""One task of Alibaba's WebSocket protocol being spoken, event by event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..batch import Part
from ..corrupt import corrupt
from ..errors import RequestError
from ..faults import DELIVERY_FAULTS, TEXT_FAULTS
from ..reader import Request
from ..replies import Reply
from ..sound import SAMPLE_BYTES, Clip, Failure, wav_header
from .dashscope_task import (
    MESSAGE_UNITS,
    TASK_UNITS,
    Progress,
    SpeechParams,
    invalid,
    units,
    without_tags,
)

if TYPE_CHECKING:
    from ..service import Service

logger = logging.getLogger("cosy_sync.server")

_FAIL_MARK, _REFUSE_MARK = "[fail]", "[refuse]"
# Seconds of sound in one binary frame.
_FRAME_SECONDS = 0.5
_DRIP_SECONDS = 0.05
_LATE_SECONDS = 1.0
_RUBBISH = b"rubbish!"
# Faults that leave the frames of audio as they are.
_HARMLESS = ("", "late", "extra-after")
_SENTENCE_ENDS = tuple("。！？；.!?;\n")
# Long enough for the first half to be read before the end overtakes it.
_BEFORE_CUT_SECONDS = 0.05
# The length that a header claims when nobody knows it yet.
_NO_LENGTH = 0xFFFFFFFF - 36


class Socket(Protocol):
    """What a task needs of its socket."""

    async def send(self, message: str | bytes) -> None:
        """Send a message, waiting while the reader is slow."""
        ...

    def finish(self, task: Progress, more: bytes = b"") -> None:
        """Say that the task has ended well; `more` is what a broken server says after that."""
        ...

    def fail(self, error: RequestError, task_id: str) -> None:
        """Say that the task has failed, and close."""
        ...

    def wind_gap(self, task: Progress) -> None:
        """Count anew the time that may pass without texts and audio."""
        ...

    def stop_timer(self) -> None:
        """Count no time any more."""
        ...

    def leave(self) -> None:
        """Close without a word."""
        ...

    def reset(self) -> None:
        """Drop the connection with a TCP reset."""
        ...


@dataclass(frozen=True, slots=True)
class SpeechTask:
    """An admitted call: its request, the fault that it meets, and what it asks for."""

    call: Request
    fault: str
    params: SpeechParams


class Speaking:
    """Speaks the texts of one task as they come; None among them is the end."""

    def __init__(self, service: Service, socket: Socket, asked: SpeechTask, task: Progress) -> None:
        self._service = service
        self._socket = socket
        self._call = asked.call
        self._fault = asked.fault
        self._params = asked.params
        self.task = task
        self.texts: asyncio.Queue[str | None] = asyncio.Queue()
        # A fault wants that nothing comes any more.
        self.is_stuck = False

    def take(self, text: str) -> None:
        """Take a text in; it is spoken when its sentence is complete. Raises RequestError."""
        task = self.task
        task.texts += 1
        if self._params.has_ssml:
            if task.texts > 1:
                raise invalid("Text request limit violated, expected 1.")
            text = without_tags(text)
        size = units(text)
        task.units += size
        if size > MESSAGE_UNITS or task.units > TASK_UNITS:
            raise invalid("the text is too long")
        task.pending += text
        if text.endswith(_SENTENCE_ENDS):
            self.flush()

    def flush(self) -> None:
        """Speak what has come, be its sentence complete or not."""
        if self.task.pending:
            self.texts.put_nowait(self.task.pending)
            self.task.pending = ""

    async def run(self) -> None:
        """Speak until the end; tell the socket how it went."""
        try:
            while (text := await self.texts.get()) is not None:
                await self._speak(text)
            if not self.task.sentences:
                raise invalid("task can not be null")
            self._socket.finish(self.task, _RUBBISH if self._fault == "extra-after" else b"")
        except RequestError as error:
            self._socket.fail(error, self.task.task_id)
        except Exception as error:
            # The message may hold a user's text: only its kind is logged.
            logger.error("%s while speaking", type(error).__name__)
            self._socket.fail(
                RequestError(500, "InternalError", "the server has failed"), self.task.task_id
            )

    async def _speak(self, text: str) -> None:
        async def speak() -> Reply:
            clip = await self._clip(text)
            self._service.counters.audio_bytes += clip.size
            delivery = self._fault if self._fault in DELIVERY_FAULTS else ""
            return Reply(200, "audio/pcm", [clip.data], fault=delivery)

        if self.task.sentences:
            reply = await speak()
        else:
            reply = await self._service.perform(self._call, 1, self._fault, speak)
        if reply.fault == "reset":
            self._socket.reset()
        elif reply.fault == "stall":
            await self._for_ever()
        elif reply.content_type != "audio/pcm":
            is_json = self._fault != "not-json"
            await self._socket.send('{"error":"out of memory"}' if is_json else "not JSON")
            self._socket.leave()
        else:
            await self._deliver(text, reply)

    async def _clip(self, text: str) -> Clip:
        if _REFUSE_MARK in text:
            raise RequestError(400, "DataInspectionFailed", "the text may be inappropriate")
        if _FAIL_MARK in text:
            raise invalid("Please ensure input text is valid.")
        spoken = text
        if self._fault in TEXT_FAULTS:  # as long, so that only a listener can tell
            spoken = text[1:] + ("啊" if text[0] != "啊" else "喔")
        [content] = await self._service.engine.synthesize(
            [spoken], self._params.voice, self._params.sample_rate, self._params.speed
        )
        parts = [Part(0, content, "audio/L16")]
        corrupt(self._fault, parts, self._params.sample_rate, self._service.faults.random)
        made = parts[0].content if parts else Clip.of(b"")
        if isinstance(made, Failure):
            raise RequestError(500, "InternalError.Algo", made.message)
        return made

    async def _deliver(self, text: str, reply: Reply) -> None:
        fault, task, params = reply.fault, self.task, self._params
        pcm = b"".join(reply.pieces)
        if fault == "late":
            await asyncio.sleep(_LATE_SECONDS)
        if params.wants_words:
            task.time_words(text, len(pcm), params.sample_rate)
        await self._socket.send(task.result("sentence-begin", text))
        is_first = not task.sentences
        for frame in self._frames(pcm, fault):
            await self._socket.send(task.result("sentence-synthesis"))
            head = (
                wav_header(_NO_LENGTH, params.sample_rate) if params.audio_format == "wav" else b""
            )
            await self._socket.send(head + frame if is_first else frame)
            is_first = False
            self._socket.wind_gap(task)
            await self._strike(fault)
        task.spoken_units += units(text)
        await self._socket.send(task.result("sentence-end", text, is_last=True))
        task.sentences += 1
        task.seconds += len(pcm) / SAMPLE_BYTES / params.sample_rate

    def _frames(self, pcm: bytes, fault: str) -> Iterator[bytes]:
        size = SAMPLE_BYTES * int(self._params.sample_rate * _FRAME_SECONDS)
        if fault == "drip":
            size = 1
        elif fault not in _HARMLESS:
            size = max(1, len(pcm) // 2)
        for start in range(0, len(pcm), size):
            yield pcm[start : start + size]

    async def _strike(self, fault: str) -> None:
        """Do after a frame of audio what the fault wants."""
        if fault in _HARMLESS:
            return
        await asyncio.sleep(_DRIP_SECONDS if fault == "drip" else _BEFORE_CUT_SECONDS)
        if fault == "error-mid":
            raise RequestError(500, "InternalError.Algo", "the model has failed")
        if fault == "stall-mid":
            await self._for_ever()
        if fault == "drip":
            return
        if fault == "reset-mid":
            self._socket.reset()
        else:
            self._socket.leave()
        await self._for_ever()

    async def _for_ever(self) -> None:
        # Ends when the client leaves or the server stops: both cancel it.
        self.is_stuck = True
        self._socket.stop_timer()
        await asyncio.get_running_loop().create_future()
