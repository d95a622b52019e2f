"""Storage: what is sent is in the archive, and in its index, when it is acknowledged (PS3.4 Annex B)."""

from __future__ import annotations

from .holdings import Holdings
from .intake import Kept
from .receiving import DiskRoom, Receiver

__all__ = ["DiskRoom", "StorageService"]


class StorageService(Receiver[Kept]):
    """Stores what is sent.

    Args:
        holdings: where.
        turns: what comes in one turn of a listener's loop is a group; the loop calls `committer.turn`.
    """

    def __init__(self, holdings: Holdings, *, turns: bool = False) -> None:
        super().__init__(holdings.blobs, holdings.disk, holdings.intake.store, turns=turns)
