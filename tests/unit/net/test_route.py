"""Where a URL leads, and through which proxy."""

from __future__ import annotations

import pytest

from cosy_sync.errors import ConfigError
from cosy_sync.net.route import Proxy, Route, find_route


def test_the_port_follows_from_the_scheme() -> None:
    assert find_route("http://a.example/x", trust_env=True) == Route("a.example", 80, False, None)
    assert find_route("https://a.example/x", trust_env=True) == Route("a.example", 443, True, None)


@pytest.mark.parametrize(
    ("url", "netloc"),
    [
        ("http://a.example/", "a.example"),
        ("http://a.example:80/", "a.example"),
        ("https://a.example:80/", "a.example:80"),
        ("https://a.example:8443/", "a.example:8443"),
        ("http://[::1]/", "[::1]"),
        ("http://[::1]:8080/", "[::1]:8080"),
    ],
)
def test_the_host_header_has_the_port_only_where_it_is_unusual(url: str, netloc: str) -> None:
    assert find_route(url, trust_env=False).netloc == netloc


def test_errors_show_the_scheme_that_the_user_wrote() -> None:
    pytest.importorskip("websockets", reason="needs websockets (extra websocket)")
    from cosy_sync.net.websocket import SocketRoute

    assert find_route("http://a.example/", trust_env=False).label == "http://a.example"
    assert (
        SocketRoute("a.example", 443, True, None, url="wss://a.example/x").label
        == "wss://a.example"
    )


def test_equal_ways_are_one_key() -> None:
    one = find_route("http://a.example/x", trust_env=False)
    other = find_route("http://a.example:80/y?z", trust_env=False)
    assert len({one, other}) == 1


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_the_proxy_comes_from_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://proxy.example:3128")
    route = find_route("http://a.example/", trust_env=True)
    assert route.proxy == Proxy("proxy.example", 3128, False, None)
    assert route.forwards
    assert "through the proxy proxy.example:3128" in route.label


def test_the_environment_is_ignored_where_it_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    assert find_route("http://a.example/", trust_env=False).proxy is None


def test_https_goes_through_its_own_proxy_in_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://wrong.example")
    monkeypatch.setenv("https_proxy", "http://proxy.example")
    route = find_route("https://a.example/", trust_env=True)
    assert route.proxy == Proxy("proxy.example", 80, False, None)
    assert not route.forwards


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("https://a.example/", r"httpx\.Client\(proxy=\.\.\.\)"),
        ("wss://a.example/", "NO_PROXY"),
    ],
)
def test_tls_inside_tls_is_refused_with_what_to_do(
    url: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "https://me:secret@proxy.example:3129")
    with pytest.raises(ConfigError, match=advice) as caught:
        find_route(url, trust_env=True)
    assert "through https://proxy.example, from" in str(caught.value) and "secret" not in str(
        caught.value
    )
    assert find_route(url, trust_env=False).proxy is None


def test_a_proxy_reached_through_tls_forwards_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "https://proxy.example")
    route = find_route("http://a.example/", trust_env=True)
    assert route.forwards and route.proxy == Proxy("proxy.example", 443, True, None)


def test_a_proxy_without_scheme_speaks_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "proxy.example:3128")
    proxy = find_route("http://a.example/", trust_env=True).proxy
    assert proxy == Proxy("proxy.example", 3128, False, None)


def test_the_proxys_password_is_decoded_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:p%40ss@proxy.example")
    route = find_route("http://a.example/", trust_env=True)
    assert route.proxy is not None
    assert route.proxy.authorization == "Basic bWU6cEBzcw=="
    assert "bWU6" not in repr(route) + route.label
    assert "p@ss" not in repr(route) + route.label


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("*", "http://a.example/"),
        ("a.example", "http://a.example/"),
        ("example", "http://a.example/"),
        (".example", "http://a.example/"),
        ("b.example, a.example:8080", "http://a.example:8080/"),
        ("::1", "http://[::1]:8080/"),
        ("[::1]", "http://[::1]:8080/"),
        ("[::1]:8080", "http://[::1]:8080/"),
        ("b.example *.a.example", "http://x.a.example/"),
        ("*.example", "http://a.example/"),
        (" 10.0.0.0/8 , b.example", "http://10.1.2.3/"),
        ("10.1.2.3", "http://10.1.2.3:8080/"),
        ("fd00::/8", "http://[fd12::1]/"),
        ("A.EXAMPLE", "http://a.example/"),
        ("10.0.0.0/8", "ws://10.1.2.3/"),
    ],
)
def test_no_proxy_is_honoured(no_proxy: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert find_route(url, trust_env=True).proxy is None


@pytest.mark.parametrize("no_proxy", ["b.example", "a.example:81", "xa.example", ""])
def test_no_proxy_names_only_whom_it_names(no_proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert find_route("http://a.example/", trust_env=True).proxy is not None


@pytest.mark.parametrize(
    "address",
    [
        "socks5://me:secret@proxy.example:1080",
        "socks5h://me:secret@proxy.example",
        "ftp://me:secret@proxy.example",
        "http://me:secret@proxy.example:port",
        "http://me:secret@proxy.example:99999",
        "http://",
        "http://me:secret@[::1",
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_config_error_without_its_password(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", address)
    with pytest.raises(ConfigError, match="trust_env=False") as caught:
        find_route("http://a.example/", trust_env=True)
    assert "secret" not in str(caught.value)


def test_an_address_is_named_in_errors_and_parts_the_connections() -> None:
    route = Route("a.example", 443, True, None, "192.0.2.1")
    assert route.label == "https://a.example at 192.0.2.1"
    assert route.netloc == "a.example"
    assert len({route, Route("a.example", 443, True, None)}) == 2


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("10.0.0.0/8", "http://11.1.2.3/"),
        ("10.0.0.0/8", "http://a.example/"),
        ("fd00::/8", "http://[fe80::1]/"),
        ("10.0.0.0/99", "http://10.1.2.3/"),
        ("*.a.example", "http://xa.example/"),
        ("[::1]:81", "http://[::1]:8080/"),
    ],
)
def test_a_range_or_a_pattern_names_nobody_else(
    no_proxy: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert find_route(url, trust_env=True).proxy is not None
