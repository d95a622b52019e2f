"""What users make at a printer: sessions, films and their boxes, presentation LUTs; read, and held to PS3.4 Annex H."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from ....errors import InvalidArgument
from ....services.film import FILM_SIZES, Layout
from ....status import Status
from .density import Tone
from .drawing import Content, FilmPlan, Press

__all__ = ["FilmBox", "FilmSession", "Refused", "Usual", "film_box", "lut_of", "picture_of"]

#: Millimetres that an image may be wanted wide: no film is wider, but it may be cropped.
WIDEST = 100_000.0
_SERVICE = "Print Management"
_MAGNIFICATIONS = ("REPLICATE", "BILINEAR", "CUBIC", "NONE")
_IMAGES = ("BasicGrayscaleImageSequence", "BasicColorImageSequence")
_DENSITY_COERCED = 0xB605


class Refused(Exception):
    """A request that is answered with a failure."""

    def __init__(self, code: int, comment: str, keyword: str = "") -> None:
        super().__init__(comment)
        offending = (int(tag_for_keyword(keyword) or 0),) if keyword else ()
        self.status: Status = Status(code, _SERVICE, comment, offending)


@dataclass(frozen=True, slots=True)
class Usual:
    """What a printer does where nothing else is said; see the settings of the add-in.

    Attributes:
        press: what it prints with.
        size: of films.
        magnification: of images.
        border, empty: densities.
        tone: of grey values, with the range of its densities.
        annotations: Annotation Display Format ID -> number of annotation boxes.
    """

    press: Press
    size: str
    magnification: str
    border: str
    empty: str
    tone: Tone
    annotations: dict[str, int]


@dataclass(eq=False)
class FilmBox:
    """A film as it is being made.

    Attributes:
        uid: its own.
        plan: how it would be drawn now.
        images, annotations: the UIDs of its boxes, by position from 0.
        texts: of the annotation boxes.
        given: its attributes, as the user set them.
    """

    uid: str
    plan: FilmPlan
    images: list[str]
    annotations: list[str]
    texts: list[str]
    given: Dataset
    contents: dict[int, Content] = field(default_factory=dict)

    def finished(self) -> FilmPlan:
        """The film as it is now, which later changes leave alone."""
        return replace(self.plan, contents=dict(self.contents), annotations=tuple(self.texts))

    @property
    def size(self) -> int:
        """Bytes of its images."""
        return sum(content.pixels.nbytes for content in self.contents.values())


@dataclass(eq=False)
class FilmSession:
    """A film session: its attributes, its meta SOP class, and its films in the order in which they were made."""

    uid: str
    meta: str
    given: Dataset
    films: dict[str, FilmBox] = field(default_factory=dict)


def _choice(given: Dataset, keyword: str, known: tuple[str, ...], usual: str) -> str:
    value = str(given.get(keyword, "") or "").strip().upper()
    if value and value not in known:
        raise Refused(Status.INVALID_ATTRIBUTE_VALUE, f"{keyword} is one of {', '.join(known)}", keyword)
    return value or usual


def _density(given: Dataset, keyword: str, usual: str) -> str:
    value = str(given.get(keyword, "") or "").strip().upper()
    if value and value not in ("BLACK", "WHITE") and not value.isdigit():
        raise Refused(Status.INVALID_ATTRIBUTE_VALUE, f"{keyword} is BLACK, WHITE or a number", keyword)
    return value or usual


def film_box(given: Dataset, usual: Usual, is_color: bool, tone: Tone) -> tuple[FilmPlan, Status]:
    """How a film with these attributes is drawn.

    Args:
        given: of an N-CREATE or, with what was there before, of an N-SET of a film box (PS3.3 Section C.13.3).
        usual: the printer's own.
        is_color: of its session.
        tone: with the presentation LUT that it names.

    Raises:
        Refused: an attribute is missing, or has a value that this printer cannot have.
    """
    layout = _layout(given)
    texts = str(given.get("AnnotationDisplayFormatID", "") or "").strip()
    if texts and texts not in usual.annotations:
        why = f"AnnotationDisplayFormatID is one of {', '.join(usual.annotations)}"
        raise Refused(Status.INVALID_ATTRIBUTE_VALUE, why, "AnnotationDisplayFormatID")
    tone, status = _densities(given, tone)
    plan = FilmPlan(
        layout,
        _choice(given, "FilmSizeID", tuple(FILM_SIZES), usual.size),
        _choice(given, "FilmOrientation", ("PORTRAIT", "LANDSCAPE"), "PORTRAIT"),
        is_color,
        {},
        _density(given, "BorderDensity", usual.border),
        _density(given, "EmptyImageDensity", usual.empty),
        _choice(given, "Trim", ("YES", "NO"), "NO") == "YES",
        tone,
        ("",) * usual.annotations.get(texts, 0),
    )
    _choice(given, "MagnificationType", _MAGNIFICATIONS, usual.magnification)
    for position in range(len(layout.boxes)):
        left, top, right, bottom = plan.box(position, usual.press)
        if right <= left or bottom <= top:
            raise Refused(Status.INVALID_ATTRIBUTE_VALUE, "too many images for this film", "ImageDisplayFormat")
    return plan, status


def _layout(given: Dataset) -> Layout:
    if not given.get("ImageDisplayFormat"):
        raise Refused(Status.MISSING_ATTRIBUTE, "no ImageDisplayFormat", "ImageDisplayFormat")
    try:
        return Layout.parse(str(given.ImageDisplayFormat))
    except InvalidArgument as error:
        raise Refused(Status.INVALID_ATTRIBUTE_VALUE, "unknown ImageDisplayFormat", "ImageDisplayFormat") from error


def _densities(given: Dataset, tone: Tone) -> tuple[Tone, Status]:
    """The tone with the densities that are asked for, as far as the printer has them."""
    found: dict[str, Any] = {"least": tone.least, "greatest": tone.greatest}
    status = Status.SUCCESS
    for keyword, name in (("MinDensity", "least"), ("MaxDensity", "greatest")):
        if given.get(keyword):
            wanted = int(given[keyword].value) / 100
            found[name] = min(max(wanted, tone.least), tone.greatest)
            if found[name] != wanted:
                status = Status(_DENSITY_COERCED, _SERVICE, f"{keyword} is {found[name] * 100:.0f}")
    if found["least"] >= found["greatest"]:
        raise Refused(Status.INVALID_ATTRIBUTE_VALUE, "MinDensity is not below MaxDensity", "MinDensity")
    light = {"Illumination": "illumination", "ReflectedAmbientLight": "reflection"}
    found |= {name: float(given[keyword].value) for keyword, name in light.items() if given.get(keyword)}
    return replace(tone, **found), status


def lut_of(given: Dataset, usual: Tone) -> Tone:
    """The tone of a presentation LUT (PS3.3 Section C.11.4).

    Raises:
        Refused: it is neither a known shape nor a table.
    """
    if given.get("PresentationLUTSequence"):
        return _table(given.PresentationLUTSequence[0], usual)
    if not given.get("PresentationLUTShape"):
        raise Refused(Status.MISSING_ATTRIBUTE, "neither a shape nor a table", "PresentationLUTShape")
    shape = _choice(given, "PresentationLUTShape", ("IDENTITY", "LIN OD"), "IDENTITY")
    return replace(usual, linear=shape == "LIN OD", table=None)


def _table(item: Dataset, usual: Tone) -> Tone:
    descriptor, data = item.get("LUTDescriptor"), item.get("LUTData")
    if not descriptor or len(descriptor) != 3 or data is None:
        raise Refused(Status.MISSING_ATTRIBUTE, "no LUTDescriptor or LUTData", "PresentationLUTSequence")
    entries, first, bits = (int(descriptor[0]) or 1 << 16, int(descriptor[1]), int(descriptor[2]))
    values = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.atleast_1d(np.asarray(data))
    if len(values) < entries or not 8 <= bits <= 16:
        raise Refused(Status.INVALID_ATTRIBUTE_VALUE, "LUTData is not what LUTDescriptor says", "LUTData")
    return replace(usual, table=np.clip(values[:entries] / ((1 << bits) - 1), 0, 1), first=first)


def picture_of(given: Dataset, film: FilmBox, usual: Usual) -> Content | None:
    """What an N-SET puts into an image box (PS3.3 Section C.13.5); None erases what is there.

    Raises:
        Refused: it is no image that this printer prints.
    """
    name = _IMAGES[film.plan.is_color]
    if name not in given:
        raise Refused(Status.MISSING_ATTRIBUTE, f"no {name}", name)
    if not given[name].value:
        return None
    image = given[name].value[0]
    pixels, top = _pixels(image, film.plan.is_color)
    polarity = _choice(given, "Polarity", ("NORMAL", "REVERSE"), "NORMAL")
    if (str(image.PhotometricInterpretation) == "MONOCHROME1") != (polarity == "REVERSE"):
        pixels = top - pixels
    ratio = image.get("PixelAspectRatio") or (1, 1)
    usually = _choice(film.given, "MagnificationType", _MAGNIFICATIONS, usual.magnification)
    width = float(given.get("RequestedImageSize") or 0)
    if not 0 <= width <= WIDEST:
        why = f"RequestedImageSize is not from 0 to {WIDEST:.0f}"
        raise Refused(Status.INVALID_ATTRIBUTE_VALUE, why, "RequestedImageSize")
    if min(map(int, ratio)) <= 0:
        raise Refused(Status.INVALID_ATTRIBUTE_VALUE, "PixelAspectRatio is not above 0", "PixelAspectRatio")
    return Content(
        pixels,
        top,
        int(ratio[0]) / int(ratio[1]),
        _choice(given, "MagnificationType", _MAGNIFICATIONS, usually),
        width,
        _choice(given, "RequestedDecimateCropBehavior", ("DECIMATE", "CROP", "FAIL"), ""),
    )


def _pixels(image: Dataset, is_color: bool) -> tuple[Any, int]:
    """The pixels of an image box, and their greatest value."""
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PhotometricInterpretation", "PixelData"):
        if image.get(keyword) in (None, ""):
            raise Refused(Status.MISSING_ATTRIBUTE, f"no {keyword}", keyword)
    samples, allocated, stored = 3 if is_color else 1, int(image.BitsAllocated), int(image.BitsStored)
    wanted = {
        "SamplesPerPixel": (samples,),
        "PhotometricInterpretation": ("RGB",) if is_color else ("MONOCHROME1", "MONOCHROME2"),
        "BitsAllocated": (8,) if is_color else (8, 16),
        "BitsStored": (8,) if is_color else (8,) if allocated == 8 else tuple(range(9, 17)),
        "HighBit": (stored - 1,),
        "PixelRepresentation": (0,),
    }
    for keyword, values in wanted.items():
        if image.get(keyword, values[0]) not in values:
            raise Refused(Status.INVALID_ATTRIBUTE_VALUE, f"{keyword} is {image[keyword].value}", keyword)
    rows, columns = int(image.Rows), int(image.Columns)
    needed = rows * columns * samples * allocated // 8
    if not needed or len(image.PixelData) < needed:
        raise Refused(Status.INVALID_ATTRIBUTE_VALUE, f"{len(image.PixelData)} of {needed} bytes", "PixelData")
    pixels = np.frombuffer(image.PixelData[:needed], "<u2" if allocated == 16 else "u1")
    if is_color:
        by_plane = int(image.get("PlanarConfiguration", 1) or 0) == 1
        shape = (3, rows, columns) if by_plane else (rows, columns, 3)
        pixels = pixels.reshape(shape)
        return pixels.transpose(1, 2, 0) if by_plane else pixels, 255
    top = (1 << stored) - 1
    return np.minimum(pixels.reshape(rows, columns), top).astype(pixels.dtype), top
