"""The progress bar: on standard error, only on a terminal, and only once a batch turns out to be long."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from threading import Lock
from time import monotonic
from typing import Any

from ..dataset import codec
from ..errors import DicomNetError
from ..files.instance_source import Source

__all__ = ["Progress", "Watched"]

# Loading what draws takes a tenth of a second: a user who waits less than this does not pay for it.
_PATIENCE = 1.0


class Progress:
    """Counts bytes, and draws a bar once it is worth it.

    Args:
        total: gives the bytes of the whole batch, as far as they are known.
        wanted: False never draws.

    Attributes:
        wanted: whether a user watches.
    """

    def __init__(self, total: Callable[[], int], *, wanted: bool) -> None:
        self.wanted: bool = wanted and sys.stderr.isatty()
        self._waits = self.wanted
        self._total = total
        self._lock = Lock()
        self._begin = monotonic()
        self._done = 0
        self._bar: Any = None
        self._task: Any = None

    def advance(self, size: int) -> None:
        """So many bytes more are done."""
        with self._lock:
            self._done += size
            if self._bar is not None:
                self._bar.update(self._task, completed=self._done, total=self._total())
            elif self._waits and self._done < self._total() and monotonic() - self._begin > _PATIENCE:
                self._waits = False
                self._open()

    def _open(self) -> None:
        try:
            from rich import progress
            from rich.console import Console
        except ImportError:  # the extra installs it; without it there is no bar
            return
        self._bar = progress.Progress(
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.DownloadColumn(binary_units=True),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True),  # which honours NO_COLOR
            transient=True,
        )
        self._task = self._bar.add_task("", total=self._total(), completed=self._done)
        self._bar.start()

    def watched(self, given: Any) -> Any:
        """What is to be stored, as a source that counts what of it has gone."""
        try:
            return Watched(codec.open_source(given), self)
        except DicomNetError:
            return given  # its reader finds out why

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class Watched:
    """A source that tells a progress how far it is.

    Args:
        source: what is sent.
        progress: is told of each piece that is asked for.
    """

    def __init__(self, source: Source, progress: Progress) -> None:
        self._source = source
        self._progress = progress

    def chunks(self, unit: int) -> Iterator[memoryview]:
        """As of the source."""
        for chunk in self._source.chunks(unit):
            try:
                yield chunk
            finally:  # after the last one nothing is asked for any more
                self._progress.advance(len(chunk))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()
