"""What is to be stored, found: files, directories, DICOMDIRs, zip archives, data sets, bytes, iterables of these."""

from __future__ import annotations

import os
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from .. import uids
from ..config import DESCRIBE_BUFFER, Limits
from ..dataset import codec
from ..dataset.mending import mended
from ..errors import DicomNetError, InputFileError, InputProblem, InvalidArgument, escaped
from ..files.instance_source import DEFLATED, BytesSource, open_source
from ..files.part10 import Walker, read_meta

__all__ = ["Gatherer", "Item", "gather"]

# Small files are read once, when they are looked over, and held until they are sent: how small, and how much in all.
HELD_FILE = 64 << 10
HELD_BYTES = 64 << 20
# Of an iterable so many are planned together: they are held, and may be whole data sets.
WINDOW = 64

_INACTIVE = 0  # Record In-use Flag of what was taken out (PS3.3 Section F.3.2.2)
_ENCRYPTED = 1  # of the flags of an entry
_AGAIN = "Copy or export it again."

Refuse = Callable[[object, str, DicomNetError], None]


class Item:
    """One instance to be stored.

    Attributes:
        source: as it was given: a path, a data set; of an archive, its entry's name.
        name: by which people and reports know it; a path is absolute.
        pair: SOP class and transfer syntax.
        sop_instance_uid: which one it is.
        size: bytes of its data set; 0 where that is not known before it is sent.
        attempts: how often it has been sent.
    """

    __slots__ = ("_opened", "attempts", "name", "pair", "size", "sop_instance_uid", "source")

    def __init__(self, source: object, name: str, described: Any, opened: Any = None) -> None:
        self.source: object = source
        self.name: str = name
        self.pair: tuple[Any, Any] = (described.sop_class_uid, described.transfer_syntax_uid)
        self.sop_instance_uid: str = described.sop_instance_uid
        self.size: int = described.size
        self.attempts: int = 0
        self._opened = opened

    def open(self) -> Any:
        """What an association stores.

        Raises:
            InputFileError: it cannot be read after all.
        """
        if self._opened is None:
            return self.source
        return self._opened() if callable(self._opened) else self._opened


class _Described:
    """What is known of an instance before it is read whole."""

    def __init__(self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, size: int = 0) -> None:
        self.size = size
        self.sop_class_uid = sop_class_uid
        self.sop_instance_uid = sop_instance_uid
        self.transfer_syntax_uid = transfer_syntax_uid


