"""The words of annotations that ``typing`` has, without loading it: it would be a tenth of what a short command takes.

No annotation is evaluated here (PEP 563), so that the words need only exist. Where ``typing`` is loaded already they
are its own: whoever evaluates annotations, as documentation tools do, has loaded it.
"""

import sys

__all__ = ["Any", "ClassVar", "NoReturn", "Protocol", "Self", "TypeVar", "dataclass_transform"]

TYPE_CHECKING = False  # type checkers take it for true, as they do typing's own

if TYPE_CHECKING or "typing" in sys.modules:
    from typing import Any, ClassVar, NoReturn, Protocol, Self, TypeVar, dataclass_transform
else:

    class _Word:
        """Stands for any of them."""

        __class_getitem__ = classmethod(lambda cls, _: cls)

    Any = ClassVar = NoReturn = Self = _Word
    Protocol = object

    def TypeVar(name):  # noqa: N802
        """Of a function that gives what it is given."""
        return _Word

    def dataclass_transform(**_):
        """For type checkers alone."""
        return lambda cls: cls
