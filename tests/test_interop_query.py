"""`QueryRetrieveScu` with Orthanc and dcmqrscp, both faces: drill-down, both ways, a third AE, options, cancelling."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import clients
import faces
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit
from rig import instance
from test_interop_services import COUNT, SELF, Server, data_set, dcmqrscp, orthanc, study

import dicomnet as dn
from dicomnet import uids
from dicomnet.client import QueryOptions
from dicomnet.client.matches import SeriesMatch, StudyMatch

OTHER, JPEG = "2.25.5000", str(JPEGBaseline8Bit)
ALL = QueryOptions(relational=True, combined_datetime=True, fuzzy=True, timezone="+0100")


def other_study(syntax: str) -> Any:
    """An instance of a study of its own; compressed, nobody here can decompress it."""
    one = instance(4000, StudyDate="20260103", StudyID="8")
    one.StudyInstanceUID, one.SeriesInstanceUID = OTHER, "2.25.5001"
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = uids.SECONDARY_CAPTURE_IMAGE_STORAGE
    if syntax == JPEG:
        one.PixelData = encapsulate([b"\xff\xd8\xff\xe0" + bytes(60) + b"\xff\xd9"])
        one["PixelData"].VR = "OB"
        one["PixelData"].is_undefined_length = True
        one.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return one


@pytest.fixture(scope="module", params=[orthanc, dcmqrscp], ids=["orthanc", "dcmqrscp"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two studies; the second is compressed where the server takes that: dcmqrscp does not."""
    syntax = JPEG if request.param is orthanc else uids.EXPLICIT_VR_LITTLE_ENDIAN
    pairs = [(uids.CT_IMAGE_STORAGE, uids.EXPLICIT_VR_LITTLE_ENDIAN), (uids.SECONDARY_CAPTURE_IMAGE_STORAGE, syntax)]
    with request.param(tmp_path_factory.mktemp("server")) as made:
        with dn.connect(made.peer, calling=SELF, contexts=dn.contexts.for_instances(pairs)) as association:
            assert all(result.ok for result in association.store_many([*study(), other_study(syntax)]))
        yield made


@pytest.fixture(params=clients.FACES)
def made(request: pytest.FixtureRequest) -> Iterator[clients.Clients]:
    with faces.nothing_left():
        one = clients.Clients(request.param)
        yield one
        one.close()


@contextmanager
def asking(made: clients.Clients, server: Server, **options: Any) -> Iterator[Any]:
    listen = f"127.0.0.1:{server.our_port}"
    with made.make("QueryRetrieveScu", server.peer, calling=SELF, listen=listen, **options) as scu:
        yield scu


def test_going_down_to_the_instances(made: clients.Clients, server: Server) -> None:
    with asking(made, server) as scu:
        [one] = scu.studies(PatientName="DOE*", StudyDate=("20260101", "20260102"))
        assert (type(one), one.uid, one.text("StudyID").strip()) == (StudyMatch, "2.25.100", "7")
        [series] = scu.series(one)
        assert (type(series), series.modality) == (SeriesMatch, "CT")
        instances = list(scu.instances(series))
        assert sorted(int(one.InstanceNumber) for one in instances) == list(range(COUNT))
        # dcmqrscp keeps no SOP class with an image.
        expected = uids.CT_IMAGE_STORAGE if server.peer.startswith("ORTHANC") else ""
        assert {one.sop_class_uid for one in instances} == {expected}
        assert [one.uid for one in scu.patients(PatientID="P1")] == ["P1"]
        assert [one.uid for one in scu.instances(one)] == [one.uid for one in instances]


@pytest.mark.parametrize("way", ["get", "move"])
def test_a_study_comes_either_way_bit_for_bit(made: clients.Clients, server: Server, way: str, tmp_path: Path) -> None:
    with asking(made, server) as scu:
        [one] = scu.studies(StudyInstanceUID="2.25.100")
        done = scu.retrieve(one, to=tmp_path, by=way)
    assert (done.by, done.completed, done.ok) == (way, COUNT, True)
    held = server.held()
    assert {path.stem: data_set(path.read_bytes()) for path in tmp_path.iterdir()} == {
        uid: held[uid] for uid in held if uid != "2.25.5000"
    }


def test_without_an_address_it_comes_by_get(made: clients.Clients, server: Server, tmp_path: Path) -> None:
    with made.make("QueryRetrieveScu", server.peer, calling=SELF) as scu:
        series = next(iter(scu.series("2.25.100")))
        done = scu.retrieve(series, to=tmp_path)
    assert (done.by, done.completed) == ("get", COUNT)


def test_any_transfer_syntax_comes_by_move(made: clients.Clients, server: Server, tmp_path: Path) -> None:
    with asking(made, server) as scu:
        done = scu.retrieve("STUDY", to=tmp_path, by="move", StudyInstanceUID=OTHER)
    assert done.ok
    [path] = tmp_path.iterdir()
    syntax = JPEG if server.peer.startswith("ORTHANC") else uids.EXPLICIT_VR_LITTLE_ENDIAN
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    assert data_set(path.read_bytes()) == server.held()[path.stem]


def test_some_instances_go_to_a_third_ae(made: clients.Clients, server: Server) -> None:
    got: list[str] = []
    third = dn.Listener(SELF, port=server.our_port, drain=2)
    third.on_store()(lambda request: got.append(request.sop_instance_uid))
    with third, made.make("QueryRetrieveScu", server.peer, calling="OTHER") as scu:
        wanted = list(scu.instances("2.25.200", StudyInstanceUID="2.25.100"))[:3]
        done = scu.move(wanted, destination=SELF)
    assert (done.completed, done.ok) == (3, True)
    assert sorted(got) == sorted(one.uid for one in wanted)


def test_options_that_it_declines_are_done_without(made: clients.Clients, server: Server) -> None:
    with asking(made, server, wanted=ALL) as scu:
        found = [one.uid for one in scu.studies(StudyDate="20260101-20260102", StudyTime="120000-110000")]
        assert found == ["2.25.100"]
        assert set(scu.declined) <= {"relational", "combined_datetime", "fuzzy", "timezone"}
        assert scu.declined
        assert scu.retrieve("STUDY", to=lambda _: None, StudyInstanceUID="2.25.100").completed == COUNT


def test_a_query_is_cancelled_after_the_first_match(made: clients.Clients, server: Server) -> None:
    with asking(made, server) as scu:
        for number, _ in enumerate(scu.find("IMAGE", StudyInstanceUID="2.25.100", SeriesInstanceUID="2.25.200")):
            assert number < COUNT
            scu.cancel()
        assert len(list(scu.studies())) == 2


@pytest.mark.parametrize("server", [orthanc], ids=["orthanc"], indirect=True)  # dcmqrscp does not commit itself
def test_commitment_is_reported_on_a_later_association(made: clients.Clients, server: Server) -> None:
    held = (uids.CT_IMAGE_STORAGE, "2.25.1003")
    missing = (uids.CT_IMAGE_STORAGE, "2.25.404")
    listen = f"127.0.0.1:{server.our_port}"
    with made.make("CommitmentScu", server.peer, calling=SELF, listen=listen, patience=faces.PATIENCE) as scu:
        assert scu.commit([held]).committed == [held]
        result = scu.commit([held, missing])
    assert (result.committed, [failed[:2] for failed in result.failed], result.ok) == ([held], [missing], False)
