"""Files that dicomnet keeps for itself: what it takes to have them, and their names, on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["PART", "make_directory", "replace_file", "sync_directory", "write_all"]

#: The end of the name of a file that is being written.
PART = ".part"
_IOV_MAX = max(os.sysconf("SC_IOV_MAX"), 16)


def write_all(fd: int, buffers: Sequence[bytes | memoryview]) -> int:
    """Write all buffers; how many bytes that were.

    Raises:
        OSError: part of them may have been written.
    """
    total = sum(map(len, buffers))
    written = os.writev(fd, buffers) if 0 < len(buffers) <= _IOV_MAX else 0
    if written < total:
        _write_rest(fd, buffers, written)
    return total


def _write_rest(fd: int, buffers: Sequence[bytes | memoryview], written: int) -> None:
    """Write what comes after so many bytes."""
    left = [memoryview(one) for one in buffers]
    while True:
        first = 0
        while first < len(left) and written >= len(left[first]):
            written -= len(left[first])
            first += 1
        left = left[first:]
        if not left:
            return
        left[0] = left[0][written:]
        written = os.writev(fd, left[:_IOV_MAX])


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def sync_directory(path: Path) -> None:
    """Have the disk confirm the names in a directory."""
    with _directory(path) as fd:
        os.fsync(fd)


def make_directory(path: Path) -> None:
    """Make a directory, and have the disk confirm its name; one that exists is taken."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Put a file in the place of another: whatever fails, one of them is there, whole. Those who may read it stay."""
    part = path.with_name(f".{path.name}{PART}")
    try:
        with part.open("wb") as file:
            with suppress(FileNotFoundError):
                part.chmod(path.stat().st_mode & 0o777)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
