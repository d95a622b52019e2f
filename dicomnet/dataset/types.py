"""The names of data sets and instances in signatures, and what their UIDs may look like.

pydicom is loaded late, when the first data set is made or understood; only type checkers see its `Dataset` here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from ..files.instance_source import Source

if TYPE_CHECKING:
    from pydicom import Dataset
else:
    Dataset = Any

__all__ = ["Dataset", "Path", "Storable", "is_uid_like"]

#: The path of a file or a directory.
Path: TypeAlias = "str | os.PathLike[str]"
#: One instance: a path, Part 10 bytes, an open binary file, a pydicom Dataset, a source.
Storable: TypeAlias = "Path | bytes | bytearray | memoryview | BinaryIO | Dataset | Source"

_DIGITS_AND_DOTS = frozenset("0123456789.")


def is_uid_like(text: str) -> bool:
    """Whether a peer may mean this as a UID: digits and dots, also with the leading zeros that PS3.5 9.1 forbids.

    Instances with such UIDs exist, and are lost where they cannot be named. It is safe as the name of a file, too.
    """
    return len(text) <= 64 and _DIGITS_AND_DOTS.issuperset(text) and all(text.split("."))
