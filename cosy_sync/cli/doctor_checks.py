"""What `cosy-sync doctor` looks at, one after the other: from the machine to a spoken sentence."""

from __future__ import annotations

import dataclasses
import email.utils
import hashlib
import importlib
import os
import resource
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from cosy_sync import (
    ClientConfig,
    CosyClient,
    CosyError,
    Endpoint,
    RetryConfig,
    TransportError,
)
from cosy_sync.cache.opening import open_store
from cosy_sync.cache.ports import Entry
from cosy_sync.cli.exits import because, code_for, words_of
from cosy_sync.net.route import Route, find_route

__all__ = ["Check", "check_cache", "check_endpoint", "check_machine", "check_redis"]

# Seconds for one look-up, one connection, one sentence.
_LOOKUP, _CONNECT, _SPEAK = 5.0, 3.0, 20.0
# What a store of the cache is given to keep.
_KEPT = b"cosy-sync doctor"
_SENTENCE = "你好，请说一句话。"
# Descriptors that a program has beside its connections; days before a certificate's end, seconds of
# difference between the clocks, that are worth a warning.
_OTHERS, _DAYS, _SKEW = 50, 14, 60
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "grpc": 80, "grpcs": 443}
_ENCRYPTED = ("https", "wss", "grpcs")


@dataclass(frozen=True, kw_only=True)
class Check:
    """What one look found: `state` is ok, warning, failed or skipped; `advice` what to do."""

    name: str
    state: str
    words: str
    advice: str = ""
    seconds: float | None = None
    # The exit code that it leads to, where it failed.
    code: int = 3


def check_machine(endpoints: tuple[Endpoint, ...]) -> Check:
    """Look whether this process may open as many descriptors as it may have connections."""
    wanted = sum(endpoint.max_connections or 0 for endpoint in endpoints) + _OTHERS
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    words = f"{allowed} open files allowed, {wanted} wanted"
    if allowed in (resource.RLIM_INFINITY,) or allowed >= wanted:
        return Check(name="open files", state="ok", words=words)
    advice = f"raise it (ulimit -n {wanted}), or give --max-connections"
    return Check(name="open files", state="warning", words=words, advice=advice)


def check_redis(url: str | None) -> Iterator[Check]:
    """Look whether the Redis of shared limits answers."""
    if url is None:
        return
    begun = time.monotonic()
    try:
        redis = importlib.import_module("redis")
        redis.Redis.from_url(url, socket_timeout=_CONNECT, socket_connect_timeout=_CONNECT).ping()
    except ImportError:
        advice = "pip install 'cosy-sync[redis]'"
        yield Check(name="redis", state="failed", words="redis is not installed", advice=advice)
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        advice = "start it, or correct COSY_SYNC_SHARING_REDIS_URL; without it each process keeps "
        yield Check(name="redis", state="failed", words=words, advice=advice + "limits of its own")
    else:
        yield Check(name="redis", state="ok", words="answers", seconds=time.monotonic() - begun)


def check_cache(config: ClientConfig) -> Iterator[Check]:
    """Look whether each store of the cache keeps what it is given. Without it texts are spoken
    anew."""
    for given in config.cache.stores if config.cache is not None else ():
        begun, digest = time.monotonic(), hashlib.sha256(os.urandom(16)).hexdigest()
        try:
            store = open_store(given)
            store.put_many([Entry(digest, _KEPT, _CONNECT)])
            kept = store.get_many([digest]).get(digest) == _KEPT
            store.delete([digest])
            words = "" if kept else "it forgets at once what it is given"
        except Exception as error:  # a store of somebody's own raises what it likes
            why = because(error) if isinstance(error, OSError) else str(error)
            words = f"nothing can be kept ({why or type(error).__name__})"
        if words:
            advice = (
                "free or correct the place that COSY_SYNC_CACHE names: its disk, rights, server"
            )
            yield Check(name="cache", state="warning", words=words, advice=advice)
        else:
            seconds = time.monotonic() - begun
            yield Check(name="cache", state="ok", words="keeps audio", seconds=seconds)


def check_endpoint(client: CosyClient, endpoint: Endpoint) -> Iterator[Check]:
    """Look at the way to an endpoint, and have it speak a sentence. What follows a step that failed
    is not looked at."""
    for step in (_way, _clock, _speech, _voice):
        for check in step(client, endpoint):
            yield check
            if check.state == "failed":
                return


