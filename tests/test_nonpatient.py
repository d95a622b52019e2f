"""Hanging protocols, colour palettes and implant templates of an archive, with pynetdicom as the other."""

from __future__ import annotations

import archives
import peers
import pytest
from programs import run_here
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset

import dicomnet as dn
from dicomnet import uids
from dicomnet.archive.archive import Archive
from dicomnet.dataset import codec
from dicomnet.files.instance_source import BytesSource
from dicomnet.repository.database import MOST_VALUES
from dicomnet.repository.intake import Duplicates
from dicomnet.repository.nonpatient import CLASSES, NonPatientObjects
from dicomnet.services import presentation_contexts, query_models

CODE = {"CodeValue": "C1", "CodingSchemeDesignator": "99X", "CodeMeaning": "One"}
#: By model: what an object says, a key that finds it, and one that does not.
OBJECTS = {
    "HANGING_PROTOCOL": (
        {
            "HangingProtocolName": "Chest CT", "HangingProtocolLevel": "SITE", "NumberOfPriorsReferenced": 1,
            "HangingProtocolDefinitionSequence": [{"Modality": "CT", "ProcedureCodeSequence": [CODE]}],
        },
        {"HangingProtocolName": "Chest*", "HangingProtocolDefinitionSequence": [{"Modality": "CT"}],
         "NumberOfPriorsReferenced": 1},
        {"HangingProtocolDefinitionSequence": [{"Modality": "MR"}]},
    ),
    "COLOR_PALETTE": (
        {"ContentLabel": "HOT_IRON", "ContentDescription": "Hot iron", "RedPaletteColorLookupTableData": b"\1\2" * 256},
        {"ContentLabel": "HOT*"}, {"ContentLabel": "PET"},
    ),
    "GENERIC_IMPLANT": (
        {"Manufacturer": "ACME", "ImplantName": "Hip", "ImplantSize": "12", "EffectiveDateTime": "20260101",
         "MaterialsCodeSequence": [CODE]},
        {"Manufacturer": "AC*", "EffectiveDateTime": "2025-2027", "MaterialsCodeSequence": [{"CodeValue": "C1"}]},
        {"ImplantName": "Knee"},
    ),
    "IMPLANT_ASSEMBLY": (
        {"Manufacturer": "ACME", "ImplantAssemblyTemplateName": "Set", "SurgicalTechnique": "Open"},
        {"SurgicalTechnique": "Op?n"}, {"SurgicalTechnique": "Closed"},
    ),
    "IMPLANT_GROUP": (
        {"ImplantTemplateGroupName": "Hips", "ImplantTemplateGroupIssuer": "ACME"},
        {"ImplantTemplateGroupName": "Hips"}, {"ImplantTemplateGroupIssuer": "Others"},
    ),
}  # fmt: skip
MODELS = pytest.mark.parametrize("model", OBJECTS)


def an_object(model: str, **more: object) -> Dataset:
    uid = f"1.2.7.{list(OBJECTS).index(model) + 1}"
    named = {"SOPClassUID": CLASSES[model][0], "SOPInstanceUID": uid}
    dataset = codec.from_keywords(OBJECTS[model][0] | named | more)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uids.EXPLICIT_VR_LITTLE_ENDIAN
    return dataset


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    directory = tmp_path_factory.mktemp("nonpatient") / "archive"
    with Archive(directory, archives.make(directory)) as archive:
        contexts = presentation_contexts.sop_classes(*(CLASSES[model][0] for model in OBJECTS))
        with dn.connect(peer_of(archive), contexts=contexts) as association:
            for model in OBJECTS:
                assert association.store(an_object(model)).status.is_success
        yield archive


def peer_of(archive: Archive) -> str:
    return f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}"


