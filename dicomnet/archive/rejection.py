"""Rejection notes: what they name goes out of sight (IHE Imaging Object Change Management, RAD-66).

An instance that a note rejects leaves the index, so that no query, retrieve, web service or commitment knows it, before
the note is acknowledged. Its bytes wait in quarantine, or are deleted, as the settings say. What comes again stays
rejected, while it is in quarantine: the transaction that would add it to the index looks there (`Holdings`). But of
data whose retention has expired (113039) it is taken as new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from .. import uids
from ..dataset import codec
from ..dataset.types import Dataset
from ..errors import DicomNetError
from ..log import log
from ..repository import schema
from ..repository.blob_source import data_set_of
from ..repository.blob_store import BlobRef
from ..repository.database import parts
from ..repository.deletion import delete_instances
from ..repository.incoming import Incoming
from ..repository.index import Outcome
from ..repository.intake import Kept
from ..repository.quarantine import EXPIRED, REJECTED, rejected
from ..repository.removal import DELETING, remove_instances
from .holdings import Holdings

__all__ = ["RejectionNotes", "commit_of"]

_QUALITY = "113001"
# Titles of rejection notes, of coding scheme DCM (PS3.16 CID 7011).
_TITLES = {
    _QUALITY: "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    EXPIRED: "Data Retention Policy Expired",
}
_I, _B, _SE, _ST = schema.instance.c, schema.blob.c, schema.series.c, schema.study.c


class RejectionNotes:
    """Stores what arrives, and honours the rejection notes in it.

    Args:
        holdings: of the archive.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings

    def store(self, group: Sequence[Incoming]) -> list[Kept | Exception]:
        """As `Intake.store`: a note that cannot be honoured now is an exception, and can be sent again."""
        results = self._holdings.intake.store(group)
        kept = [one for one in results if isinstance(one, Kept) and one.outcome in (Outcome.NEW, Outcome.SAME)]
        self._reject_again([one.record.uid for one in kept if one.outcome is Outcome.SAME])
        notes = {one.record.uid for one in kept if one.record.cls == uids.KEY_OBJECT_SELECTION_DOCUMENT_STORAGE}
        for place, result in enumerate(results) if notes else ():
            if isinstance(result, Kept) and result.record.uid in notes:
                try:
                    self.honour(result.record.uid)
                except (OSError, DBAPIError, DicomNetError) as error:
                    log.error("the rejection note %s cannot be honoured now", result.record.uid)
                    results[place] = error
        return results

    def honour(self, uid: str) -> int:
        """Reject what a key object selection that is stored says, if it is a rejection note; how many instances."""
        place = self._holdings.places.of([uid]).get(uid)
        if place is None:
            return 0
        note = codec.decode(data_set_of(self._holdings.blobs, place.ref), place.ts)
        code = _code_of(note)
        if code is None:
            return 0
        wanted = set(_references(note))
        found = self._there(wanted, uid)
        if code != _QUALITY:  # the note itself is for archives alone
            found.append(uid)
        if self._holdings.settings.rejection_notes == "delete":
            delete_instances(self._holdings, found)
        else:
            reason = f"{code} {_TITLES[code]}, by {uid}"
            self._holdings.database.transaction(partial(self._reject, found, reason))
        log.warning("the note %s rejects %d of %d instances: %s", uid, len(found) - (code != _QUALITY), len(wanted),
                    _TITLES[code])  # fmt: skip
        return len(found)

    def honour_all(self) -> None:
        """Reject once more what the notes in the index say: it was made anew from what is stored."""
        query = select(_I.uid).where(_I.cls == uids.KEY_OBJECT_SELECTION_DOCUMENT_STORAGE)
        with self._holdings.database.read() as connection:
            notes = connection.execute(query).scalars().all()
        for uid in notes:
            self.honour(uid)

    def _there(self, wanted: set[tuple[str, str, str]], note: str) -> list[str]:
        """Those of some studies, SOP classes and instances that are in the index so, of the patient of the note."""
        tables = schema.instance.join(schema.series).join(schema.study)
        patient = select(_ST.patient_id).select_from(tables).where(_I.uid == note)
        query = select(_ST.uid, _I.cls, _I.uid).select_from(tables)
        found: list[str] = []
        with self._holdings.database.read() as connection:
            query = query.where(_ST.patient_id == connection.execute(patient).scalar_one_or_none())
            for part in parts(sorted({uid for _, _, uid in wanted})):
                rows = connection.execute(query.where(_I.uid.in_(part)))
                found += [row[2] for row in rows if tuple(row) in wanted]
        return found

    def _reject_again(self, arrived: Sequence[str]) -> None:
        """Have what was rejected before, and came again while notes were not honoured, be so once more."""
        if not arrived:
            return
        with self._holdings.database.read() as connection:
            found = rejected(connection, arrived)
        for uid, reason in found.items():
            log.warning("%s has come again, and stays rejected", uid)
            self._holdings.database.transaction(partial(self._reject, [uid], reason))

    def _reject(self, found: Sequence[str], reason: str, connection: Connection) -> None:
        """Out of the index, into quarantine: all in the caller's transaction."""
        columns = (_I.uid, _I.cls, _I.ts, _ST.uid.label("study_uid"), _B.storage, _B.key, _I.off, _I.bytes, _I.sha)
        tables = schema.instance.join(schema.blob).join(schema.series, _I.series_id == _SE.id)
        query = select(*columns).select_from(tables.join(schema.study))
        if connection.dialect.name != "sqlite":
            query = query.with_for_update(of=schema.instance)
        rows = [row for part in parts(sorted(found)) for row in connection.execute(query.where(_I.uid.in_(part)))]
        gone = set(remove_instances(connection, found))
        spare: list[BlobRef] = []
        for row in rows:
            ref = BlobRef(row.key, row.off, row.bytes)
            if ref in gone and not self._holdings.quarantine.admit(connection, {**row._mapping, "kind": REJECTED,
                                                                                "reason": reason}):  # fmt: skip
                spare.append(ref)
        if spare:
            payload = {"blobs": [[ref.key, ref.offset, ref.length] for ref in spare]}
            self._holdings.outbox.enqueue(connection, DELETING, payload, retry_class="busy")


