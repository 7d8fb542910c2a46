"""What other clients call it: every wrong name is told its right place."""

import ast
import os
import re
import subprocess
import sys
from collections import UserString
from pathlib import Path
from unittest.mock import Mock

import httpx
import pytest

import cosy_sync
from cosy_sync import ConfigError, CosyClient, Endpoint, InvalidTextError
from cosy_sync.config import Settings
from cosy_sync.config.client import GROUPS
from cosy_sync.hints import INSTALL, MOVED, RENAMED, install_line
from cosy_sync.settings import load_config
from cosy_sync.testing import FakeService
from cosy_sync.texts import as_text, is_several

URL = "http://tts.test/batch"


@pytest.fixture
def client():
    with CosyClient(URL, http_client=httpx.Client(transport=FakeService())) as made:
        yield made


# -- keywords -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("timeout", "write deadline=..."),
        ("token", "write api_key=..."),
        ("speaker", "write voice=..."),
        ("instruct_text", "write instruction=..."),
        ("reference", "voice=Voice(reference=..., transcript=...)"),
        ("auth", "write api_key=... for a bearer token, headers={...} for another header"),
        ("auth", "http_client=httpx.Client(auth=...)"),
        ("threads", "Endpoint(url, max_connections=...)"),
        ("workers", "Endpoint(url, max_connections=...)"),
        ("concurrency", "Endpoint(url, max_connections=...)"),
        ("base_url", "the address is the first argument: CosyClient(url, ...)"),
        ("proxy", "set HTTPS_PROXY"),
        ("proxies", "http_client=httpx.Client(proxy=...)"),
        ("retries", "retry=RetryConfig(max_retries=...)"),
        ("verify_tls", "write pool=PoolConfig(verify_tls=...)"),
        ("verify_ssl", "write pool=PoolConfig(verify_tls=...)"),
        ("ssl_context", "write pool=PoolConfig(ssl_context=...)"),
        ("rps", "Endpoint(url, rate=...)"),
        ("volume", "extra={'volume': ...}"),
        ("callback", "submit(text, callback=...)"),
        ("backoff", "retry=RetryConfig(base=...)"),
        ("backoff_factor", "retry=RetryConfig(base=...)"),
        ("retry_policy", "retry=RetryConfig(max_retries=...)"),
        ("keepalive_expiry", "pool=PoolConfig(idle_expiry=...)"),
        ("user_agent", "headers={'User-Agent': ...}"),
    ],
)
def test_a_name_of_another_client_is_told_ours(client, name: str, advice: str) -> None:
    for call in (CosyClient, lambda _, **given: client.with_options(**given)):
        with pytest.raises(ConfigError) as caught:
            call(URL, **{name: 5})
        assert str(caught.value).startswith(f"{name}: no such argument; ")
        assert advice in str(caught.value)


def test_every_name_of_the_table_is_no_setting_of_ours_and_leads_to_one() -> None:
    ours = set(Settings.__annotations__)
    assert not (set(RENAMED) | set(MOVED)) & ours and not set(RENAMED) & set(MOVED)
    assert set(RENAMED.values()) <= ours
    for name in (*RENAMED, *MOVED):
        with pytest.raises(ConfigError, match=f"^{name}: no such argument; ") as caught:
            CosyClient(URL, **{name: 5})  # type: ignore[call-overload]
        assert "known:" not in str(caught.value) and "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({"verify": False}, r"pool=PoolConfig\(verify_tls=False\)"),
        ({"retry": 3}, r"retry=RetryConfig\(max_retries=\.\.\.\)"),
        ({"batch": 32}, "batch_size="),
        ({"timeouts": 5}, "deadline="),
        ({"limits": 5}, r"Endpoint\(url, max_connections=\.\.\., rate=\.\.\.\)"),
        *(({name: 5}, f"{name}=|batch_size=|Endpoint") for name in GROUPS),
    ],
)
def test_a_group_given_as_something_else_is_told_what_to_write(given, advice) -> None:
    with pytest.raises(ConfigError, match=f"expected an? .*; .*({advice})"):
        CosyClient(URL, **given)


