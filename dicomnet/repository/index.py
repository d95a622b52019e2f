"""The index: what the repository holds, by patient, study, series and instance."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from .attributes import InstanceRecord
from .database import Database
from .insertion import Added, Insertion, Outcome
from .patients import contradiction

__all__ = ["Added", "Index", "Outcome"]


class Index:
    """An index in a database; any number of threads, and of processes on PostgreSQL, may use one.

    Args:
        database: with all tables.
        clock: seconds since 1970, for what is kept of when a study was last seen.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self.database = database
        self.clock = clock

    def add(self, group: Sequence[InstanceRecord]) -> list[Added]:
        """Add instances that are stored, all in one transaction, which is on the disk when this returns.

        What is told of a patient, study or series first is kept. Counts are exact after each group.

        Args:
            group: records with their places; a few dozen to a few hundred is where a commit costs least.

        Returns:
            The outcome for each record, in order. What is not `Outcome.NEW` left no trace in the index.
        """
        if not group:
            return []
        now = self.clock()
        return self.database.transaction(lambda connection: Insertion(connection, now, contradiction).add(group))
