"""Surfaces of equal value in a volume, by naive surface nets, slice by slice, and their form on the wire.

Each cell that the surface crosses has one vertex, the mean of where it crosses the cell's edges (S. Gibson,
"Constrained Elastic Surface Nets", 1998); each crossed edge has a quadrangle between the four cells around it. That is
half of the triangles of marching cubes, without its thin ones, and needs two slices at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

__all__ = ["Mesh", "TooManyTriangles", "as_ply", "surface"]

_HEADER = """ply
format binary_little_endian 1.0
comment step {step}
element vertex {vertices}
property float x
property float y
property float z
property float nx
property float ny
property float nz
element face {faces}
property list uchar int vertex_indices
end_header
"""
#: The corners of a cell, as steps along slices, rows and columns; two corners that differ in one of them make an edge.
_CORNERS = [(k, j, i) for k in (0, 1) for j in (0, 1) for i in (0, 1)]
_EDGES = [
    (one, other)
    for one in range(8)
    for other in range(one + 1, 8)
    if sum(a != b for a, b in zip(_CORNERS[one], _CORNERS[other], strict=True)) == 1
]


class TooManyTriangles(Exception):
    """The surface has more triangles than it may have."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """Triangles.

    Attributes:
        points: of the vertices, float32, (vertices, 3); as columns, rows and slices, or in millimetres.
        triangles: numbers of vertices, int32, (triangles, 3), counterclockwise as seen from where values are lower.
    """

    points: Any
    triangles: Any

    def placed(self, matrix: Any, offset: Any) -> Mesh:
        """Elsewhere: ``matrix @ point + offset``; a matrix that mirrors turns no triangle inside out."""
        points = (self.points @ np.asarray(matrix).T + np.asarray(offset)).astype(np.float32)
        mirrors = np.linalg.det(matrix) < 0
        return Mesh(points, self.triangles[:, ::-1] if mirrors else self.triangles)

    def normals(self) -> Any:
        """Of the vertices, of length 1, float32, (vertices, 3)."""
        corners = self.points[self.triangles]
        faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        sums = np.zeros((len(self.points), 3))
        for axis in range(3):
            for corner in range(3):
                sums[:, axis] += np.bincount(self.triangles[:, corner], faces[:, axis], len(self.points))
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        return (sums / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def surface(slices: Iterable[Any], level: float, most: int) -> Mesh:
    """The surface where values cross a level; what reaches the volume's edge stays open there.

    Args:
        slices: arrays of one shape, (rows, columns), in their order; at least two.
        level: voxels of this value and above are inside.
        most: triangles.

    Raises:
        TooManyTriangles: there are more.
    """
    net = _Net(level)
    count = 0
    values = (np.asarray(one, np.float32) for one in slices)
    for below, above in pairwise((one, one >= np.float32(level)) for one in values):
        count += net.add((below[0], above[0]), (below[1], above[1]))
        if count > most:
            raise TooManyTriangles(f"the surface has more than {most} triangles")
    return net.mesh()


class _Net:
    """What has come of the slices so far."""

    def __init__(self, level: float) -> None:
        self._level = level
        self._points: list[Any] = []
        self._triangles: list[Any] = []
        self._count = 0
        self._layer = 0
        self._before: Any = None  # the vertices of the cells of the layer before, by row and column

    def add(self, slices: tuple[Any, Any], inside: tuple[Any, Any]) -> int:
        """The cells between two slices, whose voxels are inside or not; how many triangles they add."""
        some, every = inside[0] | inside[1], inside[0] & inside[1]
        some, every = some[:-1] | some[1:], every[:-1] & every[1:]
        rows, columns = _where((some[:, :-1] | some[:, 1:]) & ~(every[:, :-1] & every[:, 1:]))
        numbers = np.full((some.shape[0], some.shape[1] - 1), -1, np.int32)
        numbers[rows, columns] = np.arange(self._count, self._count + len(rows), dtype=np.int32)
        self._points.append(self._vertices(slices, rows, columns))
        self._count += len(rows)
        made = self._quadrangles(inside, numbers)
        self._before, self._layer = numbers, self._layer + 1
        return made

    def _vertices(self, slices: tuple[Any, Any], rows: Any, columns: Any) -> Any:
        values = [slices[k][rows + j, columns + i] for k, j, i in _CORNERS]
        sums, counts = np.zeros((len(rows), 3), np.float32), np.zeros(len(rows), np.float32)
        for one, other in _EDGES:
            hit = np.nonzero((values[one] >= self._level) != (values[other] >= self._level))[0]
            first, second = values[one][hit], values[other][hit]
            part = (self._level - first) / (second - first)
            for axis in range(3):  # columns, rows, slices
                begin, end = _CORNERS[one][2 - axis], _CORNERS[other][2 - axis]
                sums[hit, axis] += begin + part * (end - begin) if begin != end else begin
            counts[hit] += 1
        return sums / counts[:, None] + np.stack([columns, rows, np.full(len(rows), self._layer)], 1).astype(np.float32)

    def _quadrangles(self, inside: tuple[Any, Any], numbers: Any) -> int:
        """One around each crossed edge: of those between the slices, and of those in the lower one."""
        low, high = inside
        before = len(self._triangles)
        # Cells that follow each other counterclockwise, as seen along the edge from its end.
        around = numbers[:-1, :-1], numbers[:-1, 1:], numbers[1:, 1:], numbers[1:, :-1]
        self._around(low[1:-1, 1:-1], high[1:-1, 1:-1], around)
        if self._before is not None:
            old = self._before
            self._around(low[1:-1, :-1], low[1:-1, 1:], (old[:-1], old[1:], numbers[1:], numbers[:-1]))
            around = old[:, :-1], numbers[:, :-1], numbers[:, 1:], old[:, 1:]
            self._around(low[:-1, 1:-1], low[1:, 1:-1], around)
        return sum(map(len, self._triangles[before:]))

    def _around(self, begin: Any, end: Any, cells: tuple[Any, Any, Any, Any]) -> None:
        """Two triangles around each edge that is crossed, whose beginnings and ends are inside or not."""
        at = _where(begin != end)
        first, second, third, fourth = (one[at] for one in cells)
        turned = end[at]  # seen from the other side
        second, fourth = np.where(turned, fourth, second), np.where(turned, second, fourth)
        self._triangles += [np.stack([first, second, third], 1), np.stack([first, third, fourth], 1)]

    def mesh(self) -> Mesh:
        return Mesh(np.concatenate(self._points), np.concatenate(self._triangles))


def _where(found: Any) -> tuple[Any, Any]:
    """Rows and columns, as `numpy.nonzero` has them, which takes many times as long for what is sparse."""
    rows, columns = np.divmod(np.flatnonzero(found), found.shape[1])
    return rows, columns


def as_ply(mesh: Mesh, step: int) -> bytes:
    """A mesh as a binary PLY file: of each vertex its place and its normal, of each triangle three numbers.

    Args:
        mesh: in millimetres.
        step: between the voxels that were looked at, for a comment.
    """
    faces = np.empty(len(mesh.triangles), np.dtype([("count", "u1"), ("vertices", "<i4", 3)]))
    faces["count"], faces["vertices"] = 3, mesh.triangles
    vertices = np.concatenate([mesh.points, mesh.normals()], 1).astype("<f4")
    header = _HEADER.format(step=step, vertices=len(vertices), faces=len(faces))
    return header.encode("ascii") + vertices.tobytes() + faces.tobytes()
