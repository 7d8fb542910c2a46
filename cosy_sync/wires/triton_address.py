"""Which model at which Triton server: by the URL, by `model`, or by both alike."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from ..errors import ConfigError
from .base import SpeechOptions

__all__ = ["Address", "read_address"]

_GRPC = ("grpc", "grpcs")

# Of an URL's path, as the server itself has it: what stands before, the model, and its version.
_PATH = re.compile(r"(.*?)(?:/v2)?(?:/models/([^/]+)(?:/versions/([^/]+))?(?:/infer)?)?/*")
# What an infer request names.
_WORD = re.compile(r"[^/\x00-\x1f\x7f]{1,256}")


class Address(NamedTuple):
    """One model: `root` is the server's URL without a path of Triton's own, `query` may be empty.

    An empty `version` leaves it to the server.
    """

    root: str
    query: str
    model: str
    version: str

    @property
    def is_grpc(self) -> bool:
        """Return whether it is asked over gRPC."""
        return self.root.startswith(_GRPC)

    @property
    def infer_url(self) -> str:
        """Return where inference is asked for over HTTP."""
        version = f"/versions/{quote(self.version, safe='')}" if self.version else ""
        path = f"/v2/models/{quote(self.model, safe='')}{version}/infer"
        return f"{self.root}{path}{'?' if self.query else ''}{self.query}"


def read_address(url: str, options: SpeechOptions) -> Address:
    """Return the address that an endpoint's URL and `model` give.

    Raises ConfigError without a model, for two different ones, and for a URL of no such server.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", *_GRPC):
        raise ConfigError(
            f"url: the wire 'triton' needs http://, https://, grpc:// or grpcs://, not "
            f"{parts.scheme}://; give such a URL, such as grpc://tts.example.com:8001"
        )
    found = _PATH.fullmatch(parts.path)
    assert found is not None
    before, named, version = found[1], unquote(found[2] or ""), unquote(found[3] or "")
    if parts.scheme in _GRPC and (parts.port is None or before or parts.query):
        raise ConfigError(
            "url: Triton's gRPC address has a host and a port, and at most its model, such as "
            "grpc://tts.example.com:8001 or grpc://tts.example.com:8001/v2/models/cosyvoice2"
        )
    if named and options.model not in (None, named):
        raise ConfigError(
            f"model: the URL asks for {named!r}, the setting for {options.model!r}; leave one out"
        )
    model = named or options.model
    if model is None:
        raise ConfigError(
            "model: the wire 'triton' asks for a model by its name at the server; give it, such "
            "as model='cosyvoice2' (what the server calls it: its folder in the model repository)"
        )
    if not _WORD.fullmatch(model):
        raise ConfigError(f"model: {model!r:.60} is no name of a model at a Triton server")
    return Address(f"{parts.scheme}://{parts.netloc}{before}", parts.query, model, version)
