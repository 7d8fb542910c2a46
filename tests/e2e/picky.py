"""A service on a real socket that answers what a function of the texts says, and counts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cosy_sync.testing import FakeService

# What a function returns in place of sound: HTTP status, media type, body; None hangs up.
Refusal = tuple[int, str, bytes]
Choice = Callable[[Sequence[str]], "Refusal | str | None"]

SPEAK = "speak"
PAGE = (403, "text/html", b"<html><title>Request blocked</title></html>")


def said(status: int, **fields: object) -> Refusal:
    """Return a refusal in JSON."""
    return status, "application/json", json.dumps(fields).encode()


class Picky:
    """Speaks `batch` at /batch and `openai` at /v1, until closed; `calls` holds each call's texts.

    `choose` may sleep: it runs on the connection's thread.
    """

    def __init__(self, choose: Choice) -> None:
        self.calls: list[list[str]] = []
        lock, calls = threading.Lock(), self.calls

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                texts = asked["texts"] if "texts" in asked else [asked["input"]]
                with lock:
                    calls.append(texts)
                answer = choose(texts)
                if answer is None:
                    self.close_connection = True
                    return
                status, kind, body = 200, "audio/wav", b""
                if isinstance(answer, tuple):
                    status, kind, body = answer
                elif "texts" in asked:
                    reply = FakeService.speak(texts)
                    kind, body = reply.headers["Content-Type"], reply.content
                else:
                    body = FakeService.wav(texts[0])
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Listener(ThreadingHTTPServer):
            daemon_threads = False
            request_queue_size = 256

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # the client left

        self._server = Listener(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.base = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.batch = f"{self.base}/batch"
        self.openai = f"{self.base}/v1"

    def __enter__(self) -> Picky:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def sizes(self) -> list[int]:
        """Return how many texts each call had."""
        return [len(call) for call in self.calls]


def after(seconds: float, choose: Choice) -> Choice:
    """Let what is spoken take so many seconds; refusals come at once."""

    def answer(texts: Sequence[str]) -> Refusal | str | None:
        chosen = choose(texts)
        if chosen == SPEAK:
            time.sleep(seconds)
        return chosen

    return answer
