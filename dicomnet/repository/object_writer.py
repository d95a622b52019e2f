"""A large instance on its way to an object store: by a file without a name, from which parts go as they are whole.

The listener's loop writes to that file and never waits for the network; memory holds `PARTS_AT_ONCE` parts. The
directory of the object is its end, so that one upload is all there is to it.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path

from ..files.own_files import write_all
from ..files.part10 import read_meta
from ..log import log
from .blob_store import NewBlob
from .bucket import PART_BYTES, Bucket, Uploading
from .object_directory import encode

__all__ = ["ObjectWriter"]


class ObjectWriter:
    """A `BlobWriter`.

    Args:
        bucket: where it goes.
        key: of the object.
        header: preamble and file meta information.
        directory: where the file is made.
        pool: threads that send parts.
        forget: deletes objects that are not needed after all.

    Attributes:
        size: bytes so far.
    """

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        header: bytes,
        directory: Path,
        pool: Executor,
        forget: Callable[[Sequence[str]], None],
    ) -> None:
        self.key: str = key
        self.size: int = 0
        self._bucket, self._header, self._pool, self._forget = bucket, header, pool, forget
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 closed by finish or discard
        self._sending = threading.Lock()  # held while parts are sent
        self._upload: Uploading | None = None
        self._sent = 0
        self._is_queued = False
        self._sha256 = b""
        self._state = "open"
        self._error: OSError | None = None
        self.write([header])

    def write(self, views: Sequence[bytes | memoryview]) -> None:
        """Append; see `BlobWriter.write`."""
        if self._error is not None:
            raise self._error
        try:
            self.size += write_all(self._file.fileno(), views)
        except OSError:
            self.discard()
            raise
        if self.size - self._sent >= PART_BYTES and not self._is_queued:
            self._is_queued = True
            self._pool.submit(self._send)

    def complete(self, sha256: bytes) -> None:
        """All of it is written, and this is the hash of its data set."""
        self._sha256 = sha256

    def _send(self) -> None:
        """Send the parts that are whole."""
        with self._sending:
            self._is_queued = False
            try:
                while self._state == "open" and self.size - self._sent >= PART_BYTES:
                    self._send_part(PART_BYTES)
            except OSError as error:
                self._error = error

    def _send_part(self, length: int) -> None:
        if self._upload is None:
            self._upload = self._bucket.upload(self.key)
        part = os.pread(self._file.fileno(), length, self._sent)
        self._bucket.uploaded(self._upload.write, part)
        self._sent += len(part)

    def finish(self) -> None:
        """Send the rest, and have the store confirm the whole; see `BlobWriter.finish`."""
        with self._sending:
            try:
                if self._error is not None:
                    raise self._error
                while self._sent < self.size:
                    self._send_part(min(PART_BYTES, self.size - self._sent))
                assert self._upload is not None
                self._bucket.uploaded(self._upload.write, self._directory())
                self._bucket.uploaded(self._upload.close)
            except OSError as error:
                self._end("failed")
                self._later(self._abort)  # its sender need not wait for that
                log.error("a large instance is not stored: %s", error.strerror)
                raise
            self._end("stored")

    def _directory(self) -> bytes:
        meta, _ = read_meta(memoryview(self._header))
        uids = meta.sop_class_uid or "", meta.sop_instance_uid or "", meta.transfer_syntax_uid
        return encode([(0, NewBlob(*uids, self._header, [], self._sha256, self.size - len(self._header)))])

    def _end(self, state: str) -> None:
        self._state = state
        self._file.close()

    def settled(self) -> None:
        """It was put: nothing deletes it any more."""
        self._state = "put"

    def discard(self) -> None:
        """Let go of it, and of what the store has of it, unless it was put."""
        if self._state in ("open", "stored"):
            self._state = "discarded" if self._state == "open" else "unwanted"
            self._later(self._give_up)

    def _later(self, work: Callable[[], None]) -> None:
        """Have a thread do it; where the store is closed, this one."""
        try:
            self._pool.submit(work)
        except RuntimeError:
            work()

    def _abort(self) -> None:
        """Close an upload that failed: obstore has the store forget its parts, as not all of them are there."""
        if self._upload is not None:
            with suppress(OSError):  # that it is not whole, or was closed before
                self._bucket.uploaded(self._upload.close)

    def _give_up(self) -> None:
        """Make an object of what was sent, and delete it: an upload that is not ended keeps its parts for ever."""
        with self._sending:
            self._file.close()
            if self._error is not None:
                self._abort()
                return
            try:
                if self._state == "discarded" and self._upload is not None:
                    self._bucket.uploaded(self._upload.close)
                if self._upload is not None:
                    self._forget([self.key])
            except OSError as error:
                log.warning("an upload that is not needed stays: %s", error.strerror)

    def __del__(self) -> None:
        if getattr(self, "_state", "") == "open":
            self._file.close()
