"""The directory of a received file: below a root that no name leaves."""

from __future__ import annotations

import os
import re
import stat

from ..errors import InvalidArgument, escaped

__all__ = ["open_below", "sweep"]

#: Seconds without a change after which an unfinished file is a leftover: what still arrives changes all the time.
LEFT_OVER = 3600.0
_UNFINISHED = re.compile(r"\.[0-9A-Za-z_-]+\.part").fullmatch

_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_NO_LINK = _DIRECTORY | getattr(os, "O_NOFOLLOW", 0)


def open_below(root: str, name: str, *, durable: bool = False) -> tuple[int | None, str]:
    """The directory of a name below a root, made where it is missing, and the last part of the name.

    No part of the name is followed if it is a symbolic link: it leads nowhere else, whatever others do meanwhile.

    Args:
        root: a directory that is there.
        name: a relative path in it.
        durable: have the disk confirm each directory that is made.

    Returns:
        A descriptor, which the caller closes, and a name in it; where the system has no such ones, None and a path.

    Raises:
        InvalidArgument: the name is absolute, has an empty part, ".", ".." or a NUL.
        OSError: a directory can be neither opened nor made; ELOOP or ENOTDIR: one is a symbolic link.
    """
    parts = name.replace(os.altsep or os.sep, os.sep).split(os.sep)
    if any(part in ("", os.curdir, os.pardir) or "\0" in part for part in parts) or os.path.isabs(name):
        raise InvalidArgument(
            f'"{escaped(name)}": no name below a directory', hint="Use the UID, or names that were made safe."
        )
    if os.open not in os.supports_dir_fd:
        return None, _joined(root, parts)
    fd = os.open(root, _DIRECTORY)
    for part in parts[:-1]:
        try:
            inner = _entered(fd, part, durable)
        finally:
            os.close(fd)
        fd = inner
    return fd, parts[-1]


def sweep(directory: str, now: float) -> list[str]:
    """Delete the unfinished files that a program which was killed has left in a directory.

    Args:
        directory: where `FileSink` has its files on their way.
        now: seconds since the epoch.

    Returns:
        The names of what is gone.
    """
    gone = []
    for name in os.listdir(directory):
        if _UNFINISHED(name) is None:
            continue
        path = os.path.join(directory, name)
        try:
            found = os.lstat(path)
            if stat.S_ISREG(found.st_mode) and now - found.st_mtime > LEFT_OVER:
                os.unlink(path)
                gone.append(name)
        except OSError:  # another program was first
            continue
    return sorted(gone)


def _entered(fd: int, part: str, durable: bool) -> int:
    try:
        return os.open(part, _NO_LINK, dir_fd=fd)
    except FileNotFoundError:
        try:
            os.mkdir(part, dir_fd=fd)
        except FileExistsError:  # another association was first
            pass
        if durable:
            os.fsync(fd)
        return os.open(part, _NO_LINK, dir_fd=fd)


def _joined(root: str, parts: list[str]) -> str:
    """For systems without descriptors of directories: links are looked for before, not held on to."""
    path = os.path.join(root, *parts)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    real = os.path.realpath(root)
    if os.path.commonpath((os.path.realpath(os.path.dirname(path)), real)) != real:
        raise InvalidArgument(f'"{escaped(path)}": a link in it leads out of {escaped(root)}')
    return path
