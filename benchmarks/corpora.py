"""The corpora: Part 10 files on the memory file system, made from one template, removed when the run ends."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MultiFrameGrayscaleWordSecondaryCaptureImageStorage

TEMPLATE_UID = "2.25.1" + "0" * 30
PIXEL_DATA = b"\xe0\x7f\x10\x00OW\x00\x00"
POOL = 1 << 20  # random bytes that pixel data is cut from: incompressible, and different in each file


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a corpus is made of: so many objects of so many bytes (of pixel data, or of the whole file).

    With several ``senders`` each of them gets its part of the objects, in a directory of its own.
    """

    name: str
    count: int
    pixels: int = 0
    file_size: int = 0
    frames: int = 0
    senders: int = 1

    @property
    def title(self) -> str:
        size = self.file_size or self.pixels
        unit = f"{size / 1e6:.0f} MB" if size >= 1 << 20 else f"{size >> 10} KiB"
        at_once = f" by {self.senders} senders at once" if self.senders > 1 else ""
        return f"{self.name}: {self.count} x {unit}{at_once}"


@dataclass(frozen=True, slots=True)
class Corpus:
    """Files in one directory, and how many bytes their data sets have together."""

    recipe: Recipe
    directory: Path
    files: tuple[Path, ...]
    data_bytes: int
    parts: tuple[Path, ...] = ()  # the directories of several senders

    @property
    def directories(self) -> tuple[Path, ...]:
        """A directory for each sender."""
        return self.parts or (self.directory,)

    @property
    def name(self) -> str:
        return self.recipe.name


FULL = {
    recipe.name: recipe
    for recipe in (
        Recipe("ct", 400, pixels=512 * 512 * 2),
        Recipe("small", 4000, file_size=4096),
        Recipe("large", 1, pixels=572 * 512 * 512 * 2, frames=572),
        Recipe("ct by 8", 8 * 150, pixels=512 * 512 * 2, senders=8),
        Recipe("small by 8", 8 * 500, file_size=4096, senders=8),
    )
}
SHORT = {
    recipe.name: recipe
    for recipe in (
        Recipe("ct", 4, pixels=512 * 512 * 2),
        Recipe("small", 20, file_size=4096),
        Recipe("large", 1, pixels=8 * 512 * 512 * 2, frames=8),
        Recipe("ct by 8", 8, pixels=512 * 512 * 2, senders=8),
        Recipe("small by 8", 16, file_size=4096, senders=8),
    )
}


