"""The words of annotations, without loading ``typing`` and ``collections``: they would be a fifth of a short command.

No annotation is evaluated here (PEP 563), so that the words of ``typing`` need only exist. Where it is loaded already
they are its own: whoever evaluates annotations, as documentation tools do, has loaded it. All else is what
``collections``, ``functools`` and ``types`` give out, from where they have it.
"""

import sys
from _collections_abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence

__all__ = [
    "Any",
    "Callable",
    "ClassVar",
    "Collection",
    "FrameType",
    "Generator",
    "Iterable",
    "Iterator",
    "Mapping",
    "MappingProxyType",
    "NoReturn",
    "Protocol",
    "Self",
    "Sequence",
    "TracebackType",
    "TypeVar",
    "dataclass_transform",
    "deque",
    "partial",
]

TYPE_CHECKING = False  # type checkers take it for true, as they do typing's own

if TYPE_CHECKING:
    from collections import deque
    from functools import partial
    from types import MappingProxyType
else:
    from _collections import deque
    from _functools import partial

    MappingProxyType = type(type.__dict__)

if TYPE_CHECKING or "typing" in sys.modules:
    from types import FrameType, TracebackType
    from typing import Any, ClassVar, NoReturn, Protocol, Self, TypeVar, dataclass_transform
else:

    class _Word:
        """Stands for any of them."""

        __class_getitem__ = classmethod(lambda cls, _: cls)

    Any = ClassVar = FrameType = NoReturn = Self = TracebackType = _Word
    Protocol = object

    def TypeVar(name, **_):  # noqa: N802
        """Of a function that gives what it is given."""
        return _Word

    def dataclass_transform(**_):
        """For type checkers alone."""
        return lambda cls: cls
