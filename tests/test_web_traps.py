"""What DICOMweb servers get wrong, as docs/contributing/dicomweb.md lists it: the traps that no other test is about."""

from __future__ import annotations

import io
from typing import Any

import archives
import cases
import httpx
import pydicom
import pytest
from web_archives import client, served

from dicomnet import uids
from dicomnet.client.multipart import Begun, PartReader
from dicomnet.web.media_types import parse

LITTLE = uids.EXPLICIT_VR_LITTLE_ENDIAN
SERIES = "/studies/1.2.1/series/1.2.1.1"


def post(http: httpx.Client, number: int, **keywords: Any) -> str:
    """Store an instance; its path."""
    headers = {"content-type": "application/dicom"}
    assert http.post("/studies", content=archives.part10(number, **keywords), headers=headers).status_code == 200
    study = keywords.get("study", 1)
    return f"/studies/1.2.{study}/series/1.2.{study}.1/instances/1.2.{study}.1.{number}"


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    directory = tmp_path_factory.mktemp("traps") / "archive"
    with served(directory) as (_, url), client(f"{url}/dicomweb") as http:
        post(http, 1, size=128, Rows=8, Columns=8, BitsAllocated=16, SamplesPerPixel=1)
        yield http


@cases.every("accept", [
    "application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*",
    'multipart/related; type="application/octet-stream"; transfer-syntax=*, application/dicom+json;q=0.1',
    "APPLICATION/DICOM+JSON", "application/*", "*/*", "text/html;q=0.9, application/json;q=0.2",
])  # fmt: skip
def test_what_viewers_accept_gets_metadata(web, accept):
    answer = web.get(f"{SERIES}/metadata", headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom+json")


@cases.every("accept", ["text/html", "application/dicom+json;q=0", "image/png, text/*"])
def test_what_there_is_not_is_not_acceptable(web, accept):
    assert web.get(f"{SERIES}/metadata", headers={"accept": accept}).status_code == 406


@cases.every("accept", [
    'multipart/related; type="application/octet-stream"; transfer-syntax="*"',
    "multipart/related; type=application/octet-stream; transfer-syntax=*",
    'Multipart/Related; Type="application/octet-stream"',
])  # fmt: skip
def test_each_part_says_what_it_is(web, accept):
    answer = web.get(f"{SERIES}/instances/1.2.1.1.1/frames/1", headers={"accept": accept})
    content = parse(answer.headers["content-type"])
    assert (content.type, content.inner) == ("multipart/related", "application/octet-stream")
    begun = [one for one in PartReader(content.parameters["boundary"]).feed(answer.content, last=True) if one]
    assert isinstance(begun[0], Begun)
    assert begun[0].headers["content-type"] == f"application/octet-stream; transfer-syntax={LITTLE}"
    assert len(content.parameters["boundary"]) > 40


def test_entity_tags_change_with_every_change(web):
    def tags() -> tuple[str, str]:
        return web.get("/studies/1.2.2/metadata").headers["etag"], web.get("/studies/1.2.2").headers["etag"]

    post(web, 1, study=2)
    seen = [tags()]
    second = post(web, 2, study=2)
    seen.append(tags())
    assert web.delete(second).status_code == 204
    seen.append(tags())
    assert len({metadata for metadata, _ in seen}) == 3
    assert seen[0][1] != seen[1][1] != seen[2][1]


def test_decimals_and_integers_are_exact(web):
    thick, number = "0.12345678901234", "2147483647"
    path = post(web, 1, study=3, SliceThickness=thick, AcquisitionNumber=number, WindowCenter=["1.50", "-1e-7"])
    (found,) = web.get(f"{path}/metadata").json()
    assert found["00180050"]["Value"] == [float(thick)]
    assert found["00200012"]["Value"] == [int(number)]
    assert found["00281050"]["Value"] == [1.5, -1e-7]
    stored: Any = pydicom.dcmread(io.BytesIO(web.get(path, headers={"accept": "application/dicom"}).content))
    assert [one.original_string for one in stored.WindowCenter] == ["1.50", "-1e-7"]


def test_pages_stay_what_they_are_while_studies_come(web):
    """A study that comes between two pages takes none of another's place."""
    known = {f"1.2.{study}" for study in range(10, 15)}
    for study in range(10, 15):
        post(web, 1, study=study)
    found: list[str] = []
    for page in range(20):
        answer = web.get(f"/studies?limit=2&offset={2 * page}")
        if answer.status_code == 204:
            break
        found += [one["0020000D"]["Value"][0] for one in answer.json()]
        if page < 3:
            post(web, 1, study=20 + page)
    assert len(found) == len(set(found))
    assert known <= set(found)
