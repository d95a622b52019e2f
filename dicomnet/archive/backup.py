"""Backup: a consistent copy of an archive, beside a live server, and only of what is new the next time.

The copy is an archive itself: what it has beyond its index, since segments grow while they are copied, is indexed when
it is opened. Restoring is copying it back, or running it. The index is read first and put in place last, and what the
archive has no more is removed after that: until then, what the last backup knows is there.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidArgument
from ..files.own_files import make_directory, sync_directory
from ..repository.bucket import is_bucket
from ..repository.segment_log import LANE
from .holdings import INDEX_NAME, Holdings
from .settings import FILE_NAME

__all__ = ["MARK", "BackedUp", "backup"]

#: In a backup: the directory of the archive that it is of.
MARK = "backup-of"
_FOLDERS = ("segments", "large", "files")
_PART, _DEAD = ".part", ".dead"
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@dataclass(frozen=True, slots=True)
class BackedUp:
    """How much was copied, and how much was there from the last time."""

    copied: int
    bytes: int
    unchanged: int


def backup(holdings: Holdings, target: Path, *, progress: Callable[[int], None]) -> BackedUp:
    """Copy an archive.

    Args:
        holdings: the archive; it may serve, but nothing is to be deleted or compacted meanwhile.
        target: a folder: a new one, or that of the last backup, in which only what is new is copied.
        progress: called with how many bytes more are copied.

    Raises:
        InvalidArgument: the target is another archive's, or is in use, or the index is PostgreSQL's, whose own tools
            copy it.
        OSError: it cannot be written.
    """
    index = _index_of(holdings)
    if target.resolve() == holdings.directory.resolve():
        raise InvalidArgument("an archive cannot be its own backup")
    _check_target(str(holdings.directory.resolve()), target)
    source, root = holdings.blobs.root, target / "blobs"
    for folder in ("active", *_FOLDERS):
        make_directory(root / folder)
    _write(target / MARK, f"{holdings.directory.resolve()}\n")
    # Before the index: a segment that is known here and claimed by no process is in the index whole.
    known, claims = _segments(source), _claims(source)
    part = _read_index(index, target / INDEX_NAME)
    there = list(_blobs(source))
    copying = _Copying(source, root, progress)
    copying.copy(path for path in there if not _is_dead(path))
    copied = {path.stem for path in there if path.suffix == ".seg"}
    # One that was claimed and sealed meanwhile may be a lane that was copied before its last instance was whole.
    claims = dict.fromkeys(copied - known, LANE) | claims | _claims(source)
    claims = {name: claims[name] for name in claims.keys() & copied}
    _claim(root / "active", claims)
    _copy_settings(holdings.directory / FILE_NAME, target / FILE_NAME)
    _put_index(part, target / INDEX_NAME)
    copying.copy(path for path in _blobs(source) if _is_dead(path))
    kept = {path.relative_to(source) for path in (*there, *_blobs(source))}
    _prune(root, kept | {Path("active") / claim for claim in claims})
    return BackedUp(copying.copied, copying.bytes, copying.unchanged)


# ---- what is copied, and where to ------------------------------------------------------------------------------


def _index_of(holdings: Holdings) -> Path:
    if is_bucket(holdings.settings.storage):
        raise InvalidArgument(
            "instances are in an object store, which is not copied with the archive",
            hint="Have the store keep versions, or copy the bucket with its own tools, after the index (pg_dump).",
        )
    if not holdings.database.is_sqlite:
        raise InvalidArgument(
            "the index is in PostgreSQL, which is not copied with the archive",
            hint=f"Copy it with pg_dump, and then {holdings.blobs.root}.",
        )
    name = holdings.database.url.database
    if not name or name == ":memory:":
        raise InvalidArgument("the index is in memory, and cannot be copied")
    return Path(name)


def _check_target(source: str, target: Path) -> None:
    """Refuse what is not a backup of this archive, and what is in use."""
    try:
        whose = (target / MARK).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        if any((target / name).exists() for name in (INDEX_NAME, FILE_NAME, "blobs")):
            raise InvalidArgument(
                f"{target} is an archive, and no backup of {source}: it has no {MARK}",
                hint=f"Name another folder. If it is a backup from before, write {source} into {target / MARK}.",
            ) from None
        return
    if whose != source:
        raise InvalidArgument(
            f"{target} is a backup of {whose}, not of {source}",
            hint=f"Name another folder. If the archive has moved, write {source} into {target / MARK}.",
        )
    if (target / INDEX_NAME).exists() and _is_in_use(target / INDEX_NAME):
        raise InvalidArgument(f"{target} is in use: an archive runs there", hint="Stop it, or name another folder.")


def _is_in_use(index: Path) -> bool:
    """Whether a process has it open. If not, its log of writes is part of it then, so that it is one file."""
    try:
        with closing(sqlite3.connect(index, timeout=0)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE").fetchall()
    except sqlite3.DatabaseError as error:  # one that is damaged is replaced
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _LOCKED
    return False


# ---- the index -------------------------------------------------------------------------------------------------


def _read_index(source: Path, target: Path) -> Path:
    """Copy it beside its place. In one step: several begin again whenever the archive writes between them."""
    part = target.with_name(target.name + _PART)
    _without_log(part)
    part.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(part)) as copy:
        live.backup(copy)
    return part


def _put_index(part: Path, target: Path) -> None:
    _without_log(target)
    _settle(part, target)


def _without_log(index: Path) -> None:
    for leftover in ("-wal", "-shm"):
        index.with_name(index.name + leftover).unlink(missing_ok=True)


def _copy_settings(source: Path, target: Path) -> None:
    """With the places that a copy has."""
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    _write(target, "".join(line for line in lines if line.partition("=")[0].strip() not in ("storage", "database")))


def _write(target: Path, text: str) -> None:
    part = target.with_name(target.name + _PART)
    part.write_text(text, encoding="utf-8")
    _settle(part, target)


# ---- the blobs -------------------------------------------------------------------------------------------------


def _claims(root: Path) -> dict[str, bytes]:
    """The segments that a process appends to, or that the next start has to look at, and what their claims say."""
    claims: dict[str, bytes] = {}
    for path in (root / "active").glob("[0-9]*"):
        with suppress(FileNotFoundError):
            claims[path.name] = path.read_bytes()
    return claims


def _claim(directory: Path, claims: Mapping[str, bytes]) -> None:
    for name, content in claims.items():
        (directory / name).write_bytes(content)
    sync_directory(directory)


def _segments(root: Path) -> set[str]:
    return {path.stem for path in (root / "segments").glob("[0-9]*.seg")}


def _is_dead(path: Path) -> bool:
    """It says what of a segment is deleted."""
    return path.suffix == _DEAD and path.parent.name == "segments"


def _blobs(root: Path) -> Iterator[Path]:
    for folder in _FOLDERS:
        yield from (path for path in sorted((root / folder).rglob("*")) if path.is_file())


class _Copying:
    """Copies files to the same places under another root.

    Attributes:
        copied, bytes, unchanged: files that were copied, their bytes, and files that were there.
    """

    def __init__(self, source: Path, root: Path, progress: Callable[[int], None]) -> None:
        self._source, self._root, self._progress = source, root, progress
        self.copied = self.bytes = self.unchanged = 0

    def copy(self, paths: Iterable[Path]) -> None:
        """Copy these. Those that replace others do so when all are there: a number of a segment may come again."""
        replacing = []
        for path in paths:
            target = self._root / path.relative_to(self._source)
            part, size = _copied(path, target)
            if part is not None and target.exists():
                replacing.append((part, target))
            elif part is not None:
                _settle(part, target)
            self.copied, self.unchanged = self.copied + (part is not None), self.unchanged + (part is None)
            self.bytes += size
            self._progress(size)
        for part, target in replacing:
            _settle(part, target)


def _copied(source: Path, target: Path) -> tuple[Path | None, int]:
    """A copy beside its place, and its bytes; None where it is there: as long, and of its source's last change.

    The length alone does not tell: what is written to a segment as it arrives gets its header last.
    """
    part = target.with_name(target.name + _PART)
    try:
        there = source.stat()
        if target.exists() and (target.stat().st_size, target.stat().st_mtime_ns) == (there.st_size, there.st_mtime_ns):
            return None, 0
        make_directory(target.parent)
        shutil.copyfile(source, part)
        os.utime(part, ns=(there.st_atime_ns, there.st_mtime_ns))
    except FileNotFoundError:
        if source.exists():
            raise
        return None, 0  # deleted meanwhile
    return part, there.st_size


def _prune(root: Path, kept: Set[Path]) -> None:
    """Remove what is not kept, and directories that are empty then."""
    for folder in ("active", *_FOLDERS):
        for path in sorted((root / folder).rglob("*"), reverse=True):
            if path.is_dir():
                with suppress(OSError):  # it is not empty
                    path.rmdir()
            elif path.relative_to(root) not in kept:
                path.unlink()


def _settle(part: Path, target: Path) -> None:
    fd = os.open(part, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(part, target)
    sync_directory(target.parent)
