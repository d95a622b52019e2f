"""`MovingStore`: blobs that move from one store to another while they are used: new ones go to the other at once."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from .blob_store import BlobReader, BlobRef, BlobStore, BlobWriter, NewBlob, StoredBlob, StoreStats

__all__ = ["MovingStore"]


class MovingStore:
    """A `BlobStore` over two whose keys can be told apart.

    Args:
        new: where blobs are put.
        old: where they were put before.
        is_new: whether a key is one of the new store.

    Attributes:
        root, at_once, most_bytes: of the new store.
    """

    def __init__(self, new: BlobStore, old: BlobStore, is_new: Callable[[str], bool]) -> None:
        self.new: BlobStore = new
        self.old: BlobStore = old
        self.is_new: Callable[[str], bool] = is_new
        self.root: Path = new.root
        self.at_once: int = new.at_once
        self.most_bytes: int | None = new.most_bytes

    @property
    def looking(self) -> int:
        """See `BlobStore.looking`; as the slower one likes it, for as long as anything is in the old store."""
        if any(True for _ in self.old.scan()):
            return min(self.old.looking, self.new.looking)
        return self.new.looking

    def _of(self, key: str) -> BlobStore:
        return self.new if self.is_new(key) else self.old

    def put(self, group: Sequence[NewBlob]) -> list[BlobRef]:
        """See `BlobStore.put`; to the new store, as `writer` and `lane` are."""
        return self.new.put(group)

    def writer(self, header: bytes) -> BlobWriter:
        """See `BlobStore.writer`."""
        return self.new.writer(header)

    def lane(self, uids: tuple[str, str, str], header: bytes) -> Any:
        """See `BlobStore.lane`."""
        return self.new.lane(uids, header)

    def finish(self, writer: BlobWriter) -> Future[None]:
        """See `BlobStore.finish`."""
        return self.new.finish(writer)

    def open(self, ref: BlobRef, *, cached: bool = True) -> BlobReader:
        """See `BlobStore.open`; in the store that the key is of, as all that names a key or a place."""
        return self._of(ref.key).open(ref, cached=cached)

    def holds(self, ref: BlobRef) -> bool:
        """See `BlobStore.holds`."""
        return self._of(ref.key).holds(ref)

    def delete(self, refs: Sequence[BlobRef]) -> None:
        """See `BlobStore.delete`."""
        self.old.delete([ref for ref in refs if not self.is_new(ref.key)])
        self.new.delete([ref for ref in refs if self.is_new(ref.key)])

    def scan(self, *, recent: bool = False) -> Iterator[StoredBlob]:
        """See `BlobStore.scan`."""
        yield from self.old.scan(recent=recent)
        yield from self.new.scan(recent=recent)

    def scan_key(self, key: str) -> Iterator[StoredBlob]:
        """See `BlobStore.scan_key`."""
        yield from self._of(key).scan_key(key)

    def half_dead(self) -> list[str]:
        """See `BlobStore.half_dead`."""
        return [*self.old.half_dead(), *self.new.half_dead()]

    def size_of(self, key: str) -> int:
        """See `BlobStore.size_of`."""
        return self._of(key).size_of(key)

    def copy_segment(self, key: str, alive: Container[BlobRef]) -> list[tuple[BlobRef, BlobRef]]:
        """See `BlobStore.copy_segment`."""
        return self._of(key).copy_segment(key, alive)

    def remove_segment(self, key: str) -> None:
        """See `BlobStore.remove_segment`."""
        self._of(key).remove_segment(key)

    @property
    def due(self) -> bool:
        """See `BlobStore.due`."""
        return self.new.due

    def settle(self) -> None:
        """See `BlobStore.settle`."""
        self.old.settle()
        self.new.settle()

    def stats(self) -> StoreStats:
        """See `BlobStore.stats`; of both, and of the disk of the old one where the new one has none."""
        old, new = self.old.stats(), self.new.stats()
        disk = old if new.free_bytes is None else new
        return StoreStats(
            segments=old.segments + new.segments,
            bytes=old.bytes + new.bytes,
            dead_bytes=old.dead_bytes + new.dead_bytes,
            free_bytes=disk.free_bytes,
            total_bytes=disk.total_bytes,
        )

    def close(self) -> None:
        """See `BlobStore.close`."""
        self.new.close()
        self.old.close()
