"""`ObjectStore`: blobs in an S3 object store. A group of small ones is one object, a large one is one of its own.

Any number of machines may use one bucket: objects are made under new keys, never changed, and tell what is in them
(`object_directory`). What of a group was deleted is said by small objects beside it, ``dead/OBJECT/…``, until all of it
is, or compaction has copied the rest. So nothing is ever read, changed and written back.
"""

from __future__ import annotations

import errno
import json
import secrets
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from ..errors import InvalidArgument
from ..files.own_files import make_directory
from ..log import log
from .blob_store import BlobReader, BlobRef, BlobWriter, NewBlob, StoredBlob, StoreStats
from .block_cache import BLOCK_BYTES, BlockCache
from .bucket import Bucket
from .object_directory import FOLDER, TAIL_BYTES, count_of, encode, is_object, new_key, parse, tail_length
from .object_writer import ObjectWriter

__all__ = ["ObjectStore"]

OBJECT_BYTES = 16 << 20  # of an object; a larger group is several, and receivers make none that is larger
SENDING = 8  # threads that send large instances
GROUPS = 4  # that are put at a time: 1,500 small ones to a store 150 ms away take 0.7 of the time of one at a time
LOOKING = 16  # threads that look at objects, for checks
AHEAD = 8  # the most blocks that one request of a reader that goes on and on asks for
CACHE_MIB = 1024
RECENT_DAYS = 2  # what a start looks at: longer than the clocks of two machines differ, and than a node is down unseen
_DEAD = "dead/"
_PAGE = 500

#: How many instances an index has under each of some keys.
Counted = Callable[[Sequence[str]], Mapping[str, int]]


