"""The add-in `exec`: runs a program for each event of some types. There is no shell, and nothing is quoted.

::

    [addin.exec]
    command = ["/usr/local/bin/on-stored", "{type}", "{sop_instance_uid}"]
    types = ["storage-folder.stored"]

Each argument is a template over the event's type and data; the event itself, as JSON, is the program's standard input.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections import deque
from string import Formatter
from typing import Annotated

from pydantic import AfterValidator, Field

from ..context import AddInContext
from ..events import Event
from ..hookspecs import hookimpl
from ..settings import Seconds, Table

__all__ = ["Exec"]


def _checked(command: tuple[str, ...]) -> tuple[str, ...]:
    for part in command:
        for _, name, form, conversion in Formatter().parse(part):
            if form or conversion or (name is not None and not name.isidentifier()):
                raise ValueError(f'"{part}": expected names alone in braces, as in {{type}}')
    if "{" in command[0]:
        raise ValueError("the program itself cannot come from an event")
    return command


class Exec:
    """Runs a program for each event of some types, without a shell."""

    class Settings(Table):
        """``[addin.exec]``."""

        command: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_checked)]
        """The program and its arguments."""
        types: tuple[str, ...]
        """The types of events that it is run for; "client" takes all that begin with it."""
        timeout: Seconds = 60
        """Seconds that it gets; then it is killed."""
        most: Annotated[int, Field(ge=1)] = 1000
        """Events that may wait; later ones are dropped, and counted."""

    @hookimpl
    def start(self, context: AddInContext) -> None:
        """Begin to listen."""
        self.context = context
        self.settings: Exec.Settings = context.settings
        self.dropped: int = 0
        self._waiting: deque[Event] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="dicomnet-exec", daemon=True)
        self._thread.start()
        self._end = context.listen(self._put)

    def _put(self, event: Event) -> None:
        if not any(event.type == one or event.type.startswith(f"{one}.") for one in self.settings.types):
            return
        with self._changed:
            if len(self._waiting) >= self.settings.most:
                self.dropped += 1
                return
            self._waiting.append(event)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or bool(self._waiting))
                if not self._waiting:
                    return
                event = self._waiting.popleft()
            self._execute(event)

    def _execute(self, event: Event) -> None:
        values = {**event.data, "type": event.type, "id": event.id}
        command = [part.format_map(_Values(values)) for part in self.settings.command]
        try:
            done = subprocess.run(
                command, input=json.dumps(event.as_json()).encode(), capture_output=True, timeout=self.settings.timeout,
                check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired, ValueError) as error:
            self.context.log.error("%s did not run: %s", command[0], type(error).__name__)
            return
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            self.context.log.error("%s ended with %s: %s", command[0], done.returncode, said[-1] if said else "")

    @hookimpl
    def stop(self) -> None:
        """End, once what waits has run."""
        self._end()
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(self.settings.timeout)


class _Values(dict[str, object]):
    """What an event does not have is empty."""

    def __missing__(self, key: str) -> str:
        return ""
