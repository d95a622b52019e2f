"""The provider behind `dicomnet recv`: keeps or discards, counts, and stops when it is told to."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from time import monotonic, time
from types import FrameType
from typing import Any

from ..config import LAST_CALL
from ..errors import OutputFileError, escaped
from ..files.dataset_sink import DiscardSink, Sink
from ..files.duplicates import commit_apart
from ..files.file_sink import own_path
from ..files.placing import sweep
from ..log import log
from ..net.sockets import address_of
from ..services.provider_requests import Arrival, StoreRequest
from ..status import Status
from ..sync import Listener
from ..uids import is_valid
from .layout import Layout
from .output import Output, counted, rate

__all__ = ["Receiver"]

_COUNTED = ("begun", "kept", "bytes", "first", "last")  # data sets; seconds of the first and the last of them


class Receiver(Listener):
    """A listener that stores every instance as a file, or nowhere.

    Args:
        directory: where files go; None discards.
        output: what is told.
        any_class: also take SOP classes that dicomnet does not know.
        durable: have the disk confirm each file before the response.
        on_duplicate: what becomes of an instance whose file is there already: "number" keeps both, but the same bytes
            once; "replace" takes its place; "refuse" keeps the first, and the sender is told.
        layout: names files below the directory; None calls each after its UID.
        run: a command for each file, its words; ``{file}``, ``{calling}`` and ``{uid}`` in them are put in.
        options: as of `Listener`.
    """

    def __init__(
        self,
        directory: str | None,
        output: Output,
        *,
        any_class: bool = False,
        durable: bool = False,
        on_duplicate: str = "number",
        run: Sequence[str] = (),
        layout: Layout | None = None,
        **options: Any,
    ) -> None:
        super().__init__(last_call=LAST_CALL, counting=_COUNTED, **options)
        self._directory = directory
        self._output = output
        # For people who watch; a program that reads lines asks for them, and who does neither is not slowed down.
        watched = output.json or sys.stdout.isatty()
        self._begun = False
        self._talks = output.verbosity >= 1 or (output.verbosity == 0 and watched)
        self._durable = durable
        self._on_duplicate = on_duplicate
        self._command = run
        self._layout = layout
        # To commit a file takes microseconds; what waits for the disk or a program, or writes lines, may block.
        inline = not (durable or run or self._talks)
        wanted: dict[str, Any] = {"elements": layout.elements} if layout is not None and layout.elements else {}
        self.on_store(sink=self._open, unknown_classes=any_class, inline=inline, **wanted)(self._keep)

    def _open(self, arrival: Arrival) -> Sink:
        """A data set begins to arrive: where it goes."""
        if not self._begun:
            self._begun = True
            self.board.note("first", monotonic())
        self.board.add("begun")
        if self._directory is None:
            return DiscardSink()
        return arrival.file_sink(self._directory, durable=self._durable)

    def _keep(self, request: StoreRequest) -> Status:
        path = None
        if self._directory is not None:
            path = self._commit(request, self._directory)
            if path is None:
                self._output.warn(f"{request.calling}: refused, it is here already: {request.sop_instance_uid}")
                return Status.DUPLICATE_SOP_INSTANCE
        board = self.board
        board.add("kept")
        board.add("bytes", request.size)
        board.note("last", monotonic())
        if self._talks:
            try:
                self._tell(request, path)
            except OSError:  # the reader of our output went away; what was stored is stored
                self._talks = False
        if self._command and path is not None:
            self._run(request, path)
        return Status.SUCCESS

    def _commit(self, request: StoreRequest, directory: str) -> str | None:
        """Give the file its name; None where another has it and is to keep it."""
        uid, calling = request.sop_instance_uid, request.calling
        # A name that a peer made up never becomes a path.
        name = f"{uid}.dcm" if is_valid(uid) else os.path.basename(own_path(directory))
        if self._layout is not None:
            name = self._layout.name_of(request, name.removesuffix(".dcm"))
        if self._on_duplicate == "number":
            return commit_apart(request.file, name, directory, sender=calling, uid=uid)
        try:
            return request.file.commit(name, root=directory, replace=False)
        except OutputFileError as error:
            if error.errno != errno.EEXIST:
                raise
        if self._on_duplicate == "refuse":
            return None
        log.info("%s sent %s, which is here already: it is replaced", escaped(calling), escaped(uid))
        return request.file.commit(name, root=directory)

    def _run(self, request: StoreRequest, path: str) -> None:
        """The command of --exec, without a shell: what a peer made up stays one word."""
        known = {"{file}": path, "{calling}": request.calling, "{uid}": request.sop_instance_uid}
        words = list(self._command)
        for name, value in known.items():
            words = [word.replace(name, value) for word in words]
        try:
            code = subprocess.run(words, stdin=subprocess.DEVNULL, check=False).returncode
        except OSError as error:
            self._output.warn(f"{words[0]}: cannot be run: {error.strerror}")
            return
        if code:
            self._output.warn(f"{words[0]}: ended with {code} for {path}")

    def _tell(self, request: StoreRequest, path: str | None) -> None:
        self._output.say(f"{request.calling}: {path or request.sop_instance_uid}, {request.size} bytes")
        self._output.record(
            file=path,
            sop_class_uid=request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            transfer_syntax_uid=request.transfer_syntax_uid,
            size=request.size,
            calling=request.calling,
            called=request.called,
            address=request.address,
        )

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM; the second of them does not wait for associations in flight.

        Raises:
            ConnectionFailed: it cannot listen.
        """
        self.open()
        if self._directory is not None:
            for name in sweep(self._directory, time()):
                self._output.warn(f"{name}: deleted, a program that was killed left it")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        # Even when quiet: the program that starts this one waits for the line, and learns the port from it.
        print(f"listening on {address_of(self.address)}", flush=True)
        try:
            self.serve_forever()
        except KeyboardInterrupt:
            self.hurry()
        self._sum_up()

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        if self.stopping:
            raise KeyboardInterrupt
        self.stop()

    def _sum_up(self) -> None:
        board = self.board
        kept, size, failed = board.total("kept"), board.total("bytes"), board.total("begun") - board.total("kept")
        failed += board.total("requests_refused")
        first = min(filter(None, board.values("first")), default=0.0)
        seconds = max(max(board.values("last")) - first, 0.0)
        line = f"{counted(kept, 'instance')} received: {rate(size, seconds)}"
        self._output.summary(
            f"{line}; {failed} failed" if failed else line,
            instances=kept,
            bytes=size,
            seconds=seconds,
            failed=failed,
        )
