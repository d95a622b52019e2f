"""Every event of the client framework, in order, in one scenario over TLS; both faces."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clients
import faces
import pytest
import rig
from certificates import Authority
from test_client_query import Archive

import dicomnet as dn
from dicomnet import uids
from dicomnet.client import events

KINDS = [
    kind
    for name, kind in vars(events).items()
    if name in events.__all__ and inspect.isclass(kind) and name not in ("Handlers", "Link")
]
#: Of which there may be one or more, as the peer likes.
SEVERAL = {"BeforeMatch", "Received", "SubOperation"}
CONNECT = ["BeforeConnect", "BeforeAssociate", "AfterConnect", "SecureLinkReady", "AfterAssociate"]
EXPECTED = [
    *CONNECT,
    "BeforeStore",
    "AfterStore",
    *["BeforeFind", *CONNECT, "BeforeMatch STUDY", "AfterFind"],
    *["BeforeFind", "BeforeMatch SERIES", "AfterFind"],
    *["BeforeFind", "BeforeMatch IMAGE", "AfterFind"],
    *[*CONNECT, "BeforeMove", "SubOperation", "AfterMove"],  # the association says whether there is such a way
    *[*CONNECT, "BeforeGet", "Received", "SubOperation", "AfterGet"],
    *["BeforeAction", "BeforeRelease", "AfterRelease", *CONNECT, "AfterAction"],
    *["BeforeRelease", "AfterRelease", *CONNECT, "Closed"],
    *["BeforeRelease", "AfterRelease"] * 3,
]


@pytest.fixture(params=clients.FACES)
def made(request: pytest.FixtureRequest) -> Iterator[clients.Clients]:
    with faces.nothing_left():
        one = clients.Clients(request.param)
        yield one
        one.close()


class Recorder:
    """What a client told, each kind once where there may be several."""

    def __init__(self, made: clients.Clients, client: Any) -> None:
        self.names: list[str] = []
        self.links: list[Any] = []
        for kind in KINDS:
            client.on(kind)(made.handler(self._take))

    def _take(self, event: Any) -> None:
        name = type(event).__name__
        if isinstance(event, events.SecureLinkReady):
            self.links.append(event.link)
        if isinstance(event, events.BeforeMatch):
            name += f" {event.level}"
        streak = []
        for one in reversed(self.names):
            if one.split()[0] not in SEVERAL:
                break
            streak.append(one)
        if name not in streak:
            self.names.append(name)


def configured(archive: Archive) -> None:
    archive.listener.on_store()(lambda _: None)
    archive.listener.on_n_action(uids.STORAGE_COMMITMENT_PUSH_MODEL)(lambda _: None)

    @archive.listener.on_echo
    def leave(_: Any) -> None:
        for connection in archive.listener._acceptor.connections:
            if any(one.abstract_syntax == uids.VERIFICATION for one in connection.exchange.contexts.values()):
                connection.cut()


def play(made: clients.Clients, archive: Any, tls: Any, path: Path) -> Recorder:
    peer = archive.peer.replace("ARCHIVE@", "dicoms://ARCHIVE@")
    with made.client(peer, calling="WS1", tls=tls) as client:
        recorder = Recorder(made, client)
        inner = getattr(client, "_association", client)  # of whoever has blocking manners
        with made.make("StoreScu", inner) as scu:
            assert all(result.ok for result in scu.send(rig.instance(1)))
        with made.make("QueryRetrieveScu", inner) as scu:
            study = next(iter(list(scu.studies(StudyInstanceUID="2.25.10"))))
            series = next(iter(list(scu.series(study))))
            assert len(list(scu.instances(series))) == 2
            assert scu.move(study, destination="THIRD").ok
            assert scu.retrieve(study, to=path, by=["get"]).ok
        client.normalized(
            "n_action", uids.STORAGE_COMMITMENT_PUSH_MODEL, uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE, 1
        )
        with pytest.raises(dn.ConnectionFailed):
            client.echo()
    return recorder


def test_every_event_comes_in_its_order(made, tmp_path):
    authority = Authority(tmp_path)
    issued = authority.issue("archive")
    here = dn.TLS(ca=authority.file)
    there = dn.TLS(ca=authority.file, cert=issued.cert, key=issued.key, client_certificate="ignored")
    third = dn.Listener("THIRD", port=0, drain=2)
    third.on_store()(lambda _: None)
    with third:
        destinations = {"THIRD": dn.Entity("THIRD", *third.address)}
        archive = Archive(destinations=destinations, tls=there)
        configured(archive)
        with archive:
            recorder = play(made, archive, here, tmp_path / "into")
    assert recorder.names == EXPECTED
    assert {(link.version, bool(link.cipher)) for link in recorder.links} == {("TLSv1.3", True)}
    told = {name.split()[0] for name in recorder.names}
    never = {kind.__name__ for kind in KINDS} - told - {"Before", "Event", "Vetoed", "Aborted"}
    assert never == set()  # but for the peer's abort, which ends the scenario of another test
