"""Studies made for the viewer's tests: shapes that no reflection leaves as they are, in known values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage

#: Root of the UIDs in these tests.
ROOT = "1.2.826.0.1.3680043.8.498.77"
INTERCEPT = -1024
CENTER, WIDTH = 40.0, 400.0
#: The patient's directions of columns, rows and slices that follow each other.
AXIAL = np.eye(3)
SAGITTAL = np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])


@dataclass(frozen=True)
class Phantom:
    """A series: values by [slice, row, column], HU in CT, and the geometry of its voxels around the origin."""

    number: int
    name: str
    volume: np.ndarray
    pixel: float  # mm
    slice: float  # mm
    series: int = 1
    modality: str = "CT"
    axes: np.ndarray = field(default_factory=lambda: AXIAL)

    @property
    def study(self) -> str:
        return f"{ROOT}.{self.number}"

    def world(self, indices: np.ndarray) -> np.ndarray:
        """The patient's coordinates (LPS, mm) of voxels [slice, row, column]."""
        slices, rows, columns = self.volume.shape
        scale = np.array([self.pixel, self.pixel, self.slice])
        return (indices[:, ::-1] - np.array([columns, rows, slices]) / 2) * scale @ self.axes

    def at(self, points: np.ndarray) -> np.ndarray:
        """The values of the nearest voxels to points of the patient; air outside."""
        shape = np.array(self.volume.shape)
        scale = np.array([self.slice, self.pixel, self.pixel])
        indices = np.rint((points @ self.axes.T)[:, ::-1] / scale + shape / 2).astype(int)
        inside = ((indices >= 0) & (indices < shape)).all(1)
        values = np.full(len(points), -1000.0)
        values[inside] = self.volume[tuple(indices[inside].T)]
        return values

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
        _, rows, columns = self.volume.shape
        ds = _described(self, number)
        ds.FrameOfReferenceUID = f"{self.study}.999"
        ds.ImagePositionPatient = self.world(np.array([[number, 0, 0]]))[0].tolist()
        ds.ImageOrientationPatient = [*self.axes[0], *self.axes[1]]
        ds.PixelSpacing = [self.pixel, self.pixel]
        ds.SliceThickness = ds.SpacingBetweenSlices = self.slice
        intercept = INTERCEPT if self.modality == "CT" else 0
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = intercept, 1, "HU" if self.modality == "CT" else "US"
        ds.WindowCenter, ds.WindowWidth = (CENTER, WIDTH) if self.modality == "CT" else (10000, 20000)
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows, ds.Columns = rows, columns
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        ds.PixelData = (self.volume[number] - intercept).clip(0, 65535).astype("<u2").tobytes()
        if self.modality == "PT":
            _describe_uptake(ds, number, len(self.volume))
        return ds


def _described(phantom: Phantom, number: int) -> Dataset:
    ds: Any = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = {"CT": CTImageStorage, "PT": PositronEmissionTomographyImageStorage}[phantom.modality]
    ds.StudyInstanceUID = phantom.study
    ds.SeriesInstanceUID = f"{phantom.study}.{phantom.series}"
    ds.SOPInstanceUID = f"{ds.SeriesInstanceUID}.{number + 1}"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240115"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "101500"
    ds.AccessionNumber = f"ACC{phantom.number}"
    ds.PatientName, ds.PatientID, ds.PatientSex = f"Phantom^{phantom.name}", f"P{phantom.number}", "O"
    ds.PatientBirthDate, ds.ReferringPhysicianName = "19700101", "Referrer^Rita"
    ds.Modality, ds.Manufacturer, ds.PatientPosition = phantom.modality, "dicomnet", "HFS"
    ds.StudyDescription, ds.SeriesDescription = f"{phantom.name} phantom", f"series {phantom.series}"
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = str(phantom.number), phantom.series, number + 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def _describe_uptake(ds: Any, number: int, slices: int) -> None:
    """What a viewer needs for standardised uptake values."""
    ds.SeriesType, ds.Units, ds.DecayCorrection = ["STATIC", "IMAGE"], "BQML", "START"
    ds.CorrectedImage, ds.PatientWeight, ds.PatientSize, ds.PatientSex = ["ATTN", "DECY"], "70", "1.70", "F"
    ds.ActualFrameDuration, ds.FrameReferenceTime, ds.ImageIndex, ds.NumberOfSlices = "60000", "0", number + 1, slices
    tracer: Any = Dataset()
    tracer.RadiopharmaceuticalStartTime, tracer.RadiopharmaceuticalStartDateTime = "091500", "20240115091500"
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = "370000000", "6586.2"
    ds.RadiopharmaceuticalInformationSequence = [tracer]


def grid(shape: tuple[int, int, int], pixel: float, thickness: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The coordinates z, y, x of voxels around the origin."""
    scales = (thickness, pixel, pixel)
    axes = [(np.arange(size) - size / 2) * scale for size, scale in zip(shape, scales, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return z, y, x


def chest() -> Phantom:
    """A chest at the size of a small CT."""
    shape, pixel, thickness = (40, 128, 128), 3.0, 4.0
    return Phantom(1, "Chest", chest_values(*grid(shape, pixel, thickness)), pixel, thickness)


def chest_values(z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Lungs, a liver on the right, a spine, sloping ribs, a helix, an F in front: each reflection moves something."""
    volume = np.full(x.shape, -1000.0)
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
    return volume.round()


def planes() -> list[Phantom]:
    """The chest in one study as axial slices, as sagittal ones, and as axial ones that are half as thick."""
    found = []
    for series, shape, pixel, thickness, axes in (
        (1, (20, 64, 64), 5.0, 8.0, AXIAL),
        (2, (30, 40, 64), 4.0, 10.0, SAGITTAL),
        (3, (40, 64, 64), 5.0, 4.0, AXIAL),
    ):
        empty = Phantom(3, "Planes", np.zeros(shape), pixel, thickness, series, axes=axes)
        indices = np.indices(shape).reshape(3, -1).T
        x, y, z = empty.world(indices).T
        found.append(replace(empty, volume=chest_values(z, y, x).reshape(shape)))
    return found


def fused() -> list[Phantom]:
    """CT and PET of one study: a hot spot in the lung of the patient's right, above the middle."""
    shape, pixel, thickness = (24, 48, 48), 7.0, 8.0
    z, y, x = grid(shape, pixel, thickness)
    uptake = np.where((x / 150) ** 2 + (y / 100) ** 2 < 1, 2000.0, 0.0)
    uptake[(x + 65) ** 2 + (y + 15) ** 2 + (z - 24) ** 2 < 26**2] = 40000
    return [
        Phantom(4, "Fused", chest_values(z, y, x), pixel, thickness),
        Phantom(4, "Fused", uptake, pixel, thickness, 2, "PT"),
    ]


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
