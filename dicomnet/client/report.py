"""The report of a batch: a line of JSON for each result, from which a batch that broke off goes on."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from ..errors import InputFileError, InputProblem, OutputFileError, cannot_read, cannot_write

__all__ = ["Report"]

Key = tuple[str, str]

_encode = json.JSONEncoder(ensure_ascii=False).encode  # made once: to make one takes as long as a line


class Report:
    """Lines of JSON; each is in the system's hands when `write` returns, and on the disk after `close`.

    Args:
        path: the file.
        resume: go on with the one that is there, if there is one.

    Attributes:
        acknowledged: what it says is stored, by SOP Instance UID and source; and the UID that it was sent as.
        committed: of these, what the peer has taken responsibility for.

    Raises:
        OutputFileError: it cannot be written, or is there and not to be resumed.
        InputFileError: what is there is no report; which line it is.
    """

    def __init__(self, path: str | os.PathLike[str], *, resume: bool) -> None:
        self.path: str = os.fspath(path)
        self.acknowledged: dict[Key, str] = {}
        self.committed: set[Key] = set()
        self._lock = threading.Lock()
        whole = self._load() if resume else 0
        try:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | (0 if resume else os.O_EXCL)
            self._fd = os.open(self.path, flags, 0o666)
            os.ftruncate(self._fd, whole)
            os.lseek(self._fd, 0, os.SEEK_END)
        except FileExistsError as error:
            raise OutputFileError(
                "there is a report already",
                path=self.path,
                errno=error.errno,
                hint="Resume it, or give another name.",
            ) from error
        except OSError as error:
            raise cannot_write(error, self.path) from error

    def _load(self) -> int:
        """Read what was acknowledged; the bytes up to the end of the last whole line."""
        try:
            with open(self.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise cannot_read(error, self.path) from error
        whole = data.rfind(b"\n") + 1  # a line that was cut off says nothing
        for number, line in enumerate(data[:whole].splitlines(), 1):
            self._take(line, number)
        return whole

    def _take(self, line: bytes, number: int) -> None:
        try:
            record = json.loads(line.decode("utf-8", "surrogateescape"))
            key = str(record["sop_instance_uid"]), str(record["source"])
            outcome, sent_as = record["outcome"], str(record["sent_as"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputFileError(
                f"line {number} is no line of a report", problem=InputProblem.CANNOT_READ, path=self.path
            ) from error
        if outcome in ("stored", "warning"):
            self.acknowledged[key] = sent_as
        elif outcome == "committed":
            self.committed.add(key)

    def write(self, record: dict[str, Any]) -> None:
        """Append a line."""
        text = _encode(record)
        try:
            line = text.encode() + b"\n"
        except UnicodeEncodeError:  # the name of a file need not be UTF-8, and JSON is
            line = json.dumps(record).encode() + b"\n"
        try:
            with self._lock:
                while line:
                    line = line[os.write(self._fd, line) :]
        except OSError as error:
            raise cannot_write(error, self.path) from error

    def close(self) -> None:
        """Have it on the disk, and close it."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            os.fsync(fd)
        except OSError as error:
            raise cannot_write(error, self.path) from error
        finally:
            os.close(fd)
