"""Refusals over real sockets, where they come before the sound of what was sent beside them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from picky import PAGE, SPEAK, Choice, Picky, Refusal, after, said

from cosy_sync import (
    AuthError,
    BillingError,
    BreakerConfig,
    CosyClient,
    Endpoint,
    Outcome,
    RetryConfig,
)
from cosy_sync.testing import FakeService

BAD = "DROP TABLE 学生"
TEXTS = [f"第{number}句" for number in range(100)]
NEVER_OPEN = BreakerConfig(min_calls=10**9)
UNPAID = said(429, error={"message": "no", "code": "insufficient_quota"})


def firewall(answer: Refusal = PAGE) -> Choice:
    return lambda texts: answer if any("DROP" in text for text in texts) else SPEAK


def larger_than(most: int, answer: Refusal) -> Choice:
    return lambda texts: answer if len(texts) > most else SPEAK


def client(service: Picky, wire: str) -> CosyClient:
    url = service.batch if wire == "batch" else service.openai
    return CosyClient(url, wire=wire, api_key="k", breaker=NEVER_OPEN)


def submitted(speaker: CosyClient, texts: Sequence[str]) -> list[BaseException | None]:
    futures = [speaker.submit(text) for text in texts]
    return [future.exception(30) for future in futures]


@pytest.mark.parametrize("wire", ["batch", "openai"])
@pytest.mark.parametrize("status", [401, 403, 404, 451])
def test_a_refusal_that_comes_before_any_sound_ends_no_call(wire: str, status: int) -> None:
    texts = [BAD, *TEXTS]
    with (
        Picky(after(0.1, firewall((status, *PAGE[1:])))) as service,
        client(service, wire) as speaker,
    ):
        outcomes = list(speaker.synth_iter(texts))
    assert [outcome.index for outcome in outcomes if not outcome.ok] == [0]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_strangers_who_share_a_batch_do_not_share_a_refusal(status: int) -> None:
    texts = [*TEXTS[:41], BAD, *TEXTS[41:59]]
    with (
        Picky(after(0.1, firewall((status, *PAGE[1:])))) as service,
        client(service, "batch") as speaker,
    ):
        errors = submitted(speaker, texts)
        assert max(service.sizes) > 1
    assert [number for number, error in enumerate(errors) if error is not None] == [41]


@pytest.mark.parametrize("wire", ["batch", "openai"])
@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_costs_hardly_more_than_what_was_in_flight(wire: str, status: int) -> None:
    def refuse(texts: Sequence[str]) -> Refusal:
        return status, *PAGE[1:]

    with Picky(refuse) as service, client(service, wire) as speaker:
        outcomes = speaker.synth_many(TEXTS, on_error="return")
        assert {type(outcome.error) for outcome in outcomes} == {AuthError}
        assert len(service.calls) <= 24


@pytest.mark.parametrize("wire", ["batch", "openai"])
def test_an_empty_account_costs_no_more_than_what_was_in_flight(wire: str) -> None:
    with Picky(lambda texts: UNPAID) as service, client(service, wire) as speaker:
        outcomes = speaker.synth_many(TEXTS, on_error="return")
        assert {type(outcome.error) for outcome in outcomes} == {BillingError}
        assert len(service.calls) <= 16


@pytest.mark.parametrize("wire", ["batch", "openai"])
def test_a_wrong_voice_costs_a_few_tens_of_requests(wire: str) -> None:
    answer = said(400, code=20052, message="voice missing")
    with Picky(lambda texts: answer) as service, client(service, wire) as speaker:
        outcomes = speaker.synth_many(TEXTS * 3, on_error="return")
        assert all("voice missing" in str(outcome.error) for outcome in outcomes)
        assert "check voice" in str(outcomes[-1].error)
        assert len(service.calls) <= 60


@pytest.mark.parametrize("status", [413, 504])
def test_strangers_learn_the_size_of_a_batch_together(status: int) -> None:
    choose = after(0.05, larger_than(16, said(status, message="big")))
    with Picky(choose) as service, client(service, "batch") as speaker:
        assert submitted(speaker, TEXTS[:60]) == [None] * 60
        assert len(service.calls) <= 15
        service.calls.clear()
        assert submitted(speaker, TEXTS[:60]) == [None] * 60
        assert max(service.sizes) <= 16 and len(service.calls) <= 8


def test_workers_side_by_side_learn_the_size_of_a_batch() -> None:
    choose = after(0.05, larger_than(16, said(524, message="big")))
    with Picky(choose) as service, client(service, "batch") as speaker:
        outcomes: list[Outcome] = speaker.synth_many(TEXTS * 2, on_error="return")
        assert all(outcome.ok for outcome in outcomes)
        service.calls.clear()
        assert len(list(speaker.synth_iter(TEXTS * 2))) == 200
        assert max(service.sizes) <= 16


# -- the command line -----------------------------------------------------------------------------


def spoken(service: Picky, tmp_path: Path, texts: Sequence[str]) -> tuple[int, str, int]:
    """Speak texts by the command; return its exit code, what it said and the number of files."""
    (tmp_path / "texts.txt").write_text("\n".join(texts), "utf-8")
    command = [sys.executable, "-m", "cosy_sync", "synth", "--url", service.batch]
    command += ["--no-progress", "-f", str(tmp_path / "texts.txt"), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    return done.returncode, done.stderr.decode(), len(list((tmp_path / "out").glob("*.wav")))


@pytest.mark.parametrize("at", [0, 70])
def test_the_command_speaks_all_but_the_text_that_is_refused(tmp_path: Path, at: int) -> None:
    texts = [*TEXTS[:at], BAD, *TEXTS[at:]]
    with Picky(firewall()) as service:
        code, words, files = spoken(service, tmp_path, texts)
    assert (code, files) == (1, 100)
    assert "HTTP 403" in words


@pytest.mark.parametrize(
    ("answer", "code", "words", "calls"),
    [
        (PAGE, 3, "check its permissions", 3),
        ((401, *PAGE[1:]), 3, "--api-key-file", 1),
        (UNPAID, 3, "the account cannot pay", 1),
        (said(400, message="voice missing"), 1, "check voice", 30),
    ],
)
def test_the_command_ends_soon_where_every_text_is_refused(
    tmp_path: Path, answer: Refusal, code: int, words: str, calls: int
) -> None:
    with Picky(lambda texts: answer) as service:
        got, said_, files = spoken(service, tmp_path, TEXTS)
        assert len(service.calls) <= calls
    assert (got, files) == (code, 0)
    assert words in said_


def test_a_file_of_one_line_whose_key_is_refused_is_no_done_work(tmp_path: Path) -> None:
    with Picky(lambda texts: PAGE) as service:
        assert spoken(service, tmp_path, TEXTS[:1])[::2] == (3, 0)


def test_a_wave_of_batches_that_are_all_too_large_loses_no_text() -> None:
    choose = after(0.05, larger_than(16, said(504, message="big")))
    opens_soon = BreakerConfig(min_calls=4, failure_ratio=0.5, open_for=0.3)
    with (
        Picky(choose) as service,
        CosyClient(service.batch, breaker=opens_soon) as speaker,
    ):
        outcomes = speaker.synth_many([f"第{n}句" for n in range(640)], on_error="return")
        assert all(outcome.ok for outcome in outcomes)
        assert len(service.calls) <= 10 + 2 * 40


@pytest.mark.parametrize(("batch_size", "most"), [(16, 4), (64, 8)])
def test_a_breaker_that_large_calls_opened_is_asked_by_smaller_ones(
    batch_size: int, most: int
) -> None:
    def gateway(request: httpx.Request) -> httpx.Response:
        texts = json.loads(request.read())["texts"]
        return FakeService.speak(texts) if len(texts) <= most else httpx.Response(502)

    with CosyClient(
        Endpoint("http://tts.test/batch", max_connections=60, rate=1000),
        http_client=httpx.Client(transport=httpx.MockTransport(gateway)),
        breaker=BreakerConfig(open_for=15.0),
        batch_size=batch_size,
        deadline=20.0,
    ) as client:
        texts = [f"第{n}句" for n in range(30 * batch_size)]
        outcomes = client.synth_many(texts, on_error="return")
    assert [outcome.error for outcome in outcomes if outcome.error] == []


@pytest.mark.parametrize("wire", ["batch", "openai"])
def test_every_fifth_text_breaks_its_calls_and_the_others_are_spoken(wire: str) -> None:
    broken = said(500, message="Internal Server Error")
    choose = after(0.01, lambda texts: broken if any("坏" in text for text in texts) else SPEAK)
    texts = [f"{'坏' if n % 5 == 4 else '第'}{n:02d}句" for n in range(100)]
    expected = [n % 5 == 4 for n in range(100)]
    with (
        Picky(choose) as service,
        CosyClient(
            service.batch if wire == "batch" else service.openai,
            wire=wire,
            retry=RetryConfig(base=0.01),
        ) as speaker,
    ):
        assert [error is not None for error in submitted(speaker, texts)] == expected
        if wire == "batch":
            assert [not outcome.ok for outcome in speaker.synth_iter(texts)] == expected
        assert list(speaker.stats().breakers.values()) == ["closed"]
        assert len(service.calls) < 500
