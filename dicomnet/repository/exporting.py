"""Export: instances as files in a folder, as a zip file, or as media with a DICOMDIR (PS3.10, PS3.3 Annex F)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from sqlalchemy import select

from ..client import media_set
from ..errors import InvalidArgument, OutputFileError, cannot_write
from . import schema
from .holdings import Holdings
from .places import Place
from .single_files import FileTemplate

__all__ = ["FORMATS", "TEMPLATE", "export", "selected", "writing"]

FORMATS = ("folder", "zip", "dicomdir")
#: How instances are named in a folder or a zip file.
TEMPLATE = FileTemplate("{PatientID}/{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm")
_PIECE = 1 << 20
_HEAD_PIECES = 4  # a header longer than this has no place in a directory

Progress = Callable[[int], None]


def selected(
    holdings: Holdings,
    *,
    patient: str | None = None,
    studies: Sequence[str] = (),
    series: Sequence[str] = (),
    instances: Sequence[str] = (),
) -> list[Place]:
    """The instances that are named: of a patient, of studies, series, or one by one; what is named in several has to
    fit all.

    Raises:
        InvalidArgument: nothing is named.
    """
    if patient is None and not studies and not series and not instances:
        raise InvalidArgument("nothing is named", hint="Name a patient, studies, series or instances.")
    who = None if patient is None else (patient, None)
    return holdings.places.retrieved(patient=who, studies=studies, series=series, instances=instances)


def export(holdings: Holdings, places: Sequence[Place], target: Path, form: str, *, progress: Progress) -> None:
    """Write instances, bit for bit as they are stored.

    Args:
        holdings: of the application.
        places: which.
        target: a new or empty folder; for "zip" a file that does not exist.
        form: one of `FORMATS`.
        progress: called with how many bytes more are written.

    Raises:
        OutputFileError: the target is there, or cannot be written.
    """
    with writing(target, form):
        if form == "zip":
            _zip(holdings, places, target, progress)
        elif form == "dicomdir":
            _media(holdings, places, target, progress)
        else:
            _folder(holdings, places, target, progress)


@contextmanager
def writing(target: Path, form: str) -> Iterator[None]:
    """See that the target is free; what does not let the block write there is told.

    Raises:
        OutputFileError: the target is there, or cannot be written.
    """
    if target.exists() and (form == "zip" or not target.is_dir() or any(target.iterdir())):
        raise OutputFileError("is there already", path=target)
    try:
        yield
    except OutputFileError:
        raise
    except OSError as error:
        raise cannot_write(error, target) from error


def _folder(holdings: Holdings, places: Sequence[Place], target: Path, progress: Progress) -> None:
    for place, name in _named(holdings, places):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for piece in _stream(holdings, place):
                file.write(piece)
                progress(len(piece))


def _zip(holdings: Holdings, places: Sequence[Place], target: Path, progress: Progress) -> None:
    with zipfile.ZipFile(target, "x", compression=zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for place, name in _named(holdings, places):
            with archive.open(name, "w", force_zip64=place.size >= 1 << 31) as entry:
                for piece in _stream(holdings, place):
                    entry.write(piece)
                    progress(len(piece))


def _media(holdings: Holdings, places: Sequence[Place], target: Path, progress: Progress) -> None:
    """A file-set of the stored streams."""
    media_set.write_folder([_entry(holdings, place) for place in places], target, progress=progress)


def _entry(holdings: Holdings, place: Place) -> media_set.Entry:
    from pydicom import dcmread  # noqa: PLC0415

    head = io.BytesIO(b"".join(bytes(piece) for piece in islice(_stream(holdings, place), _HEAD_PIECES)))
    return media_set.Entry.of(
        dcmread(head, stop_before_pixels=True), place.size, lambda: _stream(holdings, place), place.uid
    )


def _named(holdings: Holdings, places: Sequence[Place]) -> Iterator[tuple[Place, str]]:
    """The name of each in a folder, by the study and series that it belongs to."""
    columns = schema.patient.c.pid, schema.study.c.uid.label("study"), schema.series.c.uid.label("series")
    joined = schema.instance.join(schema.series).join(schema.study).join(schema.patient)
    query = select(*columns).select_from(joined)
    for place in places:
        with holdings.database.read() as connection:
            row = connection.execute(query.where(schema.instance.c.id == place.id)).one_or_none()
        if row is not None:
            names = {"PatientID": row.pid or "", "StudyInstanceUID": row.study, "SeriesInstanceUID": row.series}
            yield place, TEMPLATE.path({**names, "SOPInstanceUID": place.uid})


def _stream(holdings: Holdings, place: Place) -> Iterator[memoryview]:
    reader = holdings.blobs.open(place.ref)
    try:
        buffer = memoryview(bytearray(min(_PIECE, place.size)))
        position = 0
        while position < place.size and (length := reader.read_into(position, buffer)):
            yield buffer[:length]
            position += length
    finally:
        reader.close()
