"""A received file of whose UID there is one already: no other bytes are lost, and the same bytes are kept once."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from ..errors import InputFileError, OutputFileError, OutputProblem, escaped
from ..log import log
from .file_sink import FileSink
from .part10 import read_meta

__all__ = ["MOST_NUMBERED", "commit_apart"]

#: Files of one name and other bytes that are told apart by a number; a peer that sends more of them is refused.
MOST_NUMBERED = 1000
_HEADER = 1 << 16  # a meta header of ours is shorter by far
_CHUNK = 1 << 20


def commit_apart(sink: FileSink, name: str, root: str | os.PathLike[str], *, sender: str, uid: str) -> str:
    """Commit a file in place of nothing: where other bytes have its name, it gets a number: ``name-1.dcm``.

    The same data set in the same transfer syntax is one copy; the new one is discarded. Both cases are logged.

    Args:
        sink: the file.
        name: a relative path below the root.
        root: a directory.
        sender, uid: the AE title and the SOP Instance UID, for the log.

    Returns:
        Where the data set is.

    Raises:
        OutputFileError: it cannot be written, or there are `MOST_NUMBERED` others.
        InvalidArgument: the name leaves the root.
    """
    try:
        return sink.commit(name, root=root, replace=False)
    except OutputFileError as error:
        if error.errno != errno.EEXIST:
            raise
    return _commit_numbered(sink, name, root, sender, uid)


def _commit_numbered(sink: FileSink, name: str, root: str | os.PathLike[str], sender: str, uid: str) -> str:
    """The name is taken: the file is one copy with one that is there, or has the first number that is free."""
    for wanted in _numbered(name):
        path = os.path.join(os.fspath(root), wanted)
        if wanted != name and _is_committed(sink, wanted, root):
            log.info("%s sent %s, of which other bytes are here: both are kept", escaped(sender), escaped(uid))
            return path
        if sink.path is not None and _same_data_set(sink.path, path):
            sink.discard()
            log.info("%s sent %s again: the same bytes are here, one copy is kept", escaped(sender), escaped(uid))
            return path
    raise OutputFileError(
        f"cannot be written: {MOST_NUMBERED} files with other bytes have this name",
        problem=OutputProblem.CANNOT_WRITE,
        path=os.path.join(os.fspath(root), name),
        errno=errno.EEXIST,
    )


def _numbered(name: str) -> Iterator[str]:
    yield name
    stem, ending = os.path.splitext(name)
    for number in range(1, MOST_NUMBERED + 1):
        yield f"{stem}-{number}{ending}"


def _is_committed(sink: FileSink, name: str, root: str | os.PathLike[str]) -> bool:
    """Commit the file, unless the name is taken."""
    try:
        sink.commit(name, root=root, replace=False)
    except OutputFileError as error:
        if error.errno != errno.EEXIST:
            raise
        return False
    return True


def _same_data_set(one: str, other: str) -> bool:
    """Whether two Part 10 files hold the same, by whichever sender: the meta header names the sender."""
    try:
        with open(one, "rb") as first, open(other, "rb", opener=_opened) as second:
            if _past_header(first) != _past_header(second):
                return False
            while chunk := first.read(_CHUNK):
                if second.read(len(chunk)) != chunk:
                    return False
            return True
    except (OSError, InputFileError):  # a directory, a pipe, or no DICOM file: other bytes
        return False


def _opened(path: str, flags: int) -> int:
    """Open what may be a pipe, which would wait for a writer, or a link, which is other bytes."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))


def _past_header(file: BinaryIO) -> tuple[str, int]:
    """The transfer syntax and the length of the data set, at which the file is now."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise OSError(errno.EINVAL, "no regular file")
    meta, start = read_meta(file.read(_HEADER))
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    return meta.transfer_syntax_uid, size
