"""An input whose next line is far: what came before it is spoken and kept meanwhile."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosy_sync import ConfigError, CosyClient, Endpoint
from cosy_sync.jobs import Job, JobOptions, JobText, run_job
from cosy_sync.jobs.trickle import Trickle
from cosy_sync.server import Server


def test_what_is_at_hand_comes_together_and_then_nothing() -> None:
    more = threading.Event()

    def texts() -> Iterator[JobText]:
        yield from (JobText(str(number), "你好") for number in range(5))
        more.wait(10)
        yield JobText("last", "你好")
        raise ConfigError("line 7")

    met: list[str] = []
    with Trickle(texts(), 3) as chunks, pytest.raises(ConfigError, match="line 7"):
        for chunk in chunks:
            assert len(chunk) <= 3
            met += [text.id for text in chunk]
            if not chunk:
                assert met == ["0", "1", "2", "3", "4"]
                more.set()
    assert met[-1] == "last"


def test_a_text_is_stored_while_its_successor_is_waited_for(tmp_path: Path) -> None:
    more = threading.Event()

    def texts() -> Iterator[JobText]:
        yield JobText("first", "你好")
        assert more.wait(60)
        yield JobText("second", "再见")

    with Server(latency=0) as server, CosyClient(Endpoint(server.url, rate=None)) as client:

        def tell(_: object) -> None:
            if list(tmp_path.glob("*/first.wav")):
                more.set()

        result = run_job(texts(), tmp_path, client, JobOptions(whole=False), tell=tell)
    assert more.is_set() and result.counts.spoken == 2


def test_a_job_ends_though_its_input_does_not(tmp_path: Path) -> None:
    never = threading.Event()
    jobs: list[Job] = []

    def texts() -> Iterator[JobText]:
        yield JobText("first", "你好")
        never.wait(10)

    def tell(counts: object) -> None:
        if list(tmp_path.glob("*/first.wav")):
            jobs[0].stop("enough")

    with Server(latency=0) as server, CosyClient(Endpoint(server.url, rate=None)) as client:
        options = JobOptions(whole=False)
        result = run_job(texts(), tmp_path, client, options, tell=tell, started=jobs.append)
    assert result.stopped == "enough" and result.counts.spoken == 1
    never.set()
