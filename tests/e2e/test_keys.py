"""Keys stay where they belong: everything that a run of any wire leaves is searched for them."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import os
import pickle
import subprocess
import sys
import traceback
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from cosy_sync import (
    BreakerConfig,
    CosyClient,
    CosyError,
    Endpoint,
    OverloadConfig,
    RetryConfig,
    TimeoutConfig,
)
from cosy_sync.server import Server
from cosy_sync.wires import SpeechOptions, create_wire, known_wires
from tests.e2e.scripted import Peer, Scripted

ROOT = Path(__file__).parents[2]
KEY = "sk-hygiene-5f0c9e27d1"
WRONG = "sk-hygiene-wrong-88a1"
HEADER = "hygiene-header-41d7b3"
COOKIE = "hygiene-cookie-c2e9"
QUERY = "hygiene-query-7b1f"
SECRETS = (KEY, WRONG, HEADER, COOKIE, QUERY)


@dataclass(frozen=True)
class Target:
    """How a wire reaches the embedded server."""

    url: Callable[[Any], str]
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    # Whether it is plain HTTP/1.1, so that a caller's httpx.Client and a bare socket will do.
    http: bool = True
    # Whether the address may hold a query.
    query: bool = True


def at(path: str, scheme: str = "http") -> Callable[[Any], str]:
    return lambda server: scheme + server.base_url.removeprefix("http") + path


ALIBABA = {"model": "cosyvoice-v3-flash", "voice": "longanyang"}
# A line for each wire: also for the next one.
TARGETS = {
    "batch": Target(at("/batch")),
    "dashscope_http": Target(at("/api/v1/services/audio/tts/SpeechSynthesizer"), ALIBABA),
    "dashscope_ws": Target(at("/api-ws/v1/inference", "ws"), ALIBABA, http=False),
    "openai": Target(at("/v1/audio/speech"), {"voice": "中文女"}),
    "pai_eas": Target(at(""), {"voice": "中文女"}),
    "runtime_http": Target(at(""), {"voice": "中文女"}),
    "triton": Target(at(""), {"model": "cosyvoice2"}),
    "runtime_grpc": Target(
        lambda server: str(server.grpc_url),
        {"voice": "中文女"},
        {"grpc_port": 0},
        http=False,
        query=False,
    ),
}
FAULTS = (
    *("status-500", "status-503", "throttle", "reset", "reset-mid", "cut", "cut-chunked"),
    *("not-json", "json-object", "bad-wav", "empty-audio", "text-error", "length-twice", "stall"),
)
QUICK: dict[str, Any] = {
    "retry": RetryConfig(max_retries=1, base=0.01, outlast=0),
    "timeouts": TimeoutConfig(connect=2.0, first_byte=0.5, idle=0.5),
    "breaker": BreakerConfig(min_calls=1_000),
    # Faults must not be kept from happening.
    "overload": OverloadConfig(throttle_min_calls=1_000),
    "deadline": 4.0,
}


def forms(secret: str) -> Iterator[str]:
    """The ways in which a secret may be written down."""
    yield secret
    yield urllib.parse.quote(secret, safe="")
    yield secret.encode().hex()
    for before in ("", "x", "xx"):  # base64 depends on the place
        whole = base64.b64encode((before + secret).encode()).decode()
        yield whole[4:-4]


def leaks(evidence: dict[str, str]) -> list[str]:
    return [
        f"{name} shows {secret}"
        for name, text in evidence.items()
        for secret in SECRETS
        if any(form.lower() in text.lower() for form in forms(secret))
    ]


class Evidence:
    """Everything that a run leaves, by where it was found."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.errors: list[CosyError] = []

    def note(self, name: str, *things: Any) -> None:
        said = "\n".join(f"{thing!r}\n{thing}" for thing in things)
        self.found[name] = self.found.get(name, "") + said

    def on_event(self, event: Any) -> None:
        self.note("events", event)

    def fail(self, error: BaseException | None, where: str) -> None:
        """Note an error in every way in which one looks at errors."""
        assert isinstance(error, CosyError), where
        self.errors.append(error)
        whole = "".join(traceback.format_exception(error))
        thawed = pickle.loads(pickle.dumps(error))
        self.note(where, error, whole, vars(error), pickle.dumps(error), thawed)
        for earlier in error.attempts:
            self.note(where, "".join(traceback.format_exception(earlier)), vars(earlier))


