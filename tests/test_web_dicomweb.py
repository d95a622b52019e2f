"""DICOMweb over a real archive, by dicomweb-client and by hand: every method, and what each bad request gets."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import archives
import httpx
import numpy as np
import peers
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient

import dicomnet as dn
from dicomnet import uids
from dicomnet.archive.archive import Archive
from dicomnet.archive.web import web_application
from dicomnet.errors import InvalidArgument
from dicomnet.web.serving import WebServing
from dicomnet.web.settings import parse_address

NAMES = [
    "CT_small.dcm",
    "MR_small.dcm",
    "JPEG2000.dcm",
    "color3d_jpeg_baseline.dcm",
    "rtdose.dcm",
    "examples_palette.dcm",
]


def sample(name: str) -> Any:
    return next(path for path in peers.sample_files() if path.name == name)


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    directory = tmp_path_factory.mktemp("web") / "archive"
    archive = Archive(directory, archives.make(directory))
    with archive, WebServing(web_application(archive.holdings, archive.storage), "127.0.0.1", 0) as serving:
        peer = f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}"
        paths = [path for path in peers.sample_files() if path.name in NAMES]
        with dn.client.StoreScu(peer) as scu:
            assert all(result.ok for result in scu.send(*paths))
        yield serving.url + "dicomweb"


@pytest.fixture
def client(web):
    return DICOMwebClient(web)


@pytest.fixture(scope="module")
def ct():
    return pydicom.dcmread(sample("CT_small.dcm"))


def path_of(dataset: Any) -> str:
    return f"/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}/instances/{dataset.SOPInstanceUID}"


def get(url: str, accept: str = "*/*", **headers: str) -> httpx.Response:
    return httpx.get(url, headers={"accept": accept, **headers}, timeout=30)


class TestSearch:
    def test_by_every_level(self, client, ct):
        found = client.search_for_studies(search_filters={"PatientName": "CompressedSamples^CT1"})
        assert [one["0020000D"]["Value"][0] for one in found] == [ct.StudyInstanceUID]
        assert found[0]["00201208"]["Value"] == [1]
        assert found[0]["00081190"]["Value"][0].endswith(f"/dicomweb/studies/{ct.StudyInstanceUID}")
        assert len(client.search_for_series(ct.StudyInstanceUID)) == 1
        assert len(client.search_for_instances(ct.StudyInstanceUID, ct.SeriesInstanceUID)) == 1
        assert len(client.search_for_instances()) >= 5

    def test_as_a_viewer_asks(self, web):
        query = (
            "PatientName=*compressed*&StudyDate=20000101-20300101&limit=101&offset=0&fuzzymatching=false"
            "&includefield=00081030,00080060,00080090,00100030&ModalitiesInStudy=CT"
        )
        found = get(f"{web}/studies?{query}", "application/dicom+json").json()
        assert [one["00100010"]["Value"][0]["Alphabetic"] for one in found] == ["CompressedSamples^CT1"]
        assert "00081030" in found[0]

    def test_pages(self, web):
        uids_ = [one["00080018"]["Value"][0] for one in get(f"{web}/instances").json()]
        paged = []
        for offset in range(len(uids_)):
            answer = get(f"{web}/instances?limit=1&offset={offset}")
            paged += [one["00080018"]["Value"][0] for one in answer.json()]
            assert ("299" in answer.headers.get("warning", "")) == (offset + 1 < len(uids_))
        assert paged == uids_

    def test_nothing_found_is_no_content(self, web):
        assert get(f"{web}/studies?PatientID=NOBODY").status_code == 204

    def test_lists_of_uids(self, web, ct):
        mr = pydicom.dcmread(sample("MR_small.dcm"))
        answer = get(f"{web}/studies?StudyInstanceUID={ct.StudyInstanceUID},{mr.StudyInstanceUID}")
        assert len(answer.json()) == 2

    @pytest.mark.parametrize(
        ("query", "parameter"),
        [("limit=x", "limit"), ("offset=-1", "offset"), ("Nope=1", "Nope"), ("StudyDate=yesterday", "00080020")],
    )
    def test_what_is_no_query_names_its_parameter(self, web, query, parameter):
        answer = get(f"{web}/studies?{query}")
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["parameter"] == parameter


class TestRetrieve:
    def test_instances_as_they_are_stored(self, client, web, ct):
        got = client.retrieve_instance(ct.StudyInstanceUID, ct.SeriesInstanceUID, ct.SOPInstanceUID)
        assert got == ct
        single = get(web + path_of(ct), "application/dicom")
        assert single.headers["content-type"] == f"application/dicom; transfer-syntax={uids.EXPLICIT_VR_LITTLE_ENDIAN}"
        assert pydicom.dcmread(BytesIO(single.content)) == ct
        assert len(client.retrieve_study(ct.StudyInstanceUID)) == 1

    def test_instances_converted(self, web, ct):
        accept = f'multipart/related; type="application/dicom"; transfer-syntax={uids.IMPLICIT_VR_LITTLE_ENDIAN}'
        answer = get(web + path_of(ct), accept)
        start = answer.content.index(b"DICM") - 128
        got = pydicom.dcmread(BytesIO(answer.content[start:]))
        assert got.file_meta.TransferSyntaxUID == uids.IMPLICIT_VR_LITTLE_ENDIAN
        assert np.array_equal(got.pixel_array, ct.pixel_array)
        refused = get(web + path_of(ct), accept.replace(uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.JPEG2000))
        assert refused.status_code == 406

    def test_metadata_of_series_studies_and_instances(self, client, ct):
        for found in (
            client.retrieve_series_metadata(ct.StudyInstanceUID, ct.SeriesInstanceUID)[0],
            client.retrieve_study_metadata(ct.StudyInstanceUID)[0],
        ):
            assert found["00280010"]["Value"] == [ct.Rows]
            assert found["7FE00010"]["BulkDataURI"] == f"instances/{ct.SOPInstanceUID}/bulkdata/7FE00010"
            assert found["00200032"]["Value"] == [float(one) for one in ct.ImagePositionPatient]

    def test_bulk_data_is_where_metadata_say_and_comes_by_range(self, web, ct):
        base = f"{web}/studies/{ct.StudyInstanceUID}/series/{ct.SeriesInstanceUID}/metadata"
        uri = get(base).json()[0]["7FE00010"]["BulkDataURI"]
        whole = httpx.get(httpx.URL(base).join(uri))
        assert whole.content == ct.PixelData[: ct.Rows * ct.Columns * 2]
        part = httpx.get(httpx.URL(base).join(uri), headers={"range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, whole.content[10:20])
        assert httpx.get(httpx.URL(base).join(uri), headers={"range": "bytes=99999999-"}).status_code == 416

    @pytest.mark.parametrize("what", ["metadata", "series", "instance", "instance/metadata", "instance/frames/1"])
    def test_an_entity_tag_spares_what_has_not_changed(self, web, ct, what):
        series = f"/studies/{ct.StudyInstanceUID}/series/{ct.SeriesInstanceUID}"
        path = {"metadata": f"/studies/{ct.StudyInstanceUID}/metadata", "series": series}.get(what)
        path = path or what.replace("instance", path_of(ct), 1)
        first = get(f"{web}{path}")
        assert first.status_code == 200
        again = get(f"{web}{path}", **{"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")

    def test_frames_as_stored_and_decoded(self, client, web, ct):
        uids_ = ct.StudyInstanceUID, ct.SeriesInstanceUID, ct.SOPInstanceUID
        assert client.retrieve_instance_frames(*uids_, [1])[0] == ct.PixelData
        j2k = pydicom.dcmread(sample("JPEG2000.dcm"))
        answer = get(
            web + path_of(j2k) + "/frames/1",
            'multipart/related; type="application/octet-stream"; transfer-syntax="*"',
        )
        assert f"transfer-syntax={j2k.file_meta.TransferSyntaxUID}".encode() in answer.content
        assert b"\xff\x4f\xff\x51" in answer.content
        decoded = get(
            web + path_of(j2k) + "/frames/1",
            f"application/octet-stream; transfer-syntax={uids.EXPLICIT_VR_LITTLE_ENDIAN}",
        ).content
        assert np.array_equal(
            np.frombuffer(decoded, j2k.pixel_array.dtype).reshape(j2k.pixel_array.shape), j2k.pixel_array
        )

    def test_frames_of_many(self, web):
        dose = pydicom.dcmread(sample("rtdose.dcm"))
        answer = get(web + path_of(dose) + "/frames/2,5")
        assert dose.pixel_array[1].tobytes() in answer.content
        assert dose.pixel_array[4].tobytes() in answer.content
        assert get(web + path_of(dose) + "/frames/99").status_code == 404
        assert get(web + path_of(dose) + "/frames/one").status_code == 400
        many = get(f"{web}{path_of(dose)}/frames/{','.join(['1'] * 10_001)}")
        assert (many.status_code, many.json()["parameter"]) == (400, "frames")

    @pytest.mark.parametrize(
        ("accept", "parameter"),
        [
            ("text/html", "Accept"),
            ("application/octet-stream;q=no", "Accept"),
            (f"application/octet-stream; transfer-syntax={uids.JPEG_LS_LOSSLESS}", "transfer-syntax"),
        ],
    )
    def test_frames_that_do_not_come_so(self, web, accept, parameter):
        path = web + path_of(pydicom.dcmread(sample("JPEG2000.dcm"))) + "/frames/1"
        answer = get(path, accept)
        assert (answer.status_code, answer.json().get("parameter")) == (406, parameter)
        plain = f"application/octet-stream; transfer-syntax={uids.EXPLICIT_VR_LITTLE_ENDIAN}"
        assert get(path, f"{accept}, {plain}").headers["content-type"] == plain  # what fits need not be the first

    def test_what_is_not_there_and_what_does_not_come_so(self, web, ct):
        assert get(f"{web}/studies/1.2.3").status_code == 404
        assert get(f"{web}/studies/{ct.StudyInstanceUID}/series/1.2/metadata").status_code == 404
        assert get(f"{web}/studies/{ct.StudyInstanceUID}", "text/html").status_code == 406
        assert get(f"{web}/nowhere").status_code == 404
        assert httpx.put(f"{web}/studies").status_code == 405


class TestPictures:
    def test_a_window_is_that_of_the_standard(self, web, ct):
        from PIL import Image

        answer = get(f"{web}{path_of(ct)}/rendered?window=40,400", "image/png")
        shown = np.asarray(Image.open(BytesIO(answer.content))).astype(int)
        values = ct.pixel_array * float(ct.RescaleSlope) + float(ct.RescaleIntercept)
        wanted = np.clip((values - 39.5) / 399 + 0.5, 0, 1) * 255
        assert np.abs(shown - wanted).max() <= 1

    def test_colour_and_thumbnails(self, web):
        from PIL import Image

        colour = pydicom.dcmread(sample("examples_palette.dcm"))
        assert Image.open(BytesIO(get(f"{web}{path_of(colour)}/rendered", "image/jpeg").content)).mode == "RGB"
        small = get(f"{web}/studies/{colour.StudyInstanceUID}/thumbnail?viewport=64,64", "image/jpeg")
        assert max(Image.open(BytesIO(small.content)).size) == 64

    @pytest.mark.parametrize(
        "query",
        [
            "window=1", "window=a,b", "window=1,0", "window=1,2,cubic", "viewport=0,0", "viewport=1", "quality=x",
            "viewport=8,8,9999999,0,1,1",
        ],
    )  # fmt: skip
    def test_what_is_no_wish(self, web, ct, query):
        assert get(f"{web}{path_of(ct)}/rendered?{query}").status_code == 400


class TestStore:
    def test_instances_are_stored_found_and_deleted(self, client, web, ct):
        ct = pydicom.dcmread(sample("CT_small.dcm"))
        ct.StudyInstanceUID, ct.SeriesInstanceUID, ct.SOPInstanceUID = (pydicom.uid.generate_uid() for _ in range(3))
        ct.file_meta.MediaStorageSOPInstanceUID = ct.SOPInstanceUID
        answer = client.store_instances([ct])
        assert answer.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == ct.SOPInstanceUID
        assert "FailedSOPSequence" not in answer
        assert client.retrieve_instance(ct.StudyInstanceUID, ct.SeriesInstanceUID, ct.SOPInstanceUID) == ct
        assert httpx.delete(web + path_of(ct)).status_code == 204
        assert get(web + path_of(ct)).status_code == 404

    def body(self, *parts: bytes) -> tuple[bytes, dict[str, str]]:
        body = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for one in parts) + b"--b--"
        return body, {"content-type": 'multipart/related; type="application/dicom"; boundary=b'}

    def test_each_instance_has_its_outcome(self, web):
        body, headers = self.body(sample("CT_small.dcm").read_bytes(), b"no DICOM")
        answer = httpx.post(f"{web}/studies", content=body, headers=headers)
        assert answer.status_code == 202
        assert len(answer.json()["00081199"]["Value"]) == 1
        assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xC000]
        body, headers = self.body(b"no DICOM")
        assert httpx.post(f"{web}/studies", content=body, headers=headers).status_code == 409

    def test_an_instance_of_another_study_is_refused(self, web):
        body, headers = self.body(sample("CT_small.dcm").read_bytes())
        answer = httpx.post(f"{web}/studies/1.2.3", content=body, headers=headers)
        assert answer.status_code == 409
        assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0x0110]

    @pytest.mark.parametrize(
        ("body", "content_type", "status"),
        [
            (b"", "text/plain", 415),
            (b"", 'multipart/related; type="text/xml"; boundary=b', 415),
            (b"", 'multipart/related; type="application/dicom"', 400),
            (b"--b\r\n\r\nhalf", 'multipart/related; type="application/dicom"; boundary=b', 400),
        ],
    )
    def test_what_is_no_store(self, web, body, content_type, status):
        assert httpx.post(f"{web}/studies", content=body, headers={"content-type": content_type}).status_code == status


def test_the_web_is_for_this_machine_alone():
    assert parse_address("8042") == ("127.0.0.1", 8042)
    assert parse_address("[::1]:8042") == ("::1", 8042)
    for bad in ("pacs:", "x", "1:99999"):
        with pytest.raises(InvalidArgument):
            parse_address(bad)