@MODELS
def test_our_user_finds_and_gets_them(archive, model):
    _, found, other = OBJECTS[model]
    uid = an_object(model).SOPInstanceUID
    one = query_models.model_of(model)
    kept = []
    with dn.connect(peer_of(archive), contexts=presentation_contexts.sop_classes(one.find)) as association:
        matches = list(association.find("", model=model, SOPInstanceUID=None, **found))
        assert [match.dataset.SOPInstanceUID for match in matches] == [uid]
        assert list(association.find("", model=model, SOPInstanceUID=None, **other)) == []
    contexts = [*presentation_contexts.sop_classes(one.get)]
    contexts += [dn.contexts.ProposedContext(CLASSES[model][0], (uids.EXPLICIT_VR_LITTLE_ENDIAN,), scu=False, scp=True)]
    with dn.connect(peer_of(archive), contexts=contexts) as association:
        outcome = association.get("", to=lambda one: kept.append(one.dataset), model=model, SOPInstanceUID=uid)
        assert outcome.completed == 1
    assert kept[0] == an_object(model)


@MODELS
def test_pynetdicom_stores_finds_and_gets_them(archive, model):
    from pynetdicom import AE, build_role, evt

    one, sop_class = query_models.model_of(model), CLASSES[model][0]
    ae, got = AE("TESTER"), []
    for each in (one.find, one.get, sop_class):
        ae.add_requested_context(each, uids.EXPLICIT_VR_LITTLE_ENDIAN)
    handlers = [(evt.EVT_C_STORE, lambda event: got.append(event.dataset) or 0x0000)]
    role = build_role(sop_class, scp_role=True, scu_role=True)
    link = peers.steadied(
        ae.associate(*archive.listener.address, ae_title="ARCHIVE", ext_neg=[role], evt_handlers=handlers)
    )
    dataset = an_object(model)
    assert link.send_c_store(dataset).Status == 0x0000  # again: it is there
    keys = codec.from_keywords({"SOPInstanceUID": None} | OBJECTS[model][1])
    found = [match for status, match in link.send_c_find(keys, one.find) if status.Status == 0xFF00]
    assert [match.SOPInstanceUID for match in found] == [dataset.SOPInstanceUID]
    keys = codec.from_keywords({"SOPInstanceUID": dataset.SOPInstanceUID})
    last = list(link.send_c_get(keys, one.get))[-1][0]
    assert (last.Status, last.NumberOfCompletedSuboperations) == (0x0000, 1)
    assert got[0] == dataset
    link.release()


@MODELS
def test_the_commands_find_and_get_them(archive, model, tmp_path):
    uid = str(an_object(model).SOPInstanceUID)
    assert uid in run_here("find", peer_of(archive), "--model", model.lower(), "-k", "SOPInstanceUID").stdout
    got = run_here("get", peer_of(archive), "--model", model.lower(), "-k", f"SOPInstanceUID={uid}", "--out", tmp_path)
    assert got.returncode == 0, got.stderr
    assert [dcmread(path).SOPInstanceUID for path in tmp_path.rglob("*") if path.is_file()] == [uid]


def test_they_are_moved(tmp_path):
    received = dn.Listener("TARGET", port=0)
    kept = []
    received.on_store([CLASSES["COLOR_PALETTE"][0]])(lambda request: kept.append(request.sop_instance_uid))
    with received:
        destinations = {"TARGET": dn.Entity("TARGET", *received.address)}
        with Archive(tmp_path, archives.make(tmp_path, destinations=destinations)) as archive:
            dataset = an_object("COLOR_PALETTE")
            model = query_models.model_of("COLOR_PALETTE")
            contexts = presentation_contexts.sop_classes(model.move, dataset.SOPClassUID)
            with dn.connect(peer_of(archive), contexts=contexts) as association:
                association.store(dataset)
                outcome = association.move(
                    "", destination="TARGET", model="COLOR_PALETTE", SOPInstanceUID=dataset.SOPInstanceUID
                )
    assert (outcome.completed, kept) == (1, [dataset.SOPInstanceUID])


