"""Text that goes out: whether the character set that a data set names can hold it (PS3.5 Section 6.1.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import InvalidArgument
from .character_sets import mend_gb_2312
from .types import Dataset
from .vr import TEXT

__all__ = ["UTF_8", "named"]

UTF_8 = "ISO_IR 192"


def named(dataset: Dataset) -> Dataset:
    """The data set with a character set that can hold all of its text: its own, or UTF-8 where it names none.

    A "?" in the place of a character is another text, and in a query a wild card: it would find other patients (PS3.4
    Section C.2.2.2.4).

    Raises:
        InvalidArgument: the character set that it names lacks a character.
    """
    if dataset.get("SpecificCharacterSet"):
        mend_gb_2312()
        _check(dataset, dataset.SpecificCharacterSet)
        return dataset
    if all(text.isascii() for _, text in _texts(dataset)) and not _named_below(dataset):
        return dataset
    if not all(text.isascii() for _, text in _texts(dataset)):
        copy = type(dataset)()
        copy.update(dataset)
        copy.SpecificCharacterSet = UTF_8
        if hasattr(dataset, "file_meta"):
            copy.file_meta = dataset.file_meta
        dataset = copy
    _check(dataset, dataset.get("SpecificCharacterSet") or "ISO_IR 6")
    return dataset


def _named_below(dataset: Dataset) -> bool:
    return any(item.get("SpecificCharacterSet") for item in _items(dataset))


def _check(dataset: Dataset, character_set: Any) -> None:
    """Raise where text of this data set, or of its items, does not fit."""
    from pydicom.charset import convert_encodings, default_encoding  # noqa: PLC0415 late on purpose

    found = convert_encodings(character_set if isinstance(character_set, str) else list(character_set))
    encodings = ["ascii" if one == default_encoding else one for one in found]  # pydicom takes Latin 1 for the default
    for keyword, text in _own_texts(dataset):
        if not text.isascii() and not _fits(text, encodings):
            name = character_set if isinstance(character_set, str) else "\\".join(character_set)
            raise InvalidArgument(
                f"{keyword} has characters that its character set {name} cannot hold",
                hint=f'Name another Specific Character Set: "{UTF_8}" has them all.',
            )
    for item in _items(dataset):
        _check(item, item.get("SpecificCharacterSet") or character_set)


def _fits(text: str, encodings: Sequence[str]) -> bool:
    """Whether each part of a text can be encoded: with code extensions, each by another encoding."""
    from pydicom.charset import encode_string  # noqa: PLC0415 late on purpose

    if len(encodings) == 1:
        try:
            text.encode(encodings[0])
        except UnicodeEncodeError:
            return False
        return True
    from pydicom import config  # noqa: PLC0415 late on purpose

    try:
        mode, config.settings.writing_validation_mode = config.settings.writing_validation_mode, config.RAISE
        try:
            encode_string(text, list(encodings))
        finally:
            config.settings.writing_validation_mode = mode
    except ValueError:  # a UnicodeEncodeError is one
        return False
    return True


def _texts(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Keywords and texts, those of items too."""
    yield from _own_texts(dataset)
    for item in _items(dataset):
        yield from _texts(item)


def _own_texts(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Keywords and texts of its own elements; what was read and not looked at goes out as the bytes that it was."""
    for element in _elements(dataset, TEXT):
        values = element.value if hasattr(element.value, "append") else [element.value]
        for value in values:
            if value is not None:
                yield element.keyword or str(element.tag), str(value)


def _items(dataset: Dataset) -> Iterator[Dataset]:
    for element in _elements(dataset, frozenset({"SQ"})):
        yield from element.value or ()


def _elements(dataset: Dataset, kinds: frozenset[str]) -> Iterator[Any]:
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)
        if element.VR in kinds and hasattr(element, "keyword"):  # raw elements have none
            yield element
