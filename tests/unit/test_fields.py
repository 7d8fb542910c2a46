"""A misspelt field of a config class is told the right one."""

import copy
import dataclasses
import pickle

import pytest

import cosy_sync
from cosy_sync import (
    BatchConfig,
    BreakerConfig,
    ClientConfig,
    CoalesceConfig,
    ConfigError,
    EjectionConfig,
    Endpoint,
    HedgeConfig,
    LimitConfig,
    OverloadConfig,
    PoolConfig,
    RetryConfig,
    SharingConfig,
    TimeoutConfig,
    VerifyConfig,
    Voice,
)
from cosy_sync.fields import _OTHER_NAMES
from cosy_sync.testing import Server, ServerConfig

CLASSES = [cls for cls in vars(cosy_sync).values() if str(cls).endswith("Config'>")]
URL = "http://tts.test/batch"


@pytest.mark.parametrize(
    ("cls", "name", "meant"),
    [
        (RetryConfig, "retries", "max_retries"),
        (RetryConfig, "max_retry", "max_retries"),
        (RetryConfig, "backoff", "base"),
        (BreakerConfig, "fail_max", "min_calls"),
        (BreakerConfig, "reset_timeout", "open_for"),
        (BreakerConfig, "failure_ration", "failure_ratio"),
        (PoolConfig, "verify_ssl", "verify_tls"),
        (PoolConfig, "max_conections", "max_connections"),
        (TimeoutConfig, "connect_timeout", "connect"),
        (TimeoutConfig, "firstbyte", "first_byte"),
        (LimitConfig, "max_queue", "max_submitted"),
        (LimitConfig, "rps", "rate"),
        (BatchConfig, "batch_size", "max_texts"),
        (CoalesceConfig, "single_fligth", "single_flight"),
        (HedgeConfig, "percentile", "quantile"),
        (OverloadConfig, "retry_ratio", "retry_share"),
        (EjectionConfig, "failure_ration", "failure_ratio"),
        (SharingConfig, "url", "redis_url"),
        (VerifyConfig, "enable", "enabled"),
        (ClientConfig, "timeout", "deadline"),
        (ClientConfig, "voise", "voice"),
    ],
)
def test_a_misspelt_field_is_told_the_right_one(cls: type, name: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cls(**{name: 3})
    assert str(caught.value) == f"{name}: {cls.__name__} has no such field; did you mean {meant}?"


@pytest.mark.parametrize(
    ("cls", "name", "advice"),
    [
        (ClientConfig, "max_retries", "write RetryConfig(max_retries=...)"),
        (ClientConfig, "batch_size", "write batch=BatchConfig(max_texts=...)"),
        (ClientConfig, "url", "the address is the first argument"),
        (TimeoutConfig, "deadline", "write ClientConfig(deadline=...)"),
        (RetryConfig, "xyz", "it has max_retries, base, max_wait, max_bad_audio, outlast"),
    ],
)
def test_a_field_of_another_class_is_told_its_place(cls: type, name: str, advice: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cls(**{name: 3})
    assert advice in str(caught.value)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_config_class_knows_its_fields(cls: type) -> None:
    with pytest.raises(ConfigError, match=r"^xyzzy: "):
        cls(xyzzy=1)
    with pytest.raises(ConfigError, match="by name, such as"):
        cls(1)
    with pytest.raises(ConfigError, match=r"^xyzzy: "):
        dataclasses.replace(cls(), xyzzy=1)


def test_endpoints_and_voices_know_theirs_too() -> None:
    with pytest.raises(ConfigError, match=r"^rps: Endpoint .*did you mean rate\?"):
        Endpoint(URL, rps=3)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"such as Endpoint\(max_connections="):
        Endpoint(URL, 3)  # type: ignore[misc]
    with pytest.raises(ConfigError, match=r"^url: Endpoint needs it"):
        Endpoint()  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"^prompt_text: .*did you mean transcript\?"):
        Voice("中文女", prompt_text="一句秘密的话")  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"^rps: "):
        Endpoint.for_load(URL, 10, 0.1, rps=3)


def test_the_embedded_server_knows_its_options() -> None:
    with pytest.raises(ConfigError, match=r"^latncy: .*did you mean latency\?"):
        Server(latncy=1)
    with pytest.raises(ConfigError, match=r"^qps: .*did you mean rate\?"):
        Server(qps=5)


def test_a_fields_name_of_before_is_taken_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="^rps: ServerConfig calls it rate now$"):
        config = ServerConfig(rps=7)  # type: ignore[call-arg]
    assert config.rate == 7


def test_the_other_names_lead_to_fields_and_are_none_themselves() -> None:
    for kind, table in _OTHER_NAMES.items():
        cls = ServerConfig if kind == "ServerConfig" else getattr(cosy_sync, kind)
        names = {item.name for item in dataclasses.fields(cls)}
        assert set(table) <= names
        assert not {other for others in table.values() for other in others.split()} & names


def test_what_is_given_rightly_is_as_before() -> None:
    config = RetryConfig(max_retries=5)
    for twin in (
        copy.copy(config),
        pickle.loads(pickle.dumps(config)),
        dataclasses.replace(config),
    ):
        assert twin == config and hash(twin) == hash(config)
    assert Endpoint(URL) == Endpoint(url=URL)
