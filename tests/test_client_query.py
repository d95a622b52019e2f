"""`QueryRetrieveScu` over real sockets, both faces: looking, going down, negotiation, and having it sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clients
import faces
import peers
import pydicom
import pytest
import rig
from certificates import Authority

import dicomnet as dn
from dicomnet import uids
from dicomnet._pdu import PDataTF, ReleaseRP, ReleaseRQ
from dicomnet.client import Query, QueryOptions, events
from dicomnet.client.matches import Availability, InstanceMatch, PatientMatch, SeriesMatch, StudyMatch
from dicomnet.client.retrieve_plan import Unavailable
from dicomnet.dataset import codec
from dicomnet.errors import (
    AssociationRejected,
    ConnectionFailed,
    InvalidArgument,
    NoAcceptedContext,
    OutputFileError,
    OutputProblem,
    ServiceFailure,
)
from dicomnet.protocol.messages import CommandField
from dicomnet.wire.command_set import Command, decode_command

FIND = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
UNIQUE = {"PATIENT": "PatientID", "STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}


@pytest.fixture(params=clients.FACES)
def made(request: pytest.FixtureRequest) -> Iterator[clients.Clients]:
    with faces.nothing_left():
        one = clients.Clients(request.param)
        yield one
        one.close()


class Archive:
    """A provider with two studies, two series and two instances each; it notes what it is asked."""

    def __init__(self, ways: str = "get move", **options: Any) -> None:
        self.asked: list[Any] = []
        self.state: dict[str, Any] = {"InstanceAvailability": "ONLINE"}
        self.extended: list[dict[str, bytes]] = []
        self.listener = dn.Listener("ARCHIVE", port=0, drain=2, **options)
        self.listener.on_find("STUDY_ROOT", "PATIENT_ROOT")(self._find)
        if "get" in ways:
            self.listener.on_get("STUDY_ROOT", "PATIENT_ROOT")(self._send)
        if "move" in ways:
            self.listener.on_move("STUDY_ROOT", "PATIENT_ROOT")(self._send)

    def __enter__(self) -> Archive:
        self.listener.__enter__()
        self.peer = f"ARCHIVE@127.0.0.1:{self.listener.address[1]}"
        return self

    def __exit__(self, *error: Any) -> None:
        self.listener.__exit__(*error)

    @staticmethod
    def instances() -> Iterator[Any]:
        for number in range(8):
            study, series = number // 4, number // 2
            one = rig.instance(number)
            one.StudyInstanceUID, one.SeriesInstanceUID = f"2.25.1{study}", f"2.25.2{series}"
            one.PatientID, one.Modality = f"P{study}", "CT" if series % 2 else "SR"
            one.StudyDate, one.StudyTime = f"2026010{study + 1}", "100000"
            yield one

    def _matching(self, identifier: Any) -> list[Any]:
        wanted = {key: identifier.get(key) for key in (*UNIQUE.values(), "Modality")}
        return [
            one
            for one in self.instances()
            if all(not value or one.get(key) == value or one.get(key) in list(value) for key, value in wanted.items())
        ]

    def _find(self, request: Any) -> Iterator[Any]:
        self.asked.append(request.identifier)
        key, seen = UNIQUE[request.level], set()
        for one in self._matching(request.identifier):
            if one[key].value not in seen:
                seen.add(one[key].value)
                yield rig.keys(
                    **{e.keyword: one[e.tag].value for e in request.identifier if e.tag in one}, **self.state
                )

    def _send(self, request: Any) -> list[Any]:
        self.asked.append(request.identifier)
        return self._matching(request.identifier)


def uids_in(directory: Path) -> list[str]:
    assert [path.name for path in directory.iterdir() if path.suffix != ".dcm"] == []
    return sorted(str(pydicom.dcmread(path).SOPInstanceUID) for path in directory.iterdir())


SERIES_0 = ["2.25.1000", "2.25.1001"]
STUDY_0 = [f"2.25.{1000 + number}" for number in range(4)]


# ---- looking ---------------------------------------------------------------------------------------------------------


def test_going_down_from_a_patient_to_instances(made: clients.Clients) -> None:
    with Archive() as archive, made.make("QueryRetrieveScu", archive.peer, model="PATIENT_ROOT") as scu:
        patients = list(scu.patients())
        assert [(type(one), one.uid) for one in patients] == [(PatientMatch, "P0"), (PatientMatch, "P1")]
        studies = list(scu.studies(patients[1]))
        assert [(type(one), one.uid, one.above) for one in studies] == [(StudyMatch, "2.25.11", {"PatientID": "P1"})]
        assert studies[0].availability is Availability.ONLINE
        series = list(scu.series(studies[0]))
        assert [(type(one), one.uid, one.modality) for one in series] == [
            (SeriesMatch, "2.25.22", "SR"),
            (SeriesMatch, "2.25.23", "CT"),
        ]
        instances = list(scu.instances(series[0]))
        assert [(type(one), one.uid) for one in instances] == [
            (InstanceMatch, "2.25.1004"),
            (InstanceMatch, "2.25.1005"),
        ]
        assert instances[0].keys == {
            "PatientID": "P1",
            "StudyInstanceUID": "2.25.11",
            "SeriesInstanceUID": "2.25.22",
            "SOPInstanceUID": "2.25.1004",
        }
    assert "CompletionFlag" in archive.asked[-1]  # a series of reports
    assert "Rows" not in archive.asked[-1]


def test_the_instances_of_a_study_are_those_of_its_series(made: clients.Clients) -> None:
    with Archive() as archive, made.make("QueryRetrieveScu", archive.peer) as scu:
        [study] = scu.studies(StudyInstanceUID="2.25.10")
        assert [one.uid for one in scu.instances(study)] == STUDY_0
        assert [one.uid for one in scu.instances("2.25.20", StudyInstanceUID="2.25.10")] == SERIES_0
        assert [one.uid for one in scu.series("2.25.10", Modality="CT")] == ["2.25.21"]
    assert [("Rows" in one, "CompletionFlag" in one) for one in archive.asked[2:4]] == [(False, True), (True, False)]


def test_a_query_of_ones_own(made: clients.Clients) -> None:
    with Archive() as archive, made.make("QueryRetrieveScu", archive.peer) as scu:
        query = Query("STUDY", template=rig.keys(PatientName="DOE*", StudyInstanceUID="2.25.11"))
        [match] = scu.find(query, StudyDate="20260101-")
        assert match.uid == "2.25.11"
        assert [one.uid for one in scu.find("series", StudyInstanceUID="2.25.10")] == ["2.25.20", "2.25.21"]
    assert (archive.asked[0].PatientName, archive.asked[0].StudyDate) == ("DOE*", "20260101-")


def test_what_is_wrong_is_said_before_anybody_is_called(made: clients.Clients) -> None:
    with made.make("QueryRetrieveScu", "NOBODY@127.0.0.1:1") as scu:
        for ask, words in (
            (lambda: list(scu.studies(StudyDate="20261399")), "'20261399' is no date"),
            (lambda: list(scu.find("FOLDER")), "no level 'FOLDER'"),
            (lambda: scu.retrieve("STUDY", to="/nowhere"), "needs StudyInstanceUID"),
            (lambda: scu.retrieve([], to="/nowhere"), "nothing is to be retrieved"),
            (lambda: scu.retrieve("STUDY", to="/nowhere", by="carrier pigeon", StudyInstanceUID="1.2"), "no way"),
            (lambda: scu.retrieve("STUDY", to="/nowhere", by="move", StudyInstanceUID="1.2"), "takes an address"),
            (lambda: scu.move("STUDY", destination="A" * 17, StudyInstanceUID="1.2"), "17 characters"),
        ):
            with pytest.raises(InvalidArgument, match=words):
                ask()
    with pytest.raises(InvalidArgument, match="takes a certificate"):
        made.module.QueryRetrieveScu("A@h:1", listen="dicoms://ME@0.0.0.0:0")


def test_handlers_edit_a_query_and_choose_among_its_matches(made: clients.Clients) -> None:
    with Archive() as archive, made.make("QueryRetrieveScu", archive.peer) as scu:
        told = []

        def narrow(event: Any) -> None:
            event.keys["StudyInstanceUID"] = "2.25.10"

        def choose(event: Any) -> None:
            told.append((event.level, event.match.uid))
            if event.match.uid.endswith("0"):
                event.skip()

        scu.on(events.BeforeFind)(made.handler(narrow))
        scu.on(events.BeforeMatch)(made.handler(choose))
        scu.on(events.AfterFind)(made.handler(lambda event: told.append(event.result)))
        assert [one.uid for one in scu.find(Query("SERIES"))] == ["2.25.21"]
    assert told == [("SERIES", "2.25.20"), ("SERIES", "2.25.21"), 1]


def test_a_match_is_vetoed_or_the_last(made: clients.Clients) -> None:
    with Archive() as archive, made.make("QueryRetrieveScu", archive.peer) as scu:
        choices: list[str] = ["", "end"]

        def judge(event: Any) -> None:
            choice = choices.pop(0)
            if choice == "end":
                event.skip_rest()
            elif choice:
                event.veto(choice)

        scu.on(events.BeforeMatch)(made.handler(judge))
        assert [one.uid for one in scu.find("SERIES")] == ["2.25.20"]
        choices += ["not for us"]
        with pytest.raises(events.Vetoed, match="not for us"):
            list(scu.find("SERIES"))
        choices += [""] * 4
        assert len(list(scu.find("SERIES"))) == 4  # the association goes on


def test_what_cannot_be_asked_for_is_said(made: clients.Clients, tmp_path: Path) -> None:
    with Archive() as archive, made.make("QueryRetrieveScu", archive.peer) as scu:
        patients = list(scu.patients())
        studies = list(scu.studies())
        assert [one.uid for one in scu.studies(patients[0])] == ["2.25.10"]
        assert scu.retrieve(patients[0], to=tmp_path).completed == 4
        with pytest.raises(InvalidArgument, match="has no level PATIENT"):
            scu.retrieve([studies[0], patients[0]], to=tmp_path)
        with pytest.raises(InvalidArgument, match="PatientID: a match has its keys already"):
            scu.retrieve(studies[0], to=tmp_path, PatientID="P1")
        del studies[0].dataset.StudyInstanceUID
        with pytest.raises(InvalidArgument, match="a match without StudyInstanceUID cannot be retrieved"):
            scu.retrieve(studies[0], to=tmp_path)
        with pytest.raises(InvalidArgument, match="has nothing below it"):
            list(scu.series(studies[0]))


# ---- options ---------------------------------------------------------------------------------------------------------

ALL = QueryOptions(relational=True, combined_datetime=True, fuzzy=True, timezone="+0100")


@pytest.mark.parametrize(
    ("granted", "declined"),
    [
        (b"\1\1\1\1", []),
        (b"\1\0\1\0", ["combined_datetime", "timezone"]),
        (b"", ["relational", "combined_datetime", "fuzzy", "timezone"]),
    ],
)
def test_options_are_negotiated_and_given_up(made: clients.Clients, granted: bytes, declined: list[str]) -> None:
    acceptance = dn.AcceptancePolicy(extended={FIND: granted} if granted else {})
    with (
        Archive(acceptance=acceptance) as archive,
        made.make("QueryRetrieveScu", archive.peer, wanted=ALL) as scu,
    ):
        found = list(scu.studies(StudyDate="20260101-20260102", StudyTime="110000-090000"))
        [asked] = archive.asked
        assert scu.declined == declined
        assert asked.get("TimezoneOffsetFromUTC") == (None if "timezone" in declined else "+0100")
        if "combined_datetime" in declined:  # both studies are outside: at ten on the first day, and on the last
            assert (asked.StudyTime, found) == ("", [])
        else:
            assert (asked.StudyTime, len(found)) == ("110000-090000", 2)
        if "relational" in declined:
            with pytest.raises(InvalidArgument, match="declined relational queries"):
                list(scu.find("IMAGE", StudyInstanceUID="2.25.10"))
        else:
            assert len(list(scu.find("IMAGE", StudyInstanceUID="2.25.10"))) == 4


# ---- having it sent --------------------------------------------------------------------------------------------------


@pytest.fixture
def port() -> int:
    return peers.free_port()


@pytest.mark.parametrize(("offers", "way"), [("get move", "get"), ("get", "get"), ("move", "move")])
def test_retrieve_takes_the_way_that_the_peer_offers(
    made: clients.Clients, offers: str, way: str, port: int, tmp_path: Path
) -> None:
    destinations = {"WS1": dn.Entity("WS1", "127.0.0.1", port)}
    with (
        Archive(offers, destinations=destinations) as archive,
        made.make("QueryRetrieveScu", archive.peer, calling="WS1", listen=f"127.0.0.1:{port}") as scu,
    ):
        archive.listener.pending_every = 0  # one after each instance
        told: list[Any] = []
        for kind in (events.Received, events.SubOperation, events.AfterGet, events.AfterMove):
            scu.on(kind)(made.handler(lambda event: told.append(type(event).__name__)))
        [study] = scu.studies(StudyInstanceUID="2.25.10")
        done = scu.retrieve(study, to=tmp_path)
    assert (done.by, done.ok, done.completed, done.failed, done.unavailable) == (way, True, 4, 0, ())
    assert uids_in(tmp_path) == STUDY_0
    assert told.count("Received") == 4
    assert told.count("SubOperation") >= 3
    assert told[-1] == f"After{way.title()}"


@pytest.mark.parametrize("level", ["STUDY", "SERIES", "IMAGE"])
def test_every_level_is_moved_to_a_third_ae(made: clients.Clients, level: str, tmp_path: Path) -> None:
    third = dn.Listener("THIRD", port=0, drain=2)
    got: list[str] = []
    third.on_store()(lambda request: got.append(request.sop_instance_uid))
    with third:
        destinations = {"THIRD": dn.Entity("THIRD", *third.address)}
        with (
            Archive(destinations=destinations) as archive,
            made.make("QueryRetrieveScu", archive.peer) as scu,
        ):
            study = next(iter(scu.studies(StudyInstanceUID="2.25.10")))
            series = next(iter(scu.series(study)))
            instances = list(scu.instances(series))
            what, count = {"STUDY": (study, 4), "SERIES": (series, 2), "IMAGE": (instances, 2)}[level]
            done = scu.move(what, destination="THIRD")
    assert (done.by, done.completed, done.ok) == ("move", count, True)
    assert sorted(got) == (STUDY_0 if level == "STUDY" else SERIES_0)
    assert len(archive.asked) == 4  # the instances of a series are one request
    assert archive.asked[-1].QueryRetrieveLevel == level


def test_what_does_not_come_by_get_comes_by_move(made: clients.Clients, port: int, tmp_path: Path) -> None:
    destinations = {"WS1": dn.Entity("WS1", "127.0.0.1", port)}
    with (
        Archive(destinations=destinations) as archive,
        made.make("QueryRetrieveScu", archive.peer, calling="WS1", listen=f"127.0.0.1:{port}") as scu,
    ):
        refused: list[str] = []

        def refuse(event: Any) -> None:
            if len(refused) < 4:
                refused.append(event.request.sop_instance_uid)
                event.veto("not by this way")

        scu.on(events.Received)(made.handler(refuse))
        done = scu.retrieve("STUDY", to=tmp_path, StudyInstanceUID="2.25.10")
    assert (done.by, done.completed, done.ok) == ("move", 4, True)
    assert refused == STUDY_0
    assert uids_in(tmp_path) == STUDY_0


def test_instances_go_to_a_function_and_may_be_refused(made: clients.Clients) -> None:
    with Archive() as archive, made.make("QueryRetrieveScu", archive.peer) as scu:
        kept: list[str] = []

        def judge(event: Any) -> None:
            if event.request.sop_instance_uid == "2.25.1001":
                event.veto("not this one")

        scu.on(events.Received)(made.handler(judge))
        done = scu.retrieve("STUDY", to=lambda r: kept.append(r.sop_instance_uid), StudyInstanceUID="2.25.10")
    assert kept == ["2.25.1000", "2.25.1002", "2.25.1003"]
    assert (done.completed, done.failed, done.failed_uids, done.ok) == (3, 1, ["2.25.1001"], False)


def test_a_place_that_is_none_is_said_before_anything_is_asked(made: clients.Clients, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Archive() as archive, made.make("QueryRetrieveScu", archive.peer) as scu:
        with pytest.raises(OutputFileError, match="no directory for what arrives") as caught:
            scu.retrieve("STUDY", to=tmp_path / "file" / "into", StudyInstanceUID="2.25.10")
        assert caught.value.problem is OutputProblem.NO_DIRECTORY
        with pytest.raises(InvalidArgument, match="a provider is no place"):
            scu.retrieve("STUDY", to=dn.Provider(), StudyInstanceUID="2.25.10")
        assert archive.asked == []


def test_a_handler_that_raises_ends_the_retrieve(made: clients.Clients, port: int, tmp_path: Path) -> None:
    destinations = {"WS1": dn.Entity("WS1", "127.0.0.1", port)}
    for way in ("get", "move"):
        with (
            Archive(way, destinations=destinations) as archive,
            made.make("QueryRetrieveScu", archive.peer, calling="WS1", listen=f"127.0.0.1:{port}") as scu,
        ):

            def fail(event: Any) -> None:
                raise RuntimeError("a bug of the application")

            scu.on(events.Received)(made.handler(fail))
            with pytest.raises(RuntimeError, match="a bug of the application"):
                scu.retrieve("STUDY", to=tmp_path, StudyInstanceUID="2.25.10")
        assert uids_in(tmp_path) == []


@pytest.mark.parametrize("state", ["OFFLINE", "UNAVAILABLE"])
def test_what_cannot_be_had_is_said(made: clients.Clients, state: str, tmp_path: Path) -> None:
    with Archive() as archive, made.make("QueryRetrieveScu", archive.peer) as scu:
        archive.state["InstanceAvailability"] = state
        away = list(scu.studies())
        archive.state["InstanceAvailability"] = "NEARLINE"
        near = list(scu.studies(StudyInstanceUID="2.25.10"))
        with pytest.raises(Unavailable, match=f"study 2.25.10 is {state.lower()}, and 1 more") as caught:
            scu.retrieve(away, to=tmp_path)
        assert caught.value.matches == tuple(away)
        with pytest.raises(Unavailable):
            scu.move(away[0], destination="WS1")
        done = scu.retrieve([*near, away[1]], to=tmp_path)
        assert (done.completed, done.unavailable, done.ok) == (4, (away[1],), False)


def test_it_is_retrieved_from_whoever_has_it(made: clients.Clients, tmp_path: Path) -> None:
    with (
        Archive() as archive,
        Archive() as other,
        made.make("QueryRetrieveScu", archive.peer, peers={"OTHER": other.peer}) as scu,
    ):
        for titles, asked in ((["OTHER", "ARCHIVE"], archive), (["OTHER"], other), (["UNKNOWN"], archive)):
            archive.state["RetrieveAETitle"] = titles
            [study] = scu.studies(StudyInstanceUID="2.25.10")
            archive.asked.clear()
            other.asked.clear()
            assert scu.retrieve(study, to=tmp_path).completed == 4
            assert len(asked.asked) == 1, titles
            assert len(archive.asked) + len(other.asked) == 1


def test_whoever_has_it_is_found_in_peers_toml(
    made: clients.Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Archive()
    other.listener.ae_title = None  # any will do
    with Archive() as archive, other:
        known = tmp_path / "peers.toml"
        known.write_text(f'[elsewhere]\naddress = "{other.peer.replace("ARCHIVE", "OTHER")}"\n')
        monkeypatch.setenv("DICOMNET_PEERS", str(known))
        archive.state["RetrieveAETitle"] = ["OTHER"]
        with made.make("QueryRetrieveScu", archive.peer) as scu:
            [study] = scu.studies(StudyInstanceUID="2.25.10")
            assert scu.retrieve(study, to=tmp_path / "got").completed == 4
    assert (len(archive.asked), len(other.asked)) == (1, 1)


def test_a_peer_that_offers_no_way_is_named(made: clients.Clients, port: int, tmp_path: Path) -> None:
    with Archive("") as archive:
        with (
            made.make("QueryRetrieveScu", archive.peer) as scu,
            pytest.raises(NoAcceptedContext),
        ):
            scu.retrieve("STUDY", to=tmp_path, StudyInstanceUID="2.25.10")
        with (
            made.make("QueryRetrieveScu", archive.peer, listen=f"127.0.0.1:{port}") as scu,
            pytest.raises(NoAcceptedContext),
        ):
            scu.retrieve("STUDY", to=tmp_path, StudyInstanceUID="2.25.10")


# ---- to oneself ------------------------------------------------------------------------------------------------------


class Moving(Archive):
    """An archive that waits amid a C-MOVE until it is let go."""

    def __init__(self, port: int, *, tls: bool = False, listener_tls: Any = None) -> None:
        destinations = {"WS1": dn.Entity("WS1", "127.0.0.1", port, tls)}
        super().__init__("move", destinations=destinations, tls=listener_tls)
        self.begun, self.go = threading.Event(), threading.Event()

    def _send(self, request: Any) -> Iterator[Any]:
        for one in super()._send(request):
            yield one
            self.begun.set()
            assert self.go.wait(faces.PATIENCE)


def retrieving(scu: Any, to: Path) -> tuple[threading.Thread, list[Any]]:
    """A retrieve in a thread, and a list for what comes of it."""
    return in_thread(lambda: scu.retrieve("STUDY", to=to, StudyInstanceUID="2.25.10"))


def test_a_stranger_is_refused_during_a_retrieve(made: clients.Clients, port: int, tmp_path: Path) -> None:
    with (
        Moving(port) as archive,
        made.make("QueryRetrieveScu", archive.peer, calling="WS1", listen=f"127.0.0.1:{port}") as scu,
    ):
        thread, outcome = retrieving(scu, tmp_path)
        assert archive.begun.wait(faces.PATIENCE)
        with pytest.raises(AssociationRejected, match="calling AE title not recognised"):
            dn.connect(f"WS1@127.0.0.1:{port}", calling="STRANGER", contexts=dn.contexts.storage([faces.CT]))
        with pytest.raises(AssociationRejected, match="called AE title not recognised"):
            dn.connect(f"WS2@127.0.0.1:{port}", calling="ARCHIVE", contexts=dn.contexts.storage([faces.CT]))
        archive.go.set()
        thread.join(faces.PATIENCE)
    assert outcome[0].completed == 4
    assert uids_in(tmp_path) == STUDY_0
    with pytest.raises(ConnectionFailed):
        dn.connect(f"WS1@127.0.0.1:{port}", calling="ARCHIVE", contexts=dn.contexts.verification())


@pytest.mark.parametrize("mutual", [False, True], ids=["server certificate", "both certificates"])
def test_to_oneself_over_tls(made: clients.Clients, port: int, tmp_path: Path, mutual: bool) -> None:
    authority = Authority(tmp_path)
    ours, theirs = authority.issue("ws1"), authority.issue("archive")
    asked = "required" if mutual else "ignored"
    here = dn.TLS(ca=authority.file, cert=ours.cert, key=ours.key, client_certificate=asked)
    there = dn.TLS(ca=authority.file, cert=theirs.cert, key=theirs.key, client_certificate=asked)
    into = tmp_path / "into"
    with (
        Moving(port, tls=True, listener_tls=there) as archive,
        made.make(
            "QueryRetrieveScu",
            archive.peer.replace("ARCHIVE@", "dicoms://ARCHIVE@"),
            calling="WS1",
            tls=here,
            listen=f"dicoms://ANY@127.0.0.1:{port}",
        ) as scu,
    ):
        thread, outcome = retrieving(scu, into)
        assert archive.begun.wait(faces.PATIENCE)
        contexts = dn.contexts.storage([faces.CT])
        with pytest.raises(AssociationRejected):
            dn.connect(f"dicoms://WS1@127.0.0.1:{port}", calling="STRANGER", tls=there, contexts=contexts)
        with pytest.raises(dn.DicomNetError):
            dn.connect(f"WS1@127.0.0.1:{port}", calling="ARCHIVE", contexts=contexts)
        archive.go.set()
        thread.join(faces.PATIENCE)
    assert outcome[0].completed == 4
    assert uids_in(into) == STUDY_0


def test_an_address_that_is_taken_is_said_before_anything_is_asked(made: clients.Clients, tmp_path: Path) -> None:
    with (
        Archive("move") as archive,
        dn.Listener(port=0) as taken,
        made.make("QueryRetrieveScu", archive.peer, listen=f"127.0.0.1:{taken.address[1]}") as scu,
    ):
        with pytest.raises(ConnectionFailed, match="cannot listen"):
            scu.retrieve("STUDY", to=tmp_path, StudyInstanceUID="2.25.10")
        assert archive.asked == []


def test_a_retrieve_that_fails_leaves_no_listener(made: clients.Clients, port: int, tmp_path: Path) -> None:
    with (
        Archive("move") as archive,  # which knows no destination
        made.make("QueryRetrieveScu", archive.peer, calling="WS1", listen=f"127.0.0.1:{port}") as scu,
    ):
        with pytest.raises(ServiceFailure, match="0xA801"):
            scu.retrieve("STUDY", to=tmp_path, StudyInstanceUID="2.25.10")
        assert made.tasks() == []
        with pytest.raises(ConnectionFailed):
            dn.connect(f"WS1@127.0.0.1:{port}", calling="ARCHIVE", contexts=dn.contexts.verification())
    assert uids_in(tmp_path) == []


def test_an_abort_leaves_no_listener(made: clients.Clients, port: int, tmp_path: Path) -> None:
    with (
        Moving(port) as archive,
        made.make("QueryRetrieveScu", archive.peer, calling="WS1", listen=f"127.0.0.1:{port}") as scu,
    ):
        thread, outcome = retrieving(scu, tmp_path)
        assert archive.begun.wait(faces.PATIENCE)
        scu.abort()
        thread.join(faces.PATIENCE)
        assert isinstance(outcome[0], dn.AssociationAborted)
        assert made.tasks() == []
        with pytest.raises(ConnectionFailed):
            dn.connect(f"WS1@127.0.0.1:{port}", calling="ARCHIVE", contexts=dn.contexts.verification())
        archive.go.set()
    assert set(uids_in(tmp_path)) <= set(STUDY_0)


# ---- cancel, close and abort from elsewhere --------------------------------------------------------------------------


class Silent(rig.Script):
    """A provider that answers one request with what is pending, and then says nothing until it is told to end."""

    def __init__(self, field: int) -> None:
        super().__init__(self._wait)
        self.begun = threading.Event()
        self._field = field

    def _wait(self, sock: Any, reader: Any) -> None:
        data = codec.encode(rig.keys(StudyInstanceUID="2.25.10"), uids.EXPLICIT_VR_LITTLE_ENDIAN)
        is_find = self._field == CommandField.C_FIND_RSP
        sock.sendall(rig.message(self._response(0xFF00, 1 if is_find else 0x0101), data if is_find else None))
        self.begun.set()
        command = b""
        while not command or decode_command(command).command_field != CommandField.C_CANCEL_RQ:
            pdu = reader.next()
            if not isinstance(pdu, PDataTF):
                return  # it was ended otherwise
            command = b"".join(bytes(pdv.data) for pdv in pdu.pdvs if pdv.is_command)
        sock.sendall(rig.message(self._response(0xFE00, 0x0101)))
        if isinstance(reader.next(), ReleaseRQ):
            sock.sendall(ReleaseRP().encode())

    def _response(self, status: int, data_set: int) -> Command:
        return Command(
            command_field=self._field, message_id_being_responded_to=1, status=status, command_data_set_type=data_set,
            affected_sop_class_uid=FIND,
        )  # fmt: skip


def in_thread(function: Any) -> tuple[threading.Thread, list[Any]]:
    """What comes of a call in a thread of its own."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_a_query_is_cancelled_while_the_peer_is_silent(made: clients.Clients) -> None:
    with Silent(CommandField.C_FIND_RSP) as silent, made.make("QueryRetrieveScu", silent.peer, idle=0) as scu:
        thread, outcome = in_thread(lambda: [one.uid for one in scu.studies()])
        assert silent.begun.wait(faces.PATIENCE)
        scu.cancel()
        thread.join(faces.PATIENCE)
        assert outcome == [["2.25.10"]]


