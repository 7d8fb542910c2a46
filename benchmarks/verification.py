"""Benchmark `verification`: false alarms on good recordings, and the share of faults it catches.

The corpus is spoken on the fly by the embedded server's espeak-ng: every voice at every speed. It
writes its table into docs/verification.md.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import multiprocessing
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.sound_faults import FAULTS, Spoken
from benchmarks.spoken_corpus import Group, groups_of, speak, texts_for
from benchmarks.table import Table
from cosy_sync.audio import Verifier
from cosy_sync.audio.usual import Learned
from cosy_sync.config import VerifyConfig
from cosy_sync.errors import BadAudioError
from cosy_sync.models import Audio

__all__ = ["Tally", "main", "run_group"]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "verification.md"
_MARKS = re.compile(r"(<!-- table -->\n).*?(<!-- end of table -->)", re.DOTALL)
_ONE = 16


@dataclass
class Tally:
    """What was counted: good recordings and refused ones, faults and caught ones."""

    good: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    caught: Counter[str] = field(default_factory=Counter)
    cold: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    # How and on what a good recording was refused.
    alarms: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add what another group counted."""
        for name in ("good", "refused", "faults", "caught", "cold"):
            getattr(self, name).update(getattr(other, name))
        self.alarms += other.alarms
        self.missed += other.missed


def run_group(work: tuple[Group, int, int]) -> Tally:
    """Speak and judge one voice at one speed.

    Args:
        work: The group, how many utterances, and how many faults of each kind.
    """
    from cosy_sync.server.speaker import Speaker

    group, utterances, faults = work
    tally, verifier, speaker = Tally(), Verifier(VerifyConfig()), Speaker()
    spoken: list[tuple[str, Audio]] = []
    for text in texts_for(group, utterances):
        audio = speak(speaker, group, text)
        spoken.append((text, audio))
        kind = "whisper" if "whisper" in group.voice else group.language
        tally.good[kind] += 1
        (result,) = verifier.check([text], [audio])
        if isinstance(result, BadAudioError):
            tally.refused[kind] += 1
            tally.alarms.append(f"{group.voice} at {group.speed}: {text[:30]}: {result}")
    speaker.close()
    _put_faults(tally, group, spoken, faults, verifier.learned)
    return tally


def _put_faults(
    tally: Tally, group: Group, spoken: list[tuple[str, Audio]], count: int, learned: Learned
) -> None:
    drawn = random.Random(group.seed)
    for fault in FAULTS:
        for _ in range(_most_tries(count)):
            text, audio = drawn.choice(spoken)
            faulty = fault.put(Spoken(text, audio, spoken), drawn)
            if faulty is None:
                continue
            tally.faults[fault.name] += 1
            caught = _is_caught(*faulty, _known(learned))
            tally.caught[fault.name] += caught
            if not caught and fault.target:
                tally.missed.append(
                    f"{fault.name}: {group.voice} at {group.speed}: {faulty[0][:30]}"
                )
            tally.cold[fault.name] += _is_caught(*faulty, Learned())
            if tally.faults[fault.name] == count:
                break


def _most_tries(count: int) -> int:
    return 50 * count + 50


def _known(learned: Learned) -> Learned:
    """Return a copy, so that no fault teaches what the next one is judged by."""
    known = Learned()
    known.pace, known.usual = copy.deepcopy(learned.pace), copy.deepcopy(learned.usual)
    return known


def _is_caught(text: str, audio: Audio, learned: Learned) -> bool:
    (result,) = Verifier(VerifyConfig(), learned).check([text], [audio])
    return isinstance(result, BadAudioError)


def run(utterances: int, faults: int, seed: int, processes: int) -> Tally:
    """Count over every voice at every speed, in several processes; Ctrl-C ends it early."""
    groups = groups_of(seed)
    random.Random(seed).shuffle(groups)
    share, rest = -(-utterances // len(groups)), -(-faults // len(groups))
    tally = Tally()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        works = [(group, share, rest) for group in groups]
        with contextlib.suppress(KeyboardInterrupt):
            for other in pool.imap_unordered(run_group, works):
                tally.add(other)
    return tally


def tables(tally: Tally) -> list[Table]:
    """Return what was counted as tables."""
    every = [(kind, tally.good[kind], tally.refused[kind]) for kind in sorted(tally.good)]
    every.append(("all", sum(tally.good.values()), sum(tally.refused.values())))
    alarms = [[kind, str(good), str(bad), f"{bad / good:.3%}"] for kind, good, bad in every]
    caught = [
        [
            fault.name,
            str(tally.faults[fault.name]),
            _share(tally.caught, tally.faults, fault.name),
            _share(tally.cold, tally.faults, fault.name),
            "99 %" if fault.target else "",
        ]
        for fault in FAULTS
    ]
    columns = ["fault", "recordings", "caught, voice known", "caught, first recording", "target"]
    return [
        Table(
            "Good recordings refused (target: at most 0.02 %)",
            ["speech", "recordings", "refused", "share"],
            alarms,
        ),
        Table("Faults caught, of one recording among good ones", columns, caught),
    ]


def _share(part: Counter[str], whole: Counter[str], name: str) -> str:
    return f"{100 * part[name] / max(1, whole[name]):.1f} %"


def write_page(shown: str) -> None:
    """Put the tables into the page, between its marks."""
    page = PAGE.read_text("utf-8")
    PAGE.write_text(_MARKS.sub(lambda found: f"{found[1]}{shown}\n{found[2]}", page), "utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print the tables, and write them into the page unless the run was small."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=20_160)
    parser.add_argument("--faults", type=int, default=2_016, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--missed", action="store_true", help="list the faults that passed")
    parser.add_argument("--small", action="store_true", help="one group; writes nothing")
    options = parser.parse_args(argv)
    if options.small:
        tally = run_group((groups_of(options.seed)[3], 10 * _ONE, 2))
    else:
        tally = run(options.utterances, options.faults, options.seed, options.processes)
    shown = "\n\n".join(table.markdown() for table in tables(tally))
    print(shown, *tally.alarms, *(tally.missed if options.missed else ()), sep="\n")
    if not options.small:
        write_page(shown)


if __name__ == "__main__":
    main()
