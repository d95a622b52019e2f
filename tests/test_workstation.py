"""A workstation: what it receives and when a study has ended, remote queries, the queue of retrieves and sends."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import web_archives
from archives import CT, data_set, part10
from servers import Told
from test_interop_services import COUNT, SELF, Server, orthanc, study
from workstations import serving, stored

import dicomnet as dn
from dicomnet.config import Timeouts
from dicomnet.repository.holdings import Holdings
from dicomnet.server.admin import AdminError
from dicomnet.server.ae_entry import AEEntry
from dicomnet.testing import Provider
from dicomnet.workstation import work
from dicomnet.workstation.jobs import _FIELDS, KEPT, Job, JobKind, JobQueue, JobState, Order
from dicomnet.workstation.remote import Fetching, Wanted
from dicomnet.workstation.station import Workstation
from dicomnet.workstation.studies import Studies

STUDY = "2.25.100"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An Orthanc with a study, and an earlier one of the patient P2."""
    with orthanc(tmp_path_factory.mktemp("orthanc")) as made:
        with dn.connect(made.peer, calling=SELF, contexts=dn.contexts.storage([CT])) as association:
            assert all(result.ok for result in association.store_many(study()))
            for number, year in enumerate((2020, 2022, 2024), 71):
                old = part10(1, study=number, PatientID="P2", StudyDate=f"{year}0101")
                assert association.store(old).status.is_success
        yield made


def finished(told: Told, station: Workstation, job: Job, state: JobState = JobState.DONE) -> Job:
    """A job, once it is over."""
    with told._changed:
        assert told._changed.wait_for(lambda: station.queue.get(job.id).state.is_over, 40), station.queue.get(job.id)
    found = station.queue.get(job.id)
    assert found.state is state, found
    return found


def uids_of(holdings: Holdings) -> set[str]:
    return {place.uid for page in holdings.places.pages() for place in page}


# ---- what arrives ----------------------------------------------------------------------------------------------------


def test_a_study_ends_once(tmp_path: Path) -> None:
    """With no viewer open, and once only, though the server is started again; what comes late is no second end."""
    with serving(tmp_path, end_of_study=3600) as (server, station, _), Told(server) as told:
        stored(server.peer, part10(1), part10(2), part10(1, study=2))
        station.studies._quiet = 0.0  # now that all of them are there
        station.studies.look()
        ended = told.wait_for("workstation.study_ended", 2)
        assert {one.data["study"]: one.data["instances"] for one in ended} == {"1.2.1": 2, "1.2.2": 1}
        stored(server.peer, part10(3))
        station.studies.look()
    with serving(tmp_path, end_of_study=0.3) as (server, station, _), Told(server) as told:
        stored(server.peer, part10(1, study=3))
        [one] = told.wait_for("workstation.study_ended")
        assert (one.data["study"], one.data["number"]) == ("1.2.3", 3)
        assert [one.ended > 0 for one in station.local()] == [True] * 3


def test_an_end_that_was_noted_but_not_told_is_told_at_the_next_start(tmp_path: Path) -> None:
    def killed(*_: object, **__: object) -> None:
        raise SystemExit

    with serving(tmp_path, end_of_study=3600) as (server, station, _):
        stored(server.peer, part10(1))
        station.studies._quiet, station.studies._ended = 0.0, killed
        with pytest.raises(SystemExit):
            station.studies.look()
    with serving(tmp_path, end_of_study=3600) as (server, station, _), Told(server) as told:
        stored(server.peer, part10(1, study=2))
        station.studies.look()
        assert [one.data["number"] for one in told.wait_for("workstation.study_ended")] == [1]


def test_what_it_holds_is_found_got_and_shown(tmp_path: Path) -> None:
    with serving(tmp_path, web=True) as (server, station, _):
        stored(server.peer, part10(1))
        with dn.connect(server.peer, contexts=dn.contexts.query_retrieve([CT])) as association:
            [match] = association.find("STUDY", StudyInstanceUID="1.2.1", PatientID="")
            assert match.PatientID == "P1"
            assert association.get("STUDY", to=tmp_path / "got", StudyInstanceUID="1.2.1").ok
        assert station.local()[0].open is False
        base = f"http://127.0.0.1:{server.web.address[1]}/workstation"
        assert httpx.get(f"{base}/dicomweb/studies").json()[0]["0020000D"]["Value"] == ["1.2.1"]
        assert station.local()[0].open is False
        assert httpx.get(f"{base}/dicomweb/studies/1.2.1/metadata").status_code == 200
        assert "viewer" in httpx.get(f"{base}/viewer/").text
        assert station.local()[0].open is True


