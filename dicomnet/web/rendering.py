"""Pictures of instances as a person sees them: ``rendered`` and ``thumbnail`` (PS3.18 Sections 8.3.5 and 10.4.1.1.3).

The modality LUT, the window or VOI LUT, the palette and MONOCHROME1 are applied by pydicom and numpy; Pillow writes the
picture. Values are the standard's; a picture differs from the exact result by rounding alone.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut, convert_color_space
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from .media_types import accepted, best
from .problems import Problem
from .repository import WebRepository
from .retrieve import found
from .stored import StoredInstance

__all__ = ["rendered", "thumbnail"]

_DOCUMENTS = {
    "1.2.840.10008.5.1.4.1.1.104.1": "application/pdf",
    "1.2.840.10008.5.1.4.1.1.104.2": "text/xml",
}  # encapsulated PDF and CDA
_VIDEO = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 109))
_ENCAPSULATED_DOCUMENT = "00420011"
_TYPES = ("image/jpeg", "image/png", "image/gif")
_MOST_SIDE = 8192
_THUMBNAIL = 256


@dataclass(frozen=True, slots=True)
class _Wish:
    """How a picture is wanted."""

    media_type: str = "image/jpeg"
    window: tuple[float, float, str] | None = None
    viewport: tuple[int, int] | None = None
    region: tuple[float, float, float, float] | None = None
    quality: int = 90


def rendered(request: Request, repository: WebRepository) -> Response:
    """A picture of a frame, or the document or video that an instance encapsulates."""
    one = found(request, repository)[0]
    ranges = accepted(request.headers.getlist("accept"), request.query_params.get("accept"))
    if one.cls in _DOCUMENTS:
        best(ranges, (_DOCUMENTS[one.cls],))
        with StoredInstance(repository.blobs, one) as stored:
            return Response(stored.value([_ENCAPSULATED_DOCUMENT]), media_type=_DOCUMENTS[one.cls])
    if one.ts in _VIDEO:
        best(ranges, ("video/mp4",))
        with StoredInstance(repository.blobs, one) as stored:
            return Response(stored.value(["7FE00010"]), media_type="video/mp4")
    wish = _wish(request.query_params, best(ranges, _TYPES))
    with StoredInstance(repository.blobs, one) as stored:
        number = _frame_number(request, 1)
        return Response(_picture(stored, number, wish), media_type=wish.media_type)


def thumbnail(request: Request, repository: WebRepository) -> Response:
    """A small picture of the middle of a study, a series or an instance."""
    locations = found(request, repository)
    one = locations[len(locations) // 2]
    kind = best(accepted(request.headers.getlist("accept"), request.query_params.get("accept")), _TYPES)
    wish = _wish(request.query_params, kind)
    if wish.viewport is None:
        wish = _Wish(kind, wish.window, (_THUMBNAIL, _THUMBNAIL), None, 80)
    with StoredInstance(repository.blobs, one) as stored:
        number = _frame_number(request, (stored.frame_count + 1) // 2)
        return Response(
            _picture(stored, number, wish), media_type=kind, headers={"Cache-Control": "private, max-age=60"}
        )


def _frame_number(request: Request, default: int) -> int:
    text = str(request.path_params.get("frames", default)).split(",")[0]
    if not text.isdigit():
        raise Problem(400, "a frame is a number from 1 on", parameter="frames")
    return int(text)


def _wish(query: QueryParams, media_type: str) -> _Wish:
    window = _numbers(query, "window", (2, 3))
    viewport = _numbers(query, "viewport", (2, 6))
    quality = _numbers(query, "quality", (1,))
    function = query.get("window", "").split(",")[2].lower() if len(window) == 3 else "linear"
    if window and (float(window[1]) < 1 if function == "linear" else float(window[1]) <= 0):
        raise Problem(400, "the width of a window is at least 1", parameter="window")
    if viewport and not all(1 <= float(one) <= _MOST_SIDE for one in viewport[:2]):
        raise Problem(400, f"a viewport has 1 to {_MOST_SIDE} columns and rows", parameter="viewport")
    region = tuple(float(one) for one in viewport[2:]) if len(viewport) == 6 else None
    return _Wish(
        media_type,
        (float(window[0]), float(window[1]), function) if window else None,
        (int(float(viewport[0])), int(float(viewport[1]))) if viewport else None,
        region,  # type: ignore[arg-type]  # it has four numbers
        min(max(int(float(quality[0])), 1), 100) if quality else 90,
    )


def _numbers(query: QueryParams, name: str, counts: tuple[int, ...]) -> list[str]:
    text = query.get(name, "")
    if not text:
        return []
    pieces = text.split(",")
    if name == "window" and len(pieces) == 3 and pieces[2].lower() not in ("linear", "linear-exact", "sigmoid"):
        raise Problem(400, "the function of a window is linear, linear-exact or sigmoid", parameter=name)
    try:
        for one in pieces[:2] if name == "window" else pieces:
            if not np.isfinite(float(one)):
                raise ValueError
    except ValueError as error:
        raise Problem(400, f"{name} is numbers, separated by commas", parameter=name) from error
    if len(pieces) not in counts:
        raise Problem(400, f"{name} has {' or '.join(map(str, counts))} values", parameter=name)
    return pieces


def _picture(stored: StoredInstance, number: int, wish: _Wish) -> bytes:
    pixels, image = stored.decoded(number)
    picture = Image.fromarray(_shown(pixels, image, wish.window))
    if wish.region is not None:
        left, top, width, height = wish.region
        picture = picture.crop((int(left), int(top), int(left + abs(width)), int(top + abs(height))))
    if wish.viewport is not None:
        picture = _fitted(picture, *wish.viewport)
    out = io.BytesIO()
    form = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF"}[wish.media_type]
    picture.save(out, form, **({"quality": wish.quality} if form == "JPEG" else {}))
    return out.getvalue()


def _fitted(picture: Image.Image, columns: int, rows: int) -> Image.Image:
    """As large as fits into the viewport, with its aspect (PS3.18 Section 8.3.5.1.3)."""
    scale = min(columns / picture.width, rows / picture.height)
    size = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
    return picture.resize(size, Image.Resampling.BILINEAR)


def _shown(pixels: Any, image: Any, window: tuple[float, float, str] | None) -> Any:
    """The grey or RGB values of eight bits that a frame is shown in."""
    photometric = str(image.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric == "PALETTE COLOR":
        coloured = apply_color_lut(pixels, image)
        return (coloured >> 8).astype(np.uint8) if coloured.dtype.itemsize > 1 else coloured
    if image.get("SamplesPerPixel", 1) > 1:
        if photometric.startswith("YBR"):
            pixels = convert_color_space(pixels, "YBR_FULL", "RGB")
        depth = int(image.BitsStored)
        return (pixels >> max(depth - 8, 0)).astype(np.uint8)
    values = apply_modality_lut(pixels, image)
    grey = _windowed(values, image, window)
    return 255 - grey if photometric == "MONOCHROME1" else grey


def _windowed(values: Any, image: Any, window: tuple[float, float, str] | None) -> Any:
    if window is not None:
        return _linear(values, *window)
    if image.get("VOILUTSequence") and len(image.VOILUTSequence[0].get("LUTData", b"")):
        shown = apply_voi_lut(values.astype(np.int64), image, prefer_lut=True)
        bits = int(image.VOILUTSequence[0].LUTDescriptor[2])
        return (shown.astype(np.float64) * 255 / ((1 << bits) - 1) + 0.5).astype(np.uint8)
    if "WindowCenter" in image and "WindowWidth" in image:
        centre, width = (_first(image[name].value) for name in ("WindowCenter", "WindowWidth"))
        return _linear(values, centre, width, str(image.get("VOILUTFunction", "LINEAR")).lower().replace("_", "-"))
    low, high = float(values.min()), float(values.max())
    return _linear(values, (low + high + 1) / 2, max(high - low + 1, 1.0), "linear")


def _first(value: Any) -> float:
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)


def _linear(values: Any, centre: float, width: float, function: str) -> Any:
    """A window over values, to eight bits (PS3.3 Section C.11.2.1.2 and C.11.2.1.3)."""
    values = values.astype(np.float64)
    if function == "sigmoid":
        shown = 1 / (1 + np.exp(-4 * (values - centre) / width))
    elif function == "linear-exact":
        shown = (values - centre) / width + 0.5
    elif width <= 1:
        shown = (values > centre - 0.5).astype(np.float64)
    else:
        shown = (values - (centre - 0.5)) / (width - 1) + 0.5
    return (np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8)
