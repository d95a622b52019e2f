"""Archives for the tests, and instances to put into them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from index_records import header

from dicomnet import uids
from dicomnet.archive.holdings import Holdings
from dicomnet.archive.settings import ArchiveSettings
from dicomnet.files.part10 import meta_header
from dicomnet.repository.blob_store import NewBlob
from dicomnet.repository.incoming import Incoming

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
