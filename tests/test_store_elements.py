"""Elements and headers for handlers of C-STORE, as data sets stream by to files, into memory, or to another sink."""

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from wiring import CT, EXPLICIT, IMPLICIT

import dicomnet as dn
from dicomnet import uids
from dicomnet.errors import OutputFileError
from dicomnet.files.dataset_sink import DiscardSink, MemoryBudget, MemorySink
from dicomnet.protocol.negotiation import ProposedContext

DEFLATED = uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
TAGS = [0x00080018, 0x00100020, (0x00081140, 0x00081155), 0x00200013]


def instance(syntax, pixels=b"\0" * 200_000):
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.PatientID = CT, "1.2.3", "123"
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.9"
    dataset.ReferencedImageSequence = [item]
    dataset.Rows = 5
    if pixels:
        dataset.add_new(0x7FE00010, "OW", pixels)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def stored(handler, dataset, syntax, **options):
    """What a handler makes of one request."""
    got = []
    scp = dn.Listener("ARCHIVE", port=0)
    scp.on_store(**options)(lambda request: got.append(handler(request)))
    with scp:
        host, port = scp.address
        with dn.connect(f"ARCHIVE@{host}:{port}", contexts=[ProposedContext(CT, (syntax,))]) as peer:
            peer.store(dataset)
    return got[0]


def where(kind, tmp_path):
    return {"file": {"spool": tmp_path}, "memory": {}, "sink": {"sink": lambda arrival: DiscardSink()}}[kind]


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, uids.EXPLICIT_VR_BIG_ENDIAN])
@pytest.mark.parametrize("kind", ["file", "memory", "sink"])
def test_chosen_elements_and_the_header(kind, syntax, tmp_path):
    elements, header, size = stored(
        lambda request: (request.elements, request.header, request.size),
        instance(syntax), syntax, elements=TAGS, **where(kind, tmp_path),
    )  # fmt: skip
    assert {key: one.value for key, one in elements.items()} == {
        0x00080018: b"1.2.3\0",
        0x00100020: b"123 ",
        (0x00081140, 0x00081155): b"1.2.9\0",
    }
    assert size - len(header) == 200_000 + (8 if syntax == IMPLICIT else 12)


@pytest.mark.parametrize("kind", ["file", "memory", "sink"])
def test_without_pixel_data_the_header_is_all_of_it(kind, tmp_path):
    header, size = stored(
        lambda request: (request.header, request.size), instance(EXPLICIT, b""), EXPLICIT,
        header=True, **where(kind, tmp_path),
    )  # fmt: skip
    assert len(header) == size


@pytest.mark.parametrize("kind", ["file", "memory", "sink"])
def test_a_deflated_data_set_has_neither(kind, tmp_path):
    found = stored(
        lambda request: (request.elements, request.header), instance(DEFLATED), DEFLATED,
        elements=TAGS, **where(kind, tmp_path),
    )  # fmt: skip
    assert found == (None, None)


def test_the_file_is_whole_all_the_same(tmp_path):
    def keep(request):
        return request.elements[0x00100020].value, request.file.commit(tmp_path / "kept.dcm"), request.header

    patient, path, header = stored(keep, instance(EXPLICIT), EXPLICIT, elements=TAGS, spool=tmp_path)
    assert patient == b"123 "
    with open(path, "rb") as file:
        data = file.read()
    assert header in data
    assert data.endswith(b"\0" * 200_000)


def test_who_did_not_ask_is_told_how(tmp_path):
    def ask(request):
        with pytest.raises(TypeError, match=r"on_store\(elements"):
            assert request.elements
        with pytest.raises(TypeError, match=r"on_store\(elements"):
            assert request.header

    stored(ask, instance(EXPLICIT), EXPLICIT, spool=tmp_path)


def test_what_is_no_tag_is_refused_as_it_is_registered():
    with pytest.raises(dn.InvalidArgument, match="PatientID"):
        dn.Listener(port=0).on_store(elements=["PatientID"])


# ---- memory (S9) ---------------------------------------------------------------------------------------------------


def test_sinks_share_a_budget_and_give_it_back():
    budget = MemoryBudget(10)
    one, two = MemorySink(None, budget), MemorySink(None, budget)
    one.write([memoryview(b"123456")])
    with pytest.raises(OutputFileError, match="no memory is left"):
        two.write([memoryview(b"12345")])
    two.write([memoryview(b"1234")])
    assert budget.held == 10
    one.discard()
    one.discard()
    assert budget.held == 4
    del two
    assert budget.held == 0


def test_an_identifier_has_a_limit_of_its_own_and_a_store_has_not():
    scp = dn.Listener("ARCHIVE", port=0, limits=dn.Limits(identifier=1000))
    asked = []
    scp.on_store()(lambda request: None)
    scp.on_find("STUDY_ROOT")(lambda request: asked.append(request) or [])
    contexts = [
        ProposedContext(CT, (EXPLICIT,)),
        ProposedContext(uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND, (EXPLICIT,)),
    ]
    with scp:
        host, port = scp.address
        with dn.connect(f"ARCHIVE@{host}:{port}", contexts=contexts) as peer:
            assert peer.store(instance(EXPLICIT)).status.is_success
            with pytest.raises(dn.ServiceFailure) as refused:
                list(peer.find("STUDY", StudyInstanceUID=[f"1.2.{number}" for number in range(1000)]))
            assert refused.value.status == dn.Status.OUT_OF_RESOURCES
            assert list(peer.find("STUDY", StudyInstanceUID="1.2")) == []
        assert scp.memory.held == 0
    assert len(asked) == 1


def test_all_associations_share_the_memory(tmp_path):
    scp = dn.Listener("ARCHIVE", port=0, limits=dn.Limits(memory=100_000))
    scp.on_store()(lambda request: None)
    with scp:
        host, port = scp.address
        with dn.connect(f"ARCHIVE@{host}:{port}", contexts=[ProposedContext(CT, (EXPLICIT,))]) as peer:
            assert peer.store(instance(EXPLICIT)).status == dn.Status.OUT_OF_RESOURCES
            assert peer.store(instance(EXPLICIT, b"")).status.is_success
        assert scp.memory.held == 0
