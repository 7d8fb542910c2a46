"""The process-wide client behind cosy_sync.synth(), made from COSY_SYNC_* variables."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, overload

from .client import CosyClient
from .events import Observer
from .forks import notice_fork, renew_after_fork
from .given_texts import Item
from .models import Audio, Outcome
from .narration import Narration, Segment
from .progress import ProgressCallback
from .settings import Target
from .speech_stream import SpeechStream

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .config import CallSettings, ClientConfig, Settings
    from .many_texts import Store
    from .net import HttpClient
    from .stored_call import StoredOutcome

__all__ = [
    "configure",
    "default_client",
    "narrate",
    "narrate_iter",
    "stream",
    "submit",
    "synth",
    "synth_iter",
    "synth_many",
]

# Guards: _client.
_lock = threading.Lock()
_client: CosyClient | None = None


def default_client() -> CosyClient:
    """Return the process-wide client; made by the first call, and anew once it was closed.

    Raises ConfigError.
    """
    global _client
    notice_fork()
    known = _client
    if known is not None and not known.closed:
        return known
    # Outside the lock: with wire="auto" it asks the service. Of two that are made at the same time
    # the second is not needed.
    made = CosyClient()
    with _lock:
        known = _client
        if known is None or known.closed:
            known = _client = made
    if known is not made:
        made.close(0.0)
    return known


def configure(
    url: Target | Sequence[Target] | None = None,
    *,
    config: ClientConfig | None = None,
    http_client: HttpClient | None = None,
    observers: Sequence[Observer] = (),
    **settings: Unpack[Settings],
) -> CosyClient:
    """Replace the process-wide client by one that is made of this; the old one is closed.

    The arguments are those of CosyClient. Raises ConfigError, and then the old one stays.
    """
    global _client
    new = CosyClient(url, config=config, http_client=http_client, observers=observers, **settings)
    notice_fork()
    with _lock:
        old, _client = _client, new
    if old is not None:
        old.close()
    return new


def synth(text: str, **settings: Unpack[CallSettings]) -> Audio:
    """Speak one text; see CosyClient.synth."""
    return default_client().synth(text, **settings)


def submit(
    text: str,
    callback: Callable[[Future[Audio]], object] | None = None,
    **settings: Unpack[CallSettings],
) -> Future[Audio]:
    """Speak one text on a worker thread; see CosyClient.submit."""
    return default_client().submit(text, callback, **settings)


def stream(text: str | Iterable[str], **settings: Unpack[CallSettings]) -> SpeechStream:
    """Speak one text, or its pieces, and hand the sound on as it comes; see CosyClient.stream."""
    return default_client().stream(text, **settings)


@overload
def synth_iter(
    texts: Iterable[Item],
    *,
    to: None = None,
    read_ahead: int | None = None,
    **settings: Unpack[CallSettings],
) -> Iterator[Outcome]: ...


@overload
def synth_iter(
    texts: Iterable[Item],
    *,
    to: Store,
    read_ahead: int | None = None,
    **settings: Unpack[CallSettings],
) -> Iterator[StoredOutcome]: ...


def synth_iter(
    texts: Iterable[Item],
    *,
    to: Store | None = None,
    read_ahead: int | None = None,
    **settings: Unpack[CallSettings],
) -> Iterator[Outcome] | Iterator[StoredOutcome]:
    """Speak an endless stream of texts; see CosyClient.synth_iter."""
    options: Any = {"to": to, "read_ahead": read_ahead, **settings}
    spoken: Iterator[Outcome] | Iterator[StoredOutcome]
    spoken = default_client().synth_iter(texts, **options)
    return spoken


@overload
def synth_many(
    texts: Iterable[Item],
    *,
    to: None = None,
    on_error: Literal["raise"] = "raise",
    progress: bool | ProgressCallback = False,
    within: float | None = None,
    **settings: Unpack[CallSettings],
) -> list[Audio]: ...


@overload
def synth_many(
    texts: Iterable[Item],
    *,
    to: None = None,
    on_error: Literal["return"],
    progress: bool | ProgressCallback = False,
    within: float | None = None,
    **settings: Unpack[CallSettings],
) -> list[Outcome]: ...


@overload
def synth_many(
    texts: Iterable[Item],
    *,
    to: Store,
    on_error: Literal["raise", "return"] = "raise",
    progress: bool | ProgressCallback = False,
    within: float | None = None,
    **settings: Unpack[CallSettings],
) -> list[StoredOutcome]: ...


def synth_many(
    texts: Iterable[Item],
    *,
    to: Store | None = None,
    on_error: Literal["raise", "return"] = "raise",
    progress: bool | ProgressCallback = False,
    within: float | None = None,
    **settings: Unpack[CallSettings],
) -> list[Audio] | list[Outcome] | list[StoredOutcome]:
    """Speak many texts in batches side by side; see CosyClient.synth_many."""
    options: Any = {"to": to, "on_error": on_error, "progress": progress, "within": within}
    spoken: list[Audio] | list[Outcome] | list[StoredOutcome]
    spoken = default_client().synth_many(texts, **options, **settings)
    return spoken


def narrate(
    text: str,
    *,
    to: str | os.PathLike[str] | None = None,
    on_error: Literal["raise", "return"] = "raise",
    progress: bool | ProgressCallback = False,
    within: float | None = None,
    **settings: Unpack[CallSettings],
) -> Narration:
    """Speak a text of any length; see CosyClient.narrate."""
    client = default_client()
    return client.narrate(
        text, to=to, on_error=on_error, progress=progress, within=within, **settings
    )


def narrate_iter(text: str, **settings: Unpack[CallSettings]) -> Iterator[Segment]:
    """Speak a text of any length, segment by segment; see CosyClient.narrate_iter."""
    return default_client().narrate_iter(text, **settings)


def _renew() -> None:
    # Another thread may have held the lock when the process forked.
    global _lock
    _lock = threading.Lock()


renew_after_fork(_renew)
