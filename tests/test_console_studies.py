"""An archive in the console: studies searched, sent, deleted, imported, exported; the worklist; what was reported."""

from __future__ import annotations

import io
import re
import socket
import tempfile
import threading
import zipfile

import consoles
import pytest
from archives import part10
from rig import PATIENCE, until
from routers import CT

import dicomnet as dn
from dicomnet import uids
from dicomnet.dataset import codec
from dicomnet.server.admin import AdminError, AsyncClient, Client
from dicomnet.server.ae_entry import AEEntry
from dicomnet.testing import Provider
from dicomnet.web import bodies, study_messages
from dicomnet.web.console import pages as console_pages

HOSTILE = '"><script>alert(1)</script>'
BOOKED = {
    "patient_name": "Muster^Anna", "patient_id": "P1", "birth_date": "1970-01-02", "sex": "F", "accession": "ACC1",
    "referring": "", "procedure": "Thorax", "modality": "CT", "station": "CT1", "date": "2026-11-30", "time": "10:30",
    "step": "Chest", "physician": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with consoles.place(tmp_path_factory.mktemp("servers")) as path:
        yield path


@pytest.fixture(scope="module")
def server(place):
    addins = ["verification", "archive"]
    with consoles.running(
        place, addins__enable=addins, addin__archive__durability="os", web__port=0, timeouts__reconnect=0.1
    ) as server:
        yield server


@pytest.fixture(scope="module")
def admin(server):
    with Client(server.settings.admin.socket) as admin:
        yield admin


@pytest.fixture(scope="module")
def url(server):
    with consoles.serving() as url:
        yield f"{url}/servers/main/"


@pytest.fixture
def pages(url):
    with consoles.browser(url) as client:
        yield client


def stored(server, *instances):
    with dn.connect(f"MAIN@127.0.0.1:{server.address[1]}", contexts=dn.contexts.storage([CT])) as association:
        for one in instances:
            assert association.store(one).status.is_success


def names(page):
    return re.findall(r'<th scope="row"><a href="[^"]*/studies/[^"]*">([^<]*)</a>', page)


class TestStudies:
    @pytest.fixture(scope="class", autouse=True)
    @staticmethod
    def held(server):
        for study in range(1, 4):
            said = {"PatientName": f"Doe{study}^Jane", "PatientID": f"P{study}", "AccessionNumber": f"A{study}"}
            stored(server, *(part10(n, study=study, StudyDate=f"2026010{study}", **said) for n in (1, 2)))

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("", ["Doe1^Jane", "Doe2^Jane", "Doe3^Jane"]), ("patient_name=oe2", ["Doe2^Jane"]),
            ("patient_name=oe2&after=%C2%B2", ["Doe2^Jane"]), (f"patient_name=oe2&after={'9' * 900}", ["Doe2^Jane"]),
            ("patient_id=P3", ["Doe3^Jane"]), ("accession=A1", ["Doe1^Jane"]), ("modality=MR", []),
            ("from=2026-01-02", ["Doe2^Jane", "Doe3^Jane"]), ("from=2026-01-01&to=2026-01-01", ["Doe1^Jane"]),
            ("to=2026-01-02", ["Doe1^Jane", "Doe2^Jane"]), ("patient_name=Doe%3F^Jane&modality=CT",
                                                           ["Doe1^Jane", "Doe2^Jane", "Doe3^Jane"]),
        ],
    )  # fmt: skip
    def test_search(self, pages, query, found):
        assert names(pages.get(f"studies?{query}").text) == found
        part = pages.get(f"studies?{query}", headers={"HX-Request": "true"}).text
        assert names(part) == found
        assert "<html" not in part

    def test_a_search_that_makes_no_sense_says_so(self, pages):
        response = pages.get("studies?from=yesterday")
        assert response.status_code == 422
        assert 'value="yesterday"' in response.text
        assert names(pages.get("studies?modality=ct%5Cmr%00").text) == []
        assert pages.get("studies/1.2.3.4").status_code == 422
        assert pages.get("studies/none").status_code == 422

    def test_more_than_a_page_goes_on(self, pages, monkeypatch):
        monkeypatch.setattr("dicomnet.web.console.studies._PAGE", 2)
        first = pages.get("studies?patient_name=Doe").text
        there = re.search(r'href="([^"]*after=[^"]*)"', first)[1].replace("&amp;", "&")
        assert names(first) + names(pages.get(there.rpartition("/")[2]).text) == ["Doe1^Jane", "Doe2^Jane", "Doe3^Jane"]

    def test_a_study_opens_in_the_viewer_of_its_server(self, pages, server):
        page = pages.get("studies/1.2.1").text
        there = re.search(r'href="(http[^"]*/archive/viewer/viewer\?StudyInstanceUIDs=1.2.1)"', page)[1]
        assert there.startswith(server.listening["web"])

    def test_what_a_peer_wrote_is_text(self, pages, server):
        stored(server, part10(1, study=66, PatientName=HOSTILE, StudyDescription=HOSTILE, PatientID=HOSTILE))
        for path in ("studies", "studies/1.2.66", "studies?patient_name=script"):
            text = pages.get(path).text
            assert "<script>alert" not in text
            assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        pages.post("studies/delete", data={"study": "1.2.66"})

    def test_sent_and_what_cannot_be_sent_is_kept(self, pages, server, admin):
        with Provider("DEST") as peer:
            server.base.ae_titles.add(AEEntry(title="DEST", host="127.0.0.1", port=int(peer.peer.rpartition(":")[2])))
            server.base.ae_titles.add(AEEntry(title="AWAY", host="127.0.0.1", port=1))
            said = pages.post("studies/act", data={"act": "send", "study": ["1.2.1", "1.2.2"], "to": "DEST"},
                              follow_redirects=True)  # fmt: skip
            assert "On their way to DEST: 2." in said.text
            assert len(peer.wait_for(4)) == 4
        until(lambda: not admin.send("ArchiveSending")["jobs"])
        pages.post("studies/act", data={"act": "send", "study": "1.2.1", "to": "AWAY"})
        until(lambda: admin.send("ArchiveSending")["jobs"][0]["error"])
        [job] = admin.send("ArchiveSending")["jobs"]
        page = pages.get("sending").text
        assert "waiting" in page
        assert "AWAY" in page
        assert "Tried again: 1." in pages.post("sending", data={"id": job["id"]}, follow_redirects=True).text
        until(lambda: admin.send("ArchiveSending")["jobs"][0]["state"] == "waiting")
        gone = pages.post("sending", data={"id": job["id"], "act": "cancel"}, follow_redirects=True).text
        assert "Given up: 1." in gone
        none = pages.post("studies/act?patient_name=Doe2", data={"act": "send"}, follow_redirects=True)
        assert "Choose the studies first." in none.text
        assert names(none.text) == ["Doe2^Jane"]  # the search stays
        refused = pages.post("studies/act", data={"act": "send", "study": "1.2.1", "to": "NOWHERE"})
        assert refused.status_code == 422
        assert "NOWHERE" in refused.text

    def test_of_many_to_be_deleted_some_are_named(self, pages, monkeypatch):
        monkeypatch.setattr("dicomnet.web.console.studies._MOST_NAMED", 1)
        asked = pages.post("studies/act", data={"act": "delete", "study": ["1.2.1", "1.2.2"]}).text
        assert "Delete 2 studies?" in asked
        assert "Doe1^Jane" in asked
        assert "Doe2^Jane" not in asked
        assert "and 1 more" in asked

    def test_what_takes_longer_than_an_answer_does_is_waited_for(self, pages, monkeypatch):
        real, pauses, over = study_messages.export, iter((0.5, 60)), threading.Event()
        ended = threading.Semaphore(0)

        def slow(*arguments, **options):
            over.wait(next(pauses))
            try:
                real(*arguments, **options)  # the second time it has no folder any more
            finally:
                ended.release()

        monkeypatch.setattr(study_messages, "export", slow)
        monkeypatch.setattr(AsyncClient.send, "__kwdefaults__", {"service": "", "patience": 0.1})
        response = pages.post("studies/export", data={"study": ["1.2.1"]})
        assert response.headers["content-type"] == "application/zip"
        monkeypatch.setattr(console_pages, "WORK_SECONDS", 0.1)
        assert pages.post("studies/export", data={"study": ["1.2.1"]}).status_code == 503
        over.set()
        assert all(ended.acquire(timeout=PATIENCE) for _ in range(2))

    @pytest.mark.parametrize("form", ["zip", "dicomdir"])
    def test_taken_out_and_brought_in_again(self, pages, admin, form, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        before = {one["study"] for one in admin.send("ArchiveSearch")["studies"]}
        assert "Download" in pages.post("studies/act", data={"act": "export", "study": "1.2.3"}).text
        response = pages.post("studies/export", data={"study": ["1.2.3"], "format": form})
        assert response.headers["content-type"] == "application/zip"
        with zipfile.ZipFile(io.BytesIO(response.content)) as packed:
            assert packed.testzip() is None
            assert any("DICOMDIR" in name for name in packed.namelist()) == (form == "dicomdir")
        asked = pages.post("studies/act?patient_name=Doe", data={"act": "delete", "study": "1.2.3"}).text
        assert "Doe3^Jane</strong> (P3), 2026-01-03: 2 instances" in asked
        assert 'studies?patient_name=Doe">Keep it</a>' in asked
        assert (
            "Deleted: 2 instances." in pages.post("studies/delete", data={"study": "1.2.3"}, follow_redirects=True).text
        )
        assert {one["study"] for one in admin.send("ArchiveSearch")["studies"]} == before - {"1.2.3"}
        page = pages.post("import", files=[("files", ("../../x.zip", response.content, "application/zip"))]).text
        assert "2 stored, 0 there already, 0 in quarantine, 0 failed." in page
        assert {one["study"] for one in admin.send("ArchiveSearch")["studies"]} == before
        assert list(tmp_path.glob("dicomnet-console-*")) == []

    def test_what_cannot_be_imported_is_named(self, pages):
        response = pages.post("import", files=[("files", ("../<b>notes</b>.txt", b"no DICOM at all", "text/plain"))])
        assert response.status_code == 422
        assert "../&lt;b&gt;notes&lt;/b&gt;.txt" in response.text
        assert pages.post("import", files=[("files", ("", b"", "text/plain"))]).status_code == 422
        assert pages.post("import", data={"files": "x"}).status_code == 415

    def test_uploads_are_bounded(self, pages, monkeypatch):
        monkeypatch.setattr(console_pages, "MOST_UPLOAD", 1000)
        response = pages.post("import", files=[("files", ("a.dcm", b"x" * 5000, "application/dicom"))])
        assert response.status_code == 413
        monkeypatch.setattr(console_pages, "MOST_UPLOAD", 100_000)
        monkeypatch.setattr(console_pages, "MOST_FILES", 2)
        several = [("files", (f"{number}.dcm", b"x", "application/dicom")) for number in range(3)]
        assert pages.post("import", files=several).status_code == 400

    def test_an_upload_that_stands_still_is_given_up(self, pages, monkeypatch):
        """A browser that sends no more holds nothing for ever."""
        monkeypatch.setattr(bodies, "STALL", 0.2)
        host, _, port = pages.base_url.netloc.decode().rpartition(":")
        with socket.create_connection((host, int(port)), timeout=30) as sock:
            sock.sendall(
                b"POST /servers/main/import HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n--x\r\n"
            )
            assert sock.recv(65536).startswith(b"HTTP/1.1 408")

    def test_roles(self, tmp_path):
        with consoles.serving(consoles.users_of(tmp_path / "users.json")) as url:
            with consoles.browser(f"{url}/servers/main/", "read") as reader:
                assert reader.get("studies").status_code == 200
                assert "Delete" not in reader.get("studies").text
                assert [reader.get(path).status_code for path in ("import", "booking")] == [403, 403]
            with consoles.browser(f"{url}/servers/main/", "operate") as operator:
                for path in ("studies/delete", "studies/act"):
                    given = {"act": "delete", "study": "1.2.1"}
                    assert operator.post(path, data=given).status_code == 403
                assert "Export" in operator.get("studies").text


class TestWorklist:
    def test_booked_seen_by_a_modality_changed_and_removed(self, pages, server, admin):
        assert pages.post("booking", data=BOOKED).status_code == 303
        again = pages.post("booking", data=BOOKED)
        assert again.status_code == 409
        assert "the worklist has this item: it is item " in again.text
        page = pages.get("worklist?day=2026-11-30&modality=CT&station=CT1&patient_name=uster").text
        assert "Muster^Anna" in page
        assert "Muster^Anna" not in pages.get("worklist?modality=MR").text
        step = admin.send("ArchiveWorklist")["steps"][0]
        peer = f"MAIN@127.0.0.1:{server.address[1]}"
        with dn.connect(peer, contexts=dn.contexts.sop_classes(uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND)) as asked:
            query = codec.from_keywords({"PatientName": "Muster*"})
            found = list(asked.find(model="WORKLIST", query=query))
        assert found
        number = step["id"]
        edited = {**BOOKED, "time": "11:45", "status": "ARRIVED", "version": "1"}
        assert pages.post(f"worklist/{number}", data=edited).status_code == 303
        assert "11:45" in pages.get("worklist").text
        stale = pages.post(f"worklist/{number}", data={**edited, "time": "12:00"})
        assert stale.status_code == 409
        assert 'value="12:00"' in stale.text
        assert "Muster^Anna?" in pages.get(f"worklist/{number}/remove").text
        for one in admin.send("ArchiveWorklist")["steps"]:
            assert pages.post(f"worklist/{one['id']}/remove").status_code == 303
        assert "Nothing is scheduled." in pages.get("worklist").text
        assert pages.get(f"worklist/{number}").status_code == 422

    @pytest.mark.parametrize(
        ("name", "value"),
        [("patient_name", ""), ("modality", "c t!"), ("date", "soon"), ("time", "25:00"), ("station", "A\\B"),
         ("accession", "A" * 17), ("procedure", "a\\b")],
    )  # fmt: skip
    def test_a_mistake_is_told_at_its_field(self, pages, admin, name, value):
        response = pages.post("booking", data={**BOOKED, name: value})
        assert response.status_code == 422
        assert f'id="f-{name}-error"' in response.text
        assert response.text.count("-error") == 2  # the one mistake, and what points at it
        assert "Thorax" in response.text or name == "procedure"
        assert admin.send("ArchiveWorklist")["steps"] == []

    def test_what_is_booked_is_text(self, pages, admin):
        pages.post("booking", data={**BOOKED, "patient_name": HOSTILE, "step": HOSTILE})
        for path in ("worklist", f"worklist/{admin.send('ArchiveWorklist')['steps'][0]['id']}"):
            text = pages.get(path).text
            assert "<script>alert" not in text
            assert "&lt;script&gt;alert" in text
        pages.post(f"worklist/{admin.send('ArchiveWorklist')['steps'][0]['id']}/remove")

    def test_a_day_that_is_none(self, pages):
        assert pages.get("worklist?day=never").status_code == 422


def test_what_modalities_have_reported(pages, server, admin):
    assert "No modality has reported a step." in pages.get("steps").text
    peer = f"MAIN@127.0.0.1:{server.address[1]}"
    step = {"PatientName": HOSTILE, "PatientID": "P9", "Modality": "CT", "PerformedProcedureStepStatus": "IN PROGRESS",
            "PerformedProcedureStepID": "S1", "PerformedStationAETitle": "CT1",
            "PerformedProcedureStepStartDate": "20260101", "PerformedProcedureStepStartTime": "1000",
            "ScheduledStepAttributesSequence": [{"StudyInstanceUID": "1.2.9"}]}  # fmt: skip
    mpps = uids.MODALITY_PERFORMED_PROCEDURE_STEP
    with dn.connect(peer, calling="CT1", contexts=dn.contexts.sop_classes(mpps)) as association:
        association.n_create(mpps, "1.2.9.1", codec.from_keywords(step))
    page = pages.get("steps").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "in progress" in page
    assert "No commitment was asked for." in pages.get("commitment").text
    with dn.client.CommitmentScu(peer, calling="CT1") as scu:
        assert scu.commit([(CT, "1.2.9.9")]).failed
    assert "CT1" in pages.get("commitment").text
    with pytest.raises(AdminError):
        admin.send("ArchiveSteps", {"most": 0})
