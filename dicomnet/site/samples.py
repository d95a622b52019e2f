"""Sample data of a site: a small CT of a patient who does not exist, and a worklist item."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from .. import uids
from ..dataset import codec
from ..files.part10 import meta_header

__all__ = ["DESCRIPTION", "PATIENT", "worklist_item", "write_series"]

#: Who the sample patient is.
PATIENT = {"PatientName": "Sample^Sandra", "PatientID": "SAMPLE1", "PatientBirthDate": "19700101", "PatientSex": "F"}
DESCRIPTION = "Head routine"
_SLICES, _SIZE, _SPACING, _THICKNESS = 12, 128, 1.5, 5.0
_AIR, _SKIN, _BRAIN, _LESION = -1000, 60, 40, 80
_SYNTAX = uids.EXPLICIT_VR_LITTLE_ENDIAN


def worklist_item(day: date, station: str) -> dict[str, Any]:
    """A CT that is scheduled, by keyword."""
    return {
        **PATIENT, "AccessionNumber": "A0001", "RequestedProcedureID": "R0001", "ReferringPhysicianName": "Doctor^Dora",
        "RequestedProcedureDescription": DESCRIPTION, "StudyInstanceUID": uids.new(),
        "ScheduledProcedureStepSequence": [{
            "Modality": "CT", "ScheduledStationAETitle": station, "ScheduledProcedureStepID": "S0001",
            "ScheduledProcedureStepDescription": DESCRIPTION, "ScheduledProcedureStepStartDate": f"{day:%Y%m%d}",
            "ScheduledProcedureStepStartTime": "1015",
        }],
    }  # fmt: skip


def write_series(folder: Path, *, study: str, day: date, **values: Any) -> list[Path]:
    """Write a series of slices through a head, as Part 10 files.

    Args:
        folder: where; it is made.
        study: Study Instance UID.
        day: when it was acquired.
        values: other values by keyword, such as those of a worklist item.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series, frame = uids.new(), uids.new()
    paths = []
    for number in range(_SLICES):
        uid = uids.new()
        data_set = codec.from_keywords({**_values(number, uid, study, series, frame, day), **values})
        path = folder / f"slice{number + 1:02}.dcm"
        content = codec.encode(data_set, _SYNTAX)
        path.write_bytes(meta_header(uids.CT_IMAGE_STORAGE, uid, _SYNTAX, "SAMPLES") + content)
        paths.append(path)
    return paths


def _values(number: int, uid: str, study: str, series: str, frame: str, day: date) -> dict[str, Any]:
    half = _SIZE * _SPACING / 2
    place = (number - _SLICES / 2) * _THICKNESS
    return {
        **PATIENT, "SOPClassUID": uids.CT_IMAGE_STORAGE, "SOPInstanceUID": uid, "StudyInstanceUID": study,
        "SeriesInstanceUID": series, "FrameOfReferenceUID": frame, "StudyID": "1", "SeriesNumber": 1,
        "InstanceNumber": number + 1, "Modality": "CT", "StudyDate": f"{day:%Y%m%d}", "StudyTime": "101500",
        "AccessionNumber": "", "ReferringPhysicianName": "", "StudyDescription": DESCRIPTION,
        "SeriesDescription": "a phantom", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "Manufacturer": "dicomnet",
        "PositionReferenceIndicator": "", "PatientPosition": "HFS", "SliceThickness": _THICKNESS,
        "ImagePositionPatient": [-half, -half, place], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [_SPACING, _SPACING], "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "Rows": _SIZE, "Columns": _SIZE, "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15,
        "PixelRepresentation": 1, "RescaleIntercept": 0, "RescaleSlope": 1, "RescaleType": "HU",
        "WindowCenter": 40, "WindowWidth": 120, "KVP": 120, "AcquisitionNumber": 1, "BurnedInAnnotation": "NO",
        "PixelData": _slice(place),
    }  # fmt: skip


def _slice(place: float) -> bytes:
    """Rings of densities: skin around brain, and a lesion off the middle, so that no flip goes unseen."""
    y, x = np.mgrid[:_SIZE, :_SIZE] - _SIZE / 2.0
    x, y = x * _SPACING, y * _SPACING
    head = (x / 70) ** 2 + (y / 85) ** 2 + (place / 60) ** 2
    pixels = np.full((_SIZE, _SIZE), _AIR, dtype="<i2")
    pixels[head < 1] = _SKIN
    pixels[head < 0.85] = _BRAIN
    pixels[(x - 30) ** 2 + (y + 20) ** 2 + (place - 5) ** 2 < 15**2] = _LESION
    return pixels.tobytes()
