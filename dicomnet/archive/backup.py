"""Backup: a consistent copy of an archive, beside a live server, and only of what is new the next time.

The copy is an archive itself: what it has beyond its index, since segments grow while they are copied, is indexed when
it is opened. Restoring is copying it back, or running it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidArgument
from ..repository.durable import make_directory, sync_directory
from .holdings import INDEX_NAME, Holdings
from .settings import FILE_NAME

__all__ = ["BackedUp", "backup"]

_FOLDERS = ("segments", "large", "files")
_PART = ".part"


@dataclass(frozen=True, slots=True)
class BackedUp:
    """How much was copied, and how much was there from the last time."""

    copied: int
    bytes: int
    unchanged: int


def backup(holdings: Holdings, target: Path, *, progress: Callable[[int], None]) -> BackedUp:
    """Copy an archive.

    Args:
        holdings: the archive; it may serve, but nothing is to be deleted or compacted meanwhile.
        target: a folder: a new one, or that of the last backup, in which only what is new is copied.
        progress: called with how many bytes more are copied.

    Raises:
        InvalidArgument: the target is another archive's, or the index is PostgreSQL's, whose own tools copy it.
        OSError: it cannot be written.
    """
    if not holdings.database.is_sqlite:
        raise InvalidArgument(
            "an index in PostgreSQL is copied by PostgreSQL's own tools", hint="pg_dump it, then copy the blobs."
        )
    if target.resolve() == holdings.directory.resolve():
        raise InvalidArgument("an archive cannot be its own backup")
    root = target / "blobs"
    for folder in ("active", *_FOLDERS):
        make_directory(root / folder)
    # The index first: what it knows is in the blobs that are copied afterwards.
    _copy_index(holdings.directory / INDEX_NAME, target / INDEX_NAME)
    for claim in _files(holdings.blobs.root / "active"):
        (root / "active" / claim.name).touch()
    copied = size = unchanged = 0
    for path in _blobs(holdings.blobs.root):
        written = _copy(path, root / path.relative_to(holdings.blobs.root))
        copied, size, unchanged = copied + bool(written), size + written, unchanged + (not written)
        progress(written)
    _copy_settings(holdings.directory / FILE_NAME, target / FILE_NAME)
    return BackedUp(copied, size, unchanged)


def _copy_index(source: Path, target: Path) -> None:
    part = target.with_name(target.name + _PART)
    part.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(part)) as copy:
        live.backup(copy, pages=4096)
    for leftover in ("-wal", "-shm"):
        target.with_name(target.name + leftover).unlink(missing_ok=True)
    _settle(part, target)


def _copy_settings(source: Path, target: Path) -> None:
    """With the places that a copy has."""
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.partition("=")[0].strip() not in ("storage", "database")]
    target.write_text("".join(kept), encoding="utf-8")


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.glob("*")) if path.is_file())


def _blobs(root: Path) -> Iterator[Path]:
    for folder in _FOLDERS:
        yield from (path for path in sorted((root / folder).rglob("*")) if path.is_file())


def _copy(source: Path, target: Path) -> int:
    """The bytes that were copied: 0 where the copy is there: as long, and of the time of its source's last change.

    The length alone does not tell: what is written to a segment as it arrives gets its header last.
    """
    try:
        there = source.stat()
        if target.exists() and (target.stat().st_size, target.stat().st_mtime_ns) == (there.st_size, there.st_mtime_ns):
            return 0
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + _PART)
        shutil.copyfile(source, part)
        os.utime(part, ns=(there.st_atime_ns, there.st_mtime_ns))
    except FileNotFoundError:
        return 0  # deleted meanwhile
    _settle(part, target)
    return there.st_size


def _settle(part: Path, target: Path) -> None:
    fd = os.open(part, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(part, target)
    sync_directory(target.parent)
