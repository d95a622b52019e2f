"""Data sets as XML: what DCMTK's dcm2xml writes of the same files, for metadata and for answers to searches."""

from __future__ import annotations

import subprocess
from typing import Any
from xml.etree import ElementTree

import peers
import pydicom
import pytest
from web_archives import client, element, served

from dicomnet.client.multipart import Begun, PartReader
from dicomnet.web.media_types import parse
from dicomnet.web.native_xml import native_xml

XML = 'multipart/related; type="application/dicom+xml"'
NAMES = ("CT_small.dcm", "rtplan.dcm", "test-SR.dcm", "MR_small.dcm", "chrH31.dcm", "examples_palette.dcm")
FILES = [path for path in peers.sample_files() if path.name in NAMES]
NAMESPACE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
# What dcm2xml has and metadata do not: pixels, and padding behind them; and what we say of our own.
NOT_COMPARED = {"00080005", "00083002", "7FE00010", "FFFCFFFC"}


def parts(answer: Any) -> list[ElementTree.Element]:
    """The documents of an answer."""
    content = parse(answer.headers["content-type"])
    assert (content.type, content.inner) == ("multipart/related", "application/dicom+xml")
    found: list[bytes] = []
    for event in PartReader(content.parameters["boundary"]).feed(answer.content, last=True):
        if isinstance(event, Begun):
            assert event.headers["content-type"] == "application/dicom+xml"
            found.append(b"")
        elif event:
            found[-1] += event
    return [ElementTree.fromstring(one) for one in found]


def plain(parent: ElementTree.Element) -> dict[str, Any]:
    """Attributes by tag and creator: VR, and values as text, numbers as numbers; bytes by their presence alone."""
    found = {}
    for one in parent:
        names = one.attrib
        if one.tag.removeprefix(NAMESPACE) != "DicomAttribute" or names["tag"] in NOT_COMPARED:
            continue
        if names["tag"].startswith("0002") or names["tag"].endswith("0000"):
            continue
        found[names["tag"], names.get("privateCreator", "")] = names["vr"], [value(child, names["vr"]) for child in one]
    return found


def value(one: ElementTree.Element, vr: str) -> Any:
    name = one.tag.removeprefix(NAMESPACE)
    if name == "Item":
        return plain(one)
    if name in ("BulkData", "InlineBinary"):
        return "bytes"
    if name == "PersonName":
        return [(part.tag.removeprefix(NAMESPACE), part.text) for group in one for part in group]
    if vr in ("DS", "IS", "FD", "FL", "SL", "SS", "UL", "US", "SV", "UV"):
        return pytest.approx(float(one.text or "nan"), rel=1e-6)
    return (one.text or "").strip()


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    with served(tmp_path_factory.mktemp("xml") / "archive", *FILES) as (_, url), client(f"{url}/dicomweb") as http:
        yield http


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_metadata_are_what_dcm2xml_writes(web, path):
    program = peers.peer_program("dcm2xml")
    written = subprocess.run([program, "-nat", "+Ca", "latin-1", str(path)], capture_output=True, check=True).stdout
    wanted = plain(ElementTree.fromstring(written))
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    for address in (
        f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}/metadata",
        f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/metadata",
    ):
        (found,) = (one for one in parts(web.get(address, headers={"accept": XML})) if uid(one) == ds.SOPInstanceUID)
        assert plain(found) == wanted


def uid(document: ElementTree.Element) -> str:
    return document.findtext(f"{NAMESPACE}DicomAttribute[@keyword='SOPInstanceUID']/{NAMESPACE}Value") or ""


def test_a_search_is_answered_in_xml(web):
    found = parts(web.get("/studies?PatientID=1CT1", headers={"accept": "application/dicom+xml"}))
    assert len(found) == 1
    assert found[0].findtext(f"{NAMESPACE}DicomAttribute[@keyword='PatientID']/{NAMESPACE}Value") == "1CT1"
    assert web.get("/studies?PatientID=1CT1").headers["content-type"] == "application/dicom+json"


def test_what_xml_cannot_have_is_replaced():
    document = ElementTree.fromstring(native_xml({"00104000": element("LT", "a\x01b<&>")}))
    assert document.findtext(f"{NAMESPACE}DicomAttribute/{NAMESPACE}Value") == "a\N{REPLACEMENT CHARACTER}b<&>"


def test_values_that_are_empty_keep_their_numbers():
    document = ElementTree.fromstring(native_xml({"00080008": element("CS", "A", None, "C")}))
    assert [one.get("number") for one in document.iter(f"{NAMESPACE}Value")] == ["1", "3"]
