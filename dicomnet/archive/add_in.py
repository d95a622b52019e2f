"""The add-in `archive`: an archive in a server of the framework, with its administration, metrics, audit and reload.

::

    [addins]
    enable = ["archive"]

Who may call, and where C-MOVE, commitment and steps go, are the AE titles that the server knows
(``dicomnet server ae add``).
DICOMweb and the viewer are at ``/archive`` of the server's web port.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Gauge
from sqlalchemy import func, select
from starlette.routing import BaseRoute, Mount

from .. import uids
from ..errors import InvalidArgument
from ..protocol.admission import AdmissionRule
from ..protocol.messages import CommandField
from ..repository import schema
from ..repository.application import end_together
from ..repository.audited import Recorder
from ..repository.disk import DiskState, Watermarks
from ..repository.find_service import QueryService
from ..repository.receiving import DiskRoom
from ..repository.retrieve_service import RetrievalService
from ..repository.scope import scope_of_entry
from ..repository.shared_titles import CHANGED, SharedTitles
from ..repository.storage_service import StorageService
from ..server import AddInContext, Check, hookimpl
from ..server.ae_entry import AEEntry, key_of
from ..server.ae_titles import AETitles
from ..server.messages import MessageRegistry
from ..server.node_view import address_of, figures
from ..services.service_registry import Registering, Registration, success
from ..web.study_messages import StudyMessages
from ..web.viewer import viewer_app
from .administration import Administration
from .availability import AvailabilityNotifier
from .commitment import CommitmentService
from .hl7 import Hl7Service
from .holdings import Holdings
from .housekeeping import Housekeeper
from .mpps import ProcedureStepService
from .node_figures import ArchiveNodes, NodeFigures
from .node_settings import NodeSettings
from .nonpatient import NonPatientService
from .rejection import commit_of
from .relevant_patient import RelevantPatientService
from .retention_worker import RetentionWorker
from .sending import Sending
from .settings import FILE_NAME, TOLD, ArchiveSettings
from .step_forwarder import StepForwarder
from .table import ArchiveTable
from .web import web_application
from .workitem_reporter import WorkitemReporter
from .workitems import WorkitemService
from .worklist import WorklistService

__all__ = ["ArchiveAddIn"]

_USUAL = ArchiveSettings()


class _Worker(Protocol):
    """What has threads of its own."""

    def start(self) -> None:
        """Begin."""

    def close(self) -> None:
        """End; what it was at goes on after the next start."""


class ArchiveAddIn:
    """Storage, query/retrieve, commitment, worklist and performed procedure steps over one repository."""

    Settings = ArchiveTable

    @hookimpl
    def start(self, context: AddInContext) -> None:
        """Open the archive, which is made with the first start, and begin what has threads of its own."""
        settings, directory = _archive_settings(context), _directory(context)
        _write_settings(settings, directory)
        with ExitStack() as opened:
            self.holdings: Holdings = Holdings(directory, settings)
            opened.callback(end_together, {"what it holds": self.holdings.close})
            self._use_titles(context, opened)
            self.holdings.given = _with_told(settings, context)
            self._share_settings(context, opened)
            self._audit: Recorder | None = Recorder.of(context.services.audit)
            if self._audit is not None:
                opened.callback(end_together, {"what records": self._audit.close})
            self.storage: StorageService = StorageService(
                self.holdings, turns=True, commit=commit_of(self.holdings), audit=self._audit
            )
            workers: dict[str, Callable[[], None]] = {"storage": self.storage.close}
            self._be_a_node(context, opened)
            opened.callback(end_together, workers)  # before the housekeeper gives up what this node does for all
            self._start_workers(context, workers)
            self._opened = opened.pop_all()
        context.on_turn(self.storage.committer.turn)
        context.services.ae_titles.depends(context.name, self._uses)

    def _start_workers(self, context: AddInContext, workers: dict[str, Callable[[], None]]) -> None:
        """Begin what has threads of its own, one after the other, with what ends each."""
        self.hl7: Hl7Service = Hl7Service(self.holdings)
        self.forwarder: StepForwarder = StepForwarder(self.holdings)
        self.reporter: WorkitemReporter = WorkitemReporter(self.holdings)
        self.commitment: CommitmentService = CommitmentService(self.holdings, self.holdings.settings.destinations)
        self.sending: Sending = Sending(self.holdings, context.services.requests)
        found: dict[str, _Worker] = {
            "HL7": self.hl7,
            "what passes steps on": self.forwarder,
            "what tells of availability": AvailabilityNotifier(self.holdings),
            "what tells of work items": self.reporter,
            "storage commitment": self.commitment,
            "retention": RetentionWorker(self.holdings),
            "sending": self.sending,
        }
        for what, worker in found.items():
            worker.start()
            workers[what] = worker.close

    def _share_settings(self, context: AddInContext, opened: ExitStack) -> None:
        """Work by what all nodes have in common, where this one's own settings say nothing."""
        services, before = context.services, context.services.shared
        self.shared: NodeSettings = NodeSettings(self.holdings, context.host, services.audit)
        services.shared = self.shared
        opened.callback(setattr, services, "shared", before)
        self.shared.start()
        opened.callback(end_together, {"what follows the settings of all nodes": self.shared.close})

    def _be_a_node(self, context: AddInContext, opened: ExitStack) -> None:
        """Tell the others of this node, and show them."""
        address = partial(_address, context)
        facts = NodeFigures(self.holdings, self.storage, lambda: figures(context.status()) | self.shared.figures())
        services, before, nodes = context.services, context.services.nodes, ArchiveNodes(self.holdings, address, facts)
        services.nodes = nodes

        def alone_again() -> None:
            if services.nodes is nodes:
                services.nodes = before

        opened.callback(alone_again)
        housekeeper = Housekeeper(self.holdings, address, facts)
        housekeeper.start()
        self.shared.after = housekeeper.tell
        opened.callback(end_together, {"housekeeping": housekeeper.close})

    def _use_titles(self, context: AddInContext, opened: ExitStack) -> None:
        """By its AE title's entry a caller sees what it may; where other nodes may use the database all know the same.

        Workers have those of their server.
        """
        titles, events = context.services.ae_titles, self.holdings.events
        self.holdings.scopes = lambda title: scope_of_entry(titles.find(title))
        if self.holdings.database.is_sqlite or context.server.server.workers > 1 or not isinstance(titles, AETitles):
            return
        opened.callback(titles.keep_in(SharedTitles(self.holdings.database, events)))
        events.listen(CHANGED, lambda _: titles.refresh())
        events.anew(CHANGED, titles.refresh)

    @hookimpl
    def reload(self, context: AddInContext) -> None:
        """Go over to other settings of its own."""
        given = _with_told(_archive_settings(context), context)
        _write_settings(given, _directory(context))
        self.shared.rebase(given)

    @hookimpl
    def services(self, registry: Registering, context: AddInContext) -> None:
        """Offer all that an archive does."""
        # Another add-in may answer C-ECHO.
        registry.register(
            Registration(
                CommandField.C_ECHO_RQ, (uids.VERIFICATION,), success, owner=context.name, inline=True, gives_way=True
            )
        )
        for service in (
            self.storage,
            QueryService(self.holdings, self.holdings.settings.ae_title, self._audit),
            RetrievalService(self.holdings, self._audit),
            self.commitment,
            WorklistService(self.holdings),
            ProcedureStepService(self.holdings, self.forwarder),
            WorkitemService(self.holdings, self.reporter),
            NonPatientService(self.holdings),
            RelevantPatientService(self.holdings),
        ):
            service.register(registry, context.name)

    @hookimpl
    def admin_messages(self, messages: MessageRegistry, context: AddInContext) -> None:
        """What programs and the console do with it."""
        studies = StudyMessages(self.holdings, self.storage.committer, context.services.audit)
        Administration(self.holdings, self.sending, studies).register(messages)

    @hookimpl
    def initiates(self) -> Iterable[tuple[str, str]]:
        """What an archive calls others for: reports and notes, and what C-MOVE sends."""
        chosen = self.holdings.settings
        yield uids.STORAGE_COMMITMENT_PUSH_MODEL, "SCP"
        yield uids.UNIFIED_PROCEDURE_STEP_EVENT, "SCP"
        if chosen.steps_to:
            yield uids.MODALITY_PERFORMED_PROCEDURE_STEP, "SCU"
        if chosen.availability_to:
            yield uids.INSTANCE_AVAILABILITY_NOTIFICATION, "SCU"
        for sop_class in uids.STORAGE_CLASSES if chosen.destinations else ():
            yield sop_class, "SCU"

    @hookimpl
    def admission(self) -> Sequence[AdmissionRule]:
        """No association while the disk is full."""
        return [DiskRoom(self.holdings.disk)]

    @hookimpl
    def web_routes(self, context: AddInContext) -> Sequence[BaseRoute]:
        """DICOMweb and the viewer."""
        viewer, audit = viewer_app("../dicomweb"), context.services.audit
        return [Mount("/", web_application(self.holdings, self.storage, viewer=viewer, audit=audit))]

    @hookimpl
    def metrics(self, registry: CollectorRegistry) -> None:
        """What is held, and what waits."""
        for name, text, read in (
            ("stored", "Instances acknowledged since the start.", lambda: self.storage.stored),
            ("failed", "Instances refused since the start.", lambda: self.storage.failed),
            ("instances", "Instances held.", lambda: self._sum(schema.study.c.n_inst)),
            ("bytes", "Bytes of instances held.", lambda: self._sum(schema.study.c.bytes)),
            ("queued", "Items that wait in the outbox.", self._queued),
        ):
            Gauge(f"dicomnet_archive_{name}", text, registry=registry).set_function(read)

    @hookimpl
    def health(self) -> Iterable[Check]:
        """Whether there is room, and the index answers; and by which settings of all nodes it works."""
        state, refused = self.holdings.disk.state(), self.shared.refused
        self._sum(schema.study.c.n_inst)
        held = f"snapshot {self.shared.snapshot.number} of all nodes"
        held += f", for {refused.number} cannot be used: the log says why" if refused else ""  # anyone may see this
        return [
            Check("archive disk", state is DiskState.ROOM, state.name.lower()),
            Check("archive index", True),
            Check("archive settings", True, held),  # it serves by those that it has
        ]

    @hookimpl
    def stop(self) -> None:
        """Commit what has arrived, and close all of it."""
        self._opened.close()

    def _sum(self, column: Any) -> int:
        with self.holdings.database.read() as connection:
            return int(connection.execute(select(func.sum(column))).scalar_one() or 0)

    def _queued(self) -> int:
        return sum(one.items for one in self.holdings.outbox.counts())

    def _uses(self, entry: AEEntry) -> Sequence[str]:
        """What depends on an AE that is to be removed."""
        titles = {key_of(title) for title in (entry.title, *entry.aliases)}
        chosen = self.holdings.settings
        return [name for name in TOLD if titles.intersection(map(key_of, getattr(chosen, name)))]


