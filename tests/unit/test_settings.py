"""Settings: arguments over environment over defaults; what is wrong is named with its fix."""

import dataclasses
from typing import get_args, get_type_hints

import pytest

from cosy_sync import (
    CanaryConfig,
    ClientConfig,
    ConfigError,
    CosyClient,
    Endpoint,
    LimitConfig,
    PoolConfig,
    RetryConfig,
    Variant,
)
from cosy_sync.config import Settings
from cosy_sync.config.client import FORMATS, GROUPS, PRIORITIES
from cosy_sync.contrib.plain_settings import arguments_of, config_of, from_names, keywords_of
from cosy_sync.settings import endpoints_from_environment, load_config


def test_arguments_come_before_the_environment_and_that_before_defaults() -> None:
    environ = {"COSY_SYNC_DEADLINE": "5", "COSY_SYNC_VOICE": "中文女"}
    config = load_config(None, {"deadline": 7.0}, environ)
    assert config.deadline == 7.0
    assert config.voice is not None and config.voice.name == "中文女"
    assert config.sample_rate == ClientConfig().sample_rate


def test_a_whole_configuration_leaves_the_environment_aside() -> None:
    config = load_config(ClientConfig(speed=2.0), {}, {"COSY_SYNC_SPEED": "0.5"})
    assert config.speed == 2.0


@pytest.mark.parametrize(
    ("name", "text", "group", "field", "value"),
    [
        ("COSY_SYNC_POOL_MAX_CONNECTIONS", "20", "pool", "max_connections", 20),
        ("COSY_SYNC_POOL_TRUST_ENV", "no", "pool", "trust_env", False),
        ("COSY_SYNC_RETRY_BASE", "0.5", "retry", "base", 0.5),
        ("COSY_SYNC_BATCH_SIZE", "8", "batch", "max_texts", 8),
        ("COSY_SYNC_BREAKER_OPEN_FOR", "3", "breaker", "open_for", 3.0),
        ("COSY_SYNC_VERIFY_ENABLED", "off", "verify", "enabled", False),
    ],
)
def test_every_field_of_a_group_has_its_variable(name, text, group, field, value) -> None:
    config = load_config(None, {}, {name: text})
    assert getattr(getattr(config, group), field) == value


def test_groups_given_by_variables_keep_their_other_defaults() -> None:
    config = load_config(None, {}, {"COSY_SYNC_RETRY_BASE": "0.5"})
    assert config.retry == RetryConfig(base=0.5)


def test_a_canarys_fields_and_those_of_its_variant_are_variables() -> None:
    environ = {"MODEL": "v3", "SHARE": "0.1", "VERSION": "b", "SLOWER": "2", "PROMOTE": "yes"}
    config = load_config(None, {}, {f"COSY_SYNC_CANARY_{k}": v for k, v in environ.items()})
    variant = Variant(model="v3", share=0.1, version="b")
    assert config.canary == CanaryConfig(variant=variant, slower=2.0, promote=True)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"COSY_SYNC_CANARY_SHARE": "0.1"}, "COSY_SYNC_CANARY_SHARE: say .*COSY_SYNC_CANARY_MODEL"),
        ({"COSY_SYNC_CANARY_PROMOTE": "on"}, "COSY_SYNC_CANARY_PROMOTE: say what is new"),
        (
            {"COSY_SYNC_CANARY_MODEL": "v3", "COSY_SYNC_CANARY_SHARE": "7"},
            "COSY_SYNC_CANARY_SHARE: must be a number above 0 and at most 1",
        ),
        ({"COSY_SYNC_CANARY_URL": "nowhere"}, "COSY_SYNC_CANARY_URL: 'nowhere' has no scheme"),
        ({"COSY_SYNC_CANARY_MODLE": "v3"}, "did you mean COSY_SYNC_CANARY_MODEL"),
        ({"COSY_SYNC_DEADLIN": "5"}, "COSY_SYNC_DEADLIN: .*COSY_SYNC_DEADLINE"),
        ({"COSY_SYNC_DEADLINE": "soon"}, "COSY_SYNC_DEADLINE: expected a number, got 'soon'"),
        ({"COSY_SYNC_BATCH_SIZE": "1.5"}, "COSY_SYNC_BATCH_SIZE: expected a whole number"),
        ({"COSY_SYNC_SERIAL": "maybe"}, "COSY_SYNC_SERIAL: expected true or false"),
        ({"COSY_SYNC_DEADLINE": "-5"}, "COSY_SYNC_DEADLINE: must be a number above 0"),
        ({"COSY_SYNC_RETRY_BASE": "nan"}, "COSY_SYNC_RETRY_BASE: must be a number above 0"),
        ({"COSY_SYNC_VERIFY_CHECK": "f"}, "COSY_SYNC_VERIFY_CHECK: no such"),
    ],
)
def test_a_wrong_variable_is_named_with_its_fix(environ, message) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, {}, environ)


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("max_retries", r"write retry=RetryConfig\(max_retries=\.\.\.\)"),
        ("first_byte", r"write timeouts=TimeoutConfig\(first_byte=\.\.\.\)"),
        ("rate", r"Endpoint\(url, rate=\.\.\.\)"),
        ("max_connections", r"Endpoint\(url, max_connections=\.\.\.\)"),
        ("dedline", "did you mean deadline"),
        ("nonsense", "known: api_key, "),
    ],
)
def test_an_argument_in_the_wrong_place_is_told_its_right_one(name, fix) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: no such argument; .*{fix}"):
        CosyClient("http://a.test/", **{name: 5})


