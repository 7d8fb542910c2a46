"""Processes that share a Redis roll a new model back together; an operator may do it by hand."""

import json
import time
from collections.abc import Callable

import httpx
import pytest

from cosy_sync import CosyClient, Endpoint, SharingConfig, Variant
from cosy_sync.cli import main
from cosy_sync.testing import FakeService

TEXTS = [f"这是第{number}句话" for number in range(100)]


class NewModelFails(httpx.BaseTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        said = json.loads(request.read())
        if said.get("model") == "v3":
            return httpx.Response(500)
        return FakeService.speak(said["texts"])


def client(redis_url: str, model: str = "v3", fails: bool = False) -> CosyClient:
    transport = NewModelFails() if fails else FakeService()
    sharing = SharingConfig(redis_url=redis_url, connections=False, breaker=False, timeout=1.0)
    return CosyClient(
        Endpoint("http://old.test/batch", rate=None),
        canary=Variant(model=model, share=0.3),
        http_client=httpx.Client(transport=transport),
        sharing=sharing,
        batch_size=1,
    )


def state(of: CosyClient) -> str:
    known = of.stats().canary
    assert known is not None
    return known[0]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def test_a_fleet_rolls_back_together_and_an_operator_resets_it(
    redis_server, capsys: pytest.CaptureFixture[str]
) -> None:
    url = redis_server.url
    with client(url) as watching, client(url, "v4") as other, client(url, fails=True) as failing:
        for each in (watching, other):
            each.synth_many(TEXTS[:10])
        failing.synth_many(TEXTS)
        assert state(failing) == "rolled back"
        wait_for(lambda: state(watching) == "rolled back")
        assert (watching.stats().canary or ())[1:2] == (0.0,)
        assert state(other) == "running"

        command = ["canary", "--redis", url]
        assert main(command) == 0
        told = capsys.readouterr().out
        assert "v3: rolled back, 0% of the texts, since 20" in told
        assert "because of requests that failed: " in told and "v4: running" in told

        assert main([*command, "v3", "--reset"]) == 0
        assert "v3: running, the configured share" in capsys.readouterr().out
        wait_for(lambda: state(watching) == state(failing) == "running")
        assert main([*command, "v3", "--roll-back", "--json"]) == 0
        (report,) = json.loads(capsys.readouterr().out)
        assert (report["state"], report["reason"]) == ("rolled back", "by hand")
        assert main([*command, "v3"]) == 0
        assert "\n  by hand\n" in capsys.readouterr().out
        wait_for(lambda: state(watching) == "rolled back")
    with client(url, fails=True) as late:
        wait_for(lambda: late.synth(TEXTS[0]) is not None and state(late) == "rolled back")


def test_what_each_counts_is_added_up(redis_server, capsys: pytest.CaptureFixture[str]) -> None:
    url = redis_server.url
    for _ in range(2):
        with client(url) as each:
            each.synth_many(TEXTS[:50])
    assert main(["canary", "v3", "--redis", url, "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    new, old = (report["shares"]["requests that failed"][place] for place in (1, 3))
    assert new + old == 100 and 10 < new < 50


def test_without_redis_each_decides_by_itself() -> None:
    with client("redis://127.0.0.1:1/0", fails=True) as alone:
        alone.synth_many(TEXTS)
        assert state(alone) == "rolled back"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no Redis: give --redis URL"),
        (["--redis", "redis://127.0.0.1:1/0"], "refused.; start it, or correct --redis"),
        (["--redis", "redis://127.0.0.1:1/0", "--reset"], "say which one"),
    ],
)
def test_the_command_says_what_it_lacks(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["canary", *arguments]) != 0
    assert words in capsys.readouterr().err
