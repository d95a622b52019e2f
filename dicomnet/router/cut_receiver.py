"""The router's C-STORE: into the spool by groups, or on to a destination while it arrives (see `cut_through`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from typing import Any

from ..log import log, log_failure
from ..repository.blob_store import BlobStore, BlobWriter
from ..repository.deferred import Deferred
from ..repository.disk import DiskWatch
from ..repository.incoming import LANE_BYTES, BlobSink, Incoming, Memory
from ..repository.receiving import Receiver
from ..repository.single_files import PartFile
from ..services.provider_requests import Arrival, StoreRequest
from ..status import Status
from ..wire.element_walk import header_of
from .cut_through import CutThrough
from .facts import Facts
from .ledger import Ledger
from .senders import Verdict, verdict_on
from .spool import Accepted, PassedOn, Spool
from .transit import Answer, Transit

__all__ = ["CutReceiver"]


class _Sink(BlobSink):
    """Takes a data set, and begins to pass it on as soon as its header has come."""

    def __init__(
        self, begin: Callable[[bytes, bool], Transit | None], store: BlobStore, uids: tuple[str, str, str],
        header: bytes, memory: Memory,
    ) -> None:  # fmt: skip
        super().__init__(store, uids, header, memory)
        self._begin: Callable[[bytes, bool], Transit | None] | None = begin
        self._before: list[bytes] = []  # as long as it is not decided
        self.transit: Transit | None = None

    def write(self, views: Sequence[bytes | memoryview]) -> None:
        """See `BlobSink.write`."""
        pieces = list(map(bytes, views))
        if self._begin is not None:
            self._before += pieces
            self._decide()
        super().write(pieces)
        if self.transit is not None:
            self.transit.write(self._before or pieces)
            self._before = []

    def _decide(self) -> None:
        """Pass it on, if its header has come and it may be; a header that is too long is not waited for."""
        data = b"".join(self._before)
        header = header_of(data, self._uids[2])
        if header is not None and len(header) < len(data):
            self._ask(header, False)
        elif len(data) > LANE_BYTES:
            self._begin = None
        if self._begin is None and self.transit is None:
            self._before = []

    def _ask(self, head: bytes, whole: bool) -> None:
        begin, self._begin = self._begin, None
        assert begin is not None
        self.transit = begin(head, whole)

    def end(self) -> Transit | None:
        """All of it has come; its transit, where it is passed on."""
        if self._begin is not None:  # a short one, without pixels
            self._ask(b"".join(self._before), True)
            if self.transit is not None:
                self.transit.write(self._before)
            self._before = []
        if self.transit is not None:
            self.transit.end()
        return self.transit

    def _take_lane(self) -> None:
        if self.transit is None:  # else it is most likely not to be kept, and memory has it quicker
            super()._take_lane()

    def _spill(self) -> None:
        super()._spill()
        if self.transit is not None and isinstance(self._writer, PartFile):
            self.transit.follow(self._writer.reader(), len(self._header))

    def discard(self) -> None:
        """See `BlobSink.discard`."""
        if self.transit is not None and not self._taken:
            self.transit.leave()
        super().discard()


class CutReceiver(Receiver[Accepted]):
    """Receives for a router.

    Args:
        spool: where what is received goes.
        disk: says whether there is room.
        commit: makes a group durable.
        cuts: passes on what rules want passed on.
        told: called with the name of each destination that has taken an instance so.
        written: called when the database says so, too.

    Attributes:
        ledger: where that is written down.
    """

    def __init__(
        self,
        spool: Spool,
        disk: DiskWatch,
        commit: Callable[[Sequence[Incoming]], Sequence[Accepted | Exception]],
        cuts: CutThrough,
        told: Callable[[str], object],
        written: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(spool.blobs, disk, commit, turns=True, who="the router")
        self._spool, self._cuts, self._told = spool, cuts, told
        self.ledger: Ledger = Ledger(spool, written)

    def _sink(self, arrival: Arrival, named: tuple[str, str, str], header: bytes) -> BlobSink:
        if not self._cuts.is_wanted:
            return super()._sink(arrival, named, header)
        begin = partial(self._begun, arrival.calling, arrival.called, arrival.address, named)
        return _Sink(begin, self._spool.blobs, named, header, self._memory)

    def _begun(
        self, calling: str, called: str, address: str, named: tuple[str, str, str], head: bytes, whole: bool
    ) -> Transit | None:
        cls, _, syntax = named
        try:
            facts = Facts(
                head, syntax, cls, calling=calling, called=called, address=address, at=self._now(),
                wanted=self._spool.plans.current[1].wanted, whole=whole,
            )  # fmt: skip
            return self._cuts.begin(facts, named, f"{calling} {address}")
        except Exception as error:  # whatever a data set may hold: the spool takes it, and says so
            log_failure("an instance cannot be passed on while it arrives", error)
            return None

    def _now(self) -> datetime:
        return self._spool.now()

    def store(self, request: StoreRequest) -> Future[Status]:
        """See `Receiver.store`; of what is passed on the destination's status."""
        sink = request.sink
        transit = sink.end() if isinstance(sink, _Sink) else None
        if transit is None:
            return super().store(request)
        assert isinstance(sink, _Sink)
        status: Deferred[Status] = Deferred()
        settle = partial(self._answer, status, sink, request.calling)
        try:
            incoming, writer = sink.take(request.calling, request.called, request.address)
        except OSError as error:
            transit.leave()
            settle(error)
            return status
        come = partial(self._answered, status, sink, incoming, writer, transit)
        transit.answer.add_done_callback(lambda future: come(future.result()))
        return status

    def _answered(
        self, status: Deferred[Status], sink: _Sink, incoming: Incoming, writer: BlobWriter | None, transit: Transit,
        answer: Answer,
    ) -> None:  # fmt: skip
        """The destination has answered, or the queue is to take it over."""
        settle: Callable[[Any], object] = partial(self._answer, status, sink, incoming.calling)
        said = answer.status
        if said is None:
            if writer is None:
                self._hand(incoming, settle)
                self.committer.turn()
            else:
                self._finish(writer, incoming, settle)
            return
        incoming.discard()
        if not (said.is_warning or verdict_on(said) is Verdict.DELIVERED or said.is_success):
            log.info("an instance from %s is refused by %s: %s", incoming.calling, transit.new.destination, said)
            self._say(status, sink, said, kept=False)
            return
        self._told(transit.new.destination)
        passed = PassedOn(incoming, transit.facts, transit.new, "" if said.is_success else str(said))
        try:
            self.ledger.note(passed)
        except OSError as error:
            settle(error)
            return
        self._say(status, sink, said if said.is_warning else Status(Status.SUCCESS), kept=True)

    def _say(self, status: Deferred[Status], sink: _Sink, word: Status, *, kept: bool) -> None:
        sink.released()
        self._count(failed=not kept)
        status.set_result(word)

    def close(self) -> None:
        """See `Receiver.close`."""
        super().close()
        self.ledger.close()