def commit_of(holdings: Holdings) -> Callable[[Sequence[Incoming]], Sequence[Kept | Exception]]:
    """What stores a group of an archive as its settings of that moment want rejection notes treated."""
    notes = RejectionNotes(holdings)

    def commit(group: Sequence[Incoming]) -> Sequence[Kept | Exception]:
        honoured = holdings.settings.rejection_notes != "store"
        return notes.store(group) if honoured else holdings.intake.store(group)

    return commit


def _code_of(note: Dataset) -> str | None:
    """The code of a rejection note's title; None of another selection of key objects."""
    for title in _items(note, "ConceptNameCodeSequence"):
        if title.get("CodingSchemeDesignator") == "DCM" and title.get("CodeValue") in _TITLES:
            return str(title.CodeValue)
    return None


def _references(note: Dataset) -> Iterator[tuple[str, str, str]]:
    """Study, SOP class and SOP instance of each instance that a selection is of (PS3.3 Section C.17.6.2)."""
    for study in _items(note, "CurrentRequestedProcedureEvidenceSequence"):
        for series in _items(study, "ReferencedSeriesSequence"):
            for one in _items(series, "ReferencedSOPSequence"):
                sop_class, uid = one.get("ReferencedSOPClassUID"), one.get("ReferencedSOPInstanceUID")
                yield str(study.get("StudyInstanceUID")), str(sop_class), str(uid)


def _items(data: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none of what has another value representation."""
    return list(data[keyword].value) if keyword in data and data[keyword].VR == "SQ" else []
