"""A service that breaks off, stalls and mixes up its recordings: no text gets another's audio."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.request import urlopen

import pytest
from served import served

from cosy_sync import CosyClient, CosyError, Endpoint, Outcome, RetryConfig, TimeoutConfig
from cosy_sync.server import tone_wav

TEXTS = 10_000
TROUBLE = {
    "reset": 0.03,
    "reset-mid": 0.02,
    "cut": 0.03,
    "cut-chunked": 0.02,
    "status-502": 0.05,
    "stall": 0.01,
    "stall-mid": 0.01,
}


def spoken(url: str, texts: Sequence[str]) -> tuple[list[Outcome], CosyClient]:
    client = CosyClient(
        Endpoint(url, max_connections=50, rate=1e5),
        batch_size=8,
        timeouts=TimeoutConfig(first_byte=0.5, idle=0.5),
        retry=RetryConfig(base=0.02),
    )
    with client:
        return client.synth_many(texts, on_error="return"), client


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("mix_up", "reason", "option"),
    [
        # One text's audio in all places, and no help from the service.
        ("same-audio", "identical", "--no-echo"),
        # Two exchanged: only the service's own hashes tell.
        ("swapped-audio", "misplaced", "--quiet"),
    ],
)
def test_every_text_ends_with_its_own_audio_or_a_typed_error(
    mix_up: str, reason: str, option: str
) -> None:
    options = ["--latency", "0.005", "--rate", "0", "--seed", "1", option]
    for name, share in {**TROUBLE, mix_up: 0.01}.items():
        options += ["--fault", f"{name}:{share}"]
    texts = [f"第{number}位乘客请到{number % 7}号窗口" for number in range(TEXTS)]
    with served(*options) as url:
        outcomes, client = spoken(url, texts)
        with urlopen(url.replace("/batch", "/stats"), timeout=30) as reply:
            faults = json.load(reply)["faults"]
    assert [outcome.text for outcome in outcomes] == texts
    good = [outcome for outcome in outcomes if outcome.audio is not None]
    wrong = [o.index for o in good if o.audio.data != tone_wav(o.text)]  # type: ignore[union-attr]
    assert wrong == []
    assert all(isinstance(outcome.error, CosyError) for outcome in outcomes if not outcome.ok)
    # A text fails when four attempts in a row meet trouble: one in a thousand, here.
    assert len(good) > 0.99 * TEXTS
    assert set(faults) == {*TROUBLE, mix_up}
    stats = client.stats()
    # Of a mixed-up reply at least two texts are refused; a repetition may hold a single one.
    # What waits on a connection that was found out of place is misplaced.
    assert {reason} <= stats.bad_audio.keys() <= {reason, "misplaced"}
    assert stats.bad_audio[reason] > faults[mix_up] > 0
    assert stats.texts_ok == len(good)
