"""What a journal tells of its job as a whole: sums, samples, what is odd, how fast it went."""

from __future__ import annotations

from cosy_sync.jobs.journal import Journal, Row, State

__all__ = ["errors", "final", "finished", "oddest", "rate", "sample", "seconds", "spans"]

# Seconds without a finished text that end a stretch of work.
_GAP = 10.0


def errors(book: Journal) -> list[tuple[str, int]]:
    """Return the classes of the errors of failed texts, and how many failed so."""
    return book.ask(
        "SELECT json_extract(error, '$.type') AS name, count(*) FROM texts WHERE state = 2 "
        "GROUP BY name"
    )


def final(book: Journal) -> int:
    """Return how many texts failed as they would again."""
    return int(book.ask("SELECT count(*) FROM texts WHERE state = 2 AND final = 1")[0][0])


def seconds(book: Journal) -> float:
    """Return the length of all sounds, in seconds."""
    return float(book.ask("SELECT total(seconds) FROM texts WHERE state = 1")[0][0])


def rate(book: Journal) -> float | None:
    """Return the texts/s of the latest thousand that were spoken; None for too few."""
    found = book.ask(
        "SELECT count(*), min(finished), max(finished) FROM (SELECT finished FROM texts "
        "WHERE state = 1 ORDER BY finished DESC LIMIT 1000)"
    )
    texts, first, last = found[0]
    return texts / (last - first) if texts > 1 and last > first else None


def sample(book: Journal, most: int, state: State) -> list[Row]:
    """Return some texts of a state, drawn at random, in their order."""
    chosen = "SELECT place FROM texts WHERE state = ? ORDER BY random() LIMIT ?"
    return book.find(f"place IN ({chosen}) ORDER BY place", (state, most))


def oddest(book: Journal, most: int) -> list[Row]:
    """Return the sounds that are shortest and longest for their texts, so many of each; of texts
    of the same words, one."""
    condition = "state = 1 AND length(text) > 3 AND seconds > 0 GROUP BY digest"
    order = "ORDER BY seconds / length(text)"
    found = [
        *book.find(f"{condition} {order} ASC LIMIT ?", (most,)),
        *book.find(f"{condition} {order} DESC LIMIT ?", (most,)),
    ]
    return list({row.id: row for row in found}.values())


def spans(book: Journal) -> list[tuple[float, float]]:
    """Return the stretches of time in which texts were finished, first and last: a longer
    gap than ten seconds begins a new one."""
    rows = book.ask(
        "SELECT before, finished FROM (SELECT finished, lag(finished, 1, finished) OVER "
        "(ORDER BY finished) AS before FROM texts WHERE finished IS NOT NULL) "
        "WHERE finished > before + ?",
        (_GAP,),
    )
    first, last = book.ask("SELECT min(finished), max(finished) FROM texts")[0]
    if first is None:
        return []
    starts = [first, *(finished for _, finished in rows)]
    return list(zip(starts, [*(before for before, _ in rows), last], strict=True))


def finished(book: Journal, first: float, last: float, bucket: float) -> list[int]:
    """Return how many texts were finished in each so many seconds of a stretch of time."""
    counts = [0] * (int((last - first) / bucket) + 1)
    for place, texts in book.ask(
        "SELECT CAST((finished - ?) / ? AS INTEGER), count(*) FROM texts "
        "WHERE finished BETWEEN ? AND ? GROUP BY 1",
        (first, bucket, first, last),
    ):
        counts[place] = texts
    return counts
