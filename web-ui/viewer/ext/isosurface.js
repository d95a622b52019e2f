// Surfaces of equal value in a volume, by marching tetrahedra, and their encoding as PLY.

// The corners of a cell, as steps along the grid, and the six tetrahedra around its diagonal 0-6.
const CORNERS = [
  [0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1],
];
const TETRAHEDRA = [
  [0, 5, 1, 6], [0, 1, 2, 6], [0, 2, 3, 6], [0, 3, 7, 6], [0, 7, 4, 6], [0, 4, 5, 6],
];
const HEADER = (vertices, faces) => `ply
format binary_little_endian 1.0
element vertex ${vertices}
property float x
property float y
property float z
property float nx
property float ny
property float nz
element face ${faces}
property list uchar int vertex_indices
end_header
`;
const VERTEX_BYTES = 24;
const FACE_BYTES = 13;

const subtract = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];

/** The vertices of a surface: each edge of the grid is crossed once, whichever cells share it. */
class Vertices {
  constructor({ dims, origin, spacing, direction, level }) {
    Object.assign(this, { dims, origin, spacing, direction, level });
    this.points = [];
    this.rises = []; // per vertex: where the value rises, in millimetres along the edge
    this.known = new Map();
  }

  index([i, j, k]) {
    return i + this.dims[0] * (j + this.dims[1] * k);
  }

  world(at) {
    return [0, 1, 2].map(row => {
      let sum = this.origin[row];
      for (let axis = 0; axis < 3; axis++) sum += this.direction[3 * axis + row] * this.spacing[axis] * at[axis];
      return sum;
    });
  }

  /** The number of the vertex between the grid points a and b, whose values lie on either side of the level. */
  between(a, b, valueA, valueB) {
    const first = Math.min(this.index(a), this.index(b));
    const second = Math.max(this.index(a), this.index(b));
    const key = `${first}/${second}`;
    const known = this.known.get(key);
    if (known !== undefined) return known;
    const part = (this.level - valueA) / (valueB - valueA);
    const number = this.points.length / 3;
    this.points.push(...this.world(a.map((x, axis) => x + (b[axis] - x) * part)));
    const along = subtract(this.world(b), this.world(a));
    this.rises.push(...(valueB > valueA ? along : along.map(x => -x)));
    this.known.set(key, number);
    return number;
  }

  triple(list, number) {
    return [list[3 * number], list[3 * number + 1], list[3 * number + 2]];
  }
}

/** The triangles of one tetrahedron: none, one, or two where the surface cuts it in a quadrangle. */
function cut(inside, outside, edge) {
  if (inside.length === 1) return [outside.map(o => edge(inside[0], o))];
  if (inside.length === 3) return [inside.map(i => edge(i, outside[0]))];
  if (inside.length !== 2) return [];
  const a = edge(inside[0], outside[0]);
  const b = edge(inside[0], outside[1]);
  const c = edge(inside[1], outside[1]);
  const d = edge(inside[1], outside[0]);
  return [[a, b, c], [a, c, d]];
}

/** Turn triangles outwards, to where the value falls, and sum their normals into those of their vertices. */
function orient(vertices, triangles) {
  const normals = new Float32Array(vertices.points.length);
  for (const triangle of triangles) {
    const [a, b, c] = triangle.map(v => vertices.triple(vertices.points, v));
    let normal = cross(subtract(b, a), subtract(c, a));
    const rise = triangle.map(v => dot(normal, vertices.triple(vertices.rises, v)));
    if (rise[0] + rise[1] + rise[2] > 0) {
      normal = normal.map(x => -x);
      [triangle[1], triangle[2]] = [triangle[2], triangle[1]];
    }
    for (const v of triangle) for (let axis = 0; axis < 3; axis++) normals[3 * v + axis] += normal[axis];
  }
  for (let at = 0; at < normals.length; at += 3) {
    const length = Math.hypot(normals[at], normals[at + 1], normals[at + 2]) || 1;
    for (let axis = 0; axis < 3; axis++) normals[at + axis] /= length;
  }
  return normals;
}

/**
 * The surface where the volume's values cross `level`; `step` > 1 looks at every second, third ... grid point only.
 * Points are in the patient's coordinates (LPS, millimetres); triangles are numbers of points, three by three.
 */
export function isosurface({ data, dims, origin, spacing, direction, level, step = 1 }) {
  const vertices = new Vertices({ dims, origin, spacing, direction, level });
  const triangles = [];
  for (let k = 0; k < dims[2] - step; k += step)
    for (let j = 0; j < dims[1] - step; j += step)
      for (let i = 0; i < dims[0] - step; i += step) {
        const offset = vertices.index([i, j, k]);
        const values = CORNERS.map(corner => data[offset + step * vertices.index(corner)]);
        const within = values.filter(value => value >= level).length;
        if (within === 0 || within === 8) continue;
        const at = CORNERS.map(([di, dj, dk]) => [i + di * step, j + dj * step, k + dk * step]);
        const edge = (a, b) => vertices.between(at[a], at[b], values[a], values[b]);
        for (const tetrahedron of TETRAHEDRA) {
          const inside = tetrahedron.filter(corner => values[corner] >= level);
          const outside = tetrahedron.filter(corner => values[corner] < level);
          triangles.push(...cut(inside, outside, edge));
        }
      }
  const normals = orient(vertices, triangles);
  return { points: vertices.points, normals, triangles };
}

/** A surface as a binary PLY file, which Cornerstone's mesh loader reads. */
export function ply({ points, normals, triangles }) {
  const count = points.length / 3;
  const head = new TextEncoder().encode(HEADER(count, triangles.length));
  const bytes = new Uint8Array(head.length + count * VERTEX_BYTES + triangles.length * FACE_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(head);
  let at = head.length;
  for (let v = 0; v < 3 * count; v += 3, at += VERTEX_BYTES)
    for (let axis = 0; axis < 3; axis++) {
      view.setFloat32(at + 4 * axis, points[v + axis], true);
      view.setFloat32(at + 12 + 4 * axis, normals[v + axis], true);
    }
  for (const triangle of triangles) {
    view.setUint8(at, 3);
    triangle.forEach((v, corner) => view.setInt32(at + 1 + 4 * corner, v, true));
    at += FACE_BYTES;
  }
  return bytes;
}
