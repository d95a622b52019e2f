"""Retention and quota: the studies that were received longest ago go, but for those that must not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from sqlalchemy import func, select

from ..errors import InvalidArgument
from ..log import log
from ..repository import schema
from ..repository.catalog import Level
from ..repository.deletion import delete_instances
from ..repository.work_schema import commitment, outbox
from .commitment import QUEUE
from .holdings import Holdings

__all__ = ["QUIET_SECONDS", "Policy", "Pruned", "prune"]

#: A study that received something within this time is not touched: more may be on its way.
QUIET_SECONDS = 3600.0
_PAGE = 200
_DAY = 86_400.0

_S, _P = schema.study.c, schema.patient.c


@dataclass(frozen=True, slots=True)
class Policy:
    """What is kept.

    Attributes:
        seconds: for how long after a study has received its last instance; None: for ever.
        most_bytes: of all that is stored; None: without a bound.
        patients: Patient IDs whose studies are never deleted.
        studies: Study Instance UIDs that never are.

    Raises:
        InvalidArgument: it says nothing.
    """

    seconds: float | None = None
    most_bytes: int | None = None
    patients: frozenset[str] = frozenset()
    studies: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.seconds is None and self.most_bytes is None:
            raise InvalidArgument("neither an age nor a size is given", hint="Say --days 3650, or --size 500g.")

    @classmethod
    def of(
        cls, days: float | None, most_bytes: int | None, patients: Iterable[str], studies: Iterable[str]
    ) -> Self | None:
        """The policy of settings; None: everything is kept."""
        if days is None and most_bytes is None:
            return None
        return cls(None if days is None else days * _DAY, most_bytes, frozenset(patients), frozenset(studies))


@dataclass(frozen=True, slots=True)
class Pruned:
    """A study that went, or that would have and must not: then ``kept`` says why."""

    uid: str
    bytes: int
    instances: int
    kept: str = ""


def prune(holdings: Holdings, policy: Policy, now: float, *, only_tell: bool = False) -> Iterator[Pruned]:
    """Delete what a policy does not keep, what was quiet for the longest time first; it may run beside a server.

    What a sender waits to hear of, by storage commitment, stays; so does what is being received. An instance that comes
    meanwhile stays, too, and so what is being read: a file that is open can be read to its end.

    Args:
        holdings: the archive.
        policy: what is kept.
        now: seconds since 1970.
        only_tell: delete nothing.
    """
    with holdings.database.read() as connection:
        total = int(connection.execute(select(func.coalesce(func.sum(_S.bytes), 0))).scalar_one())
    for uid, patient, size, count, seen_at in _oldest(holdings, now - QUIET_SECONDS):
        too_old = policy.seconds is not None and seen_at < now - policy.seconds
        too_much = policy.most_bytes is not None and total > policy.most_bytes
        if not (too_old or too_much):
            return
        why = _protected(policy, uid, patient)
        instances = [] if why else [one.uid for one in holdings.index.instances(Level.STUDY, [uid])]
        why = why or ("its storage commitment is not reported yet" if _awaited(holdings, instances) else "")
        if why:
            yield Pruned(uid, size, count, why)
            continue
        if not only_tell:
            gone = delete_instances(holdings, instances)
            log.info("study %s is deleted: %d instances, %d bytes", uid, gone.instances, gone.bytes)
        total -= size
        yield Pruned(uid, size, len(instances))


def _protected(policy: Policy, uid: str, patient: str) -> str:
    if uid in policy.studies:
        return "the study is protected"
    return "the patient is protected" if patient and patient in policy.patients else ""


def _oldest(holdings: Holdings, before: float) -> Iterator[tuple[str, str, int, int, float]]:
    """Studies that were last added to before then, the oldest first."""
    query = select(_S.uid, _P.pid, _S.bytes, _S.n_inst, _S.seen_at, _S.id).join(schema.patient)
    after = -1.0, 0
    while True:
        later = (_S.seen_at > after[0]) | ((_S.seen_at == after[0]) & (_S.id > after[1]))
        page = query.where(_S.seen_at < before, later).order_by(_S.seen_at, _S.id).limit(_PAGE)
        with holdings.database.read() as connection:
            rows = connection.execute(page).all()
        for row in rows:
            yield row.uid, row.pid or "", row.bytes, row.n_inst, row.seen_at
        if len(rows) < _PAGE:
            return
        after = rows[-1].seen_at, rows[-1].id


def _awaited(holdings: Holdings, instances: list[str]) -> bool:
    """Whether a report is due on one of these instances."""
    wanted = set(instances)
    due = select(outbox.c.key).where(outbox.c.queue == QUEUE)
    with holdings.database.read() as connection:
        requests = connection.execute(select(commitment.c.request).where(commitment.c.uid.in_(due))).scalars().all()
    return any(uid in wanted for request in requests for _, uid in json.loads(request))
