"""The progress bar: on standard error, only on a terminal, and only once a batch turns out to be long."""

from __future__ import annotations

import sys
from time import monotonic
from typing import Any

__all__ = ["Progress"]

# Loading what draws takes a tenth of a second: whoever waits less than this does not pay for it.
_PATIENCE = 1.0


class Progress:
    """Counts bytes, and draws a bar once it is worth it.

    Args:
        total: bytes of the whole batch.
        wanted: False never draws.
    """

    def __init__(self, total: int, *, wanted: bool) -> None:
        self._total = total
        self._wanted = wanted and sys.stderr.isatty()
        self._begin = monotonic()
        self._done = 0
        self._bar: Any = None
        self._task: Any = None

    def advance(self, size: int) -> None:
        """So many bytes more are done."""
        self._done += size
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)
        elif self._wanted and self._done < self._total and monotonic() - self._begin > _PATIENCE:
            self._open()

    def _open(self) -> None:
        self._wanted = False
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
        self._task = self._bar.add_task("", total=self._total, completed=self._done)
        self._bar.start()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
