"""The privileges of root, given up before anything is read that the server's user may have written."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import InvalidArgument
from .discovery import FOLDER
from .settings import FILE_NAME

__all__ = ["become", "check_owners", "will_become"]

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def will_become(user: str) -> bool:
    """Whether this process is root's and is to be a user's."""
    return bool(user) and hasattr(os, "geteuid") and os.geteuid() == 0


def check_owners(directory: Path) -> None:
    """Have root trust settings and add-ins of root alone: they say what is run, and as whom.

    Raises:
        InvalidArgument: we are root, and one of them is another user's.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    for path in _trusted(directory):
        owner = path.lstat().st_uid
        if owner != 0:
            raise InvalidArgument(
                f"{path} belongs to user {owner}, and root would do what it says",
                hint=f"Look at what is in it, then: cd {directory} && chown -hR root . (or start as that user).",
            )


def _trusted(directory: Path) -> Iterator[Path]:
    for path in (directory / FILE_NAME, directory / FOLDER):
        if os.path.lexists(path):
            yield path
    for folder, folders, files in os.walk(directory / FOLDER):
        yield from (Path(folder, one) for one in (*folders, *files))


def become(user: str, directory: Path) -> None:
    """Give up the privileges of root for good; nothing where no user is named, or we are not root.

    What is in the server's directory becomes the user's, but for the settings and the add-ins: they stay root's, and
    the directory is sticky, so that the user cannot put others in their place.

    Raises:
        InvalidArgument: there is no such user.
    """
    if not will_become(user):
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise InvalidArgument(f'there is no user "{user}" to become', hint="[server] user names it.") from error
    (directory / FOLDER).mkdir(parents=True, exist_ok=True)
    _give(directory, entry.pw_uid, entry.pw_gid)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def _give(directory: Path, uid: int, gid: int) -> None:
    """Hand the directory over by descriptors: names in it may be swapped by the user meanwhile."""
    for folder, folders, files, here in os.fwalk(directory):
        top = folder == os.fspath(directory)
        os.fchown(here, 0 if top else uid, gid)
        if top:
            os.fchmod(here, 0o1770)
            folders[:] = [one for one in folders if one != FOLDER]
        for name in files:
            if top and name == FILE_NAME:
                _let_read(name, here, gid, 0o640)
            else:
                _give_file(name, here, uid, gid)
    for _, _, files, here in os.fwalk(directory / FOLDER):
        os.fchown(here, 0, gid)
        os.fchmod(here, stat.S_IMODE(os.fstat(here).st_mode) & ~_OTHERS_WRITE | 0o050)
        for name in files:
            _let_read(name, here, gid, None)


def _give_file(name: str, here: int, uid: int, gid: int) -> None:
    """Hand over a file that has no other name: the other could be one of root's own, elsewhere."""
    found = os.stat(name, dir_fd=here, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode) or (found.st_uid, found.st_gid) == (uid, gid):
        return
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here)
    try:
        if os.fstat(descriptor).st_nlink == 1:
            os.fchown(descriptor, uid, gid)
    finally:
        os.close(descriptor)


def _let_read(name: str, here: int, gid: int, mode: int | None) -> None:
    """Have the user's group read a file of root's, and not write it."""
    if not stat.S_ISREG(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
        return
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here)
    try:
        found = os.fstat(descriptor)
        if found.st_nlink == 1:
            os.fchown(descriptor, 0, gid)
            os.fchmod(descriptor, stat.S_IMODE(found.st_mode) & ~_OTHERS_WRITE | 0o040 if mode is None else mode)
    finally:
        os.close(descriptor)