@contextmanager
def memory_directory() -> Iterator[Path]:
    """A directory on the memory file system where there is one (or in ``DICOMNET_BENCH_DIR``); removed at the end."""
    shared = Path("/dev/shm")
    base = os.environ.get("DICOMNET_BENCH_DIR") or (shared if os.access(shared, os.W_OK) else None)
    directory = Path(tempfile.mkdtemp(prefix="dicomnet-bench-", dir=base))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def warm(directory: Path, size: int) -> None:
    """Write and remove so many bytes: a virtual machine's host gives memory slowly the first time it is touched."""
    path = directory / "warm"
    with path.open("wb") as file:
        for _ in range(size // POOL):
            file.write(bytes(POOL))
    path.unlink()


def build(recipe: Recipe, parent: Path) -> Corpus:
    """Write the files of ``recipe`` into a new directory under ``parent``."""
    directory = parent / recipe.name.replace(" ", "-")
    parts = tuple(directory / str(number) for number in range(recipe.senders)) if recipe.senders > 1 else ()
    for path in (directory, *parts):
        path.mkdir()
    head, pixels = _template(recipe)
    pool = memoryview(os.urandom(POOL) * 2)
    places = parts or (directory,)
    files = tuple(places[index % len(places)] / f"{index:05d}.dcm" for index in range(recipe.count))
    for index, path in enumerate(files):
        uid = f"2.25.1{index + 1:030d}".encode()
        with path.open("wb") as file:
            file.write(head.replace(TEMPLATE_UID.encode(), uid))
            for offset in range(0, pixels, POOL):
                start = (index * 4099 + offset // POOL * 257) % POOL
                file.write(pool[start : start + min(POOL, pixels - offset)])
    size = len(head) + pixels - dataset_offset(head)
    return Corpus(recipe, directory, files, size * recipe.count, parts)


def dataset_offset(head: bytes) -> int:
    """Where the data set starts in a Part 10 file whose file meta information has its group length."""
    if head[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
        raise ValueError("not a Part 10 file that begins with the file meta information group length")
    return 144 + int.from_bytes(head[140:144], "little")


def _template(recipe: Recipe) -> tuple[bytes, int]:
    """Everything before the pixels, and how many bytes of pixels have to follow."""
    if recipe.pixels:
        return _head(512, 512, recipe.frames), recipe.pixels
    rows = (recipe.file_size - len(_head(1, 16))) // 32
    padding = recipe.file_size - len(_head(rows, 16)) - rows * 32
    return _head(rows, 16, padding=padding), rows * 32


def _head(rows: int, columns: int, frames: int = 0, padding: int = 0) -> bytes:
    """A whole file up to its pixels; ``padding`` (even) more bytes of it are a comment."""
    dataset = _dataset(rows, columns, frames)
    dataset.ImageComments = "x" * padding
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    size = rows * columns * 2 * max(frames, 1)
    return buffer.getvalue() + PIXEL_DATA + size.to_bytes(4, "little")


def _dataset(rows: int, columns: int, frames: int) -> Dataset:
    """The header of a CT slice as scanners write it: some sixty elements, two of them sequences."""
    dataset = Dataset()
    dataset.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage if frames else CTImageStorage
    dataset.SOPInstanceUID = TEMPLATE_UID
    for keyword, value in _ELEMENTS.items():
        setattr(dataset, keyword, value)
    dataset.ReferencedStudySequence = [_reference("1.2.840.10008.3.1.2.3.1", "2.25.11")]
    dataset.ReferencedImageSequence = [_reference(CTImageStorage, "2.25.12"), _reference(CTImageStorage, "2.25.13")]
    dataset.Rows, dataset.Columns = rows, columns
    if frames:
        dataset.NumberOfFrames = frames
    return dataset


def _reference(sop_class: str, sop_instance: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = sop_instance
    return item


_ELEMENTS = {
    "SpecificCharacterSet": "ISO_IR 100",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"],
    "InstanceCreationDate": "20260102",
    "InstanceCreationTime": "101112.123000",
    "StudyDate": "20260102",
    "SeriesDate": "20260102",
    "AcquisitionDate": "20260102",
    "ContentDate": "20260102",
    "StudyTime": "100000",
    "SeriesTime": "100500",
    "AcquisitionTime": "101000.500000",
    "ContentTime": "101000.500000",
    "AccessionNumber": "A20260102001",
    "Modality": "CT",
    "Manufacturer": "DICOMNET",
    "InstitutionName": "Benchmark Hospital",
    "ReferringPhysicianName": "Referrer^Rita",
    "StationName": "CT01",
    "StudyDescription": "Thorax^01_Thorax_Routine (Adult)",
    "SeriesDescription": "Thorax 1.0 B30f",
    "InstitutionalDepartmentName": "Radiology",
    "ManufacturerModelName": "Bench 64",
    "PatientName": "Bench^Mark",
    "PatientID": "PID0001",
    "PatientBirthDate": "19700101",
    "PatientSex": "O",
    "PatientAge": "056Y",
    "BodyPartExamined": "CHEST",
    "SliceThickness": "1.0",
    "KVP": "120",
    "DataCollectionDiameter": "500",
    "SoftwareVersions": "1.0",
    "ProtocolName": "01_Thorax_Routine",
    "ReconstructionDiameter": "350",
    "DistanceSourceToDetector": "1040",
    "DistanceSourceToPatient": "570",
    "GantryDetectorTilt": "0",
    "TableHeight": "150",
    "ExposureTime": "500",
    "XRayTubeCurrent": "200",
    "Exposure": "100",
    "ConvolutionKernel": "B30f",
    "PatientPosition": "HFS",
    "StudyInstanceUID": "2.25.2" + "1" * 30,
    "SeriesInstanceUID": "2.25.3" + "2" * 30,
    "StudyID": "1",
    "SeriesNumber": "2",
    "AcquisitionNumber": "1",
    "InstanceNumber": "1",
    "ImagePositionPatient": ["-175", "-175", "-100.5"],
    "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
    "FrameOfReferenceUID": "2.25.4" + "3" * 30,
    "SliceLocation": "-100.5",
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "PixelSpacing": ["0.68359375", "0.68359375"],
    "BitsAllocated": 16,
    "BitsStored": 12,
    "HighBit": 11,
    "PixelRepresentation": 0,
    "WindowCenter": "40",
    "WindowWidth": "400",
    "RescaleIntercept": "-1024",
    "RescaleSlope": "1",
}
