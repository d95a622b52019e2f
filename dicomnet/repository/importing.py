"""Import: files, folders, zip files and DICOMDIR media into a repository, in groups, as storage has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..client.inputs import Gatherer
from ..config import Limits
from ..dataset import codec
from ..errors import DicomNetError, InvalidArgument
from .holdings import Holdings
from .incoming import Incoming, Memory, incoming_of
from .index import Outcome
from .intake import Kept

__all__ = ["Imported", "import_files"]

_GROUP_BYTES = 16 << 20  # of small instances that are committed at once
_GROUP = 200

#: Stores a group: what became of each instance, in order.
Store = Callable[[Sequence[Incoming]], Sequence[Kept | Exception]]


@dataclass(slots=True)
class Imported:
    """What became of what was imported.

    Attributes:
        stored: new instances; ``known``: those that were there; ``quarantined``: those that contradict.
        failed: pairs of what could not be imported, and why.
    """

    stored: int = 0
    known: int = 0
    quarantined: int = 0
    bytes: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For messages of the administration."""
        return {
            "stored": self.stored, "known": self.known, "quarantined": self.quarantined,
            "failed": [{"file": name, "why": why} for name, why in self.failed],
        }  # fmt: skip


def import_files(
    holdings: Holdings,
    paths: Iterable[str],
    *,
    recurse: bool = True,
    source_ae_title: str = "IMPORT",
    progress: Callable[[int], None] | None = None,
    store: Store | None = None,
) -> Imported:
    """Import what is in files, and in folders, zip files and DICOMDIR media.

    Args:
        holdings: of the application; it may serve meanwhile, in another process too.
        paths: of files and folders.
        recurse: also the folders in folders.
        source_ae_title: who is noted as the sender.
        progress: called with how many instances more are done.
        store: stores a group; a process that also receives has its committer do it. By default the intake does.
    """
    store = store or holdings.intake.store
    result = Imported()

    def refuse(_: object, name: str, error: DicomNetError) -> None:
        result.failed.append((name, str(error)))

    gatherer = Gatherer(refuse, pattern="*", recurse=recurse, transfer_syntax=None, limits=Limits())
    try:
        group: list[tuple[str, Incoming]] = []
        for name, incoming in _read(holdings, gatherer, paths, source_ae_title, result):
            group.append((name, incoming))
            if len(group) >= _GROUP or sum(one.blob.size for _, one in group) >= _GROUP_BYTES:
                _store(store, group, result, progress)
                group = []
        _store(store, group, result, progress)
    finally:
        gatherer.close()
    return result


def _read(
    holdings: Holdings, gatherer: Gatherer, paths: Iterable[str], source: str, result: Imported
) -> Iterator[tuple[str, Incoming]]:
    for window in gatherer.windows(list(paths)):
        for item in window:
            try:
                yield item.name, _incoming(holdings, item.open(), source)
            except (DicomNetError, OSError) as error:
                result.failed.append((item.name, str(error)))


def _incoming(holdings: Holdings, opened: object, source_ae_title: str) -> Incoming:
    with codec.open_source(opened) as source:
        return incoming_of(source, holdings.blobs, source_ae_title, Memory())


def _store(
    store: Store,
    group: list[tuple[str, Incoming]],
    result: Imported,
    progress: Callable[[int], None] | None,
) -> None:
    if not group:
        return
    kept = store([incoming for _, incoming in group])
    for (name, incoming), one in zip(group, kept, strict=True):
        if not isinstance(one, Kept):
            result.failed.append((name, one.message if isinstance(one, InvalidArgument) else type(one).__name__))
            continue
        result.stored += one.outcome is Outcome.NEW
        result.known += one.outcome is Outcome.SAME
        result.quarantined += one.outcome not in (Outcome.NEW, Outcome.SAME)
        result.bytes += incoming.blob.size
    if progress is not None:
        progress(len(group))