def test_the_quota_spares_what_is_open_pinned_or_in_use(tmp_path: Path) -> None:
    with serving(tmp_path, end_of_study=0.001) as (server, station, admin):
        for number in range(1, 6):
            stored(server.peer, part10(1, study=number, size=1 << 16))
        size = station.local()[0].bytes
        admin.send("WorkstationPin", {"studies": ["1.2.1"]})
        station.studies.touch("1.2.2")
        station.studies._busy = lambda: {"1.2.3"}
        assert [one.uid for one in station.studies.prune(4 * size)] == ["1.2.4"]
        assert [one.uid for one in station.studies.prune(size)] == ["1.2.5"]
        assert station.studies.over_quota == 2 * size
        assert [one.detail for one in server.health() if one.name == "workstation quota"] == [
            f"{2 * size} bytes too many, all pinned or in use"
        ]
        admin.send("WorkstationPin", {"studies": ["1.2.1"], "pinned": False})
        assert [one.uid for one in station.studies.prune(2 * size)] == ["1.2.1"]
        assert admin.send("WorkstationStatus")["over_quota"] == 0
        assert {place.rpartition(".1.")[0] for place in uids_of(station.holdings)} == {"1.2.2", "1.2.3"}


def test_the_use_of_a_study_is_forgotten_with_it(tmp_path: Path) -> None:
    """What is not here is not kept in mind: UIDs that someone made up, and the pin of a study that was deleted."""
    with serving(tmp_path, end_of_study=3600) as (server, station, admin):
        stored(server.peer, part10(1), part10(1, study=2))
        admin.send("WorkstationPin", {"studies": ["1.2.2"]})
        for uid in ("1.2.1", "1.2.98", "1.2.99"):
            station.studies.touch(uid)
        station.studies.look()
        used = "SELECT study FROM study_use ORDER BY study"
        assert station.studies._database.rows(used) == ["1.2.1", "1.2.2"]
        assert station.studies._opened == {}
        admin.send("WorkstationDelete", {"studies": ["1.2.2"]})
        station.studies.look()
        assert station.studies._database.rows(used) == ["1.2.1"]
        stored(server.peer, part10(1, study=2))
        assert {one.uid: one.pinned for one in station.local()} == {"1.2.1": False, "1.2.2": False}


