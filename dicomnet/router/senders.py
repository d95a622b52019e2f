"""What sends to a destination: a sender takes deliveries, and says of each what became of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from .. import uids
from ..client import Client, Retry
from ..client.batch import Outcome, Stored, committed
from ..client.sync.store import COMMIT_AT_ONCE, StoreScu
from ..dataset import codec
from ..errors import (
    AssociationAborted,
    AssociationRejected,
    ConnectionFailed,
    DeadlineExceeded,
    DicomNetError,
    InputFileError,
    InvalidArgument,
    NoAcceptedContext,
    ServiceFailure,
)
from ..protocol.negotiation import ProposedContext
from ..services.user import Commitment
from ..status import Status
from ..sync.association import connect
from .actions import Prefetch, Retrieve
from .conditions import uid_of
from .destinations import DimseDestination
from .prefetch import fetched
from .queue import Delivery

__all__ = ["LEARNED", "DimseSender", "Load", "Result", "Sender", "Verdict", "verdict_on"]

_UNREACHABLE = ConnectionFailed | DeadlineExceeded | AssociationAborted
#: Once, and once more for the one at which an association ends: it is named as the culprit if it does so alone.
_RETRY = Retry(attempts=2, first=0.5)
_IDLE = 20.0  # seconds for which an association is kept
#: Seconds for which it is remembered that a peer takes no instances of a class in a transfer syntax.
LEARNED = 300.0


class Verdict(Enum):
    """What became of a delivery at its destination."""

    DELIVERED = "delivered"
    BUSY = "busy"  # not now: out of resources
    REFUSED = "refused"  # the destination does not want it; it is offered a few times more
    UNREADABLE = "unreadable"  # its bytes cannot be sent, whatever the destination
    UNREACHABLE = "unreachable"  # the destination is not there; the delivery has nothing to do with that


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict on a delivery, and the destination's words."""

    delivery: Delivery
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """A delivery, and the source of what is to be sent, which is another instance where a rule edits it.

    Attributes:
        convert: transfer syntaxes to be preferred, by its rule.
        names: what files are named by, where that has changed: values by keyword.
        note: what was done to it, for the ledger.
        fetch: it is not to be sent, but studies are wanted from there.
    """

    delivery: Delivery
    source: Any
    convert: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    fetch: Prefetch | Retrieve | None = None


class Sender(Protocol):
    """Sends to one destination, for one worker."""

    def send(self, loads: Sequence[Load]) -> Iterator[Result]:
        """Send these, in their order; a result for each, as it comes.

        Leaving the loop stops after what is on its way.
        """

    def abort(self) -> None:
        """End what is under way, from another thread: `send` says that it has failed."""

    def close(self) -> None:
        """Let go of connections; nothing is under way any more."""


