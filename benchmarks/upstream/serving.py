"""Choose and start an upstream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.task import Place
from benchmarks.upstream.embedded import serve_embedded
from benchmarks.upstream.nginx import MissingNginxError, serve_with_nginx

__all__ = ["Upstream", "open_upstream"]


@dataclass(frozen=True)
class Upstream:
    """A running upstream: what it is, and the URLs of its places by name."""

    kind: str
    urls: Mapping[str, tuple[str, ...]]


@contextmanager
def open_upstream(places: Sequence[Place], *, embedded: bool = False) -> Iterator[Upstream]:
    """Serve the places until the block ends.

    Args:
        places: What to serve.
        embedded: Take the embedded server even where nginx is there.
    """
    with ExitStack() as stack:
        try:
            if embedded:
                raise MissingNginxError("not asked for")
            urls = stack.enter_context(serve_with_nginx(places))
            kind = "nginx with the echo module, one worker"
        except MissingNginxError as error:
            urls = stack.enter_context(serve_embedded(places))
            kind = f"the embedded server ({error})"
        yield Upstream(kind, urls)
