"""`Workstation`: what is held, the jobs, and who may be asked, without a listener: what the add-in serves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..client.sync.web import WebClient
from ..errors import DicomNetError, InvalidArgument
from ..log import log, log_failure
from ..repository.holdings import Holdings, HoldingsSettings
from ..repository.importing import Imported, import_files
from ..repository.intake import Kept
from ..repository.receiving import Receiver
from ..repository.storage_service import StorageService
from ..server.base import Requests
from ..server.database import Database
from ..server.directory_lock import DirectoryLock
from ..services.provider_requests import StoreRequest
from ..services.scp import Provider
from ..status import Status
from ..uids import is_valid
from . import jobs, studies
from .jobs import Job, JobKind, JobQueue, Order
from .priors import prefetch
from .remote import MOST_MATCHES, DimseRemote, Fetching, Remote, Remotes, level_of
from .runner import Runner
from .settings import WorkstationSettings
from .studies import LocalStudy, Studies
from .work import Report, retrieve, send_dimse, send_web

__all__ = ["Workstation"]

_FILE = "workstation.db"
_VERSION = 1
_LOOK = 5.0  # seconds between two looks at what is held, at most
_OWNER = "workstation"

Tell = Callable[..., object]


class Workstation:
    """A workstation's directory, served.

    Args:
        directory: of its own.
        settings: of the add-in.
        title: our AE title.
        requests: gives the clients of the AE titles that are known.
        tell: told what happens, by its kind and its facts.

    Raises:
        InvalidArgument: another process serves it, or it cannot be opened.

    Attributes:
        holdings, storage, studies, queue, remotes: its parts.
    """

    def __init__(
        self,
        directory: Path,
        settings: WorkstationSettings,
        title: str,
        requests: Requests,
        *,
        tell: Tell = lambda kind, **facts: None,
    ) -> None:
        self.settings: WorkstationSettings = settings
        self.title: str = title
        self._requests, self._tell = requests, tell
        with ExitStack() as opened:
            opened.enter_context(DirectoryLock(directory))
            chosen = HoldingsSettings(durability=settings.durability)
            self.holdings: Holdings = opened.enter_context(Holdings(directory, chosen))
            tables = f"{jobs.SCHEMA}{studies.SCHEMA}"
            database = Database(directory / _FILE, schema=tables, version=_VERSION, owner="the workstation")
            opened.callback(database.close)
            self.storage: Receiver[Kept] = StorageService(self.holdings, turns=True)
            self._opened = opened.pop_all()
        self.queue: JobQueue = JobQueue(database, told=lambda job: tell("job", job=job.as_json()))
        self.studies: Studies = Studies(
            self.holdings, database, quiet=settings.end_of_study, open_for=settings.open_for,
            ended=self._ended, busy=self.queue.studies,
        )  # fmt: skip
        self.remotes: Remotes = Remotes(settings.dicomweb, self._dimse, self._bring)
        self._runner = Runner(self.queue, self._work, parallel=settings.parallel)
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="dicomnet-workstation-keeper", daemon=True)

    # ---- its life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Go on with the jobs, and look after what is held, in threads of its own."""
        self._runner.start()
        self._keeper.start()

    def close(self) -> None:
        """Commit what has arrived, and close; jobs go on after the next start."""
        self._stop.set()
        self._runner.close()
        if self._keeper.is_alive():
            self._keeper.join()
        self.storage.close()
        self._opened.close()

    def _keep(self) -> None:
        pause = min(self.settings.end_of_study / 2, _LOOK)
        while not self._stop.wait(pause):
            try:
                self.studies.look()
                if self.settings.quota is not None:
                    self.studies.prune(self.settings.quota)
            except Exception as error:
                log_failure("the workstation cannot look after its studies", error)

    def _ended(self, study: str, number: int, count: int) -> None:
        self._tell("study_ended", study=study, number=number, instances=count)
        # What was fetched brings no more: else one study would bring all that its patient has.
        for peer in () if self.queue.is_brought(study) else self.settings.priors_from:
            try:
                self.prefetch(study, peer)
            except DicomNetError as error:
                log.warning("no earlier studies are fetched from %s: %s", peer, error)

    # ---- what arrives ------------------------------------------------------------------------------------------

    def take(self, provider: Provider, arrived: Callable[[int], object]) -> None:
        """Store what a provider receives, as what the server's ports receive is stored."""
        storage = self.storage

        def store(request: StoreRequest) -> Status:
            answer = storage.store(request)
            storage.committer.turn()  # it came in no turn of the listener's loop
            status = answer.result()
            arrived(status.is_success)
            return status

        provider.on_store(sink=storage.open, unknown_classes=True, owner=_OWNER)(store)

    def import_files(self, paths: Sequence[str], *, progress: Callable[[int], None] | None = None) -> Imported:
        """Import files, folders, zip files and DICOMDIR media."""
        return import_files(self.holdings, paths, progress=progress, store=self.storage.committer.together)

    def _bring(self, path: Path) -> None:
        failed = self.import_files([str(path)]).failed
        if failed:
            raise InvalidArgument(f"an instance that has come cannot be stored: {failed[0][1]}")

    # ---- remote archives ---------------------------------------------------------------------------------------

    def _dimse(self, title: str) -> Remote:
        return DimseRemote(self._requests.client(title), self.title, self.take, self._count)

    def _count(self, uids: Sequence[str]) -> int:
        return len(self.holdings.places.of(uids))

    def query(self, peer: str, level: str, keys: Mapping[str, str], *, most: int = 200) -> list[dict[str, Any]]:
        """What a remote archive has, in DICOM JSON.

        Args:
            peer: the AE title, or the name of a DICOMweb peer.
            level: PATIENT, STUDY, SERIES or IMAGE.
            keys: values by keyword; those below the study level name what is above them.
            most: the most matches, `MOST_MATCHES` at most.

        Raises:
            InvalidArgument: the peer is not known, or a key does not fit.
            DicomNetError: it could not be asked.
        """
        return self.remotes.of(peer).query(level_of(level), keys, min(most, MOST_MATCHES))

    def order(self, order: Order) -> Job:
        """Have something retrieved or sent.

        Raises:
            InvalidArgument: the peer is not known, or something is no UID.
        """
        for uid in (order.study, *order.series, *order.instances):
            if not is_valid(uid):
                raise InvalidArgument(f'"{uid[:64]}" is no UID')
        if order.by not in ("", "get", "move"):
            raise InvalidArgument(f'"{order.by[:16]}" is no way to retrieve', hint="Ways: get, move.")
        if order.by and order.peer in self.remotes.web:
            raise InvalidArgument(f"{order.peer} is asked over DICOMweb: there is no C-{order.by.upper()}")
        self.remotes.of(order.peer)
        return self.queue.add(order)

    def cancel(self, number: int) -> Job:
        """Cancel a job; what has come stays."""
        return self._runner.cancel(number)

    def prefetch(self, study: str, peer: str) -> list[Job]:
        """Order earlier studies of the patient of a study that is here.

        Raises:
            InvalidArgument: it is not here, or has no Patient ID; or the peer is not known.
            DicomNetError: the peer could not be asked.
        """
        local = {one.uid: one for one in self.studies.latest(most=1 << 30)}
        if study not in local:
            raise InvalidArgument(f"the study {study[:64]} is not here")
        patient = local[study].patient_id
        if not patient:
            raise InvalidArgument(f"the study {study} has no Patient ID")
        remote = self.remotes.of(peer)
        return prefetch(peer, remote, patient, most=self.settings.priors, here=local, order=self.order)

    def local(self) -> list[LocalStudy]:
        """The studies that are here."""
        return self.studies.latest()

    def _work(self, job: Job, fetching: Fetching, report: Report) -> None:
        if job.kind is JobKind.RETRIEVE:
            retrieve(job, self.remotes.of(job.peer), self.holdings, fetching, report)
        elif job.peer in self.remotes.web:
            with WebClient(self.remotes.web[job.peer]) as web, fetching.ended_by(web.interrupt, web.interrupt):
                send_web(job, web, self.holdings, self.queue, fetching, report)
        else:
            send_dimse(job, self._requests.client(job.peer), self.holdings, self.queue, fetching, report)
