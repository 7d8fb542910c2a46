"""A bucket of S3, or of what speaks like it, over boto3: for gevent and for forked children."""

from __future__ import annotations

import copy
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ..errors import ConfigError
from .sink import Stored

__all__ = ["Boto3Store"]

_T = TypeVar("_T")

_ADDRESS = re.compile(r"s3a?://([^/]+)/?(.*)")
# Our names of settings, which are obstore's too, and boto3's.
_SETTINGS = {
    "region": "region_name",
    "endpoint": "endpoint_url",
    "access_key_id": "aws_access_key_id",
    "secret_access_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
}
# Facts that a store knows itself; it keeps all others as the user's.
_HEADERS = {
    "content-type": "ContentType",
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
}
_CONNECTIONS = 32
# Seconds for which what may pass is repeated, and the pauses in between.
_OUTLAST = 180.0
_FIRST_PAUSE, _LONGEST_PAUSE, _FACTOR = 0.2, 10.0, 3.0
# Another conditional write of the same key is being decided: ask again.
_PASSING = {"ConditionalRequestConflict", "SlowDown", "RequestTimeout", "Throttling"}
_DENIED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}


class Boto3Store:
    """Keeps objects in a bucket of S3, through boto3 (extra `boto3`).

    It does what ObjectStore does for `s3://` at about a third of the speed, and works where that
    does not: under gevent, and in forked children of a process that has used a store. Each process
    has connections of its own. What may pass (5xx, time-outs, dropped connections) is repeated for
    up to 3 minutes.

    Args:
        url: `s3://bucket/prefix`.
        meta: what is put beside each object, unless `put` says otherwise, such as
            `cache-control`.
        settings: `region`, `endpoint`, `access_key_id`, `secret_access_key`, `session_token`, and
            what `boto3.client` takes beside them; what is left out comes from AWS_* variables,
            ~/.aws, or the machine's role.

    Raises ConfigError for another address, where boto3 is not installed or a setting is wrong. Its
    methods raise PermissionError where the keys may not do it, and OSError where the store cannot
    do it now.
    """

    def __init__(self, url: str, *, meta: Mapping[str, str] | None = None, **settings: Any) -> None:
        self._go_to(url)
        self._meta = dict(meta or {})
        self._settings = {_SETTINGS.get(name, name): value for name, value in settings.items()}
        # Made on first use, and again in a forked child. Written as a whole.
        self._made: tuple[int, Any] | None = None

    def _go_to(self, url: str) -> None:
        found = _ADDRESS.fullmatch(url)
        if found is None:
            raise ConfigError(f"{url}: Boto3Store knows s3://bucket/prefix only; use ObjectStore")
        self.address = url.rstrip("/")
        prefix = found[2].rstrip("/")
        self._bucket, self._prefix = found[1], f"{prefix}/" if prefix else ""

    def under(self, url: str) -> Boto3Store:
        """Return a store of another address with the same connections; closing one closes both."""
        self._client()
        other = copy.copy(self)
        other._go_to(url)
        return other

    def put(
        self,
        key: str,
        data: bytes,
        meta: Mapping[str, str] | None = None,
        *,
        if_absent: bool = False,
    ) -> bool:
        """Keep an object; return whether it was made."""
        facts = _facts({**self._meta, **(meta or {})})
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        try:
            self._do(key, "put_object", Body=data, **facts, **condition)
        except FileExistsError:
            return False
        return True

    def put_file(self, key: str, path: str | os.PathLike[str], meta: Mapping[str, str]) -> None:
        """Keep a file, also a large one; it replaces what is there."""
        from boto3.s3.transfer import TransferConfig

        options = TransferConfig(use_threads=False)
        facts = _facts({**self._meta, **meta})
        self._repeat(
            key,
            lambda: self._client().upload_file(
                os.fspath(path), self._bucket, self._prefix + key, facts, Config=options
            ),
        )

    def get(self, key: str) -> bytes:
        """Return an object. Raises FileNotFoundError where there is none."""
        return self._read(key)[0]

    def head(self, key: str) -> Stored | None:
        """Return an object's size and what was put beside it; None where there is none."""
        try:
            return _stored(self._do(key, "head_object"))
        except FileNotFoundError:
            return None

    def fetch(self, key: str) -> tuple[bytes, Stored] | None:
        """Return an object and what is known of it; None where there is none."""
        try:
            return self._read(key)
        except FileNotFoundError:
            return None

    def swap(self, key: str, data: bytes, tag: str | None) -> str | None:
        """Replace an object if it still has this tag (None: if there is none); return its new tag.

        Returns None where another process was faster: of several that try, one succeeds.
        """
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        try:
            return str(self._do(key, "put_object", Body=data, **condition)["ETag"])
        except (FileExistsError, FileNotFoundError):
            return None

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin with `prefix`."""
        more: dict[str, Any] = {}
        while True:
            page = self._do(None, "list_objects_v2", Prefix=self._prefix + prefix, **more)
            for found in page.get("Contents", ()):
                yield str(found["Key"]).removeprefix(self._prefix)
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; one that is not there is no error."""
        for key in keys:
            self._do(key, "delete_object")

    def url(self, key: str, seconds: float = 3600.0) -> str:
        """Return a signed address from which everybody can read the object for so long."""
        place = {"Bucket": self._bucket, "Key": self._prefix + key}
        sign = self._client().generate_presigned_url
        return self._repeat(key, lambda: str(sign("get_object", place, max(1, round(seconds)))))

    def close(self) -> None:
        """Let go of the store's connections."""
        made, self._made = self._made, None
        if made is not None and made[0] == os.getpid():
            made[1].close()

    def __repr__(self) -> str:
        return f"<Boto3Store {self.address}>"

    def _client(self) -> Any:
        made = self._made
        if made is None or made[0] != os.getpid():
            made = self._made = os.getpid(), self._open()
        return made[1]

    def _open(self) -> Any:
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError:
            raise ConfigError(
                f"{self.address}: needs boto3; pip install 'cosy-sync[boto3]'"
            ) from None
        # Checksums of its own in trailers are what other stores than Amazon's often do not know.
        config = Config(
            max_pool_connections=_CONNECTIONS,
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=5,
            read_timeout=30,
        )
        try:
            return boto3.session.Session().client("s3", **{"config": config, **self._settings})
        except (BotoCoreError, ValueError, TypeError) as error:
            raise ConfigError(f"{self.address}: {error}") from error

    def _read(self, key: str) -> tuple[bytes, Stored]:
        def read() -> tuple[bytes, Stored]:
            place = {"Bucket": self._bucket, "Key": self._prefix + key}
            found = self._client().get_object(**place)
            return found["Body"].read(), _stored(found)

        return self._repeat(key, read)

    def _do(self, key: str | None, call: str, **options: Any) -> Any:
        if key is not None:
            options["Key"] = self._prefix + key
        method = getattr(self._client(), call)
        return self._repeat(key or "", lambda: method(Bucket=self._bucket, **options))

    def _repeat(self, key: str, step: Callable[[], _T]) -> _T:
        """Do it, again and again while what fails may pass; raise what remains as it is told."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        until, pause = time.monotonic() + _OUTLAST, _FIRST_PAUSE
        while True:
            try:
                return step()
            except (BotoCoreError, ClientError, Boto3Error) as error:
                if not _may_pass(error) or time.monotonic() >= until:
                    raise self._told(key, error) from error
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(_LONGEST_PAUSE, _FACTOR * pause)

    def _told(self, key: str, error: Exception) -> Exception:
        place, (status, code) = f"{self.address}/{key}", _answer(error)
        if status == 412 or code == "PreconditionFailed":
            return FileExistsError(f"{place}: is there already, or has changed")
        if status == 404:
            return FileNotFoundError(f"{place}: is not there")
        if status in (401, 403) or code in _DENIED or "credentials" in str(error).lower():
            return PermissionError(
                f"{place}: the store refuses these keys (check access_key_id and "
                f"secret_access_key, or AWS_* variables): {error}"
            )
        return OSError(f"{place}: the store cannot do it now: {error}")


def _answer(error: Exception) -> tuple[int, str]:
    """Return the status and the code with which the store has answered; 0 where it has not."""
    said = getattr(error, "response", None) or {}
    status = said.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return int(status), str(said.get("Error", {}).get("Code", ""))


def _may_pass(error: Exception) -> bool:
    from botocore.exceptions import ConnectionError, HTTPClientError

    status, code = _answer(error)
    return (
        status >= 500 or code in _PASSING or isinstance(error, (ConnectionError, HTTPClientError))
    )


def _stored(found: Mapping[str, Any]) -> Stored:
    facts = {name: str(found[field]) for name, field in _HEADERS.items() if found.get(field)}
    facts.update({name.lower(): str(value) for name, value in found.get("Metadata", {}).items()})
    changed = found["LastModified"].timestamp()
    return Stored(int(found["ContentLength"]), facts, str(found.get("ETag", "")), changed)


def _facts(meta: Mapping[str, str]) -> dict[str, Any]:
    """Return what is put beside an object, as boto3 takes it."""
    facts: dict[str, Any] = {"Metadata": {}}
    for name, value in meta.items():
        header = _HEADERS.get(name.lower())
        if header is None:
            facts["Metadata"][name] = value
        else:
            facts[header] = value
    return facts