@pytest.mark.parametrize("whole", [{"url": URL}, {"http_client": None}, {"observers": []}])
def test_what_belongs_to_the_whole_client_is_refused_by_a_view(client, whole) -> None:
    with pytest.raises(ConfigError, match="belongs to the whole client"):
        client.with_options(**whole)


CALLS = {
    "synth": "你好",
    "submit": "你好",
    "stream": "你好",
    "synth_many": ["你好"],
    "synth_iter": ["你好"],
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({"speaker": "中文女"}, "; write voice=..."),
        ({"timeout": 3}, "; write deadline=..."),
        ({"speech_rate": 2}, "; write speed=..."),
        ({"voise": "中文女"}, "; did you mean voice?"),
        ({"seed": 7}, "write extra={'seed': ...}"),
        ({"instruct_text": "用四川话"}, "; write instruction=..."),
        ({"reference": b"RIFF"}, "voice=Voice(reference=..., transcript=...)"),
        ({"batch_size": 8}, "client.with_options(batch_size=...)."),
        ({"retry": 3}, "CosyClient(url, retry=...)"),
        ({"output_path": "a.wav"}, "audio.save('speech.wav')"),
        ({"nonsense": 1}, "help(CosyClient."),
    ],
)
def test_a_setting_given_to_a_call_is_told_its_place(client, call, given, advice) -> None:
    for owner in (client, cosy_sync):
        if owner is cosy_sync:
            cosy_sync.configure(URL)
        with pytest.raises(ConfigError) as caught:
            getattr(owner, call)(CALLS[call], **given)
        assert f"{call} takes no such argument; " in str(caught.value)
        assert advice in str(caught.value)
    cosy_sync.default_client().close()


def test_an_option_of_another_call_is_told_that_call(client) -> None:
    with pytest.raises(ConfigError, match=r"synth_many\(texts, within=\.\.\.\)"):
        client.synth("你好", within=3)
    with pytest.raises(ConfigError, match=r"submit\(text, callback=\.\.\.\)"):
        client.synth("你好", callback=print)
    with pytest.raises(ConfigError, match=r"write synth_many\(texts, on_error=\.\.\.\)"):
        client.synth_many(["你好"], return_exceptions=True)
    with pytest.raises(ConfigError, match=r"within=\.\.\. for all together"):
        client.synth_many(["你好"], timeout=30)


def test_what_belongs_to_the_whole_client_is_not_said_to_be_a_views(client) -> None:
    for name, value in (("wire", "openai"), ("protocol", "openai"), ("serial", True)):
        with pytest.raises(ConfigError, match=r"it belongs to the client: CosyClient\(") as caught:
            client.synth("你好", **{name: value})
        assert "with_options" not in str(caught.value)


@pytest.mark.parametrize("name", ["voice", "deadline", "timeout", "batch_size", "config", "retry"])
def test_a_setting_is_not_changed_by_an_assignment(client, name: str) -> None:
    view = client.with_options(deadline=9)
    for each in (client, view):
        with pytest.raises(ConfigError, match=rf"^{name}: .*with_options\("):
            setattr(each, name, "x")
    assert client.synth("你好").duration > 0


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("url", r"make another client: CosyClient\(url\)"),
        ("wire", r"make another client: CosyClient\(url, wire=\.\.\.\)"),
        ("observers", r"make another client: CosyClient\(url, observers=\.\.\.\)"),
        ("max_retries", r"retry=RetryConfig\(max_retries=\.\.\.\)"),
        ("rate", r"Endpoint\(url, rate=\.\.\.\)"),
        ("voise", r"did you mean voice\?"),
        ("owner", "in a subclass"),
    ],
)
def test_an_attribute_that_would_do_nothing_is_refused(client, name: str, advice: str) -> None:
    for each in (client, client.with_options(deadline=9)):
        with pytest.raises(ConfigError, match=rf"^{name}: .*{advice}"):
            setattr(each, name, "x")
        assert not hasattr(each, name)