def _address(context: AddInContext) -> str:
    return address_of(context.status())


def _directory(context: AddInContext) -> Path:
    given: Path | None = context.settings.directory
    directory = context.data if given is None else context.directory / given
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _write_settings(settings: ArchiveSettings, directory: Path) -> None:
    """Have `dicomnet archive` find in the directory where index and blobs are, and how they are kept."""
    names = ("ae_title", "database", "storage", "storage_before", "layout", "template", "durability",
             *sorted(settings.given & {"duplicates", "character_set"}))  # fmt: skip
    lines = (f"{name} = {json.dumps(getattr(settings, name), ensure_ascii=False)}" for name in names)
    text = "\n".join(["# Written with each start of the server: its settings have [addin.archive].", *lines])
    (directory / FILE_NAME).write_text(f"{text}\n", encoding="utf-8")


def _with_told(settings: ArchiveSettings, context: AddInContext) -> ArchiveSettings:
    """The settings with whom it tells of what, once all titles are known: a database may keep them.

    Raises:
        InvalidArgument: they name an AE title without an address.
    """
    told: dict[str, Any] = {name: getattr(context.settings, name) for name in TOLD}
    for name, titles in told.items():
        for title in titles:
            if title not in settings.destinations:
                hint = f"Before that: dicomnet server ae add NAME {title}@HOST:PORT"
                raise InvalidArgument(f'[addin.{context.name}] {name}: "{title}" has no address', hint=hint)
    return replace(settings, **told)


def _archive_settings(context: AddInContext) -> ArchiveSettings:
    """The archive's settings, from its table and what the server knows; whom it tells follows."""
    table = context.settings
    names = ("database", "storage", "storage_before", "layout", "template", "durability", "duplicates",
             "character_set", "relational", "patients_to", "availability_after", "retention_days",
             "retention_size", "protected_patients", "protected_studies", "stations", "hl7_port",
             "rejection_notes", "commitment_reports")  # fmt: skip
    return ArchiveSettings(
        ae_title=context.server.server.ae_title,
        destinations=context.services.ae_titles.destinations(),
        watermarks=Watermarks(table.refuse_at, table.reject_at, table.resume_at),
        given=table.model_fields_set,
        **{name: getattr(table, name) for name in names},
    )