@pytest.mark.parametrize(
    ("given", "shown"), [("", "nothing"), (5, "int"), ("sk-secret\n", "something else")]
)
def test_a_wrong_key_is_named_by_what_it_is_and_not_shown(given, shown) -> None:
    with pytest.raises(ConfigError, match="without line breaks, got") as caught:
        CosyClient("http://a.test/", api_key=given)
    assert str(caught.value).endswith(f"got {shown}")


@pytest.mark.parametrize("on_full", ["drop", "", None, ["block"]])
def test_a_queue_blocks_or_sheds_and_nothing_else(on_full) -> None:
    with pytest.raises(ConfigError, match="on_full: must be one of block, shed"):
        LimitConfig(on_full=on_full)
    assert load_config(None, {}, {"COSY_SYNC_LIMITS_ON_FULL": "shed"}).limits.on_full == "shed"


def test_a_key_from_the_environment_is_never_shown() -> None:
    config = load_config(None, {}, {"COSY_SYNC_API_KEY": "sk-secret"})
    assert config.api_key == "sk-secret" and "sk-secret" not in repr(config)
    with pytest.raises(ConfigError) as caught:
        load_config(None, {"api_key": "sk-sécret"}, {})
    assert "cret" not in str(caught.value)


def test_several_urls_have_commas_between() -> None:
    environ = {"COSY_SYNC_URL": "http://a.test/batch, http://b.test/batch"}
    assert endpoints_from_environment(environ) == [
        Endpoint("http://a.test/batch"),
        Endpoint("http://b.test/batch"),
    ]


def test_the_endpoints_limits_come_from_the_environment() -> None:
    environ = {
        "COSY_SYNC_URL": "http://a.test/batch",
        "COSY_SYNC_ENDPOINT_RATE": "5",
        "COSY_SYNC_ENDPOINT_PER_ADDRESS": "true",
    }
    (endpoint,) = endpoints_from_environment(environ)
    assert endpoint == Endpoint("http://a.test/batch", rate=5, per_address=True)
    assert "per_address=True" in repr(endpoint)
    with pytest.raises(ConfigError, match="COSY_SYNC_ENDPOINT_PER_ADDRESS"):
        endpoints_from_environment({**environ, "COSY_SYNC_ENDPOINT_PER_ADDRESS": "2"})
    with pytest.raises(ConfigError, match="per_address"):
        Endpoint("http://a.test/batch", per_address=1)  # type: ignore[arg-type]


def test_limits_of_the_environment_hold_for_plain_addresses_wherever_these_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COSY_SYNC_ENDPOINT_RATE", "5")
    monkeypatch.setenv("COSY_SYNC_ENDPOINT_MAX_CONNECTIONS", "7")
    address = "http://a.test/batch"
    limited, own = Endpoint(address, rate=5, max_connections=7), Endpoint("http://b.test", rate=9)
    with CosyClient([address, own]) as client:
        assert client.endpoints[0] == limited and client.endpoints[1].rate == 9
        assert client.endpoints[1].max_connections == 50
    for given in (address, [address]):
        assert config_of(keywords_of({"url": given}))[1] == [limited]
        assert config_of(arguments_of({"URL": given}))[1] == [limited]
        assert from_names({"COSY_SYNC_URL": given})["url"] == [limited]
        (named,) = from_names({"COSY_SYNC_URL": given, "COSY_SYNC_ENDPOINT_RATE": 3})["url"]
        assert (named.rate, named.max_connections) == (3, 7)
    monkeypatch.setenv("COSY_SYNC_ENDPOINT_RATE", "-1")
    with pytest.raises(ConfigError, match="COSY_SYNC_ENDPOINT_RATE"):
        CosyClient(address)


def test_settings_are_the_fields_of_the_configuration_and_its_shorthands() -> None:
    fields = {field.name for field in dataclasses.fields(ClientConfig)}
    assert set(Settings.__annotations__) == fields | {"batch_size", "instruction"}
    assert set(GROUPS) <= fields


def test_editors_know_the_formats_and_priorities() -> None:
    hints = get_type_hints(Settings)
    assert get_args(hints["format"]) == FORMATS
    assert get_args(get_args(hints["priority"])[0]) == PRIORITIES


def test_an_endpoints_label_hides_its_query() -> None:
    assert Endpoint("http://a.test:81/batch?token=x").label == "http://a.test:81/batch"


def test_an_endpoint_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        CosyClient(["http://a.test/", Endpoint("http://a.test/", rate=5)])


def test_turning_certificate_checks_off_warns() -> None:
    with pytest.warns(UserWarning, match="verify_tls=False"):
        CosyClient("https://a.test/", pool=PoolConfig(verify_tls=False))
