"""Where sound is kept: a folder here, or a bucket of an object store."""

import os
from collections.abc import Mapping
from pathlib import Path

from .local import LocalStore
from .objects import ObjectStore
from .sink import Sink, Stored

__all__ = ["LocalStore", "ObjectStore", "Sink", "Stored", "open_store"]


def open_store(
    place: str | os.PathLike[str], meta: Mapping[str, str] | None = None
) -> LocalStore | ObjectStore:
    """Return the store of an address: `s3://bucket/prefix` and its like, or a folder's path.

    Args:
        meta: what a bucket is to put beside each object, such as `cache-control`.
    """
    if isinstance(place, str) and "://" in place:
        if place.startswith("file://"):
            return LocalStore(place.removeprefix("file://"))
        return ObjectStore(place, meta=meta)
    return LocalStore(Path(place))
