"""Which engine keeps blobs: a directory, or a bucket of an object store, by one setting."""

from __future__ import annotations

from pathlib import Path

from .blob_store import BlobStore
from .bucket import is_bucket
from .object_store import Counted, ObjectStore
from .segments import DISK, SegmentStore
from .single_files import FileTemplate

__all__ = ["CACHE_NAME", "open_blobs"]

CACHE_NAME = "cache"  # in the directory of what uses an object store


def open_blobs(
    storage: str, directory: Path, counted: Counted, *, durability: str = DISK, template: str | None = None
) -> BlobStore:
    """Open a blob store.

    Args:
        storage: a directory, relative to ``directory``, or ``s3://…`` (see `bucket`).
        directory: of the archive, on this machine.
        counted: how many instances the index has under some keys.
        durability: of a directory: "disk" or "os"; an object store confirms as it was set up to.
        template: of a directory: a file for each instance, named so.

    Raises:
        InvalidArgument: the bucket cannot be used.
    """
    if is_bucket(storage):
        return ObjectStore(storage, directory / CACHE_NAME, counted=counted)
    files = None if template is None else FileTemplate(template)
    return SegmentStore(directory / storage, durability=durability, template=files)
