"""What a repository's services tell the audit trail: a message for each association and study, none for each object.

Messages are written by a thread of their own, so that neither a listener's loop nor an answer waits for the disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..log import log_failure
from ..server.audit import NoTrail
from ..server.audit_message import Participant, Subject
from ..server.base import AuditTrail
from ..services.provider_requests import Ending, FindRequest, MoveRequest, Request, StoreRequest
from ..services.scp import host_of
from .audited_study import AuditedStudy
from .intake import Kept

__all__ = ["Recorder"]

#: What an association has stored is recorded after so many studies, and after so many seconds, if it goes on.
MOST_STUDIES, MOST_SECONDS = 100, 300.0
#: Messages that wait for the writer; past it who has one writes it.
MOST_WAITING = 1000
#: Bytes of a query's data set that are recorded; of a longer one only that it was asked.
MOST_QUERY = 64 << 10
#: Characters of a user's name.
MOST_NAME = 64

Settle = Callable[[Kept | Exception], object]


class Recorder:
    """Records what a repository's services do.

    Args:
        trail: the audit trail.
    """

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail
        self._writer = ThreadPoolExecutor(1, "dicomnet-audit-messages")
        self._room = threading.Semaphore(MOST_WAITING)

    @classmethod
    def of(cls, trail: AuditTrail) -> Recorder | None:
        """One for a trail; None where none is kept: then nothing is to be gathered for it."""
        return None if isinstance(trail, NoTrail) else cls(trail)

    def record(self, event: str, **facts: Any) -> None:
        """Have a message written; the facts are those of `AuditTrail.record`."""
        if self._room.acquire(blocking=False):
            try:
                self._writer.submit(self._write_next, event, facts)
                return
            except RuntimeError:  # it is closed: an association ends late
                self._room.release()
        self._write(event, facts)

    def _write_next(self, event: str, facts: dict[str, Any]) -> None:
        try:
            self._write(event, facts)
        finally:
            self._room.release()

    def _write(self, event: str, facts: dict[str, Any]) -> None:
        try:
            self._trail.record(event, **facts)
        except Exception as error:
            log_failure("an audit message was not recorded", error)

    def close(self) -> None:
        """Write what waits."""
        self._writer.shutdown()

    def transferred(
        self, role: str, participants: Iterable[Participant], studies: Iterable[AuditedStudy], **facts: Any
    ) -> None:
        """Instances were sent or received, with a message for each study; ``role`` is this server's."""
        for study in studies:
            subjects = study.subjects()
            self.record("instances-transferred", role=role, participants=participants, subjects=subjects, **facts)

    # ---- associations ------------------------------------------------------------------------------------------

    def watch_store(self, request: StoreRequest, settle: Settle) -> Settle:
        """What settles a C-STORE, and has it counted for the message of its association and study."""
        gathered = request.kept.get(self)
        if gathered is None:
            gathered = request.kept[self] = _Received(self, request)
        gathered.begin()

        def settled(result: Kept | Exception) -> None:
            try:
                settle(result)
            finally:
                gathered.settled(result)

        return settled

    def queried(self, request: FindRequest, outcome: str) -> None:
        """A C-FIND was taken, or refused."""
        data, what = request.data, ""
        if len(data) > MOST_QUERY:
            data, what = b"", f"the query has {len(data)} bytes, which are left out"
        detail = {"TransferSyntax": request.transfer_syntax_uid.encode()}
        asked = Subject("sop-class", request.context.abstract_syntax, query=data, detail=detail)
        people = _callers(request, "source")
        self.record("query", role="destination", participants=people, subjects=(asked,), outcome=outcome, what=what)

    def watch_retrieve(self, request: FindRequest, studies: Sequence[AuditedStudy]) -> Callable[[int], None]:
        """What is told how many instances a C-GET or C-MOVE has sent, once it ends."""
        planned = sum(study.instances.total() for study in studies)
        if isinstance(request, MoveRequest):
            title = request.destination
            people = (*_callers(request, ""), Participant(title, (title,), role="destination"))
        else:
            people = _callers(request, "destination")

        def ended(done: int) -> None:
            outcome = "success" if done >= planned else "minor" if done else "serious"
            what = "" if done >= planned else f"{done} of {planned} instances were sent"
            self.transferred("source", people, studies, outcome=outcome, what=what)

        return ended


class _Received(Ending):
    """What an association has stored and was not recorded yet."""

    def __init__(self, recorder: Recorder, request: Request) -> None:
        self._recorder, self._people = recorder, _callers(request, "source")
        self._lock = threading.Lock()
        self._studies: dict[str, AuditedStudy] = {}
        self._failed = self._waiting = 0
        self._ended = False
        self._since = 0.0

    def begin(self) -> None:
        """An instance has come, which is not durable yet."""
        with self._lock:
            self._waiting += 1

    def settled(self, result: Kept | Exception) -> None:
        """It is, or it is not stored."""
        with self._lock:
            now = time.monotonic()
            if not self._studies and not self._failed:
                self._since = now
            self._waiting -= 1
            if isinstance(result, Kept):
                self._count(result)
            else:
                self._failed += 1
            is_due = len(self._studies) >= MOST_STUDIES or now - self._since >= MOST_SECONDS
            if is_due or (self._ended and not self._waiting):
                self._record()

    def association_ended(self) -> None:
        """Record what is settled; the rest once it is."""
        with self._lock:
            self._ended = True
            if not self._waiting:
                self._record()

    def _count(self, kept: Kept) -> None:
        record = kept.record
        study = self._studies.get(record.study.uid)
        if study is None:
            study = AuditedStudy(record.study.uid, record.patient.pid, record.patient.name)
            self._studies[study.uid] = study
        study.instances[record.cls] += 1

    def _record(self) -> None:
        studies, self._studies = self._studies, {}
        failed, self._failed = self._failed, 0
        self._recorder.transferred("destination", self._people, studies.values())
        if failed:  # what they are of may not be known
            what, outcome = f"{failed} instances were not stored", "minor" if studies else "serious"
            self._recorder.record(
                "instances-transferred", role="destination", participants=self._people, outcome=outcome, what=what
            )


def _callers(request: Request, role: str) -> tuple[Participant, ...]:
    """Who called: the application, and its user where it names one."""
    address = host_of(request.address)
    caller = Participant(request.calling, (request.calling,), requestor=True, role=role, address=address)
    name = "" if request.user is None else request.user.name
    return (caller, Participant(name[:MOST_NAME], requestor=True, address=address)) if name else (caller,)
