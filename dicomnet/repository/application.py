"""What applications over a repository share when they run by themselves: their settings' file, and how they serve."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import InvalidArgument
from ..sync import Listener

__all__ = ["Application", "read_settings"]


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
