"""What is known of the web host, and the traps."""

from pathlib import Path

import pytest

from cosy_sync import ClientConfig, Endpoint, SharingConfig
from cosy_sync.contrib.hosts import Host, known_host, traps_of

PLACES = [Endpoint("http://tts.test/batch")]


@pytest.mark.parametrize(
    ("environ", "config", "host"),
    [
        ({}, "", Host()),
        ({"WEB_CONCURRENCY": "4"}, "", Host(4)),
        ({"GUNICORN_CMD_ARGS": "--workers=3 --bind 0.0.0.0:80"}, "", Host(3, 30)),
        ({"GUNICORN_CMD_ARGS": "-w 3 -t 90"}, "", Host(3, 90)),
        ({"GUNICORN_CMD_ARGS": "-w 3 --threads 8"}, "", Host(3)),
        ({"GUNICORN_CMD_ARGS": "-w 3 -k gevent"}, "", Host(3, None, True)),
        ({"GUNICORN_CMD_ARGS": "-w 3 -t 0"}, "", Host(3)),
        ({"GUNICORN_CMD_ARGS": "-w '"}, "", Host()),
        ({}, "workers = 2\ntimeout = 20\nbind = f'{1}'\n", Host(2, 20)),
        ({}, "import os\nworkers = os.cpu_count()\nthreads = 4\n", Host()),
        ({"GUNICORN_CMD_ARGS": "-w 5"}, "workers = 2\nworker_class = 'gthread'\n", Host(5)),
        ({}, "this is no Python\n", Host()),
    ],
)
def test_workers_are_known_from_arguments_configuration_and_environment(
    environ: dict[str, str], config: str, host: Host, tmp_path: Path
) -> None:
    if config:
        (tmp_path / "gunicorn.conf.py").write_text(config)
    assert known_host(environ, str(tmp_path)) == host


def traps(host: Host, **settings: object) -> list[str]:
    return [trap.name for trap in traps_of(ClientConfig(**settings), PLACES, host)]


def test_several_workers_without_sharing_are_a_trap() -> None:
    assert traps(Host(4)) == ["sharing"]
    assert traps(Host(1)) == traps(Host()) == []
    assert traps(Host(4), sharing=SharingConfig(redis_url="redis://localhost")) == []


def test_a_deadline_above_the_workers_patience_is_a_trap() -> None:
    assert traps(Host(1, 30)) == ["deadline"]
    assert traps(Host(1, 30), deadline=20) == []


def test_grpc_among_greenlets_is_a_trap() -> None:
    assert traps(Host(1, None, True), wire="runtime_grpc") == ["grpc"]
    assert traps(Host(1, None, True)) == traps(Host(1), wire="runtime_grpc") == []
    places = [Endpoint("grpc://gpu1:8001")]
    found = traps_of(ClientConfig(wire="triton"), places, Host(1, None, True))
    assert [trap.name for trap in found] == ["grpc"]