def test_as_many_are_given_as_are_asked_for(database):
    objects, sop_class = NonPatientObjects(database), CLASSES["COLOR_PALETTE"][0]
    names = [f"1.2.8.{number}" for number in range(MOST_VALUES + 1)]
    for uid in (names[0], names[-1]):
        objects.put(uid, sop_class, {}, b"header", uid.encode(), replace=False)
    found = objects.streams(names, [sop_class])
    assert sorted(found) == [b"header" + uid.encode() for uid in (names[0], names[-1])]


def test_what_makes_no_sense_is_refused(archive):
    dataset = an_object("HANGING_PROTOCOL", HangingProtocolName="Other bytes")
    model = query_models.model_of("HANGING_PROTOCOL")
    contexts = presentation_contexts.sop_classes(dataset.SOPClassUID, model.find, model.move)
    keys = Dataset()
    keys.HangingProtocolCreationDateTime = "20261301"
    with dn.connect(peer_of(archive), contexts=contexts) as association:
        answer = association.store(dataset).status
        assert (answer, answer.comment) == (0xC000, "another object has this UID")
        with pytest.raises(dn.ServiceFailure) as caught:
            list(association.find("", model="HANGING_PROTOCOL", query=keys))
        assert caught.value.status == 0xA900


@pytest.mark.parametrize("duplicates", list(Duplicates))
def test_it_is_there_after_a_restart_and_replaced_where_that_is_wanted(tmp_path, duplicates):
    settings = archives.make(tmp_path, duplicates=duplicates)
    first, second = an_object("IMPLANT_GROUP"), an_object("IMPLANT_GROUP", ImplantTemplateGroupName="Knees")
    contexts = presentation_contexts.sop_classes(first.SOPClassUID, query_models.model_uid("IMPLANT_GROUP", "find"))
    with Archive(tmp_path, settings) as archive, dn.connect(peer_of(archive), contexts=contexts) as association:
        assert association.store(first).status.is_success
    with Archive(tmp_path, settings) as archive, dn.connect(peer_of(archive), contexts=contexts) as association:
        assert association.store(second).status.is_success == (duplicates is Duplicates.REPLACE)
        [match] = association.find("", model="IMPLANT_GROUP", ImplantTemplateGroupName=None)
        is_new = match.dataset.ImplantTemplateGroupName == "Knees"
    assert is_new == (duplicates is Duplicates.REPLACE)


def test_an_object_that_contradicts_its_request_is_refused(archive):
    dataset, other = an_object("COLOR_PALETTE", ContentLabel="COLD"), an_object("GENERIC_IMPLANT")
    dataset.InstanceNumber = 77
    contexts = presentation_contexts.sop_classes(dataset.SOPClassUID, other.SOPClassUID)
    with dn.connect(peer_of(archive), contexts=contexts) as association:

        def stored(data, sop_class=str(dataset.SOPClassUID), uid="1.2.7.99"):
            return association.store(BytesSource(data, uids.EXPLICIT_VR_LITTLE_ENDIAN, sop_class, uid)).status

        whole = codec.encode(dataset, uids.EXPLICIT_VR_LITTLE_ENDIAN)
        wrong_uid = stored(whole)
        wrong_class = stored(whole, str(other.SOPClassUID), str(dataset.SOPInstanceUID))
        assert [(one, one.offending) for one in (wrong_uid, wrong_class)] == [
            (0xA900, (0x00080018,)), (0xA900, (0x00080016,)),
        ]  # fmt: skip
        assert stored(whole.replace(b"IS\2\00077", b"IS\2\0xx")) == 0xC000
    assert NonPatientObjects(archive.holdings.database).streams(["1.2.7.99"], [dataset.SOPClassUID]) == []


def test_whoever_retrieves_names_an_object(archive):
    model = query_models.model_of("COLOR_PALETTE")
    with dn.connect(peer_of(archive), contexts=presentation_contexts.sop_classes(model.get)) as association:
        for uid in ("", "1.2.*", "1.2.7.?"):
            with pytest.raises(dn.ServiceFailure) as caught:
                association.get("", to=lambda _: None, model="COLOR_PALETTE", SOPInstanceUID=uid)
            assert caught.value.status == 0xA900
