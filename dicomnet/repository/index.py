"""The index: what the repository holds, by patient, study, series and instance."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from sqlalchemy import Connection

from ..errors import InvalidArgument
from .attributes import InstanceRecord
from .catalog import Level
from .database import Database
from .finding import Early, QueryTooLong, stream
from .identity import PatientId
from .insertion import Added, Barring, Insertion, Outcome
from .keys import LEVEL, Identifier, InvalidKey
from .locations import InstanceLocation, locations
from .patients import contradiction
from .query import Plan, Statement, check_hierarchy, plan
from .responses import Answering, Answers, Match
from .scope import ALL, Scope

__all__ = ["Added", "Index", "InstanceLocation", "Outcome", "PatientId", "QueryTooLong"]

ONLINE = Answers()


class Index:
    """An index in a database; any number of threads, and of processes on PostgreSQL, may use one.

    Args:
        database: with all tables.
        clock: seconds since 1970, for what is kept of when a study was last seen.
        barring: says which instances are not added; it is asked in the transaction that would add them.
    """

    def __init__(
        self, database: Database, *, clock: Callable[[], float] = time.time, barring: Barring | None = None
    ) -> None:
        self.database = database
        self.clock = clock
        self._barring = barring

    def add(self, group: Sequence[InstanceRecord], *, logged: bool = False) -> list[Added]:
        """Add instances that are stored, all in one transaction, which is on the disk when this returns.

        What is told of a patient, study or series first is kept. Counts are exact after each group.

        Args:
            group: records with their places; a few dozen to a few hundred is where a commit costs least.
            logged: the blob store has a log of them, which the next start reads; see `Database.write`.

        Returns:
            The outcome for each record, in order. What is not `Outcome.NEW` left no trace in the index.
        """
        if not group:
            return []
        now = self.clock()
        return self.database.transaction(
            lambda connection: self.insertion(connection, now).add(group), logged=logged, repeatable=True
        )

    def insertion(self, connection: Connection, now: float) -> Insertion:
        """What adds instances in the caller's transaction, which others come before or after."""
        return Insertion(connection, now, contradiction, self._barring)

    def find(
        self,
        identifier: Identifier,
        *,
        level: Level | None = None,
        root: Level = Level.STUDY,
        limit: int | None = None,
        after: int | None = None,
        seconds: float | None = None,
        answers: Answers = ONLINE,
        scope: Scope = ALL,
    ) -> Iterator[Match]:
        """Find entities at a level; closing the iterator gives its connection back.

        Args:
            identifier: the keys, and by its options what they mean.
            level: of the entities; None is that of the identifier.
            root: the highest level of the information model: PATIENT or STUDY.
            limit: the most matches. With one, or with ``after``, they come in an order that does not change.
            after: the `Match.cursor` to go on after.
            seconds: the time that the query may take, without what the caller does between matches; None is any.
            answers: what each answer says of where its instances are.
            scope: what the caller may see.

        Raises:
            InvalidKey: at once, for an identifier that its level and root do not allow.
            InvalidArgument: at once, where what ``after`` names is gone.
            QueryTooLong: while matches are taken.
        """
        ordered = after is not None
        planned, answering = self.planned(identifier, level, root, limit, answers, scope, ordered=ordered)
        statement = planned.statement if after is None else self._after(planned, after)
        return self._matches(planned, statement, answering, limit, seconds)

    def planned(
        self,
        identifier: Identifier,
        level: Level | None = None,
        root: Level = Level.STUDY,
        limit: int | None = None,
        answers: Answers = ONLINE,
        scope: Scope = ALL,
        *,
        ordered: bool = False,
    ) -> tuple[Plan, Answering]:
        """How `find` would go about it; its ``unsupported`` keys are those that status FF01 is for."""
        level = identifier.level if level is None else level
        if level is None:
            raise InvalidKey(LEVEL, "is missing")
        check_hierarchy(identifier, level, root)
        tags = tuple(key.tag for key in identifier.keys)
        sqlite = self.database.is_sqlite
        planned = plan(identifier, level, sqlite=sqlite, tags=tags, ordered=ordered, limit=limit, scope=scope)
        return planned, Answering(identifier, level, planned.layout, answers)

    def _after(self, planned: Plan, entity: int) -> Statement:
        with self.database.read() as connection:
            position = connection.execute(planned.position(entity)).first()
        if position is None:
            raise InvalidArgument("what the search goes on after is gone", hint="Search again from the beginning.")
        return planned.after(position)

    def _matches(
        self,
        planned: Plan,
        statement: Statement,
        answering: Answering,
        limit: int | None,
        seconds: float | None,
    ) -> Iterator[Match]:
        if limit is not None and limit <= 0:
            return
        early = planned.early if statement is planned.statement else None
        rows = stream(
            self.database, statement, planned.accepted, seconds, planned.following, most=planned.most,
            early=None if early is None or limit is None else Early(early, limit),
        )  # fmt: skip
        try:
            for number, row in enumerate(rows, 1):
                yield Match(row, answering)
                if number == limit:
                    return
        finally:
            rows.close()

    def instances(self, level: Level, uids: Iterable[str], *, scope: Scope = ALL) -> Iterator[InstanceLocation]:
        """Where the instances of some patients, studies or series, or these instances are, by series and number.

        Args:
            level: what the UIDs are of; at the level PATIENT they are patient IDs of any issuer.
            uids: any number; what there is not is left out.
            scope: what the caller may see; what is hidden is left out, too.
        """
        return locations(self.database, level, uids, scope)
