"""The names of data sets and instances in signatures.

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

__all__ = ["Dataset", "Path", "Storable"]

#: The path of a file or a directory.
Path: TypeAlias = "str | os.PathLike[str]"
#: One instance: a path, Part 10 bytes, an open binary file, a pydicom Dataset, a source.
Storable: TypeAlias = "Path | bytes | bytearray | memoryview | BinaryIO | Dataset | Source"
