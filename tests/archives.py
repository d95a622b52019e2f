"""Archives for the tests, and instances to put into them."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest
from index_records import header

from dicomnet import uids
from dicomnet.archive.holdings import Holdings
from dicomnet.archive.settings import ArchiveSettings
from dicomnet.files.part10 import meta_header
from dicomnet.repository.blob_store import NewBlob
from dicomnet.repository.incoming import BlobSink, Incoming, Memory
from dicomnet.repository.intake import Kept
from dicomnet.repository.node_events import NodeEvents

CT, LITTLE = uids.CT_IMAGE_STORAGE, uids.EXPLICIT_VR_LITTLE_ENDIAN


def data_set(number: int, *, study: int = 1, size: int = 0, **keywords: Any) -> bytes:
    """The data set of a CT; a size is that of its pixels."""
    names = {
        "StudyInstanceUID": f"1.2.{study}",
        "SeriesInstanceUID": f"1.2.{study}.1",
        "SOPInstanceUID": f"1.2.{study}.1.{number}",
        "PatientID": f"P{study}",
        "InstanceNumber": number,
    }
    if size:
        pixels = hashlib.sha256(f"{number}".encode()).digest() * (size // 32)
        keywords = {"BitsAllocated": 16, "PixelData": pixels} | keywords
    return header(**(names | keywords))


def part10(number: int, *, study: int = 1, sender: str = "TESTER", **keywords: Any) -> bytes:
    return meta_header(CT, f"1.2.{study}.1.{number}", LITTLE, sender) + data_set(number, study=study, **keywords)


def an_incoming(number: int, *, study: int = 1, **keywords: Any) -> Incoming:
    data = data_set(number, study=study, **keywords)
    uid = f"1.2.{study}.1.{number}"
    return Incoming(NewBlob(CT, uid, LITTLE, meta_header(CT, uid, LITTLE, "TESTER"), [data], b"", len(data)), data)


def make(directory: Path, **settings: Any) -> ArchiveSettings:
    """A new archive that does not wait for the disk."""
    return ArchiveSettings.make(directory, **{"port": 0, "durability": "os", **settings})


def opened(directory: Path, **settings: Any) -> Holdings:
    return Holdings(directory, make(directory, **settings))


def store(holdings: Holdings, files: list[bytes]) -> None:
    """Store Part 10 streams one after the other, each as it would arrive."""
    for stream in files:
        meta = 144 + int.from_bytes(stream[140:144], "little")
        uid = stream[:meta].partition(b"\x02\x00\x03\x00UI")[2]
        uid = uid[2 : 2 + int.from_bytes(uid[:2], "little")].rstrip(b"\0").decode()
        sink = BlobSink(holdings.blobs, (CT, uid, LITTLE), stream[:meta], Memory())
        for start in range(meta, len(stream), 50_000):
            sink.write([stream[start : start + 50_000]])
        incoming, writer = sink.take("TESTER")
        if writer is not None:
            holdings.blobs.finish(writer).result(30)
        [kept] = holdings.intake.store([incoming])
        assert isinstance(kept, Kept), kept


def cut_off(monkeypatch: pytest.MonkeyPatch, events: NodeEvents) -> tuple[threading.Event, threading.Event]:
    """Keep a node from the events of others while the first of these is set; the second says that it has tried."""
    cut, tried, follow, read = threading.Event(), threading.Event(), NodeEvents._follow, NodeEvents._read

    def follow_unless_cut(self: NodeEvents) -> None:
        if self is events and cut.is_set():
            tried.set()
            raise OSError("no route to the database")
        follow(self)

    def read_unless_cut(self: NodeEvents) -> Any:
        if self is events and cut.is_set():
            raise OSError("no route to the database")
        return read(self)

    monkeypatch.setattr(NodeEvents, "_follow", follow_unless_cut)
    monkeypatch.setattr(NodeEvents, "_read", read_unless_cut)
    return cut, tried
