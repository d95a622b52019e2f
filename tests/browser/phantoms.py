"""Studies made for the viewer's tests: shapes that no reflection leaves as they are, in known values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

#: Root of the UIDs in these tests.
ROOT = "1.2.826.0.1.3680043.8.498.77"
INTERCEPT = -1024
CENTER, WIDTH = 40.0, 400.0


@dataclass(frozen=True)
class Phantom:
    """A CT series: values in HU by [slice, row, column], and the geometry of its voxels, whose middle is the origin."""

    number: int
    name: str
    volume: np.ndarray
    pixel: float  # mm
    slice: float  # mm

    @property
    def study(self) -> str:
        return f"{ROOT}.{self.number}"

    def world(self, indices: np.ndarray) -> np.ndarray:
        """The patient's coordinates (LPS, mm) of voxels [slice, row, column]."""
        slices, rows, columns = self.volume.shape
        scale = np.array([self.pixel, self.pixel, self.slice])
        return (indices[:, ::-1] - np.array([columns, rows, slices]) / 2) * scale

    def index(self, axis: int, coordinate: float) -> int:
        """The number of the row, column or slice at a coordinate; axis 0 is x."""
        size = self.volume.shape[2 - axis]
        return round(coordinate / (self.pixel, self.pixel, self.slice)[axis] + size / 2)

    def files(self) -> Iterator[bytes]:
        """Each slice as a Part 10 file."""
        for number in range(len(self.volume)):
            stream = BytesIO()
            self._slice(number).save_as(stream, enforce_file_format=True)
            yield stream.getvalue()

    def _slice(self, number: int) -> Dataset:
        slices, rows, columns = self.volume.shape
        ds = _described(self, number)
        ds.FrameOfReferenceUID = f"{self.study}.999"
        x, y = -columns / 2 * self.pixel, -rows / 2 * self.pixel
        ds.ImagePositionPatient = [x, y, (number - slices / 2) * self.slice]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing = [self.pixel, self.pixel]
        ds.SliceThickness = ds.SpacingBetweenSlices = self.slice
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = INTERCEPT, 1, "HU"
        ds.WindowCenter, ds.WindowWidth = CENTER, WIDTH
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows, ds.Columns = rows, columns
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.PixelData = (self.volume[number] - INTERCEPT).clip(0, 4095).astype("<u2").tobytes()
        return ds


def _described(phantom: Phantom, number: int) -> Dataset:
    ds: Any = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CTImageStorage
    ds.StudyInstanceUID = phantom.study
    ds.SeriesInstanceUID = f"{phantom.study}.1"
    ds.SOPInstanceUID = f"{phantom.study}.1.{number + 1}"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240115"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "101500"
    ds.AccessionNumber = f"ACC{phantom.number}"
    ds.PatientName, ds.PatientID, ds.PatientSex = f"Phantom^{phantom.name}", f"P{phantom.number}", "O"
    ds.PatientBirthDate, ds.ReferringPhysicianName = "19700101", "Referrer^Rita"
    ds.Modality, ds.Manufacturer, ds.PatientPosition = "CT", "dicomnet", "HFS"
    ds.StudyDescription, ds.SeriesDescription = f"{phantom.name} phantom", "axial"
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = str(phantom.number), 1, number + 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = CTImageStorage, ds.SOPInstanceUID
    return ds


def grid(shape: tuple[int, int, int], pixel: float, thickness: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The coordinates z, y, x of voxels around the origin."""
    scales = (thickness, pixel, pixel)
    axes = [(np.arange(size) - size / 2) * scale for size, scale in zip(shape, scales, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return z, y, x


def chest() -> Phantom:
    """Lungs, a liver on the right, a spine, sloping ribs, a helix, an F in front: each reflection moves something."""
    shape, pixel, thickness = (40, 128, 128), 3.0, 4.0
    z, y, x = grid(shape, pixel, thickness)
    volume = np.full(shape, -1000.0)
    body = (x / 150) ** 2 + (y / 100) ** 2 < 1
    volume[body] = 40
    volume[((x - 70) / 45) ** 2 + ((y + 10) / 60) ** 2 + (z / 60) ** 2 < 1] = -800
    volume[((x + 70) / 45) ** 2 + ((y + 10) / 50) ** 2 + ((z - 10) / 50) ** 2 < 1] = -820
    volume[body & (z < -20 + 0.2 * y) & (x < 45)] = 140
    volume[x**2 + (y - 70) ** 2 < 18**2] = 700
    for rib in range(-3, 4):
        on_the_wall = np.abs(np.hypot(x / 130, y / 85) - 1) * 100 < 7
        volume[on_the_wall & (np.abs(z - rib * 22 - 0.15 * y) < 6)] = 600
    turn = z / 18
    volume[(x - 25 * np.cos(turn)) ** 2 + (y - 20 - 18 * np.sin(turn)) ** 2 < 9**2] = 120
    volume[(x + 65) ** 2 + (y + 15) ** 2 + (z - 15) ** 2 < 18**2] = 60
    letter = np.abs(z - 20) < 30
    for left, right, front, back in ((-60, -48, -88, -40), (-60, -20, -88, -76), (-60, -28, -64, -54)):
        volume[letter & (x > left) & (x < right) & (y > front) & (y < back)] = 180
    return Phantom(1, "Chest", volume.round(), pixel, thickness)


def block() -> Phantom:
    """Three bars of bone of different lengths in a soft cylinder: small, for pictures in three dimensions."""
    shape, pixel = (32, 32, 32), 4.0
    z, y, x = grid(shape, pixel, pixel)
    volume = np.full(shape, -1000.0)
    volume[x**2 + y**2 < 55**2] = 40
    volume[(np.abs(y) < 9) & (np.abs(z + 20) < 9) & (x > -40) & (x < 36)] = 900
    volume[(np.abs(y) < 9) & (np.abs(x + 28) < 9) & (z > -26) & (z < 36)] = 900
    volume[(np.abs(y) < 9) & (np.abs(z - 8) < 7) & (x > -30) & (x < 12)] = 900
    return Phantom(2, "Block", volume.round(), pixel, pixel)


def windowed(values: np.ndarray, center: float = CENTER, width: float = WIDTH) -> np.ndarray:
    """Grey levels, by the linear VOI LUT function (PS3.3 C.11.2.1.2)."""
    return (np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255).astype(float)
