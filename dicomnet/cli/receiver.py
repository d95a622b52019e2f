"""The provider behind `dicomnet recv`: keeps or discards, counts, and stops when it is told to."""

from __future__ import annotations

import signal
import sys
from time import monotonic
from types import FrameType
from typing import Any

from ..files.dataset_sink import DiscardSink, Sink, own_path, uid_path
from ..services.provider_requests import Arrival, StoreRequest
from ..sync import Listener
from ..uids import is_valid
from .output import Output, counted, rate

__all__ = ["Receiver"]

class Receiver(Listener):
    """A listener that stores every instance as a file, or nowhere.

    Args:
        directory: where files go; None discards.
        output: what is told.
        any_class: also take SOP classes that dicomnet does not know.
        durable: have the disk confirm each file before the response.
        options: as of `Listener`.
    """

    _counted: tuple[str, ...] = (*Listener._counted, "begun", "kept", "bytes", "first", "last")

    def __init__(
        self,
        directory: str | None,
        output: Output,
        *,
        any_class: bool = False,
        durable: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._directory = directory
        self._output = output
        # For people who watch; a program that reads lines asks for them, and who does neither is not slowed down.
        watched = output.json or sys.stdout.isatty()
        self._begun = False
        self._kept = self._board.counting("kept", "bytes")
        self._talks = output.verbosity >= 1 or (output.verbosity == 0 and watched)
        self._durable = durable
        self.on_store(sink=self._open, unknown_classes=any_class)(self._keep)

    def _open(self, arrival: Arrival) -> Sink:
        """A data set begins to arrive: where it goes."""
        if not self._begun:
            self._begun = True
            self._board.note("first", monotonic())
        self._board.add("begun")
        if self._directory is None:
            return DiscardSink()
        return arrival.file_sink(self._directory, durable=self._durable)

    def _keep(self, request: StoreRequest) -> None:
        path = None
        if self._directory is not None:
            uid = request.sop_instance_uid
            # A name that a peer made up never becomes a path.
            path = uid_path(self._directory, uid) if is_valid(uid) else own_path(self._directory)
            request.file.commit(path)
        self._kept(1, request.size)
        self._board.note("last", monotonic())
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

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        if self._stopping.is_set():
            raise KeyboardInterrupt
        self.stop()

    def _sum_up(self) -> None:
        board = self._board
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
