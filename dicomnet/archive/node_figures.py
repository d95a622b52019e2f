"""What an archive's node tells of itself, and what of all nodes the admin interface shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.exc import DBAPIError

from ..repository.nodes import BEAT_SECONDS
from ..repository.storage_service import StorageService
from ..server.base import NotNow
from .holdings import Holdings

__all__ = ["ArchiveNodes", "NodeFigures"]

_RATE_SECONDS = BEAT_SECONDS / 2  # at least, of which a rate is taken


class NodeFigures:
    """Figures of an archive: what was stored, and how fast lately.

    Args:
        holdings: of the archive.
        storage: counts.
        more: what else is told.
    """

    def __init__(self, holdings: Holdings, storage: StorageService, more: Callable[[], Mapping[str, Any]]) -> None:
        self._holdings, self._storage, self._more = holdings, storage, more
        self._before = storage.stored, time.monotonic()
        self._rate = 0.0

    def __call__(self) -> dict[str, Any]:
        """As they are now; ``rate`` is instances a second over some seconds."""
        stored, now = self._storage.stored, time.monotonic()
        before, then = self._before
        if now - then >= _RATE_SECONDS:
            self._before, self._rate = (stored, now), (stored - before) / (now - then)
        return {
            "stored": stored, "failed": self._storage.failed, "rate": round(self._rate, 1),
            "waiting": self._storage.committer.waiting, **self._more(), "storage": self._holdings.settings.storage,
        }  # fmt: skip


class ArchiveNodes:
    """`server.base.NodeDirectory` of an archive.

    Args:
        holdings: of the archive.
        address, facts: this node's own, which are of now.
    """

    def __init__(self, holdings: Holdings, address: Callable[[], str], facts: Callable[[], Mapping[str, Any]]) -> None:
        self._holdings, self._address, self._facts = holdings, address, facts

    def all(self) -> list[dict[str, Any]]:
        """See `NodeDirectory`; what waits in the queues of all is told with this node."""
        nodes = self._holdings.nodes
        try:
            found = [one.as_json() for one in nodes.all()]
            queued = sum(one.items for one in self._holdings.outbox.counts())
        except DBAPIError as error:
            what = f"the nodes of the archive cannot be asked for now: {type(error.orig).__name__}"
            raise NotNow(what, hint="See that the database of the archive runs.") from error
        for one in found:
            if one["id"] == nodes.id:
                one |= {"address": self._address(), "facts": {**self._facts(), "queued": queued}}
        return found
