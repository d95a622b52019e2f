"""STOW-RS of metadata with bulk data: what is retrieved so is stored so, and what is missing fails its instance."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import archives
import httpx
import numpy as np
import peers
import pydicom
import pytest
from web_archives import client, element, served

from dicomnet import uids
from dicomnet.client.multipart import Begun, Part, PartReader, written
from dicomnet.web import bodies, store
from dicomnet.web.media_types import parse
from dicomnet.web.native_xml_reader import item_of_xml
from dicomnet.web.problems import Problem

NAMES = ("CT_small.dcm", "JPEG2000.dcm", "rtdose.dcm", "rtplan.dcm", "examples_palette.dcm")
FILES = [path for path in peers.sample_files() if path.name in NAMES]
JSON, XML = "application/dicom+json", "application/dicom+xml"
ATTRIBUTE = '<NativeDicomModel><DicomAttribute tag="00280010" vr="US">{}</DicomAttribute></NativeDicomModel>'
NESTED = (
    "<NativeDicomModel>"
    + 2000 * '<DicomAttribute tag="00081110" vr="SQ"><Item number="1">'
    + 2000 * "</Item></DicomAttribute>"
    + "</NativeDicomModel>"
)
MARK = "b0undary"
HEADERS = {"content-type": f'multipart/related; type="{JSON}"; boundary={MARK}'}


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    directory = tmp_path_factory.mktemp("described") / "archive"
    with served(directory, *FILES) as (_, url), client(f"{url}/dicomweb") as http:
        yield http


def post(http: httpx.Client, items: list[Any], *bulk: Part) -> httpx.Response:
    parts = [Part(JSON, [json.dumps(items).encode()]), *bulk]
    return http.post("/studies", content=b"".join(written(parts, MARK)), headers=HEADERS)


def retrieved(http: httpx.Client, path: str) -> tuple[dict[str, Any], list[Part]]:
    """Metadata of an instance, and its bulk data as parts; a compressed one frame by frame."""
    (item,) = http.get(f"{path}/metadata").json()
    parts = []
    for found in item.values():
        uri = found.get("BulkDataURI", "")
        if uri.endswith("7FE00010"):
            frames = ",".join(map(str, range(1, int(item.get("00280008", {}).get("Value", [1])[0]) + 1)))
            answer = http.get(
                f"{path}/frames/{frames}",
                headers={"accept": 'multipart/related; type="application/octet-stream"; transfer-syntax=*'},
            )
            parts += [Part(kind, [content], uri) for kind, content in parts_of(answer)]
        elif uri:
            parts.append(Part("application/octet-stream", [http.get(f"{path}/{uri}").content], uri))
    return item, parts


def parts_of(answer: httpx.Response) -> list[tuple[str, bytes]]:
    mark, found = parse(answer.headers["content-type"]).parameters["boundary"], list[tuple[str, bytes]]()
    for event in PartReader(mark).feed(answer.content, last=True):
        if isinstance(event, Begun):
            found.append((event.headers["content-type"], b""))
        elif event:
            found[-1] = found[-1][0], found[-1][1] + event
    return found


def path_of(ds: Any) -> str:
    return f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_retrieved_can_be_stored_again(web, path: Path):
    before: Any = pydicom.dcmread(path)
    item, bulk = retrieved(web, path_of(before))
    uid = f"1.2.7.{FILES.index(path)}"
    item["0020000D"] = item["0020000E"] = item["00080018"] = element("UI", uid)
    answer = post(web, [item], *bulk)
    assert answer.status_code == 200, answer.text
    assert answer.json()["00081199"]["Value"][0]["00081155"]["Value"] == [uid]
    content = web.get(f"/studies/{uid}/series/{uid}/instances/{uid}", headers={"accept": "application/dicom"}).content
    after: Any = pydicom.dcmread(io.BytesIO(content))
    native = uids.EXPLICIT_VR_LITTLE_ENDIAN
    syntax = before.file_meta.TransferSyntaxUID
    assert after.file_meta.TransferSyntaxUID == (syntax if syntax.is_compressed else native)
    changed = {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SpecificCharacterSet", "PixelData"}
    for one in before:
        if one.keyword not in changed and one.tag.element and one.tag < 0x7FE00010:
            assert after[one.tag].value == one.value, one
    if "PixelData" in before:
        assert np.array_equal(after.pixel_array, before.pixel_array)


def as_xml(http: httpx.Client, path: str) -> bytes:
    answer = http.get(f"{path}/metadata", headers={"accept": 'multipart/related; type="application/dicom+xml"'})
    ((kind, document),) = parts_of(answer)
    assert kind == XML
    return document


def as_text(item: dict[str, Any]) -> dict[str, Any]:
    """Decimals and integers as strings, which both models may have."""

    def told(vr: str, value: Any) -> Any:
        if vr == "SQ":
            return as_text(value or {})
        if vr == "PN":  # empty components at the end are none of the native model
            return {group: text.rstrip("^") for group, text in (value or {}).items()} or None
        return float(value) if vr in ("DS", "IS") and value is not None else value

    def values(one: dict[str, Any]) -> list[Any]:
        return [told(one["vr"], value) for value in one.get("Value", [])]

    return {tag: one | ({"Value": values(one)} if values(one) else {}) for tag, one in item.items()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_xml_says_what_json_says(web, path: Path):
    where = path_of(pydicom.dcmread(path))
    (item,) = web.get(f"{where}/metadata").json()
    assert as_text(item_of_xml(as_xml(web, where))) == as_text(item)


def test_what_is_retrieved_as_xml_can_be_stored_again(web):
    before: Any = pydicom.dcmread(next(path for path in FILES if path.name == "CT_small.dcm"))
    _, bulk = retrieved(web, path_of(before))
    document = as_xml(web, path_of(before)).replace(before.SOPInstanceUID.encode(), b"1.2.17.1")
    document = document.replace(before.StudyInstanceUID.encode(), b"1.2.17")
    document = document.replace(before.SeriesInstanceUID.encode(), b"1.2.17.0")
    headers = {"content-type": f'multipart/related; type="{XML}"; boundary={MARK}'}
    body = b"".join(written([Part(XML, [document]), *bulk], MARK))
    assert web.post("/studies", content=body, headers=headers).status_code == 200
    path = "/studies/1.2.17/series/1.2.17.0/instances/1.2.17.1"
    content = web.get(path, headers={"accept": "application/dicom"}).content
    after: Any = pydicom.dcmread(io.BytesIO(content))
    assert np.array_equal(after.pixel_array, before.pixel_array)
    assert after.PatientName == before.PatientName
    assert after.PixelSpacing == before.PixelSpacing
    private = [one.tag for one in before if one.tag.is_private]
    assert private
    assert [after[tag].value for tag in private] == [before[tag].value for tag in private]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<a", "no"), ("<a/>", "NativeDicomModel"), ("<!DOCTYPE a><NativeDicomModel/>", "document type"),
        ("<NativeDicomModel><x/></NativeDicomModel>", "DicomAttribute"),
        ('<NativeDicomModel><DicomAttribute tag="1"/></NativeDicomModel>', "tag"),
        (ATTRIBUTE.format('<Value number="9999999">1</Value>'), "numbered"),
        (ATTRIBUTE.format('<Value number="0">1</Value>'), "numbered"),
        (ATTRIBUTE.format("<Value>one</Value>"), "number"), (ATTRIBUTE.format("<Odd/>"), "no value"),
        (NESTED, "too deep"),
    ],
)  # fmt: skip
def test_what_is_no_native_model(web, text, words):
    headers = {"content-type": f'multipart/related; type="{XML}"; boundary={MARK}'}
    answer = web.post("/studies", content=b"".join(written([Part(XML, [text.encode()])], MARK)), headers=headers)
    assert answer.status_code == 400
    assert words in answer.json()["detail"]


def test_each_instance_has_its_outcome(web):
    good = {
        "00080016": element("UI", uids.CT_IMAGE_STORAGE), "00080018": element("UI", "1.2.8.1"),
        "0020000D": element("UI", "1.2.8"), "0020000E": element("UI", "1.2.8.0"), "00100020": element("LO", "P8"),
        "00180050": element("DS", 0.12345678901234567),
    }  # fmt: skip
    lost = good | {"00080018": element("UI", "1.2.8.2"), "7FE00010": {"vr": "OW", "BulkDataURI": "nowhere"}}
    nameless = {tag: one for tag, one in good.items() if tag != "00080018"}
    answer = post(web, [good, lost, nameless])
    assert answer.status_code == 202
    assert [one["00081155"]["Value"] for one in answer.json()["00081199"]["Value"]] == [["1.2.8.1"]]
    failed = answer.json()["00081198"]["Value"]
    assert [one["00081197"]["Value"] for one in failed] == [[0xC000], [0xC000]]
    assert failed[0]["00081155"]["Value"] == ["1.2.8.2"]
    (thickness,) = web.get("/studies/1.2.8/metadata").json()[0]["00180050"]["Value"]
    assert thickness == pytest.approx(0.12345678901234, abs=1e-13)
    assert post(web, [lost]).status_code == 409


def test_what_is_no_metadata(web, monkeypatch):
    nothing = Part("application/octet-stream", [b"x"])
    assert post(web, [{}], nothing).json()["parameter"] == "Content-Location"
    for text in (b"{", b"[1]", b'[{"1": {}}]', b'[{"00100020": {"vr": "LO", "Value": 1}}]'):
        body = b"".join(written([Part(JSON, [text])], MARK))
        assert web.post("/studies", content=body, headers=HEADERS).status_code == 400
    assert web.post("/studies", content=b"".join(written([], MARK)), headers=HEADERS).status_code == 400
    monkeypatch.setattr(store, "MOST_DESCRIBED", 1000)
    assert post(web, [{}], Part("application/octet-stream", [bytes(2000)], "x")).status_code == 413


def test_metadata_are_read_beside_the_loop(web, monkeypatch):
    """They may be large, and all other requests wait while the loop does."""
    calls, loops = [], []

    def read(content: bytes) -> list[Any]:
        calls.append(len(content))
        with suppress(RuntimeError):
            loops.append(asyncio.get_running_loop())
        return bodies.json_items(content)

    monkeypatch.setattr(store, "json_items", read)
    assert post(web, [{}]).status_code == 409
    assert len(calls) == 1
    assert not loops


def test_the_log_says_why_an_instance_is_refused(web, caplog):
    """By its UID, with nothing else of what it says."""
    lost = {
        "00080016": element("UI", uids.CT_IMAGE_STORAGE), "00080018": element("UI", "1.2.8.7"),
        "00100020": element("LO", "SECRET"), "7FE00010": {"vr": "OW", "BulkDataURI": "nowhere"},
    }  # fmt: skip
    with caplog.at_level("WARNING", "dicomnet.web"):
        assert post(web, [lost]).status_code == 409
        kind = {"content-type": "application/dicom"}
        file = archives.part10(1, PatientID="SECRET")
        assert web.post("/studies/9.9", content=file, headers=kind).status_code == 409
        assert web.post("/studies", content=b"no instance", headers=kind).status_code == 409
    start = "STOW-RS: the instance"
    assert [one.getMessage() for one in caplog.records if one.getMessage().startswith(start)][:2] == [
        f"{start} 1.2.8.7 is not stored (0xC000): a value has no part with its Content-Location",
        f"{start} 1.2.1.1.1 is not stored (0x0110): it is of another study than the path names",
    ]
    assert f"{start} without a valid UID is not stored (0xC000): " in caplog.text
    assert "SECRET" not in caplog.text


def model(*attributes: str) -> bytes:
    return f"<NativeDicomModel>{''.join(attributes)}</NativeDicomModel>".encode()


def test_an_attribute_may_go_by_its_keyword_alone():
    item = item_of_xml(model('<DicomAttribute keyword="PatientID"><Value number="1">P1</Value></DicomAttribute>'))
    assert item == {"00100020": {"vr": "LO", "Value": ["P1"]}}


def test_a_value_without_text_is_none_and_keeps_its_place():
    values = '<Value number="1"/><Value number="2">B</Value>'
    item = item_of_xml(model(f'<DicomAttribute tag="00080008" vr="CS">{values}</DicomAttribute>'))
    assert item["00080008"]["Value"] == [None, "B"]


def test_a_tag_that_no_dictionary_has_is_of_unknown_vr():
    item = item_of_xml(model('<DicomAttribute tag="00099999"><InlineBinary>AAE=</InlineBinary></DicomAttribute>'))
    assert item["00099999"] == {"vr": "UN", "InlineBinary": "AAE="}


def test_private_attributes_get_a_block_of_their_creator():
    one = '<DicomAttribute tag="0009{}01" vr="LO" privateCreator="{}"><Value number="1">{}</Value></DicomAttribute>'
    item = item_of_xml(model(one.format("00", "A", "a"), one.format("00", "B", "b")))
    assert {tag: element["Value"] for tag, element in item.items()} == {
        "00090010": ["A"], "00090011": ["B"], "00091001": ["a"], "00091101": ["b"],
    }  # fmt: skip
    many = [one.format("00", f"C{number}", number) for number in range(300)]
    with pytest.raises(Problem, match="too many private creators"):
        item_of_xml(model(*many))
