"""A store that fails for a while is asked again; what it refuses for good is told at once."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from cosy_sync.storage import ObjectStore, objects

pytest.importorskip("obstore", reason="needs the extra storage")


class Bucket(BaseHTTPRequestHandler):
    """Answers what it is told to."""

    answers: ClassVar[list[int]]
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.answers.pop(0))
        self.send_header("Content-Length", "0")
        self.send_header("ETag", '"1"')
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def bucket() -> Iterator[tuple[type[Bucket], str]]:
    class Handler(Bucket):
        answers: ClassVar[list[int]] = []

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Handler, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def store(bucket: tuple[type[Bucket], str], monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    # As often as ever, but without the pauses.
    soon = timedelta(milliseconds=1)
    quick = {"init_backoff": soon, "max_backoff": soon, "base": 2}
    monkeypatch.setattr(objects, "_RETRY", {**objects._RETRY, "backoff": quick})
    keys = {"access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}
    options = {"allow_http": True}
    return ObjectStore("s3://speech/x", endpoint=bucket[1], client_options=options, **keys)


def test_a_store_that_fails_for_a_while_keeps_what_it_was_given(
    store: ObjectStore, bucket: tuple[type[Bucket], str]
) -> None:
    bucket[0].answers = [500, 503] * 15 + [200]
    assert store.put("a", b"sound")
    assert bucket[0].answers == []
    store.close()


def test_a_store_that_refuses_the_keys_is_not_asked_again(
    store: ObjectStore, bucket: tuple[type[Bucket], str]
) -> None:
    bucket[0].answers = [403, 200]
    with pytest.raises(PermissionError, match="refuses these keys"):
        store.put("a", b"sound")
    assert bucket[0].answers == [200]
    store.close()