class DimseSender:
    """Stores at a peer, over associations that are kept for the next deliveries.

    Args:
        destination: the peer.
        title: our own title.
    """

    def __init__(self, destination: DimseDestination, title: str) -> None:
        self._destination, self._title = destination, title
        self._scus: dict[tuple[str, tuple[str, ...]], StoreScu] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._refused: dict[tuple[str, str], tuple[str, float]] = {}

    def send(self, loads: Sequence[Load]) -> Iterator[Result]:
        """See `Sender.send`."""
        for one in loads:
            if one.fetch is not None:
                yield self._fetched(one, one.fetch)
            elif one.delivery.message != "C-STORE":
                yield self._told(one)
        stored = [one for one in loads if one.fetch is None and one.delivery.message == "C-STORE"]
        for calling, convert, group in self._groups(stored):
            wanted = []
            for one in group:
                why = self._learned(one.delivery)
                if why:
                    one.source.close()
                    yield Result(one.delivery, Verdict.REFUSED, why)
                else:
                    wanted.append(one)
            if wanted:
                yield from self._store(self._scu(calling, convert), wanted)

    def _fetched(self, load: Load, wanted: Prefetch | Retrieve) -> Result:
        """Have the peer send studies."""
        calling = self._destination.calling or self._title
        try:
            with Client(self._destination.entity, calling=calling, tls=self._destination.tls()) as client:
                return Result(load.delivery, Verdict.DELIVERED, fetched(client, load, wanted))
        except DicomNetError as error:
            return Result(load.delivery, _verdict_of(error), str(error))
        finally:
            load.source.close()

    def _told(self, load: Load) -> Result:
        """Send a message on as it came, over an association of its own."""
        item, usual = load.delivery, self._destination.calling or self._title
        calling = (item.calling or usual) if self._destination.pass_calling else usual
        syntaxes = tuple(dict.fromkeys((item.ts, uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN)))
        contexts = [ProposedContext(item.cls, syntaxes)]
        try:
            with closing(load.source) as source:
                dataset = codec.decode(b"".join(map(bytes, source.chunks(2))), item.ts)
            tls = self._destination.tls()
            with connect(self._destination.entity, calling=calling, contexts=contexts, tls=tls) as to:
                send = to.n_create if item.message == "N-CREATE" else to.n_set
                send(item.cls, item.uid, dataset)
        except ServiceFailure as error:
            return Result(item, verdict_on(error.status), str(error))
        except DicomNetError as error:
            return Result(item, _verdict_of(error), str(error))
        return Result(item, Verdict.DELIVERED)

    def _learned(self, delivery: Delivery) -> str:
        """Why the peer takes none of this kind, as it has said a moment ago."""
        why, since = self._refused.get((delivery.cls, delivery.ts), ("", 0.0))
        return why if why and time.monotonic() - since < LEARNED else ""

    def _groups(self, loads: Sequence[Load]) -> Iterator[tuple[str, tuple[str, ...], list[Load]]]:
        """What may share an association: with one calling title, by one way of converting."""
        groups: dict[tuple[str, tuple[str, ...]], list[Load]] = {}
        for one in loads:
            usual = self._destination.calling or self._title
            calling = (one.delivery.calling or usual) if self._destination.pass_calling else usual
            groups.setdefault((calling, one.convert), []).append(one)
        for (calling, convert), group in groups.items():
            yield calling, convert, group

    def _scu(self, calling: str, convert: tuple[str, ...]) -> StoreScu:
        with self._lock:
            if self._closed:
                raise InvalidArgument("the router stops")
            scu = self._scus.get((calling, convert))
            if scu is None:
                scu = StoreScu(
                    self._destination.entity, calling=calling, tls=self._destination.tls(), retry=_RETRY, idle=_IDLE,
                    transcode=[uid_of(one) for one in convert] or self._destination.convert,
                    commit=self._destination.commit,
                )  # fmt: skip
                self._scus[calling, convert] = scu
            return scu

    def _store(self, scu: StoreScu, loads: Sequence[Load]) -> Iterator[Result]:
        by_source = {id(one.source): one.delivery for one in loads}
        there: list[Stored] = []
        try:
            with closing(scu.send([one.source for one in loads])) as results:
                for stored in results:
                    if self._destination.commit and _is_there(stored):
                        there.append(stored)
                        continue
                    found = self._result(by_source[id(stored.source)], stored)
                    if found is not None:
                        yield found
            for stored in _commitments(scu, there):
                found = self._result(by_source[id(stored.source)], stored)
                if found is not None:
                    yield found
        finally:
            for one in loads:
                one.source.close()

    def _result(self, delivery: Delivery, stored: Stored) -> Result | None:
        if self._destination.commit:
            if stored.ok and stored.outcome is not Outcome.COMMITTED:
                return None  # the peer's word comes later
            if stored.outcome is Outcome.NOT_COMMITTED:
                unreachable = isinstance(stored.error, _UNREACHABLE)
                verdict = Verdict.UNREACHABLE if unreachable else Verdict.REFUSED
                return Result(delivery, verdict, f"no commitment: {stored.reason}")
        if stored.ok:
            return Result(delivery, Verdict.DELIVERED, "" if stored.outcome is not Outcome.WARNING else stored.reason)
        verdict = _verdict(stored)
        if verdict is Verdict.REFUSED and isinstance(stored.error, NoAcceptedContext):
            self._refused[delivery.cls, delivery.ts] = stored.reason, time.monotonic()
        return Result(delivery, verdict, stored.reason)

    def abort(self) -> None:
        """See `Sender.abort`."""
        with self._lock:
            for scu in self._scus.values():
                scu.interrupt()

    def close(self) -> None:
        """See `Sender.close`."""
        with self._lock:
            self._closed = True
            scus, self._scus = self._scus, {}
        for scu in scus.values():
            scu.stop()
            scu.close()


def _is_there(stored: Stored) -> bool:
    """The peer stores it not, since it has it; that says nothing of a commitment."""
    return stored.status == Status.DUPLICATE_SOP_INSTANCE and stored.outcome is not Outcome.NOT_COMMITTED


def _commitments(scu: StoreScu, there: Sequence[Stored]) -> Iterator[Stored]:
    """Ask for commitment of what the peer had before, as the batch did of what it has just stored."""
    for start in range(0, len(there), COMMIT_AT_ONCE):
        some = there[start : start + COMMIT_AT_ONCE]
        answer: Commitment | DicomNetError
        try:
            answer = scu.client.commit([(one.sop_class_uid, one.sent_as) for one in some])
        except DicomNetError as error:
            answer = error
        for one in some:
            yield committed(one, answer)


def _verdict_of(error: DicomNetError) -> Verdict:
    """What an error that is no answer to a message says of it."""
    if isinstance(error, AssociationRejected):
        return Verdict.UNREACHABLE if error.is_transient else Verdict.REFUSED
    return Verdict.UNREACHABLE if isinstance(error, _UNREACHABLE) else Verdict.REFUSED


def _verdict(stored: Stored) -> Verdict:
    if stored.status is not None:
        return verdict_on(stored.status)
    error = stored.error
    if isinstance(error, InputFileError) or stored.outcome is Outcome.UNREADABLE:
        return Verdict.UNREADABLE
    if stored.under_way:  # alone, twice: it may be why the association ends
        return Verdict.REFUSED
    if isinstance(error, AssociationRejected | NoAcceptedContext):
        return _verdict_of(error)
    if isinstance(error, InvalidArgument):
        return Verdict.UNREADABLE
    return Verdict.UNREACHABLE if isinstance(error, DicomNetError | None) else Verdict.REFUSED


def verdict_on(status: Status) -> Verdict:
    """What a status of C-STORE that is neither success nor a warning says of a delivery."""
    if status == Status.DUPLICATE_SOP_INSTANCE:
        return Verdict.DELIVERED
    return Verdict.BUSY if status.is_out_of_resources else Verdict.REFUSED
