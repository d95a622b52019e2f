"""Grayscale softcopy presentation states, applied to a picture (PS3.3 Section A.33.1).

Modality and VOI transformations, presentation LUT shape, shutters, graphics, rotation and flip, and the displayed area.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

__all__ = ["finished", "prepare"]

_MODALITY = ("RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence")
_VOI = ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")
_WHITE = 255
#: Objects that are drawn of one state.
MOST_DRAWN = 10_000


def prepare(image: Dataset, state: Dataset) -> None:
    """Put what a state says of values in place of what the image says."""
    for keyword in (*_MODALITY, *_VOI, "PresentationLUTShape"):
        image.pop(keyword, None)
    for keyword in (*_MODALITY, "PresentationLUTShape"):
        if keyword in state:
            image[keyword] = state[keyword]
    chosen = next(_of_image(state, "SoftcopyVOILUTSequence", image), None)
    if chosen is not None:
        for keyword in _VOI:
            if keyword in chosen:
                image[keyword] = chosen[keyword]
    # With a state, its shape alone says what is dark (PS3.3 Section C.11.6.1.2).
    if str(image.get("PhotometricInterpretation", "")) == "MONOCHROME1":
        image.PhotometricInterpretation = "MONOCHROME2"


def finished(drawn: Image.Image, image: Dataset, state: Dataset) -> Image.Image:
    """The picture with shutters and graphics, turned as the state wants it, and cut to the displayed area."""
    drawn = _shuttered(drawn, state)
    _draw_graphics(drawn, image, state)
    area = next(_of_image(state, "DisplayedAreaSelectionSequence", image), None)
    if area is not None:
        drawn = _area(drawn, area)
    if str(state.get("ImageHorizontalFlip", "N")) == "Y":  # after the rotation, says PS3.3 C.10.6.1.1: seen before it
        drawn = _rotated(drawn, state)
        return drawn.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _rotated(drawn, state)


def _rotated(drawn: Image.Image, state: Dataset) -> Image.Image:
    """Clockwise, by quarters."""
    quarters = int(state.get("ImageRotation") or 0) // 90 % 4
    turns = {1: Image.Transpose.ROTATE_270, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_90}
    return drawn.transpose(turns[quarters]) if quarters else drawn


def _of_image(state: Dataset, sequence: str, image: Dataset) -> Any:
    """The items of a sequence that are about this image: those that name it, and those that name none."""
    uid = str(image.get("SOPInstanceUID", ""))
    for item in state.get(sequence) or []:
        named = [str(one.get("ReferencedSOPInstanceUID", "")) for one in item.get("ReferencedImageSequence") or []]
        if not named or uid in named:
            yield item


def _area(drawn: Image.Image, area: Dataset) -> Image.Image:
    """Corners count from 1, and both belong to the area."""
    first, last = area.get("DisplayedAreaTopLeftHandCorner"), area.get("DisplayedAreaBottomRightHandCorner")
    if not first or not last:
        return drawn
    columns, rows = sorted((int(first[0]), int(last[0]))), sorted((int(first[1]), int(last[1])))
    limit = 4 * max(drawn.size)  # an area may be larger than its image, and not without end
    box = tuple(max(-limit, min(one, limit)) for one in (columns[0] - 1, rows[0] - 1, columns[1], rows[1]))
    return drawn.crop((box[0], box[1], max(box[2], box[0] + 1), max(box[3], box[1] + 1)))


def _shuttered(drawn: Image.Image, state: Dataset) -> Image.Image:
    shapes = state.get("ShutterShape") or []
    shapes = [shapes] if isinstance(shapes, str) else list(shapes)
    if not shapes:
        return drawn
    columns, rows = drawn.size
    open_ = np.ones((rows, columns), bool)
    for shape in shapes:
        mask = Image.new("1", drawn.size)
        pen = ImageDraw.Draw(mask)
        _draw_opening(pen, str(shape), state)
        open_ &= np.asarray(mask)
    value = int(state.get("ShutterPresentationValue") or 0) >> 8
    pixels = np.array(drawn)
    pixels[~open_] = value
    return Image.fromarray(pixels)


def _draw_opening(pen: ImageDraw.ImageDraw, shape: str, state: Dataset) -> None:
    if shape == "RECTANGULAR":
        left, right = int(state.ShutterLeftVerticalEdge), int(state.ShutterRightVerticalEdge)
        top, bottom = int(state.ShutterUpperHorizontalEdge), int(state.ShutterLowerHorizontalEdge)
        pen.rectangle((left, top, max(right - 2, left), max(bottom - 2, top)), fill=1)
    elif shape == "CIRCULAR":
        row, column = (float(one) for one in state.CenterOfCircularShutter)
        radius = float(state.RadiusOfCircularShutter)
        pen.ellipse((column - 1 - radius, row - 1 - radius, column - 1 + radius, row - 1 + radius), fill=1)
    elif shape == "POLYGONAL":
        points = [float(one) - 1 for one in state.VerticesOfThePolygonalShutter]
        pen.polygon(list(zip(points[1::2], points[::2], strict=False)), fill=1)


def _draw_graphics(drawn: Image.Image, image: Dataset, state: Dataset) -> None:
    pen, count = ImageDraw.Draw(drawn), 0
    ink: Any = _WHITE if drawn.mode == "L" else (_WHITE,) * 3
    for annotation in _of_image(state, "GraphicAnnotationSequence", image):
        for one in annotation.get("GraphicObjectSequence") or []:
            count += 1
            if count <= MOST_DRAWN:
                _draw_object(pen, one, drawn.size, ink)
        for one in annotation.get("TextObjectSequence") or []:
            count += 1
            at = one.get("AnchorPoint") or one.get("BoundingBoxTopLeftHandCorner")
            if at and count <= MOST_DRAWN:
                units = one.get("AnchorPointAnnotationUnits") or one.get("BoundingBoxAnnotationUnits")
                text = str(one.get("UnformattedTextValue", ""))[:1024]
                pen.text(_points(at, units, drawn.size)[0], text, fill=ink)


def _draw_object(pen: ImageDraw.ImageDraw, one: Dataset, size: tuple[int, int], ink: Any) -> None:
    points = _points(one.get("GraphicData") or [], one.get("GraphicAnnotationUnits"), size)
    kind, fill = str(one.get("GraphicType", "")), ink if str(one.get("GraphicFilled", "N")) == "Y" else None
    if kind == "POINT" and points:
        pen.point(points[0], fill=ink)
    elif kind in ("POLYLINE", "INTERPOLATED") and len(points) > 1:
        if fill is not None and points[0] == points[-1]:
            pen.polygon(points, fill=fill)
        pen.line(points, fill=ink)
    elif kind == "CIRCLE" and len(points) == 2:
        (x, y), (a, b) = points
        radius = float(np.hypot(a - x, b - y))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=ink, fill=fill)
    elif kind == "ELLIPSE" and len(points) == 4:
        xs, ys = [x for x, _ in points], [y for _, y in points]
        pen.ellipse((min(xs), min(ys), max(xs), max(ys)), outline=ink, fill=fill)


def _points(values: Any, units: Any, size: tuple[int, int]) -> list[tuple[float, float]]:
    """Points in pixels, whose first one's middle is 1/1 to the standard and 0/0 to Pillow."""
    numbers = [float(one) for one in values]
    pairs = zip(numbers[::2], numbers[1::2], strict=False)
    if str(units or "PIXEL") == "DISPLAY":
        return [(x * size[0], y * size[1]) for x, y in pairs]
    return [(x - 1, y - 1) for x, y in pairs]
