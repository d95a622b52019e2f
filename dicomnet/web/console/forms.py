"""Forms: what was typed, what is wrong with it and where; fields made from a JSON schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from starlette.datastructures import UploadFile

__all__ = ["Field", "Form", "Kind", "choices_of", "number_in"]

Kind = Literal["text", "number", "checkbox", "select", "lines", "several", "password", "area", "date", "time", "hidden"]

_DIGITS = 15


@dataclass(slots=True)
class Field:
    """A field as a page shows it.

    Attributes:
        name: of the control.
        label: for people.
        kind: what it is edited with; "lines" is a list with a line for each value, "several" a list of check boxes.
        value: what it holds: text; a bool for "checkbox"; a sequence for "several".
        help: a sentence beside it.
        choices: value and text of each choice of "select" and "several".
        error: what is wrong with it.
        required: whether it must be filled in.
        placeholder: what holds where it is empty.
        most: characters that it takes.
    """

    name: str
    label: str
    kind: Kind = "text"
    value: Any = ""
    help: str = ""
    choices: Sequence[tuple[str, str]] = ()
    error: str = ""
    required: bool = False
    placeholder: str = ""
    most: int | None = None


class Form:
    """What a browser has sent.

    Args:
        pairs: names and values, files left out.
        files: what was uploaded.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], files: Iterable[UploadFile] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)
        self.files: list[UploadFile] = list(files)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str:
        """A value, without space around it."""
        return self.raw(name).strip()

    def raw(self, name: str) -> str:
        """A value as it was typed, with the line ends of Unix."""
        return self._values.get(name, [""])[-1].replace("\r\n", "\n")

    def all(self, name: str) -> list[str]:
        """All values of a name."""
        return list(self._values.get(name, ()))

    def lines(self, name: str) -> list[str]:
        """The lines of a value that have something in them."""
        return [line.strip() for line in self.raw(name).splitlines() if line.strip()]

    def keep(self, fields: Iterable[Field]) -> None:
        """Have fields hold what was typed."""
        for one in fields:
            if one.kind == "checkbox":
                one.value = one.name in self
            elif one.kind == "several":
                one.value = self.all(one.name)
            elif one.name in self and one.kind != "password":
                one.value = self.raw(one.name)


def mark(fields: Iterable[Field], problems: Iterable[Mapping[str, Any]]) -> list[str]:
    """Put each problem at its field; what fits none is given back."""
    by_name = {one.name: one for one in fields}
    left = []
    for one in problems:
        name = str(one.get("field", ""))
        table = str(one.get("table", ""))
        places = (f"{table}.{name}" if table else name, table, name.partition(".")[0])
        field = next((by_name[place] for place in places if place in by_name), None)
        expected = f"; expected {one['expected']}" if one.get("expected") else ""
        what = f"{one.get('what', '')}{expected}"
        if field is None:
            left.append(f"[{table}] {name}: {what}" if table else f"{name}: {what}" if name else what)
        else:
            field.error = f"{field.error}; {what}" if field.error else what
    return left


def number_in(text: str) -> int | None:
    """A whole number that fits what counts things here; None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


def choices_of(values: Iterable[str]) -> list[tuple[str, str]]:
    """Choices that are their own text."""
    return [(one, one) for one in values]
