"""What applications over a repository share when they run by themselves: their settings' file, and how they serve."""

from __future__ import annotations

import threading
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..config import CLOSE_PATIENCE
from ..errors import InvalidArgument
from ..log import log, log_failure
from ..sync import Listener

__all__ = ["Application", "end_together", "read_settings"]


class Application:
    """A listener, and what works beside it: an archive, a router.

    As a context manager it serves in threads of its own until the block ends.
    """

    listener: Listener

    def start(self) -> None:
        """Begin what works beside the listener.

        Raises:
            CannotListen: a port of its own is taken; nothing has begun.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End what works beside the listener, and close what it holds."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.start()
        self.listener.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.listener.__exit__(kind, error, traceback)
        finally:
            self.close()

    def serve_forever(self) -> None:
        """Serve until the listener is told to stop."""
        self.start()
        try:
            self.listener.serve_forever()
        finally:
            self.close()


def end_together(closes: Mapping[str, Callable[[], None]], *, patience: float = CLOSE_PATIENCE) -> None:
    """End what works beside a listener, all at the same time; what has not ended in time is left behind, and told.

    What is left behind is a daemon's: the process ends without it, as by a kill, after which the next start goes on.

    Args:
        closes: what ends each, by what it is.
        patience: seconds, for all of them.
    """

    def ended(what: str, close: Callable[[], None]) -> None:
        try:
            close()
        except Exception as error:
            log_failure(f"{what} does not end well", error)

    threads = {
        what: threading.Thread(target=ended, args=(what, close), name="dicomnet-close", daemon=True)
        for what, close in closes.items()
    }
    for thread in threads.values():
        thread.start()
    end = time.monotonic() + patience
    for what, thread in threads.items():
        thread.join(max(end - time.monotonic(), 0.0))
        if thread.is_alive():
            log.warning("%s has not ended after %g s, and is left behind: the next start goes on with it", what,
                        patience)  # fmt: skip


def read_settings(directory: Path, name: str, kind: str) -> dict[str, Any]:
    """What the settings' file of an application's directory says.

    Args:
        directory: of the application.
        name: of the file.
        kind: what the application is, and its command: "archive", "router".

    Raises:
        InvalidArgument: there is no such file, or it cannot be read.
    """
    path = directory / name
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        inside = directory / "data" / kind  # where a server keeps what its add-in of that name runs
        hint = f"Make one: dicomnet {kind} run {directory}"
        if (inside / name).exists():
            hint = f"It is a server, and its {kind} is {inside}"
        raise InvalidArgument(f"{directory} is no {kind}: it has no {name}", hint=hint) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidArgument(f"{path}: {error}") from error
