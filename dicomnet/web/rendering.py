"""Pictures of instances as a person sees them: ``rendered`` and ``thumbnail`` (PS3.18 Sections 8.3.5 and 10.4.1.1.3).

`dataset.pictures` applies the modality LUT, the window or VOI LUT, the palette and MONOCHROME1; Pillow writes them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from ..dataset.pictures import Window, shown
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
    window: Window | None = None
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
    picture = Image.fromarray(shown(pixels, image, wish.window))
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
