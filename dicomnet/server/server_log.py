"""The server's log: a line of JSON or text for each record, to a file that can be rotated under it."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

import structlog

from .settings import LogSettings

__all__ = ["ServerLog"]

#: Records of the same kind about the same peer, in a minute; past it they are counted, and told of once.
MOST_ALIKE = 10
MOST_PEERS = 4096
_MINUTE = 60.0


class _File(logging.StreamHandler[TextIO]):
    """Writes to a file; a disk that is full, or gone, costs records, and nothing else."""

    def __init__(self, path: Path | None) -> None:
        super().__init__(sys.stderr)
        self.path = path
        self.lost = 0
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.stream = _open(path)

    def reopen(self) -> None:
        """Open the file anew, after it was moved away."""
        if self.path is None:
            return
        self.acquire()
        try:
            before, self.stream = self.stream, _open(self.path)
            _close(before)
        except OSError:
            self.lost += 1
        finally:
            self.release()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Count what could not be written."""
        self.lost += 1

    def close(self) -> None:
        """Close the file."""
        super().close()
        if self.path is not None:
            _close(self.stream)


def _open(path: Path) -> TextIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    return os.fdopen(descriptor, "a", encoding="utf-8", buffering=1)


def _close(stream: TextIO) -> None:
    """Close a file, whose last lines the disk may not take."""
    try:
        stream.close()
    except OSError:
        pass


class _Limiter(logging.Filter):
    """Lets through a few records of a kind about one peer each minute, so that scanners fill no log."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._seen: dict[tuple[Any, ...], tuple[float, int]] = {}
        self.suppressed: int = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this one is written."""
        if record.levelno > logging.INFO or not isinstance(record.args, tuple) or not record.args:
            return True
        key = (record.name, record.msg, *(str(one).rpartition(":")[0] or str(one) for one in record.args[:2]))
        with self._lock:
            since, count = self._seen.pop(key, (record.created, 0))
            if not 0 <= record.created - since < _MINUTE:
                since, count = record.created, 0
            self._seen[key] = since, count + 1
            if len(self._seen) > MOST_PEERS:
                del self._seen[next(iter(self._seen))]
            if count == MOST_ALIKE:
                record.msg, record.args = f"{record.getMessage()} (more like this are left out for a minute)", ()
            self.suppressed += count > MOST_ALIKE
        return count <= MOST_ALIKE


class ServerLog:
    """Where the records of ``dicomnet`` go while a server runs; started and stopped with it."""

    def __init__(self, settings: LogSettings) -> None:
        self._settings = settings
        self._handler: _File | None = None
        self._logger = logging.getLogger("dicomnet")
        self.limiter: _Limiter = _Limiter()

    @property
    def lost(self) -> int:
        """How many records could not be written."""
        return 0 if self._handler is None else self._handler.lost

    def start(self) -> None:
        """Begin to write."""
        self._handler = _File(self._settings.file)
        self._handler.setFormatter(_formatter(self._settings.format))
        self._handler.addFilter(self.limiter)
        self._logger.addHandler(self._handler)
        self.level(self._settings.level)

    def level(self, level: str) -> None:
        """What is the least that is written."""
        if self._handler is not None:
            self._handler.setLevel(level.upper())
        self._logger.setLevel(min(self._logger.level or logging.CRITICAL, logging.getLevelName(level.upper())))

    def reopen(self) -> None:
        """Open the file anew."""
        if self._handler is not None:
            self._handler.reopen()

    def stop(self) -> None:
        """Write no more."""
        if self._handler is not None:
            self._logger.removeHandler(self._handler)
            self._handler.close()
            self._handler = None


def _formatter(kind: str) -> logging.Formatter:
    render: Any = structlog.processors.JSONRenderer() if kind == "json" else structlog.dev.ConsoleRenderer(colors=False)
    before: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            render,
        ],
    )
