"""De-identified on its way: nothing of the patient is left, the same becomes the same, a note says what was done."""

from __future__ import annotations

import functools
import random
import re

import peers
import pydicom
import pytest
from routers import CT, address, everything_to, part10, routing, send, settled

from dicomnet.client import StoreScu
from dicomnet.dataset import codec
from dicomnet.errors import DicomNetError
from dicomnet.files.part10 import meta_header
from dicomnet.router.plan import Plan, PlanInvalid
from dicomnet.testing import Provider

MARKS = {
    "PatientName": "Xyzzyname^Plughname", "PatientID": "XYZZYID", "PatientBirthDate": "19610203",
    "OtherPatientIDs": "OTHERXYZZY", "PatientAddress": "Xyzzystreet", "ReferringPhysicianName": "Plughdoctor",
    "AccessionNumber": "ACCXYZZY", "InstitutionName": "Xyzzyhospital",
}  # fmt: skip


def deidentifying(rules, more=""):
    return rules.replace("actions = [", f'actions = [{{ do = "deidentify"{more} }}, ')


def test_nothing_of_a_patient_is_left_in_the_bytes_of_real_files(tmp_path):
    rules = deidentifying(everything_to(F=f'kind = "folder"\npath = "{tmp_path}/out"'))
    sent = 0
    with routing(tmp_path / "router", rules) as router:
        sources = list(_marked())
        with StoreScu(f"ROUTER@127.0.0.1:{router.listener.address[1]}") as scu:
            sent = sum(result.ok for result in scu.send(sources))
        found = settled(router)["F"]
    files = list((tmp_path / "out").rglob("*.dcm"))
    assert 60 < len(files) <= found["sent"], "some of them share their UIDs, and bytes"
    assert found["sent"] + found.get("parked", 0) == sent
    for file in files:
        data, name = file.read_bytes(), str(file)
        for mark in MARKS.values():
            for part in mark.replace("^", " ").split():
                assert part.encode() not in data, (file, part)
                assert part not in name


def _marked():
    """Real files, with words in them that are looked for afterwards, nested and private too."""
    for path in peers.sample_files():
        try:
            with codec.open_source(str(path)) as source:
                data, syntax = b"".join(map(bytes, source.chunks(2))), source.transfer_syntax_uid
            dataset = codec.decode(data, syntax)
            for keyword, value in MARKS.items():
                setattr(dataset, keyword, value)
            nested = codec.from_keywords({"ScheduledProcedureStepDescription": "Xyzzyname"})
            dataset.RequestAttributesSequence = [nested]
            dataset.private_block(0x0099, "ROUTER TEST", create=True).add_new(1, "LO", "Plughname")
            encoded = codec.encode(dataset, syntax)
        except (DicomNetError, ValueError, TypeError, AttributeError):
            continue
        uids = str(dataset.get("SOPClassUID", CT)), str(dataset.SOPInstanceUID)
        yield meta_header(*uids, syntax, "TESTER") + encoded


IDENTIFYING = (
    "PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs", "OtherPatientNames", "PatientAddress",
    "PatientTelephoneNumbers", "PatientMotherBirthName", "IssuerOfPatientID", "ReferringPhysicianName",
    "PerformingPhysicianName", "OperatorsName", "NameOfPhysiciansReadingStudy", "RequestingPhysician",
    "PhysiciansOfRecord", "AccessionNumber", "InstitutionName", "InstitutionAddress", "StationName", "StudyID",
    "DeviceSerialNumber", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "InstanceCreationDate",
    "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID",
)  # fmt: skip
SHORTEST = 5  # bytes of a value that pixels do not have by chance
PATIENTS_OF_EACH = 4  # of each file: some are told that it is of other patients


@pytest.mark.long
@pytest.mark.deadline(1200)
def test_nothing_of_a_patient_is_left_in_five_hundred_real_files(tmp_path):
    """What identifies in the file itself, and what a generated patient is called, nested, private and in its character
    set, is looked for in the bytes of what leaves."""
    rules = deidentifying(everything_to(F=f'kind = "folder"\npath = "{tmp_path}/out"'), ", burned_in = true")
    values = set()
    with routing(tmp_path / "router", rules) as router:
        with StoreScu(f"ROUTER@127.0.0.1:{router.listener.address[1]}") as scu:
            sources = (one for one, its in _of_patients(tmp_path) if not values.update(its))
            sent = sum(result.ok for result in scu.send(sources))
        assert settled(router, 600) == {"F": {"sent": sent}}
    assert sent >= 500
    files = list((tmp_path / "out").rglob("*.dcm"))
    assert len(files) == sent
    assert len(values) > 1000
    found = [(file.name, value) for file in files for value in _found(file, values)]
    assert found == []


def _found(file, values):
    """What of the values is in a file, or in its path; numbers as words, since long UIDs have any digits in a row."""
    data, name = file.read_bytes(), str(file).encode()
    words = set(re.findall(rb"[0-9]+", data))
    short = {one for one in values if one.isdigit() and len(one) < 10}
    return [*(short & words), *(one for one in values - short if one in data or one in name)]


