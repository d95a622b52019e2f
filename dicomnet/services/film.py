"""Films: their sizes and layouts, and the densities of what is on them (PS3.3 Sections C.13.3 and C.13.5)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InvalidArgument, escaped

__all__ = ["FILM_SIZES", "GRAYSCALE", "Box", "Layout", "film_millimetres"]

_INCH = 25.4
#: Film Size ID -> width and height in millimetres, upright (PS3.3 Section C.13.3).
FILM_SIZES: dict[str, tuple[float, float]] = {
    "8INX10IN": (8 * _INCH, 10 * _INCH),
    "8_5INX11IN": (8.5 * _INCH, 11 * _INCH),
    "10INX12IN": (10 * _INCH, 12 * _INCH),
    "10INX14IN": (10 * _INCH, 14 * _INCH),
    "11INX14IN": (11 * _INCH, 14 * _INCH),
    "11INX17IN": (11 * _INCH, 17 * _INCH),
    "14INX14IN": (14 * _INCH, 14 * _INCH),
    "14INX17IN": (14 * _INCH, 17 * _INCH),
    "24CMX24CM": (240, 240),
    "24CMX30CM": (240, 300),
    "A4": (210, 297),
    "A3": (297, 420),
}
#: What a film may be filled with between images: its names, beside hundredths of an optical density.
GRAYSCALE = ("BLACK", "WHITE")
#: More images are on no film: printers take some dozens.
_MOST_BOXES = 400
_GRID = re.compile(r"([1-9]\d{0,2})[xX*,]([1-9]\d{0,2})").fullmatch
_LIST = re.compile(r"([1-9]\d{0,2})(,[1-9]\d{0,2})*").fullmatch

#: Left, top, width and height, as parts of what is printed on.
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Layout:
    r"""How a film is divided; made by `parse`.

    Attributes:
        text: Image Display Format (2010,0010).
        boxes: the places of the images, in the order of Image Box Position (2020,0010).
    """

    text: str
    boxes: tuple[Box, ...]

    @classmethod
    def parse(cls, text: str) -> Layout:
        r"""Of ``2x3``, two columns of three rows; or as in the standard, ``STANDARD\2,3``, ``ROW\1,2``, ``COL\2,1``.

        Raises:
            InvalidArgument: it is none of these, or has more boxes than a film can.
        """
        grid = _GRID(text.strip())
        kind, _, rest = ("STANDARD", "", f"{grid[1]},{grid[2]}") if grid else text.strip().upper().partition("\\")
        numbers = [int(one) for one in rest.split(",")] if _LIST(rest) else []
        if kind == "STANDARD" and len(numbers) == 2:
            columns, rows = numbers
            places = _lines([columns] * rows)
        elif kind == "ROW" and numbers:
            places = _lines(numbers)
        elif kind == "COL" and numbers:
            places = [(top, left, height, width) for left, top, width, height in _lines(numbers)]
        else:
            raise InvalidArgument(
                f'"{escaped(text)}" is no layout of a film',
                hint=r"Write COLUMNSxROWS as in 2x3, or STANDARD\2,3, ROW\1,2 or COL\2,1.",
            )
        if len(places) > _MOST_BOXES:
            raise InvalidArgument(f"{len(places)} images on a film are too many: {_MOST_BOXES} is the most")
        return cls(f"{kind}\\{rest}", tuple(places))


def _lines(counts: list[int]) -> list[Box]:
    """Lines of equal height, each divided equally."""
    height = 1 / len(counts)
    return [(place / count, line * height, 1 / count, height) for line, count in enumerate(counts)
            for place in range(count)]  # fmt: skip


def film_millimetres(size: str, orientation: str = "PORTRAIT") -> tuple[float, float]:
    """Width and height of a film.

    Raises:
        InvalidArgument: there is no such film.
    """
    found = FILM_SIZES.get(size.strip().upper())
    if found is None:
        raise InvalidArgument(f'there is no film "{escaped(size)}"', hint=f"One of {', '.join(FILM_SIZES)}.")
    return found if orientation.upper() != "LANDSCAPE" else (found[1], found[0])
