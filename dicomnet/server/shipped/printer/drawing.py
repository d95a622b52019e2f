"""Films drawn: where each image goes, how large it is, and the film as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ....services.film import Layout, film_millimetres
from ....status import Status
from .density import Tone, grey_of

__all__ = ["Content", "FilmPlan", "Fit", "Press", "draw", "fit"]

_INCH = 25.4
_RESAMPLING = {
    "REPLICATE": Image.Resampling.NEAREST,
    "BILINEAR": Image.Resampling.BILINEAR,
    "CUBIC": Image.Resampling.BICUBIC,
    "NONE": Image.Resampling.BICUBIC,  # of what is too large all the same, or has pixels that are not square
}
_FINEST = 2.0**-20  # of an image: less of it cannot be told apart in the numbers that Pillow takes
_DEMAGNIFIED, _CROPPED, _DECIMATED, _TOO_LARGE = 0xB604, 0xB609, 0xB60A, 0xC603


@dataclass(frozen=True, slots=True)
class Press:
    """What a printer prints with.

    Attributes:
        dots: per inch.
        margin, gap: millimetres around all images, and between them.
        line: height in millimetres of the line of annotations.
    """

    dots: int = 300
    margin: float = 5.0
    gap: float = 2.0
    line: float = 6.0

    def pixels(self, millimetres: float) -> int:
        """So many dots."""
        return round(millimetres / _INCH * self.dots)


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """What an image box was given.

    Attributes:
        pixels: grey ``(rows, columns)`` from black 0 to ``top``, or RGB ``(rows, columns, 3)`` of eight bits.
        top: the greatest grey value.
        aspect: height of a pixel over its width.
        magnification: REPLICATE, BILINEAR, CUBIC or NONE.
        width: wanted, in millimetres; 0 is as large as it fits.
        behaviour: of what is too large: DECIMATE, CROP, FAIL, or empty.
    """

    pixels: Any
    top: int = 255
    aspect: float = 1.0
    magnification: str = "CUBIC"
    width: float = 0.0
    behaviour: str = ""


@dataclass(frozen=True, slots=True)
class FilmPlan:
    """A film that is to be drawn.

    Attributes:
        layout, size, orientation: of the film box.
        is_color: whether there are colours on it.
        contents: of its image boxes, by position from 0.
        border, empty: densities.
        trim: whether a line goes around each image.
        tone: of grey values.
        annotations: texts of its annotation boxes; empty where it has none.
    """

    layout: Layout
    size: str
    orientation: str
    is_color: bool
    contents: Mapping[int, Content]
    border: str
    empty: str
    trim: bool
    tone: Tone
    annotations: tuple[str, ...] = ()

    def dimensions(self, press: Press) -> tuple[int, int]:
        """Width and height in dots."""
        width, height = film_millimetres(self.size, self.orientation)
        return press.pixels(width), press.pixels(height)

    def box(self, position: int, press: Press) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of an image box, in dots."""
        width, height = self.dimensions(press)
        margin, half = press.pixels(press.margin), press.pixels(press.gap) / 2
        line = press.pixels(press.line) if self.annotations else 0
        left, top, across, down = self.layout.boxes[position]
        inner, tall = width - 2 * margin, height - 2 * margin - line
        return (
            round(margin + left * inner + half),
            round(margin + top * tall + half),
            round(margin + (left + across) * inner - half),
            round(margin + (top + down) * tall - half),
        )


@dataclass(frozen=True, slots=True)
class Fit:
    """How large an image becomes, in dots, before it is cropped to its box; and what is said of that."""

    width: int
    height: int
    status: Status


