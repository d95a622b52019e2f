"""``rendered`` and ``thumbnail``: pictures of instances, and documents and videos in them (PS3.18 Section 8.3.5)."""

from __future__ import annotations

import dataclasses
import math

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from .. import uids
from ..dataset import codec
from ..repository.catalog import Level
from ..repository.locations import InstanceLocation
from ..repository.scope import ALL, Scope
from .browsers import NO_SCRIPTS
from .drawing import Wish
from .media_types import MediaType, best, ranges_of
from .problems import Problem
from .renderer import Renderer
from .repository import WebRepository
from .retrieve import found
from .stored import StoredInstance
from .users import scope_of
from .values import ranged_value

__all__ = ["IMAGE_TYPES", "Rendering", "wish_of"]

_DOCUMENTS = {
    "1.2.840.10008.5.1.4.1.1.104.1": "application/pdf",
    "1.2.840.10008.5.1.4.1.1.104.2": "text/xml",
}  # encapsulated PDF and CDA
_VIDEO = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 109))
_ENCAPSULATED_DOCUMENT, _PIXELS = "00420011", "7FE00010"
IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif")
_MOST_SIDE = 8192
_THUMBNAIL = 256
_STATES = frozenset({uids.GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE})


class Rendering:
    """Answers with pictures.

    Args:
        repository: what there is.
        renderer: draws.
    """

    def __init__(self, repository: WebRepository, renderer: Renderer) -> None:
        self._repository, self._renderer = repository, renderer

    def rendered(self, request: Request, _: WebRepository) -> Response:
        """A picture of a frame, or the document or video that an instance encapsulates."""
        one = found(request, self._repository)[0]
        return self.answer(request, one, ranges_of(request), _frame_number(request, 1))

    def thumbnail(self, request: Request, _: WebRepository) -> Response:
        """A small picture of the middle of a study, a series or an instance."""
        locations = found(request, self._repository)
        one = locations[len(locations) // 2]
        kind = best(ranges_of(request), IMAGE_TYPES)
        wish = wish_of(request.query_params, kind)
        if wish.viewport is None:
            wish = dataclasses.replace(wish, viewport=(_THUMBNAIL, _THUMBNAIL), quality=80)
        body = self.picture(one, _frame_number(request, 0), wish, scope=scope_of(request))
        return Response(body, media_type=kind, headers={"Cache-Control": "private, max-age=60"})

    def answer(self, request: Request, one: InstanceLocation, ranges: list[MediaType], number: int) -> Response:
        """What a person sees of an instance; documents and videos also by range, as a browser plays them."""
        if one.cls in _DOCUMENTS:
            kind = best(ranges, (_DOCUMENTS[one.cls],))
            headers = {"Content-Type": kind, **(NO_SCRIPTS if kind == "text/xml" else {})}
            return ranged_value(request, self._repository, one, [_ENCAPSULATED_DOCUMENT], headers)
        if one.ts in _VIDEO:
            headers = {"Content-Type": best(ranges, ("video/mp4",))}
            return ranged_value(request, self._repository, one, [_PIXELS], headers)
        wish = wish_of(request.query_params, best(ranges, IMAGE_TYPES))
        body = self.picture(one, number, wish, scope=scope_of(request))
        return Response(body, media_type=wish.media_type)

    def picture(
        self, one: InstanceLocation, number: int, wish: Wish, state: InstanceLocation | None = None,
        scope: Scope = ALL,
    ) -> bytes:  # fmt: skip
        """The picture of a frame; 0 is the middle one. Of a presentation state it is that of its first image.

        Args:
            one: the instance.
            number: of the frame.
            wish: how it is drawn.
            state: by which it is drawn, too.
            scope: what the caller may see of a presentation state's images.
        """
        if one.cls in _STATES:
            state, one, number = one, self._image_of(one, scope), 1
        if state is not None:
            with StoredInstance(self._repository.blobs, state) as stored:
                wish = dataclasses.replace(wish, state=_explicit(stored))
        with StoredInstance(self._repository.blobs, one) as stored:
            frame = stored.raw_frame(number or (stored.frame_count + 1) // 2)
        return self._renderer.picture(frame, wish)

    def _image_of(self, state: InstanceLocation, scope: Scope) -> InstanceLocation:
        """The first image that a state is about, and that is here."""
        with StoredInstance(self._repository.blobs, state) as stored:
            named = [
                str(image.ReferencedSOPInstanceUID)
                for series in stored.dataset.get("ReferencedSeriesSequence") or []
                for image in series.get("ReferencedImageSequence") or []
            ]
        seen = self._repository.index.instances(Level.IMAGE, named, scope=scope)
        images = {image.uid: image for image in seen}
        first = next((images[uid] for uid in named if uid in images), None)
        if first is None:
            raise Problem(404, "the images of this presentation state are not here")
        return first


def _explicit(stored: StoredInstance) -> bytes:
    return codec.encode(codec.decode(stored.header(), stored.transfer_syntax), uids.EXPLICIT_VR_LITTLE_ENDIAN)


def _frame_number(request: Request, default: int) -> int:
    text = str(request.path_params.get("frames", default)).split(",")[0]
    least = 1 if "frames" in request.path_params else 0
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
        raise Problem(400, "a frame is a number from 1 on", parameter="frames")
    return int(text)


def wish_of(query: QueryParams, media_type: str) -> Wish:
    """How a picture is wanted, by the parameters of ``rendered``.

    Raises:
        Problem: 400, with the parameter that is wrong.
    """
    window = _numbers(query, "window", (2, 3))
    viewport = _numbers(query, "viewport", (2, 6))
    quality = _numbers(query, "quality", (1,))
    function = query.get("window", "").split(",")[2].lower() if len(window) == 3 else "linear"
    if window and (float(window[1]) < 1 if function == "linear" else float(window[1]) <= 0):
        raise Problem(400, "the width of a window is at least 1", parameter="window")
    if viewport and not all(1 <= float(one) <= _MOST_SIDE for one in viewport[:2]):
        raise Problem(400, f"a viewport has 1 to {_MOST_SIDE} columns and rows", parameter="viewport")
    region = tuple(float(one) for one in viewport[2:]) if len(viewport) == 6 else None
    if region and not all(abs(one) <= 1 << 20 for one in region):
        raise Problem(400, "the region of a viewport is in the image", parameter="viewport")
    return Wish(
        media_type,
        (float(window[0]), float(window[1]), function) if window else None,
        (int(float(viewport[0])), int(float(viewport[1]))) if viewport else None,
        region,  # type: ignore[arg-type]  # it has four numbers
        quality=min(max(int(float(quality[0])), 1), 100) if quality else 90,
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
            if not math.isfinite(float(one)):
                raise ValueError
    except ValueError as error:
        raise Problem(400, f"{name} is numbers, separated by commas", parameter=name) from error
    if len(pieces) not in counts:
        raise Problem(400, f"{name} has {' or '.join(map(str, counts))} values", parameter=name)
    return pieces