def test_a_subclass_takes_attributes_of_its_own(client, monkeypatch) -> None:
    class Own(CosyClient):
        timeout = 0

        def __init__(self, url: str) -> None:
            super().__init__(url)
            self.timeout, self.owner = 5, "me"

    with Own(URL) as own:
        assert (own.timeout, own.owner) == (5, "me")
    monkeypatch.setattr(client, "synth", lambda text: "mocked")
    assert client.synth("你好") == "mocked"


def test_an_endless_deadline_is_told_that_it_must_be_finite(client) -> None:
    for wrong in (
        lambda: CosyClient(URL, deadline=float("inf")),
        lambda: client.with_options(deadline=float("inf")),
        lambda: Endpoint(URL, weight=float("inf")),
        lambda: load_config(None, {}, {"COSY_SYNC_DEADLINE": "inf"}),
        lambda: client.synth_many(["你好"], within=float("inf")),
    ):
        with pytest.raises(ConfigError, match="finite"):
            wrong()


# -- texts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["on_error", "return_exceptions"])
def test_what_synth_iter_does_anyway_is_not_sent_to_another_call(client, name: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^{name}: synth_iter .*leave it out: .*Outcome"
    ) as caught:
        client.synth_iter(["你好"], **{name: "return"})
    assert "synth_many" not in str(caught.value)


@pytest.mark.parametrize("call", ["synth_many", "synth_iter"])
def test_texts_without_an_order_are_refused(client, call: str) -> None:
    for texts, fix in (
        ({"a": "你好"}, "values()"),
        ({"你好"}, "sorted"),
        (frozenset("好"), "sorted"),
    ):
        with pytest.raises(InvalidTextError) as caught:
            getattr(client, call)(texts)
        assert fix in str(caught.value)
    named = {"a": "你好", "b": "再见"}
    for texts in (named.values(), {"你好": 1, "再见": 2}.keys(), ("你好", "再见"), iter(["你好"])):
        assert all(each for each in getattr(client, call)(texts))


@pytest.mark.parametrize(
    ("text", "fix"), [(["你好"], "synth_many"), ("你好".encode(), "decode"), (None, "NoneType")]
)
def test_what_is_no_text_is_told_what_to_do(client, text, fix) -> None:
    for call in (client.synth, client.submit):
        with pytest.raises(InvalidTextError, match=f"expected a text, got .*{fix}"):
            call(text)


# -- views --------------------------------------------------------------------------------------


def test_the_end_of_a_views_block_closes_nothing(client) -> None:
    with client.with_options(deadline=2.0) as quick:
        quick.synth("你好")
        with quick.with_options(speed=2.0):
            pass
    with pytest.raises(ZeroDivisionError), client.with_options(deadline=2.0):
        raise ZeroDivisionError
    quick.close()
    assert not client.closed and quick.synth("你好").duration > 0
    client.close()
    assert quick.closed


# -- the environment ----------------------------------------------------------------------------

# As Kubernetes sets them for services named cosy-sync and cosy-sync-tts, and Docker for a link.
LINKS = {
    "COSY_SYNC_SERVICE_HOST": "10.96.0.7",
    "COSY_SYNC_SERVICE_PORT": "8000",
    "COSY_SYNC_SERVICE_PORT_HTTP": "8000",
    "COSY_SYNC_PORT": "tcp://10.96.0.7:8000",
    "COSY_SYNC_PORT_8000_TCP": "tcp://10.96.0.7:8000",
    "COSY_SYNC_PORT_8000_TCP_PROTO": "tcp",
    "COSY_SYNC_PORT_8000_TCP_PORT": "8000",
    "COSY_SYNC_PORT_8000_TCP_ADDR": "fd00::7",
    "COSY_SYNC_TTS_SERVICE_HOST": "10.96.0.8",
    "COSY_SYNC_TTS_PORT": "udp://10.96.0.8:53",
    "COSY_SYNC_TTS_PORT_53_UDP_ADDR": "10.96.0.8",
    "COSY_SYNC_NAME": "/web/cosy_sync",
}