def test_how_much_is_here_is_said_without_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any number of studies, and each few seconds for the quota."""
    with serving(tmp_path) as (server, station, admin):
        empty = admin.send("WorkstationStatus")
        assert (empty["studies"], empty["instances"], empty["bytes"]) == (0, 0, 0)
        stored(server.peer, part10(1), part10(2), part10(1, study=2))
        size = sum(one.bytes for one in station.local())
        monkeypatch.setattr(Studies, "_all", None)
        full = admin.send("WorkstationStatus")
        assert (full["studies"], full["instances"], full["bytes"]) == (2, 3, size)
        assert station.studies.prune(size) == []


def test_the_quota_spares_what_the_oldest_of_many_jobs_is_about(tmp_path: Path) -> None:
    columns = ", ".join(_FIELDS[1:])
    others = columns.replace("study", "'1.2.9'")
    count = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {KEPT})"
    with serving(tmp_path, end_of_study=0.001) as (server, station, _):
        stored(server.peer, part10(1), part10(1, study=2))
        station._runner.close()
        station.queue.add(Order(JobKind.SEND, "NOWHERE", "1.2.1"))
        with station.queue._database.transaction() as run:
            run(f"{count} INSERT INTO job ({columns}) SELECT {others} FROM job, n")
        assert [one.uid for one in station.studies.prune(1)] == ["1.2.2"]


def test_what_it_holds_is_searched_and_deleted_by_messages(tmp_path: Path) -> None:
    with serving(tmp_path) as (server, station, admin):
        stored(server.peer, part10(1), part10(1, study=2))
        found = admin.send("WorkstationSearch", {"keys": {"PatientID": "P2"}})
        assert [one["study"] for one in found["studies"]] == ["1.2.2"]
        assert admin.send("WorkstationStudy", {"study": "1.2.1"})["series_list"][0]["instances"] == "1"
        assert admin.send("WorkstationDelete", {"studies": ["1.2.2"]})["instances"] == 1
        assert [one.uid for one in station.local()] == ["1.2.1"]


# ---- remote archives -------------------------------------------------------------------------------------------------


def test_a_remote_archive_is_asked(tmp_path: Path, archive: Server) -> None:
    with serving(tmp_path, archive) as (_, _, admin):
        asked = {"peer": "ORTHANC", "keys": {"StudyInstanceUID": STUDY, "PatientName": "DOE*"}}
        [one] = admin.send("WorkstationQuery", asked)["matches"]
        assert one["0020000D"]["Value"] == [STUDY]
        keys = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": ""}
        [series] = admin.send("WorkstationQuery", {"peer": "ORTHANC", "level": "SERIES", "keys": keys})["matches"]
        keys["SeriesInstanceUID"] = series["0020000E"]["Value"][0]
        wanted = {"peer": "ORTHANC", "level": "IMAGE", "keys": keys, "most": 7}
        assert len(admin.send("WorkstationQuery", wanted)["matches"]) == 7


@pytest.mark.parametrize("by", ["", "get", "move"])
def test_a_study_is_retrieved_and_what_is_here_is_not_fetched_again(tmp_path: Path, archive: Server, by: str) -> None:
    with serving(tmp_path, archive) as (server, station, admin), Told(server) as told:
        job = station.order(Order(JobKind.RETRIEVE, "ORTHANC", STUDY, by=by))
        done = finished(told, station, job)
        assert (done.expected, done.present, done.found, done.attempts) == (COUNT, COUNT, 0, 1)
        assert station.storage.stored == COUNT
        expected = {uid: bytes(data) for uid, data in archive.held().items()}
        assert {uid for uid in expected if uid in uids_of(station.holdings)} == uids_of(station.holdings)
        steps = [one.data["job"]["present"] for one in told.events if one.type == "workstation.job"]
        assert steps == sorted(steps)
        # Again: nothing comes. With three gone: three come.
        again = finished(told, station, station.order(Order(JobKind.RETRIEVE, "ORTHANC", STUDY, by=by)))
        assert (again.found, station.storage.stored) == (COUNT, COUNT)
        gone = sorted(uids_of(station.holdings))[:3]
        station.holdings.database.transaction(lambda connection: _remove(connection, gone))
        again = finished(told, station, station.order(Order(JobKind.RETRIEVE, "ORTHANC", STUDY, by=by)))
        assert (again.found, again.present, station.storage.stored) == (COUNT - 3, COUNT, COUNT + 3)
        assert len(admin.send("WorkstationJobs")["jobs"]) == 3


def _remove(connection: Any, gone: list[str]) -> None:
    from dicomnet.repository.removal import remove_instances

    remove_instances(connection, gone)


def test_a_retrieve_that_runs_is_cancelled_and_goes_on(tmp_path: Path, archive: Server) -> None:
    with serving(tmp_path, archive) as (server, station, admin), Told(server) as told:
        cancelled = list[int]()

        def cancel(event: Any) -> None:
            if event.type == "workstation.job" and event.data["job"]["present"] and not cancelled:
                cancelled.append(event.data["job"]["id"])
                station.cancel(event.data["job"]["id"])

        end = server.events.listen(cancel)
        job = station.order(Order(JobKind.RETRIEVE, "ORTHANC", STUDY))
        finished(told, station, job, JobState.CANCELLED)
        end()
        assert cancelled
        assert admin.send("WorkstationRetry", {"id": job.id})["job"]["state"] in ("waiting", "running")
        done = finished(told, station, job)
        assert 0 < done.found <= COUNT  # Orthanc may have sent all by then
        assert (done.present, station.storage.stored) == (COUNT, COUNT)


def test_a_job_goes_on_after_a_restart_and_waits_with_its_back_off(tmp_path: Path, archive: Server) -> None:
    """A peer that is away is tried again; what was running when the process ended is, too."""
    with serving(tmp_path, archive) as (server, station, admin), Told(server) as told:
        server.base.ae_titles.update("ORTHANC", server.base.ae_titles.get("ORTHANC").model_copy(update={"port": 1}))
        job = station.order(Order(JobKind.RETRIEVE, "ORTHANC", STUDY))
        with told._changed:
            assert told._changed.wait_for(lambda: station.queue.get(job.id).error, 20)
        waits = station.queue.get(job.id)
        assert (waits.state, waits.retry, waits.attempts) == (JobState.WAITING, "network", 1)
        assert "refused" in waits.error
        assert waits.due > waits.changed
        port = int(archive.peer.rpartition(":")[2])
        server.base.ae_titles.update("ORTHANC", server.base.ae_titles.get("ORTHANC").model_copy(update={"port": port}))
    with serving(tmp_path, archive) as (server, station, admin), Told(server) as told:
        admin.send("WorkstationRetry", {"id": job.id})
        assert finished(told, station, station.queue.get(job.id)).present == COUNT


def test_why_a_c_get_failed_is_logged_before_a_c_move(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(tmp_path) as (server, station, _), caplog.at_level("WARNING", "dicomnet"):
        server.base.ae_titles.add(AEEntry(title="GONE", host="127.0.0.1", port=1))
        wanted = [Wanted("1.2.1.1", "1.2.1.1.1", CT)]
        with pytest.raises(dn.ConnectionFailed):
            station.remotes.of("GONE").fetch("1.2.1", wanted, "", whole=True, fetching=Fetching())
    [said] = [one.getMessage() for one in caplog.records if "C-GET failed, C-MOVE is tried" in one.getMessage()]
    assert "Connection refused" in said


def test_what_no_peer_has_fails_by_name(tmp_path: Path, archive: Server) -> None:
    with serving(tmp_path, archive) as (server, station, _), Told(server) as told:
        job = station.order(Order(JobKind.RETRIEVE, "ORTHANC", "2.25.404"))
        with told._changed:
            assert told._changed.wait_for(lambda: station.queue.get(job.id).error, 20)
        waits = station.queue.get(job.id)
        assert (waits.error, waits.retry) == ("ORTHANC has nothing of it", "partial")
        station.cancel(job.id)
        assert station.queue.get(job.id).state is JobState.CANCELLED


def test_priors_come_with_what_is_sent_here_but_bring_no_more(tmp_path: Path, archive: Server) -> None:
    with (
        serving(tmp_path, archive, priors_from=["ORTHANC"], priors=2, end_of_study=0.2) as (server, station, _),
        Told(server) as told,
    ):
        # The AE title was not known before the first end of a study.
        stored(server.peer, part10(1, study=70, PatientID="P2"))
        told.wait_for("workstation.study_ended", 3)
        assert {one.uid for one in station.local()} == {"1.2.70", "1.2.73", "1.2.72"}
        jobs = station.queue.page()
        assert sorted(one.study for one in jobs) == ["1.2.72", "1.2.73"]
        assert {one.note for one in jobs} == {"an earlier study of the patient"}


# ---- sending ---------------------------------------------------------------------------------------------------------


def test_a_stop_waits_for_no_peer_that_does_not_answer(tmp_path: Path) -> None:
    with Provider("SLOW", stall="response") as peer:
        with serving(tmp_path) as (server, station, _):
            stored(server.peer, part10(1))
            server.base.ae_titles.add(AEEntry(title="SLOW", host="127.0.0.1", port=int(peer.peer.rpartition(":")[2])))
            job = station.order(Order(JobKind.SEND, "SLOW", "1.2.1"))
            peer.wait_for(1)
            begun = time.monotonic()
        assert time.monotonic() - begun < (Timeouts().response or 0) / 2
        with serving(tmp_path) as (_, station, _):
            assert not station.queue.get(job.id).state.is_over


def test_a_study_is_sent_and_not_sent_again_after_an_interruption(tmp_path: Path, archive: Server) -> None:
    with serving(tmp_path, archive) as (server, station, admin), Told(server) as told:
        stored(server.peer, *(part10(number, study=90) for number in range(1, 8)))
        job = station.order(Order(JobKind.SEND, "ORTHANC", "1.2.90"))
        done = finished(told, station, job)
        assert (done.expected, done.present) == (7, 7)
        held = archive.held()
        assert held["1.2.90.1.3"] == data_set(3, study=90)
        station.queue.cancel(job.id)
        admin.send("WorkstationClear")
        with pytest.raises(AdminError, match=f"there is no job {job.id}"):
            admin.send("WorkstationJob", {"id": job.id})


def test_what_was_sent_is_noted_once_and_what_was_there_stays_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that goes on writes down what is new, and says to its end how much was there before."""
    reports, noted = list[tuple[int, int, int]](), list[str]()
    note = JobQueue.note_sent

    def kept(queue: JobQueue, number: int, uids: Iterable[str]) -> None:
        noted.extend(uids)
        note(queue, number, uids)

    monkeypatch.setattr(JobQueue, "note_sent", kept)
    monkeypatch.setattr(work, "_NOTED", 2)
    with Provider("PEER") as peer, serving(tmp_path) as (server, station, _):
        stored(server.peer, *(part10(number) for number in range(1, 8)))
        server.base.ae_titles.add(AEEntry(title="PEER", host="127.0.0.1", port=int(peer.peer.rpartition(":")[2])))
        station._runner.close()
        job = station.queue.add(Order(JobKind.SEND, "PEER", "1.2.1"))
        station.queue.note_sent(job.id, ["1.2.1.1.1", "1.2.1.1.2"])
        client = station._requests.client("PEER")
        work.send_dimse(job, client, station.holdings, station.queue, Fetching(), lambda *one: reports.append(one))
        assert reports == [(7, 2, 2), (7, 4, 2), (7, 6, 2), (7, 7, 2)]
        assert sorted(noted) == sorted(station.queue.sent(job.id)) == [f"1.2.1.1.{number}" for number in range(1, 8)]


