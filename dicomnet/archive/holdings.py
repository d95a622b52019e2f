"""`Holdings`: what an archive holds, opened: blobs, index, quarantine, outbox, and the way in."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from ..log import log
from ..repository.database import Database
from ..repository.disk import DiskWatch
from ..repository.index import Index
from ..repository.intake import Intake
from ..repository.outbox import Outbox
from ..repository.places import Places
from ..repository.quarantine import Quarantine
from ..repository.segments import SegmentStore
from ..repository.single_files import FileTemplate
from .settings import ArchiveSettings

__all__ = ["INDEX_NAME", "Holdings"]

INDEX_NAME = "index.db"


class Holdings:
    """An archive's directory, open.

    What a process that was killed left is put in order first: torn writes are cut, and what was stored but not indexed
    is indexed.

    Args:
        directory: of the archive, with its settings.
        settings: of the archive; those in its directory by default.

    Raises:
        InvalidArgument: there is no archive, or its database cannot be opened.

    Attributes:
        blobs, database, index, places, quarantine, outbox, intake, disk: its parts.
        recovered: how many instances were stored but not indexed when it was opened.
    """

    def __init__(self, directory: Path, settings: ArchiveSettings | None = None) -> None:
        self.directory = directory
        self.settings: ArchiveSettings = settings or ArchiveSettings.load(directory)
        durable = self.settings.durability == "disk"
        self.database: Database = Database.opened(self.settings.database or directory / INDEX_NAME, durable=durable)
        self.blobs: SegmentStore = self._open_blobs()
        self.index: Index = Index(self.database)
        self.places: Places = Places(self.database)
        self.quarantine: Quarantine = Quarantine(self.database)
        self.outbox: Outbox = Outbox(self.database.write)
        self.disk: DiskWatch = DiskWatch(self.blobs.root, self.settings.watermarks)
        self.intake: Intake = Intake(
            self.blobs,
            self.index,
            self.quarantine,
            duplicates=self.settings.duplicates,
            character_set=self.settings.character_set,
        )
        self.recovered: int = self._recover()

    def _open_blobs(self) -> SegmentStore:
        template = FileTemplate(self.settings.template) if self.settings.layout == "files" else None
        root = self.directory / self.settings.storage
        return SegmentStore(root, durability=self.settings.durability, template=template)

    def _recover(self) -> int:
        recovered = self.intake.recover()
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