@pytest.fixture
def evidence() -> Evidence:
    return Evidence()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that any library logs, at any level, with the traces of exceptions."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s %(args)s"))
    root = logging.getLogger()
    names = ("cosy_sync", "httpx", "httpcore", "urllib3", "websockets", "grpc", "asyncio")
    loggers = [root, *map(logging.getLogger, names)]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(1)
    root.addHandler(handler)
    yield written
    root.removeHandler(handler)
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def target_of(wire: str) -> Target:
    assert wire in TARGETS, f"add {wire!r} to TARGETS in {__file__}: how does it reach the server?"
    return TARGETS[wire]


@contextlib.contextmanager
def serve(target: Target) -> Iterator[Any]:
    options = {"latency": 0, "rate": 0, "max_connections": 0, "seed": 1, **target.options}
    with Server(api_key=KEY, **options) as server:
        yield server


def connect(target: Target, url: str, wire: str, **settings: Any) -> CosyClient:
    if target.query and "http_client" not in settings:
        url += f"?token={QUERY}"
    headers = {"X-Gate": HEADER, "Cookie": f"session={COOKIE}"}
    given = {"api_key": KEY, "headers": headers, **target.settings, **QUICK, **settings}
    return CosyClient(Endpoint(url, rate=1_000.0), wire=wire, **given)


@pytest.mark.parametrize("wire", known_wires())
def test_nothing_that_a_client_leaves_shows_a_key(
    wire: str, evidence: Evidence, log: io.StringIO, tmp_path: Path
) -> None:
    target = target_of(wire)
    with serve(target) as server:
        with connect(target, target.url(server), wire, observers=[evidence]) as client:
            _speak_well(client, evidence, tmp_path)
            _stream(client, evidence)
            _meet_faults(server, client, evidence)
            evidence.note("client", client, client.config, client.endpoints, client.stats())
            evidence.note("settings", vars(client.config.timeouts), vars(client.config.retry))
        _build(target.url(server), wire, evidence)
        with connect(target, target.url(server), wire, api_key=WRONG) as client:
            evidence.fail(_failure(client), "wrong key")
        if target.http:
            _bring_a_client(target, target.url(server), wire, evidence)
        assert server.stats()["keys_leaked"] == 0
        evidence.note("server", server, server.stats(), server.config)
        gone = target.url(server)
    with connect(target, gone, wire) as client:
        evidence.fail(_failure(client), "no server")
    evidence.found["log"] = log.getvalue()
    evidence.found["files"] = _contents(tmp_path)
    # It is no proof to find nothing where there is nothing.
    assert "cosy_sync" in evidence.found["log"]
    assert len(evidence.found["files"]) > 10_000
    assert len({type(error) for error in evidence.errors}) >= 4
    assert len(evidence.found["events"]) > 1_000
    assert leaks(evidence.found) == []


def _speak_well(client: CosyClient, evidence: Evidence, folder: Path) -> None:
    audio = client.synth("前方路口请向左转弯")
    audio.save(folder / "one.wav")
    outcomes = client.synth_many(["前方路口", "请向左转弯"], on_error="return")
    assert all(outcome.ok for outcome in outcomes), outcomes
    frozen = pickle.dumps(outcomes)
    evidence.note("audio", audio, audio.timing, outcomes, frozen, pickle.loads(frozen))
    (folder / "outcomes.pickle").write_bytes(frozen)


def _stream(client: Any, evidence: Evidence) -> None:
    if not hasattr(client, "stream"):
        return
    try:
        with client.stream("前方路口请向左转弯") as stream:
            heard = b"".join(stream)
        evidence.note("stream", stream, len(heard))
    except CosyError as error:
        evidence.fail(error, "stream")


def _meet_faults(server: Any, client: CosyClient, evidence: Evidence) -> None:
    for fault in FAULTS:
        server.inject(fault, times=2)
        for outcome in client.synth_many(["前方路口请向左转弯"], on_error="return"):
            if outcome.error is not None:
                evidence.fail(outcome.error, fault)
    for text in ("[fail] 前方路口", "[refuse] 前方路口"):
        (outcome,) = client.synth_many([text], on_error="return")
        evidence.fail(outcome.error, text)


