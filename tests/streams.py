"""A wire that streams, as plain as can be, and a net on a fake clock that plays scripts to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

import cosy_sync.wires.registry as registry
from cosy_sync.core import Core
from cosy_sync.errors import CosyError, CutError, ReplyTimeout
from cosy_sync.messages import Payload, Reply, Request, WireRequest
from cosy_sync.server import tone_wav
from cosy_sync.testing import FakeClock
from cosy_sync.wires import read_error
from cosy_sync.wires.base import Capabilities, HttpWire, Send, SpeechOptions

URL = "http://tts.test/drip"
RATE = 24_000
PCM = {"content-type": f"audio/pcm;rate={RATE}"}


def tone(text: str) -> bytes:
    """Return the sound that belongs to a text, as bare samples."""
    return tone_wav(text)[44:]


class DripReader:
    """Reads bare samples; holds half a sample back."""

    sample_rate = RATE

    def __init__(self, request: Request) -> None:
        self.request = request
        self._half = b""

    def accept(self, status: int, headers: Mapping[str, str]) -> bool:
        return status == 200 and headers.get("content-type", "").startswith("audio/pcm")

    def refuse(self, reply: Reply) -> CosyError:
        return read_error(reply)

    def feed(self, data: bytes) -> bytes:
        data = self._half + data
        self._half = data[len(data) // 2 * 2 :]
        return data[: len(data) // 2 * 2]

    def end(self) -> bytes:
        if self._half:
            raise CutError("the sound ended within a sample")
        return b""


class DripWire(HttpWire):
    """One text a call: its samples, as they come. With extra={"upload": 1} it asks twice."""

    name = "drip"
    capabilities = Capabilities(max_texts_per_call=1, streaming=True)

    def __init__(self, endpoint_url: str, options: SpeechOptions) -> None:
        self._url = endpoint_url
        self._uploads = "upload" in options.extra

    def encode(self, texts: Sequence[str], request_id: str) -> Request:
        headers = (("Content-Type", "application/json"),)
        return Request(self._url, headers, json.dumps({"text": texts[0]}).encode())

    def decode(self, reply: Reply, texts: Sequence[str]) -> list[Payload | CosyError]:
        if reply.status != 200:
            raise read_error(reply, texts)
        return [Payload(bytes(reply.body), reply.headers["content-type"])]

    def listen(self, text: str, send: Send, request_id: str) -> DripReader:
        if self._uploads:
            send(Request(self._url + "/upload", (), b"a voice"))
        return DripReader(self.encode([text], request_id))


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make wire="drip" known."""
    known = registry._factory
    monkeypatch.setattr(registry, "_factory", lambda n: DripWire if n == "drip" else known(n))


# -- a net without sockets ------------------------------------------------------------------------

# Bytes come, seconds pass, an error is raised, a function is called.
Step = bytes | float | BaseException | Callable[[], object]


class Play:
    """One reply that goes on, as its script says."""

    def __init__(
        self,
        clock: FakeClock,
        steps: Sequence[Step],
        status: int = 200,
        headers: Mapping[str, str] = PCM,
    ) -> None:
        self._clock = clock
        self._steps: Iterator[Step] = iter(steps)
        self.status = status
        self.headers = dict(headers)
        self.connect = 0.0
        self.received = 0
        self.link = None
        self.closed = 0
        self.ended = False
        self.waits: list[float] = []

    def read(self, seconds: float) -> bytes:
        assert not self.closed, "it was read after its close"
        self.waits.append(seconds)
        for step in self._steps:
            if isinstance(step, bytes):
                self.received += len(step)
                return step
            if isinstance(step, float):
                self._clock.advance(min(step, seconds))
                if step >= seconds:
                    raise ReplyTimeout("late", phase="idle")
                seconds -= step
            elif callable(step):
                step()
            else:
                raise step
        self.ended = True
        return b""

    def whole(self, seconds: float) -> Reply:
        parts = list(iter(lambda: self.read(seconds), b""))
        return Reply(self.status, self.headers, b"".join(parts))

    def close(self) -> None:
        self.closed += 1


class PlayNet:
    """What a client sends its requests with: plays the n-th script to the n-th stream."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._scripts: list[Play | BaseException] = []
        self._turn = 0
        self.plays: list[Play] = []
        self.requests: list[WireRequest] = []
        self.posted: list[WireRequest] = []
        self.opening: Callable[[], object] = lambda: None

    def script(self, *steps: Step, status: int = 200, **headers: str) -> Play:
        """Plan one more reply."""
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        play = Play(self._clock, steps, status, {**PCM, **named})
        self._scripts.append(play)
        return play

    def fail(self, error: BaseException) -> None:
        """Plan an error in place of a reply."""
        self._scripts.append(error)

    def skip(self) -> None:
        """Forget what was planned and not played."""
        self._turn = len(self._scripts)

    def open(self, request: WireRequest, seconds: float, max_bytes: int) -> Play:
        self.requests.append(request)
        self.opening()
        planned = self._scripts[self._turn]
        self._turn += 1
        if isinstance(planned, BaseException):
            raise planned
        self.plays.append(planned)
        return planned

    def post(
        self, request: WireRequest, seconds: float, max_bytes: int, make_room: object
    ) -> Reply:
        self.posted.append(request)
        return Reply(200, {}, b"{}")

    def resolves(self, url: str) -> bool:
        return False

    def forget(self, url: str, address: str) -> None: ...
    def cut(self) -> None: ...
    def close(self) -> None: ...
    def abandon(self) -> None: ...

    def connections(self) -> tuple[int, int]:
        return 0, 0


def play_net(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> PlayNet:
    """Put a net that plays scripts in place of the real one, for every client."""
    net = PlayNet(clock)
    monkeypatch.setattr(Core, "_network", lambda self: net)
    return net
