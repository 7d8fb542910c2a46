"""A bucket that speaks enough of S3: objects, conditions, lists. What it must fail with is told."""

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

_HEADERS = ("content-type", "cache-control", "content-encoding", "content-language")


class BucketServer:
    """Holds one bucket, `speech`, in memory; `failures` are the statuses of the next requests."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.objects: dict[str, tuple[bytes, dict[str, str], str]] = {}
        self.failures: list[int] = []
        # Sounds that it takes before it refuses more; None for all.
        self.room: int | None = None
        # So many writes are kept, and not answered.
        self.unanswered = 0
        self.requests: list[str] = []
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    bucket: BucketServer
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._fails():
            return
        kept = {n.lower(): v for n, v in self.headers.items() if self._is_kept(n.lower())}
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        with self.bucket.lock:
            there = self.bucket.objects.get(self._key())
            wanted = self.headers.get("If-Match")
            absent = self.headers.get("If-None-Match") == "*"
            met = (there is None or not absent) and (
                wanted is None or (there is not None and wanted in (there[2], there[2].strip('"')))
            )
            if met:
                stamp = formatdate(time.time(), usegmt=True)
                self.bucket.objects[self._key()] = data, {**kept, "last-modified": stamp}, tag
            drop = self.bucket.unanswered > 0
            self.bucket.unanswered -= drop
        if drop:
            self.close_connection = True
        else:
            self._answer(200 if met else 412, b"", {"ETag": tag})

    def do_GET(self) -> None:
        if self._fails():
            return
        if "list-type" in self._query():
            self._list()
            return
        there = self.bucket.objects.get(self._key())
        if there is None:
            self._answer(404, b"" if self.command == "HEAD" else _error("NoSuchKey"))
        else:
            self._answer(200, there[0], {**there[1], "ETag": there[2]})

    do_HEAD = do_GET

    def do_DELETE(self) -> None:
        if not self._fails():
            self.bucket.objects.pop(self._key(), None)
            self._answer(204, b"")

    def do_POST(self) -> None:
        """Remove the objects that a body lists."""
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._fails():
            return
        keys = re.findall(r"<Key>.*?</Key>", data.decode())
        for key in keys:
            self.bucket.objects.pop(unescape(key[5:-6]), None)
        rows = "".join(f"<Deleted>{key}</Deleted>" for key in keys)
        body = f"<DeleteResult>{rows}</DeleteResult>".encode()
        self._answer(200, body, {"Content-Type": "application/xml"})

    def _list(self) -> None:
        query = self._query()
        prefix, after = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
        keys = sorted(k for k in self.bucket.objects if k.startswith(prefix) and k > after)
        page, more = keys[:5], keys[5:]
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z"
            f"</LastModified><ETag>&quot;1&quot;</ETag><Size>{len(self.bucket.objects[key][0])}"
            "</Size></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>speech</Name>'
            f"<KeyCount>{len(page)}</KeyCount><IsTruncated>{str(bool(more)).lower()}</IsTruncated>"
            f"{token}{rows}</ListBucketResult>"
        )
        self._answer(200, body.encode(), {"Content-Type": "application/xml"})

    def _fails(self) -> bool:
        with self.bucket.lock:
            self.bucket.requests.append(self.command)
            status = self.bucket.failures.pop(0) if self.bucket.failures else 200
            sounds = sum(key.endswith(".wav") for key in self.bucket.objects)
        room = self.bucket.room
        if room is not None and sounds >= room and self.command == "PUT":
            status = 403
        if status == 200:
            return False
        code = {403: "AccessDenied", 409: "ConditionalRequestConflict"}.get(status, "InternalError")
        self._answer(status, b"" if self.command == "HEAD" else _error(code))
        return True

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")  # and no thread waits for more
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _is_kept(self, name: str) -> bool:
        return name in _HEADERS or name.startswith("x-amz-meta-")

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix("/speech/")

    def _query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query, keep_blank_values=True)

    def log_message(self, *args: object) -> None:
        pass


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>as the test wished</Message></Error>".encode()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


@contextmanager
def serve_bucket() -> Iterator[BucketServer]:
    """Serve an empty bucket on loopback for as long as the block lasts."""
    bucket = BucketServer()
    handler = type("Handler", (_Handler,), {"bucket": bucket})
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        bucket.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield bucket
        finally:
            server.shutdown()
            thread.join()
