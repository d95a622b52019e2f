"""What an archive does by itself once in a while, and on several nodes one of them for all.

Each node tells that it lives. One has the duty to index what the blob store has and the index does not know (what a
node that was killed had stored, and had not acknowledged), and to delete the bytes that wait to be deleted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.exc import DBAPIError

from ..log import log, log_failure
from ..repository.deletion import delete_blobs_due
from ..repository.nodes import BEAT_SECONDS
from .holdings import Holdings

__all__ = ["SWEEPING", "Housekeeper"]

SWEEPING = "sweep"
SWEEP_SECONDS = 600.0  # between two looks
_DUTY_SECONDS = 120.0  # after which another node takes over


class Housekeeper:
    """Tells of this node, and looks after what is everyone's: in two threads, so that it tells while it looks.

    Args:
        holdings: what is looked after.
        address: says where this node takes DICOM.
        facts: figures that it tells of itself.
    """

    def __init__(self, holdings: Holdings, address: Callable[[], str], facts: Callable[[], Mapping[str, Any]]) -> None:
        self._holdings, self._address, self._facts = holdings, address, facts
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._is_on_duty = False
        self._next_sweep = 0.0

    def start(self) -> None:
        """Begin. An index in SQLite has this one node: it is told of at the start and at the end alone."""
        self.tell()
        if self._holdings.database.is_sqlite:
            return
        self._holdings.events.start()
        for name, work, trouble in (
            ("beat", self.beat, "this node cannot say that it lives"),
            ("look", self.look, "what is stored and not indexed is not looked for now"),
        ):
            thread = threading.Thread(target=self._run, args=(work, trouble), name=f"dicomnet-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def tell(self) -> None:
        """Say that this node lives, and how it is.

        Raises:
            sqlalchemy.exc.DBAPIError: the database was away for too long.
        """
        self._holdings.nodes.tell(self._address(), self._facts())

    def _run(self, work: Callable[[], None], trouble: str) -> None:
        while True:
            try:
                work()
            except DBAPIError as error:
                log.warning("%s: the index is away (%s)", trouble, type(error.orig).__name__)
            except OSError as error:  # the blob store is away: what it has is looked at when the duty comes again
                log.warning("%s: %s", trouble, error.strerror)
            except Exception as error:
                log_failure("housekeeping failed", error)
            if self._stop.wait(BEAT_SECONDS):
                return

    def beat(self) -> None:
        """Tell that this node lives, and take its duty, or keep it."""
        self.tell()
        self._is_on_duty = self._holdings.nodes.take(SWEEPING, _DUTY_SECONDS)

    def look(self) -> None:
        """Do what is its duty, where it is due."""
        if self._is_on_duty and self._holdings.database.clock() >= self._next_sweep:
            self.sweep()
            self._holdings.events.forget()
            self._next_sweep = self._holdings.database.clock() + SWEEP_SECONDS

    def sweep(self) -> int:
        """Index what is stored and not known, delete what waits to be deleted; how many instances were indexed."""
        found = self._holdings.intake.recover()
        if found:
            log.info("%d instances that another node had stored, and not indexed, are indexed now", found)
        delete_blobs_due(self._holdings)
        return found

    def close(self) -> None:
        """End, and say so."""
        self._stop.set()
        self._holdings.events.close()
        for thread in self._threads:
            thread.join()
        try:
            self._holdings.nodes.leave()
        except DBAPIError as error:
            log.warning("this node cannot say that it ends: the index is away (%s)", type(error.orig).__name__)
