"""How soon a worse model is rolled back, and how often an equally good one: simulated, and real.

No service and no sleep: texts fail by a seeded chance, and the client's own test judges them. Each
row is 100 runs; a run ends when the new model is rolled back, or has had its texts. With
`--embedded` clients speak through two servers on this machine instead, of which the new one fails
4 % of the requests, or 1 %, as the old one does.

    python -m benchmarks.canary            # prints the table, writes benchmarks/results/canary.json
    python -m benchmarks.canary --embedded --runs 5
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

from cosy_sync import CanaryConfig, CosyClient, Endpoint
from cosy_sync.policies.canary import Evidence, Judge
from cosy_sync.server import Server, ServerConfig

RESULTS = Path(__file__).parent / "results" / "canary.json"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Two models. Shares of requests that fail and of texts whose audio is refused; how many times
    slower and longer the new one's speech is."""

    name: str
    failed: tuple[float, float] = (0.01, 0.01)
    refused: tuple[float, float] = (0.0, 0.0)
    slower: float = 1.0
    longer: float = 1.0
    share: float = 0.05
    texts: int = 2_000


CASES = (
    Case(name="equal, 1 % fail"),
    Case(name="equal, 1 % fail, share 50 %", share=0.5),
    Case(name="equal, share 50 %, 10 000 texts", share=0.5, texts=10_000),
    Case(name="equal, 10 % fail, 5 % refused", failed=(0.1, 0.1), refused=(0.05, 0.05)),
    Case(name="10 % slower: within the tolerance", slower=1.1),
    Case(name="4 % fail instead of 1 %", failed=(0.04, 0.01)),
    Case(name="4 % fail, share 50 %", failed=(0.04, 0.01), share=0.5),
    Case(name="4 % fail, 2 000 texts of both", failed=(0.04, 0.01), texts=100),
    Case(name="4 % refused instead of 1 %", refused=(0.04, 0.01)),
    Case(name="half fail, 2 000 texts of both", failed=(0.5, 0.01), texts=100),
    Case(name="all fail, 2 000 texts of both", failed=(1.0, 0.01), texts=100),
    Case(name="twice as slow", slower=2.0),
    Case(name="speech 1.5 times as long", longer=1.5),
    Case(name="speech 1.5 times as short", longer=1 / 1.5),
)


def run(case: Case, seed: int, alarms: float = 0.01) -> int | None:
    """Return after how many texts of the new model it is rolled back, None where it is not."""
    chance, judge = random.Random(seed), Judge(alarms, 0.001)
    evidence = Evidence(1.25, 1.15)
    rest = (1 - 2 * case.share) / case.share if case.share < 0.5 else 0.0
    for text in range(1, case.texts + 1):
        others = ["stable"] * int(rest + chance.random())
        for arm in ("control", *others, "canary"):
            speak(case, evidence, arm, chance)
        if judge.worse(evidence.counts):
            return text
    return None


def speak(case: Case, evidence: Evidence, arm: str, chance: random.Random) -> None:
    """Count one text, sent alone."""
    new = arm == "canary"
    failed = chance.random() < case.failed[not new]
    evidence.count(arm, "failed", failed)
    if failed:
        return
    refused = chance.random() < case.refused[not new]
    evidence.count(arm, "refused", refused)
    if arm != "stable":
        evidence.measure(
            arm, "slow", chance.lognormvariate(-3, 0.3) * (case.slower if new else 1), 9
        )
    if not refused:
        length = chance.lognormvariate(-1.5, 0.2) * (case.longer if new else 1)
        evidence.measure(arm, "long", length, 9)
        evidence.measure(arm, "short", length, 9)


def run_embedded(failed: float, seed: int) -> int | None:
    """Return after how many texts of the new model a client rolls it back, at most 2 000."""
    limits = {"latency": 0.0, "rate": 0, "seed": seed, "audio_bytes": 20_000}
    with (
        Server(ServerConfig(**limits, faults={"status-500": 0.01})) as old,
        Server(ServerConfig(**limits, faults={"status-500": failed})) as new,
        CosyClient(
            [Endpoint(old.url, rate=None), Endpoint(new.url, weight=0.2, rate=None)],
            canary=CanaryConfig(slower=3.0),
            batch_size=1,
        ) as client,
    ):
        for start in range(0, 10_000, 250):
            client.synth_many([f"第{start + number}句话" for number in range(250)])
            known = client.stats().canary
            if known is not None and known[0] == "rolled back":
                return int(new.stats()["requests"])
    return None


def show_embedded(runs: int) -> None:
    for failed in (0.04, 0.01):
        found = [run_embedded(failed, seed) for seed in range(runs)]
        ends = sorted(end for end in found if end is not None)
        print(f"new fails {failed:.0%}, old 1 %: rolled back {len(ends)} of {runs}, after {ends}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--embedded", action="store_true", help="real clients and servers")
    options = parser.parse_args()
    if options.embedded:
        show_embedded(options.runs)
        return
    rows = []
    print(f"{'case':36} {'texts':>6} {'rolled back':>12} {'median text':>12} {'95th':>6}")
    for case in CASES:
        found = [run(case, seed) for seed in range(options.runs)]
        ends = sorted(end for end in found if end is not None)
        median = ends[len(ends) // 2] if ends else None
        late = ends[int(0.95 * len(ends))] if ends else None
        rows.append({**asdict(case), "rolled_back": len(ends), "median": median, "late": late})
        print(
            f"{case.name:36} {case.texts:6} {len(ends):5} of {options.runs:3} "
            f"{median or '-':>12} {late or '-':>6}"
        )
    RESULTS.write_text(json.dumps({"runs": options.runs, "cases": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
