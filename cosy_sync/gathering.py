"""The outcomes of a call of many texts: gathered, or handed out; what ends it takes them along."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from .batch_errors import take_along
from .errors import ConfigError
from .models import Outcome
from .progress import ProgressCallback

if TYPE_CHECKING:
    from .cache.cached_call import CachedCall
    from .cache.cached_engine import CachedEngine
    from .canary import CanaryEngine
    from .engine import Engine
    from .engine.bulk import BulkCall
    from .engine.small_call import SmallCall
    from .given_texts import GivenTexts

    Call: TypeAlias = BulkCall | SmallCall | CachedCall

__all__ = ["Outcomes", "check_call", "gather", "hand_out", "run_call"]

_T = TypeVar("_T")


class Outcomes(list[Outcome]):
    """The outcomes of a call, in order; a list, which a notebook shows as a table with players."""

    def _repr_html_(self) -> str:
        from .notebook import show_outcomes  # on first use: `import cosy_sync` stays quick

        return show_outcomes(self)


def check_call(on_error: str, within: float | None) -> None:
    """Raise ConfigError for options of a call that cannot be."""
    if on_error not in ("raise", "return"):
        raise ConfigError(f"on_error: must be 'raise' or 'return', got {on_error!r}")
    if within is not None and not (type(within) in (int, float) and 0 < within < math.inf):
        raise ConfigError(f"within: must be a finite number of seconds above 0, got {within!r}")


def hand_out(call: Call, owner: object, given: GivenTexts | None = None) -> Iterator[Outcome]:
    """Yield a call's outcomes, as those of the given items, and hold the client, whose end would
    end them, for as long as somebody takes them."""
    items = {} if given is None else given.items
    outcomes = call.outcomes()
    try:
        for outcome in outcomes:
            yield given.restore(outcome) if items and given else outcome
    except GeneratorExit:
        outcomes.close()
        raise
    except BaseException as error:
        outcomes.close()
        take_along(error, _restored(call.finished(), given))
        raise


def gather(
    engine: Engine | CachedEngine | CanaryEngine,
    call: Call,
    total: int,
    progress: ProgressCallback | None,
    given: GivenTexts | None,
) -> Outcomes:
    """Return a call's outcomes, as those of the given items, when all of them are there."""
    gathered = Outcomes()
    items = {} if given is None else given.items

    def take(outcomes: Iterator[Outcome]) -> Outcomes:
        for outcome in outcomes:
            gathered.append(given.restore(outcome) if items and given else outcome)
            if progress is not None:
                progress(len(gathered), total)
        return gathered

    return run_call(engine, call, gathered, take, given)


def _restored(outcomes: list[Outcome], given: GivenTexts | None) -> list[Outcome]:
    return outcomes if given is None else [given.restore(outcome) for outcome in outcomes]


def run_call(
    engine: Engine | CachedEngine | CanaryEngine,
    call: Call,
    taken: list[Outcome],
    take: Callable[[Iterator[Outcome]], _T],
    given: GivenTexts | None = None,
) -> _T:
    """Return what `take` makes of a call's outcomes; close() waits for it.

    Whatever ends it early ends the call, and carries what `take` put into `taken`, and what was
    finished beside it.
    """
    try:
        engine.occupy(call)
        return take(call.outcomes())
    except BaseException as error:
        call.end()
        rest = [outcome for outcome in call.finished() if outcome.index >= len(taken)]
        take_along(error, taken + _restored(rest, given))
        raise
    finally:
        engine.vacate(call, None)
