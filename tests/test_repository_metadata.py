"""The packed metadata of a series: what pydicom makes of each instance, made once, and never out of date."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import itertools
import json
import math
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from index_records import header, many, numbered
from pydicom.dataset import Dataset
from sqlalchemy import func, select

from dicomnet import uids
from dicomnet.dataset import codec
from dicomnet.repository import schema
from dicomnet.repository.index import Index
from dicomnet.repository.metadata import SeriesMetadata, metadata_of

KEYWORDS = {
    "PatientName": "Yamada^Tarou=山田^太郎",
    "ImageType": ["ORIGINAL", "PRIMARY"],
    "PixelSpacing": [0.5, 0.25],
    "FrameIncrementPointer": 0x00181063,
    "RedPaletteColorLookupTableData": b"\1\2\3\4",
    "GreenPaletteColorLookupTableData": bytes(4000),
    "RequestAttributesSequence": [{"RequestedProcedureID": "R1"}],
    "RealWorldValueSlope": 1.5,
    "PatientComments": "one\\line",
}


@pytest.mark.parametrize("syntax", [uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN])
def test_an_instance_is_what_pydicom_reads(syntax):
    made = metadata_of(header(syntax, **KEYWORDS), syntax, "1.2.3.1.1.1")
    assert made.pop("7FE00010") == {"vr": "OW", "BulkDataURI": "../instances/1.2.3.1.1.1/bulkdata/7FE00010"}
    assert made.pop("00281202")["BulkDataURI"].endswith("/bulkdata/00281202")
    assert made.pop("00083002") == {"vr": "UI", "Value": [syntax]}
    read = Dataset.from_json(json.dumps(made), lambda *_: b"")
    expected = codec.decode(header(syntax, **KEYWORDS | {"GreenPaletteColorLookupTableData": None}), syntax)
    for element in expected:
        assert read[element.tag].value == element.value, element
    assert len(read) == len(expected)


def test_it_is_made_once_and_again_after_a_change(database):
    index, reads = Index(database, clock=lambda: 1000.0), []

    def read_header(location):
        reads.append(location.uid)
        return header(SOPInstanceUID=location.uid)

    index.add(many(3))
    metadata = SeriesMetadata(database, read_header)
    for _ in range(2):
        packed = json.loads(gzip.decompress(metadata.get("1.2.1.1")))
        assert [one["00080018"]["Value"] for one in packed] == [[f"1.2.1.1.{number}"] for number in (1, 2, 3)]
    assert len(reads) == 3
    index.add([numbered(1, 1, 9)])
    assert len(json.loads(gzip.decompress(metadata.get("1.2.1.1")))) == 4
    assert metadata.get("1.9") is None


def test_what_arrives_while_it_is_made_is_in_it(database):
    index, arrived = Index(database), threading.Event()
    index.add(many(2))

    def read_header(location):
        if not arrived.is_set():
            arrived.set()
            index.add([dataclasses.replace(many(1)[0], uid="1.2.1.1.7", number=7)])
        return header(SOPInstanceUID=location.uid)

    assert len(json.loads(gzip.decompress(SeriesMetadata(database, read_header).get("1.2.1.1")))) == 3


@given(single=st.floats(width=32), double=st.floats())
def test_numbers_in_binary_are_exact(single, double):
    syntax = uids.EXPLICIT_VR_LITTLE_ENDIAN
    data = header(syntax, RecommendedDisplayFrameRateInFloat=single, DiffusionBValue=double)
    made = metadata_of(data, syntax, "1.2.3.1.1.1")
    for tag, form, wanted in (("00089459", "<f", single), ("00189087", "<d", double)):
        (found,) = made[tag]["Value"]
        if math.isfinite(wanted):
            assert struct.unpack(form, struct.pack(form, float(found))) == (wanted,)
        else:
            assert found == str(wanted)  # JSON has no number for it


def test_a_series_that_grows_as_fast_as_it_is_read_is_what_it_was_a_moment_ago(database):
    index, numbers = Index(database), itertools.count(100)
    index.add(many(2))

    def read_header(location):
        number = next(numbers)
        index.add([dataclasses.replace(many(1)[0], uid=f"1.2.1.1.{number}", number=number)])
        return header(SOPInstanceUID=location.uid)

    found = json.loads(gzip.decompress(SeriesMetadata(database, read_header).get("1.2.1.1")))
    assert len(found) > 2
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.instance)).scalar_one() > len(found)


def test_elements_without_a_vr_a_value_or_a_name(database):
    """Of implicit VR, where a dictionary has to know it; what has none is UN."""
    syntax = uids.IMPLICIT_VR_LITTLE_ENDIAN
    data = header(syntax)
    place = data.index(b"\x28\x00\x10\x00")
    more = b"".join(
        group.to_bytes(2, "little") + element.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value
        for group, element, value in ((0x0020, 0x9999, b"?!"), (0x0021, 0x1001, b"ab"))
    )
    made = metadata_of(data[:place] + more + data[place:], syntax, "1.2.3.1.1.1")
    assert made["00209999"] == {"vr": "UN", "InlineBinary": base64.b64encode(b"?!").decode()}
    assert made["00211001"] == {"vr": "UN", "InlineBinary": base64.b64encode(b"ab").decode()}
    made = metadata_of(header(RedPaletteColorLookupTableData=b""), uids.EXPLICIT_VR_LITTLE_ENDIAN, "1.2.3.1.1.1")
    assert made["00281201"] == {"vr": "OW"}
