"""An instance of a repository as something that can be sent: its bytes as they are stored, opened when needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Self

from ..errors import DicomNetError, InputFileError, InputProblem
from ..files.part10 import read_meta
from .blob_store import BlobReader, BlobRef, BlobStore
from .places import Place

__all__ = ["BlobSource", "data_set_of", "hash_of", "header_length"]

_HEAD = 4096  # what file meta information seldom exceeds
_MOST_HEAD = 1 << 20
_CHUNK = 256 << 10
_PIECE = 1 << 20


class BlobSource:
    """A `Source` over a blob.

    Args:
        blobs: the store.
        place: the instance, and where it is.

    Attributes:
        name: for messages.
        sop_class_uid, sop_instance_uid, transfer_syntax_uid: as the index has them.
    """

    def __init__(self, blobs: BlobStore, place: Place) -> None:
        self._blobs, self._place = blobs, place
        self._reader: BlobReader | None = None
        self._start = 0
        self.name: str = place.uid
        self.sop_class_uid: str = place.cls
        self.sop_instance_uid: str = place.uid
        self.transfer_syntax_uid: str = place.ts

    @property
    def size(self) -> int:
        """Bytes of the data set as it is sent: an odd one is filled up with a zero byte (PS3.5 Section 7.1.1).

        Raises:
            InputFileError: the blob is not there, or not readable.
        """
        self._open()
        length = self._place.size - self._start
        return length + length % 2

    def _open(self) -> BlobReader:
        if self._reader is None:
            try:
                self._reader = self._blobs.open(self._place.ref)
                self._start = header_length(self._reader)
            except OSError as error:
                self.close()
                why = error.strerror or type(error).__name__
                raise _unreadable(f"cannot be read: {why}", self.name) from error
        return self._reader

    def chunks(self, unit: int) -> Iterator[memoryview]:
        """The data set in pieces whose length is a multiple of ``unit`` but for the last: slices of reused memory.

        Raises:
            InputFileError: the blob is shorter than it was, or not readable.
        """
        reader, left = self._open(), self.size
        buffer = memoryview(bytearray(min(max(_CHUNK // unit, 1) * unit, max(left, 1))))
        position = self._start
        while left:
            wanted = min(len(buffer), left)
            length = self._fill(reader, position, buffer[:wanted])
            position, left = position + length, left - length
            yield buffer[:length]

    def _fill(self, reader: BlobReader, position: int, buffer: memoryview) -> int:
        filled = 0
        while filled < len(buffer):
            try:
                length = reader.read_into(position + filled, buffer[filled:])
            except OSError as error:
                raise _unreadable(f"cannot be read: {error.strerror}", self.name) from error
            if not length and position + filled == self._place.size and filled == len(buffer) - 1:
                buffer[filled] = 0
                length = 1
            if not length:
                raise _unreadable("is shorter than it was", self.name)
            filled += length
        return filled

    def close(self) -> None:
        """Close the blob; it can be opened again."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _unreadable(why: str, name: str) -> InputFileError:
    return InputFileError(f"the stored instance {why}", problem=InputProblem.CANNOT_READ, path=name)


def header_length(reader: BlobReader) -> int:
    """Bytes of the preamble and file meta information of an open blob.

    Raises:
        OSError: it cannot be read.
        InputFileError: it is no Part 10 stream.
    """
    size = _HEAD
    while True:
        buffer = bytearray(size)
        length = reader.read_into(0, memoryview(buffer))
        try:
            return read_meta(memoryview(buffer)[:length])[1]
        except DicomNetError:
            if length < size or size >= _MOST_HEAD:
                raise
            size *= 16


def hash_of(blobs: BlobStore, place: Place, *, cached: bool = False) -> bytes:
    """SHA-256 of a stored data set, read now.

    Args:
        blobs: the store.
        place: where it is.
        cached: what this process has read of the store before counts.

    Raises:
        OSError, InputFileError: it cannot be read.
    """
    reader = blobs.open(place.ref, cached=cached)
    try:
        position = header_length(reader)
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(min(_PIECE, place.size)))
        while position < place.size and (length := reader.read_into(position, buffer)):
            digest.update(buffer[:length])
            position += length
        return digest.digest()
    finally:
        reader.close()


def data_set_of(blobs: BlobStore, ref: BlobRef) -> bytes:
    """A whole data set, for what is small.

    Raises:
        OSError: it cannot be read.
        InputFileError: it is no Part 10 stream.
    """
    reader = blobs.open(ref)
    try:
        start = header_length(reader)
        buffer = bytearray(ref.length - start)
        return bytes(buffer[: reader.read_into(start, memoryview(buffer))])
    finally:
        reader.close()
