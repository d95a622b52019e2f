"""The sender of folder destinations: a file for each instance, whole or not there at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from filecmp import cmp
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import DicomNetError
from ..files.own_files import make_directory, sync_directory
from ..files.part10 import meta_header
from ..repository.single_files import FileTemplate
from .destinations import FolderDestination
from .senders import Load, Result, Verdict

__all__ = ["FolderSender", "names_of", "pieces_of"]

_CHUNK = 1 << 20


def names_of(load: Load) -> Mapping[str, str]:
    """What a template may name an instance by."""
    delivery, source = load.delivery, load.source
    usual = {
        "PatientID": delivery.patient, "StudyInstanceUID": delivery.study, "SeriesInstanceUID": delivery.series,
        "SOPInstanceUID": source.sop_instance_uid, "SOPClassUID": source.sop_class_uid,
        "CallingAETitle": delivery.calling, "CalledAETitle": delivery.called,
    }  # fmt: skip
    return {**usual, **load.names}


def pieces_of(source: Any, title: str) -> Iterator[bytes | memoryview]:
    """An instance as a Part 10 stream; the views may die with the next one."""
    uids = source.sop_class_uid, source.sop_instance_uid, source.transfer_syntax_uid
    yield meta_header(*uids, title)
    yield from source.chunks(_CHUNK)


def _put(part: Path, target: Path) -> None:
    """Give a file its name, or the next that is free; nothing that is there is replaced."""
    for number in count():
        name = target if not number else target.with_stem(f"{target.stem}-{number}")
        try:
            os.link(part, name)
        except FileExistsError:
            if not cmp(part, name, shallow=False):
                continue
        return


class FolderSender:
    """Writes instances to a folder: the same bytes once, other bytes under a name that is taken beside them (`-1`).

    Args:
        destination: the folder.
        title: our own title, for the file meta information.
    """

    def __init__(self, destination: FolderDestination, title: str) -> None:
        self._root, self._title = Path(destination.path), title
        self._template = FileTemplate(destination.template)

    def send(self, loads: Sequence[Load]) -> Iterator[Result]:
        """See `Sender.send`."""
        for load in loads:
            try:
                self._write(load)
            except DicomNetError as error:  # an error of the instance, which may be one of the system as well
                yield Result(load.delivery, Verdict.UNREADABLE, str(error))
            except OSError as error:
                yield Result(load.delivery, Verdict.UNREACHABLE, f"{self._root}: {error.strerror or error}")
            else:
                yield Result(load.delivery, Verdict.DELIVERED)
            finally:
                load.source.close()

    def _write(self, load: Load) -> None:
        target = self._root / self._template.path(names_of(load))
        make_directory(target.parent)
        part = target.with_name(f".{target.name}.{load.delivery.id}.part")
        try:
            with open(part, "wb") as file:
                file.writelines(pieces_of(load.source, self._title))
                file.flush()
                os.fsync(file.fileno())
            _put(part, target)
        finally:
            part.unlink(missing_ok=True)
        sync_directory(target.parent)

    def abort(self) -> None:
        """See `Sender.abort`."""

    def close(self) -> None:
        """See `Sender.close`."""
