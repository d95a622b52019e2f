"""Instances into a repository, a group at a time: blobs first, then the index, then what contradicts is settled.

When `Intake.store` returns, the bytes of the group are durable and the index has committed: their sender may be
told so. What fails in between leaves blobs that no index knows, which the next start finds (`recover`). So it finds
what a loss of power took from the index, too: the blob store's log is the one thing that the disk has to confirm, and a
start reads as much of it as the index was not confirmed to have (`BlobStore.settle`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ..errors import DicomNetError, InvalidArgument
from ..log import log
from .attributes import InstanceRecord, instance_record
from .blob_source import hash_of
from .blob_store import BlobRef, BlobStore, NewBlob, StoredBlob
from .database import is_away
from .incoming import HEAD_BYTES, Incoming
from .index import Added, Index, Outcome
from .outbox import Outbox
from .places import Place, Places
from .quarantine import Quarantine
from .removal import DELETING, given_up, remove_instances

__all__ = ["Duplicates", "Intake", "Kept", "Mismatch", "read_head"]

#: Seconds for which bytes that were found, and that the index has elsewhere, stay: compaction or a move may be about to
#: say that they are the ones.
SETTLED_SECONDS = 3600.0
_RECOVERED = 200  # instances in a transaction
_NAMES = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "StudyDate", "SOPInstanceUID")


class Duplicates(StrEnum):
    """What becomes of an instance whose UID is taken, by other bytes."""

    KEEP = "keep"  # the first one stays; the second is dropped, and logged
    REPLACE = "replace"  # the second one takes its place
    QUARANTINE = "quarantine"  # the first one stays, the second waits for a person


class Mismatch(InvalidArgument):
    """A data set whose UIDs are not those of the request that it came with.

    Attributes:
        tag: the element.
    """

    def __init__(self, tag: int, name: str) -> None:
        super().__init__(f"{name} of the data set is not that of the request")
        self.tag = tag


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of an instance: it is in the index, was there already, or is in quarantine."""

    record: InstanceRecord
    outcome: Outcome
    reason: str = ""


@dataclass(slots=True)
class _Placed:
    """An instance whose bytes are stored."""

    record: InstanceRecord
    ref: BlobRef
    calling: str
    result: Kept | Exception | None = None


class _NotTaken(Exception):
    """The index does not take an instance in the place of another."""

    def __init__(self, added: Added) -> None:
        super().__init__(added.reason)
        self.added = added


