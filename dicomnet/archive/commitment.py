"""Storage commitment, push model: instances are read back and compared with their hashes (PS3.4 Annex J).

A request is a row before it is answered. The report comes on the requester's association while that stands and nothing
else is asked on it, else over a new one to the address that the settings have for the requester's AE title, ten times
if need be (PS3.4 Section J.3.3). A requester without an address there gets it on its own association only.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from .. import uids
from ..config import Entity
from ..dataset import codec
from ..errors import DicomNetError, InvalidArgument, ServiceFailure
from ..log import log, log_failure
from ..protocol.negotiation import ProposedContext
from ..repository.blob_source import hash_of
from ..repository.bucket import StoreUnavailable
from ..repository.outbox import Item
from ..repository.places import Place
from ..repository.trouble import log_trouble
from ..repository.work_schema import commitment
from ..services.provider_requests import NormalizedRequest
from ..services.service_registry import Registering
from ..status import Status
from ..sync import connect
from .forwarder import until_due, work_off
from .holdings import Holdings

__all__ = ["QUEUE", "CommitmentService"]

QUEUE = "commitment"
_REQUEST_ACTION = 1
_ALL_COMMITTED, _SOME_FAILED = 1, 2
_LEASE = 600.0  # seconds to check and report in; what takes longer is extended
_SAME_ASSOCIATION = 120.0  # seconds until it is reported elsewhere, from the request on, and from the report on
_TO_CHECK = 90.0  # seconds of those, in which it has to be checked to be reported on the requester's association
_MOST_REPORTED = 10_000  # reports whose rows are to be changed: of more, those that were taken are sent once more
_LEAST_PAUSE = 0.05  # seconds: a request has no lane, so that what is due can be taken
_DUPLICATE, _NO_SUCH_INSTANCE, _CONFLICT, _DAMAGED = 0x0131, 0x0112, 0x0119, 0x0110
_SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")

Reference = tuple[str, str]  # SOP class and SOP instance
Failure = tuple[str, str, int]  # with the failure reason


class _GivenUp(Exception):
    """No caller waits for a check or its report any more."""


class CommitmentService:
    """Takes responsibility for instances, and says so.

    Args:
        holdings: what is stored.
        destinations: where reports go, by AE title.
        clock: seconds since 1970; the database's by default.
    """

    def __init__(
        self, holdings: Holdings, destinations: Mapping[str, Entity], *, clock: Callable[[], float] | None = None
    ) -> None:
        self._holdings, self._destinations = holdings, destinations
        self._clock: Callable[[], float] = clock or holdings.database.clock
        self._reported: deque[tuple[str, bool]] = deque()  # transactions, and whether it was taken there
        self._taken: deque[Item] = deque()  # from the queue, and not reported yet
        self._sent: deque[Item] = deque()  # reported on associations of their own, which the queue is to know
        self._settling = threading.Lock()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._worker: threading.Thread | None = None

    @property
    def _same(self) -> bool:
        """Whether reports go on the association that asked, while it stands."""
        return self._holdings.settings.commitment_reports == "same"

    def register(self, services: Registering, owner: str) -> None:
        """Offer storage commitment."""
        services.on_n_action(uids.STORAGE_COMMITMENT_PUSH_MODEL, owner=owner)(self.requested)

    # ---- requests ----------------------------------------------------------------------------------------------

    def requested(self, request: NormalizedRequest) -> Status:
        """Take a request: it survives a crash once this returns.

        Raises:
            ServiceFailure: index or storage is away; it can be made again.
        """
        if request.action_type_id != _REQUEST_ACTION:
            return Status(Status.NO_SUCH_ACTION_TYPE)
        transaction, references = _read(request.dataset)
        if not uids.is_valid(transaction):
            return Status(Status.INVALID_ARGUMENT_VALUE, comment="Transaction UID is no UID")
        if not references:
            return Status(Status.MISSING_ATTRIBUTE, comment="no Referenced SOP Sequence")
        try:
            self._take(request, transaction, references)
        except (DBAPIError, StoreUnavailable) as error:
            if not log_trouble(
                f"{request.calling} cannot ask for commitment", error, "it is told so, and can ask again"
            ):
                raise
            refused = Status(Status.RESOURCE_LIMITATION, comment="index or storage is away")
            raise ServiceFailure(refused, "index or storage is away") from error
        self._wake.set()
        return Status.SUCCESS

    def _take(self, request: NormalizedRequest, transaction: str, references: Sequence[Reference]) -> None:
        known = request.calling in self._destinations
        is_new = self._holdings.database.transaction(
            lambda connection: self._keep(connection, request, transaction, references, known)
        )
        log.info("%s asks for commitment of %d instances", request.calling, len(references))
        if not is_new or not known:
            failed = self.check(references) if is_new else [(*one, _DUPLICATE) for one in references]
            request.report(*_event(transaction, references, failed))
        elif self._same:
            vain = threading.Event()
            made = partial(self._made, transaction, references, vain)
            request.report_when_made(made, partial(self._told, transaction, vain), deadline=_TO_CHECK)

    def _keep(
        self,
        connection: Connection,
        request: NormalizedRequest,
        transaction: str,
        references: Sequence[Reference],
        known: bool,
    ) -> bool:
        """Whether it is new: the same request again, after a response that was lost, is."""
        text = json.dumps(references)
        row = connection.execute(select(commitment).where(commitment.c.uid == transaction)).mappings().first()
        if row is not None and (row["calling"], row["request"]) != (request.calling, text):
            return False
        if row is None:
            values = {"uid": transaction, "calling": request.calling, "called": request.called, "request": text}
            connection.execute(insert(commitment).values(at=self._clock(), **values))
        if known:
            payload = {"transaction": transaction}
            put = self._holdings.outbox.enqueue
            delay = _SAME_ASSOCIATION if self._same else 0.0
            to = request.calling
            put(connection, QUEUE, payload, destination=to, key=transaction, retry_class="report", delay=delay)
        return True

    def _made(self, transaction: str, references: Sequence[Reference], vain: threading.Event) -> tuple[int, Any] | None:
        """The report, for the requester's association; None where it goes elsewhere, or no caller waits for it."""
        try:
            report = _event(transaction, references, self.check(references, vain))
            self._holdings.database.transaction(partial(self._claim, transaction, vain))
        except _GivenUp:
            return None
        except (DBAPIError, StoreUnavailable) as error:
            what = "a commitment cannot be reported on the association that asked for it"
            if not log_trouble(what, error, "it is reported on another one"):
                raise
            return None
        return report

    def _claim(self, transaction: str, vain: threading.Event, connection: Connection) -> None:
        """Have the row wait for the answer to a report, unless it is taken to be reported elsewhere."""
        waits = self._holdings.outbox.put_off(connection, QUEUE, transaction, _SAME_ASSOCIATION)
        if not waits or vain.is_set():  # looked at last: a row that was hastened before stays so
            raise _GivenUp

    def _told(self, transaction: str, vain: threading.Event, taken: bool) -> None:
        """What became of the report on the requester's association: in the listener's loop, so that a row can wait."""
        vain.set()
        if len(self._reported) < _MOST_REPORTED:
            self._reported.append((transaction, taken))
        self._wake.set()

    # ---- checks ------------------------------------------------------------------------------------------------

    def check(self, references: Sequence[Reference], vain: threading.Event | None = None) -> list[Failure]:
        """Those that cannot be committed, and why; the bytes of the others are what was received.

        Args:
            references: the instances.
            vain: set when no caller waits for it any more; it is looked at before each instance is read.

        Raises:
            StoreUnavailable: they cannot be read now.
        """
        places = self._holdings.places.of(uid for _, uid in references)
        failed: list[Failure] = []
        for sop_class, uid in references:
            if vain is not None and vain.is_set():
                raise _GivenUp
            place = places.get(uid)
            if place is None:
                failed.append((sop_class, uid, _NO_SUCH_INSTANCE))
            elif place.cls != sop_class:
                failed.append((sop_class, uid, _CONFLICT))
            elif not self._is_whole(place):
                failed.append((sop_class, uid, _DAMAGED))
        return failed

    def _is_whole(self, place: Place) -> bool:
        try:
            return hash_of(self._holdings.blobs, place) == place.sha
        except StoreUnavailable:  # nothing is known of it now: the report waits
            raise
        except (OSError, DicomNetError) as error:
            log.error("%s cannot be read back: %s", place.uid, type(error).__name__)
            return False

    # ---- reports -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Report what has been asked for, before now too, in a thread of its own."""
        self._worker = threading.Thread(target=self._run, name="dicomnet-commitment", daemon=True)
        self._worker.start()

    def _run(self) -> None:
        what = "storage commitment cannot look at its queue"
        work_off(self.report_due, self._pause, self._wake, self._stop, what)

    def _pause(self) -> float:
        return until_due(self._holdings.outbox, QUEUE, self._clock, least=_LEAST_PAUSE)

    def report_due(self) -> int:
        """Report what is due now; how many transactions that were."""
        self._settle()
        self._give_back()
        self._taken.extend(self._holdings.outbox.lease(QUEUE, f"commitment-{id(self):x}", seconds=_LEASE, most=4))
        found = len(self._taken)
        while self._taken:
            item = self._taken[0]
            try:
                self._report(item)
            except _GivenUp:
                self._holdings.outbox.postpone(item, 0.0)
            except (DicomNetError, OSError) as error:
                log.warning("a commitment report to %s failed: %s", item.destination, error)
                self._holdings.outbox.fail(item, str(error))
            except (OperationalError, InterfaceError):
                raise  # of the database: what was taken is given back
            except Exception as error:  # of this one alone: it must not come first again and again
                log_failure(f"a commitment report to {item.destination} failed", error)
                self._holdings.outbox.fail(item, type(error).__name__)
            self._taken.popleft()
            self._settle()
        return found

    def _give_back(self) -> None:
        """What was taken when the database went away is due again: its lease would keep it for long."""
        while self._taken:
            self._holdings.outbox.postpone(self._taken[0], 0.0)
            self._taken.popleft()

    def _settle(self) -> None:
        """What was reported on its own association is done; the others are due. What fails is settled the next time."""
        with self._settling:
            while self._sent:
                self._holdings.database.transaction(partial(self._settle_sent, self._sent[0]))
                self._sent.popleft()
            while self._reported:
                transaction, taken = self._reported[0]
                self._holdings.database.transaction(partial(self._settle_one, transaction, taken))
                self._reported.popleft()

    def _settle_sent(self, item: Item, connection: Connection) -> None:
        done = update(commitment).where(commitment.c.uid == item.payload["transaction"]).values(state="reported")
        connection.execute(done)
        self._holdings.outbox.done(item, connection)

    def _settle_one(self, transaction: str, taken: bool, connection: Connection) -> None:
        if taken:
            connection.execute(update(commitment).where(commitment.c.uid == transaction).values(state="reported"))
            self._holdings.outbox.withdraw(connection, QUEUE, transaction)
            log.info("reported a commitment on the association that asked for it")
        else:
            self._holdings.outbox.hasten(connection, QUEUE, transaction)

    def _report(self, item: Item) -> None:
        transaction = item.payload["transaction"]
        with self._holdings.database.read() as connection:
            row = connection.execute(select(commitment).where(commitment.c.uid == transaction)).mappings().one()
        references = [(sop_class, uid) for sop_class, uid in json.loads(row["request"])]
        event, dataset = _event(transaction, references, self.check(references, self._stop))
        peer = self._destinations.get(item.destination)
        if peer is None:
            raise InvalidArgument(f"{item.destination} is no destination any more")
        self._send(peer, row["called"], event, dataset)
        log.info("reported a commitment of %d instances to %s", len(references), item.destination)
        self._sent.append(item)

    def _send(self, peer: Entity, calling: str, event: int, dataset: Any) -> None:
        model = uids.STORAGE_COMMITMENT_PUSH_MODEL
        proposed = [ProposedContext(model, _SYNTAXES, scu=False, scp=True)]
        with connect(peer, calling=calling, contexts=proposed) as association:
            association.n_event_report(model, uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE, event, dataset)

    def close(self) -> None:
        """Report no more; what is being checked is checked anew after the next start."""
        self._stop.set()
        self._wake.set()
        if self._worker is not None:
            self._worker.join()
        try:
            self._settle()  # else what was reported is reported once more after the next start
        except Exception as error:
            again = "those are reported once more after the next start"
            log_trouble("what became of commitment reports was not kept", error, again)


def _read(dataset: Any) -> tuple[str, list[Reference]]:
    """Transaction UID and references of an Action Information."""
    items = dataset.get("ReferencedSOPSequence") or ()
    named = [(str(one.get("ReferencedSOPClassUID", "")), str(one.get("ReferencedSOPInstanceUID", ""))) for one in items]
    return str(dataset.get("TransactionUID", "")), named


def _event(transaction: str, references: Iterable[Reference], failed: Sequence[Failure]) -> tuple[int, Any]:
    """Event type and Event Information (PS3.4 Table J.3-2)."""
    bad = {uid for _, uid, _ in failed}
    values: dict[str, Any] = {"TransactionUID": transaction}
    good = [_item(*one) for one in references if one[1] not in bad]
    if good:
        values["ReferencedSOPSequence"] = good
    if failed:
        values["FailedSOPSequence"] = [{**_item(*one[:2]), "FailureReason": one[2]} for one in failed]
    return _SOME_FAILED if failed else _ALL_COMMITTED, codec.from_keywords(values)


def _item(sop_class: str, uid: str) -> dict[str, Any]:
    return {"ReferencedSOPClassUID": sop_class, "ReferencedSOPInstanceUID": uid}
