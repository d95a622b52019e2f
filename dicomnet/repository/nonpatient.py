"""Objects of no patient, in rows: hanging protocols, colour palettes, implant templates (PS3.4 Annex GG)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from enum import Enum

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import IntegrityError

from ..services.query_models import NONPATIENT as CLASSES
from .catalog import VR_OF
from .database import Database, parts
from .dicom_json import DicomJson, attributes_of_json, packed
from .keys import Identifier
from .work_schema import nonpatient

__all__ = ["CLASSES", "NonPatientObjects", "Taken"]

_PAGE = 200


class Taken(Enum):
    """What became of an object that was to be kept."""

    NEW = "new"
    SAME = "same"  # it is there already
    REPLACED = "replaced"
    DIFFERENT = "different"  # there is one of this UID with other bytes, which stays


class NonPatientObjects:
    """The objects of a repository. They are few and small, and kept whole in its database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, uid: str, sop_class: str, item: DicomJson, header: bytes, data: bytes, *, replace: bool) -> Taken:
        """Keep an object; it is durable once this returns.

        Args:
            uid, sop_class: what it is.
            item: its attributes, without what is binary.
            header, data: its Part 10 stream.
            replace: whether it takes the place of one with other bytes.
        """
        sha = hashlib.sha256(data).digest()

        def work(connection: Connection) -> Taken:
            known = connection.execute(select(nonpatient.c.sha).where(nonpatient.c.uid == uid)).scalar()
            if known is not None and bytes(known) == sha:
                return Taken.SAME
            if known is not None and not replace:
                return Taken.DIFFERENT
            if known is not None:  # else what another process has put meanwhile would go
                connection.execute(delete(nonpatient).where(nonpatient.c.uid == uid))
            values = {"uid": uid, "cls": sop_class, "attrs": packed(item), "sha": sha, "stream": header + data}
            connection.execute(insert(nonpatient).values(values))
            return Taken.NEW if known is None else Taken.REPLACED

        try:
            return self._database.transaction(work)
        except IntegrityError:  # another process was first: it is found now
            return self._database.transaction(work)

    def find(self, identifier: Identifier, classes: Sequence[str]) -> Iterator[DicomJson]:
        """Those of these SOP classes that match, one by one; keys that they are not matched by do not count."""
        criteria = {f"{key.tag:08X}": key.criterion for key in identifier.keys if key.tag in VR_OF and key.criterion}
        after = 0
        while True:
            query = select(nonpatient.c.id, nonpatient.c.attrs).where(nonpatient.c.id > after)
            query = query.where(nonpatient.c.cls.in_(classes)).order_by(nonpatient.c.id).limit(_PAGE)
            with self._database.read() as connection:
                rows = connection.execute(query).all()
            for _, attrs in rows:
                item: DicomJson = json.loads(attrs)
                attributes = attributes_of_json(item)
                if all(one.accepts(attributes.get(tag, "")) for tag, one in criteria.items()):
                    yield item
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    def streams(self, uids: Sequence[str], classes: Sequence[str]) -> list[bytes]:
        """The Part 10 streams of those of these SOP classes that have one of these UIDs."""
        wanted = select(nonpatient.c.stream).where(nonpatient.c.cls.in_(classes))
        with self._database.read() as connection:
            return [
                stream
                for part in parts(sorted(set(uids)))
                for stream in connection.execute(wanted.where(nonpatient.c.uid.in_(part))).scalars()
            ]