def test_a_query_is_cancelled_from_its_own_loop(made: clients.Clients) -> None:
    with Silent(CommandField.C_FIND_RSP) as silent, made.make("QueryRetrieveScu", silent.peer, idle=0) as scu:
        found = []
        for match in scu.studies():
            found.append(match.uid)
            scu.cancel()
        assert found == ["2.25.10"]


def test_a_retrieve_is_cancelled_while_the_peer_is_silent(made: clients.Clients, port: int, tmp_path: Path) -> None:
    listen = f"127.0.0.1:{port}"
    with (
        Silent(CommandField.C_MOVE_RSP) as silent,
        made.make("QueryRetrieveScu", silent.peer, by=("move",), listen=listen, idle=0) as scu,
    ):
        thread, outcome = in_thread(lambda: scu.retrieve("STUDY", to=tmp_path, StudyInstanceUID="2.25.10"))
        assert silent.begun.wait(faces.PATIENCE)
        scu.cancel()
        thread.join(faces.PATIENCE)
        assert (outcome[0].cancelled, outcome[0].ok) == (True, False)
        with pytest.raises(ConnectionFailed):
            dn.connect(f"WS1@127.0.0.1:{port}", calling="SCRIPT", contexts=dn.contexts.verification())


@pytest.mark.parametrize("way", ["get", "move"])
def test_a_cancel_amid_a_retrieve_leaves_nothing(made: clients.Clients, port: int, tmp_path: Path, way: str) -> None:
    destinations = {"WS1": dn.Entity("WS1", "127.0.0.1", port)}
    with (
        Archive(way, destinations=destinations) as archive,
        made.make("QueryRetrieveScu", archive.peer, calling="WS1", listen=f"127.0.0.1:{port}") as scu,
    ):
        itself = scu if made.face == "sync" else scu._association
        scu.on(events.Received)(made.handler(lambda event: itself.cancel()))  # in the middle of it all
        done = scu.retrieve("STUDY", to=tmp_path, StudyInstanceUID="2.25.10")
        assert (done.by, done.cancelled, done.ok) == (way, True, False)
        assert 1 <= done.completed < 4
        with pytest.raises(ConnectionFailed):
            dn.connect(f"WS1@127.0.0.1:{port}", calling="ARCHIVE", contexts=dn.contexts.verification())
        assert made.tasks() == []
    assert uids_in(tmp_path) == STUDY_0[: done.completed]


