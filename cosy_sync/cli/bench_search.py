"""The search for a batch size: a sweep as a client sends by itself, then with smaller calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from cosy_sync import ClientConfig, CosyError, Endpoint
from cosy_sync.cli.bench_steps import FULL, End, Step, knee
from cosy_sync.cli.bench_sweep import FEWEST, Plan, Sweep
from cosy_sync.cli.wording import in_options

__all__ = ["Search", "sizes_below"]

# Seconds between two sweeps: each counts the endpoint's rate from nothing.
_APART = 1.0
# Ends after which nothing more is sent.
_FINAL = ("refused", "errors", "texts", "interrupted")


def sizes_below(size: int) -> list[int]:
    """Return the sizes to try after `size`: a quarter each time, down to one text."""
    sizes = []
    while size > 1:
        size //= 4
        sizes.append(max(size, 1))
    return sizes


class Search:
    """Runs sweeps with fewer and fewer texts a call, while they bring as much.

    `steps`, `requests`, `texts`, `end` and `notes` hold what came of them. `end` is that of the
    sweep with the best step, or of the last one where that was cut short; None before any.

    Args:
        plan: of the first sweep.
        sizes: to try afterwards, from large to small.
        on_step: told of every step that ended.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        config: ClientConfig,
        plan: Plan,
        sizes: Sequence[int] = (),
        on_step: Callable[[Step], None] = lambda step: None,
    ) -> None:
        self._endpoint, self._config, self._on_step = endpoint, config, on_step
        self._plan, self._sizes = plan, sizes
        self._sweeps: list[Sweep] = []
        self._plans = [plan, *(replace(plan, batch_size=size) for size in sizes)]
        self.end: End | None = None
        self.notes: list[str] = []

    @property
    def most_requests(self) -> int:
        """Return the most requests that it sends."""
        return sum(plan.requests for plan in self._plans)

    @property
    def most_texts(self) -> int:
        """Return the most texts that it sends."""
        return min(self._plan.max_texts, sum(p.requests * p.batch_size for p in self._plans))

    @property
    def steps(self) -> list[Step]:
        """Return the steps of all sweeps, in their order."""
        return [step for sweep in self._sweeps for step in sweep.steps]

    @property
    def requests(self) -> int:
        """Return how many requests were handed to the client."""
        return sum(sweep.requests for sweep in self._sweeps)

    @property
    def texts(self) -> int:
        """Return how many texts were handed to the client."""
        return sum(sweep.texts for sweep in self._sweeps)

    def run(self) -> None:
        """Send, until there is a reason to stop: the `end`.

        Raises the CosyError of the first request, and KeyboardInterrupt during it or at the end.
        """
        self._sweep(self._plan)
        for size in self._sizes:
            plan = self._next(size)
            if plan is None:
                return
            try:
                time.sleep(_APART)
                self._sweep(plan)
            except CosyError as error:
                words = f"the service refuses requests of {_texts(size)}: "
                self.end = End("refused", words + in_options(error.message))
            except KeyboardInterrupt:
                self.end = End("interrupted", f"interrupted before requests of {_texts(size)}")

    def _sweep(self, plan: Plan) -> None:
        sweep = Sweep(self._endpoint, self._config, plan, self._on_step)
        self._sweeps.append(sweep)
        try:
            sweep.run()
        finally:
            self._conclude(plan, sweep)

    def _conclude(self, plan: Plan, sweep: Sweep) -> None:
        """Take over the end of the sweep if it says more than the one before."""
        end, best = sweep.end, knee(self.steps)
        if end is None:
            return
        if self.end is not None and end.kind in _FINAL:
            end = replace(end, words=f"{end.words}, with {_texts(plan.batch_size)} a request")
        if self.end is None or end.kind in _FINAL or best in sweep.steps:
            self.end = end

    def _next(self, size: int) -> Plan | None:
        """Return the plan of the next sweep; None, with a note why, if it would bring nothing."""
        plan, best, last = self._plan, knee(self.steps), self._sweeps[-1]
        if best is None or self.end is None or self.end.kind in _FINAL:
            return None
        most = max(step.texts_per_second for step in self.steps)
        brought = max((step.texts_per_second for step in last.steps), default=0.0)
        words = f"requests of {_texts(size)} were not tried: "
        if brought < FULL * most:
            larger = _texts(last.steps[-1].batch_size)
            self.notes.append(f"{words}those of {larger} brought {100 * brought / most:.0f} %")
        elif size * plan.rate < FULL * most:
            self.notes.append(f"{words}at {plan.rate:g} requests/s they could not bring as much")
        elif plan.max_texts - self.texts < (1 + FEWEST) * size:
            self.notes.append(f"{words}the texts of --max-texts do not suffice")
        else:
            rungs = [n for n in plan.ladder if n >= best.in_flight]
            left = plan.max_texts - self.texts
            return replace(plan, batch_size=size, ladder=rungs, max_texts=left)
        return None


def _texts(size: int) -> str:
    return "1 text" if size == 1 else f"{size} texts"
