"""cosy_sync on a network without sockets: what the client itself costs."""

from __future__ import annotations

import math
import re
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

from benchmarks.corpus import BATCH, FIXED_TEXTS, texts_of
from benchmarks.meter import Meter, cpu_seconds, resident_bytes
from benchmarks.task import Place, Task
from benchmarks.upstream.replies import MEDIA_TYPES, reply_body
from cosy_sync import CosyClient, Endpoint
from cosy_sync.audio import Verifier, read_audio
from cosy_sync.messages import Payload, Reply, Request
from cosy_sync.models import Audio, Timing
from cosy_sync.wires import SpeechOptions, create_wire

__all__ = ["OwnReplies", "StubNetwork", "million", "policies"]

_URL = "http://stub.invalid/batch"
# Bytes of each text's samples: a third of a second.
_SIZE = 16_000
_STEP = 50_000
_LOOK = 500
_BATCHES_ALONE = 200
_BATCHES_A_CALL = 20
_MEGABYTE = 1 << 20


class StubNetwork:
    """Answers every request at once with the same right reply."""

    def __init__(self, texts: int) -> None:
        body = reply_body(Place(form="multipart", texts=texts, size=_SIZE))
        headers = {"content-type": MEDIA_TYPES["multipart"]}
        self.reply = Reply(200, headers, body, 0.0, 0.001, len(body))

    def post(
        self, request: Request, seconds: float, max_bytes: int, make_room: Callable[[int], None]
    ) -> Reply:
        """Return the reply."""
        make_room(self.reply.received)
        return self.reply

    def cut(self) -> None:
        """Do nothing: nobody waits here."""

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def abandon(self) -> None:
        """Do nothing: there are no sockets."""

    def connections(self) -> tuple[int, int]:
        """Return that none is open."""
        return 0, 0


class OwnReplies(StubNetwork):
    """Answers at once, each time in memory of its own, that which the net reads replies into.

    One reply for all would be memory that nobody ever had to hold.
    """

    def __init__(self, texts: int) -> None:
        # Brings httpx along, which `policies` does without.
        from cosy_sync.net.buffer import new_buffer

        super().__init__(texts)
        self._new_buffer = new_buffer
        boundary = MEDIA_TYPES["multipart"].partition("boundary=")[2]
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        # Where each part ends.
        found = re.finditer(re.escape(self._tail[:-4]), self.reply.body)
        self._ends = [each.start() for each in found]

    def post(
        self, request: Request, seconds: float, max_bytes: int, make_room: Callable[[int], None]
    ) -> Reply:
        """Return a copy of the reply."""
        # A batch is sent with fewer texts when the machine was held up while they were gathered.
        end = self._ends[request.body.partition(b"]")[0].count(b'","')]
        size = end + len(self._tail)
        make_room(size)
        body = memoryview(self._new_buffer(size))
        body[:end] = memoryview(self.reply.body)[:end]
        body[end:] = self._tail
        return replace(self.reply, body=body, received=size)


def million(task: Task, meter: Meter) -> None:
    """Speak all texts through synth_iter; note the memory and the time they took.

    What is growth: the highest memory after the first 50 000 texts over the highest before.
    """
    client = _client(OwnReplies(BATCH), in_flight=task.in_flight)
    highest: list[int] = []
    most = 0
    slices: list[float] = []
    failed = 0
    with meter.span():
        before = cpu_seconds()
        for count, outcome in enumerate(client.synth_iter(texts_of(task.texts)), 1):
            failed += outcome.audio is None
            if count % _LOOK == 0:
                most = max(most, resident_bytes())
            if count % _STEP == 0:
                now = cpu_seconds()
                highest.append(most)
                most = 0
                slices.append((now - before) / _STEP * 1e6)
                before = now
    meter.units = task.texts
    meter.extra = {
        "failed_texts": failed,
        "slice_cpu_us": slices,
        "memory_mb": [size / _MEGABYTE for size in highest],
        "growth_mb": (max(highest[1:]) - highest[0]) / _MEGABYTE if highest[1:] else math.nan,
        "net_growth_mb": (highest[-1] - highest[0]) / _MEGABYTE if highest else math.nan,
    }


