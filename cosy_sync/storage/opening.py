"""Stores by their addresses."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from ..errors import ConfigError
from .boto3_store import Boto3Store
from .local import LocalStore
from .objects import ObjectStore, hangs_here

__all__ = ["open_store"]

# How an address begins that lacks a colon or a slash; it would silently be a folder's name.
_CUT = re.compile(r"(s3a?|gs|az|azure|abfss?|adl|https?|file)(:/?|//)(?!/)", re.IGNORECASE)


def open_store(
    place: str | os.PathLike[str], meta: Mapping[str, str] | None = None
) -> LocalStore | ObjectStore | Boto3Store:
    """Return the store of an address: `s3://bucket/prefix` and its like, or a folder's path.

    A bucket of S3 is reached by boto3, where that is installed, under gevent and in a child that
    was forked from a process which had used obstore.

    Args:
        meta: what a bucket is to put beside each object, such as `cache-control`.

    Raises ConfigError for nothing, or for what looks like an address and is none.
    """
    if place == "":
        raise ConfigError("store: its address is empty; give a folder, or s3://bucket/prefix")
    if not isinstance(place, str) or "://" not in place:
        if isinstance(place, str) and _CUT.match(place):
            raise ConfigError(
                f"store: {place!r} is no address: they begin like s3://bucket/prefix; for a folder "
                f"of this name write ./{place}"
            )
        return LocalStore(Path(place))
    if place.startswith("file://"):
        return LocalStore(place.removeprefix("file://"))
    if place.startswith("s3://") and (hangs_here() or _is_green()) and _has_boto3():
        return Boto3Store(place, meta=meta)
    return ObjectStore(place, meta=meta)


def _is_green() -> bool:
    """Return whether gevent has made greenlets of threads: obstore would hold all of them up."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _has_boto3() -> bool:
    return importlib.util.find_spec("boto3") is not None
