"""One server in a directory at a time."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

from ..errors import InvalidArgument

__all__ = ["DirectoryLock"]


class DirectoryLock:
    """Holds a server's directory for the block; the system lets go of it when the process ends, however it does.

    Raises:
        InvalidArgument: another server runs there.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "run" / "lock"
        self._descriptor = -1

    def __enter__(self) -> DirectoryLock:
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            other = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise InvalidArgument(
                f"another server runs in {self._path.parent.parent}: process {other or 'unknown'}",
                hint="Stop it first, or use another directory.",
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def holder(directory: Path) -> int | None:
    """The process that holds a directory; None where no server runs there."""
    path = directory / "run" / "lock"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None


def wait_until_free(directory: Path, patience: float) -> bool:
    """Wait until no server runs in a directory; False where one still does after so many seconds."""
    path = directory / "run" / "lock"

    def wait() -> None:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH)

    # A lock cannot be waited for with a time-out: a thread waits, and is left behind where that takes too long.
    thread = threading.Thread(target=wait, name="dicomnet-lock", daemon=True)
    thread.start()
    thread.join(patience)
    return not thread.is_alive()
