"""Which engine keeps blobs: a directory, or a bucket of an object store, by one setting."""

from __future__ import annotations

from pathlib import Path

from ..errors import InvalidArgument
from .blob_store import BlobStore
from .bucket import is_bucket
from .moving_store import MovingStore
from .object_directory import is_object
from .object_store import Counted, ObjectStore
from .segments import DISK, SegmentStore
from .single_files import FileTemplate

__all__ = ["CACHE_NAME", "open_blobs"]

CACHE_NAME = "cache"  # in the directory of what uses an object store


def open_blobs(
    storage: str,
    directory: Path,
    counted: Counted,
    *,
    durability: str = DISK,
    template: str | None = None,
    before: str = "",
) -> BlobStore:
    """Open a blob store.

    Args:
        storage: a directory, relative to ``directory``, or ``s3://…`` (see `bucket`).
        directory: of the archive, on this machine.
        counted: how many instances the index has under some keys.
        durability: of a directory: "disk" or "os"; an object store confirms as it was set up to.
        template: of a directory: a file for each instance, named so.
        before: a directory that instances are moved from, to a bucket (see `moving`); empty: none.

    Raises:
        InvalidArgument: the bucket cannot be used, or instances are to be moved elsewhere than to one.
    """
    if before:
        if is_bucket(before) or not is_bucket(storage):
            raise InvalidArgument(
                f"instances are moved from a directory to a bucket, not from {before} to {storage}",
                hint="Export them, and import them there.",
            )
        old = open_blobs(before, directory, counted, durability=durability, template=template)
        return MovingStore(open_blobs(storage, directory, counted), old, is_object)
    if is_bucket(storage):
        return ObjectStore(storage, directory / CACHE_NAME, counted=counted)
    files = None if template is None else FileTemplate(template)
    return SegmentStore(directory / storage, durability=durability, template=files)
