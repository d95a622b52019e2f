"""What is in an object of an object store: Part 10 streams, then a directory, from which an index can be made anew.

=========  ======================================================================================
bytes      meaning (little endian)
=========  ======================================================================================
streams    one after the other
directory  JSON: a list of ``[offset, length, header length, SHA-256, SOP class, SOP instance, transfer syntax]``
4          length of the directory
4          CRC-32 of the directory
4          ``DNO1``
=========  ======================================================================================

Keys are ``objects/DAY/TIME-RANDOM-COUNT``: they are in the order of time, and are never used twice.
"""

from __future__ import annotations

import json
import re
import secrets
import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from zlib import crc32

from .blob_store import BlobRef, NewBlob, StoredBlob

__all__ = ["FOLDER", "TAIL_BYTES", "count_of", "encode", "is_object", "new_key", "parse", "tail_length"]

FOLDER = "objects/"
TAIL_BYTES = 64 << 10  # what is read at first of an object's end; a directory is seldom longer
_FOOT = struct.Struct("<II4s")
_MAGIC = b"DNO1"
_KEY = re.compile(r"objects/\d{8}/[0-9a-f]{11,13}-[0-9a-f]{10}-(\d{1,6})")


def new_key(count: int, now: float) -> str:
    """A key for an object of so many instances."""
    day = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d")
    return f"{FOLDER}{day}/{int(now * 1000):012x}-{secrets.token_hex(5)}-{count}"


def is_object(key: str) -> bool:
    """Whether a key is one of an object store."""
    return _KEY.fullmatch(key) is not None


def count_of(key: str) -> int:
    """How many instances are in an object."""
    found = _KEY.fullmatch(key)
    return int(found[1]) if found else 0


def encode(blobs: Sequence[tuple[int, NewBlob]]) -> bytes:
    """The end of an object that has these blobs, at these offsets."""
    rows = [
        [offset, one.length, len(one.header), one.sha256.hex(),
         one.sop_class_uid, one.sop_instance_uid, one.transfer_syntax_uid]
        for offset, one in blobs
    ]  # fmt: skip
    text = json.dumps(rows, separators=(",", ":")).encode()
    return text + _FOOT.pack(len(text), crc32(text), _MAGIC)


def tail_length(tail: bytes) -> int:
    """How much of an object's end has the directory; 0 where there is none."""
    if len(tail) < _FOOT.size:
        return 0
    length, _, magic = _FOOT.unpack_from(tail, len(tail) - _FOOT.size)
    return int(length) + _FOOT.size if magic == _MAGIC else 0


def parse(key: str, tail: bytes) -> list[StoredBlob]:
    """The blobs of an object, from its end, which `tail_length` says the length of.

    Raises:
        ValueError: it is damaged.
    """
    length, crc, _ = _FOOT.unpack_from(tail, len(tail) - _FOOT.size)
    text = tail[-_FOOT.size - length : -_FOOT.size]
    if crc32(text) != crc:
        raise ValueError("its directory is damaged")
    return [
        StoredBlob(BlobRef(key, offset, size), cls, uid, ts, bytes.fromhex(sha), header)
        for offset, size, header, sha, cls, uid, ts in json.loads(text)
    ]