def _failure(client: CosyClient) -> BaseException | None:
    (outcome,) = client.synth_many(["前方路口请向左转弯"], on_error="return")
    return outcome.error


def _build(url: str, wire: str, evidence: Evidence) -> None:
    """Look at the wire itself, its options, and at what it hands to the net."""
    target = TARGETS[wire]
    with connect(target, url, wire) as client:
        options = SpeechOptions.from_config(client.config)
        made: Any = create_wire(wire, client.endpoints[0].url, options)
    requests: list[Any] = []

    def send(request: Any) -> Any:
        requests.append(request)
        raise CosyError("seen enough")

    with contextlib.suppress(CosyError):
        made.exchange(["前方路口"], send, "r1")
    if made.capabilities.streaming:
        with contextlib.suppress(CosyError):
            requests.append(made.listen("前方路口", send, "r1"))
    assert requests
    evidence.note("wire", made, made.capabilities, options, *requests)


def _bring_a_client(target: Target, url: str, wire: str, evidence: Evidence) -> None:
    if not url.startswith("http"):
        return  # refused: such wires do not go over httpx
    with httpx.Client() as mine, connect(target, url, wire, http_client=mine) as client:
        assert client.synth("前方路口请向左转弯").duration > 0
        evidence.note("brought", client, client.stats())
    mine = httpx.Client()
    with mine, connect(target, url, wire, http_client=mine, api_key=WRONG) as client:
        evidence.fail(_failure(client), "brought, wrong key")