class _Reader:
    """A blob of an object store, read in blocks: more at a time the longer it goes on.

    Blocks that are kept are those of the object; without a cache they begin with the blob, and end with it.
    """

    def __init__(self, bucket: Bucket, cache: BlockCache | None, ref: BlobRef) -> None:
        self._bucket, self._cache, self._ref = bucket, cache, ref
        self._near: dict[int, bytes] = {}
        self._next, self._ahead = -1, 1
        self._base = 0 if cache is not None else ref.offset
        self._end = ref.offset + ref.length
        self._block((ref.offset - self._base) // BLOCK_BYTES)  # whether it is there

    def read_into(self, start: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``start`` on; how many bytes there were."""
        wanted = min(len(buffer), max(self._ref.length - start, 0))
        filled = 0
        while filled < wanted:
            block, within = divmod(self._ref.offset - self._base + start + filled, BLOCK_BYTES)
            piece = memoryview(self._block(block))[within : within + wanted - filled]
            if not piece:
                break
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
        return filled

    def _block(self, block: int) -> bytes:
        found = self._near.get(block)
        if found is None and self._cache is not None:
            found = self._cache.get(self._ref.key, block)
        return self._fetch(block) if found is None else found

    def _fetch(self, block: int) -> bytes:
        self._ahead = min(self._ahead * 2, AHEAD) if block == self._next else 1
        last = (self._end - self._base - 1) // BLOCK_BYTES
        count = max(min(self._ahead, last - block + 1), 1)
        begin = self._base + block * BLOCK_BYTES
        length = count * BLOCK_BYTES if self._cache is not None else min(count * BLOCK_BYTES, self._end - begin)
        data = self._bucket.get(self._ref.key, begin, length)
        self._near = {
            block + number: data[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES] for number in range(count)
        }
        if self._cache is not None:
            for number, content in self._near.items():
                self._cache.put(self._ref.key, number, content)
        self._next = block + count
        return self._near[block]

    def close(self) -> None:
        """Let go of what is in memory."""
        self._near = {}


class ObjectStore:
    """A `BlobStore` in a bucket.

    Args:
        url: of the bucket; see `bucket`.
        root: a directory of this machine, for what is on its way and for the cache; nothing in it outlives the process.
        counted: what the index has; an object that it has whole is not looked at by ``scan(recent=True)``.
        clock: seconds since 1970, for the order of keys: nothing else depends on it.

    Raises:
        InvalidArgument: the bucket cannot be used.
    """

    def __init__(self, url: str, root: Path, *, counted: Counted, clock: Callable[[], float] = time.time) -> None:
        self.bucket: Bucket = Bucket(url)
        self.root: Path = root
        self.at_once: int = GROUPS
        self.most_bytes: int | None = OBJECT_BYTES
        self.looking: int = LOOKING
        make_directory(root)
        self._counted, self._clock = counted, clock
        self._cache = BlockCache(root, _mebibytes(self.bucket.parameters) << 20)
        self._sending = ThreadPoolExecutor(SENDING, thread_name_prefix="dicomnet-upload")

    @property
    def due(self) -> bool:
        """Never: what was put is stored, and the index commits for itself."""
        return False

    def settle(self) -> None:
        """Nothing is left to be done."""

    def close(self) -> None:
        """Send what is on its way, and forget the cache."""
        self._sending.shutdown()
        self._cache.close()

    # ---- writing -----------------------------------------------------------------------------------------------

    def writer(self, header: bytes) -> ObjectWriter:
        """Begin a blob of unknown size, which is uploaded while it arrives."""
        key = new_key(1, self._clock())
        return ObjectWriter(self.bucket, key, header, self.root, self._sending, self.bucket.delete)

    def lane(self, uids: tuple[str, str, str], header: bytes) -> None:
        """None: what is not large gathers in memory."""

    def finish(self, writer: BlobWriter) -> Future[None]:
        """Have a thread send the rest of what a writer was given, and wait until the store has it."""
        return self._sending.submit(writer.finish)

    def put(self, group: Sequence[NewBlob]) -> list[BlobRef]:
        """Keep all blobs of a group, or none.

        Raises:
            OSError: the store did not confirm; nothing of the group is kept.
        """
        batches = list(_batches([one for one in group if isinstance(one.content, list)]))
        try:
            places = self._put_all(batches)
        except OSError as error:
            for one in group:
                if isinstance(one.content, ObjectWriter):
                    one.content.discard()
            log.error("%d instances are refused, and can be sent again: %s", len(group), error.strerror)
            raise
        return [self._place(one, places) for one in group]

    def _place(self, one: NewBlob, places: Mapping[int, BlobRef]) -> BlobRef:
        if isinstance(one.content, ObjectWriter):
            one.content.settled()
            return BlobRef(one.content.key, 0, one.content.size)
        return places[id(one)]

    def _put_all(self, batches: Sequence[Sequence[NewBlob]]) -> dict[int, BlobRef]:
        """Put the objects of a group; where each blob is, by its identity."""
        places: dict[int, BlobRef] = {}
        try:
            for batch in batches:
                places |= self._put_object(batch)
        except OSError:
            self._forget({ref.key for ref in places.values()})
            raise
        return places

    def _put_object(self, batch: Sequence[NewBlob]) -> dict[int, BlobRef]:
        pieces: list[bytes] = []
        rows: list[tuple[int, NewBlob]] = []
        position = 0
        for one in batch:
            assert isinstance(one.content, list)
            pieces += [one.header, *one.content]
            rows.append((position, one))
            position += one.length
        key = new_key(len(batch), self._clock())
        self.bucket.put(key, b"".join([*pieces, encode(rows)]))
        return {id(one): BlobRef(key, offset, one.length) for offset, one in rows}

    def _forget(self, keys: Iterable[str]) -> None:
        """Delete what is not needed; where that fails a check finds it."""
        try:
            self.bucket.delete(sorted(keys))
        except OSError as error:
            log.warning("objects that are not needed stay, until `dicomnet archive fsck`: %s", error.strerror)

    def delete(self, refs: Sequence[BlobRef]) -> None:
        """Forget blobs: delete objects, or say which part of one is dead."""
        alone = {ref.key for ref in refs if count_of(ref.key) == 1}
        marked: dict[str, dict[int, int]] = {}
        for ref in refs:
            if ref.key not in alone:
                marked.setdefault(ref.key, {})[ref.offset] = ref.length
        whole = {key for key, places in marked.items() if len(places) >= count_of(key)}
        for key in marked.keys() - whole:
            mark = json.dumps(list(marked[key].items())).encode()
            self.bucket.put(f"{_dead_folder(key)}{secrets.token_hex(8)}", mark)
            if len(self._dead(key)) >= count_of(key):
                whole.add(key)
        if alone or whole:
            self.bucket.delete(sorted(alone | whole))
        for key in whole:
            self.bucket.delete([name for name, _ in self._marks(key)])

    def _marks(self, key: str) -> list[tuple[str, int]]:
        return [one for page in self.bucket.list(_dead_folder(key)) for one in page]

    def _dead(self, key: str) -> dict[int, int]:
        """The offsets of what is deleted of an object, and how many bytes that are."""
        return self._read_marks([name for name, _ in self._marks(key)])

    def _read_marks(self, names: Iterable[str]) -> dict[int, int]:
        dead: dict[int, int] = {}
        for name in names:
            try:
                text, _ = self.bucket.tail(name, TAIL_BYTES)
            except FileNotFoundError:
                continue  # the object is gone, and its marks with it
            dead |= {int(offset): int(length) for offset, length in json.loads(text)}
        return dead

    # ---- reading -----------------------------------------------------------------------------------------------

    def open(self, ref: BlobRef, *, cached: bool = True) -> BlobReader:
        """Open a blob.

        Raises:
            FileNotFoundError: there is none.
        """
        if not is_object(ref.key):
            raise FileNotFoundError(errno.ENOENT, "no key of an object store", ref.key)
        return _Reader(self.bucket, self._cache if cached else None, ref)

    def holds(self, ref: BlobRef) -> bool:
        """Whether a blob is there, in its whole length, and not deleted; its bytes are not looked at."""
        return is_object(ref.key) and any(one.ref == ref for one in self.scan_key(ref.key))

    def scan(self, *, recent: bool = False) -> Iterator[StoredBlob]:
        """Every blob that is not deleted, the oldest first.

        What is recent is looked at only where the index does not have all of it. What is deleted meanwhile may be
        among them.
        """
        day = datetime.fromtimestamp(self._clock() - RECENT_DAYS * 86400, UTC).strftime("%Y%m%d")
        after = f"{FOLDER}{day}" if recent else None
        with ThreadPoolExecutor(LOOKING, thread_name_prefix="dicomnet-scan") as pool:
            marks = self._all_marks(after=f"{_DEAD}{day}" if recent else None)  # at once, not for each object
            for page in self.bucket.list(FOLDER, after=after):
                keys = [key for key, _ in page if is_object(key)]
                if recent:
                    counts = self._counted(keys)
                    keys = [key for key in keys if counts.get(key, 0) < count_of(key)]
                for found in pool.map(self._found, keys, [marks.get(key, []) for key in keys]):
                    yield from found

    def scan_key(self, key: str) -> Iterator[StoredBlob]:
        """Every blob of an object that is not deleted."""
        yield from self._found(key)

    def _found(self, key: str, marks: Sequence[str] | None = None) -> list[StoredBlob]:
        """What is in an object; where its marks are not named they are looked for."""
        try:
            blobs = self._blobs(key)
        except FileNotFoundError:
            return []
        if marks is None and count_of(key) > 1:
            marks = [name for name, _ in self._marks(key)]
        dead = self._read_marks(marks or ())
        return [one for one in blobs if one.ref.offset not in dead]

    def _blobs(self, key: str) -> list[StoredBlob]:
        """What an object says that is in it, as far as it is long enough."""
        tail, size = self.bucket.tail(key, TAIL_BYTES)
        length = tail_length(tail)
        try:
            if not length:
                raise ValueError("it has no directory")
            if length > len(tail):
                tail, size = self.bucket.tail(key, length)
            blobs = parse(key, tail)
        except (ValueError, TypeError) as error:
            log.error("%s/%s is not what was stored: %s; restore it from a copy", self.bucket.name, key, error)
            return []
        return [one for one in blobs if one.ref.offset + one.ref.length <= size - length]

    def stats(self) -> StoreStats:
        """Numbers for people; all keys are listed for it."""
        sizes = [size for page in self.bucket.list(FOLDER) for _, size in page]
        dead = sum(sum(places.values()) for places in self._all_dead().values())
        return StoreStats(segments=len(sizes), bytes=sum(sizes), dead_bytes=dead, free_bytes=None, total_bytes=None)

    # ---- compaction --------------------------------------------------------------------------------------------

    def _all_marks(self, *, after: str | None = None) -> dict[str, list[str]]:
        """The marks of each object that has some."""
        names: dict[str, list[str]] = {}
        for page in self.bucket.list(_DEAD, after=after):
            for name, _ in page:
                names.setdefault(FOLDER + name.removeprefix(_DEAD).rpartition("/")[0], []).append(name)
        return names

    def _all_dead(self) -> dict[str, dict[int, int]]:
        return {key: self._read_marks(marks) for key, marks in self._all_marks().items()}

    def size_of(self, key: str) -> int:
        """Bytes of an object.

        Raises:
            FileNotFoundError: there is none.
        """
        return self.bucket.size(key)

    def half_dead(self) -> list[str]:
        """The objects of which at least half is deleted; marks of what is gone are deleted."""
        found: list[str] = []
        for key, dead in self._all_dead().items():
            try:
                if sum(dead.values()) * 2 >= self.bucket.size(key):
                    found.append(key)
            except FileNotFoundError:
                self.remove_segment(key)
        return sorted(found)

    def copy_segment(self, key: str, alive: Container[BlobRef]) -> list[tuple[BlobRef, BlobRef]]:
        """Copy what is alive of an object to a new one; the old place and the new one of each.

        Raises:
            OSError: it could not be copied.
        """
        blobs: list[tuple[BlobRef, NewBlob]] = []
        for one in self._blobs(key):
            if one.ref in alive:
                data = self.bucket.get(key, one.ref.offset, one.ref.length)
                header, content = data[: one.header_length], data[one.header_length :]
                uids = one.sop_class_uid, one.sop_instance_uid, one.transfer_syntax_uid
                blobs.append((one.ref, NewBlob(*uids, header, [content], one.sha256, len(content))))
        refs = self.put([blob for _, blob in blobs])
        return list(zip((ref for ref, _ in blobs), refs, strict=True))

    def remove_segment(self, key: str) -> None:
        """Delete an object of which nothing is needed any more, and its marks."""
        self.bucket.delete([key])
        self.bucket.delete([name for name, _ in self._marks(key)])


def _dead_folder(key: str) -> str:
    return f"{_DEAD}{key.removeprefix(FOLDER)}/"


def _batches(group: Sequence[NewBlob]) -> Iterator[list[NewBlob]]:
    """A group in parts of which each is an object."""
    batch: list[NewBlob] = []
    size = 0
    for one in group:
        if batch and size + one.length > OBJECT_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.length
    if batch:
        yield batch


def _mebibytes(parameters: Mapping[str, str]) -> int:
    try:
        return max(int(parameters.get("cache_mib", CACHE_MIB)), 1)
    except ValueError as error:
        raise InvalidArgument(f"cache_mib={parameters['cache_mib']} is no number of mebibytes") from error
