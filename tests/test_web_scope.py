"""What a user of the web may not see is not there: at every door of DICOMweb and WADO-URI, and not to be stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from io import BytesIO

import archives
import httpx
import numpy as np
import pydicom
import pytest
import web_archives
from argon2 import PasswordHasher
from pydicom.dataset import Dataset, FileMetaDataset

from dicomnet import uids
from dicomnet.cli.app import run
from dicomnet.errors import InvalidArgument
from dicomnet.repository.scope import ALL, Scope
from dicomnet.web.users import Users

PASSWORD = "correct horse"
#: Study 1 has a CT, an MR and a presentation state of the CT, of a patient without an issuer; study 2 a CT of WARD.
CT, MR, STATE, OF_WARD = "1.2.1.1", "1.2.1.2", "1.2.1.3", "1.2.2.1"
SEEN = {"all": {CT, MR, STATE, OF_WARD}, "ct": {CT, OF_WARD}, "pr": {STATE}, "ward": {OF_WARD}, "none": set()}
SLICES = 3
OF_SERIES = ["", "/metadata", "/rendered", "/thumbnail", "/surface?level=500"]
OF_INSTANCE = [
    "", "/metadata", "/rendered", "/thumbnail", "/frames/1", "/frames/1/rendered", "/frames/1/thumbnail",
    "/bulkdata/7FE00010",
]  # fmt: skip
DOORS = [*OF_SERIES, *(f"/instances/{{series}}.1{one}" for one in OF_INSTANCE)]


def study_of(series: str) -> str:
    return series.rpartition(".")[0]


def image(series: str, number: int, modality: str, issuer: str = "") -> Dataset:
    """A slice with a block in it that has a surface."""
    ds = Dataset()
    ds.SOPClassUID = uids.MR_IMAGE_STORAGE if modality == "MR" else uids.CT_IMAGE_STORAGE
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = study_of(series), series, f"{series}.{number}"
    ds.PatientID, ds.PatientName, ds.Modality, ds.InstanceNumber = f"P{study_of(series)}", "Doe", modality, number
    if issuer:
        ds.IssuerOfPatientID = issuer
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.FrameOfReferenceUID = [1, 1], "1.2.9"
    pixels = np.zeros((16, 16), "<u2")
    pixels[4:12, 4:12] = 1000 if number == 2 else 0
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 16, 16, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.add_new(0x7FE00010, "OW", pixels.tobytes())
    return ds


def state() -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = uids.GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE, f"{STATE}.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality, ds.InstanceNumber = study_of(STATE), STATE, "PR", 1
    ds.PatientID, ds.PatientName = f"P{study_of(STATE)}", "Doe"
    of, series = Dataset(), Dataset()
    of.ReferencedSOPClassUID, of.ReferencedSOPInstanceUID = uids.CT_IMAGE_STORAGE, f"{CT}.1"
    series.SeriesInstanceUID, series.ReferencedImageSequence = CT, [of]
    ds.ReferencedSeriesSequence = [series]
    return ds


def file_of(ds: Dataset) -> bytes:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = uids.EXPLICIT_VR_LITTLE_ENDIAN
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    out = BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def all_of_it() -> Iterator[Dataset]:
    for number in range(1, SLICES + 1):
        yield image(CT, number, "CT")
        yield image(MR, number, "MR")
        yield image(OF_WARD, number, "CT", "WARD")
    yield state()


@pytest.fixture(scope="module", autouse=True)
def quick():
    """A hash is to take long; not in every test."""
    hasher = partial(PasswordHasher, time_cost=1, memory_cost=64, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dicomnet.web.users.PasswordHasher", hasher)
        patch.setattr("dicomnet.cli.options.log_to_stderr", lambda verbosity: None)
        yield


@pytest.fixture
def web(tmp_path):
    """A client of an archive whose users are those of `SEEN`."""
    paths = []
    for ds in all_of_it():
        paths.append(tmp_path / f"{ds.SOPInstanceUID}.dcm")
        paths[-1].write_bytes(file_of(ds))
    users = Users(tmp_path / "users.json")
    for name, modalities, issuers in (
        ("all", (), ()), ("ct", ("CT",), ()), ("pr", ("PR",), ()), ("ward", (), ("WARD",)), ("none", ("US",), ("WARD",))
    ):  # fmt: skip
        users.put(name, PASSWORD, "administer", modalities=modalities, issuers=issuers)
    with web_archives.served(tmp_path / "archive", *paths, users=users) as (_, url), web_archives.client(url) as client:
        yield client


def asked(web: httpx.Client, name: str, path: str, **headers: str) -> httpx.Response:
    return web.get(path, auth=(name, PASSWORD), headers=headers)


def series_in(answer: httpx.Response) -> set[str]:
    """The series of an answer in DICOM JSON."""
    return {one["0020000E"]["Value"][0] for one in (answer.json() if answer.content else [])}


def instances_in(answer: httpx.Response) -> set[str]:
    """The series of the instances in an answer."""
    if answer.status_code == 404:
        return set()
    mark = answer.headers["content-type"].partition("boundary=")[2].strip('"').encode()
    if not mark:
        return {pydicom.dcmread(BytesIO(answer.content)).SeriesInstanceUID}
    parts = answer.content.split(b"--" + mark)[1:-1]
    return {pydicom.dcmread(BytesIO(part.partition(b"\r\n\r\n")[2])).SeriesInstanceUID for part in parts}


def test_every_door(web):
    for name, seen in SEEN.items():
        for series in (CT, MR, OF_WARD):
            for door in DOORS:
                path = f"/dicomweb/studies/{study_of(series)}/series/{series}{door.format(series=series)}"
                status = asked(web, name, path).status_code
                assert status == (200 if series in seen else 404), (name, path)
            query = f"studyUID={study_of(series)}&seriesUID={series}&objectUID={series}.1"
            for kind in ("image/jpeg", "application/dicom"):
                status = asked(web, name, f"/wado?requestType=WADO&{query}&contentType={kind}").status_code
                assert status == (200 if series in seen else 404), (name, query, kind)


def test_searches(web):
    for name, seen in SEEN.items():
        for path in ("/series", "/instances"):
            assert series_in(asked(web, name, f"/dicomweb{path}")) == seen, (name, path)
        for study in ("1.2.1", "1.2.2"):
            below = {one for one in seen if study_of(one) == study}
            for path in ("/series", "/instances"):
                assert series_in(asked(web, name, f"/dicomweb/studies/{study}{path}")) == below
        for series in (CT, MR, OF_WARD):
            found = asked(web, name, f"/dicomweb/studies/{study_of(series)}/series/{series}/instances")
            assert series_in(found) == {series} & seen
        studies = asked(web, name, "/dicomweb/studies")
        uids_found = {one["0020000D"]["Value"][0] for one in (studies.json() if studies.content else [])}
        assert uids_found == {study_of(one) for one in seen}
    (study,) = asked(web, "ct", "/dicomweb/studies?StudyInstanceUID=1.2.1").json()
    assert study["00080061"]["Value"] == ["CT"]
    assert asked(web, "ct", "/dicomweb/studies?ModalitiesInStudy=MR").status_code == 204


def test_a_study_is_given_as_far_as_it_is_seen(web):
    for name, seen in SEEN.items():
        below = {one for one in seen if study_of(one) == "1.2.1"}
        assert instances_in(asked(web, name, "/dicomweb/studies/1.2.1")) == below
        metadata = asked(web, name, "/dicomweb/studies/1.2.1/metadata")
        assert (series_in(metadata) if below else metadata.status_code) == (below or 404)
        if below != {STATE}:
            for door in ("rendered", "thumbnail"):
                status = asked(web, name, f"/dicomweb/studies/1.2.1/{door}").status_code
                assert status == (200 if below else 404), (name, door)


def test_what_stands_for_one_caller_is_not_given_to_another(web):
    """An entity tag is of what its caller saw."""
    path = "/dicomweb/studies/1.2.1/metadata"
    tag = asked(web, "all", path).headers["etag"]
    answer = asked(web, "ct", path, **{"if-none-match": tag})
    assert answer.status_code == 200
    assert answer.headers["etag"] != tag


def test_a_presentation_state_shows_no_hidden_image(web):
    path = f"/dicomweb/studies/1.2.1/series/{STATE}/instances/{STATE}.1"
    assert asked(web, "all", f"{path}/rendered").status_code == 200
    assert asked(web, "pr", f"{path}/metadata").status_code == 200
    assert asked(web, "pr", f"{path}/rendered").status_code == 404
    of = f"studyUID=1.2.1&seriesUID={CT}&objectUID={CT}.1&contentType=image/jpeg&presentationUID={STATE}.1"
    assert asked(web, "all", f"/wado?requestType=WADO&{of}").status_code == 200
    assert asked(web, "ct", f"/wado?requestType=WADO&{of}").status_code == 404


def test_deletion_is_of_what_is_seen(web):
    delete = partial(web.delete, auth=("ct", PASSWORD))
    assert delete(f"/dicomweb/studies/1.2.1/series/{MR}").status_code == 404
    assert delete("/dicomweb/studies/1.2.1").status_code == 204
    assert series_in(asked(web, "all", "/dicomweb/series")) == {MR, STATE, OF_WARD}


def stored(web: httpx.Client, name: str, *datasets: Dataset) -> tuple[int, dict[str, int]]:
    """The status, and the reason for each instance that was not stored."""
    body = b"".join(b"--mark\r\nContent-Type: application/dicom\r\n\r\n" + file_of(ds) + b"\r\n" for ds in datasets)
    headers = {"content-type": 'multipart/related; type="application/dicom"; boundary=mark'}
    answer = web.post("/dicomweb/studies", content=body + b"--mark--\r\n", headers=headers, auth=(name, PASSWORD))
    failed = answer.json().get("00081198", {}).get("Value", [])
    reasons = {one["00081155"]["Value"][0]: one["00081197"]["Value"][0] for one in failed}
    return answer.status_code, reasons


def test_only_what_is_seen_is_stored(web):
    ct, mr, of_ward = image("1.2.3.1", 1, "CT"), image("1.2.3.2", 1, "MR"), image("1.2.4.1", 1, "MR", "WARD")
    assert stored(web, "ct", ct, mr) == (202, {"1.2.3.2.1": 0x0124})
    assert stored(web, "ct", mr) == (409, {"1.2.3.2.1": 0x0124})
    assert stored(web, "ward", mr, of_ward) == (202, {"1.2.3.2.1": 0x0124})
    found = series_in(asked(web, "all", "/dicomweb/series"))
    assert {"1.2.3.1", "1.2.4.1"} <= found
    assert "1.2.3.2" not in found


@pytest.mark.parametrize("number", [1, 9])
def test_nothing_is_put_in_the_place_of_what_is_hidden(tmp_path, number):
    users = Users(tmp_path / "users.json")
    users.put("ct", PASSWORD, "operate", modalities=["CT"])
    users.put("all", PASSWORD, "operate")
    with (
        web_archives.served(tmp_path / "archive", users=users, duplicates="replace") as (_, url),
        web_archives.client(url) as web,
    ):
        assert stored(web, "all", image(MR, 1, "MR"), image(CT, 1, "CT")) == (200, {})
        before = instances_of(web, MR)
        assert stored(web, "ct", image(MR, number, "CT"), image(CT, 2, "CT")) == (202, {f"{MR}.{number}": 0x0124})
        assert instances_of(web, MR) == before


def instances_of(web: httpx.Client, series: str) -> list[tuple[str, str]]:
    """SOP class and instance of each."""
    found = asked(web, "all", f"/dicomweb/studies/{study_of(series)}/series/{series}/instances").json()
    return [(one["00080016"]["Value"][0], one["00080018"]["Value"][0]) for one in found]


def note(number: int = 1) -> Dataset:
    """A rejection note in the study of WARD, of an instance that is a CT of a patient without an issuer."""
    of, series, study, title = Dataset(), Dataset(), Dataset(), Dataset()
    of.ReferencedSOPClassUID, of.ReferencedSOPInstanceUID = uids.CT_IMAGE_STORAGE, f"{CT}.{number}"
    series.SeriesInstanceUID, series.ReferencedSOPSequence = CT, [of]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = study_of(CT), [series]
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = "113037", "DCM", "Rejected for Patient Safety"
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = uids.KEY_OBJECT_SELECTION_DOCUMENT_STORAGE, f"1.2.2.9.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = study_of(OF_WARD), "1.2.2.9", "KO"
    ds.PatientID, ds.PatientName, ds.IssuerOfPatientID = f"P{study_of(OF_WARD)}", "Doe", "WARD"
    ds.ConceptNameCodeSequence, ds.CurrentRequestedProcedureEvidenceSequence = [title], [study]
    return ds


@pytest.mark.parametrize(("treated", "expected"), [("quarantine", (409, {"1.2.2.9.1": 0x0124})), ("store", (200, {}))])
def test_who_sees_a_part_rejects_nothing(tmp_path, treated, expected):
    users = Users(tmp_path / "users.json")
    users.put("ward", PASSWORD, "operate", issuers=["WARD"])
    users.put("all", PASSWORD, "operate")
    with (
        web_archives.served(tmp_path / "archive", users=users, rejection_notes=treated) as (_, url),
        web_archives.client(url) as web,
    ):
        assert stored(web, "all", image(CT, 1, "CT"), image(OF_WARD, 1, "CT", "WARD")) == (200, {})
        assert stored(web, "ward", note()) == expected
        assert CT in series_in(asked(web, "all", "/dicomweb/series"))


def test_metadata_and_bulk_data_are_stored_by_the_same_rule(web):
    item = json.loads(image("1.2.5.1", 1, "MR").to_json())
    item["7FE00010"] = {"vr": "OW", "BulkDataURI": "pixels"}
    item["00020010"] = {"vr": "UI", "Value": [uids.EXPLICIT_VR_LITTLE_ENDIAN]}
    body = b"--mark\r\nContent-Type: application/dicom+json\r\n\r\n" + json.dumps([item]).encode()
    body += b"\r\n--mark\r\nContent-Type: application/octet-stream\r\nContent-Location: pixels\r\n\r\n" + bytes(512)
    headers = {"content-type": 'multipart/related; type="application/dicom+json"; boundary=mark'}
    for name, status in (("ct", 409), ("all", 200)):
        content = body + b"\r\n--mark--\r\n"
        answer = web.post("/dicomweb/studies", content=content, headers=headers, auth=(name, PASSWORD))
        assert answer.status_code == status, answer.text


class TestUsers:
    def test_the_scope_is_kept(self, tmp_path):
        users = Users(tmp_path / "users.json")
        users.put("ct", PASSWORD, "read", modalities=[" CT"], issuers=["WARD", ""])
        users.put("all", PASSWORD, "read")
        again = Users(tmp_path / "users.json")
        assert again.get("ct").scope == Scope(frozenset({"CT"}), frozenset({"WARD", ""}))
        assert again.get("all").scope == ALL

    @pytest.mark.parametrize(("modalities", "issuers"), [(["ct"], []), ([""], []), (["CT\\MR"], []), ([], ["A\\B"])])
    def test_what_is_none_is_refused(self, tmp_path, modalities, issuers):
        with pytest.raises(InvalidArgument, match="no modality, or no issuer"):
            Users(tmp_path / "users.json").put("ct", PASSWORD, "read", modalities=modalities, issuers=issuers)

    def test_a_scope_that_is_not_understood_lets_nobody_in(self, tmp_path):
        path = tmp_path / "users.json"
        Users(path).put("ct", PASSWORD, "read", modalities=["CT"])
        path.write_text(path.read_text().replace('"CT"', "17"))
        with pytest.raises(InvalidArgument, match="no file of users"):
            Users(path)

    def test_by_the_command(self, tmp_path, monkeypatch, capsys):
        directory = str(tmp_path / "archive")
        monkeypatch.setattr("dicomnet.cli.users._password", lambda: PASSWORD)
        archives.make(tmp_path / "archive")
        add = ["web", "user", "add", directory, "sono"]
        assert run([*add, "--modality", "US", "--modality", "SR", "--issuer", ""]) == 0
        assert "to search, retrieve, store, delete only, of SR, US, of patients of no issuer" in capsys.readouterr().out
        assert run([*add, "--role", "operate"]) == 0  # what is not named stays
        assert run(["web", "user", "list", directory, "--json"]) == 0
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (told["modalities"], told["issuers"], told["role"]) == (["SR", "US"], [""], "operate")
        assert "work" not in told["rights"]
        assert run([*add, "--modality", "US", "--right", "work", "--right", "search"]) == 0
        capsys.readouterr()
        assert run(["web", "user", "list", directory, "--json"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["rights"] == ["search", "work"]
