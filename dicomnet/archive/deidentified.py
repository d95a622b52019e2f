"""De-identified export: instances without who they are of, in a folder, a zip file, or on media (PS3.15 Annex E)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..client import media_set
from ..dataset import codec
from ..dataset.codec import Dataset
from ..errors import DicomNetError
from ..files.part10 import meta_header
from ..repository.blob_source import data_set_of
from ..repository.deidentify import Deidentifier, Report
from ..repository.exporting import TEMPLATE, writing
from ..repository.places import Place
from .holdings import Holdings

__all__ = ["Written", "export_deidentified"]

_NAMES = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@dataclass(slots=True)
class Written:
    """What became of an instance: written under another UID, or not at all.

    Attributes:
        uid: its own SOP Instance UID.
        written_as: the one that stands for it; empty where it was not written.
        report: what was done to it.
        error: why it was not written.
    """

    uid: str
    written_as: str = ""
    report: Report = field(default_factory=Report)
    error: str = ""


def export_deidentified(
    holdings: Holdings,
    places: Sequence[Place],
    target: Path,
    form: str,
    deidentifier: Deidentifier,
    *,
    progress: Callable[[int], None],
) -> Iterator[Written]:
    """Write instances de-identified, one after the other; what became of each. One that fails does not stop the others.

    Args:
        holdings: the archive.
        places: which.
        target: a new or empty folder; for "zip" a file that does not exist.
        form: one of `exporting.FORMATS`.
        deidentifier: says what is replaced.
        progress: called with how many stored bytes more are done.

    Raises:
        OutputFileError: the target is there, or cannot be written.
    """
    keep = _Media(target) if form == "dicomdir" else _Zip(target) if form == "zip" else _Folder(target)
    with writing(target, form), keep:
        for place in places:
            written = Written(place.uid)
            try:
                _one(holdings, place, deidentifier, keep, written)
            except DicomNetError as error:
                written.error = error.message
            progress(place.size)
            yield written


def _one(holdings: Holdings, place: Place, deidentifier: Deidentifier, keep: _Folder, written: Written) -> None:
    dataset = codec.decode(data_set_of(holdings.blobs, place.ref), place.ts)
    written.report = deidentifier.apply(dataset)
    uid = str(dataset.SOPInstanceUID)
    stream = meta_header(place.cls, uid, place.ts, "") + codec.encode(dataset, place.ts)
    keep.write(TEMPLATE.path({name: str(dataset.get(name, "") or "") for name in _NAMES}), stream, dataset)
    written.written_as = uid


class _Folder:
    """A file for each instance."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __enter__(self) -> None:
        self.target.mkdir(parents=True, exist_ok=True)

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, name: str, stream: bytes, dataset: Dataset) -> None:
        path = self.target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stream)


class _Zip(_Folder):
    """The same in a zip file."""

    def __enter__(self) -> None:
        self._archive = zipfile.ZipFile(self.target, "x", compression=zipfile.ZIP_DEFLATED, compresslevel=1)

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def write(self, name: str, stream: bytes, dataset: Dataset) -> None:
        self._archive.writestr(name, stream)


class _Media(_Folder):
    """A file-set with its DICOMDIR, written at the end."""

    def __enter__(self) -> None:
        from pydicom.fileset import FileSet  # noqa: PLC0415

        self._files = FileSet()

    def __exit__(self, *raised: object) -> None:
        if raised[0] is None:
            self._files.write(self.target)

    def write(self, name: str, stream: bytes, dataset: Dataset) -> None:
        from pydicom import dcmread  # noqa: PLC0415

        self._files.add(media_set.completed(dcmread(io.BytesIO(stream))))