# -- the way ------------------------------------------------------------------------------------


def _way(client: CosyClient, endpoint: Endpoint) -> Iterator[Check]:
    parts = urlsplit(endpoint.url)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80)
    if parts.scheme in ("http", "https", "ws", "wss"):
        route = find_route(endpoint.url, trust_env=client.config.pool.trust_env)
        if route.proxy is not None:
            yield from _proxy(route)
            return
    lookup = _lookup(host, port)
    yield lookup[0]
    addresses = lookup[1]
    if not addresses:
        return
    check, sock = _connect(addresses, port)
    yield check
    if sock is not None:
        with sock:
            if parts.scheme in _ENCRYPTED:
                yield _encryption(sock, host, verify=client.config.pool.verify_tls)


def _proxy(route: Route) -> Iterator[Check]:
    assert route.proxy is not None
    words = f"requests go through {route.proxy.host}:{route.proxy.port}, from the environment"
    advice = "name the service in NO_PROXY if it should be reached without"
    found, addresses = _lookup(route.proxy.host, route.proxy.port)
    if not addresses:
        yield Check(name="proxy", state="failed", words=f"{words}; {found.words}", advice=advice)
        return
    check, sock = _connect(addresses, route.proxy.port)
    if sock is None:
        words += "; it does not answer"
        yield Check(name="proxy", state="failed", words=words, advice=advice)
        return
    sock.close()
    yield Check(name="proxy", state="ok", words=words, seconds=check.seconds)


def _lookup(host: str, port: int) -> tuple[Check, list[str]]:
    found: list[Any] = []
    begun = time.monotonic()

    def look() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(_LOOKUP)
    seconds = time.monotonic() - begun
    told = found[0] if found else OSError(f"no answer within {_LOOKUP:g} s")
    if isinstance(told, OSError):
        advice = f"check the host in the URL, and this machine's DNS: getent hosts {host}"
        words = f"{host} has no address: {because(told)}"
        return Check(name="dns", state="failed", words=words, advice=advice, seconds=seconds), []
    addresses = list(dict.fromkeys(entry[4][0] for entry in told))
    return Check(name="dns", state="ok", words=", ".join(addresses), seconds=seconds), addresses


def _connect(addresses: list[str], port: int) -> tuple[Check, socket.socket | None]:
    """Connect to each address; return what was found, and a connection if there is any."""
    dead, sock, seconds = [], None, 0.0
    for address in addresses[:8]:
        begun = time.monotonic()
        try:
            made = socket.create_connection((address, port), timeout=_CONNECT)
        except OSError as error:
            dead.append(f"{address}: {because(error)}")
            continue
        if sock is None:
            sock, seconds = made, time.monotonic() - begun
        else:
            made.close()
    if sock is None:
        advice = f"start the service, correct the port {port} in the URL, or open the firewall"
        words = f"no connection ({'; '.join(dead)})"
        return Check(name="tcp", state="failed", words=words, advice=advice), None
    if dead:
        advice = "take the dead address out of the DNS; each new connection tries it now and then"
        words = f"{'; '.join(dead)}; the others answer"
        return Check(name="tcp", state="warning", words=words, advice=advice, seconds=seconds), sock
    return Check(name="tcp", state="ok", words="connected", seconds=seconds), sock


def _encryption(sock: socket.socket, host: str, *, verify: bool) -> Check:
    begun = time.monotonic()
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with context.wrap_socket(sock, server_hostname=host) as stream:
            seconds = time.monotonic() - begun
            version, certificate = stream.version(), stream.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        advice = (
            "renew or correct the certificate; for one of your own: PoolConfig(ssl_context=...)"
        )
        return Check(name="tls", state="failed", words=error.verify_message, advice=advice)
    except (ssl.SSLError, OSError) as error:
        words = f"the port does not speak TLS ({getattr(error, 'reason', None) or because(error)})"
        return Check(name="tls", state="failed", words=words, advice="write http:// in the URL")
    if not certificate:
        return Check(name="tls", state="ok", words=f"{version}, not verified", seconds=seconds)
    end = ssl.cert_time_to_seconds(certificate["notAfter"])  # type: ignore[arg-type]
    days = int((end - time.time()) / 86_400)
    words = f"{version}, the certificate holds for {days} days"
    state = "ok" if days >= _DAYS else "warning"
    advice = "" if days >= _DAYS else "renew the certificate"
    return Check(name="tls", state=state, words=words, advice=advice, seconds=seconds)


