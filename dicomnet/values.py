"""`Value`: frozen values declared like dataclasses, without what a dataclass costs at import.

A dataclass compiles some six methods for each class, half a millisecond; two dozen of them would be a tenth of what a
short command takes in all. These share their methods.
"""

from __future__ import annotations

from collections.abc import Iterator

from ._typing import Any, ClassVar, NoReturn, Self, dataclass_transform

__all__ = ["Settings", "Value"]


@dataclass_transform(frozen_default=True)
class Value:
    """Base of a frozen value: its annotated attributes are its fields, in order, each with a default or without.

    Fields are given by position or by name; values are equal where their class and all fields are. `replace` gives a
    copy with some of them changed; ``dataclasses.replace`` does not, for these are no dataclasses.
    """

    __match_args__: ClassVar[tuple[str, ...]] = ()
    _required: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, *, kw_only: bool = False) -> None:  # kw_only is for type checkers, as of a dataclass
        cls.__match_args__ = tuple(cls.__annotations__)  # type: ignore[misc]  # mypy takes it for constant
        cls._required = frozenset(name for name in cls.__match_args__ if name not in cls.__dict__)

    def __init__(self, *values: object, **named: object) -> None:
        fields = self.__match_args__
        state = self.__dict__
        state.update(zip(fields, values))  # noqa: B905 - too many values are found below
        if named or len(values) != len(fields):
            state.update(named)
            self._check(len(values) + len(named))

    def _check(self, given: int) -> None:
        """Refuse what a function with these parameters would refuse."""
        state = self.__dict__
        missing = self._required - state.keys()
        unknown = state.keys() - set(self.__match_args__)
        if missing or unknown or given != len(state):
            name = type(self).__name__
            what = f"missing {sorted(missing)}" if missing else f"unexpected {sorted(unknown) or 'values'}"
            raise TypeError(f"{name} takes {', '.join(self.__match_args__)}: {what}")

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self.__match_args__])

    def _items(self) -> Iterator[tuple[str, Any]]:
        return zip(self.__match_args__, self._values(), strict=True)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} is immutable: {name} is given at construction")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        fields = (f"{name}={value!r}" for name, value in self._items())
        return f"{type(self).__name__}({', '.join(fields)})"

    def replace(self, /, **changes: object) -> Self:
        """A copy with these fields changed: ``limits.replace(pending=8)``."""
        return type(self)(**dict(self._items()) | changes)

    def __replace__(self, /, **changes: object) -> Self:
        """What ``copy.replace`` calls, from Python 3.13 on."""
        return self.replace(**changes)


class Settings(Value):
    """A value whose fields are given by name only, and looked over when it is made; what they are by default is right.

    Each association makes some of them.
    """

    def __init__(self, **named: object) -> None:
        super().__init__(**named)
        for name, value in named.items():
            self._check_field(name, value)

    def replace(self, /, **changes: object) -> Self:
        """A copy with these fields changed."""
        return type(self)(**self.__dict__ | changes)

    def _check_field(self, name: str, value: object) -> None:
        """Raise what is wrong with it."""
