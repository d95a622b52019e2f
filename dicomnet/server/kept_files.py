"""Files that an add-in keeps for what is not done yet: each is whole and on the disk, or not there at all."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from .. import uids

__all__ = ["KeptFiles"]


class KeptFiles:
    """Files in a folder of an add-in's own, one for each UID.

    Args:
        folder: made where it is missing.
        suffix: of the files, with its dot.
    """

    def __init__(self, folder: Path, suffix: str) -> None:
        self._folder, self._suffix = folder, suffix
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f".*{suffix}"):  # of a process that ended while it wrote
            left.unlink(missing_ok=True)

    def _path(self, uid: str) -> Path:
        if not uids.is_valid(uid):
            raise ValueError("no UID")
        return self._folder / f"{uid}{self._suffix}"

    def put(self, uid: str, data: bytes) -> None:
        """Keep this, in the place of what was kept; it survives a loss of power once this returns.

        Raises:
            OSError: the disk does not take it; what was kept before is there still.
        """
        path = self._path(uid)
        part = path.with_name(f".{path.name}")
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self, uid: str) -> None:
        """Keep it no more."""
        self._path(uid).unlink(missing_ok=True)

    def read(self, log: logging.Logger) -> Iterator[tuple[str, bytes]]:
        """What is kept, what was kept first before the rest; what cannot be read is logged, and stays."""
        paths = [path for path in self._folder.glob(f"*{self._suffix}") if not path.name.startswith(".")]
        for path in sorted(paths, key=lambda one: (one.stat().st_mtime_ns, one.name)):
            uid = path.name.removesuffix(self._suffix)
            try:
                if uids.is_valid(uid):
                    yield uid, path.read_bytes()
            except OSError as error:
                log.error("%s cannot be read: %s", path, error.strerror)