class Intake:
    """The one way into a repository.

    Args:
        blobs: where bytes go; as many threads as it says may store at a time.
        index: where records go.
        quarantine: where contradictions go.
        duplicates: what becomes of other bytes under a UID that is taken.
        storage: the name of the blob store, in the index.
        character_set: of data sets that name none.
    """

    def __init__(
        self,
        blobs: BlobStore,
        index: Index,
        quarantine: Quarantine,
        *,
        duplicates: Duplicates = Duplicates.QUARANTINE,
        storage: str = "",
        character_set: str = "",
    ) -> None:
        self._blobs, self._index, self._quarantine = blobs, index, quarantine
        self._places = Places(index.database)
        self._outbox = Outbox(index.database.write, clock=index.clock)
        self.duplicates: Duplicates = duplicates
        self.character_set: str = character_set
        self._storage = storage

    def store(self, group: Sequence[Incoming]) -> list[Kept | Exception]:
        """Store a group: what became of each instance, in order.

        An exception stands for an instance that cannot be indexed (`MissingElement`, `Mismatch`); it left nothing.

        Raises:
            OSError: the blob store took nothing of the group.
        """
        results: list[Kept | Exception | None] = [None] * len(group)
        good: list[int] = []
        records: list[InstanceRecord] = []
        for place, incoming in enumerate(group):
            try:
                records.append(self._record_of(incoming))
                good.append(place)
            except InvalidArgument as error:
                results[place] = error
                incoming.discard()
        blobs = [_named(group[place].blob, record) for place, record in zip(good, records, strict=True)]
        refs = self._blobs.put(blobs) if blobs else []
        placed = [
            self._placed(record, ref, blob.sha256, group[place].calling)
            for place, record, blob, ref in zip(good, records, blobs, refs, strict=True)
        ]
        self._drop(self._settle(placed))
        if self._blobs.due:
            self.settle()
        for place, one in zip(good, placed, strict=True):
            results[place] = one.result
        return [one for one in results if one is not None]

    def settle(self) -> None:
        """Have the disk confirm the index: the next start need not look at what was put so far."""
        self._index.database.sync()
        self._blobs.settle()

    def _record_of(self, incoming: Incoming) -> InstanceRecord:
        blob = incoming.blob
        record = instance_record(
            incoming.head,
            blob.transfer_syntax_uid,
            sop_class_uid=blob.sop_class_uid,
            sop_instance_uid=blob.sop_instance_uid,
            character_set=self.character_set,
        )
        if record.uid != blob.sop_instance_uid:
            raise Mismatch(0x00080018, "SOP Instance UID")
        if record.cls != blob.sop_class_uid:
            raise Mismatch(0x00080016, "SOP Class UID")
        return record

    def _placed(self, record: InstanceRecord, ref: BlobRef, sha256: bytes, calling: str) -> _Placed:
        return _Placed(record.placed(self._storage, ref.key, ref.offset, ref.length, sha256), ref, calling)

    # ---- the index ---------------------------------------------------------------------------------------------

    def _settle(self, placed: Sequence[_Placed]) -> list[BlobRef]:
        """Into the index, or into quarantine; which blobs are not needed."""
        added = self._add(placed)
        dropped: list[BlobRef] = []
        again: list[_Placed] = []
        doubtful: list[tuple[_Placed, Added]] = []
        for one, result in zip(placed, added, strict=True):
            if isinstance(result, Exception):
                one.result = result
                if not (isinstance(result, DBAPIError) and is_away(result)):  # else it may be there: a start looks
                    dropped.append(one.ref)
                continue
            one.result = Kept(one.record, result.outcome, result.reason)
            if result.outcome is Outcome.SAME:
                again.append(one)
            elif result.outcome is not Outcome.NEW:
                doubtful.append((one, result))
        if again:
            dropped += self._twice(again)
        if doubtful:
            dropped += self._contradictions(doubtful)
        return dropped

    def _drop(self, dropped: Sequence[BlobRef]) -> None:
        """Delete bytes that are not needed. What has become of the instances is settled, whether that works or not."""
        try:
            if dropped:
                self._blobs.delete(dropped)
        except OSError as error:
            log.warning("bytes that are not needed stay, until `dicomnet archive fsck`: %s", error.strerror)

    def _add(self, placed: Sequence[_Placed]) -> list[Added | Exception]:
        """Add all in one transaction; where the database refuses, each by itself, so that one spoils no other."""
        try:
            return list(self._index.add([one.record for one in placed], logged=True))
        except DBAPIError as error:
            if is_away(error):
                log.error("%d instances are refused, and can be sent again: the index is away", len(placed))
                return [error] * len(placed)
            if len(placed) == 1:
                log.error("an instance cannot be indexed: %s", type(error.orig).__name__)
                return [error]
        return [result for one in placed for result in self._add([one])]

    def _twice(self, again: Sequence[_Placed]) -> list[BlobRef]:
        """What was there already, with the same bytes: which blobs are not needed."""
        dropped: list[BlobRef] = []
        places = self._places.of(one.record.uid for one in again)
        for one in again:
            place = places.get(one.record.uid)
            if place is None:
                dropped += self._settle([one])  # it was deleted, or replaced, meanwhile: the index is asked anew
            elif place.ref == one.ref:
                continue  # another process has read it from the log
            elif self._is_whole(place):
                dropped.append(one.ref)
            else:
                dropped += self._replace(one, "is kept again: the bytes that were stored before are lost or damaged")
                del places[one.record.uid]
        return dropped

    def _is_whole(self, place: Place) -> bool:
        try:
            return self._blobs.holds(place.ref) and hash_of(self._blobs, place) == place.sha
        except (OSError, DicomNetError):
            return False

    def _contradictions(self, doubtful: Sequence[tuple[_Placed, Added]]) -> list[BlobRef]:
        """Settle what the index did not take; which blobs are not needed."""
        dropped: list[BlobRef] = []
        waiting: list[tuple[_Placed, Added]] = []
        for one, result in doubtful:
            other_bytes = result.outcome is Outcome.DIFFERENT
            if other_bytes and self.duplicates is Duplicates.KEEP:
                log.warning("%s sent other bytes of %s: those that came first are kept", one.calling, one.record.uid)
                dropped.append(one.ref)
            elif other_bytes and self.duplicates is Duplicates.REPLACE:
                dropped += self._replace(one, "replaces what was stored before")
            else:
                waiting.append((one, result))
        if waiting:
            dropped += self._into_quarantine(waiting)
        return dropped

    def _into_quarantine(self, waiting: Sequence[tuple[_Placed, Added]]) -> list[BlobRef]:
        rows = [(one.record, result.outcome.value, result.reason, one.calling) for one, result in waiting]
        added = self._quarantine.add(rows)
        for one, result in waiting:
            why = result.reason or "other bytes under a UID that is taken"
            what = "has come again, and stays rejected" if result.outcome is Outcome.REJECTED else "is in quarantine"
            log.warning("%s from %s %s: %s", one.record.uid, one.calling or "a file", what, why)
        known = [one for (one, _), is_new in zip(waiting, added, strict=True) if not is_new]
        held = {item.ref for one in known for item in self._quarantine.find(one.record.uid)}
        return [one.ref for one in known if one.ref not in held]

    def _replace(self, one: _Placed, what: str) -> list[BlobRef]:
        """Put it in the place of the one that is there, or in quarantine where the index does not take it."""

        def work(connection: Connection) -> list[BlobRef]:
            gone = remove_instances(connection, [one.record.uid])
            added = self._index.insertion(connection, self._index.clock()).add([one.record])[0]
            if added.outcome is not Outcome.NEW:
                raise _NotTaken(added)
            return gone

        try:
            gone = self._index.database.transaction(work)
        except _NotTaken as error:
            one.result = Kept(one.record, error.added.outcome, error.added.reason)
            return self._into_quarantine([(one, error.added)])
        one.result = Kept(one.record, Outcome.NEW)
        log.warning("%s from %s %s", one.record.uid, one.calling or "a file", what)
        return [ref for ref in gone if ref != one.ref]

    # ---- what is stored already --------------------------------------------------------------------------------

    def recover(self, *, recent: bool = True) -> int:
        """Index blobs that the index does not know; how many those were.

        Args:
            recent: only those that a crash may have kept from it; False: all that the store has (`reindex`).
        """
        found = 0
        blobs = iter(self._blobs.scan(recent=recent))
        while stored := list(islice(blobs, _RECOVERED)):
            found += self.absorb(stored)
        return found

    def absorb(self, stored: Iterable[StoredBlob]) -> int:
        """Index blobs that are stored, but for those that are there; how many were not."""
        known = self._known(stored := list(stored))
        placed: list[_Placed] = []
        for blob in stored:
            if blob.ref in known or not self._blobs.holds(blob.ref):
                continue
            try:
                record = self._record_of(Incoming(_described(blob), read_head(self._blobs, blob)))
            except (InvalidArgument, OSError) as error:
                log.error("%s: %s is not indexed: %s", blob.ref.key, blob.sop_instance_uid, error)
                continue
            placed.append(self._placed(record, blob.ref, blob.sha256, ""))
        self._give_up(self._settle(placed))
        return len(placed)

    def _give_up(self, refs: Sequence[BlobRef]) -> None:
        """Have bytes that were found, and that the index does not need, deleted later, if it does not need them then.

        A migration or a compaction puts copies before the index says where they are; a process that finds them
        meanwhile must not take them away.
        """
        payload = {"blobs": [[ref.key, ref.offset, ref.length] for ref in refs]}

        def work(connection: Connection) -> None:
            self._outbox.enqueue(connection, DELETING, payload, delay=SETTLED_SECONDS, retry_class="busy")

        if refs:
            self._index.database.transaction(work)

    def _known(self, stored: Sequence[StoredBlob]) -> set[BlobRef]:
        """Those that the index, or quarantine, knows by their very place, and those that wait to be deleted."""
        uids = [blob.sop_instance_uid for blob in stored]
        known = {place.ref for place in self._places.of(uids).values()}
        known |= {one.ref for uid in uids for one in self._quarantine.find(uid)}
        return known | given_up(self._index.database)


def read_head(blobs: BlobStore, blob: StoredBlob) -> bytes:
    """The beginning of a stored data set."""
    reader = blobs.open(blob.ref)
    try:
        buffer = bytearray(min(blob.ref.length - blob.header_length, HEAD_BYTES))
        return bytes(buffer[: reader.read_into(blob.header_length, memoryview(buffer))])
    finally:
        reader.close()


def _described(blob: StoredBlob) -> NewBlob:
    uids = blob.sop_class_uid, blob.sop_instance_uid, blob.transfer_syntax_uid
    return NewBlob(*uids, b"", [], blob.sha256, blob.ref.length - blob.header_length)


def _named(blob: NewBlob, record: InstanceRecord) -> NewBlob:
    """With its hash, where it is in memory, and what a template may name it by."""
    blob.hash()
    study, series = record.study, record.series
    texts = record.patient.pid, study.uid, series.uid, series.modality, study.date, record.uid
    blob.names = dict(zip(_NAMES, texts, strict=True))
    return blob
