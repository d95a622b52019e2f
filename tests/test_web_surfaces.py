"""Surfaces that the server makes: where they are, that they are closed and face outwards, and what has none."""

from __future__ import annotations

import pickle
import re
from io import BytesIO
from typing import Any

import cases
import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from web_archives import client, served

from dicomnet.uids import EXPLICIT_VR_LITTLE_ENDIAN as LITTLE
from dicomnet.web import surface_nets, surfaces
from dicomnet.web.drawing import Frame, NotDecodable

# No stored value, which are whole and halves: a surface through voxels has triangles without an area.
LEVEL, RADIUS = 100.25, 9.0
#: Columns, rows and slices of the centre of the ball; millimetres between them; the place of the first voxel.
CENTRE, SPACING, ORIGIN = np.array([20.0, 14, 11]), np.array([0.8, 0.8, 1.5]), np.array([-30.0, -20, 100])
SHAPE = 24, 32, 40  # slices, rows, columns


def ball() -> np.ndarray:
    """Values that fall with the distance in millimetres, and reach the level at `RADIUS`."""
    slices, rows, columns = np.mgrid[tuple(map(slice, SHAPE))]
    offsets = (np.stack([columns, rows, slices], -1) - CENTRE) * SPACING
    return LEVEL + 20 * (RADIUS - np.linalg.norm(offsets, axis=-1))


