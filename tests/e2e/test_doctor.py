"""`doctor` on set-ups that do not work: its last line names the cause and what to do."""

import datetime
import errno
import json
import resource
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from scripted import HOLD, READ, Scripted

from cosy_sync import CosyClient, DiskCache
from cosy_sync.cli import main
from cosy_sync.testing import Server

Captured = pytest.CaptureFixture[str]


def doctor(*argv: str) -> int:
    return main(["doctor", *argv])


@pytest.fixture
def last(capsys: Captured) -> "Last":
    return Last(capsys)


class Last:
    """The last line that was written."""

    def __init__(self, capsys: Captured) -> None:
        self._capsys = capsys

    def __call__(self) -> str:
        return self._capsys.readouterr().out.splitlines()[-1]


def test_ctrl_c_ends_it_as_any_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cosy_sync.cli.doctor.check_machine", press)
    assert doctor("--url", "http://127.0.0.1:1/batch") == 130


def test_all_is_well(last: Last) -> None:
    with Server(latency=0) as server:
        assert doctor("--url", server.url) == 0
    assert last() == "all is well"


@pytest.mark.parametrize(
    ("argv", "environ", "words"),
    [
        ([], {}, "settings: --url: no endpoint. What to do: give its address"),
        ([], {"URL": "tts.example.com"}, "settings: COSY_SYNC_URL"),
        (["--url", "http://127.0.0.1:9/b"], {"DEADLNE": "3"}, "did you mean COSY_SYNC_DEADLINE?"),
        (["--url", "http://127.0.0.1:9/b", "--wire", "opena"], {}, "wire"),
        (["--url", "http://127.0.0.1:9/b", "--api-key-file", "none"], {}, "cannot read the key"),
        (["--url", "http://127.0.0.1:9/b", "--speed", "9"], {}, "speed: must be 0.25 to 4"),
    ],
)
def test_wrong_settings(
    argv: list[str],
    environ: dict[str, str],
    words: str,
    last: Last,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(f"COSY_SYNC_{name}", value)
    assert doctor(*argv) == 2
    told = last()
    assert told.startswith("settings: ") and words in told


def test_a_wire_that_nobody_is_there_to_tell(last: Last) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        assert doctor("--url", url, "--wire", "auto") == 3
    cause, _, todo = last().partition(". What to do: ")
    assert cause.endswith("Connection refused)") and todo.startswith("is the service running")
    assert "give its name" in todo


def test_a_wire_that_only_the_right_key_would_tell(last: Last) -> None:
    with Server(latency=0, api_key="right") as server:
        assert doctor("--url", server.base_url, "--wire", "auto") == 3
    cause, _, todo = last().partition(". What to do: ")
    assert cause.endswith("HTTP 401, check the key (--api-key-file or COSY_SYNC_API_KEY))")
    assert todo.startswith("give its name")


def test_a_wire_that_a_service_does_not_tell_is_one_to_be_given(last: Last) -> None:
    with Server(latency=0) as server:
        assert doctor("--url", f"{server.base_url}/elsewhere", "--wire", "auto") == 2
    assert "HTTP 404" in (told := last()) and "give its name" in told


@pytest.mark.parametrize("wire", ["batch", "auto"])
@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://127.0.0.1:1", 3),
        ("https://127.0.0.1:1", 3),
        ("http://nowhere.invalid", 3),
        ("https://localhost:{tls}", 3),
        ("https://localhost:{http}", 3),
        ("http://localhost:{mute}", 1),
    ],
)
def test_the_exit_code_does_not_hang_on_who_says_the_wire(
    url: str, code: int, wire: str, last: Last, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosy_sync.detect._SECONDS", 0.3)
    monkeypatch.setattr("cosy_sync.cli.doctor_checks._CONNECT", 0.3)
    with Scripted([HOLD], [HOLD], [HOLD]) as mute, Server(latency=0) as plain, tls_server() as tls:
        http, silent = (each.url.rsplit(":")[-1].split("/")[0] for each in (plain, mute))
        place = url.format(tls=tls[0], http=http, mute=silent)
        place += "/batch" if wire == "batch" else ""
        assert doctor("--url", place, "--wire", wire, "--deadline", "0.3") == code
    assert ". What to do: " in last() or code == 1


def test_a_host_that_has_no_address(last: Last, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert doctor("--url", "http://nowhere.example/batch") == 3
    told = last()
    assert told.startswith("dns: nowhere.example has no address: Name or service not known")
    assert "getent hosts nowhere.example" in told


def test_nothing_listens_there(last: Last) -> None:
    assert doctor("--url", "http://127.0.0.1:1/batch") == 3
    assert last().startswith(
        "tcp: no connection (127.0.0.1: Connection refused). What to do: start"
    )


def test_one_address_of_two_is_dead(last: Last, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def both(host: str, port: int, *args: object, **kinds: object) -> list[object]:
        if host != "two.test":
            return real(host, port, *args, **kinds)  # type: ignore[arg-type, return-value]
        first, second = (
            real(address, port, type=socket.SOCK_STREAM) for address in ("127.0.0.1", "127.0.0.2")
        )
        return [*first, *second]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with Server(latency=0) as server:
        port = server.url.split(":")[2].split("/")[0]
        assert doctor("--url", f"http://two.test:{port}/batch") == 0
    assert last().startswith("tcp: 127.0.0.2: Connection refused; the others answer")


@contextmanager
def tls_server(**issued: object) -> Iterator[tuple[int, trustme.CA]]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", **issued).configure_cert(context)  # type: ignore[arg-type]
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            try:
                sock, _ = listener.accept()
                sock.settimeout(2)
                with sock, context.wrap_socket(sock, server_side=True) as stream:
                    stream.recv(1)
            except (OSError, ssl.SSLError):
                continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], authority
    finally:
        ended.set()
        thread.join()
        listener.close()


def test_a_certificate_that_nobody_trusts(last: Last) -> None:
    with tls_server() as (port, _):
        assert doctor("--url", f"https://localhost:{port}/batch") == 3
    assert "unable to get local issuer certificate. What to do: renew or correct" in last()


def test_a_certificate_that_has_ended(
    last: Last, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    end = datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc)
    begin = end - datetime.timedelta(days=1)
    with tls_server(not_before=begin, not_after=end) as (port, authority):
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert doctor("--url", f"https://localhost:{port}/batch") == 3
    assert last().startswith("tls: certificate has expired")


def test_a_certificate_for_another_host(
    last: Last, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with tls_server() as (port, authority):
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert doctor("--url", f"https://127.0.0.1:{port}/batch") == 3
    assert "IP address mismatch" in last()


def test_https_at_a_port_that_speaks_http(last: Last) -> None:
    with Server(latency=0) as server:
        assert doctor("--url", server.url.replace("http://", "https://")) == 3
    assert "the port does not speak TLS" in (told := last()) and "write http:// in the URL" in told


def test_http_at_a_port_that_speaks_tls(last: Last) -> None:
    with tls_server() as (port, _):
        assert doctor("--url", f"http://127.0.0.1:{port}/batch") != 0
    assert "the port speaks TLS: write https://" in last()


def test_a_proxy_that_does_not_answer(last: Last, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:1")
    assert doctor("--url", "http://tts.example.com/batch") == 3
    told = last()
    assert told.startswith("proxy: requests go through 127.0.0.1:1, from the environment; it does")
    assert "NO_PROXY" in told


def test_a_wrong_key_and_a_wrong_path(last: Last, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(latency=0, api_key="right") as server:
        assert doctor("--url", server.url) == 3
        assert "speech (AuthError): " in (told := last()) and "COSY_SYNC_API_KEY" in told
        monkeypatch.setenv("COSY_SYNC_API_KEY", "right")
        assert doctor("--url", server.url.replace("/batch", "/nothing")) == 3
        assert "HTTP 404" in (told := last()) and "check the URL's path" in told


def test_a_wrong_wire(last: Last) -> None:
    with Server(latency=0) as server:
        assert doctor("--url", server.url, "--wire", "runtime_http", "--voice", "中文女") == 3
        assert "speech (" in last()


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n",
            "lower --rate or --max-connections",
        ),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "speech (UnavailableError): "),
        (b"HTTP/1.1 402 Pay\r\nContent-Length: 0\r\n\r\n", "check the account's balance"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p/>",
            "speech (BadAudioError): ",
        ),
    ],
)
def test_what_the_service_answers(reply: bytes, words: str, last: Last) -> None:
    head = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
    with Scripted([READ, reply, HOLD], [READ, head, HOLD], [READ, reply, HOLD]) as server:
        assert doctor("--url", server.url, "--deadline", "5") in (1, 3)
    assert words in last()


def test_a_service_that_answers_nothing(last: Last, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosy_sync.cli.doctor_checks._CONNECT", 0.3)
    with Scripted([HOLD]) as server:
        assert doctor("--url", server.url, "--deadline", "1") == 1
    assert "speech (DeadlineError): " in last()


def test_clocks_that_differ(last: Last, monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.now(tz) + datetime.timedelta(hours=1)

    date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    head = f"HTTP/1.1 404 No\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode()
    monkeypatch.setattr("cosy_sync.cli.doctor_checks.datetime", Later)
    with Scripted([HOLD], [READ, head, HOLD]) as server:
        doctor("--url", server.url, "--deadline", "1")
    # The sentence fails here; the clock is told above it.
    assert last().startswith("speech (")


def test_redis_that_is_down(last: Last, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSY_SYNC_SHARING_REDIS_URL", "redis://127.0.0.1:1/0")
    with Server(latency=0) as server:
        assert doctor("--url", server.url) == 3
    assert last().startswith("redis: ConnectionError")


@pytest.mark.parametrize("cache", ["{file}", "{file}/below", "redis://127.0.0.1:1/0"])
def test_a_cache_that_keeps_nothing(
    cache: str, last: Last, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("COSY_SYNC_CACHE", cache.format(file=tmp_path / "file"))
    with Server(latency=0) as server:
        assert doctor("--url", server.url) == 0
    assert last().startswith("cache: nothing can be kept (")


def test_a_full_disk(last: Last, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cosy_sync.cache.disk._write_all", full)
    monkeypatch.setenv("COSY_SYNC_CACHE", str(tmp_path))
    with Server(latency=0) as server:
        assert doctor("--url", server.url) == 0
    assert last().startswith("cache: nothing can be kept (No space left on device). What to do")


def test_a_cache_that_keeps_what_it_is_given_and_none_of_the_doctors(
    last: Last, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSY_SYNC_CACHE", str(tmp_path))
    with Server(latency=0) as server:
        assert doctor("--url", server.url) == 0
    assert last() == "all is well"
    assert DiskCache(tmp_path).usage()[0] == 0


def test_a_sentence_that_the_cache_knows_is_spoken_all_the_same(
    last: Last, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSY_SYNC_CACHE", str(tmp_path))
    with Server(latency=0, api_key="right") as server:
        for key, code in (("right", 0), ("wrong", 3)):
            monkeypatch.setenv("COSY_SYNC_API_KEY", key)
            if code == 0:
                with CosyClient(server.url) as client:
                    client.synth("你好，请说一句话。")
            assert doctor("--url", server.url) == code
    assert "speech (AuthError): " in last()


@pytest.mark.parametrize("wire", ["batch", "openai", "runtime_http"])
def test_a_wrong_voice(wire: str, last: Last) -> None:
    with Server(latency=0) as server:
        path = {"batch": "/batch", "openai": "/v1", "runtime_http": ""}[wire]
        model = ("--model", "m") if wire == "openai" else ()
        url = f"{server.base_url}{path}"
        assert doctor("--url", url, "--wire", wire, *model, "--voice", "无此人") == 1
    assert "无此人" in (told := last()) or "at an unknown speaker" in told


def test_a_proxy_that_blocks(last: Last, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = b"HTTP/1.1 403 Blocked\r\nContent-Length: 0\r\n\r\n"
    with Scripted([HOLD], [READ, reply, HOLD], [READ, reply, HOLD]) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        assert doctor("--url", "https://tts.example.com/batch", "--deadline", "2") == 3
    assert "speech (ConnectError): " in (told := last()) and "403" in told


def test_too_few_open_files_are_a_warning(last: Last, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    with Server(latency=0) as server:
        assert doctor("--url", server.url) == 0
    assert last().startswith("open files: 64 open files allowed, 100 wanted. What to do: raise it")


def test_of_two_endpoints_the_one_that_fails_is_named(last: Last) -> None:
    with Server(latency=0) as server:
        assert doctor("--url", server.url, "--url", "http://127.0.0.1:1/batch") == 3
    assert last().startswith("http://127.0.0.1:1/batch: tcp: no connection")


@pytest.mark.parametrize("model", [None, "v3"])
def test_a_new_model_that_cannot_speak_is_named(
    model: str | None, last: Last, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(latency=0) as old, Server(latency=0, faults={"status-500": 1.0}) as new:
        monkeypatch.setenv("COSY_SYNC_CANARY_URL", new.url)
        if model is not None:
            monkeypatch.setenv("COSY_SYNC_CANARY_MODEL", model)
        assert doctor("--url", old.url, "--url", new.url) == 1
        assert last().startswith(f"{new.url}: canary (UnavailableError): ")
        monkeypatch.delenv("COSY_SYNC_CANARY_URL")
        monkeypatch.setenv("COSY_SYNC_CANARY_MODEL", "v3")
        assert doctor("--url", old.url) == 0


def test_the_report_holds_no_key(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSY_SYNC_API_KEY", "sk-secret")
    monkeypatch.setenv("COSY_SYNC_SHARING_REDIS_URL", "redis://me:hidden@127.0.0.1:1/0")
    monkeypatch.setenv("http_proxy", "http://user:word@127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server(latency=0, api_key="sk-secret") as server:
        doctor("--url", server.url, "--json")
    text = capsys.readouterr().out
    told = json.loads(text)
    assert told["settings"]["COSY_SYNC_API_KEY"] == "***"
    assert {check["state"] for check in told["checks"]} == {"ok", "failed"}
    for secret in ("sk-secret", "hidden", "word@"):
        assert secret not in text
