"""The provider behind `dicomnet recv`: keeps or discards, counts, and stops when it is told to."""

from __future__ import annotations

import signal
import sys
import threading
from time import monotonic
from types import FrameType
from typing import Any

from ..exchange import Exchange
from ..requests import StoreRequest
from ..sinks import DiscardSink, Sink, own_path, uid_path
from ..sync import Listener
from ..uids import is_valid
from .output import Output, counted, rate

__all__ = ["Receiver"]

_TIDYING = 2.0  # seconds that the threads of associations get that were cut off


class Receiver(Listener):
    """A listener that stores every instance as a file, or nowhere.

    Args:
        directory: where files go; None discards.
        output: what is told.
        any_class: also take SOP classes that dicomnet does not know.
        options: as of `Listener`.
    """

    def __init__(self, directory: str | None, output: Output, *, any_class: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._directory = directory
        self._output = output
        # For people who watch; a program that reads lines asks for them, and who does neither is not slowed down.
        watched = output.json or sys.stdout.isatty()
        self._talks = output.verbosity >= 1 or (output.verbosity == 0 and watched)
        self._counting = threading.Lock()
        self._begun = self._kept = self._size = 0
        self._first = self._last = 0.0
        self.on_store(spool=directory, unknown_classes=any_class)(self._keep)

    def open_sink(self, exchange: Exchange, context: Any, command: Any) -> Sink:
        """As a provider does, but into nothing where nothing is kept. A data set begins to arrive."""
        service = self.service_for(command, context.abstract_syntax)
        with self._counting:
            self._begun += service is not None
            self._first = self._first or monotonic()
        if service is not None and self._directory is None:
            return DiscardSink()
        return super().open_sink(exchange, context, command)

    def _keep(self, request: StoreRequest) -> None:
        path = None
        if self._directory is not None:
            uid = request.sop_instance_uid
            # A name that a peer made up never becomes a path.
            path = uid_path(self._directory, uid) if is_valid(uid) else own_path(self._directory)
            request.file.commit(path)
        with self._counting:
            self._kept += 1
            self._size += request.size
            self._last = monotonic()
        if self._talks:
            try:
                self._tell(request, path)
            except OSError:  # nobody reads any more; what was stored is stored
                self._talks = False

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
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        host, port = self.address
        # Even when quiet: whoever starts this program waits for the line, and learns the port from it.
        print(f"listening on [{host}]:{port}" if ":" in host else f"listening on {host}:{port}", flush=True)
        try:
            self.serve_forever()
        except KeyboardInterrupt:
            self._hurry()
        self._sum_up()

    def _hurry(self) -> None:
        """End every association at once, and let their threads tidy up."""
        for worker in self._snapshot():
            worker.driver.transport.interrupt()
        self.drain = _TIDYING
        self._drain()

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        if self._stopping.is_set():
            raise KeyboardInterrupt
        self.stop()

    def _sum_up(self) -> None:
        seconds = max(self._last - self._first, 0.0)
        failed = self._begun - self._kept
        line = f"{counted(self._kept, 'instance')} received: {rate(self._size, seconds)}"
        self._output.summary(
            f"{line}; {failed} failed" if failed else line,
            instances=self._kept,
            bytes=self._size,
            seconds=seconds,
            failed=failed,
        )
