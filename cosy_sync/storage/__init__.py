"""Where sound is kept: a folder here, or a bucket of an object store."""

from .local import LocalStore
from .sink import Sink, Stored

__all__ = ["LocalStore", "Sink", "Stored"]