@pytest.mark.parametrize("way", ["get", "move"])
def test_a_task_that_is_cancelled_leaves_nothing(port: int, tmp_path: Path, way: str) -> None:
    destinations = {"WS1": dn.Entity("WS1", "127.0.0.1", port)}

    async def retrieve(peer: str) -> list[str]:
        arrived, never = asyncio.Event(), asyncio.Event()
        scu = dn.client.aio.QueryRetrieveScu(peer, calling="WS1", listen=f"127.0.0.1:{port}")

        @scu.on(events.Received)
        async def hold(event: Any) -> None:
            arrived.set()
            await never.wait()

        async with scu:
            task = asyncio.create_task(scu.retrieve("STUDY", to=tmp_path, StudyInstanceUID="2.25.10"))
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(ConnectionFailed):
                await dn.aio.connect(f"WS1@127.0.0.1:{port}", contexts=dn.contexts.verification())
        return [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}]

    with faces.nothing_left(), Archive(way, destinations=destinations) as archive:
        assert asyncio.run(retrieve(archive.peer)) == []
    assert uids_in(tmp_path) == []


@pytest.mark.parametrize("way", ["get", "move"])
def test_an_interrupt_leaves_nothing(port: int, tmp_path: Path, way: str) -> None:
    destinations = {"WS1": dn.Entity("WS1", "127.0.0.1", port)}
    listen = f"127.0.0.1:{port}"

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with (
        faces.nothing_left(),
        Archive(way, destinations=destinations) as archive,
        dn.client.QueryRetrieveScu(archive.peer, calling="WS1", listen=listen) as scu,
    ):
        with pytest.raises(KeyboardInterrupt):
            scu.retrieve("STUDY", to=tmp_path, StudyInstanceUID="2.25.10", progress=interrupt)
        with pytest.raises(ConnectionFailed):
            dn.connect(f"WS1@127.0.0.1:{port}", contexts=dn.contexts.verification())
    assert set(uids_in(tmp_path)) <= set(STUDY_0)


def test_a_query_is_aborted_from_elsewhere(made: clients.Clients) -> None:
    with Silent(CommandField.C_FIND_RSP) as silent, made.make("QueryRetrieveScu", silent.peer) as scu:
        thread, outcome = in_thread(lambda: list(scu.studies()))
        assert silent.begun.wait(faces.PATIENCE)
        scu.abort()
        thread.join(faces.PATIENCE)
        assert isinstance(outcome[0], dn.AssociationAborted)


def test_closing_waits_for_what_is_under_way(made: clients.Clients) -> None:
    with Silent(CommandField.C_FIND_RSP) as silent, made.make("QueryRetrieveScu", silent.peer) as scu:
        thread, outcome = in_thread(lambda: [one.uid for one in scu.studies()])
        assert silent.begun.wait(faces.PATIENCE)
        scu.close()
        with pytest.raises(dn.LocalProtocolError, match="closed"):
            list(scu.studies())
        scu.cancel()
        thread.join(faces.PATIENCE)
        assert outcome == [["2.25.10"]]
