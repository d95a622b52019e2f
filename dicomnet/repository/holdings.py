"""`Holdings`: what an application holds, opened: blobs, index, quarantine, outbox, and the way in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ..log import log
from .blob_engines import open_blobs
from .blob_store import BlobStore
from .bucket import StoreUnavailable
from .database import Database
from .disk import DiskWatch, Watermarks
from .index import Index
from .insertion import Barring
from .intake import Duplicates, Intake
from .node_events import NodeEvents
from .nodes import Nodes
from .nonpatient import NonPatientObjects
from .offline import OfflineInstances
from .outbox import Outbox
from .places import Places
from .quarantine import Quarantine
from .scope import ALL, Scope, Scopes
from .segments import DISK
from .workitems import Workitems

__all__ = ["INDEX_NAME", "Holdings", "HoldingsSettings"]

INDEX_NAME = "index.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingsSettings:
    """How instances are held.

    Attributes:
        database: URL of the index; empty: SQLite in the application's directory.
        storage: directory of the blobs, relative to the application's, or a bucket (``s3://…``, see `bucket`).
        storage_before: where they are moved from, while they are; empty: nowhere.
        layout: "segments" or "files"; ``template`` names the files.
        durability: "disk" or "os".
        duplicates: what becomes of other bytes under a UID that is taken.
        watermarks: how full the disk may get.
        character_set: of data sets, and queries, that name none.
        relational: whether queries may leave out the unique keys of the levels above theirs.
    """

    database: str = ""
    storage: str = "blobs"
    storage_before: str = ""
    layout: str = "segments"
    template: str = "{PatientID}/{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm"
    durability: str = DISK
    duplicates: Duplicates = Duplicates.QUARANTINE
    watermarks: Watermarks = field(default_factory=Watermarks)
    character_set: str = ""
    relational: bool = False


class Holdings:
    """An application's directory, open.

    What a process that was killed left is put in order first: torn writes are cut, and what was stored but not indexed
    is indexed.

    Args:
        directory: of the application.
        settings: how instances are held in it.

    Raises:
        InvalidArgument: its database cannot be opened.

    Attributes:
        blobs, database, index, places, quarantine, outbox, nodes, events, workitems, nonpatient, offline, intake,
            disk: its parts.
        scopes: what a calling AE title may see, for `scope_of`; all, unless a server says otherwise.
        recovered: how many instances were stored but not indexed when it was opened.
    """

    def __init__(self, directory: Path, settings: HoldingsSettings) -> None:
        self.directory = directory
        self.settings: HoldingsSettings = settings
        durable = self.settings.durability == "disk"
        self.database: Database = Database.opened(self.settings.database or directory / INDEX_NAME, durable=durable)
        self.nodes: Nodes = Nodes(self.database)
        self.events: NodeEvents = NodeEvents(self.database)
        self._settle()
        self.index: Index = Index(self.database, clock=self.database.clock, barring=self._barring())
        self.places: Places = Places(self.database)
        self.blobs: BlobStore = self._open_blobs()
        self.workitems: Workitems = Workitems(self.database, clock=self.database.clock, events=self.events)
        self.quarantine: Quarantine = Quarantine(self.database, clock=self.database.clock)
        self.outbox: Outbox = Outbox(self.database.write, clock=self.database.clock)
        self.nonpatient: NonPatientObjects = NonPatientObjects(self.database)
        self.offline: OfflineInstances = OfflineInstances(self.database)
        self.disk: DiskWatch = DiskWatch(self.blobs.root, self.settings.watermarks)
        self.intake: Intake = Intake(
            self.blobs,
            self.index,
            self.quarantine,
            duplicates=self.settings.duplicates,
            character_set=self.settings.character_set,
        )
        self.scopes: Scopes = lambda _: ALL
        self._followers: list[Callable[[], None]] = []
        self.recovered: int = self._recover()

    def follow(self, function: Callable[[], None]) -> None:
        """Have a function called whenever other settings hold; it must be quick."""
        self._followers.append(function)

    def apply(self, settings: HoldingsSettings) -> None:
        """Go over to other settings. What says where instances are, and how they are kept, waits for the next start."""
        self.settings = settings
        self.intake.duplicates, self.intake.character_set = settings.duplicates, settings.character_set
        for function in tuple(self._followers):
            function()

    def scope_of(self, calling: str) -> Scope:
        """What a calling AE title may see; how a web service uses it is said in `scope`."""
        return self.scopes(calling)

    def _settle(self) -> None:
        """The database is open: it may have settings, too."""

    def _barring(self) -> Barring | None:
        """What says which instances the index must not have; it is asked while what a kill left is indexed, too."""
        return None

    def _open_blobs(self) -> BlobStore:
        chosen = self.settings
        template = chosen.template if chosen.layout == "files" else None
        return open_blobs(
            chosen.storage, self.directory, self.places.counts, durability=chosen.durability, template=template,
            before=chosen.storage_before,
        )  # fmt: skip

    def _recover(self) -> int:
        try:
            recovered = self.intake.recover()
        except StoreUnavailable as error:  # what it holds can be found nevertheless, and all of it later
            log.error("what was stored and not indexed is not looked for now: %s", error.strerror)
            return 0
        self.intake.settle()
        if recovered:
            log.info("%d instances that were stored but not indexed are indexed now", recovered)
        return recovered

    def close(self) -> None:
        """Close all of it; what is under way has to have ended."""
        self.database.sync()
        self.blobs.close()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
