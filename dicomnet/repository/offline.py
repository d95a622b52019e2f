"""Instances that are on a medium only: deleted here, and known to be had by a person's hand (PS3.3 Section C.4.23)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from . import schema
from .database import Database, parts
from .work_schema import offline

__all__ = ["OfflineInstance", "OfflineInstances"]


@dataclass(frozen=True, slots=True)
class OfflineInstance:
    """An instance, and the medium that it is on."""

    uid: str
    cls: str
    series_uid: str
    file_set_id: str
    file_set_uid: str


class OfflineInstances:
    """What is on media, as far as the repository was told; what it holds itself is online all the same."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, uids: Sequence[str], file_set_id: str, file_set_uid: str) -> int:
        """Note that instances, which are held yet, are on a medium; before they are deleted. How many those were."""
        joined = schema.instance.join(schema.series).join(schema.study)
        columns = (schema.instance.c.uid, schema.instance.c.cls, schema.series.c.uid, schema.study.c.uid)

        def work(connection: Connection) -> int:
            count = 0
            for group in parts(uids):
                query = select(*columns).select_from(joined).where(schema.instance.c.uid.in_(group))
                rows = connection.execute(query).all()
                connection.execute(delete(offline).where(offline.c.uid.in_(group)))
                names = ("uid", "cls", "series_uid", "study_uid")
                medium = {"file_set_id": file_set_id, "file_set_uid": file_set_uid}
                if rows:
                    values = [dict(zip(names, row, strict=True)) | medium for row in rows]
                    connection.execute(insert(offline), values)
                count += len(rows)
            return count

        return self._database.transaction(work)

    def of(self, study_uid: str) -> list[OfflineInstance]:
        """Those of a study."""
        columns = (offline.c.uid, offline.c.cls, offline.c.series_uid, offline.c.file_set_id, offline.c.file_set_uid)
        with self._database.read() as connection:
            rows = connection.execute(select(*columns).where(offline.c.study_uid == study_uid)).all()
        return [OfflineInstance(*row) for row in rows]
