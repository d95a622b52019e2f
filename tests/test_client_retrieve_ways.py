"""`QueryRetrieveScu` where a way brings not all, brings it twice, or is none; both faces, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clients
import faces
import peers
import pydicom
import pytest
import rig
from test_client_query import Archive as TwoStudies

import dicomnet as dn
from dicomnet import uids
from dicomnet._pdu import ReleaseRP, ReleaseRQ
from dicomnet.client import events
from dicomnet.errors import NoAcceptedContext

STUDY = {"StudyInstanceUID": "2.25.100"}
SENT = [f"2.25.{1000 + number}" for number in range(3)]


@pytest.fixture(params=clients.FACES)
def made(request: pytest.FixtureRequest) -> Iterator[clients.Clients]:
    with faces.nothing_left():
        one = clients.Clients(request.param)
        yield one
        one.close()


@pytest.fixture
def port() -> int:
    return peers.free_port()


class Archive:
    """Sends three instances by either way; notes by which it was asked."""

    def __init__(self, port: int, instances: list[Any] | None = None) -> None:
        self.ways: list[str] = []
        self.instances = instances or [rig.instance(number) for number in range(3)]
        self.destinations = {"WS1": dn.Entity("WS1", "127.0.0.1", port)}

    def __call__(self, listener: Any) -> None:
        listener.on_get("STUDY_ROOT")(lambda request: self._send("get", request))
        listener.on_move("STUDY_ROOT")(lambda request: self._send("move", request))

    def _send(self, way: str, request: Any) -> list[Any]:
        self.ways.append(way)
        wanted = request.identifier.get("StudyInstanceUID")
        return [one for one in self.instances if one.StudyInstanceUID == wanted]


@pytest.fixture
def archive(port: int) -> Archive:
    return Archive(port)


@pytest.fixture
def peer(archive: Archive) -> Iterator[str]:
    with faces.provider("sync", archive, "ARCHIVE", destinations=archive.destinations) as provider:
        yield provider.peer("ARCHIVE")


@pytest.fixture
def scu(made: clients.Clients, peer: str, port: int) -> Iterator[Any]:
    with made.make("QueryRetrieveScu", peer, calling="WS1", listen=f"127.0.0.1:{port}") as scu:
        yield scu


def refuse_once(uid: str) -> Any:
    """A handler that does not want an instance the first time."""
    refused: list[str] = []

    def refuse(event: Any) -> None:
        if event.request.sop_instance_uid == uid and not refused:
            refused.append(uid)
            event.veto("not by this way")

    return refuse


def uids_in(directory: Path) -> list[str]:
    return sorted(str(pydicom.dcmread(path).SOPInstanceUID) for path in directory.iterdir())


@pytest.mark.parametrize("by", [("get", "move"), ("move", "get")])
def test_what_came_by_the_first_way_is_not_kept_again(made, archive, scu, tmp_path, by):
    seen: list[str] = []
    scu.on(events.Received)(made.handler(refuse_once(SENT[1])))
    scu.on(events.Received)(made.handler(lambda event: seen.append(event.request.sop_instance_uid)))
    done = scu.retrieve("STUDY", to=tmp_path, by=by, **STUDY)
    assert (archive.ways, done.by, done.ok, done.completed, done.failed) == ([*by], by[1], True, 3, 0)
    assert uids_in(tmp_path) == SENT
    assert seen == [*SENT, SENT[1]]  # handlers are not asked again about the others


def test_what_only_the_first_way_brings_is_not_missed_by_the_second(made, port, tmp_path):
    """A C-GET has contexts for the storage classes that are known, a C-MOVE for any."""
    archive = Archive(port, [rig.instance(0, sop_class="2.25.7"), rig.instance(1)])
    options = {"calling": "WS1", "listen": f"127.0.0.1:{port}", "by": ("move", "get")}
    told: list[Any] = []
    with (
        faces.provider("sync", archive, "ARCHIVE", destinations=archive.destinations) as provider,
        made.make("QueryRetrieveScu", provider.peer("ARCHIVE"), **options) as scu,
    ):
        scu.on(events.Received)(made.handler(refuse_once(SENT[1])))
        scu.on(events.AfterGet)(made.handler(lambda event: told.append(event.result)))
        done = scu.retrieve("STUDY", to=tmp_path, **STUDY)
    assert archive.ways == ["move", "get"]
    assert [(one.completed, one.failed_uids) for one in told] == [(1, [SENT[0]])]  # the peer says so
    assert (done.ok, done.completed, done.failed) == (True, 2, 0)
    assert uids_in(tmp_path) == SENT[:2]


def test_what_a_handler_skips_is_taken_and_not_kept(made, scu, tmp_path):
    def skip(event: Any) -> None:
        if event.request.sop_instance_uid == SENT[0]:
            event.skip()

    scu.on(events.Received)(made.handler(skip))
    done = scu.retrieve("STUDY", to=tmp_path, by="get", **STUDY)
    assert (done.completed, done.failed) == (3, 0)
    assert uids_in(tmp_path) == SENT[1:]


def test_the_caller_is_told_of_each_step(made, scu, tmp_path):
    steps: list[int] = []
    told = made.handler(lambda step: steps.append(step.completed))
    done = scu.retrieve("STUDY", to=tmp_path, by="get", progress=told, **STUDY)
    assert done.ok
    assert steps == sorted(steps)
    assert steps


def test_a_move_that_is_cancelled_is_the_last(made):
    """Of several studies, each of which is a request of its own."""
    third = dn.Listener("THIRD", port=0, drain=2)
    third.on_store()(lambda _: None)
    with third, TwoStudies(destinations={"THIRD": dn.Entity("THIRD", *third.address)}) as archive:
        archive.listener.pending_every = 0.0
        with made.make("QueryRetrieveScu", archive.peer) as scu:
            studies = list(scu.studies())
            archive.asked.clear()
            scu.on(events.SubOperation)(made.handler(lambda _: made.itself(scu).cancel()))
            done = scu.move(studies, destination="THIRD")
    assert len(studies) == 2
    assert (done.cancelled, done.ok, len(archive.asked)) == (True, False, 1)


@pytest.mark.parametrize("listening", [True, False])
def test_a_peer_by_which_nothing_can_come_is_named(made, port, tmp_path, listening):
    """It accepts C-GET, and no storage class that could come by it."""

    def script(raw: Any) -> None:
        raw.accept(only=uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET)
        assert raw.read() == ReleaseRQ()
        raw.send(ReleaseRP())

    options = {"listen": f"127.0.0.1:{port}"} if listening else {}
    with faces.raw_provider(script) as told, made.make("QueryRetrieveScu", told.peer, idle=0, **options) as scu:
        with pytest.raises(NoAcceptedContext) as caught:
            scu.retrieve("STUDY", to=tmp_path, **STUDY)
        assert ("takes an address" in str(caught.value)) == (not listening)
