"""The records of a segment: self-describing, so that an index can be made from the segments alone.

A record is a header, then (where the blob is inline) the Part 10 stream, each padded with zeros to 8 bytes:

======  ==============================================================================================
bytes   meaning (little endian)
======  ==============================================================================================
4       ``DNR1``
1       kind: 1 the stream follows, 2 it is a file of its own whose path is in the header
1       0
2       length of this header, padding included
8       length of the Part 10 stream
4       length of its header: preamble and file meta information
4       CRC-32 of this header (these four bytes 0) and of an inline stream's preamble and file meta information
32      SHA-256 of the data set
rest    SOP Class UID, SOP Instance UID, Transfer Syntax UID, path, hidden name; each ends in a zero byte
======  ==============================================================================================
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from zlib import crc32

__all__ = ["ALIGNMENT", "EXTERNAL", "INLINE", "MAGIC", "MOST_HEADER", "Record", "encode", "is_intact", "parse"]

MAGIC = b"DNR1"
INLINE, EXTERNAL = 1, 2
ALIGNMENT = 8
MOST_HEADER = 8192  # three UIDs of 64 and the longest path that a file system takes
_MOST_META = 1 << 20  # file meta information of a mebibyte is none of ours
_FIXED = struct.Struct("<4sBBHQII32s")
_CRC = slice(20, 24)


@dataclass(frozen=True, slots=True)
class Record:
    """A record's header.

    Attributes:
        header_length: bytes of the record's header, after which an inline stream begins.
        length: bytes of the Part 10 stream.
        meta_length: bytes of its preamble and file meta information.
        path: where the stream is, if not inline, relative to the store.
        hidden: what that file was called when this was written; it is renamed afterwards.
    """

    kind: int
    header_length: int
    length: int
    meta_length: int
    crc: int
    sha256: bytes
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    path: str
    hidden: str

    @property
    def span(self) -> int:
        """Bytes from this record to the next."""
        return self.header_length + (padded(self.length) if self.kind == INLINE else 0)


def padded(length: int) -> int:
    """The next multiple of the alignment."""
    return -(-length // ALIGNMENT) * ALIGNMENT


def encode(
    uids: tuple[str, str, str], meta: bytes, size: int, sha256: bytes, path: str = "", hidden: str = ""
) -> bytes:
    """The header of a record.

    Args:
        uids: SOP class, SOP instance, transfer syntax.
        meta: the preamble and file meta information.
        size: bytes of the data set.
        sha256: of the data set.
        path, hidden: of a stream that is a file of its own; empty for an inline one.
    """
    names = b"".join(text.encode() + b"\0" for text in (*uids, path, hidden))
    length = padded(_FIXED.size + len(names))
    kind = EXTERNAL if path else INLINE
    header = bytearray(_FIXED.pack(MAGIC, kind, 0, length, len(meta) + size, len(meta), 0, sha256))
    header += names
    header += bytes(length - len(header))
    header[_CRC] = crc32(b"" if path else meta, crc32(header)).to_bytes(4, "little")
    return bytes(header)


def parse(window: bytes | memoryview) -> Record | None:
    """The record's header at the start of ``window``; None where there is none. `is_intact` checks it."""
    if len(window) < _FIXED.size:
        return None
    magic, kind, zero, header_length, length, meta_length, crc, sha256 = _FIXED.unpack_from(window)
    if magic != MAGIC or kind not in (INLINE, EXTERNAL) or zero or not _FIXED.size < header_length <= len(window):
        return None
    if meta_length > min(length, _MOST_META):
        return None
    names = bytes(window[_FIXED.size : header_length]).split(b"\0")
    if len(names) < 6:
        return None
    try:
        texts = [name.decode() for name in names[:5]]
    except UnicodeDecodeError:
        return None
    return Record(kind, header_length, length, meta_length, crc, sha256, *texts)


def is_intact(record: Record, header: bytes | memoryview, meta: bytes | memoryview) -> bool:
    """Whether the header, and the preamble and file meta information of an inline stream, are what was written."""
    plain = bytearray(header[: record.header_length])
    plain[_CRC] = bytes(4)
    whole = len(meta) == (record.meta_length if record.kind == INLINE else 0)
    return whole and crc32(meta, crc32(plain)) == record.crc
