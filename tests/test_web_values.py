"""Bulk data and videos by range: encapsulated, in big endian, deflated; what is asked for alone is in memory."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import cases
import httpx
import peers
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    JPEG2000Lossless,
    SecondaryCaptureImageStorage,
    VideoEndoscopicImageStorage,
)
from web_archives import client, served

from dicomnet.web import stored

RANGES = [(0, 0), (0, 1), (1, 2), (5, 5), (6, 12), (3, 40), (0, None), (17, None), (None, 1), (None, 9)]


def encapsulated(
    frames: list[bytes], sop_class: str = SecondaryCaptureImageStorage, syntax: str = JPEG2000Lossless
) -> Any:
    """An instance with these frames, whatever they are."""
    ds: Any = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = "1.2.5", "1.2.5.1", "1.2.5.1.1"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.PatientID, ds.Modality = "P5", "OT"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 8, 8, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.NumberOfFrames = len(frames)
    ds.PixelData = encapsulate(frames)
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    return ds


def path_of(ds: Any) -> str:
    return f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"


def post(http: httpx.Client, ds: Any) -> None:
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    headers = {"content-type": "application/dicom"}
    assert http.post("/studies", content=stream.getvalue(), headers=headers).status_code == 200


def expect_ranges(http: httpx.Client, path: str, whole: bytes) -> None:
    got = http.get(path)
    assert (got.content, got.headers["accept-ranges"]) == (whole, "bytes")
    for first, last in RANGES:
        text = f"bytes={'' if first is None else first}-{'' if last is None else last}"
        start = len(whole) - (last or 0) if first is None else first
        end = len(whole) if first is None or last is None else last + 1
        part = http.get(path, headers={"range": text})
        assert (part.status_code, part.content) == (206, whole[start:end]), text
        assert part.headers["content-range"] == f"bytes {start}-{min(end, len(whole)) - 1}/{len(whole)}"
    assert http.get(path, headers={"range": f"bytes={len(whole)}-"}).status_code == 416


FRAMES = [bytes([number]) * (4 + 2 * number) for number in range(1, 7)]


def test_encapsulated_pixel_data_are_their_fragments(tmp_path):
    ds = encapsulated(FRAMES)
    with served(tmp_path / "archive") as (_, url), client(f"{url}/dicomweb") as http:
        post(http, ds)
        expect_ranges(http, f"{path_of(ds)}/bulkdata/7FE00010", b"".join(FRAMES))
        several = http.get(f"{path_of(ds)}/bulkdata/7FE00010", headers={"accept": "multipart/related"})
        assert b"\r\n\r\n" + b"".join(FRAMES) + b"\r\n--" in several.content


def test_a_video_comes_by_range(tmp_path):
    ds = encapsulated([bytes(range(250))], VideoEndoscopicImageStorage, MPEG4HP41)
    with served(tmp_path / "archive") as (_, url), client(f"{url}/dicomweb") as http:
        post(http, ds)
        assert http.get(f"{path_of(ds)}/rendered").headers["content-type"] == "video/mp4"
        expect_ranges(http, f"{path_of(ds)}/rendered", bytes(range(250)))


@cases.every("name", ["MR_small_bigendian.dcm", "JPEG2000.dcm", "image_dfl.dcm", "CT_small.dcm"])
def test_pixel_data_in_every_order(tmp_path_factory, name):
    path: Path = next(path for path in peers.sample_files() if path.name == name)
    ds: Any = pydicom.dcmread(path)
    directory = tmp_path_factory.mktemp("values")
    whole = ds.PixelData
    if name == "JPEG2000.dcm":
        whole = b"".join(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1))
    elif not ds.file_meta.TransferSyntaxUID.is_little_endian:
        whole = ds.pixel_array.astype("<u2" if ds.PixelRepresentation == 0 else "<i2").tobytes()
    with served(directory / "archive", path) as (_, url), client(f"{url}/dicomweb") as http:
        expect_ranges(http, f"{path_of(ds)}/bulkdata/7FE00010", whole)


@pytest.mark.measures
def test_a_range_of_many_fragments_is_not_whole_in_memory(tmp_path):
    piece = b"\1\2" * (1 << 20)
    ds = encapsulated([piece] * 16)
    with served(tmp_path / "archive") as (_, url), client(f"{url}/dicomweb") as http:
        post(http, ds)
        tracemalloc.start()
        try:
            part = http.get(f"{path_of(ds)}/bulkdata/7FE00010", headers={"range": "bytes=9999999-10000000"})
            assert (part.status_code, part.content) == (206, b"\2\1")
            assert tracemalloc.get_traced_memory()[1] < 4 * len(piece)
        finally:
            tracemalloc.stop()


def test_more_fragments_than_there_may_be_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "MOST_FRAGMENTS", 4)
    ds = encapsulated(FRAMES)
    with served(tmp_path / "archive") as (_, url), client(f"{url}/dicomweb") as http:
        post(http, ds)
        refused = http.get(f"{path_of(ds)}/bulkdata/7FE00010")
        assert refused.status_code == 404
        assert "fragments" in refused.json()["detail"]
