"""Requests to replies: routes, limits, latency and the faults drawn for a batch."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

from .batch import Call, CallRules, Part, choose_form, read_call, write_reply
from .compression import accepts_gzip, compress, gzip_bomb, inflate
from .config import REPLY_FORMS, ServerConfig
from .corrupt import corrupt
from .counters import Counters
from .engines import Engine
from .errors import RequestError, bad_request
from .faults import DELIVERY_FAULTS, REFUSE, REPLY_FAULTS, TEXT_FAULTS, FaultPlan, check_fault
from .limits import CallLimit, ConnectionLimit
from .reader import Request
from .replies import Header, Reply, error_reply, json_reply
from .routes import NOWHERE, Route
from .schedule import Schedule
from .sound import Clip, Failure, encode_clip, media_type
from .workers import Workers

logger = logging.getLogger("cosy_sync.server")

BATCH_PATH = "/batch"
HEALTH_PATH = "/health"
STATS_PATH = "/stats"

# Texts with these marks fail: alone, or with the whole call.
FAIL_MARK = "[fail]"
REFUSE_MARK = "[refuse]"

# Short enough for the part of a message that clients show.
_NOTHING = (
    "nothing is here; wires are at /batch, /v1/audio/..., /inference_..., /api/inference/..., "
    "/api-ws/..., /api/v1/services/..., /v2/..."
)

# Faults that leave a call without any reply, and how: who was connected before an outage of
# `refuse` began may still ask.
_DOWN = {"reset": "reset", "stall": "stall", REFUSE: "reset"}

# Smaller bodies are compressed on the loop: a thread's hand-over costs more.
_THREAD_ABOVE_BYTES = 32_768
_GZIP_ABOVE_BYTES = 512


class Service:
    """Everything that the connections share; used by the event loop alone."""

    def __init__(self, config: ServerConfig, engine: Engine) -> None:
        self.config = config
        self.counters = Counters()
        self.engine = engine
        # Address of the wire `runtime_grpc`, set when it listens; empty: it does not.
        self.grpc_url = ""
        self.rules = CallRules(engine.voices, config.max_texts, config.max_text_chars)
        self._connections = ConnectionLimit(config.max_connections)
        self._calls = CallLimit(config.rate)
        self.faults = FaultPlan(config.faults, config.seed)
        self.schedule = Schedule(config.outages, config.shortages)
        self._started = time.monotonic()
        self._workers = Workers(config.workers) if config.workers else None
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="cosy-server-gzip")
        self._routes = {
            BATCH_PATH: Route(("POST",), self._answer_batch),
            HEALTH_PATH: Route(("GET",), self._answer_health),
            STATS_PATH: Route(("GET",), self._answer_stats),
        }

    def add_routes(self, routes: Mapping[str, Route]) -> None:
        """Answer at these paths too."""
        self._routes.update(routes)

    def close(self) -> None:
        """Stop the engine and the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.engine.close()

    def enter(self, address: str) -> None:
        """Count a connection that was accepted."""
        self.counters.connections_now += 1
        self._connections.enter(address)

    def leave(self, address: str) -> None:
        """Count a connection that is gone, or that turned out to ask for /stats."""
        self.counters.connections_now -= 1
        self._connections.leave(address)

    def admit_connection(self, address: str) -> Reply | None:
        """Judge a connection by its first request. Returns the refusal when it is one too many."""
        counters = self.counters
        counters.connections_peak = max(counters.connections_peak, counters.connections_now)
        if not self._connections.is_exceeded(address):
            return None
        counters.refused_connections += 1
        message = f"more than {self.config.max_connections} connections from one address"
        status = 503 if self.config.overrun == "auto" else int(self.config.overrun)
        reply = error_reply(RequestError(status, "too_many_connections", message))
        reply.close = True
        return reply

    @property
    def age(self) -> float:
        """Seconds since the start, as the schedule counts them."""
        return time.monotonic() - self._started

    def note_arrival(self, request: Request) -> None:
        """Count a request at the moment when its last byte is here."""
        request.arrived = time.monotonic()
        if request.path != STATS_PATH:
            self.counters.requests += 1
            if request.method == "POST":
                self.counters.posts.add(request.arrived)

    async def answer(self, request: Request, address: str) -> Reply:
        """Give the reply to one request; never raises."""
        route = self._routes.get(request.path)
        if route is None:  # one place of a collection, perhaps
            above, _, last = request.path.rpartition("/")
            route = self._routes.get(f"{above}/{{name}}") or self._routes.get(
                f"{above.rpartition('/')[0]}/{{name}}/{last}", NOWHERE
            )
        try:
            return await self._follow(route, request, address)
        except RequestError as error:
            return route.write_error(error)
        except Exception as error:
            # The message may hold a user's text: only its kind is logged.
            logger.error("%s while answering a request", type(error).__name__)
            return route.write_error(RequestError(500, "internal", "the server has failed"))

    async def _follow(self, route: Route, request: Request, address: str) -> Reply:
        if request.refusal is not None:
            raise request.refusal
        if route is NOWHERE:
            raise RequestError(404, "not_found", _NOTHING)
        if request.upgrade is not None and not route.upgrades:
            raise RequestError(501, "not_implemented", f"{request.path} speaks HTTP only")
        if request.method not in route.methods:
            methods = ", ".join(route.methods)
            allow = (("Allow", methods),)
            raise RequestError(405, "bad_method", f"{request.path} takes {methods}", allow)
        if request.path == STATS_PATH:
            return await route.answer(request, address)
        outage = self.schedule.fault(self.age)
        if outage in _DOWN or outage in REPLY_FAULTS:
            self.counters.count_fault(outage)
            return await self._no_reply(outage)
        return await route.answer(request, address)

    async def _answer_stats(self, _request: Request, _address: str) -> Reply:
        return json_reply(200, self.counters.snapshot())

    async def _answer_health(self, _request: Request, _address: str) -> Reply:
        return json_reply(200, {"status": "ok"})

    async def _answer_batch(self, request: Request, address: str) -> Reply:
        fault = self.admit(request, address)
        form = self._choose_form(request, fault)
        call = read_call(self.body_of(request), self.rules)

        async def speak() -> Reply:
            reply = await self._right_reply(call, form, fault)
            await self._pack(reply, request)
            return reply

        return await self.perform(request, len(call.texts), fault, speak)

    def admit(self, request: Request, address: str) -> str:
        """Judge a call by its key and the limits; return the fault that it meets, or nothing.

        Raises RequestError.
        """
        outage = self.schedule.fault(self.age)
        self.check_key(request)
        self._check_rate(request, address)
        return outage or self._choose_fault(request)

    async def perform(
        self,
        request: Request,
        texts: int,
        fault: str,
        speak: Callable[[], Awaitable[Reply]],
        *,
        at_once: bool = False,
    ) -> Reply:
        """Count an admitted call of so many texts, and do what it asks for, or what its fault
        wants instead; the reply comes not before the latency is over. Raises RequestError.

        `at_once`: what `speak` returns does not wait, since its body brings the latency itself.
        """
        self.counters.batches += 1
        self.counters.texts += texts
        if fault:
            self.counters.count_fault(fault)
        instead = fault in _DOWN or fault in REPLY_FAULTS
        began, taken_up = request.arrived, request.arrived
        if self._workers is not None:
            began, taken_up = await self._workers.take(began), time.monotonic()
        try:
            return await (self._no_reply(fault) if instead else speak())
        finally:
            spoke = time.monotonic() - taken_up
            latency = self._latency(texts) if instead or not at_once else 0.0
            await self._wait_until(began + max(spoke, latency))

    async def _wait_until(self, due: float) -> None:
        """Wait until a call is done, and give its worker back."""
        try:
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
        finally:
            if self._workers is not None:
                self._workers.give_back(due)

    async def _right_reply(self, call: Call, form: str, fault: str) -> Reply:
        """Synthesize, corrupt as the fault says, and write."""
        if any(REFUSE_MARK in text for text in call.texts):
            raise bad_request("a text of this call is not allowed")
        texts = self._mix_up(call.texts) if fault in TEXT_FAULTS else call.texts
        parts = await self._speak(call, texts)
        corrupt(fault, parts, call.sample_rate, self.faults.random)
        self.counters.audio_bytes += sum(
            part.content.size for part in parts if isinstance(part.content, Clip)
        )
        content_type, pieces = write_reply(parts, form)
        return Reply(200, content_type, pieces, fault=fault if fault in DELIVERY_FAULTS else "")

    def _mix_up(self, texts: Sequence[str]) -> list[str]:
        """Put another text in the place of one: as long, so that only a listener can tell."""
        mixed = list(texts)
        place = self.faults.random.randrange(len(mixed))
        text = mixed[place]
        other = text[::-1]
        if other == text:
            other = text[1:] + ("啊" if text[0] != "啊" else "喔")
        mixed[place] = other
        return mixed

    async def _speak(self, call: Call, texts: Sequence[str]) -> list[Part]:
        contents = await self.engine.synthesize(texts, call.voice, call.sample_rate, call.speed)
        kind = media_type(call.audio_format, call.sample_rate)
        parts = []
        for index, (text, content) in enumerate(zip(texts, contents, strict=True)):
            if FAIL_MARK in text:
                content = Failure("synthesis_failed", "the text cannot be spoken")
            if isinstance(content, Clip):
                content = encode_clip(content, call.audio_format, call.sample_rate)
            echo = hashlib.sha256(text.encode()).hexdigest() if self.config.echo else ""
            parts.append(Part(index, content, kind, echo))
        return parts

    def check_key(self, request: Request) -> None:
        """Raise RequestError where a key is asked for and this is another or none."""
        key = self.config.api_key
        if key is None:
            return
        given = request.headers.get("authorization", "").encode("latin-1")
        # PAI-EAS takes its tokens bare as well.
        bare = request.path.startswith("/api/v1/audio/")
        given = b"Bearer " + given if bare and not given.startswith(b"Bearer ") else given
        if not hmac.compare_digest(given, f"Bearer {key}".encode()):
            challenge = (("WWW-Authenticate", "Bearer"),)
            raise RequestError(401, "unauthorized", "wrong or missing API key", challenge)

    def _check_rate(self, request: Request, address: str) -> None:
        wait = self._calls.admit(address, request.arrived, self.schedule.share(self.age))
        if not wait:
            return
        self.counters.overrun += 1
        message = f"more than {self.config.rate} requests a second from one address"
        if self.config.overrun != "auto":
            raise RequestError(int(self.config.overrun), "overrun", message)
        raise _throttled(("Retry-After", str(max(math.ceil(wait), 1))), message=message)

    def _choose_fault(self, request: Request) -> str:
        asked = request.headers.get("x-cosy-fault")
        if asked is None:
            return self.faults.draw()
        try:
            return check_fault(asked)
        except ValueError as error:
            raise bad_request(f"X-Cosy-Fault: {error}") from None

    def _choose_form(self, request: Request, fault: str) -> str:
        form = request.headers.get("x-cosy-reply", self.config.reply_form)
        if form not in REPLY_FORMS:
            raise bad_request(f"X-Cosy-Reply: use one of {', '.join(REPLY_FORMS)}")
        if form == "auto":
            form = choose_form(request.headers.get("accept", ""))
        # These corrupt what the other forms do not have.
        if fault == "bad-base64" and form == "multipart":
            return "results"
        if fault in ("double-index", "missing-index") and form == "array":
            return "results"
        return form

    def body_of(self, request: Request) -> bytes:
        """Return a request's body, inflated. Raises RequestError."""
        encoding = request.headers.get("content-encoding", "identity").lower()
        if encoding in ("gzip", "x-gzip"):
            return inflate(request.body, self.config.max_body_bytes)
        if encoding != "identity":
            raise RequestError(415, "bad_encoding", "Content-Encoding may be gzip or identity")
        return request.body

    async def _no_reply(self, fault: str) -> Reply:
        """Give what stands in place of the audio: nothing at all, or another reply."""
        if fault in _DOWN:
            return Reply(200, "", [], fault=_DOWN[fault])
        if fault == "gzip-bomb":
            loop = asyncio.get_running_loop()
            body = await loop.run_in_executor(self._threads, gzip_bomb)
            return Reply(200, "application/json", [body], [("Content-Encoding", "gzip")])
        if fault == "not-json":
            page = b"<!doctype html><title>Sign in</title><p>Please sign in to the network."
            return Reply(200, "text/html; charset=utf-8", [page])
        if fault == "json-object":
            return json_reply(200, {"error": {"code": "internal", "message": "out of memory"}})
        if fault.startswith("throttle"):
            raise _throttled(*_retry_headers(fault))
        raise RequestError(int(fault.removeprefix("status-")), "injected", "injected fault")

    async def _pack(self, reply: Reply, request: Request) -> None:
        """Compress the reply where both sides want it."""
        mode = self.config.gzip
        is_multipart = reply.content_type.startswith("multipart/")
        if mode == "never" or (mode == "auto" and (is_multipart or reply.size < _GZIP_ABOVE_BYTES)):
            return
        if not accepts_gzip(request.headers.get("accept-encoding", "")):
            return
        if reply.size > _THREAD_ABOVE_BYTES:
            loop = asyncio.get_running_loop()
            body = await loop.run_in_executor(self._threads, compress, reply.pieces)
        else:
            body = compress(reply.pieces)
        reply.pieces = [body]
        reply.headers.append(("Content-Encoding", "gzip"))

    def _latency(self, texts: int) -> float:
        return self.config.latency + texts * self.config.text_latency


def _throttled(*headers: Header, message: str = "injected fault") -> RequestError:
    return RequestError(429, "throttled", message, headers)


def _retry_headers(fault: str) -> tuple[Header, ...]:
    """Say when to come back, in the words of the fault."""
    if fault == "throttle-bare":
        return ()
    if fault == "throttle-ms":
        # The more exact one counts where both are there.
        return ("Retry-After", "1"), ("Retry-After-Ms", "250")
    if fault == "throttle-date":
        # Whole seconds: so that at least one is left of them.
        return (("Retry-After", formatdate(time.time() + 2, usegmt=True)),)
    return (("Retry-After", "1"),)
