"""Storage: what is sent is in the archive, and in its index, when it is acknowledged (PS3.4 Annex B)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .audited import Recorder
from .holdings import Holdings
from .incoming import Incoming
from .intake import Kept
from .receiving import DiskRoom, Receiver

__all__ = ["DiskRoom", "StorageService"]

Commit = Callable[[Sequence[Incoming]], Sequence[Kept | Exception]]


class StorageService(Receiver[Kept]):
    """Stores what is sent.

    Args:
        holdings: where.
        turns: what comes in one turn of a listener's loop is a group; the loop calls `committer.turn`.
        commit: what stores a group; by default `Intake.store`.
        audit: records what is stored; None: there is no audit trail.
    """

    def __init__(
        self, holdings: Holdings, *, turns: bool = False, commit: Commit | None = None, audit: Recorder | None = None
    ) -> None:
        watch = None if audit is None else audit.watch_store
        super().__init__(holdings.blobs, holdings.disk, commit or holdings.intake.store, turns=turns, watch=watch)
