"""`Holdings`: what an archive holds, opened, with its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection

from ..repository import holdings
from ..repository.holdings import INDEX_NAME
from ..repository.insertion import Barring
from ..repository.quarantine import rejected
from ..repository.setting_snapshots import SettingSnapshots
from .settings import ArchiveSettings
from .shared_settings import Refused, usable

__all__ = ["INDEX_NAME", "Holdings"]


class Holdings(holdings.Holdings):
    """An archive's directory, open.

    Args:
        directory: of the archive, with its settings.
        settings: of the archive; those in its directory by default.

    Raises:
        InvalidArgument: there is no archive, or its database cannot be opened.

    Attributes:
        settings: those that hold: its own, and where they say nothing what all nodes have in common.
        given: its own.
        snapshots: what all nodes have in common.
        refused: the newest of these, where this node cannot use it, and works by one before.
    """

    settings: ArchiveSettings

    def __init__(self, directory: Path, settings: ArchiveSettings | None = None) -> None:
        self.given: ArchiveSettings = settings or ArchiveSettings.load(directory)
        super().__init__(directory, self.given)

    def _settle(self) -> None:
        self.snapshots: SettingSnapshots = SettingSnapshots(self.database, self.events)
        self.refused: Refused | None = None
        self.settings, _, _ = usable(self.given, self.snapshots, told=False)

    def _barring(self) -> Barring:
        return self._rejected

    def _rejected(self, connection: Connection, uids: Sequence[str]) -> Mapping[str, str]:
        """What rejection notes have named, where they are honoured."""
        return {} if self.settings.rejection_notes == "store" else rejected(connection, uids)
