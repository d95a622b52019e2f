"""``…/series/{series}/surface``: the surface of equal value in a series of slices, as triangles (no part of PS3.18).

A browser takes a minute and gigabytes for a CT of full size; here it is made in a process, of a bounded number of
triangles, in a time that has an end. The slices go to the process by a file, so that the server holds one at a time.
"""

from __future__ import annotations

import math
import pickle
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from ..errors import DicomNetError
from ..repository.locations import InstanceLocation
from .drawing import Frame, NotDecodable, decoded
from .problems import Problem
from .renderer import Renderer
from .repository import WebRepository
from .retrieve import entity_tag, found, is_unchanged
from .stored import StoredInstance
from .surface_nets import TooManyTriangles, as_ply, surface

__all__ = ["MOST_TRIANGLES", "PLY", "Surfaces", "made_surface"]

PLY = "model/ply"
#: Triangles of a surface; where there are more, every second voxel is looked at, then every third, and so on.
MOST_TRIANGLES = 2_000_000
#: Slices of a series, and voxels of it.
MOST_SLICES, MOST_VOXELS = 4096, 1 << 29
#: How far, in parts of their distance, slices may be from where they should be.
UNEVEN = 0.05
#: Seconds that a surface may take.
SECONDS = 120.0
_LONGEST_STEP = 64


class Surfaces:
    """Answers with surfaces, one at a time.

    Args:
        repository: what there is.
        renderer: has the processes.
    """

    def __init__(self, repository: WebRepository, renderer: Renderer) -> None:
        self._repository, self._renderer = repository, renderer
        self._one = threading.Lock()

    def surface(self, request: Request, _: WebRepository) -> Response:
        """The surface of a series at a level, as binary PLY, in the patient's coordinates (LPS, mm)."""
        level = _number(request, "level", None, -1e9, 1e9)
        most = int(_number(request, "triangles", MOST_TRIANGLES, 1000, MOST_TRIANGLES))
        locations = found(request, self._repository)
        etag = entity_tag(locations, f"surface {level} {most}")
        if is_unchanged(request, etag):
            return Response(status_code=304, headers={"ETag": etag})
        if not 2 <= len(locations) <= MOST_SLICES:
            raise Problem(406, f"a surface is made of 2 to {MOST_SLICES} slices; this series has {len(locations)}")
        if not self._one.acquire(blocking=False):
            raise Problem(503, "another surface is being made", headers={"Retry-After": "10"})
        try:
            body = self._made(locations, level, most)
        finally:
            self._one.release()
        return Response(body, media_type=PLY, headers={"ETag": etag, "Cache-Control": "private, no-cache"})

    def _made(self, locations: list[InstanceLocation], level: float, most: int) -> bytes:
        with tempfile.NamedTemporaryFile(prefix="dicomnet-surface-") as file:
            for one in locations:
                with StoredInstance(self._repository.blobs, one) as stored:
                    if stored.frame_count != 1:
                        raise Problem(406, "a surface is made of instances that have one frame")
                    pickle.dump(stored.raw_frame(1), file)
            file.flush()
            return self._renderer.run(made_surface, Path(file.name), len(locations), level, most, seconds=SECONDS)


def _number(request: Request, name: str, default: float | None, least: float, greatest: float) -> float:
    text = request.query_params.get(name, "")
    if not text and default is not None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= greatest:
        raise Problem(400, f"{name} is a number from {least:g} to {greatest:g}", parameter=name)
    return value


# ---- in a process --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Slice:
    """Where a slice is, and its values."""

    position: Any
    axes: Any  # of columns and rows: how one column, and one row, goes on, in mm
    values: Any


def made_surface(path: Path, count: int, level: float, most: int) -> bytes:
    """The surface of slices in a file, as PLY.

    Args:
        path: of the file: frames, one after the other.
        count: of them.
        level: voxels of this value and above are inside.
        most: triangles.

    Raises:
        NotDecodable: the slices are no volume, or cannot be decoded.
    """
    volume, origin, matrix = _volume(path, count)
    step = max(1, math.ceil((volume.size / MOST_VOXELS) ** (1 / 3)))
    while step <= _LONGEST_STEP and volume.shape[0] > step:
        try:
            mesh = surface(volume[::step, ::step, ::step], level, most)
        except TooManyTriangles:
            step += 1
            continue
        return as_ply(mesh.placed(matrix * step, origin), step)
    raise NotDecodable("the surface has too many triangles at every size")


def _volume(path: Path, count: int) -> tuple[Any, Any, Any]:
    """The values by slice, row and column, the first voxel's place, and the steps to the next as columns."""
    first: _Slice | None = None
    values: Any = None
    positions = np.empty((count, 3))
    for number, one in enumerate(_slices(path, count)):
        if first is None:
            if one.values.size * count > MOST_VOXELS:
                raise NotDecodable(f"a volume has at most {MOST_VOXELS} voxels")
            first, values = one, np.empty((count, *one.values.shape), np.float32)
        if one.values.shape != first.values.shape or not np.allclose(one.axes, first.axes, atol=1e-3):
            raise NotDecodable("the slices of this series are not alike")
        positions[number], values[number] = one.position, one.values
    assert first is not None
    normal = np.cross(*first.axes)
    order = np.argsort(positions @ normal)
    positions = positions[order]
    step = (positions[-1] - positions[0]) / (count - 1)
    even = positions[0] + np.arange(count)[:, None] * step
    if not np.linalg.norm(step) > 0 or np.abs(positions - even).max() > UNEVEN * np.linalg.norm(step):
        raise NotDecodable("the slices of this series are not one evenly spaced volume")
    return _Ordered(values, order), positions[0], np.stack([*first.axes, step], 1)


class _Ordered:
    """Slices in an order, without a copy of all of them."""

    def __init__(self, values: Any, order: Any) -> None:
        self._values, self._order = values, order
        self.shape: tuple[int, ...] = values.shape
        self.size: int = values.size

    def __getitem__(self, steps: tuple[slice, slice, slice]) -> Iterator[Any]:
        return (self._values[number][steps[1:]] for number in self._order[steps[0]])


def _slices(path: Path, count: int) -> Iterator[_Slice]:
    with path.open("rb") as file:
        for _ in range(count):
            frame: Frame = pickle.load(file)
            pixels, image = decoded(frame)
            try:
                place = np.array(image.ImagePositionPatient, float)
                along = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
                down, right = map(float, image.PixelSpacing)
                slope, intercept = float(image.get("RescaleSlope", 1)), float(image.get("RescaleIntercept", 0))
            except (AttributeError, ValueError, TypeError, DicomNetError) as error:
                raise NotDecodable("the slices of this series have no place in the patient") from error
            if (
                pixels.ndim != 2
                or place.shape != (3,)
                or not np.isfinite([*place, *along.flat, slope, intercept]).all()
            ):
                raise NotDecodable("the slices of this series have no place in the patient")
            values = pixels * np.float32(slope) + np.float32(intercept)
            yield _Slice(place, np.stack([along[0] * right, along[1] * down]), values)