class Gatherer:
    """Looks over what is given, and makes items of it; close it when they have been sent.

    Args:
        refuse: gets what cannot be sent, its name, and why.
        pattern: of the names of files in directories and archives.
        recurse: also the directories in directories.
        transfer_syntax: of data sets and bytes that do not know theirs.
        limits: bounds what an entry of an archive may become.
        force: also what is no data set in its transfer syntax.
        headerless: also data sets without file meta information.
    """

    def __init__(
        self,
        refuse: Refuse,
        *,
        pattern: str,
        recurse: bool,
        transfer_syntax: str | None,
        limits: Limits,
        force: bool = False,
        headerless: bool = False,
    ) -> None:
        self._mended = partial(mended, force=force, headerless=headerless)
        self._tell = refuse
        self._refused = 0
        self._usable: set[tuple[str, str]] = set()
        self._pattern = pattern
        self._recurse = recurse
        self._transfer_syntax = transfer_syntax
        self._limit = limits.archive_entry
        self._free = HELD_BYTES
        self._small = False
        self._buffer = bytearray(DESCRIBE_BUFFER)
        self._archives: list[zipfile.ZipFile] = []
        self._lock = threading.Lock()

    def windows(self, inputs: Iterable[Any]) -> Iterator[list[Item]]:
        """Items to be planned together: first all that is there, then what iterables give, some at a time."""
        streams = []
        items: list[Item] = []
        for given in inputs:
            if not _is_stream(given):
                items += self._items(given)
            elif isinstance(given, list | tuple):  # all there, like the files of a directory
                for one in given:
                    items += self._items(one)
            else:
                streams.append(given)
        yield items
        for stream in streams:
            window: list[Item] = []
            for given in stream:
                window += self._items(given)
                if len(window) >= WINDOW:
                    yield window
                    window = []
            yield window

    def close(self) -> None:
        """Close the archives."""
        for archive in self._archives:
            archive.close()

    def _items(self, given: Any) -> Iterator[Item]:
        if not isinstance(given, str | os.PathLike):
            yield from self._object(given)
            return
        path = os.fspath(given)
        if os.path.isdir(path):
            yield from self._not_empty(path, self._directory(path))
        else:
            yield from self._file(given, within=False)

    def _refuse(self, source: object, name: str, error: DicomNetError) -> None:
        self._refused += 1
        self._tell(source, name, error)

    def _not_empty(self, path: str, items: Iterator[Item]) -> Iterator[Item]:
        """Items of a directory or an archive; one without any is told of, too."""
        refused, found = self._refused, False
        for item in items:
            found = True
            yield item
        if not found and self._refused == refused:
            error = InputFileError("no DICOM files in it", problem=InputProblem.CANNOT_READ, path=path)
            self._refuse(path, os.path.abspath(path), error)

    def _is_usable(self, given: object, name: str, described: Any, path: str | None = None) -> bool:
        """Whether its SOP class and transfer syntax can be proposed at all; what cannot is refused here."""
        pair = described.sop_class_uid, described.transfer_syntax_uid
        if pair in self._usable:
            return True
        for what, uid in zip(("SOP class", "transfer syntax"), pair, strict=True):
            if not uids.is_valid(uid):
                reason = f'its {what}, "{escaped(uid)}", is no UID (PS3.5 Section 9.1)'
                self._refuse(given, name, InputFileError(reason, problem=InputProblem.MISSING_UID, path=path))
                return False
        self._usable.add(pair)
        return True

    # ---- files and directories ---------------------------------------------------------------------------------

    def _directory(self, directory: str) -> Iterator[Item]:
        def unreadable(error: OSError) -> None:
            self._refuse(error.filename, str(error.filename), _unreadable(str(error.filename), error))

        wants = None if self._pattern == "*" else self._pattern
        for parent, directories, names in os.walk(directory, onerror=unreadable):
            known_as = os.path.abspath(parent)
            for name in sorted(names):
                if wants is None or fnmatchcase(name, wants):
                    yield from self._file(os.path.join(parent, name), within=True, name=os.path.join(known_as, name))
            directories.sort()
            if not self._recurse:
                break

    def _file(self, given: Any, *, within: bool, name: str = "") -> Iterator[Item]:
        """A file by itself may be a DICOMDIR or an archive; the DICOMDIR among others is only their list."""
        whole = self._small and self._free > 0
        name = name or os.path.abspath(os.fsdecode(given))
        try:
            source = open_source(given, buffer=None if whole else self._buffer)
        except InputFileError as error:
            if not within and error.problem is InputProblem.NOT_PART10 and _is_archive(given):
                if archive := self._opened(given):
                    yield from self._not_empty(os.fsdecode(given), self._archive(given, archive))
            else:
                yield from self._other(given, name, error)
            return
        source.close()
        if source.sop_class_uid == uids.MEDIA_STORAGE_DIRECTORY_STORAGE:
            if not within:
                yield from self._not_empty(os.fsdecode(given), self._listed(given))
            return
        if not self._is_usable(given, name, source, os.fsdecode(given)):
            return
        self._small = source.size <= HELD_FILE
        held = self._small and whole
        self._free -= source.size if held else 0
        yield Item(given, name, source, source if held else None)

    def _other(self, given: Any, name: str, error: InputFileError) -> Iterator[Item]:
        """A file that cannot be sent as it is: what can be sent in its place, or why nothing is."""

        def opened() -> BytesSource | None:
            return self._mended(_content(given, self._limit), os.fsdecode(given), error)

        source = opened()
        if source is None:
            self._refuse(given, name, error)
        elif self._is_usable(given, name, source, os.fsdecode(given)):
            yield Item(given, name, source, source if source.size <= HELD_FILE else opened)

    def _listed(self, path: Any) -> Iterator[Item]:
        """What the records of a DICOMDIR refer to (PS3.3 Annex F, PS3.10 Section 8.5)."""
        folder = os.path.dirname(os.path.abspath(os.fsdecode(path)))
        try:
            with open_source(path) as source:
                data = b"".join(bytes(chunk) for chunk in source.chunks(1 << 20))
                records = codec.decode(data, source.transfer_syntax_uid).get("DirectoryRecordSequence") or ()
        except DicomNetError as error:
            self._refuse(path, os.fsdecode(path), error)
            return
        for record in records:
            file_id = record.get("ReferencedFileID")
            if not file_id or record.get("RecordInUseFlag") == _INACTIVE:
                continue
            parts = [file_id] if isinstance(file_id, str) else [str(part) for part in file_id]
            found = _under(folder, parts)
            if found is None:
                where = "\\".join(parts)
                problem = InputFileError(
                    f"its record of {where} leads nowhere", problem=InputProblem.CANNOT_READ, path=os.fsdecode(path)
                )
                self._refuse(path, f"{os.fsdecode(path)}: {where}", problem)
            else:
                yield from self._file(found, within=True)

    # ---- archives ----------------------------------------------------------------------------------------------

    def _opened(self, path: Any) -> zipfile.ZipFile | None:
        try:
            archive = zipfile.ZipFile(path)
        except Exception as error:  # whatever zipfile stumbles over in bytes that came from outside
            self._refuse(path, os.fsdecode(path), _unreadable(os.fsdecode(path), error))
            return None
        self._archives.append(archive)
        return archive

    def _archive(self, path: Any, archive: zipfile.ZipFile) -> Iterator[Item]:
        for entry in archive.infolist():
            if entry.filename.endswith("/") or not fnmatchcase(entry.filename.rpartition("/")[2], self._pattern):
                continue
            name = f"{os.fsdecode(path)}!{entry.filename}"
            try:
                described = self._entry(archive, entry, name)
            except InputFileError as error:
                self._refuse(name, name, error)
                continue
            listing = described.sop_class_uid == uids.MEDIA_STORAGE_DIRECTORY_STORAGE
            if not listing and self._is_usable(name, name, described, name):
                yield Item(
                    name,
                    f"{os.path.abspath(os.fsdecode(path))}!{entry.filename}",
                    described,
                    lambda archive=archive, entry=entry, name=name: self._read_entry(archive, entry, name),
                )

    def _entry(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> _Described:
        """What an entry says at its start; the rest is read when it is sent."""
        head = self._read(archive, entry, name, DESCRIBE_BUFFER)
        try:
            meta, start = read_meta(head)
        except InputFileError as error:
            error.path = name
            raise
        syntax = meta.transfer_syntax_uid
        if syntax in DEFLATED:
            return self._read_entry(archive, entry, name)  # type: ignore[return-value]
        walker = Walker(syntax, start, max(entry.file_size, len(head)))
        walker.walk(head, 0)
        class_uid, instance_uid = (
            walker.sop_class_uid or meta.sop_class_uid,
            walker.sop_instance_uid or meta.sop_instance_uid,
        )
        if not class_uid or not instance_uid:
            raise InputFileError("it has no SOP UIDs", problem=InputProblem.MISSING_UID, path=name)
        return _Described(class_uid, instance_uid, syntax, entry.file_size)

    def _read_entry(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> BytesSource:
        data = self._read(archive, entry, name, self._limit + 1)
        if len(data) > self._limit:
            raise InputFileError(
                f"it inflates to more than {self._limit} bytes", problem=InputProblem.CANNOT_READ, path=name
            )
        try:
            return BytesSource(data, name=name)
        except InputFileError as error:
            source = self._mended(data, name, error)
            if source is None:
                raise
            return source

    def _read(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, size: int) -> bytes:
        try:
            with self._lock, archive.open(entry) as file:
                return file.read(size)
        except Exception as error:  # whatever zipfile and its codecs stumble over
            if entry.flag_bits & _ENCRYPTED:
                what = "it is encrypted"
                raise InputFileError(what, problem=InputProblem.CANNOT_READ, path=name, hint="Unpack it.") from error
            raise _unreadable(name, error) from error

    # ---- things in memory --------------------------------------------------------------------------------------

    def _object(self, given: Any) -> Iterator[Item]:
        """A data set, bytes, an open file, a source."""
        if codec.is_dataset(given):
            described = _Described(
                str(given.get("SOPClassUID", "")),
                str(given.get("SOPInstanceUID", "")),
                codec.transfer_syntax_of(given) or self._transfer_syntax or "",
            )
            if all((described.sop_class_uid, described.sop_instance_uid, described.transfer_syntax_uid)):
                name = str(getattr(given, "filename", None) or "data set in memory")
                if self._is_usable(given, name, described):
                    yield Item(given, name, described)
                return
        name = str(getattr(given, "name", None) or "data set in memory")
        try:
            source = codec.open_source(given, self._transfer_syntax)
            item = Item(given, source.name, source, source)  # a stored instance is read when it is asked for its size
        except InputFileError as error:
            self._refuse(given, name, error)
            return
        if self._is_usable(given, source.name, source):
            yield item


def gather(paths: Iterable[str], refuse: Refuse, *, recurse: bool) -> Iterator[Item]:
    """What these paths have that could be stored, one after another.

    Args:
        paths: of files, directories, DICOMDIRs and zip archives.
        refuse: gets what cannot be sent, its name, and why.
        recurse: also the directories in directories.
    """
    gatherer = Gatherer(refuse, pattern="*", recurse=recurse, transfer_syntax=None, limits=Limits())
    try:
        for window in gatherer.windows(paths):
            yield from window
    finally:
        gatherer.close()


def _is_stream(given: Any) -> bool:
    """Whether this is several things to store."""
    single = isinstance(given, str | bytes | bytearray | memoryview | os.PathLike) or hasattr(given, "chunks")
    if single or codec.is_dataset(given) or hasattr(given, "read"):
        return False
    if not isinstance(given, Iterable):
        raise InvalidArgument(
            f"nothing to store: {type(given).__name__}",
            hint="It wants paths, bytes, open binary files, pydicom Datasets, or an iterable of these.",
        )
    return True


def _is_archive(path: Any) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError:
        return False


def _content(path: Any, limit: int) -> bytes:
    """A file; nothing of one that is larger than may be held."""
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > limit:
            return b""
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _under(folder: str, parts: list[str]) -> str | None:
    """The file of a File ID below a folder, never one outside of it.

    Media write the components in small letters, with an extension or with the version number of ISO 9660, too, and pad
    those of the DICOMDIR.
    """
    place = folder
    for number, given in enumerate(parts, 1):
        part = given.strip(" \0")
        if part in ("", ".", "..") or set(part) & {"/", "\\", "\0"}:
            return None
        found = _spelled(place, part, last=number == len(parts))
        if found is None:
            return None
        place = os.path.join(place, found)
    return place if os.path.isfile(place) else None


def _spelled(folder: str, part: str, *, last: bool) -> str | None:
    """The name in a folder that is meant by a component of a File ID."""
    if os.path.exists(os.path.join(folder, part)):
        return part
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return None
    wanted = part.upper()
    plain = {name: name.upper().partition(";")[0].rstrip(".") for name in names}
    alike = [name for name in names if plain[name] == wanted]
    if not alike and last:
        alike = [name for name in names if os.path.splitext(plain[name])[0] == wanted]
    return alike[0] if len(alike) == 1 or (alike and not last) else None


def _unreadable(name: str, error: Exception) -> InputFileError:
    return InputFileError(
        f"cannot be read: {getattr(error, 'strerror', None) or str(error) or type(error).__name__}",
        problem=InputProblem.CANNOT_READ,
        path=name,
        errno=getattr(error, "errno", None),
        hint=None if isinstance(error, OSError) else _AGAIN,
    )