def policies(task: Task, meter: Meter) -> None:
    """Measure calls on the stub network, and encoding, decoding and verifying alone."""
    calls, batches = task.texts, task.texts // BATCH * 4
    one, many = _Alone(1), _Alone(BATCH)
    with meter.span():
        with ThreadPoolExecutor(1) as thread:
            synth = thread.submit(_synth_us, calls).result()
        main = _synth_us(calls)
        serial = _batch_us(batches, serial=True, in_flight=1)
        threaded = _batch_us(batches, serial=False, in_flight=task.in_flight)
        alone_call, alone_batch = one.cost_us(calls), many.cost_us(_BATCHES_ALONE)
    alone_text = alone_batch / BATCH
    meter.units = calls
    meter.extra = {
        "synth_us": synth,
        "synth_main_us": main,
        "codec_call_us": alone_call,
        "policies_call_us": synth - alone_call,
        "policies_main_call_us": main - alone_call,
        "batch_serial_us": serial,
        "batch_threads_us": threaded,
        "codec_text_us": alone_text,
        "policies_text_serial_us": serial - alone_text,
        "policies_text_threads_us": threaded - alone_text,
    }


def _client(network: StubNetwork, *, in_flight: int, serial: bool = False) -> CosyClient:
    client = CosyClient(Endpoint(_URL, max_connections=in_flight, rate=1e6), serial=serial)
    # The client has no public place for a network that is no httpx.Client: the engine takes
    # anything with the methods of engine.Network, so it is put where the engine looks for it.
    cast(Any, client._core)._network = lambda: network
    return client


def _synth_us(calls: int) -> float:
    """Return microseconds of processor time for one synth()."""
    client = _client(StubNetwork(1), in_flight=50)
    text = FIXED_TEXTS[0]
    _repeat(lambda: client.synth(text), calls // 10)
    before = cpu_seconds()
    _repeat(lambda: client.synth(text), calls)
    return (cpu_seconds() - before) / calls * 1e6


def _batch_us(batches: int, *, serial: bool, in_flight: int) -> float:
    """Return microseconds of processor time for one text of synth_many in batches of 64.

    Many short calls, whose audio is let go at once: memory that is new to the process costs page
    faults, and they are no policy.
    """
    client = _client(StubNetwork(BATCH), in_flight=in_flight, serial=serial)
    texts = list(texts_of(BATCH * _BATCHES_A_CALL))
    calls = max(1, batches // _BATCHES_A_CALL)
    client.synth_many(texts)
    before = cpu_seconds()
    _repeat(lambda: client.synth_many(texts), calls)
    return (cpu_seconds() - before) / (calls * len(texts)) * 1e6


class _Alone:
    """What is no policy: encoding, decoding, reading and verifying, without a client."""

    def __init__(self, texts: int) -> None:
        config = CosyClient(_URL).config
        self._texts = FIXED_TEXTS[:texts]
        self._reply = StubNetwork(texts).reply
        self._wire = create_wire(config.wire, _URL, SpeechOptions.from_config(config))
        self._verifier = Verifier(config.verify)
        self._rate = config.sample_rate
        self._timing = Timing(
            started=0.0,
            queued=0.0,
            connect=0.0,
            first_byte=0.0,
            total=0.0,
            attempts=1,
            endpoint=_URL,
            request_id="-",
        )

    def cost_us(self, times: int) -> float:
        """Return microseconds of processor time for one call; the median of several rounds."""
        rounds = []
        for _ in range(5):
            before = time.process_time()
            _repeat(self._once, times)
            rounds.append((time.process_time() - before) / times * 1e6)
        return statistics.median(rounds)

    def _once(self) -> Sequence[object]:
        self._wire.encode(self._texts, "alone")
        payloads = self._wire.decode(self._reply, self._texts)
        audios = [self._read(cast(Payload, payload)) for payload in payloads]
        return self._verifier.check(self._texts, audios)

    def _read(self, payload: Payload) -> Audio:
        payload.data = bytes(payload.data)  # out of the reply, as the client takes it
        return read_audio(payload, sample_rate=self._rate, timing=self._timing)


def _repeat(call: Callable[[], object], times: int) -> None:
    for _ in range(times):
        call()