def test_links_to_a_service_of_our_name_are_no_settings() -> None:
    assert load_config(None, {}, {**LINKS, "COSY_SYNC_DEADLINE": "5"}).deadline == 5
    for mistyped in (
        {"COSY_SYNC_DEADLNE": "3"},
        {"COSY_SYNC_PORT": "8000"},
        {"COSY_SYNC_SERVICE": "http://a.test"},
        {"COSY_SYNC_TTS_PORT": "8000"},
        {"COSY_SYNC_NAME": "中文女"},
    ):
        with pytest.raises(ConfigError, match="no such environment variable"):
            load_config(None, {}, {**LINKS, **mistyped})


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_variable_is_as_unset(monkeypatch, empty: str) -> None:
    names = ["URL", "BATCH_SIZE", "ENDPOINT_RATE", "ENDPOINT_PER_ADDRESS", "SHARING_REDIS_URL"]
    names += [name.upper() for name in Settings.__annotations__ if name not in GROUPS]
    names += ["POOL_VERIFY_TLS", "RETRY_MAX_RETRIES", "BREAKER_SLOW_CALL", "LIMITS_RATE"]
    for name in set(names) - {"HEADERS", "EXTRA"}:
        monkeypatch.setenv(f"COSY_SYNC_{name}", empty)
    with pytest.raises(ConfigError, match="set COSY_SYNC_URL"):
        CosyClient()
    with CosyClient(URL) as client, CosyClient(URL, config=cosy_sync.ClientConfig()) as plain:
        assert client.config == plain.config


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("TIMEOUT", "DEADLINE"),
        ("TOKEN", "API_KEY"),
        ("BASE_URL", "URL"),
        ("MAX_RETRIES", "RETRY_MAX_RETRIES"),
        ("MAX_CONNECTIONS", "ENDPOINT_MAX_CONNECTIONS"),
        ("CONCURRENCY", "ENDPOINT_MAX_CONNECTIONS"),
        ("VERIFY_TLS", "POOL_VERIFY_TLS"),
    ],
)
def test_a_variable_of_another_name_is_told_ours(name: str, right: str) -> None:
    with pytest.raises(ConfigError, match=f"; write COSY_SYNC_{right}$"):
        load_config(None, {}, {f"COSY_SYNC_{name}": "5"})


# -- packages -----------------------------------------------------------------------------------


def test_install_lines_name_what_the_extras_bring() -> None:
    project = Path(cosy_sync.__file__).parents[1] / "pyproject.toml"
    for extra, packages in INSTALL.items():
        (listed,) = re.findall(rf"^{extra} = (\[.*\])$", project.read_text("utf-8"), re.MULTILINE)
        assert list(packages) == ast.literal_eval(listed)
    assert install_line("grpc") == "pip install 'grpcio>=1.62'"


def test_a_system_without_fork_is_refused_in_a_sentence() -> None:
    code = "import os; del os.fork, os.register_at_fork; import cosy_sync"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("ImportError: cosy_sync runs on Linux")


@pytest.mark.parametrize("warm", [True, False])
def test_atexit_functions_are_told_that_the_program_is_ending(warm: bool) -> None:
    code = f"""
import atexit, httpx, cosy_sync
from cosy_sync.testing import FakeService
from cosy_sync.texts import as_text, is_several

client = cosy_sync.CosyClient({URL!r}, http_client=httpx.Client(transport=FakeService()))
if {warm}:
    client.synth("你好")

def speak():
    for call in (
        lambda: client.synth("你好"),
        lambda: client.submit("你好"),
        lambda: client.synth_many(["你好"]),
        lambda: list(client.synth_iter(["你好"])),
        lambda: cosy_sync.synth("你好"),
    ):
        try:
            call()
        except cosy_sync.CosyError as error:
            print(error)

atexit.register(speak)
"""
    run = [sys.executable, "-c", code]
    environ = {**os.environ, "COSY_SYNC_URL": URL}
    # It would hang where a thread is waited for that never runs.
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=True, env=environ)
    lines = done.stdout.splitlines()
    assert len(lines) == 5 and all("the program is ending" in line for line in lines)


