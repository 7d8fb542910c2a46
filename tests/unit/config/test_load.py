"""Sizing by a load: enough connections by the theory, no more than that, and no nonsense."""

import math

import pytest

from cosy_sync import ConfigError, Endpoint, PoolConfig

URL = "http://a.test/batch"


def erlang_c(servers: int, load: float) -> float:
    """Return the share of random arrivals that find all servers busy (Erlang 1917)."""
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


@pytest.mark.parametrize(
    ("rate", "latency", "connections"),
    [(100, 0.2, 29), (400, 0.2, 98), (95.2, 0.2, 28), (4000, 0.2, 857), (1, 4, 8), (100, 0.09, 15)],
)
def test_a_load_takes_its_mean_and_two_deviations(
    rate: float, latency: float, connections: int
) -> None:
    assert PoolConfig.for_load(rate, latency).max_connections == connections
    assert Endpoint.for_load(URL, rate, latency).max_connections == connections


def test_rounding_errors_cost_no_connection() -> None:
    # 49 and a remainder that binary fractions leave: 49 + 2 x 7, and not one more.
    assert 700 * 0.07 > 49
    assert PoolConfig.for_load(700, 0.07).max_connections == 63


@pytest.mark.parametrize(("rate", "latency"), [(0.001, 0.001), (1e-20, 1e-20)])
def test_the_smallest_load_takes_a_connection(rate: float, latency: float) -> None:
    assert PoolConfig.for_load(rate, latency).max_connections == 1


@pytest.mark.parametrize("mean", [2, 5, 10, 20, 50, 100, 200, 800, 3000])
def test_few_requests_find_every_connection_busy(mean: float) -> None:
    connections = PoolConfig.for_load(mean, 1.0).max_connections
    assert erlang_c(connections, mean) < 0.06
    # Half the head-room would not do.
    assert erlang_c(math.ceil(mean + math.sqrt(mean)), mean) > 0.1


def test_other_fields_are_passed_on() -> None:
    pool = PoolConfig.for_load(10, 1, idle_expiry=55.0, trust_env=False)
    assert pool == PoolConfig(max_connections=17, idle_expiry=55.0, trust_env=False)
    endpoint = Endpoint.for_load(URL, 10, 1, rate=20, weight=3.0)
    assert endpoint == Endpoint(URL, max_connections=17, rate=20, weight=3.0)


def test_an_endpoints_rate_is_its_load() -> None:
    assert Endpoint.for_load(URL, 42.5, 0.1).rate == 42.5


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, True, "100", None])
def test_nonsense_is_named(bad: float) -> None:
    with pytest.raises(ConfigError, match="requests_per_second: must be a number above 0"):
        PoolConfig.for_load(bad, 0.2)
    with pytest.raises(ConfigError, match="latency: must be a number above 0"):
        Endpoint.for_load(URL, 100, bad)


@pytest.mark.parametrize(("rate", "latency"), [(1000, 200), (1e308, 1e308)])
def test_milliseconds_are_recognised(rate: float, latency: float) -> None:
    with pytest.raises(ConfigError, match=r"latency: .* give it in seconds"):
        PoolConfig.for_load(rate, latency)


def test_as_many_connections_as_ports_are_believed() -> None:
    assert PoolConfig.for_load(65_535, 1).max_connections > 65_535


def test_connections_cannot_be_given_as_well() -> None:
    with pytest.raises(ConfigError, match="max_connections: for_load works it out"):
        PoolConfig.for_load(10, 1, max_connections=5)
    with pytest.raises(ConfigError, match="max_connections: for_load works it out"):
        Endpoint.for_load(URL, 10, 1, max_connections=5)


def test_other_fields_are_checked_as_ever() -> None:
    with pytest.raises(ConfigError, match="idle_expiry"):
        PoolConfig.for_load(10, 1, idle_expiry=-1)
