"""Files that an add-in keeps for what is not done yet: each is whole and on the disk, or not there at all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from .. import uids
from ..files.own_files import PART, replace_file

__all__ = ["KeptFiles"]


class KeptFiles:
    """Files in a folder of an add-in's own, one for each UID.

    Args:
        folder: made where it is missing.
        suffix: of the files, with its dot.
        log: of the add-in.
    """

    def __init__(self, folder: Path, suffix: str, log: logging.Logger) -> None:
        self._folder, self._suffix, self._log = folder, suffix, log
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f".*{suffix}{PART}"):  # of a process that ended while it wrote
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
        replace_file(self._path(uid), data)

    def remove(self, uid: str) -> None:
        """Keep it no more; where the disk does not let go of it, that is logged, and it comes again at a restart."""
        path = self._path(uid)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._log.error("%s cannot be removed: %s", path, error.strerror)

    def read(self) -> Iterator[tuple[str, bytes]]:
        """What is kept, what was kept first before the rest; what cannot be read is logged, and stays."""
        paths = [path for path in self._folder.glob(f"*{self._suffix}") if not path.name.startswith(".")]
        for path in sorted(paths, key=lambda one: (one.stat().st_mtime_ns, one.name)):
            uid = path.name.removesuffix(self._suffix)
            try:
                if uids.is_valid(uid):
                    yield uid, path.read_bytes()
            except OSError as error:
                self._log.error("%s cannot be read: %s", path, error.strerror)