def slices_of(volume: np.ndarray, series: int, downwards: bool = False) -> list[bytes]:
    files = []
    for number, values in enumerate(volume):
        ds: Any = pydicom.Dataset()
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.Modality, ds.PatientID = CTImageStorage, "CT", "P"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.9", f"1.2.9.{series}"
        ds.SOPInstanceUID = f"1.2.9.{series}.{len(volume) - number}"  # not in the order of the slices
        place = ORIGIN + np.array([0, 0, (-1 if downwards else 1) * SPACING[2] * number])
        ds.ImagePositionPatient, ds.ImageOrientationPatient = place.tolist(), [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing = SPACING[:2].tolist()
        ds.RescaleIntercept, ds.RescaleSlope = -1024, 0.5
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
        ds.Rows, ds.Columns = values.shape
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
        ds.PixelData = ((values + 1024) * 2).round().astype("<u2").tobytes()
        file = BytesIO()
        ds.save_as(file, enforce_file_format=True)
        files.append(file.getvalue())
    return files


#: What is wrong with the second slice of series 11, 12, ...
STRANGE: tuple[dict[str, Any], ...] = (
    {"NumberOfFrames": 2, "PixelData": bytes(4 * 32 * 40)},
    {"Rows": 16, "PixelData": bytes(2 * 16 * 40)},
    {"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]},
    {"ImagePositionPatient": None},
    {"ImagePositionPatient": [1, 2]},
)


def edited(file: bytes, changed: dict[str, Any]) -> bytes:
    ds = pydicom.dcmread(BytesIO(file))
    for name, value in changed.items():
        setattr(ds, name, value)
    made = BytesIO()
    ds.save_as(made, enforce_file_format=True)
    return made.getvalue()


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    with served(tmp_path_factory.mktemp("surfaces") / "archive") as (_, url), client(f"{url}/dicomweb") as http:
        volume = ball()
        gap = [file for number, file in enumerate(slices_of(volume, 3)) if number != 7]
        rest = [slices_of(volume, 4)[0]]
        for series, changed in enumerate(STRANGE, 11):
            rest += [slices_of(volume[:2], series)[0], edited(slices_of(volume[:2], series)[1], changed)]
        for file in (*slices_of(volume, 1), *slices_of(volume, 2, downwards=True), *gap, *rest):
            headers = {"content-type": "application/dicom"}
            assert http.post("/studies", content=file, headers=headers).status_code == 200
        yield http


def read(content: bytes) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Of a PLY file the step, places, normals and triangles."""
    header, _, body = content.partition(b"end_header\n")
    step, points, faces = (
        int(re.search(name + rb" (\d+)", header)[1]) for name in (b"step", b"element vertex", b"element face")
    )
    vertices = np.frombuffer(body, "<f4", points * 6).reshape(-1, 6)
    triangles = np.frombuffer(body, np.dtype([("n", "u1"), ("v", "<i4", 3)]), faces, points * 24)
    assert (triangles["n"] == 3).all()
    assert len(body) == points * 24 + faces * 13
    return step, vertices[:, :3], vertices[:, 3:], triangles["v"]


def volume_of(points: np.ndarray, triangles: np.ndarray) -> float:
    """What triangles enclose: positive where all are counterclockwise from outside."""
    corners = points[triangles].astype(float)
    return float((corners[:, 0] * np.cross(corners[:, 1], corners[:, 2])).sum() / 6)


@cases.every("series", [1, 2])
def test_a_ball_is_where_it_is_in_the_patient(web, series):
    answer = web.get(f"/studies/1.2.9/series/1.2.9.{series}/surface?level={LEVEL}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "model/ply")
    step, points, normals, triangles = read(answer.content)
    assert step == 1
    centre = ORIGIN + CENTRE * SPACING * ([1, 1, 1] if series == 1 else [1, 1, -1])
    offsets = points - centre
    assert np.abs(np.linalg.norm(offsets, axis=1) - RADIUS).max() < 0.2
    assert (offsets * normals).sum(1).min() > 0.95 * RADIUS
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    assert {(b, a) for a, b in edges.tolist()} == {(a, b) for a, b in edges.tolist()}  # closed
    assert volume_of(offsets, triangles) == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.02)


def test_there_are_no_more_triangles_than_are_wanted(web):
    path = f"/studies/1.2.9/series/1.2.9.1/surface?level={LEVEL}"
    full = read(web.get(path).content)
    few = read(web.get(f"{path}&triangles=1000").content)
    assert len(full[3]) > 1000 >= len(few[3]) > 100
    assert few[0] > 1
    assert np.abs(few[1].mean(0) - full[1].mean(0)).max() < 0.5


def test_what_is_there_is_not_made_again(web):
    path = f"/studies/1.2.9/series/1.2.9.1/surface?level={LEVEL}"
    etag = web.get(path).headers["etag"]
    assert web.get(path, headers={"if-none-match": etag}).status_code == 304
    assert web.get(f"{path}1", headers={"if-none-match": etag}).status_code == 200


def test_a_value_that_no_voxel_has_gives_no_triangle(web):
    assert len(read(web.get("/studies/1.2.9/series/1.2.9.1/surface?level=30000").content)[3]) == 0


@cases.every("series, query, status, words", [
    (1, "", 400, "level"), (1, "level=bone", 400, "level"), (1, "level=nan", 400, "level"),
    (1, "level=1&triangles=3000000", 400, "triangles"), (9, "level=1", 404, "no such series"),
    (11, "level=1", 406, "have one frame"), (12, "level=1", 406, "not alike"), (13, "level=1", 406, "not alike"),
    (14, "level=1", 406, "no place in the patient"), (15, "level=1", 406, "no place in the patient"),
    (3, "level=1", 406, "evenly spaced"), (4, "level=1", 406, "2 to 4096 slices"),
])  # fmt: skip
def test_what_has_no_surface_is_told(web, series, query, status, words):
    answer = web.get(f"/studies/1.2.9/series/1.2.9.{series}/surface?{query}")
    assert answer.status_code == status
    assert words in answer.json()["detail"]


def test_a_surface_that_is_too_large_at_every_size_is_not_made(tmp_path, monkeypatch):
    noise = np.random.default_rng(3).integers(0, 200, SHAPE).astype(float)
    with open(tmp_path / "slices", "wb") as file:
        for one in slices_of(noise, 1):
            meta = 144 + int.from_bytes(one[140:144], "little")
            data = one[meta:]
            at = data.index(b"\xe0\x7f\x10\x00")
            pickle.dump(Frame(data[:at], LITTLE, data[at + 12 :], 1), file)
    assert surfaces.made_surface(tmp_path / "slices", SHAPE[0], 100.25, 10_000_000).startswith(b"ply")
    monkeypatch.setattr(surfaces, "_LONGEST_STEP", 2)
    with pytest.raises(NotDecodable, match="too many triangles at every size"):
        surfaces.made_surface(tmp_path / "slices", SHAPE[0], 100.25, 1)
    monkeypatch.setattr(surfaces, "MOST_VOXELS", 1000)
    with pytest.raises(NotDecodable, match="at most 1000 voxels"):
        surfaces.made_surface(tmp_path / "slices", SHAPE[0], 100.25, 1)


def test_the_mesh_equals_a_slow_one():
    """Each crossed edge between two voxels has a quadrangle around it, whose plane lies between them."""
    volume = np.random.default_rng(5).random((5, 6, 7)).astype(np.float32)
    mesh = surface_nets.surface(volume, 0.5, 10_000)
    inside, crossed = volume >= 0.5, 0
    for axis in range(3):
        inner = [slice(1, -1)] * 3
        inner[axis] = slice(None)
        crossed += int(np.diff(inside[tuple(inner)].astype(int), axis=axis).__abs__().sum())
    assert len(mesh.triangles) == 2 * crossed
    assert mesh.points.min() >= 0
    assert (mesh.points <= np.array(volume.shape)[::-1] - 1).all()
