"""The add-in `workstation`: receives, asks remote archives, and retrieves and sends by a queue.

::

    [addins]
    enable = ["verification", "workstation"]

Whom it asks, and sends to, are the AE titles that the server knows (``dicomnet server ae add``), and the DICOMweb peers
of its settings. DICOMweb and the viewer are at ``/workstation`` of the server's web port. What `dicomnet workstation`
does with it, messages of the administration do: ``WorkstationQuery``, ``WorkstationRetrieve`` and so on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from prometheus_client import CollectorRegistry, Gauge
from pydantic import Field
from starlette.routing import BaseRoute, Mount

from .. import uids
from ..protocol.admission import AdmissionRule
from ..protocol.messages import CommandField
from ..repository.disk import DiskState
from ..repository.find_service import QueryService
from ..repository.receiving import DiskRoom
from ..repository.retrieve_service import RetrievalService
from ..server import AddInContext, Check, Table, hookimpl
from ..server.ae_entry import AEEntry, key_of
from ..server.messages import MessageRegistry
from ..server.settings import UID
from ..services.service_registry import Registering, Registration, success
from ..web.study_messages import StudiesMessage, StudyMessages
from .jobs import Job, JobKind, JobState, Order
from .settings import WorkstationSettings
from .station import Workstation
from .web import web_application

__all__ = ["WorkstationAddIn"]


class QueryMessage(Table):
    """What is looked for."""

    peer: str
    """The AE title that is asked, or the name of a DICOMweb peer."""
    level: Literal["PATIENT", "STUDY", "SERIES", "IMAGE"] = "STUDY"
    """Query/Retrieve Level."""
    keys: Mapping[str, str] = Field(default_factory=dict)
    """Values by keyword, with wild cards and ranges as the standard has them."""
    most: Annotated[int, Field(ge=1, le=1000)] = 200
    """The most matches."""


class OrderMessage(Table):
    """What is to be retrieved, or sent."""

    peer: str
    """The AE title, or the name of a DICOMweb peer."""
    study: UID
    """Study Instance UID."""
    series: tuple[UID, ...] = ()
    """Series of it; left out, all."""
    instances: tuple[UID, ...] = ()
    """Instances of it; left out, all."""
    by: Literal["", "get", "move"] = ""
    """How to retrieve; left out, by whichever works."""
    urgent: bool = False
    """Before all that are not."""


class JobsMessage(Table):
    """Which jobs are listed."""

    states: tuple[JobState, ...] = tuple(JobState)
    """In these states."""
    before: int | None = None
    """Begin before this one."""
    most: Annotated[int, Field(ge=1, le=1000)] = 100
    """How many."""


class JobMessage(Table):
    """Which job."""

    id: int
    """Its number."""


class PinMessage(StudiesMessage):
    """Which studies stay."""

    pinned: bool = True
    """Whether they do, whatever the quota."""


class PriorsMessage(Table):
    """Whose earlier studies."""

    study: UID
    """A study of the patient that is here."""
    peer: str
    """The archive that is asked."""


class WorkstationAddIn:
    """An unattended receiver with remote query and a durable queue of retrieves and sends."""

    description = "Receives, queries remote archives, retrieves and sends by a queue, and shows pictures."
    Settings = WorkstationSettings

    @hookimpl
    def start(self, context: AddInContext) -> None:
        """Open the workstation, which is made with the first start, and go on with its jobs."""
        table: WorkstationSettings = context.settings
        directory: Path = context.data if table.directory is None else context.directory / table.directory
        directory.mkdir(parents=True, exist_ok=True)
        title = context.server.server.ae_title
        self.station: Workstation = Workstation(
            directory, table, title, context.services.requests, tell=context.publish
        )
        self.station.start()
        context.on_turn(self.station.storage.committer.turn)
        context.services.ae_titles.depends(context.name, self._uses)

    @hookimpl
    def services(self, registry: Registering, context: AddInContext) -> None:
        """Offer storage, query and retrieve over what is held."""
        echo = Registration(
            CommandField.C_ECHO_RQ, (uids.VERIFICATION,), success, owner=context.name, inline=True, gives_way=True
        )
        registry.register(echo)
        holdings = self.station.holdings
        self.station.storage.register(registry, context.name)
        QueryService(holdings, self.station.title).register(registry, context.name)
        RetrievalService(holdings).register(registry, context.name)

    @hookimpl
    def admission(self) -> Sequence[AdmissionRule]:
        """No association while the disk is full."""
        return [DiskRoom(self.station.holdings.disk)]

    @hookimpl
    def web_routes(self) -> Sequence[BaseRoute]:
        """DICOMweb and the viewer."""
        return [Mount("/", web_application(self.station))]

    @hookimpl
    def admin_messages(self, messages: MessageRegistry, context: AddInContext) -> None:
        """What `dicomnet workstation` and the console do."""
        station = self.station
        studies = StudyMessages(station.holdings, station.storage.committer, context.services.audit)
        studies.register(messages, "Workstation")
        messages.add("WorkstationStatus", self._status, role="read")
        messages.add("WorkstationStudies", lambda _: {"studies": [one.as_json() for one in self.station.local()]},
                     role="read")  # fmt: skip
        messages.add("WorkstationJobs", self._jobs, role="read", model=JobsMessage)
        messages.add("WorkstationJob", lambda one: _record(self.station.queue.get(one.id)), role="read",
                     model=JobMessage)  # fmt: skip
        messages.add("WorkstationQuery", self._query, model=QueryMessage)
        messages.add("WorkstationRetrieve", self._retrieve, model=OrderMessage)
        messages.add("WorkstationSend", self._send, model=OrderMessage)
        messages.add("WorkstationCancel", lambda one: _record(self.station.cancel(one.id)), model=JobMessage)
        messages.add("WorkstationRetry", lambda one: _record(self.station.queue.retry(one.id)), model=JobMessage)
        messages.add("WorkstationClear", lambda _: {"jobs": self.station.queue.clear()})
        messages.add("WorkstationPin", self._pin, model=PinMessage)
        messages.add("WorkstationPrefetch", self._prefetch, model=PriorsMessage)

    def _status(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        station = self.station
        return {
            "ae_title": station.title,
            "received": station.storage.stored, "refused": station.storage.failed,
            **station.studies.totals()._asdict(),
            "quota": station.settings.quota, "over_quota": station.studies.over_quota,
            "jobs": station.queue.counts(), "dicomweb": sorted(station.remotes.web),
        }  # fmt: skip

    def _jobs(self, page: JobsMessage) -> Mapping[str, Any]:
        found = self.station.queue.page(states=page.states, before=page.before, most=page.most)
        return {"jobs": [one.as_json() for one in found]}

    def _query(self, asked: QueryMessage) -> Mapping[str, Any]:
        return {"matches": self.station.query(asked.peer, asked.level, asked.keys, most=asked.most)}

    def _retrieve(self, one: OrderMessage) -> Mapping[str, Any]:
        return _record(self.station.order(_order(JobKind.RETRIEVE, one)))

    def _send(self, one: OrderMessage) -> Mapping[str, Any]:
        return _record(self.station.order(_order(JobKind.SEND, one)))

    def _pin(self, one: PinMessage) -> Mapping[str, Any]:
        self.station.studies.pin(one.studies, pinned=one.pinned)
        return {"studies": len(one.studies)}

    def _prefetch(self, one: PriorsMessage) -> Mapping[str, Any]:
        return {"jobs": [job.as_json() for job in self.station.prefetch(one.study, one.peer)]}

    @hookimpl
    def metrics(self, registry: CollectorRegistry) -> None:
        """What is held, and what waits."""
        station = self.station
        for name, text, read in (
            ("received", "Instances acknowledged since the start.", lambda: station.storage.stored),
            ("over_quota", "Bytes held beyond the quota.", lambda: station.studies.over_quota),
            ("waiting", "Jobs that wait or run.", self._waiting),
            ("failed", "Jobs that a person has to look at.", lambda: station.queue.counts()[JobState.FAILED]),
        ):
            Gauge(f"dicomnet_workstation_{name}", text, registry=registry).set_function(read)

    def _waiting(self) -> int:
        counts = self.station.queue.counts()
        return counts[JobState.WAITING] + counts[JobState.RUNNING]

    @hookimpl
    def health(self) -> Iterable[Check]:
        """Whether there is room, on the disk and in the quota."""
        state, over = self.station.holdings.disk.state(), self.station.studies.over_quota
        yield Check("workstation disk", state is DiskState.ROOM, state.name.lower())
        yield Check("workstation quota", not over, f"{over} bytes too many, all pinned or in use" if over else "")

    @hookimpl
    def reload(self, context: AddInContext) -> None:
        """Another quota holds from now on."""
        self.station.settings = context.settings

    @hookimpl
    def stop(self) -> None:
        """Commit what has arrived, and close; jobs go on after the next start."""
        self.station.close()

    def _uses(self, entry: AEEntry) -> Sequence[str]:
        """What depends on an AE that is to be removed."""
        titles = {key_of(title) for title in (entry.title, *entry.aliases)}
        chosen = self.station.settings.priors_from
        return ["priors_from"] if titles.intersection(map(key_of, chosen)) else []


def _order(kind: JobKind, one: OrderMessage) -> Order:
    return Order(kind, one.peer, one.study, one.series, one.instances, one.by, one.urgent)


def _record(job: Job) -> Mapping[str, Any]:
    return {"job": job.as_json()}