def _contents(folder: Path) -> str:
    """Every file's name and bytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "\n".join(f"{path} {path.read_bytes().decode('latin-1')}" for path in files)


HTTP_WIRES = [name for name in known_wires() if name not in TARGETS or TARGETS[name].http]
ECHOES = (
    b'{"error":{"code":"invalid_api_key","message":"Incorrect API key provided: %b"}}',
    b'{"code":"InvalidApiKey","message":"Invalid API-key provided: %b","request_id":"%b"}',
    b'{"detail":"the header was %b"}',
    b"<html><title>401: %b</title></html>",
    b"%b",
)


@pytest.mark.parametrize("status", [200, 401, 429, 500])
@pytest.mark.parametrize("wire", HTTP_WIRES)
def test_a_key_that_a_service_quotes_back_is_blanked(
    wire: str, status: int, evidence: Evidence, log: io.StringIO
) -> None:
    target = target_of(wire)
    left = [body for body in ECHOES for _ in range(2)]

    def echo(peer: Peer) -> None:
        while left:
            peer.read()
            head = peer.requests[-1].partition(b"\r\n\r\n")[0].decode("latin-1")
            # Short enough not to be cut: only what is secret, alone and as it came.
            said = " ".join(each for each in head.split() if "hygiene" in each)
            said += " " + said.replace("=", " ")
            assert KEY in said and HEADER in said and COOKIE in said
            body = left.pop().replace(b"%b", said.encode())
            lines = f"HTTP/1.1 {status} So\r\nContent-Type: application/json\r\n"
            peer.sock.sendall(f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    with Scripted([echo]) as api:
        address = type("Address", (), {"base_url": f"http://127.0.0.1:{api.port}"})
        url = target.url(address)
        settings = {"retry": RetryConfig(max_retries=0), "observers": [evidence]}
        with connect(target, url, wire, **settings) as client:
            for _ in ECHOES:
                evidence.fail(_failure(client), f"HTTP {status}")
    evidence.found["log"] = log.getvalue()
    assert len(left) < len(ECHOES) * 2
    assert leaks(evidence.found) == []


@pytest.mark.parametrize("wire", known_wires())
def test_the_commands_show_no_key(wire: str, tmp_path: Path) -> None:
    target = target_of(wire)
    evidence: dict[str, str] = {}
    with serve(target) as server:
        url = target.url(server)
        url += f"?token={QUERY}" if target.query else ""
        for number, (key, command) in enumerate(
            [
                (KEY, ["synth", "-vv", "--json", "-o", "out", "前方路口", "[fail] 请向左转弯"]),
                (WRONG, ["synth", "-vv", "-o", "other", "前方路口"]),
                (KEY, ["bench", "-vv", "--max-texts", "600", "--seconds", "1", "--url", url]),
            ]
        ):
            done = _run(command, url, wire, key, tmp_path)
            evidence[f"{number} {command[0]}"] = done.stdout + done.stderr
    evidence["files"] = _contents(tmp_path)
    assert "401" in evidence["1 synth"] or "key" in evidence["1 synth"], evidence
    assert "RIFF" in evidence["files"] and "html" in evidence["files"], evidence["2 bench"]
    assert leaks(evidence) == []


def _run(
    command: list[str], url: str, wire: str, key: str, folder: Path
) -> subprocess.CompletedProcess[str]:
    settings = TARGETS[wire].settings
    options = [text for name, value in settings.items() for text in (f"--{name}", value)]
    return subprocess.run(
        [sys.executable, "-m", "cosy_sync", *command, "--wire", wire, "--rate", "100", *options],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "COSY_SYNC_API_KEY": key,
            "COSY_SYNC_RETRY_OUTLAST": "0",
            "COSY_SYNC_URL": url,
        },
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_the_search_finds_what_is_there() -> None:
    for secret in SECRETS:
        for text in (
            f"Authorization: Bearer {secret}",
            f"http://h/?token={urllib.parse.quote(secret)}",
            secret.upper(),
            secret.encode().hex(),
            json.dumps({"key": secret}),
            *(base64.b64encode(b"a" * n + secret.encode() + b"z").decode() for n in range(3)),
        ):
            assert leaks({"x": text}) == [f"x shows {secret}"], text
    assert leaks({"x": "sk-hygiene", "y": ""}) == []


def test_a_wire_that_is_not_in_the_table_is_missed() -> None:
    with pytest.raises(AssertionError, match="add 'next' to TARGETS"):
        target_of("next")


# -- what an error holds on to ------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\n"
ENDS: dict[str, list[Any]] = {
    "refused": [Peer.read, b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno"],
    "wrong key": [Peer.read, b"HTTP/1.1 401 Who\r\nContent-Length: 2\r\n\r\nno"],
    "cut": [Peer.read, OK + b"Content-Length: 10\r\n\r\nab"],
    "reset": [Peer.read, "reset the connection"],
    "no HTTP": [Peer.read, b"rubbish\r\n\r\n"],
    "no audio": [Peer.read, OK + b"Content-Type: audio/wav\r\nContent-Length: 4\r\n\r\nabcd"],
    "late": [Peer.read, "do nothing until the client leaves"],
}
CALLS: dict[str, Callable[[CosyClient], BaseException | None]] = {
    "synth": lambda client: raised(lambda: client.synth("好吧")),
    "submit": lambda client: client.submit("好吧").exception(),
    "synth_many": lambda client: raised(lambda: client.synth_many(["好吧", "你好"])),
    "synth_iter": lambda client: next(client.synth_iter(["好吧"])).error,
    "stream": lambda client: raised(lambda: list(client.stream("好吧"))),
}


def raised(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except Exception as error:
        return error
    return None


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and the attempts and outcomes that it carries."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        assert one.__cause__ is not one and one.__context__ is not one, "raised from itself"
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        carried = [*getattr(one, "attempts", ())]
        carried += [outcome.error for outcome in getattr(one, "outcomes", ())]
        waiting += [each for each in (one.__cause__, one.__context__, *carried) if each]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("call", CALLS)
def test_no_frame_of_an_error_shows_the_key(call: str, end: str) -> None:
    with (
        Scripted(ENDS[end]) as server,
        CosyClient(
            f"http://127.0.0.1:{server.port}/v1",
            wire="openai",
            model="m",
            voice="v",
            api_key=KEY,
            retry=RetryConfig(max_retries=1, base=0.001, max_bad_audio=0, outlast=0),
            timeouts=TimeoutConfig(first_byte=0.05, first_byte_per_char=0),
        ) as client,
    ):
        error = CALLS[call](client)
        assert isinstance(error, CosyError)
        for each in chain_of(error):
            for frame, _ in traceback.walk_tb(each.__traceback__):
                if frame.f_code.co_filename != __file__:
                    shown = {name: repr(value) for name, value in frame.f_locals.items()}
                    assert not [name for name, text in shown.items() if KEY in text]
