"""`Ledger`: lines about what destinations took while it arrived, written without holding up the sender.

A transaction for each such instance would take as long as to pass it on. So a line goes to a file first, which survives
the end of the program, and from there to the database, many at a time. What a program that was killed left in the file
is written by the next one.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..log import log, log_failure
from .spool import Line, PassedOn, Spool

__all__ = ["FILE_NAME", "Ledger"]

FILE_NAME = "passed-on.log"
#: Seconds for which lines are gathered: people who look see them after that.
GATHERED = 0.1
#: Lines of a transaction, and lines that may wait for one before who sends waits, too.
MOST_AT_ONCE, MOST_WAITING = 500, 10_000
#: Bytes of the file past which who sends waits until the database has all lines: it begins anew only when none waits.
MOST_BYTES = 16 << 20
#: Seconds between two attempts to write to a database that fails, and for which others wait for that.
PAUSE, PATIENCE = 1.0, 10.0


class Ledger:
    """The lines of a spool.

    Args:
        spool: with the database. One router has it open to serve.
        told: called when lines are in the database.
    """

    def __init__(self, spool: Spool, told: Callable[[], object] = lambda: None) -> None:
        self._spool, self._told = spool, told
        self._waiting: list[Line] = []
        self._changed = threading.Condition()
        self._is_closed = self._is_hurried = self._is_gone = False
        self._size = 0  # of the file
        self._thread = threading.Thread(target=self._run, name="dicomnet-router-ledger", daemon=True)
        self._file = os.open(spool.directory / FILE_NAME, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self._recover()

    def _recover(self) -> None:
        """Write what a program that was killed left; a line that was not written to its end was not acknowledged."""
        left = os.pread(self._file, os.fstat(self._file).st_size, 0)
        lines = [line for line in map(_line_of, left.split(b"\n")[:-1]) if line is not None]
        for start in range(0, len(lines), MOST_AT_ONCE):
            self._spool.write_down(lines[start : start + MOST_AT_ONCE], again=True)
        os.ftruncate(self._file, 0)
        if lines:
            log.info("%d lines of instances that were passed on are written down now", len(lines))

    def note(self, passed: PassedOn) -> None:
        """Have a line written; when this returns, it survives the end of the program.

        Raises:
            OSError: it cannot be kept, or the ledger is closed.
        """
        line = self._spool.line_of(passed)
        text = json.dumps([line.row | {"sha": line.row["sha"].hex()}, line.series, line.delivery]).encode() + b"\n"
        with self._changed:
            if not self._changed.wait_for(self._has_room, PATIENCE):
                raise TimeoutError(f"{len(self._waiting)} lines wait for the database")
            if self._is_gone:  # its number may be another file's by now
                raise OSError(errno.EBADF, "the ledger is closed")
            self._append(text)
            self._waiting.append(line)
            if not self._thread.ident:  # late: a process that forks is best alone
                self._thread.start()
            if len(self._waiting) in (1, MOST_AT_ONCE):
                self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._is_gone or (len(self._waiting) < MOST_WAITING and self._size < MOST_BYTES)

    def _append(self, text: bytes) -> None:
        """Write a line whole, or not at all; the lock is the caller's."""
        if os.write(self._file, text) < len(text):  # the disk is full: the next line is to begin at its beginning
            os.ftruncate(self._file, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(text)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                self._changed.wait_for(self._is_due, GATHERED)
                group = self._waiting[:MOST_AT_ONCE]
            if not group:
                return
            if self._wrote(group):
                self._told()
            elif self._is_closed:  # the file has it
                return

    def _is_due(self) -> bool:
        is_full = len(self._waiting) >= MOST_AT_ONCE or self._size >= MOST_BYTES
        return self._is_closed or self._is_hurried or is_full

    def _wrote(self, group: Sequence[Line]) -> bool:
        try:
            self._spool.write_down(group)
        except Exception as error:
            log_failure("what was passed on cannot be written down yet", error)
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed, PAUSE)
            return False
        with self._changed:
            del self._waiting[: len(group)]
            if not self._waiting:
                os.ftruncate(self._file, 0)
                self._size = 0
            self._changed.notify_all()
        return True

    def settle(self, seconds: float = PATIENCE) -> None:
        """Wait until all lines up to now are in the database, for so long at most."""
        with self._changed:
            self._is_hurried = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._waiting, seconds)
            self._is_hurried = False

    def close(self) -> None:
        """Write what waits, then end."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread.ident:
            self._thread.join()
        with self._changed:
            self._is_gone = True
            os.close(self._file)


def _line_of(text: bytes) -> Line | None:
    try:
        row, series, delivery = json.loads(text)
        row["sha"] = bytes.fromhex(row["sha"])
    except (ValueError, TypeError, KeyError):
        return None
    values: dict[str, Any] = row
    return Line(values, series, delivery)
