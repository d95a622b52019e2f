"""`Archive`: the services of an archive, composed, on a listener.

A service is an object with ``register(services, owner)``. Worklist, procedure steps, HL7 and web services join here as
they come: each stands on `Holdings`, and none knows another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config import OPERATIONS_WINDOW, Limits
from ..errors import CannotListen, LocalProtocolError
from ..net import sockets
from ..protocol.negotiation import AcceptancePolicy
from ..repository.application import Application, end_together
from ..repository.find_service import QueryService
from ..repository.retrieve_service import RetrievalService
from ..repository.storage_service import DiskRoom, StorageService
from ..server.node_view import address_of
from ..sync import Listener
from .availability import AvailabilityNotifier
from .commitment import CommitmentService
from .hl7 import Hl7Service
from .holdings import Holdings
from .housekeeping import Housekeeper
from .mpps import ProcedureStepService
from .node_figures import NodeFigures
from .node_settings import NodeSettings
from .nonpatient import NonPatientService
from .rejection import commit_of
from .relevant_patient import RelevantPatientService
from .retention_worker import RetentionWorker
from .settings import ArchiveSettings
from .step_forwarder import StepForwarder
from .workitem_reporter import WorkitemReporter
from .workitems import WorkitemService
from .worklist import WorklistService

__all__ = ["OWNER", "Archive"]

OWNER = "archive"


class Archive(Application):
    """An archive that serves.

    As a context manager it serves in threads of its own until the block ends::

        with Archive(Path("pacs")) as archive:
            print(archive.listener.address)

    Args:
        directory: of the archive; see `ArchiveSettings.make` for a new one.
        settings: by default those in its directory.

    Raises:
        InvalidArgument: there is no archive, or its settings make no sense.
    """

    def __init__(self, directory: Path, settings: ArchiveSettings | None = None) -> None:
        self.holdings: Holdings = Holdings(directory, settings)
        self.shared: NodeSettings = NodeSettings(self.holdings)
        self.settings: ArchiveSettings = self.holdings.settings
        self.listener: Listener = self._listener()
        self.listener.admission = self.listener.admission.with_rules(DiskRoom(self.holdings.disk))
        self.storage: StorageService = StorageService(self.holdings, turns=True, commit=commit_of(self.holdings))
        self.listener.on_turn(self.storage.committer.turn)
        self.query: QueryService = QueryService(self.holdings, self.settings.ae_title)
        self.retrieval: RetrievalService = RetrievalService(self.holdings)
        self.commitment: CommitmentService = CommitmentService(self.holdings, self.settings.destinations)
        self.worklist: WorklistService = WorklistService(self.holdings)
        self.hl7: Hl7Service = Hl7Service(self.holdings)
        self.forwarder: StepForwarder = StepForwarder(self.holdings)
        self.notifier: AvailabilityNotifier = AvailabilityNotifier(self.holdings)
        self.retention: RetentionWorker = RetentionWorker(self.holdings)
        self.housekeeper: Housekeeper | None = None
        self.steps: ProcedureStepService = ProcedureStepService(self.holdings, self.forwarder)
        self.reporter: WorkitemReporter = WorkitemReporter(self.holdings)
        self.workitems: WorkitemService = WorkitemService(self.holdings, self.reporter)
        for service in (
            self.storage, self.query, self.retrieval, self.commitment, self.worklist, self.steps, self.workitems,
            NonPatientService(self.holdings), RelevantPatientService(self.holdings),
        ):  # fmt: skip
            service.register(self.listener, OWNER)

    def _listener(self) -> Listener:
        chosen = self.settings
        return Listener(
            chosen.ae_title,
            host=chosen.host,
            port=chosen.port,
            limits=Limits(associations=chosen.associations),
            drain=chosen.drain,
            proxies=chosen.proxies,
            destinations=chosen.destinations,
            acceptance=AcceptancePolicy(operations_window=(OPERATIONS_WINDOW, 1)),
        )

    def start(self) -> None:
        """Begin what has threads of its own; where the port of HL7 is taken, nothing has begun."""
        try:
            self.hl7.start()
        except CannotListen:
            self.close()
            raise
        self.commitment.start()
        self.forwarder.start()
        self.notifier.start()
        self.reporter.start()
        self.retention.start()
        facts = NodeFigures(self.holdings, self.storage, self._figures)
        self.shared.start()
        self.housekeeper = Housekeeper(self.holdings, self._address, facts)
        self.housekeeper.start()
        self.shared.after = self.housekeeper.tell

    def _figures(self) -> dict[str, Any]:
        return {"associations": self.listener.counters["open"], **self.shared.figures()}

    def _address(self) -> str:
        try:
            listening = {"plain": sockets.address_of(self.listener.address)}
        except LocalProtocolError:  # it has not begun to listen
            listening = {}
        return address_of({"ae_title": self.settings.ae_title, "listening": listening})

    def close(self) -> None:
        """End its workers, and close what it holds: each stage has `CLOSE_PATIENCE` seconds."""
        workers = {
            "what follows the settings of all nodes": self.shared.close,
            "retention": self.retention.close,
            "storage commitment": self.commitment.close,
            "what passes steps on": self.forwarder.close,
            "what tells of availability": self.notifier.close,
            "what tells of work items": self.reporter.close,
            "HL7": self.hl7.close,
            "storage": self.storage.close,
        }
        end_together(workers)
        if self.housekeeper is not None:  # it gives up what this node does for all: retention, too
            end_together({"housekeeping": self.housekeeper.close})
        end_together({"what it holds": self.holdings.close})
