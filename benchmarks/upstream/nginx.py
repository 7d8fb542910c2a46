"""nginx as the upstream: a configuration in a directory of its own, one worker, our own process."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.machine import cores
from benchmarks.task import Place
from benchmarks.upstream.replies import MEDIA_TYPES, reply_body

__all__ = ["MissingNginxError", "serve_with_nginx"]

_MODULES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")
_START_SECONDS = 10.0

_CONFIG = """\
{user}
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile 8192;
pid {room}/pid;
error_log {room}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  keepalive_timeout 75s;
  open_file_cache max=100 inactive=1h;
  open_file_cache_valid 1h;
  client_max_body_size 16m;
  client_body_buffer_size 64k;
  client_body_temp_path {room}/body;
  proxy_temp_path {room}/proxy;
  fastcgi_temp_path {room}/fastcgi;
  uwsgi_temp_path {room}/uwsgi;
  scgi_temp_path {room}/scgi;
  types {{ }}
  server {{
{listen}
    root {room};
    # A static file answers POST with 405; this makes it answer with itself.
    error_page 405 =200 $uri;
{locations}
  }}
}}
"""


class MissingNginxError(Exception):
    """There is no nginx here, or it has no echo module."""


@contextmanager
def serve_with_nginx(places: Sequence[Place]) -> Iterator[dict[str, tuple[str, ...]]]:
    """Serve the places until the block ends; yield their URLs by name."""
    binary, module = _find()
    with tempfile.TemporaryDirectory(prefix="cosy-bench-") as directory:
        room = Path(directory)
        ports = _free_ports(max(place.ports for place in places))
        config = room / "nginx.conf"
        config.write_text(_configuration(room, module, ports, places), "utf-8")
        for place in places:
            file = room / place.reply_name
            if not file.exists():
                file.write_bytes(reply_body(place))
        process = _start(binary, config, room, ports[-1])
        try:
            yield {place.name: _urls(place, ports) for place in places}
        finally:
            process.terminate()
            process.wait()


def _find() -> tuple[str, str]:
    binary = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    modules = [f"{place}/ngx_http_echo_module.so" for place in _MODULES]
    module = next((path for path in modules if os.path.exists(path)), None)
    if binary is None or module is None:
        raise MissingNginxError("no nginx with the echo module")
    return binary, module


def _configuration(room: Path, module: str, ports: Sequence[int], places: Sequence[Place]) -> str:
    return _CONFIG.format(
        user="user root root;" if os.geteuid() == 0 else "",
        module=module,
        room=room,
        listen="\n".join(f"    listen 127.0.0.1:{port} backlog=4096;" for port in ports),
        locations="\n".join(sorted({line for place in places for line in _locations(place)})),
    )


def _locations(place: Place) -> Iterator[str]:
    media_type = MEDIA_TYPES[place.form]
    yield f'    location = /{place.reply_name} {{ default_type "{media_type}"; }}'
    if place.latency:
        yield (
            f"    location = /{place.name} {{ echo_read_request_body; "
            f"echo_sleep {place.latency}; echo_exec /{place.reply_name}; }}"
        )


def _urls(place: Place, ports: Sequence[int]) -> tuple[str, ...]:
    path = place.name if place.latency else place.reply_name
    return tuple(f"http://127.0.0.1:{port}/{path}" for port in ports[: place.ports])


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _start(binary: str, config: Path, room: Path, port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [binary, "-p", str(room), "-e", str(room / "error.log"), "-c", str(config)],
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {cores().upstream}),
    )
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process
    process.terminate()
    process.wait()
    log = room / "error.log"
    said = log.read_text("utf-8").strip() if log.exists() else "nothing"
    raise MissingNginxError(f"nginx did not start; it said: {said}")
