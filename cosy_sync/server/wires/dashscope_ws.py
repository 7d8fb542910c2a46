"""Alibaba's WebSocket protocol, as its service speaks it: one task after the other on a socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import uuid
from typing import TYPE_CHECKING, Any

from ...models import is_utf8
from ..errors import MissingExtraError, RequestError
from ..reader import Request
from ..replies import Reply, json_reply
from ..routes import Route
from .dashscope_speaking import Speaking, SpeechTask
from .dashscope_task import Progress, code_of, invalid, read_params

if TYPE_CHECKING:
    from websockets.frames import Frame
    from websockets.server import ServerProtocol

    from ..replies import Outlet
    from ..service import Service

PATHS = ("/api-ws/v1/inference", "/api-ws/v1/inference/")
# Between two texts of a task, while there is no audio either.
GAP_SECONDS = 23.0

# For the client's goodbye.
_GOODBYE_SECONDS = 1.0


def routes(service: Service) -> dict[str, Route]:
    """Give the paths of this wire."""

    async def answer(request: Request, address: str) -> Reply:
        service.check_key(_with_bearer(request))
        if request.upgrade is None:
            raise RequestError(426, "UpgradeRequired", "this address speaks WebSocket")
        session = Session(service, request, address)
        return Reply(101, "", [], upgrade=session)

    route = Route(("GET",), answer, _write_error, upgrades=True)
    return dict.fromkeys(PATHS, route)


def _with_bearer(request: Request) -> Request:
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        request.headers["authorization"] = f"Bearer {key}"
    return request


def _write_error(error: RequestError) -> Reply:
    body = {"code": code_of(error), "message": error.message, "request_id": uuid.uuid4().hex}
    return json_reply(error.status, body, error.headers)


class Session:
    """One client's socket; an Upgrade. All methods run on the event loop."""

    def __init__(self, service: Service, request: Request, address: str) -> None:
        """Prepare. Raises RequestError for a handshake that is none."""
        self._service = service
        self._request = request
        self._address = address
        self._protocol, self._answer = _shake_hands(request, service.config.max_body_bytes)
        self._loop = asyncio.get_running_loop()
        self._over = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._pieces: list[bytes] = []
        self._speaking: Speaking | None = None
        self._worker: asyncio.Task[None] | None = None
        self._last_id = ""

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing is in flight that would end by itself."""
        return self._speaking is None or self._speaking.is_stuck

    async def run(self, outlet: Outlet, early: bytes) -> None:
        """Speak until one side closes."""
        self._outlet = outlet
        outlet.write(self._answer)
        self._wind(self._service.config.idle_timeout or 60.0, self._close_idle)
        self.feed(early)
        try:
            await self._over
        finally:
            self.stop_timer()
            self._drop_task()

    def feed(self, data: bytes) -> None:
        """Take bytes in."""
        if not data or self._over.done():
            return
        protocol = self._protocol
        protocol.receive_data(data)
        for event in protocol.events_received():
            self._take_frame(event)  # type: ignore[arg-type]
        self._flush()
        if protocol.eof_sent:
            self.leave()

    # -- the socket -------------------------------------------------------------------------------

    def _take_frame(self, frame: Frame) -> None:
        if frame.opcode.name in ("TEXT", "CONT"):
            self._pieces.append(bytes(frame.data))
            if frame.fin:
                data, self._pieces = b"".join(self._pieces), []
                self._take_message(data)

    def _flush(self) -> None:
        # As one write: a reader that has heard the first of two frames has the second as well.
        data = b"".join(self._protocol.data_to_send())
        if data:
            self._outlet.write(data)

    def _tell(self, event: str, more: bytes = b"") -> None:
        """Send an event without waiting; `more` leaves with it, in one piece."""
        if self._protocol.state.name == "OPEN":
            self._protocol.send_text(event.encode())
            if more:
                self._protocol.send_binary(more)
            self._flush()

    async def send(self, message: str | bytes) -> None:
        """Send a message, waiting while the reader is slow."""
        if self._protocol.state.name != "OPEN":
            return
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        await self._outlet.send([data for data in self._protocol.data_to_send() if data])

    def _say_goodbye(self, code: int, reason: str) -> None:
        """Close, with time for the client to answer, so that what was sent is read."""
        self._drop_task()
        if self._protocol.state.name == "OPEN":
            self._protocol.send_close(code, reason)
            self._flush()
        self._wind(_GOODBYE_SECONDS, self.leave)

    def leave(self) -> None:
        """Close without a word."""
        self._outlet.close()
        self._end()

    def reset(self) -> None:
        """Drop the connection with a TCP reset."""
        self._outlet.reset()
        self._end()

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _wind(self, seconds: float, ring: Any) -> None:
        self.stop_timer()
        self._timer = self._loop.call_later(seconds, ring)

    def stop_timer(self) -> None:
        """Count no time any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close_idle(self) -> None:
        self._say_goodbye(1000, "idle for too long")

    # -- messages ---------------------------------------------------------------------------------

    def _take_message(self, data: bytes) -> None:
        if self._protocol.state.name != "OPEN":
            return
        try:
            message = json.loads(data.decode())
            header, payload = message["header"], message.get("payload") or {}
            action, task_id = header["action"], header.get("task_id") or ""
            content = payload.get("input") or {}
            text = content.get("text")
            if not all(isinstance(each, str) for each in (action, task_id, text or "")):
                raise TypeError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._say_goodbye(1007, "malformed message")
            return
        try:
            if action == "run-task":
                self._begin(task_id, payload)
            elif action in ("continue-task", "finish-task"):
                self._go_on(action, task_id, content)
            else:
                raise invalid("unknown action")
        except RequestError as error:
            self.fail(error, task_id)

    def _begin(self, task_id: str, payload: dict[str, Any]) -> None:
        if self._speaking is not None:
            raise invalid("a task is running on this connection")
        if not task_id:
            raise invalid("Missing required parameter 'header.task_id'!")
        service = self._service
        call = Request("POST", self._request.path, self._request.headers)
        service.note_arrival(call)
        if self._request.is_crowded:
            raise RequestError(429, "Throttling.Concurrency", "Too many concurrent requests.")
        fault = service.admit(call, self._address)
        params = read_params(payload, service.engine.voices)
        task = Progress(task_id)
        self._speaking = Speaking(service, self, SpeechTask(call, fault, params), task)
        self._worker = self._loop.create_task(self._speaking.run())
        self._tell(task.event("task-started", {}))
        self.wind_gap(task)

    def _go_on(self, action: str, task_id: str, content: dict[str, Any]) -> None:
        speaking = self._speaking
        if speaking is None or speaking.task.task_id != task_id:
            if task_id and task_id == self._last_id:
                return  # its end was on the way
            raise invalid("there is no such task on this connection")
        task = speaking.task
        if action == "finish-task" and content.get("directive") == "cancel":
            self.finish(task)
            return
        if task.is_finishing:
            raise invalid("the task is finished already")
        if not is_utf8(content.get("text") or ""):
            raise invalid("Please ensure input text is valid.")
        if content.get("text"):
            speaking.take(content["text"])
        if action == "finish-task" or content.get("flush") is True:
            speaking.flush()
        if action == "finish-task":
            task.is_finishing = True
            self.stop_timer()
            speaking.texts.put_nowait(None)
        else:
            self.wind_gap(task)

    def wind_gap(self, task: Progress) -> None:
        """Count anew the time that may pass without texts and audio."""
        if not task.is_finishing:
            self._wind(GAP_SECONDS, self._close_gap)

    def _close_gap(self) -> None:
        message = f"request timeout after {GAP_SECONDS:g} seconds."
        self.fail(RequestError(400, "CLIENT_ERROR", message), "")

    def finish(self, task: Progress, more: bytes = b"") -> None:
        """Say that the task has ended well; `more` is what a broken server says after that."""
        self._drop_task()
        self._last_id = task.task_id
        self._service.counters.count_reply(200)
        self._tell(task.finished(), more)
        self._wind(self._service.config.idle_timeout or 60.0, self._close_idle)

    def fail(self, error: RequestError, task_id: str) -> None:
        """Say that the task has failed, and close."""
        task = self._speaking.task if self._speaking is not None else Progress(task_id)
        self._service.counters.count_reply(error.status)
        said = {"error_code": code_of(error), "error_message": error.message}
        self._tell(task.event("task-failed", {}, **said))
        self._say_goodbye(1000, "")

    def _drop_task(self) -> None:
        self._speaking = None
        if self._worker is not None and self._worker is not asyncio.current_task():
            self._worker.cancel()
        self._worker = None


def _shake_hands(request: Request, max_bytes: int) -> tuple[ServerProtocol, bytes]:
    """Give the protocol of a socket and the bytes of our answer. Raises RequestError."""
    try:
        from websockets.server import ServerProtocol
    except ImportError:
        missing = str(MissingExtraError("websockets"))
        raise RequestError(501, "InternalError", missing) from None
    silent = logging.Logger("cosy_sync.server.websocket", logging.CRITICAL + 1)
    protocol = ServerProtocol(max_size=max_bytes, logger=silent)
    lines = [f"{name}: {value}\r\n" for name, value in request.headers.items()]
    head = f"GET {request.path} HTTP/1.1\r\n{''.join(lines)}\r\n"
    with contextlib.suppress(EOFError):
        protocol.receive_data(head.encode("latin-1"))
    events = protocol.events_received()
    response = protocol.accept(events[0]) if events else None  # type: ignore[arg-type]
    if response is None or response.status_code != 101:
        raise invalid("this is no WebSocket handshake")
    protocol.send_response(response)
    return protocol, b"".join(protocol.data_to_send())
