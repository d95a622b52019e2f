"""Blobs that are files of their own: written under a hidden name, put in their place once the log knows of them.

``incoming/RANDOM.part`` is locked by its writer while it grows; a record in the log names it and its place; then it is
renamed. A start renames what a dead process could not, by that record, and deletes what no record names.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Container, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ..errors import InvalidArgument
from ..files.own_files import make_directory, sync_directory, write_all
from ..log import log
from ..uids import is_valid

__all__ = ["FileTemplate", "PartFile", "SingleFiles", "is_place"]

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_FIELD = re.compile(r"\{(\w+)\}")
_SAFE = re.compile(r"[^A-Za-z0-9._=+@-]+")
_LONGEST_NAME = 64
_FOLDERS = "large", "files"
_HIDDEN = re.compile(r"[0-9a-f]{24}\.part")


def is_place(path: str) -> bool:
    """Whether a path, relative to the store, is one that a file may have: a damaged record may name any other."""
    parts = PurePosixPath(path).parts
    return len(parts) > 1 and parts[0] in _FOLDERS and ".." not in parts


class FileTemplate:
    """Names files by what is in them: ``{PatientID}/{StudyInstanceUID}/{SOPInstanceUID}.dcm``.

    Each value becomes one component at most, of letters, digits and ``._=+@-``: what a peer sends leads nowhere.

    Raises:
        InvalidArgument: a template that is absolute, climbs, or does not name each instance (``{SOPInstanceUID}``).
    """

    def __init__(self, text: str) -> None:
        if text.startswith("/") or ".." in text.split("/") or not text.rpartition("/")[2].count("{SOPInstanceUID}"):
            raise InvalidArgument(
                f'"{text}" is no template for files',
                hint="A relative path whose last part has {SOPInstanceUID}, such as {PatientID}/{SOPInstanceUID}.dcm.",
            )
        self._text = text

    def path(self, names: Mapping[str, str]) -> str:
        """The path of an instance with these values, by keyword; a value that is missing is "none"."""
        return _FIELD.sub(lambda match: _component(names.get(match[1], "")), self._text)


def _component(value: str) -> str:
    if is_valid(value):
        return value
    safe = _SAFE.sub("_", value.strip()).strip(".")[:_LONGEST_NAME]
    return safe or "none"


class PartFile:
    """A file in the making: a `BlobWriter`.

    Attributes:
        size: bytes so far.
        name: what it is called while it is hidden.
    """

    def __init__(self, directory: Path, header: bytes, *, durable: bool) -> None:
        self.size: int = 0
        self._durable = durable
        self._fd = -1
        while self._fd < 0:
            self._create(directory)
        self.write([header])

    def _create(self, directory: Path) -> None:
        self.name: str = f"{secrets.token_hex(12)}.part"
        self._path = directory / self.name
        self._fd = os.open(self._path, _FLAGS, 0o666)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        if not self._path.exists():  # another process starts, and saw it before it was locked
            self._close()

    def write(self, views: Sequence[bytes | memoryview]) -> None:
        """Append.

        Raises:
            OSError: the file is gone then.
        """
        try:
            self.size += write_all(self._fd, views)
        except OSError:
            self.discard()
            raise

    def reader(self) -> BinaryIO:
        """A file object of its own for what is written; it can be read even when this is renamed, or deleted."""
        return open(self._path, "rb", buffering=0)

    def complete(self, sha256: bytes) -> None:
        """All of it is written; the record beside it says its hash."""

    def finish(self) -> None:
        """Have the disk confirm the bytes.

        Raises:
            OSError: it could not; the file is gone then.
        """
        try:
            if self._durable:
                os.fsync(self._fd)
        except OSError:
            self.discard()
            raise

    def move(self, target: Path) -> None:
        """Give the file its name; its directory may have been emptied and removed meanwhile."""
        make_directory(target.parent)
        os.replace(self._path, target)
        self._close()

    def discard(self) -> None:
        """Delete the file, unless it has its name already."""
        if self._fd >= 0:
            self._close()
            self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.discard()


class SingleFiles:
    """The files of a store.

    Args:
        root: the store's directory.
        durable: whether the disk confirms each file and its name.
        template: how files are named; None is ``large/ab/RANDOM.dcm``.
    """

    def __init__(self, root: Path, *, durable: bool, template: FileTemplate | None = None) -> None:
        self._root, self._durable, self._template = root, durable, template
        self._incoming = root / "incoming"
        make_directory(self._incoming)

    def begin(self, header: bytes) -> PartFile:
        """A new file, hidden so far."""
        return PartFile(self._incoming, header, durable=self._durable)

    def place(self, part: PartFile, names: Mapping[str, str], taken: Container[str] = ()) -> str:
        """Where a file is to be, relative to the store: where nothing is yet, nor is to be."""
        if self._template is None:
            wanted = f"large/{part.name[:2]}/{part.name.removesuffix('.part')}.dcm"
        else:
            wanted = f"files/{self._template.path(names)}"
        if wanted in taken or (self._root / wanted).exists():
            wanted = f"{wanted.removesuffix('.dcm')}-{part.name[:12]}.dcm"
        return wanted

    def move(self, parts: Sequence[tuple[PartFile, str]]) -> None:
        """Give files their names, and have the disk confirm those."""
        if not parts:
            return
        for part, place in parts:
            part.move(self._root / place)
        if self._durable:
            for directory in {(self._root / place).parent for _, place in parts} | {self._incoming}:
                sync_directory(directory)

    def complete(self, name: str, place: str) -> bool:
        """Do for a dead process what it could not: whether the file is in its place now; never with another file."""
        if not is_place(place) or not _HIDDEN.fullmatch(name):
            return False
        target = self._root / place
        hidden = self._incoming / name
        if hidden.exists():
            make_directory(target.parent)
            os.replace(hidden, target)
            sync_directory(target.parent)
        return target.exists()

    def clear(self) -> int:
        """Delete what dead processes left half written; how many files that were."""
        count = 0
        for path in self._incoming.glob("*.part"):
            if not _is_locked(path):
                path.unlink(missing_ok=True)
                count += 1
        if count:
            log.info("%d files that had not arrived whole are deleted", count)
        return count

    def delete(self, place: str) -> None:
        """Delete a file, and directories that are empty then."""
        path = self._root / place
        path.unlink(missing_ok=True)
        for parent in path.relative_to(self._root).parents:
            if len(parent.parts) < 2:
                return
            try:
                (self._root / parent).rmdir()
            except OSError:
                return


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return True
    return False
