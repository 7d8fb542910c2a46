"""A bucket of an object store: S3 and what speaks like it, Google's, Azure's."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from ..errors import ConfigError
from .sink import Stored

__all__ = ["ObjectStore", "hangs_here"]

_T = TypeVar("_T")

# Facts that a store knows itself; it keeps all others as the user's.
_HEADERS = {
    "content-type": "Content-Type",
    "cache-control": "Cache-Control",
    "content-disposition": "Content-Disposition",
    "content-encoding": "Content-Encoding",
    "content-language": "Content-Language",
}
# What a store answers beside the status.
_SAID = re.compile(r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>")
# A refusal of the keys, where the library's error has no class of its own for it.
_DENIED = re.compile(r"\b(401 Unauthorized|403 Forbidden)\b")
# Its own gives up after ten times, which it has had within 2 s.
_RETRY = {
    "max_retries": 1_000,
    "retry_timeout": timedelta(minutes=3),
    "backoff": {
        "init_backoff": timedelta(seconds=0.2),
        "max_backoff": timedelta(seconds=10),
        "base": 3,
    },
}
# A connection that was dropped: the library repeats no conditional write after it, as it may have
# arrived. Here it may be repeated: what is found then is our own or another's of the same key.
_DROPPED = re.compile(r"- HTTP error: ")
_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
# The process that used the library first: in its children, the library hangs.
_first_user = 0


class ObjectStore:
    """Keeps objects in a bucket, through obstore (extra `storage`).

    An object appears whole or not at all, and `put` returns when the store has it. Transient
    failures (5xx, time-outs, dropped connections) are repeated for up to 3 minutes; the setting
    `retry_config` changes that. Of a write whose reply was lost, `put` with `if_absent` may say
    that the object was there: it was its own.

    Args:
        url: `s3://bucket/prefix`, `gs://bucket/prefix` or `az://account/container/prefix`.
        meta: what is put beside each object, unless `put` says otherwise, such as
            `cache-control`.
        settings: what obstore takes beside it, such as `region`, `endpoint` (with
            `client_options={"allow_http": True}` for plain http), `access_key_id`,
            `secret_access_key`, `skip_signature`; what is left out comes from AWS_*, GOOGLE_* and
            AZURE_* variables, or the machine's role.

    Raises ConfigError where obstore is not installed or a setting is wrong. Its methods raise
    PermissionError where the keys may not do it, and OSError where the store cannot do it now.
    A process that has used one must not fork: in the child, every method raises ConfigError.
    """

    def __init__(self, url: str, *, meta: Mapping[str, str] | None = None, **settings: Any) -> None:
        self.address = url.rstrip("/")
        self._meta = dict(meta or {})
        self._settings = {"retry_config": _RETRY, **settings}
        # Made on first use: what is made before a fork hangs in the child.
        self._made: Any = None

    def put(
        self,
        key: str,
        data: bytes,
        meta: Mapping[str, str] | None = None,
        *,
        if_absent: bool = False,
    ) -> bool:
        """Keep an object; return whether it was made."""
        attributes = _attributes({**self._meta, **(meta or {})})
        obstore, store = self._open()
        mode = "create" if if_absent else "overwrite"
        try:
            self._do(
                key,
                lambda: obstore.put(
                    *(store, key, data), attributes=attributes, mode=mode, use_multipart=False
                ),
            )
        except FileExistsError:
            return False
        return True

    def put_file(self, key: str, path: str | os.PathLike[str], meta: Mapping[str, str]) -> None:
        """Keep a file, also a large one; it replaces what is there."""
        attributes = _attributes({**self._meta, **meta})
        obstore, store = self._open()
        with open(path, "rb") as file:
            self._do(key, lambda: obstore.put(store, key, file, attributes=attributes))

    def get(self, key: str) -> bytes:
        """Return an object. Raises FileNotFoundError where there is none."""
        obstore, store = self._open()
        return self._do(key, lambda: bytes(obstore.get(store, key).bytes()))

    def head(self, key: str) -> Stored | None:
        """Return an object's size and what was put beside it; None where there is none."""
        obstore, store = self._open()
        try:
            found = self._do(key, lambda: obstore.get(store, key, options={"head": True}))
        except FileNotFoundError:
            return None
        return _stored(found)

    def fetch(self, key: str) -> tuple[bytes, Stored] | None:
        """Return an object and what is known of it; None where there is none."""
        obstore, store = self._open()

        def get() -> tuple[bytes, Stored]:
            found = obstore.get(store, key)
            stored = _stored(found)  # first: nothing can be asked of what was read
            return bytes(found.bytes()), stored

        try:
            return self._do(key, get)
        except FileNotFoundError:
            return None

    def swap(self, key: str, data: bytes, tag: str | None) -> str | None:
        """Replace an object if it still has this tag (None: if there is none); return its new tag.

        Returns None where another process was faster: of several that try, one succeeds.
        """
        obstore, store = self._open()
        mode = "create" if tag is None else {"e_tag": tag}
        put = functools.partial(obstore.put, store, key, data, mode=mode, use_multipart=False)
        try:
            return str(self._do(key, put)["e_tag"])
        except (FileExistsError, FileNotFoundError):
            return None

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin with `prefix`."""
        obstore, store = self._open()
        # A store lists by whole names; what is left of the last one is looked at here.
        folder = prefix.rpartition("/")[0] or None
        pages = self._do(prefix, lambda: iter(obstore.list(store, folder, chunk_size=1_000)))
        while page := self._do(prefix, lambda: next(pages, None)):
            for meta in page:
                if meta["path"].startswith(prefix):
                    yield meta["path"]

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects, many with one request where the store can do that."""
        obstore, store = self._open()
        with contextlib.suppress(FileNotFoundError):
            self._do(keys[0] if keys else "", lambda: obstore.delete(store, list(keys)))

    def url(self, key: str, seconds: float = 3600.0) -> str:
        """Return a signed address from which everybody can read the object for so long."""
        obstore, store = self._open()
        length = timedelta(seconds=seconds)
        return self._do(key, lambda: str(obstore.sign(store, "GET", key, length)))

    def close(self) -> None:
        """Let go of the store's connections."""
        self._made = None

    def __repr__(self) -> str:
        return f"<ObjectStore {self.address}>"

    def _open(self) -> tuple[Any, Any]:
        global _first_user
        if hangs_here():
            raise ConfigError(
                f"{self.address}: this process was forked from one that had used an ObjectStore, "
                "and obstore hangs in such a child; use it only in the children, start them by "
                "spawn or forkserver, or take Boto3Store (pip install 'cosy-sync[boto3]')"
            )
        try:
            import obstore
            from obstore.store import from_url
        except ImportError:
            raise ConfigError(
                f"{self.address}: needs obstore; pip install 'cosy-sync[storage]'"
            ) from None
        _first_user = os.getpid()
        if self._made is None:
            try:
                self._made = from_url(self.address, **self._settings)
            except (obstore.exceptions.BaseError, ValueError, TypeError) as error:
                raise ConfigError(f"{self.address}: {_reason(error)}") from error
        return obstore, self._made

    def _do(self, key: str, step: Callable[[], _T]) -> _T:
        from obstore import exceptions

        retry: Any = self._settings.get("retry_config") or _RETRY
        until = time.monotonic() + retry.get("retry_timeout", timedelta()).total_seconds()
        pause = _PAUSE
        while True:
            try:
                return step()
            except (exceptions.BaseError, OSError) as error:
                if _DROPPED.search(str(error)) is None or time.monotonic() >= until:
                    raise self._told(key, error) from error
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _told(self, key: str, error: Exception) -> OSError:
        """Return what the library has raised as an error of a file system."""
        from obstore import exceptions

        place = f"{self.address}/{key}"
        if isinstance(error, (exceptions.AlreadyExistsError, FileExistsError)):
            return FileExistsError(f"{place}: is there already")
        if isinstance(error, exceptions.PreconditionError):
            return FileExistsError(f"{place}: has changed")
        if isinstance(error, (exceptions.NotFoundError, FileNotFoundError)):
            return FileNotFoundError(f"{place}: is not there")
        denied = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
        if isinstance(error, (*denied, PermissionError)) or _DENIED.search(str(error)):
            return PermissionError(
                f"{place}: the store refuses these keys (check access_key_id and "
                f"secret_access_key, or AWS_* variables): {_reason(error)}"
            )
        return OSError(f"{place}: the store cannot do it now: {_reason(error)}")


def hangs_here() -> bool:
    """Return whether this process was forked from one that had used obstore."""
    return _first_user not in (0, os.getpid())


def _stored(found: Any) -> Stored:
    meta = found.meta
    facts = {str(name).lower(): str(value) for name, value in found.attributes.items()}
    return Stored(meta["size"], facts, meta["e_tag"] or "", meta["last_modified"].timestamp())


def _attributes(meta: Mapping[str, str]) -> dict[str, str]:
    return {_HEADERS.get(name.lower(), name): value for name, value in meta.items()}


def _reason(error: BaseException) -> str:
    """Return what the store says, or else the library's first line."""
    words = str(error)
    said = _SAID.search(words)
    return f"{said[1]}: {said[2]}" if said else words.strip().partition("\n")[0][:300]
