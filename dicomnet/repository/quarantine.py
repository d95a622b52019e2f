"""Quarantine: what was received whole, and is kept, but contradicts what the index holds; a person decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from .attributes import InstanceRecord
from .blob_store import BlobRef
from .database import Database
from .prepared import Prepared, among
from .work_schema import quarantine

__all__ = ["EXPIRED", "REJECTED", "Quarantine", "Quarantined", "rejected"]

#: The kind of what a rejection note names; its reason begins with the code of the note's title (PS3.16 CID 7011).
REJECTED = "rejected"
#: Data Retention Policy Expired: what was rejected for that is new when it comes again.
EXPIRED = "113039"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An instance in quarantine.

    Attributes:
        kind: "different" bytes under a UID that is taken, "patient conflict", "series conflict", "rejected" by a note.
        reason: what conflicts, without patient data.
        at: when it came, in seconds since 1970.
    """

    id: int
    uid: str
    cls: str
    ts: str
    study_uid: str
    storage: str
    key: str
    offset: int
    size: int
    sha: bytes
    calling: str
    kind: str
    reason: str
    at: float

    @property
    def ref(self) -> BlobRef:
        """Where its bytes are."""
        return BlobRef(self.key, self.offset, self.size)


class Quarantine:
    """The quarantine of a repository."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def add(self, kept: Sequence[tuple[InstanceRecord, str, str, str]]) -> list[bool]:
        """Keep instances whose bytes are stored: record, kind, reason, and who sent it.

        Returns:
            Of each, whether it was added; False: the same bytes are there already.
        """
        return self._database.transaction(lambda connection: [self._add(connection, *one) for one in kept])

    def _add(self, connection: Connection, record: InstanceRecord, kind: str, reason: str, calling: str) -> bool:
        values = {
            "uid": record.uid, "cls": record.cls, "ts": record.ts, "study_uid": record.study.uid,
            "storage": record.storage, "key": record.key, "off": record.offset, "bytes": record.size,
            "sha": record.sha, "calling": calling, "kind": kind, "reason": reason,
        }  # fmt: skip
        return self.admit(connection, values)

    def admit(self, connection: Connection, values: Mapping[str, Any]) -> bool:
        """Keep an instance by its columns, all but id and time, in the caller's transaction; as of `add`.

        What is there already, for another reason, is there for this one from now on.
        """
        columns = quarantine.c
        same = columns.uid == values["uid"], columns.sha == values["sha"], columns.kind == values["kind"]
        known = connection.execute(select(columns.reason).where(*same)).first()
        if known is not None:
            if known.reason != values["reason"]:
                connection.execute(update(quarantine).where(*same).values(reason=values["reason"]))
            return False
        connection.execute(insert(quarantine).values({**values, "at": self._clock()}))
        return True

    def items(self, *, after: int = 0, most: int = 100) -> list[Quarantined]:
        """What is there, the oldest first; the next page begins after the last id of this one."""
        query = select(*quarantine.c).where(quarantine.c.id > after).order_by(quarantine.c.id).limit(most)
        with self._database.read() as connection:
            return [_item(row) for row in connection.execute(query).mappings()]

    def find(self, uid: str) -> list[Quarantined]:
        """What is there of an instance."""
        query = select(*quarantine.c).where(quarantine.c.uid == uid).order_by(quarantine.c.id)
        with self._database.read() as connection:
            return [_item(row) for row in connection.execute(query).mappings()]

    def under(self, *keys: str) -> list[Quarantined]:
        """What is there whose bytes are under keys of the blob store, as many as one statement takes."""
        query = select(*quarantine.c).where(quarantine.c.key.in_(keys)).order_by(quarantine.c.id)
        with self._database.read() as connection:
            return [_item(row) for row in connection.execute(query).mappings()]

    def move(self, moves: Sequence[tuple[Quarantined, BlobRef]]) -> None:
        """Say that bytes are elsewhere now."""

        def work(connection: Connection) -> None:
            for one, ref in moves:
                change = update(quarantine).where(quarantine.c.id == one.id)
                connection.execute(change.values(key=ref.key, off=ref.offset))

        self._database.transaction(work)

    def remove(self, ids: Sequence[int]) -> list[BlobRef]:
        """Forget instances; their blobs are the caller's to delete."""
        columns = quarantine.c

        def work(connection: Connection) -> list[BlobRef]:
            gone = delete(quarantine).where(columns.id.in_(ids)).returning(columns.key, columns.off, columns.bytes)
            return [BlobRef(*row) for row in connection.execute(gone)]

        return self._database.transaction(work)


def rejected(connection: Connection, uids: Sequence[str]) -> dict[str, str]:
    """Which of some instances stay rejected when they are sent again, and why: in the caller's transaction."""
    return {row.uid: row.reason for row in _REJECTED[connection.dialect.name == "sqlite"].listed(connection, uids)}


def _rejected(*, in_sqlite: bool) -> Prepared:
    named, columns = among(quarantine.c.uid, in_sqlite=in_sqlite), quarantine.c
    query = select(columns.uid, columns.reason).where(named, columns.kind == REJECTED)
    return Prepared(query.where(~columns.reason.startswith(EXPIRED)))


_REJECTED = {in_sqlite: _rejected(in_sqlite=in_sqlite) for in_sqlite in (True, False)}


def _item(row: RowMapping) -> Quarantined:
    values: dict[str, Any] = {**row, "sha": bytes(row["sha"])}
    return Quarantined(offset=values.pop("off"), size=values.pop("bytes"), **values)