# -- the service --------------------------------------------------------------------------------


def _clock(client: CosyClient, endpoint: Endpoint) -> Iterator[Check]:
    """Compare the clocks, where a server tells its own: signatures and tokens depend on it."""
    parts = urlsplit(endpoint.url)
    if parts.scheme not in ("http", "https"):
        return
    request = urllib.request.Request(f"{parts.scheme}://{parts.netloc}/", method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_CONNECT) as reply:
            told = reply.headers.get("Date")
    except urllib.error.HTTPError as error:
        told = error.headers.get("Date")
    except (OSError, ValueError):
        return
    try:
        there = email.utils.parsedate_to_datetime(told or "")
    except ValueError:
        return
    skew = (datetime.now(timezone.utc) - there).total_seconds()
    if abs(skew) > _SKEW:
        words = f"{skew:+.0f} s against the service's"
        advice = "set this machine's clock (timedatectl set-ntp true)"
        yield Check(name="clock", state="warning", words=words, advice=advice)


def _speech(client: CosyClient, endpoint: Endpoint) -> Iterator[Check]:
    """Have a sentence spoken, by each of the models that this endpoint speaks for."""
    # A sentence that the cache knows would say nothing about the service.
    config = dataclasses.replace(client.config, cache=None)
    variant = config.canary.variant if config.canary is not None else None
    old = dataclasses.replace(config, canary=None, variant=None)
    if variant is None or variant.url != endpoint.url:
        yield from _sentence("speech", endpoint, old)
    if variant is not None and variant.url in (None, endpoint.url):
        new = dataclasses.replace(old, model=variant.model or config.model)
        yield from _sentence("canary", endpoint, new)


def _sentence(name: str, endpoint: Endpoint, config: ClientConfig) -> Iterator[Check]:
    """Have it spoken, without repetitions: what goes wrong is what the service says."""
    begun = time.monotonic()
    try:
        with CosyClient(endpoint, config=config) as one:
            deadline = min(_SPEAK, one.config.deadline)
            quick = one.with_options(retry=RetryConfig(max_retries=0), deadline=deadline)
            audio = quick.synth(_SENTENCE)
            throttled = one.stats().throttled
    except CosyError as error:
        words, _, advice = words_of(error).partition("; ")
        if isinstance(error, TransportError) and _speaks_tls(endpoint.url):
            advice = "the port speaks TLS: write https:// (wss://, grpcs://) in the URL"
        name = f"{name} ({type(error).__name__})"
        yield Check(name=name, state="failed", words=words, advice=advice, code=code_for(error))
        return
    words = f"{audio.duration:.2f} s of {audio.format}, {audio.sample_rate} Hz"
    yield Check(name=name, state="ok", words=words, seconds=time.monotonic() - begun)
    if throttled:
        advice = "lower --rate or --max-connections to what the service allows"
        yield Check(name="limits", state="warning", words="429 for one text", advice=advice)


def _speaks_tls(url: str) -> bool:
    """Return whether the port of a URL without TLS has it all the same."""
    parts = urlsplit(url)
    if parts.scheme in _ENCRYPTED:
        return False
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    place = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80)
    try:
        with (
            socket.create_connection(place, timeout=_CONNECT) as sock,
            context.wrap_socket(sock, server_hostname=place[0]),
        ):
            return True
    except OSError:
        return False


def _voice(client: CosyClient, _: Endpoint) -> Iterator[Check]:
    voice = client.config.voice
    if voice is None or voice.name is None:
        return
    try:
        listed = client.voices()
    except CosyError:
        return
    names = [each.name for each in listed if each.source == "service"]
    if names and voice.name not in names:
        words = f"the service does not list {voice.name!r}, though it spoke"
        advice = f"it may speak with another voice; it lists {', '.join(names[:8])}"
        yield Check(name="voice", state="warning", words=words, advice=advice)
