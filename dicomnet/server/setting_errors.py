"""What is wrong with settings: all of it at once, each mistake with its file, table, field, and what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import InvalidArgument, escaped

__all__ = ["Problem", "SettingsInvalid", "model_in", "problems_of"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake.

    Attributes:
        file: the settings file, or the environment variable that has the value.
        table, field: where in it; empty where the whole file is meant.
        what: what is wrong.
        expected: what would be right.
    """

    file: str
    table: str
    field: str
    what: str
    expected: str

    def __str__(self) -> str:
        place = " ".join(part for part in (f"[{self.table}]" if self.table else "", self.field) if part)
        where = f"{self.file}: {place}" if place else self.file
        return escaped(f"{where}: {self.what}; expected {self.expected}")

    def as_json(self) -> dict[str, str]:
        """For a problem document."""
        return asdict(self)


class SettingsInvalid(InvalidArgument):
    """Settings that no server can run with.

    Attributes:
        problems: every mistake.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def problems_of(
    error: ValidationError,
    model: type[BaseModel],
    file: str,
    overrides: Mapping[str, Any],
    prefix: str,
    *,
    table: str = "",
) -> list[Problem]:
    """The mistakes that pydantic found, in the words of the settings file."""
    problems = []
    for one in error.errors(include_url=False, include_input=False):
        path = [str(part) for part in one["loc"]]
        names = _names(path)
        place = file
        if _is_in(overrides, names):
            place = f"environment variable {prefix}{'__'.join(names).upper()}"
        tables = [part for part in (table, *names[:-1]) if part]
        what, expected = _words(one["type"], one["msg"], one.get("ctx", {}), names, model)
        problems.append(Problem(place, ".".join(tables), names[-1] if names else "", what, expected))
    return problems


def _names(path: list[str]) -> list[str]:
    """A place without what pydantic says of the alternatives of a union."""
    return [name for name in path if "[" not in name and name not in _KINDS]


_KINDS = frozenset({"int", "float", "str", "bool", "none", "constrained-int", "constrained-float"})


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The table that a field is, if it is one."""
    for one in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _is_in(tables: Mapping[str, Any], names: list[str]) -> bool:
    here: Any = tables
    for name in names:
        if not isinstance(here, Mapping) or name not in here:
            return False
        here = here[name]
    return bool(names)


def _words(
    kind: str, message: str, context: Mapping[str, Any], names: list[str], model: type[BaseModel]
) -> tuple[str, str]:
    """What is wrong, and what is expected."""
    if kind == "missing":
        return "is missing", "a value"
    if kind == "extra_forbidden":
        known = _fields_at(model, names[:-1])
        near = get_close_matches(names[-1], known, n=1)
        return "there is no such field", f"{near[0]}?" if near else f"one of {', '.join(sorted(known)) or 'nothing'}"
    if kind == "value_error":
        said = str(context.get("error", message))
        return said, "another value"
    if kind == "tuple_type":
        return "the value does not fit", 'a list, such as ["A", "B"]'
    return "the value does not fit", message.removeprefix("Input should be ").removeprefix("Value error, ")


def _fields_at(model: type[BaseModel], names: list[str]) -> list[str]:
    here: type[BaseModel] | None = model
    for name in names:
        field = here.model_fields.get(name) if here is not None else None
        here = model_in(field.annotation) if field is not None else None
    return list(here.model_fields) if here is not None else []
