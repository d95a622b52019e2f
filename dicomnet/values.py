"""Values declared like dataclasses and like enumerations, without what those cost at import.

A dataclass compiles some six methods for each class, half a millisecond; two dozen of them would be a tenth of what a
short command takes in all. These share their methods. To load ``enum``, and to have it make the ten enumerations that a
short command loads, would be a fifth.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, dataclass_transform

__all__ = ["Enum", "IntEnum", "LightEnum", "LightIntEnum", "Settings", "Value"]


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


class _Members(type):
    """What a class of enumerated values can be asked."""

    _of_name: dict[str, Any]
    _of_value: dict[Any, Any]

    def __call__(cls, value: object) -> Any:
        """The member with this value; a member stands for itself."""
        try:
            return value if type(value) is cls else cls._of_value[value]
        except (KeyError, TypeError):
            raise ValueError(f"{value!r} is not a valid {cls.__qualname__}") from None

    def __getitem__(cls, name: str) -> Any:
        return cls._of_name[name]

    def __iter__(cls) -> Iterator[Any]:
        return iter(cls._of_name.values())

    def __reversed__(cls) -> Iterator[Any]:
        return reversed(cls._of_name.values())

    def __len__(cls) -> int:
        return len(cls._of_name)

    def __bool__(cls) -> bool:
        return True

    def __contains__(cls, value: object) -> bool:
        return type(value) is cls or value in cls._of_value

    @property
    def __members__(cls) -> dict[str, Any]:
        return cls._of_name.copy()

    def __repr__(cls) -> str:
        return f"<enum {cls.__qualname__!r}>"

    def __setattr__(cls, name: str, value: object) -> None:
        if name in cls._of_name:
            raise AttributeError(f"cannot reassign member {name!r}")
        super().__setattr__(name, value)


class LightEnum(metaclass=_Members):
    """An enumeration: what is assigned in a subclass becomes its members, as with ``enum.Enum``.

    A class may have a ``__new__`` that makes a member of what was assigned, and says its ``_value_``. Each value is
    given once, and nothing is derived from a class that has members.
    """

    _of_name: ClassVar[dict[str, Any]] = {}
    _of_value: ClassVar[dict[Any, Any]] = {}
    _name_: str
    _value_: Any

    def __init_subclass__(cls) -> None:
        names: dict[str, Any] = {}
        for name, value in cls.__dict__.items():
            if not (name.startswith("_") or hasattr(value, "__get__")):
                names[name] = member = cls.__new__(cls, *(value if isinstance(value, tuple) else (value,)))
                member._name_ = name
        for name, member in names.items():
            type.__setattr__(cls, name, member)
        cls._of_name, cls._of_value = names, {member._value_: member for member in names.values()}

    def __new__(cls, *assigned: Any) -> Self:
        """A member; a class with members, called, looks for one instead."""
        member = object.__new__(cls)
        member._value_ = assigned[0] if len(assigned) == 1 else assigned
        return member

    @property
    def name(self) -> str:
        """As it is written."""
        return self._name_

    @property
    def value(self) -> Any:
        """What it stands for."""
        return self._value_

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self._name_}: {self._value_!r}>"

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self._name_}"

    def __format__(self, form: str) -> str:
        return format(str(self), form)

    def __reduce_ex__(self, _: object) -> tuple[Any, ...]:  # also what copies it
        return type(self), (self._value_,)


class LightIntEnum(int, LightEnum):
    """An enumeration whose members are ints, as with ``enum.IntEnum``."""

    def __new__(cls, value: int) -> Self:
        """A member; a class with members, called, looks for one instead."""
        member = int.__new__(cls, value)
        member._value_ = value
        return member

    __repr__ = LightEnum.__repr__
    __str__ = int.__repr__


# Whoever programs with this gets those of the library, as somebody may ask whether one of ours is an `enum.Enum`. Only
# our own program, which nobody asks, has others, and only while it loads nothing that needs `enum` anyway.
if TYPE_CHECKING or "enum" in sys.modules or "dicomnet.cli" not in sys.modules:
    from enum import Enum, IntEnum
else:
    Enum, IntEnum = LightEnum, LightIntEnum
