"""What a `Client` itself retrieves and has sent, and what its handlers see of it; both faces, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clients
import faces
import pydicom
import pytest
import rig

import dicomnet as dn
from dicomnet.client import events
from dicomnet.errors import InvalidArgument, NoAcceptedContext, ServiceFailure

STUDY = {"StudyInstanceUID": "2.25.100"}
SENT = ["2.25.1000", "2.25.1001", "2.25.1002"]


@pytest.fixture(params=clients.FACES)
def made(request: pytest.FixtureRequest) -> Iterator[clients.Clients]:
    with faces.nothing_left():
        one = clients.Clients(request.param)
        yield one
        one.close()


class Archive:
    """Has three instances of a study; notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.third: list[str] = []

    def configure(self, listener: Any) -> None:
        listener.on_get("STUDY_ROOT", "PATIENT_ROOT")(self._send)
        listener.on_move("STUDY_ROOT")(self._send)

    def _send(self, request: Any) -> Iterator[Any]:
        self.asked.append((request.level, request.identifier.StudyInstanceUID))
        for number in range(3):
            yield rig.instance(number)


@pytest.fixture
def archive() -> Archive:
    return Archive()


@pytest.fixture
def peer(archive: Archive) -> Iterator[str]:
    with faces.provider("sync", lambda third: third.on_store()(keep(archive.third)), "THIRD") as third:
        destinations = {"THIRD": dn.Entity("THIRD", "127.0.0.1", third.port)}
        with faces.provider("sync", archive.configure, "ARCHIVE", destinations=destinations) as provider:
            yield provider.peer("ARCHIVE")


def keep(uids: list[str]) -> Any:
    return lambda request: uids.append(request.sop_instance_uid)


def watch(made: clients.Clients, client: Any, *kinds: type) -> list[Any]:
    seen: list[Any] = []
    for kind in kinds:
        client.on(kind)(made.handler(seen.append))
    return seen


def test_instances_are_fetched_into_a_directory(made: clients.Clients, peer: str, tmp_path: Path) -> None:
    steps: list[Any] = []
    with made.client(peer) as client:
        told = watch(made, client, events.SubOperation, events.AfterGet)
        done = client.get("STUDY", to=tmp_path, progress=made.handler(steps.append), **STUDY)
    assert (done.status, done.completed, done.failed) == (0, 3, 0)
    assert sorted(str(pydicom.dcmread(path).SOPInstanceUID) for path in tmp_path.iterdir()) == SENT
    assert [event.progress for event in told[:-1]] == steps
    assert steps
    assert (told[-1].result, told[-1].error) == (done, None)


def test_instances_are_fetched_by_a_function(made: clients.Clients, peer: str) -> None:
    kept: list[str] = []
    with made.client(peer) as client:
        assert client.get("STUDY", to=keep(kept), model="PATIENT_ROOT", PatientID="P1", **STUDY).completed == 3
    assert kept == SENT


def test_instances_are_sent_to_another(made: clients.Clients, archive: Archive, peer: str) -> None:
    with made.client(peer) as client:
        told = watch(made, client, events.SubOperation, events.AfterMove)
        done = client.move("STUDY", destination="THIRD", **STUDY)
    assert (done.status, done.completed, archive.third) == (0, 3, SENT)
    assert told[-1].result == done


def test_handlers_change_what_is_retrieved_and_where_to(
    made: clients.Clients, archive: Archive, peer: str, tmp_path: Path
) -> None:
    def elsewhere(event: Any) -> None:
        event.keys["StudyInstanceUID"] = "2.25.7"
        if isinstance(event, events.BeforeMove):
            event.destination = "THIRD"
        else:
            event.to = tmp_path / "other"

    with made.client(peer) as client:
        client.on(events.BeforeGet)(made.handler(elsewhere))
        client.on(events.BeforeMove)(made.handler(elsewhere))
        client.get("STUDY", to=tmp_path / "one", **STUDY)
        client.move("STUDY", destination="NOBODY", **STUDY)
    assert archive.asked == [("STUDY", "2.25.7")] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert archive.third == SENT


def test_a_retrieve_that_a_handler_vetoes_is_not_asked_for(
    made: clients.Clients, archive: Archive, peer: str, tmp_path: Path
) -> None:
    with made.client(peer) as client:
        for kind in (events.BeforeGet, events.BeforeMove):
            client.on(kind)(made.handler(lambda event: event.veto("not now")))
        connected = watch(made, client, events.BeforeConnect)
        with pytest.raises(events.Vetoed, match="not now"):
            client.get("STUDY", to=tmp_path, **STUDY)
        with pytest.raises(events.Vetoed, match="not now"):
            client.move("STUDY", destination="THIRD", **STUDY)
    assert (archive.asked, connected) == ([], [])


def test_a_move_to_who_is_unknown_is_told(made: clients.Clients, peer: str) -> None:
    with made.client(peer) as client:
        told = watch(made, client, events.AfterMove)
        with pytest.raises(ServiceFailure, match="0xA801") as caught:
            client.move("STUDY", destination="NOBODY", **STUDY)
        assert caught.value.hint is not None
        assert client.get("STUDY", to=keep([]), **STUDY).completed == 3  # it goes on
    assert (told[0].result, told[0].error) == (None, caught.value)


@pytest.mark.parametrize("way", ["get", "move"])
def test_a_way_that_the_peer_does_not_offer_is_named(made: clients.Clients, way: str) -> None:
    with faces.provider("sync") as provider, made.client(provider.peer()) as client:
        where = {"to": keep([])} if way == "get" else {"destination": "THIRD"}
        with pytest.raises(NoAcceptedContext):
            getattr(client, way)("STUDY", **where, **STUDY)


def test_what_a_model_does_not_have_is_said_before_anything_is_connected(made: clients.Clients, tmp_path: Path) -> None:
    with made.client("ANY@127.0.0.1:1") as client:
        connected = watch(made, client, events.BeforeConnect)
        with pytest.raises(InvalidArgument, match="WORKLIST has no C-GET"):
            client.get("STUDY", to=tmp_path, model="WORKLIST")
        with pytest.raises(InvalidArgument, match="WORKLIST has no C-MOVE"):
            client.move("STUDY", destination="THIRD", model="WORKLIST")
    assert connected == []


@pytest.mark.parametrize("wrong", [{"associations": 0}, {"requests_per_association": 0}, {"idle": -0.5}])
def test_numbers_that_cannot_be_are_refused(made: clients.Clients, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="at least"):
        made.module.Client("ARCHIVE@host:104", **wrong)


def test_what_takes_instances_says_what_becomes_of_each(made: clients.Clients, peer: str) -> None:
    """In asyncio it may be awaited."""
    kept: list[str] = []

    def keep(request: Any) -> int:
        kept.append(request.sop_instance_uid)
        return 0xA700 if len(kept) == 2 else 0

    with made.client(peer) as client:
        done = client.get("STUDY", to=made.handler(keep), **STUDY)
    assert kept == SENT
    assert (done.completed, done.failed, done.kept) == (2, 1, 2)
