"""Where sound is kept: a folder here, or a bucket of an object store."""

from .boto3_store import Boto3Store
from .local import LocalStore
from .objects import ObjectStore
from .opening import open_store
from .sink import Bucket, Sink, Stored

__all__ = ["Boto3Store", "Bucket", "LocalStore", "ObjectStore", "Sink", "Stored", "open_store"]
