"""From a frame to the picture that a person sees, in a process that may fail (PS3.18 Section 8.3.5).

`dataset.pictures` makes values of pixels, a presentation state its own of them; Pillow writes the picture. Nothing here
knows of HTTP.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import UID

from .. import uids
from ..dataset import codec
from ..dataset.pictures import Window, shown
from ..errors import DicomNetError
from . import presentation

__all__ = ["NATIVE", "Frame", "NotDecodable", "Wish", "decoded", "decoded_bytes", "picture"]

#: Transfer syntaxes without compression.
NATIVE = frozenset(
    {uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_BIG_ENDIAN}
    | {uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN}
)
#: Samples of a frame that is decoded: 8192 by 8192. A file of a few bytes can say that it has so many.
MOST_SAMPLES = 1 << 26
_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF"}
# Functional groups that say how a frame is shown, and the sequence of each (PS3.3 Sections C.7.6.16.2.9 and .10).
_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
_SHOWN = (
    "RescaleIntercept", "RescaleSlope", "RescaleType",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence",
)  # fmt: skip


class NotDecodable(Exception):
    """Pixel data for which there is no codec here, or which are not what they say."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it is stored.

    Attributes:
        header: the data set up to Pixel Data.
        syntax: transfer syntax of both.
        data: of the frame; numbers are in little endian, whatever the header is in.
        number: of the frame, from 1 on.
    """

    header: bytes
    syntax: str
    data: bytes
    number: int


@dataclass(frozen=True, slots=True)
class Wish:
    """How a picture is wanted.

    Attributes:
        media_type: image/jpeg, image/png or image/gif.
        window: centre, width and function: linear, linear-exact or sigmoid.
        viewport: the most columns and rows.
        region: left, top, width and height of what is shown, in pixels of the image; a negative width or height
            turns it over.
        share: the same as left, top, right and bottom, from 0 to 1.
        quality: of JPEG, 1 to 100.
        state: a presentation state, as a data set in Explicit VR Little Endian.
    """

    media_type: str = "image/jpeg"
    window: Window | None = None
    viewport: tuple[int, int] | None = None
    region: tuple[float, float, float, float] | None = None
    share: tuple[float, float, float, float] | None = None
    quality: int = 90
    state: bytes = b""


def decoded(frame: Frame) -> tuple[Any, Dataset]:
    """A frame as an array, and the attributes that describe it, colour by pixel and not converted.

    Raises:
        NotDecodable: its codec is not installed, or the frame is not what it should be.
    """
    try:
        image = codec.decode(frame.header, frame.syntax)
    except DicomNetError as error:
        raise NotDecodable("the attributes of the instance cannot be read") from error
    samples = int(image.get("Rows") or 0) * int(image.get("Columns") or 0) * int(image.get("SamplesPerPixel") or 1)
    if not 0 < samples <= MOST_SAMPLES:
        raise NotDecodable("a frame of this size is not decoded")
    _show_groups(image, frame.number)
    image.file_meta = pydicom.dataset.FileMetaDataset()
    little = frame.syntax if frame.syntax != uids.EXPLICIT_VR_BIG_ENDIAN else uids.EXPLICIT_VR_LITTLE_ENDIAN
    image.file_meta.TransferSyntaxUID = UID(little)
    if "NumberOfFrames" in image:
        image.NumberOfFrames = 1
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        image.pop(keyword, None)
    if frame.syntax in NATIVE:
        image.add_new(0x7FE00010, "OW" if image.BitsAllocated > 8 else "OB", frame.data + b"\0" * (len(frame.data) & 1))
    else:
        image.add_new(0x7FE00010, "OB", pydicom.encaps.encapsulate([frame.data]))
        image["PixelData"].is_undefined_length = True
    return _pixels(image), image


def _show_groups(image: Dataset, number: int) -> None:
    """Put what the functional groups of a frame say of its values where single frames say it."""
    shared = image.get("SharedFunctionalGroupsSequence") or []
    each = image.get("PerFrameFunctionalGroupsSequence") or []
    for groups in (*shared[:1], *each[number - 1 : number]):
        for name in _GROUPS:
            for item in (groups.get(name) or [])[:1]:
                for keyword in _SHOWN:
                    if keyword in item:
                        image[keyword] = item[keyword]


def _pixels(image: Dataset) -> Any:
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415 heavy

    try:
        pixels, properties = get_decoder(image.file_meta.TransferSyntaxUID).as_array(image, raw=True)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise what they like
        name = uids.name_of(image.file_meta.TransferSyntaxUID)
        raise NotDecodable(f"pixel data in {name} cannot be decoded here") from error
    image.PhotometricInterpretation = properties["photometric_interpretation"]
    if image.get("SamplesPerPixel", 1) > 1:
        image.PlanarConfiguration = 0
    return pixels


def decoded_bytes(frame: Frame) -> bytes:
    """A frame, not compressed, colour by pixel.

    Raises:
        NotDecodable: as `decoded`.
    """
    return bytes(decoded(frame)[0].tobytes())


def picture(frame: Frame, wish: Wish) -> bytes:
    """The picture of a frame, in the form that is wanted.

    Raises:
        NotDecodable: as `decoded`.
    """
    pixels, image = decoded(frame)
    state = codec.decode(wish.state, uids.EXPLICIT_VR_LITTLE_ENDIAN) if wish.state else None
    if state is not None:
        presentation.prepare(image, state)
    drawn = Image.fromarray(shown(pixels, image, wish.window))
    if state is not None:
        drawn = presentation.finished(drawn, image, state)
    if wish.region is not None:
        drawn = _cut(drawn, *wish.region)
    if wish.share is not None:
        left, top, right, bottom = wish.share
        drawn = _cut(
            drawn, left * drawn.width, top * drawn.height, (right - left) * drawn.width, (bottom - top) * drawn.height
        )
    if wish.viewport is not None:
        drawn = _fitted(drawn, *wish.viewport)
    out = io.BytesIO()
    form = _FORMATS[wish.media_type]
    drawn.save(out, form, **({"quality": wish.quality} if form == "JPEG" else {}))
    return out.getvalue()


def _cut(drawn: Image.Image, left: float, top: float, width: float, height: float) -> Image.Image:
    box = int(left), int(top), int(left + abs(width)), int(top + abs(height))
    drawn = drawn.crop((box[0], box[1], max(box[2], box[0] + 1), max(box[3], box[1] + 1)))
    if width < 0:
        drawn = drawn.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return drawn.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if height < 0 else drawn


def _fitted(drawn: Image.Image, columns: int, rows: int) -> Image.Image:
    """As large as fits into the viewport, with its aspect (PS3.18 Section 8.3.5.1.3)."""
    scale = min(columns / drawn.width, rows / drawn.height)
    size = max(round(drawn.width * scale), 1), max(round(drawn.height * scale), 1)
    return drawn.resize(size, Image.Resampling.BILINEAR)
