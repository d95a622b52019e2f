"""C-STORE into a repository: all classes in all syntaxes, acknowledged once they are durable (PS3.4 Annex B)."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Generic, TypeVar

from sqlalchemy.exc import DBAPIError

from .. import uids
from .._pdu import AssociateRQ
from ..errors import LocalProtocolError, ServiceFailure, escaped
from ..files.part10 import meta_header
from ..log import log
from ..protocol.admission import Refusal
from ..protocol.negotiation import Caller
from ..services.provider_requests import Arrival, StoreRequest
from ..services.service_registry import Registering
from ..status import Status
from .attributes import MissingElement
from .blob_store import BlobStore, BlobWriter
from .bucket import StoreUnavailable
from .committer import Committer
from .deferred import Deferred
from .disk import DiskState, DiskWatch
from .incoming import BlobSink, Incoming, Memory
from .intake import Mismatch

__all__ = ["DiskRoom", "Receiver"]

R = TypeVar("R")
_Settle = Callable[[R | Exception], object]

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_TEMPORARY_CONGESTION = 2, 3, 1  # transient, by the provider (presentation related), PS3.8 Table 9-21


class DiskRoom:
    """No association while the disk is full: an `AdmissionRule`."""

    def __init__(self, disk: DiskWatch) -> None:
        self._disk = disk

    def evaluate(self, request: AssociateRQ, caller: Caller) -> Refusal | None:
        """See `AdmissionRule.evaluate`."""
        if self._disk.state() is DiskState.REJECT:
            return Refusal(*_TEMPORARY_CONGESTION, "the disk is full")
        return None


class Receiver(Generic[R]):
    """Stores what is sent.

    Args:
        blobs: where bytes go.
        disk: says whether there is room.
        commit: makes a group durable; what it says of an instance, or the exception that stands for it.
        turns: what comes in one turn of a listener's loop is a group; the loop calls `committer.turn`.
        who: what is told to senders that cannot be served, as "the archive".
        watch: gives what settles a request in place of what is to; None: nothing watches.

    Attributes:
        committer: makes groups durable.
        stored, failed: how many instances were acknowledged, and how many were not.
    """

    def __init__(
        self,
        blobs: BlobStore,
        disk: DiskWatch,
        commit: Callable[[Sequence[Incoming]], Sequence[R | Exception]],
        *,
        turns: bool = False,
        who: str = "the archive",
        watch: Callable[[StoreRequest, _Settle[R]], _Settle[R]] | None = None,
    ) -> None:
        self._blobs, self._disk, self._who = blobs, disk, who
        self.watch: Callable[[StoreRequest, _Settle[R]], _Settle[R]] | None = watch
        self._memory = Memory()
        self.committer: Committer[Incoming, R] = Committer(
            commit, turns=turns, at_once=blobs.at_once, size=_in_memory, most_bytes=blobs.most_bytes
        )
        self._lock = threading.Lock()
        self.stored: int
        self.failed: int
        self.stored = self.failed = 0

    def register(self, services: Registering, owner: str) -> None:
        """Offer storage of every class, those that dicomnet does not know included."""
        services.on_store(sink=self.open, unknown_classes=True, inline=True, owner=owner)(self.store)

    def open(self, arrival: Arrival) -> BlobSink:
        """Where a data set that is about to arrive goes.

        Raises:
            ServiceFailure: it is refused before it has come: the disk is full, or its UIDs are none.
        """
        command = arrival.command
        named = command.affected_sop_class_uid or "", command.affected_sop_instance_uid or ""
        self._check(named, arrival.calling)
        syntax = arrival.context.transfer_syntax
        return self._sink(arrival, (*named, syntax), meta_header(*named, syntax, arrival.calling))

    def _sink(self, arrival: Arrival, named: tuple[str, str, str], header: bytes) -> BlobSink:
        """Where it goes, with its UIDs and file meta information."""
        return BlobSink(self._blobs, named, header, self._memory)

    def _check(self, named: tuple[str, str], calling: str) -> None:
        for uid, name, tag in zip(named, ("Class", "Instance"), (0x00000002, 0x00001000), strict=True):
            if uid not in uids.STORAGE_CLASSES and not uids.is_valid(uid):
                log.info('an instance from %s is refused: "%s" is no SOP %s UID', calling, escaped(uid), name)
                comment = f"Affected SOP {name} UID is no UID"
                raise ServiceFailure(Status(Status.INVALID_SOP_INSTANCE, comment=comment, offending=(tag,)), comment)
        if self._disk.state() is not DiskState.ROOM:
            log.info("an instance from %s is refused: the disk is nearly full", calling)
            raise ServiceFailure(Status(Status.OUT_OF_RESOURCES, comment="the disk is nearly full"), "the disk is full")

    def store(self, request: StoreRequest) -> Future[Status]:
        """Commit an instance that has arrived; its status once it is durable."""
        sink = request.sink
        assert isinstance(sink, BlobSink)
        status: Deferred[Status] = Deferred()
        settle: _Settle[R] = partial(self._answer, status, sink, request.calling)
        if self.watch is not None:
            settle = self.watch(request, settle)
        try:
            incoming, writer = sink.take(request.calling, request.called, request.address)
        except OSError as error:
            settle(error)
            return status
        if writer is None:
            self._hand(incoming, settle)
        else:
            self._finish(writer, incoming, settle)
        return status

    def _finish(self, writer: BlobWriter, incoming: Incoming, settle: Callable[[R | Exception], object]) -> None:
        """Have the disk confirm a large instance first, which small ones need not wait for."""

        def finished(done: Future[None]) -> None:
            error = done.exception()
            if isinstance(error, Exception):
                writer.discard()
                settle(error)
            else:
                self._hand(incoming, settle)
                self.committer.turn()

        self._blobs.finish(writer).add_done_callback(finished)

    def _hand(self, incoming: Incoming, settle: Callable[[R | Exception], object]) -> None:
        try:
            self.committer.hand(incoming, settle)
        except LocalProtocolError as error:
            settle(error)

    def _answer(self, status: Deferred[Status], sink: BlobSink, calling: str, result: R | Exception) -> None:
        """What became of an instance, for its sender; where the association is over, nothing waits for it."""
        sink.released()
        failed = isinstance(result, Exception)
        self._count(failed=failed)
        status.set_result(self._status_of(result, calling) if isinstance(result, Exception) else Status.SUCCESS)

    def _count(self, *, failed: bool) -> None:
        with self._lock:
            self.stored += not failed
            self.failed += failed

    def _status_of(self, error: BaseException, calling: str) -> Status:
        if isinstance(error, MissingElement):
            return _mismatch(error.message, error.tag, calling)
        if isinstance(error, Mismatch):
            return _mismatch(error.message, error.tag, calling)
        if isinstance(error, OSError):
            if error.errno in _NO_ROOM:
                self._disk.failed()
            # Of an object store that is away a line tells for all that it was to take.
            level = logging.INFO if isinstance(error, StoreUnavailable) else logging.ERROR
            log.log(level, "an instance from %s cannot be stored: %s", calling, error.strerror or error)
            return Status(Status.OUT_OF_RESOURCES, comment=f"{self._who} cannot write")
        if isinstance(error, DBAPIError):
            return Status(Status.OUT_OF_RESOURCES, comment="the index cannot be written")
        log.error("an instance from %s cannot be stored: %s", calling, type(error).__name__)
        return Status(Status.PROCESSING_FAILURE, comment="processing failure")

    def close(self) -> None:
        """Commit what has arrived; nothing more is taken."""
        self.committer.close()


def _in_memory(incoming: Incoming) -> int:
    return incoming.blob.length if isinstance(incoming.blob.content, list) else 0


def _mismatch(comment: str, tag: int, calling: str) -> Status:
    log.info("an instance from %s is refused: %s", calling, comment)
    return Status(Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, comment=comment, offending=(tag,))
