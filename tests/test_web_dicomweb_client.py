"""dicomweb-client drives every one of its methods, and gets what was stored."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import peers
import pydicom
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from web_archives import served

NAMES = ("CT_small.dcm", "rtdose.dcm")
FILES = {path.name: path for path in peers.sample_files() if path.name in NAMES}
#: Methods of the client that are about itself.
OF_ITSELF = {"lookup_keyword", "lookup_tag", "set_chunk_size", "set_http_retry_params"}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with served(tmp_path_factory.mktemp("client") / "archive", *FILES.values()) as (_, url):
        yield f"{url}/dicomweb"


@pytest.fixture
def client(url):
    return DICOMwebClient(url)


@pytest.fixture(scope="module")
def ct():
    return pydicom.dcmread(FILES["CT_small.dcm"])


@pytest.fixture(scope="module")
def dose():
    return pydicom.dcmread(FILES["rtdose.dcm"])


def uids_of(ds):
    return ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID


def test_searches(client, ct):
    keys = {"PatientID": ct.PatientID}
    (study,) = client.search_for_studies(search_filters=keys, fields=["StudyDescription"], limit=5)
    assert study["0020000D"]["Value"] == [ct.StudyInstanceUID]
    (series,) = client.search_for_series(ct.StudyInstanceUID)
    assert series["0020000E"]["Value"] == [ct.SeriesInstanceUID]
    (instance,) = client.search_for_instances(*uids_of(ct)[:2])
    assert instance["00080018"]["Value"] == [ct.SOPInstanceUID]
    assert len(client.search_for_instances(offset=1)) == 1
    assert client.search_for_studies(search_filters={"PatientID": "nothing"}) == []
    assert len(client.search_for_series(get_remaining=True, limit=1)) == 2


def test_instances(client, ct):
    study, series, _ = uids_of(ct)
    assert client.retrieve_instance(*uids_of(ct)) == ct
    assert client.retrieve_series(study, series) == client.retrieve_study(study) == [ct]
    assert list(client.iter_series(study, series)) == list(client.iter_study(study)) == [ct]
    wanted = (("application/dicom", "*"),)
    assert client.retrieve_instance(*uids_of(ct), media_types=wanted).PixelData == ct.PixelData


def test_metadata_and_bulk_data(client, ct, url):
    study, series, _ = uids_of(ct)
    one = client.retrieve_instance_metadata(*uids_of(ct))
    for found in (one, *client.retrieve_series_metadata(study, series), *client.retrieve_study_metadata(study)):
        assert pydicom.Dataset.from_json({tag: found[tag] for tag in ("00280010", "00080018")}).Rows == ct.Rows
    pixels = f"{url}/studies/{study}/series/{series}/{one['7FE00010']['BulkDataURI']}".replace(
        "bulkdata", f"instances/{ct.SOPInstanceUID}/bulkdata"
    )
    size = ct.Rows * ct.Columns * 2
    assert client.retrieve_bulkdata(pixels) == [ct.PixelData[:size]]
    assert b"".join(client.iter_bulkdata(pixels)) == ct.PixelData[:size]
    octets = ("application/octet-stream",)
    assert client.retrieve_bulkdata(pixels, media_types=octets, byte_range=(2, 9))[0] in (
        ct.PixelData[2:10], ct.PixelData[:size],
    )  # fmt: skip


def test_frames(client, dose):
    wanted = [dose.pixel_array[number - 1].tobytes() for number in (1, 3)]
    assert client.retrieve_instance_frames(*uids_of(dose), [1, 3]) == wanted
    assert list(client.iter_instance_frames(*uids_of(dose), [1, 3])) == wanted
    with pytest.raises(requests.HTTPError) as absent:
        client.retrieve_instance_frames(*uids_of(dose), [99])
    assert absent.value.response.status_code == 404


def test_pictures(client, ct, dose):
    png = ("image/png",)
    params = {"window": "40,400,linear"}
    shown = Image.open(io.BytesIO(client.retrieve_instance_rendered(*uids_of(ct), media_types=png, params=params)))
    values = ct.pixel_array * float(ct.RescaleSlope) + float(ct.RescaleIntercept)
    wanted = np.clip((values - 39.5) / 399 + 0.5, 0, 1) * 255
    assert np.abs(np.asarray(shown).astype(float) - wanted).max() <= 1
    assert Image.open(io.BytesIO(client.retrieve_series_rendered(*uids_of(ct)[:2], media_types=png))).size == shown.size
    frame = client.retrieve_instance_frames_rendered(*uids_of(dose), [2], media_types=png)
    assert Image.open(io.BytesIO(frame)).size == (dose.Columns, dose.Rows)


def test_what_is_stored_can_be_deleted(client, ct):
    made = []
    for _ in range(3):
        one = pydicom.dcmread(FILES["CT_small.dcm"])
        one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID = (pydicom.uid.generate_uid() for _ in range(3))
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        made.append(one)
    told = client.store_instances(made)
    assert {one.ReferencedSOPInstanceUID for one in told.ReferencedSOPSequence} == {one.SOPInstanceUID for one in made}
    client.delete_instance(*uids_of(made[0]))
    client.delete_series(*uids_of(made[1])[:2])
    client.delete_study(made[2].StudyInstanceUID)
    for one in made:
        assert client.search_for_studies(search_filters={"StudyInstanceUID": one.StudyInstanceUID}) == []


def test_no_method_is_left():
    used = set(re.findall(r"client\.(\w+)\(", Path(__file__).read_text(encoding="utf-8")))
    public = {name for name, one in vars(DICOMwebClient).items() if not name.startswith("_") and callable(one)}
    assert public - OF_ITSELF - used == set()
