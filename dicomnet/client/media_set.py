"""Media: file-sets with their DICOMDIR (PS3.10, PS3.3 Annex F), written to folders, zip files and ISO images, and read.

What does not fit on one medium goes on several, each a file-set of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .. import uids
from ..config import Limits
from ..dataset import codec
from ..dataset.types import Dataset
from ..errors import DicomNetError, InputFileError, InputProblem, InvalidArgument, OutputFileError, cannot_write
from ..files.part10 import meta_header
from .inputs import Gatherer, Item, gather
from .media_directory import Directory
from .media_image import is_image, unpack_image, write_image

__all__ = ["CAPACITIES", "FORMS", "PROFILES", "Contents", "Entry", "Medium", "check", "completed", "entries_of", "make",
           "open_medium", "split", "write", "write_folder"]  # fmt: skip

FORMS = ("folder", "zip", "iso")
#: Bytes that a medium holds, by its name (PS3.12); a little is left for its file system.
CAPACITIES = {"CD": 700_000_000, "DVD": 4_690_000_000, "DVD-DL": 8_500_000_000, "BD": 25_000_000_000}
_NATIVE = frozenset({uids.EXPLICIT_VR_LITTLE_ENDIAN})
_JPEG = _NATIVE | {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.70"}
_JPEG_2000 = _NATIVE | {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}
#: Application profiles (PS3.11 Annexes D, H, I and J): the transfer syntaxes that each allows.
PROFILES = {
    "STD-GEN-CD": _NATIVE, "STD-GEN-DVD-RAM": _NATIVE, "STD-GEN-DVD-JPEG": _JPEG, "STD-GEN-DVD-J2K": _JPEG_2000,
    "STD-GEN-USB-JPEG": _JPEG, "STD-GEN-USB-J2K": _JPEG_2000, "STD-GEN-BD-JPEG": _JPEG, "STD-GEN-BD-J2K": _JPEG_2000,
}  # fmt: skip
_SECTOR = 2048
_RECORD = 2048  # more than the records of an instance take in the directory
_LABEL = 4 << 20  # more than the file system and an empty directory take
_DIRECTORY = "DICOMDIR"
#: Of VR CS, without spaces: it is the label of an ISO image, too.
_FILE_SET_ID = re.compile(r"[A-Z0-9_]{1,16}").fullmatch
#: What directory records must have a value for, and instances may lack (PS3.3 Section F.5).
_NEEDS = {
    "PatientID": "NONE", "StudyDate": "19000101", "StudyTime": "000000", "StudyID": "1", "Modality": "OT",
    "SeriesNumber": 0, "InstanceNumber": 0,
}  # fmt: skip

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An instance that is to be put on a medium.

    Attributes:
        header: its data set without pixel data, and what its directory records need.
        size: bytes of its file.
        pieces: gives its file, Part 10, piece by piece.
        name: for messages.
    """

    header: Dataset
    size: int
    pieces: Callable[[], Iterable[Any]]
    name: str = ""

    @classmethod
    def of(cls, header: Dataset, size: int, pieces: Callable[[], Iterable[Any]], name: str = "") -> Entry:
        """With what its directory records must have and it may lack."""
        return cls(completed(header), size, pieces, name or str(header.SOPInstanceUID))

    @property
    def space(self) -> int:
        """Bytes that it takes on a medium: whole sectors, and its records."""
        return -(-self.size // _SECTOR) * _SECTOR + _RECORD


def completed(header: Dataset) -> Dataset:
    """An instance with what its directory records must have and it may lack."""
    for keyword, value in _NEEDS.items():
        if not header.get(keyword) and header.get(keyword) != 0:
            setattr(header, keyword, value)
    return header


@dataclass(frozen=True, slots=True)
class Medium:
    """One medium of a set.

    Attributes:
        path: the folder or file.
        file_set_id, file_set_uid: what it is called, and its UID.
        instances: the SOP Instance UIDs on it.
        size: bytes of their files.
    """

    path: Path
    file_set_id: str
    file_set_uid: str
    instances: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What is on a medium that is read.

    Attributes:
        file_set_id, file_set_uid: what it is called, and its UID.
        listed: the SOP Instance UIDs that its directory lists and that are there.
        missing: lines about records that lead nowhere, or to what cannot be read.
        unlisted: files of DICOM that the directory does not list.
    """

    file_set_id: str
    file_set_uid: str
    listed: tuple[str, ...]
    missing: tuple[str, ...]
    unlisted: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether all that is listed is there, and all that is there is listed."""
        return not self.missing and not self.unlisted


# ---- writing ---------------------------------------------------------------------------------------------------


@contextmanager
def entries_of(paths: Iterable[Any], *, profile: str = "") -> Iterator[list[Entry]]:
    """What these files, folders, zip files and DICOMDIRs have, each instance once, for as long as the block runs.

    Args:
        paths: where they are.
        profile: one of `PROFILES`, whose transfer syntaxes instances must have; empty takes all.

    Raises:
        InputFileError: one cannot be read.
        InvalidArgument: one has another transfer syntax; there is no such profile.
    """
    if profile and profile not in PROFILES:
        raise InvalidArgument(f"there is no application profile {profile!r}", hint=f"One of {', '.join(PROFILES)}.")
    gatherer = Gatherer(_raise, pattern="*", recurse=True, transfer_syntax=None, limits=Limits())
    with closing(gatherer):
        items = [item for window in gatherer.windows([os.fspath(path) for path in paths]) for item in window]
        for item in items:
            if profile and item.pair[1] not in PROFILES[profile]:
                what = f"{item.name}: {profile} has no {uids.name_of(item.pair[1])}"
                raise InvalidArgument(what, hint="Convert it, or choose another.")
        yield [_entry(item) for item in {item.sop_instance_uid: item for item in reversed(items)}.values()]


def _raise(_: object, __: str, error: DicomNetError) -> None:
    raise error


def _entry(item: Item) -> Entry:
    """A file is copied as it is; what is inside of an archive gets a header of ours."""
    path = item.source if isinstance(item.source, str) and os.path.isfile(item.source) else None
    if path is not None:
        return Entry.of(codec.read(path, None), os.path.getsize(path), lambda: _file_pieces(path), item.name)
    with codec.open_source(item.open()) as source:
        size, begins = source.size, meta_header(*item.pair[:1], item.sop_instance_uid, item.pair[1], "DICOMNET")
        data = b"".join(bytes(one) for one in source.chunks(Limits().file_buffer))
    header = codec.decode(data, item.pair[1])
    header.pop("PixelData", None)
    return Entry.of(header, size + len(begins), lambda: _item_pieces(item, begins), item.name)


def _file_pieces(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(Limits().file_buffer):
            yield piece


def _item_pieces(item: Item, begins: bytes) -> Iterator[Any]:
    yield begins
    with codec.open_source(item.open()) as source:
        yield from source.chunks(Limits().file_buffer)


def split(entries: Iterable[Entry], capacity: int | None) -> list[list[Entry]]:
    """What goes on each medium: patients, studies and series stay together as long as they follow each other.

    Raises:
        InvalidArgument: an instance is larger than a medium.
    """
    keys = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
    ordered = sorted(entries, key=lambda entry: [str(entry.header.get(key, "")) for key in keys])
    media: list[list[Entry]] = [[]]
    room = free = (capacity or 0) - _LABEL
    for entry in ordered:
        if capacity is None:
            media[0].append(entry)
            continue
        if entry.space > room:
            raise InvalidArgument(
                f"{entry.name} takes {entry.space} bytes, and a medium has room for {max(room, 0)}",
                hint="Choose larger media.",
            )
        if entry.space > free:
            media.append([])
            free = room
        media[-1].append(entry)
        free -= entry.space
    return media


def make(paths: Iterable[Any], target: Path, *, profile: str = "", **how: Any) -> list[Medium]:
    """Put what these paths have on media; see `entries_of` and `write`."""
    with entries_of(paths, profile=profile) as entries:
        return write(entries, target, **how)


def write(
    entries: Iterable[Entry], target: Path, *, form: str = "folder", capacity: int | None = None, name: str = "DICOM",
    beside: Path | None = None, progress: Progress | None = None,
) -> list[Medium]:  # fmt: skip
    """Write a set of media; all of them, or none.

    Args:
        entries: what is put on them.
        target: a folder that is new or empty, or a file that does not exist. The second of several media is
            beside it: ``disc``, ``disc-2``, or ``disc.iso``, ``disc-2.iso``.
        form: "folder", "zip" or "iso".
        capacity: bytes of a medium; None is any number.
        name: File-set ID (0004,1130) of the first; the others are numbered.
        beside: a folder whose files are put on each medium, too, such as a viewer.
        progress: called with how many bytes more are written.

    Raises:
        InvalidArgument: there is nothing to write, an instance is larger than a medium, a name cannot be.
        OutputFileError: the target is there, or cannot be written.
    """
    if form not in FORMS:
        raise InvalidArgument(f"media cannot be written as {form!r}", hint=f"One of {', '.join(FORMS)}.")
    if not _FILE_SET_ID(name):
        raise InvalidArgument(f"{name!r} is no name of media", hint="At most 16 of A-Z, 0-9 and _.")
    extra = sum(-(-path.stat().st_size // _SECTOR) * _SECTOR for path in _files(beside))
    media = split(entries, None if capacity is None else capacity - extra)
    if not media[0]:
        raise InvalidArgument("there is nothing to put on media")
    return _written(media, _places(target, len(media), form), form, name, beside, progress)


def _written(
    media: list[list[Entry]], places: list[Path], form: str, name: str, beside: Path | None, progress: Progress | None
) -> list[Medium]:
    """All media, written beside their places and put there when all are whole."""
    made: list[tuple[Path, Path]] = []
    try:
        done = []
        for number, (group, place) in enumerate(zip(media, places, strict=True), 1):
            made.append((place.with_name(f".{place.name}.part"), place))
            title = name if len(media) == 1 else f"{name[: 15 - len(str(number))]}_{number}"
            done.append(replace(_medium(group, made[-1][0], form, title, beside, progress), path=place))
        for part, place in made:
            if place.is_dir():
                place.rmdir()
            part.replace(place)
        return done
    except OSError as error:
        if isinstance(error, DicomNetError):
            raise
        raise cannot_write(error, places[0]) from error
    finally:
        for part, _ in made:
            shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)


def _places(target: Path, count: int, form: str) -> list[Path]:
    more = [target.with_name(f"{target.stem}-{number}{target.suffix}") for number in range(2, count + 1)]
    for place in (target, *more):
        if place.exists() and (form != "folder" or not place.is_dir() or any(place.iterdir())):
            raise OutputFileError("is there already", path=place)
    return [target, *more]


def _files(folder: Path | None) -> list[Path]:
    return [] if folder is None else sorted(path for path in folder.rglob("*") if path.is_file())


def _medium(
    group: Sequence[Entry], part: Path, form: str, title: str, beside: Path | None, progress: Progress | None
) -> Medium:
    """One medium, beside its place."""
    part.parent.mkdir(parents=True, exist_ok=True)
    if form == "folder":
        medium = write_folder(group, part, file_set_id=title, progress=progress)
        if beside is not None:
            shutil.copytree(beside, part, dirs_exist_ok=True)
        return medium
    with TemporaryDirectory(prefix=f".{part.name}-", dir=part.parent) as folder:
        content = Path(folder) / "content"
        medium = write_folder(group, content, file_set_id=title, progress=progress)
        if beside is not None:
            shutil.copytree(beside, content, dirs_exist_ok=True)
        _zip(content, part) if form == "zip" else write_image(content, part, title)
    return medium


def _zip(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "x", compression=zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in _files(folder):
            archive.write(path, path.relative_to(folder).as_posix())


def write_folder(
    entries: Sequence[Entry], folder: Path, *, file_set_id: str = "", progress: Progress | None = None
) -> Medium:
    """One file-set in a folder, which may be there and has to be empty.

    Raises:
        InvalidArgument: an instance lacks what its directory records need.
    """
    directory = Directory(file_set_id)
    files = [(entry, folder.joinpath(*directory.add(entry.header))) for entry in entries]
    folder.mkdir(parents=True, exist_ok=True)
    size = 0
    for entry, path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for piece in entry.pieces():
                file.write(piece)
                size += len(piece)
                if progress is not None:
                    progress(len(piece))
    (folder / _DIRECTORY).write_bytes(directory.encode())
    instances = tuple(str(entry.header.SOPInstanceUID) for entry in entries)
    return Medium(folder, file_set_id, directory.uid, instances, size)


# ---- reading ---------------------------------------------------------------------------------------------------


@contextmanager
def open_medium(path: Path) -> Iterator[Path]:
    """The folder of a medium: itself, or what a zip file or an ISO image has, for as long as the block runs.

    Raises:
        InputFileError: it is none of these, or has no DICOMDIR.
    """
    with TemporaryDirectory(prefix="dicomnet-medium-") as temporary:
        folder = path
        try:
            if path.is_file() and is_image(path):
                folder = Path(temporary)
                unpack_image(path, folder)
            elif path.is_file() and zipfile.is_zipfile(path):
                folder = Path(temporary)
                with zipfile.ZipFile(path) as archive:
                    if sum(one.file_size for one in archive.infolist()) > shutil.disk_usage(folder).free // 2:
                        raise OSError("it unpacks to more than the disk has room for")
                    archive.extractall(folder)
        except (OSError, zipfile.BadZipFile) as error:
            raise InputFileError(f"cannot be read: {error}", problem=InputProblem.CANNOT_READ, path=path) from error
        found = [one for one in (folder.iterdir() if folder.is_dir() else ()) if one.name.upper() == _DIRECTORY]
        if not found:
            raise InputFileError("has no DICOMDIR", problem=InputProblem.CANNOT_READ, path=path)
        yield folder


def check(path: Path) -> Contents:
    """Read a medium: what its directory lists, what of that is not there, and what is there and not listed.

    Raises:
        InputFileError: it is no medium.
    """
    missing: list[str] = []
    with open_medium(path) as folder:
        directory = next(one for one in folder.iterdir() if one.name.upper() == _DIRECTORY)
        listed = list(gather([str(directory)], lambda _, __, error: missing.append(str(error)), recurse=False))
        known = {os.path.realpath(str(item.source)) for item in listed}
        others = [item.name for item in gather([str(folder)], lambda *_: None, recurse=True)
                  if os.path.realpath(str(item.source)) not in known]  # fmt: skip
        read = codec.read(str(directory), None)
        named, uid = read.get("FileSetID", "") or "", read.file_meta.get("MediaStorageSOPInstanceUID", "")
        unlisted = tuple(os.path.relpath(one, folder) for one in others)
        return Contents(str(named), str(uid), tuple(item.sop_instance_uid for item in listed), tuple(missing), unlisted)