def _of_patients(tmp_path):
    """Real files under new UIDs, each of several generated patients: Part 10 bytes, and all that identifies."""
    for path in peers.sample_files():
        for number in range(PATIENTS_OF_EACH):
            try:
                with codec.open_source(str(path)) as source:
                    data, syntax = b"".join(map(bytes, source.chunks(2))), source.transfer_syntax_uid
                dataset = codec.decode(data, syntax)
                values = _values_of(dataset)
                _become(dataset, f"{path.name} {number}")
                values |= _values_of(dataset)
                encoded = codec.encode(dataset, syntax)
            except (DicomNetError, ValueError, TypeError, AttributeError):
                break
            uids = str(dataset.get("SOPClassUID", CT)), str(dataset.SOPInstanceUID)
            yield meta_header(*uids, syntax, "TESTER") + encoded, values


def _become(dataset, seed):
    """It is of another patient: nothing in it says so but what is looked for afterwards."""
    chance = random.Random(seed)
    names = {"ISO_IR 100": "Müßigbrodt^Zoë", "ISO_IR 192": "山田^太郎Ünlü", "ISO_IR 144": "Люкceмбypг^Ивáн"}
    charset = str(dataset.get("SpecificCharacterSet", "") or "ISO_IR 100")
    dataset.SpecificCharacterSet = charset if charset in names else "ISO_IR 100"
    name = f"{names.get(charset, names['ISO_IR 100'])}{chance.randrange(10**6)}"
    made = {
        "PatientName": name, "PatientID": f"PID{chance.randrange(10**9)}",
        "OtherPatientIDs": f"O{chance.randrange(10**9)}",
        "PatientBirthDate": f"19{chance.randrange(10, 99)}1{chance.randrange(3)}{chance.randrange(10, 29)}",
        "PatientAddress": f"{chance.randrange(10**6)} Elm Street",
        "PatientTelephoneNumbers": f"+49{chance.randrange(10**9)}",
        "ReferringPhysicianName": f"Doctor{chance.randrange(10**6)}", "AccessionNumber": f"A{chance.randrange(10**9)}",
        "SOPInstanceUID": f"2.25.{chance.getrandbits(120)}", "StudyInstanceUID": f"2.25.{chance.getrandbits(120)}",
    }  # fmt: skip
    for keyword, value in made.items():
        setattr(dataset, keyword, value)
    nested = codec.from_keywords({"PatientName": name, "PatientID": made["PatientID"]})
    nested.SpecificCharacterSet = dataset.SpecificCharacterSet
    dataset.ReferencedPatientSequence = [nested]
    dataset.private_block(0x0099, "ROUTER TEST", create=True).add_new(1, "LO", made["PatientID"])
    dataset.ImageComments = f"of {made['PatientID']}"


@functools.cache
def _makers():
    """What makers and models are called, which stays: some houses in these files are called so, too."""
    found = set()
    for path in peers.sample_files():
        dataset = pydicom.dcmread(
            path, stop_before_pixels=True, specific_tags=["Manufacturer", "ManufacturerModelName"]
        )
        found |= {str(one.value).casefold() for one in dataset}
    return found


def _values_of(dataset):
    """What identifies, in its parts, as bytes of each character set that is used; a maker may name a house, too."""
    kept = _makers()
    found = set()
    for element in dataset.iterall():
        if element.keyword not in IDENTIFYING or not element.value:
            continue
        for value in element.value if element.VM > 1 else [element.value]:
            for part in {str(value), *str(value).replace("^", " ").split()}:
                if len(part) >= SHORTEST and not any(part.casefold() in one for one in kept):
                    found |= {part.encode(charset, "replace") for charset in ("latin-1", "utf-8", "iso8859_5")
                              if "?" not in part.encode(charset, "replace").decode(charset)}  # fmt: skip
    return found


def test_the_same_patient_becomes_the_same_on_two_nodes_with_one_key(tmp_path):
    key = tmp_path / "key"
    key.mkdir()
    found = []
    with Provider("A") as archive:
        rules = deidentifying(everything_to(A=address(archive.peer)), f', options = ["shifted"], key = "{key}"')
        for node in ("1", "2"):
            with routing(tmp_path / node, rules) as router:
                send(router, part10(1))
                settled(router)
                found.append(archive.received[-1].dataset)
                [item] = router.spool.queue.items()
                assert item.why.startswith("de-identified: ")
                assert "P1" not in item.why
    assert found[0] == found[1]
    first = found[0]
    assert first.PatientID not in ("P1", "")
    assert first.SOPInstanceUID != "1.2.1.1.1"
    assert first.PatientIdentityRemoved == "YES"
    assert "Modified Dates" in str(first.DeidentificationMethod)


def test_what_has_text_burned_in_is_parked_and_others_go_on(tmp_path):
    with Provider("A") as archive, routing(tmp_path, deidentifying(everything_to(A=address(archive.peer)))) as router:
        send(router, part10(1, size=64, BurnedInAnnotation="YES"), part10(2))
        assert settled(router) == {"A": {"parked": 1, "sent": 1}}
        assert "burned into the pixels" in router.spool.queue.items()[0].why


def test_an_option_that_there_is_not_is_refused_when_the_rule_is_saved():
    with pytest.raises(PlanInvalid, match='"shift" is no option of de-identification'):
        Plan.read({"rules": [{"name": "x", "actions": [{"do": "deidentify", "options": ["shift"]}]}]})