def test_over_dicomweb(tmp_path: Path) -> None:
    """Asked by QIDO-RS, retrieved by WADO-RS, sent by STOW-RS; again only what is missing."""
    with web_archives.served(tmp_path / "remote") as (remote, url):
        stored(f"ARCHIVE@127.0.0.1:{remote.listener.address[1]}", *(part10(number) for number in range(1, 6)))
        with (
            serving(tmp_path / "ws", dicomweb={"PACS": f"{url}/dicomweb"}) as (
                server,
                station,
                admin,
            ),
            Told(server) as told,
        ):
            [one] = admin.send("WorkstationQuery", {"peer": "PACS", "keys": {"PatientID": "P1"}})["matches"]
            assert one["0020000D"]["Value"] == ["1.2.1"]
            done = finished(told, station, station.order(Order(JobKind.RETRIEVE, "PACS", "1.2.1")))
            assert (done.expected, done.present, len(uids_of(station.holdings))) == (5, 5, 5)
            station.holdings.database.transaction(lambda connection: _remove(connection, ["1.2.1.1.2"]))
            done = finished(told, station, station.order(Order(JobKind.RETRIEVE, "PACS", "1.2.1")))
            assert (done.found, done.present) == (4, 5)
            stored(server.peer, part10(1, study=9), part10(2, study=9))
            done = finished(told, station, station.order(Order(JobKind.SEND, "PACS", "1.2.9")))
            assert (done.expected, done.present) == (2, 2)
            assert len(remote.holdings.places.of(["1.2.9.1.1", "1.2.9.1.2"])) == 2


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "data", "said"),
    [
        ("WorkstationQuery", {"peer": "NOWHERE"}, 'the AE title "NOWHERE" is not known'),
        ("WorkstationQuery", {"peer": "ORTHANC", "level": "ROOM"}, "level: Input should be"),
        ("WorkstationQuery", {"peer": "ORTHANC", "keys": {"PatentName": "x"}}, "PatentName"),
        ("WorkstationRetrieve", {"peer": "NOWHERE", "study": "1.2"}, 'the AE title "NOWHERE" is not known'),
        ("WorkstationRetrieve", {"peer": "ORTHANC", "study": "1.2/../3"}, "study: Value error, expected a UID"),
        ("WorkstationRetrieve", {"peer": "ORTHANC"}, "study: Field required"),
        ("WorkstationCancel", {"id": 77}, "there is no job 77"),
        ("WorkstationPrefetch", {"peer": "ORTHANC", "study": "1.2"}, "the study 1.2 is not here"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    tmp_path: Path, archive: Server, message: str, data: dict[str, Any], said: str
) -> None:
    with serving(tmp_path, archive) as (_, station, admin):
        with pytest.raises(AdminError, match=said):
            admin.send(message, data)
        assert station.queue.page() == []


@pytest.mark.long
def test_files_come_in_and_go_out(tmp_path: Path) -> None:
    """Folder, zip and DICOMDIR, both ways; what is no instance is told."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(1, 4):
        (folder / f"{number}.dcm").write_bytes(part10(number))
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as packed:
        packed.writestr("a.dcm", part10(1, study=2))
    (folder / "notes.txt").write_text("no instance")
    with serving(tmp_path / "ws") as (_, station, admin):
        result = admin.send("WorkstationImport", {"paths": [str(folder), str(tmp_path / "in.zip")]})
        assert (result["stored"], result["known"], len(result["failed"])) == (4, 0, 1)
        assert "notes.txt" in result["failed"][0]["file"]
        for form, target in (("zip", "out.zip"), ("dicomdir", "media"), ("folder", "out")):
            wanted = {"studies": ["1.2.1"], "target": str(tmp_path / target), "format": form}
            assert admin.send("WorkstationExport", wanted)["instances"] == 3
        assert (tmp_path / "media" / "DICOMDIR").is_file()
        assert sorted(uids_of(station.holdings)) == ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.1.3", "1.2.2.1.1"]
    for number, source in enumerate(("out.zip", "media", "out")):
        with serving(tmp_path / f"ws{number}") as (_, station, admin):
            assert admin.send("WorkstationImport", {"paths": [str(tmp_path / source)]})["stored"] == 3
            assert json.dumps(sorted(uids_of(station.holdings))) == '["1.2.1.1.1", "1.2.1.1.2", "1.2.1.1.3"]'
