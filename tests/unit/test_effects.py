"""An option that changes nothing is a UserWarning, at the user's own line."""

import ssl
import warnings
from pathlib import Path
from typing import Any

import httpx
import pytest

import cosy_sync
from cosy_sync import (
    BatchConfig,
    CoalesceConfig,
    CosyClient,
    Endpoint,
    HedgeConfig,
    PoolConfig,
)
from cosy_sync.cli import main
from cosy_sync.testing import FakeService

BATCH = "http://tts.test/batch"
OPENAI: dict[str, Any] = {"url": "http://tts.test/v1", "wire": "openai", "voice": "中文女"}
HEDGE = HedgeConfig(enabled=True)
GZIP = BatchConfig(gzip_above=1)
LINGER = CoalesceConfig(linger=0.05)


def fake() -> httpx.Client:
    return httpx.Client(transport=FakeService())


def said_of(**given: Any) -> list[str]:
    """Return the warnings that a client gives when it is made."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CosyClient(**given).close()
    assert all(each.category is UserWarning for each in caught)
    assert all(Path(each.filename) == Path(__file__) for each in caught)
    return [str(each.message) for each in caught]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({**OPENAI, "batch": GZIP}, "BatchConfig(gzip_above=...) has no effect"),
        ({"url": BATCH, "hedge": HEDGE}, "HedgeConfig(enabled=True) has no effect"),
        ({**OPENAI, "coalesce": LINGER}, "CoalesceConfig(linger=...) has no effect"),
        ({"url": BATCH, "batch_size": 1, "coalesce": LINGER}, "CoalesceConfig(linger=...) has no"),
        *(
            (
                {"url": BATCH, "http_client": fake, "pool": PoolConfig(**{name: value})},
                f"PoolConfig({name}=...) has no effect",
            )
            for name, value in (
                ("idle_expiry", 1.0),
                ("max_age", 1.0),
                ("verify_tls", False),
                ("ssl_context", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)),
                ("trust_env", False),
                ("dns_refresh", 1.0),
            )
        ),
    ],
)
def test_an_option_without_effect_is_a_warning(given: dict[str, Any], words: str) -> None:
    (said,) = said_of(**given)
    assert words in said


@pytest.mark.parametrize(
    "given",
    [
        {"url": BATCH},
        OPENAI,
        {"url": BATCH, "batch": GZIP, "coalesce": LINGER},
        {"url": [BATCH, "http://b.test/batch"], "hedge": HEDGE},
        {"url": Endpoint(BATCH, per_address=True), "hedge": HEDGE},
        {**OPENAI, "coalesce": CoalesceConfig(enabled=False, linger=0.05)},
        {**OPENAI, "coalesce": CoalesceConfig(single_flight=False)},
        {**OPENAI, "coalesce": CoalesceConfig(linger=0)},
        {"url": BATCH, "http_client": fake, "pool": PoolConfig(max_connections=5)},
        {"url": BATCH, "pool": PoolConfig(idle_expiry=1.0, trust_env=False)},
    ],
)
def test_an_option_with_an_effect_is_none(given: dict[str, Any]) -> None:
    assert said_of(**given) == []


def test_a_view_warns_of_its_own_options_only() -> None:
    with (
        pytest.warns(UserWarning, match="HedgeConfig") as said,
        CosyClient(BATCH, hedge=HEDGE) as c,
    ):
        c.with_options(deadline=5)
    assert len(said) == 1
    with CosyClient(BATCH) as client:
        with pytest.warns(UserWarning, match="HedgeConfig") as said:
            client.with_options(hedge=HEDGE)
        assert said[0].filename == __file__


def test_the_warning_names_the_line_that_configures_the_process(request) -> None:
    request.addfinalizer(lambda: cosy_sync.default_client().close())
    with pytest.warns(UserWarning, match="HedgeConfig") as said:
        cosy_sync.configure(BATCH, hedge=HEDGE)
    assert said[0].filename == __file__


def test_a_command_says_it_in_one_line(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COSY_SYNC_HEDGE_ENABLED", "true")
    monkeypatch.setenv("COSY_SYNC_DEADLINE", "0.01")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["synth", "你好", "--url", "http://127.0.0.1:1/batch", "-o", "-"]) != 0
    told = capsys.readouterr().err
    assert "cosy-sync: warning: COSY_SYNC_HEDGE_ENABLED=true has no effect: " in told
    assert "UserWarning" not in told
