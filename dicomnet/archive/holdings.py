"""`Holdings`: what an archive holds, opened, with its settings."""

from __future__ import annotations

from pathlib import Path

from ..repository import holdings
from ..repository.holdings import INDEX_NAME
from .settings import ArchiveSettings

__all__ = ["INDEX_NAME", "Holdings"]


class Holdings(holdings.Holdings):
    """An archive's directory, open.

    Args:
        directory: of the archive, with its settings.
        settings: of the archive; those in its directory by default.

    Raises:
        InvalidArgument: there is no archive, or its database cannot be opened.
    """

    settings: ArchiveSettings

    def __init__(self, directory: Path, settings: ArchiveSettings | None = None) -> None:
        super().__init__(directory, settings or ArchiveSettings.load(directory))
