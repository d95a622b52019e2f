"""A workstation in the console, with its queue; logs, the audit trail, and who reaches whom."""

from __future__ import annotations

import json
import re

import consoles
import pytest
from archives import part10
from routers import CT

import dicomnet as dn
from dicomnet.server.ae_entry import AEEntry
from dicomnet.web.console import records

HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with consoles.place(tmp_path_factory.mktemp("servers")) as path:
        yield path


@pytest.fixture(scope="module")
def archive(place):
    with consoles.running(
        place, "arch", title="ARCH", addins__enable=["archive"], addin__archive__durability="os"
    ) as server:
        with dn.connect(_peer("ARCH", server), contexts=dn.contexts.storage([CT])) as association:
            for study in range(1, 4):
                association.store(part10(1, study=study, PatientName=f"Doe{study}{HOSTILE}"))
        yield server


@pytest.fixture(scope="module")
def station(place, archive):
    with consoles.running(
        place, "ws", title="WS", addins__enable=["workstation"], addin__workstation__durability="os",
        timeouts__reconnect=0.1, log__file="logs/server.log",
    ) as server:  # fmt: skip
        server.base.ae_titles.add(AEEntry(title="ARCH", host="127.0.0.1", port=archive.address[1]))
        server.base.ae_titles.add(AEEntry(title="AWAY", host="127.0.0.1", port=1))
        archive.base.ae_titles.add(AEEntry(title="WS", host="127.0.0.1", port=server.address[1]))
        yield server


@pytest.fixture(scope="module")
def url(station):
    with consoles.serving() as url:
        yield url


@pytest.fixture
def pages(url):
    with consoles.browser(f"{url}/servers/ws/") as client:
        yield client


def _peer(title, server):
    return f"{title}@127.0.0.1:{server.address[1]}"


class TestWorkstation:
    def test_a_remote_study_is_found_retrieved_and_held(self, url, pages):
        page = pages.get("remote?peer=ARCH&patient_name=Doe2").text
        assert page.count('name="study"') == 1
        assert "<script>alert" not in page
        assert 'value="1.2.2"' in page
        with consoles.browser(url) as looking, looking.stream("GET", "/live?topic=jobs&server=ws") as live:
            lines = live.iter_lines()
            assert next(line for line in lines if "There is no job." in line)
            said = pages.post("remote", data={"peer": "ARCH", "study": "1.2.2"}, follow_redirects=True)
            assert "Retrieved from ARCH, as soon as it is their turn: 1." in said.text
            assert next(line for line in lines if "1 of 1" in line)
        assert "Doe2" in pages.get("studies").text
        assert "Doe1" not in pages.get("studies").text
        assert "Pin" in pages.get("studies/1.2.2").text
        for act, said in (("pin", "It stays"), ("unpin", "The quota may remove it"), ("prefetch", "Earlier studies")):
            chosen = {"act": act, "study": "1.2.2", "to": "ARCH"}
            assert said in pages.post("studies/act", data=chosen, follow_redirects=True).text

    def test_what_cannot_be_asked_says_so(self, pages):
        response = pages.get("remote?peer=AWAY")
        assert response.status_code == 422
        assert 'role="alert"><p>AWAY: ' in response.text
        assert pages.get("remote?peer=ARCH&from=never").status_code == 422
        assert "has no study like this" in pages.get("remote?peer=ARCH&patient_id=nobody").text
        assert pages.get("remote?peer=NOWHERE").status_code == 422

    def test_a_job_is_cancelled_tried_again_and_cleared(self, pages):
        pages.post("remote", data={"peer": "AWAY", "study": "1.2.3"})
        job = pages.get("jobs").text.partition('aria-label="Cancel job ')[2].partition('"')[0]
        follow = {"follow_redirects": True}
        assert "is cancelled" in pages.post("jobs", data={"act": "cancel", "id": job}, **follow).text
        assert f"Job {job} is waiting" in pages.post("jobs", data={"act": "retry", "id": job}, **follow).text
        pages.post("jobs", data={"act": "cancel", "id": job})
        assert "Cleared: " in pages.post("jobs", data={"act": "clear"}, **follow).text
        assert "Choose a job first." in pages.post("jobs", data={"act": "cancel"}, **follow).text
        none = pages.post("remote?peer=ARCH&patient_name=Doe2", data={"peer": "ARCH"}, **follow).text
        assert "Choose the studies first." in none
        assert 'value="1.2.2"' in none  # the search stays