def test_atexit_functions_that_make_the_first_client_are_told_so_too() -> None:
    code = """
import atexit, cosy_sync

def speak():
    for call in (lambda: cosy_sync.synth("你好"), lambda: cosy_sync.CosyClient().submit("你好")):
        try:
            call()
        except cosy_sync.ClosedError as error:
            print(error)

atexit.register(speak)
"""
    environ = {**os.environ, "COSY_SYNC_URL": URL}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=True, env=environ)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all("the program is ending" in line for line in lines), done.stderr


# -- texts that are looked up late --------------------------------------------------------------


class Forwarding:
    """As flask-babel's lazy_gettext: every attribute is that of the translation."""

    def __init__(self, find) -> None:
        self._find = find

    def __getattr__(self, name: str) -> object:
        return getattr(str(self), name)

    def __str__(self) -> str:
        return self._find()

    def __iter__(self):
        return iter(str(self))


class Proxy:
    """As Django's gettext_lazy: a class with the methods of str."""

    def __init__(self, find) -> None:
        self._find = find

    def __str__(self) -> str:
        return self._find()


for _name in ("__iter__", "__len__", "__getitem__", "encode", "isspace", "isascii", "strip"):
    setattr(
        Proxy,
        _name,
        lambda self, *args, _name=_name, **kind: getattr(str(self), _name)(*args, **kind),
    )

LAZY = [Forwarding, Proxy, lambda find: UserString(find())]


@pytest.mark.parametrize("kind", LAZY)
def test_a_text_that_is_looked_up_late_is_taken(client, kind) -> None:
    languages = ["前方路口请左转"]
    text = kind(lambda: languages[0])
    service = FakeService()
    wanted = service.wav(languages[0])
    assert client.synth(text).data == wanted
    assert client.submit(text).result(10).data == wanted
    (audio,) = client.synth_many([text])
    assert audio.data == wanted
    (outcome,) = client.synth_iter([text])
    assert outcome.audio.data == wanted and outcome.text == languages[0]
    with pytest.raises(InvalidTextError, match="several texts, got one"):
        client.synth_many(text)
    with pytest.raises(InvalidTextError, match="empty"):
        client.synth(kind(lambda: " "))


def test_what_only_looks_like_a_text_is_refused(client) -> None:
    for text in (Mock(), 5, object(), ["你好"], Path("a.txt")):
        with pytest.raises(InvalidTextError, match="expected a text"):
            client.synth(text)


@pytest.mark.parametrize("kind", LAZY)
def test_a_stream_takes_texts_and_pieces_that_are_looked_up_late(kind) -> None:
    assert not is_several(kind(lambda: "你好")) and is_several([kind(lambda: "你好")])
    assert as_text(None, kind(lambda: "你好")) == "你好"


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [
        ("COSY_SYNC_RAET", "did you mean COSY_SYNC_ENDPOINT_RATE?"),
        ("COSY_SYNC_MAX_CONECTIONS", "did you mean COSY_SYNC_ENDPOINT_MAX_CONNECTIONS?"),
        ("COSY_SYNC_BRAKER_WINDOW", "did you mean COSY_SYNC_BREAKER_WINDOW?"),
        ("COSY_SYNC_FOO", "known: COSY_SYNC_API_KEY, "),
    ],
)
def test_a_mistyped_variable_is_told_by_what_differs_from_others(
    mistyped: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(mistyped, "3")
    with pytest.raises(ConfigError, match=re.escape(meant)):
        CosyClient("http://127.0.0.1:9")