def fit(content: Content, space: tuple[int, int], press: Press) -> Fit:
    """How large an image becomes in a box of so many dots (PS3.3 Section C.13.5)."""
    rows, columns = content.pixels.shape[:2]
    shape = rows * content.aspect / columns
    whole = min(space[0], space[1] / shape)  # its width, where it fills the box
    if content.width:
        wanted = content.width / _INCH * press.dots
    else:
        wanted = float(columns) if content.magnification == "NONE" else whole
    natural = wanted if content.width or content.magnification == "NONE" else float(columns)
    status = Status.SUCCESS
    if natural > space[0] + 0.5 or natural * shape > space[1] + 0.5:
        code = {"FAIL": _TOO_LARGE, "CROP": _CROPPED, "DECIMATE": _DECIMATED}.get(content.behaviour, _DEMAGNIFIED)
        comment = f"{natural:.0f} x {natural * shape:.0f} dots in {space[0]} x {space[1]}"
        status = Status(code, service="Print Management", comment=comment)
        wanted = natural if code == _CROPPED else whole
    return Fit(max(round(wanted), 1), max(round(wanted * shape), 1), status)


def draw(film: FilmPlan, press: Press) -> Image.Image:
    """A film as it is looked at, of mode L or RGB."""
    border, empty = grey_of(film.border, film.tone), grey_of(film.empty, film.tone)
    shape = (*film.dimensions(press)[::-1], *((3,) if film.is_color else ()))
    canvas = np.full(shape, border, np.uint8)
    frames = []
    for position in range(len(film.layout.boxes)):
        left, top, right, bottom = film.box(position, press)
        content = film.contents.get(position)
        if content is None:
            canvas[top:bottom, left:right] = empty
            continue
        shown = _scaled(content, (right - left, bottom - top), film.tone, press)
        height, width = shown.shape[:2]
        x, y = left + (right - left - width) // 2, top + (bottom - top - height) // 2
        canvas[y : y + height, x : x + width] = shown
        frames.append((x, y, x + width, y + height))
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    ink = 0 if border > 127 else 255
    stroke = max(press.dots // 150, 1)
    for x, y, right, bottom in frames if film.trim else ():
        around = (x - stroke, y - stroke, right + stroke - 1, bottom + stroke - 1)
        pen.rectangle(around, outline=(ink,) * 3 if film.is_color else ink, width=stroke)
    _annotate(film, press, pen, (ink,) * 3 if film.is_color else ink)
    return picture


def _scaled(content: Content, space: tuple[int, int], tone: Tone, press: Press) -> Any:
    """The values of an image in its box, cropped around its centre where it is larger."""
    size = fit(content, space, press)
    pixels = content.pixels
    values = pixels.astype(np.float32) if pixels.ndim == 3 else tone.of_values(pixels, content.top) * 255
    method = _RESAMPLING[content.magnification]
    planes = [values] if values.ndim == 2 else [values[:, :, plane] for plane in range(3)]
    x, y = max(size.width - space[0], 0) // 2, max(size.height - space[1], 0) // 2
    across, down = min(size.width, space[0]), min(size.height, space[1])
    made = []
    for plane in planes:  # one after another: a plane of a large film is some 80 MB
        part: Any = plane[y : y + down, x : x + across]
        if (size.height, size.width) != plane.shape:  # only what is seen is made: the whole could be far larger
            left, right = _span(x, across, size.width, plane.shape[1])
            top, bottom = _span(y, down, size.height, plane.shape[0])
            picture = Image.fromarray(plane.astype(np.float32))
            part = np.asarray(picture.resize((across, down), method, box=(left, top, right, bottom)))
        made.append((np.clip(part, 0, 255) + 0.5).astype(np.uint8))
    return made[0] if len(made) == 1 else np.stack(made, axis=2)


def _span(start: int, length: int, whole: int, pixels: int) -> tuple[float, float]:
    """Which pixels become the dots from a start on, of a whole image of so many; it is never empty."""
    begin = start / whole * pixels
    return begin, min(max((start + length) / whole * pixels, begin + pixels * _FINEST), float(pixels))


def _annotate(film: FilmPlan, press: Press, pen: ImageDraw.ImageDraw, ink: Any) -> None:
    """The texts, side by side at the foot."""
    if not film.annotations:
        return
    width, height = film.dimensions(press)
    margin, line = press.pixels(press.margin), press.pixels(press.line)
    font = ImageFont.load_default(line * 0.6)
    each = (width - 2 * margin) / len(film.annotations)
    for place, text in enumerate(film.annotations):
        pen.text((margin + place * each, height - margin - line * 0.8), text, fill=ink, font=font)
