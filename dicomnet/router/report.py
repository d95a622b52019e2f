"""The end of the day: each instance that was received is sent, parked, dropped, on hold or waiting, as rows prove.

An instance is as far as the least finished of its deliveries: it is sent only when all destinations have it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta

from sqlalchemy import case, func, select

from ..repository.database import Database
from .queue import State
from .schema import delivery, received

__all__ = ["StudyReport", "report", "total"]

_RANKS = (State.PARKED, State.WAITING, State.LEASED, State.HELD, State.SENT, State.DROPPED)
_LOST = len(_RANKS)


@dataclass(frozen=True, slots=True)
class StudyReport:
    """What became of the instances of a study; ``unaccounted`` is 0, or the database is damaged."""

    study: str
    patient: str
    accession: str
    received: int = 0
    sent: int = 0
    waiting: int = 0
    held: int = 0
    parked: int = 0
    dropped: int = 0
    unaccounted: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether all of it is sent, or dropped by a rule."""
        return self.sent + self.dropped == self.received

    @property
    def balances(self) -> bool:
        """Whether what was received is what became of it."""
        parts = self.sent + self.waiting + self.held + self.parked + self.dropped
        return parts == self.received and not self.unaccounted


def report(database: Database, day: date | None = None) -> list[StudyReport]:
    """What became of each study of which something was received on a day, or at any time."""
    one, table = delivery.c, received.c
    rank = case({str(state): number for number, state in enumerate(_RANKS)}, value=one.state, else_=_LOST)
    ranked = select(
        table.id, table.study, table.patient, table.accession, func.coalesce(func.min(rank), _LOST).label("rank")
    ).outerjoin(delivery, one.received_id == table.id)  # fmt: skip
    if day is not None:
        begin = datetime.combine(day, datetime.min.time())
        ranked = ranked.where(table.at >= begin.timestamp(), table.at < (begin + timedelta(days=1)).timestamp())
    each = ranked.group_by(table.id, table.study, table.patient, table.accession).subquery().c
    counts = [func.sum(case((each.rank == number, 1), else_=0)) for number in range(_LOST + 1)]
    query = select(
        each.study, func.max(each.patient), func.max(each.accession), func.count(), *counts
    ).group_by(each.study).order_by(func.min(each.id))  # fmt: skip
    with database.read() as connection:
        rows = connection.execute(query).all()
    return [_study(row[0], row[1], row[2], row[3], [int(count) for count in row[4:]]) for row in rows]


def _study(study: str, patient: str, accession: str, count: int, ranks: list[int]) -> StudyReport:
    parked, waiting, leased, held, sent, dropped, lost = ranks
    return StudyReport(study, patient, accession, count, sent, waiting + leased, held, parked, dropped, lost)


def total(studies: list[StudyReport]) -> StudyReport:
    """Of all studies together."""
    numbers = [one.name for one in fields(StudyReport) if one.name not in ("study", "patient", "accession")]
    return StudyReport("", "", "", **{name: sum(getattr(one, name) for one in studies) for name in numbers})
