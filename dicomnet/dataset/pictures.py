"""Pixels as a person sees them: modality LUT, window or VOI LUT, palette, MONOCHROME1 (PS3.3 Section C.11).

Values are the standard's; a picture differs from the exact result by rounding alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import InvalidArgument
from .types import Dataset

__all__ = ["Window", "frames_of", "shown"]

#: Centre, width and function of a window: "linear", "linear-exact" or "sigmoid".
Window = tuple[float, float, str]
_PIXEL_DATA = 0x7FE00010


def frames_of(image: Dataset) -> Iterator[tuple[Any, Dataset]]:
    """The frames of an instance as arrays, each with the attributes that describe it; colour by pixel, not converted.

    Raises:
        InvalidArgument: it has no pixel data, or no codec that is installed decodes them.
    """
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415 heavy

    if "PixelData" not in image:
        raise InvalidArgument("the instance has no pixel data, hence no picture")
    try:
        for pixels, properties in get_decoder(image.file_meta.TransferSyntaxUID).iter_array(image, raw=True):
            described = image[:_PIXEL_DATA]
            described.PhotometricInterpretation = str(properties["photometric_interpretation"])
            yield pixels, described
    except Exception as error:  # decoders raise what they like
        raise InvalidArgument(f"its pixel data cannot be decoded: {error}") from error


def shown(pixels: Any, image: Dataset, window: Window | None = None, bits: int = 8) -> Any:
    """The values in which a frame is shown.

    Args:
        pixels: the frame, ``(rows, columns)``, or ``(rows, columns, 3)`` by pixel.
        image: the attributes that describe it.
        window: in place of the instance's own window or VOI LUT; without either, its least and greatest value.
        bits: of grey values, 8 to 16.

    Returns:
        Grey from 0, black, to ``2**bits - 1`` as uint8 or uint16, or RGB as uint8.
    """
    import numpy as np  # noqa: PLC0415 heavy
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, convert_color_space  # noqa: PLC0415

    photometric = str(image.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric == "PALETTE COLOR":
        coloured = apply_color_lut(pixels, image)
        return (coloured >> 8).astype(np.uint8) if coloured.dtype.itemsize > 1 else coloured
    if image.get("SamplesPerPixel", 1) > 1:
        if photometric.startswith("YBR"):
            pixels = convert_color_space(pixels, "YBR_FULL", "RGB")
        depth = int(image.BitsStored)
        return (pixels >> max(depth - 8, 0)).astype(np.uint8)
    top = (1 << bits) - 1
    grey = _windowed(apply_modality_lut(pixels, image), image, window, top)
    # What a presentation state says of it is in the image's own words, and means the same.
    inverse = photometric == "MONOCHROME1" or image.get("PresentationLUTShape") == "INVERSE"
    return top - grey if inverse else grey


def _windowed(values: Any, image: Dataset, window: Window | None, top: int) -> Any:
    import numpy as np  # noqa: PLC0415 heavy
    from pydicom.pixels.processing import apply_voi_lut  # noqa: PLC0415

    if window is not None:
        return _through(values, *window, top)
    if image.get("VOILUTSequence") and len(image.VOILUTSequence[0].get("LUTData", b"")):
        found = apply_voi_lut(values.astype(np.int64), image, prefer_lut=True)
        bits = int(image.VOILUTSequence[0].LUTDescriptor[2])
        return _rounded(np.clip(found.astype(np.float64) / ((1 << bits) - 1), 0, 1), top)
    if image.get("WindowCenter") is not None and image.get("WindowWidth") is not None:
        centre, width = (_first(image[name].value) for name in ("WindowCenter", "WindowWidth"))
        function = str(image.get("VOILUTFunction", "LINEAR")).lower().replace("_", "-")
        return _through(values, centre, width, function, top)
    low, high = float(values.min()), float(values.max())
    return _through(values, (low + high + 1) / 2, max(high - low + 1, 1.0), "linear", top)


def _first(value: Any) -> float:
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)


def _through(values: Any, centre: float, width: float, function: str, top: int) -> Any:
    """A window over values (PS3.3 Section C.11.2.1.2 and C.11.2.1.3)."""
    import numpy as np  # noqa: PLC0415 heavy

    values = values.astype(np.float64)
    if function == "sigmoid":
        part = 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    elif function == "linear-exact":
        part = (values - centre) / width + 0.5
    elif width <= 1:
        part = (values > centre - 0.5).astype(np.float64)
    else:
        part = (values - (centre - 0.5)) / (width - 1) + 0.5
    return _rounded(np.clip(part, 0, 1), top)


def _rounded(part: Any, top: int) -> Any:
    """Of a part from 0 to 1, the nearest of so many values."""
    import numpy as np  # noqa: PLC0415 heavy

    return (part * top + 0.5).astype(np.uint8 if top < 1 << 8 else np.uint16)