class TestMatrix:
    def test_who_reaches_whom(self, url):
        with consoles.browser(url) as client:
            assert "Check" in client.get("/check").text
            page = client.post("/check").text
        assert page.count('<span class="state answers">') == 2  # from the archive, and from the workstation
        assert page.count('<span class="state failed">') == 1
        assert "not known" in page

    def test_a_site_is_checked_by_its_own_check(self, place, monkeypatch):
        from dicomnet.web.console.matrix import _Cell, _Report

        cells = (_Cell("archive", "router", True, "its certificate is over"), _Cell("router", "archive", False),
                 _Cell("workstation", "archive", False, tried=False))  # fmt: skip
        report = _Report(cells, ("the archive's certificate is over: <b>",), ("soon",))
        with consoles.serving(site=lambda: report) as url, consoles.browser(url) as client:
            page = client.post("/check").text
        for said in ("its certificate is over", "&lt;b&gt;", "soon", "TLS", "stopped", "answers", "failed"):
            assert said in page
        heads = re.findall(r'<th scope="(?:col|row)">([a-z]+)</th>', page)
        assert heads == ["archive", "router", "archive", "router", "workstation"]  # columns in the order of the rows


class TestRecords:
    def test_the_log_by_level_and_text(self, pages, place):
        file = place / "ws" / "logs" / "server.log"
        with file.open("a") as log:
            for level in ("debug", "warning", "error"):
                line = {"event": f"{level} {HOSTILE}", "level": level, "logger": "x", "more": HOSTILE}
                log.write(json.dumps(line) + "\n")
            log.write("no JSON <b>\n")
        page = pages.get("log").text
        assert "<script>alert" not in page
        assert "<b>" not in page
        assert "debug &#34;" not in page
        assert page.index("error &#34;") < page.index("warning &#34;")  # the latest first
        assert "warning &#34;" not in pages.get("log?level=error").text
        assert "debug &#34;" in pages.get("log?level=debug").text
        assert "error &#34;" not in pages.get("log?text=warning").text
        assert "Logged from now on" in pages.post("log", data={"level": "warning"}, follow_redirects=True).text
        assert pages.post("log", data={"level": "loud"}).status_code == 422

    def test_the_audit_trail(self, pages, place):
        page = pages.get("audit").text
        assert "Application Start" in page
        with (place / "ws" / "logs" / "audit.log").open("a") as trail:
            trail.write('<!DOCTYPE x [<!ENTITY a "aaaa">]><AuditMessage>&a;</AuditMessage>\n<b>cut\n')
        page = pages.get("audit").text
        assert "&lt;!DOCTYPE" in page
        assert "&lt;b&gt;cut" in page
        assert "Application Start" not in pages.get("audit?text=nothing+like+this").text

    def test_only_the_end_of_a_long_log_is_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr(records, "TAIL", 100)
        file = tmp_path / "log"
        file.write_text("".join(f"line {number}\n" for number in range(100)))
        found = records.latest(file, lambda line: {"text": line})
        assert found[0] == {"text": "line 99"}
        assert 5 < len(found) < 15
        assert records.latest(file, lambda line: {"text": line}, most=2) == found[:2]
        assert records.latest(tmp_path / "none", lambda line: {}) == []

    def test_roles(self, tmp_path, station):
        users = consoles.users_of(tmp_path / "users.json")
        with consoles.serving(users) as url, consoles.browser(url, "read") as client:
            for path in ("/servers/ws/log", "/servers/ws/audit", "/servers/ws/remote"):
                assert client.get(path).status_code == 403
            assert client.get("/servers/ws/jobs").status_code == 200
            assert client.post("/check").status_code == 403
