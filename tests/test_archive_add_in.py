"""An archive as an add-in of a server, with DCMTK as its peers, and what the server does for it."""

from __future__ import annotations

import errno
import subprocess
import time

import httpx
import peers
import pytest
from archives import CT, part10
from programs import peer
from servers import Told, make_settings

import dicomnet as dn
from dicomnet.archive.add_in import ArchiveAddIn
from dicomnet.archive.holdings import Holdings
from dicomnet.cli import app
from dicomnet.config import Timeouts
from dicomnet.server import Server, StartFailed
from dicomnet.server.admin import Client
from dicomnet.server.ae_entry import AEEntry
from dicomnet.server.ae_titles import InUse
from dicomnet.testing import Provider


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """A server as the command line makes it."""
    monkeypatch.setenv("DICOMNET_SERVERS", str(tmp_path))
    settings = ['addins.enable=["archive"]', "web.port=0", "addin.archive.durability=os", 'log.file=""']
    options = [part for one in settings for part in ("--set", one)]
    assert app.run(["server", "create", "pacs", "--aet", "ARCHIVE", "--port", "0", "-q", *options]) == 0
    return tmp_path / "pacs"


@pytest.fixture
def server(directory):
    with Server(directory) as server:
        yield server


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "sent"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.dcm").write_bytes(part10(number))
    return sorted(folder.iterdir())


def run(program, server, *arguments):
    host, port = server.address
    command = [peers.peer_program(program), "-aec", "ARCHIVE", host, port, *arguments]
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_what_is_imported_is_committed_as_what_is_received(files, tmp_path):
    addin = ArchiveAddIn()
    settings = make_settings(addin={"archive": {"durability": "os"}})
    with (
        Server(settings, directory=tmp_path / "pacs", addins={"archive": addin}),
        Client(tmp_path / "pacs" / "run/admin.sock") as admin,
    ):
        result = admin.send("ArchiveImport", {"paths": [str(files[0].parent), str(tmp_path / "nothing")]})
        assert (result["stored"], len(result["failed"])) == (3, 1)
        assert addin.storage.committer.items == 3
        assert admin.send("ArchiveImport", {"paths": [str(files[0])]})["known"] == 1


STUDY = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.1")


def test_dcmtk_stores_finds_and_has_sent(server, files, tmp_path):
    run("echoscu", server)
    run("storescu", server, *files)
    assert "[P1" in run("findscu", server, *STUDY, "-k", "PatientID")
    port, received = peers.free_port(), tmp_path / "received"
    received.mkdir()
    server.base.ae_titles.add(AEEntry(title="WS", host="127.0.0.1", port=port))
    with peer([peers.peer_program("storescp"), "-od", received, port], port):
        run("movescu", server, "-aem", "WS", *STUDY)
    assert len(list(received.iterdir())) == 3
    (tmp_path / "got").mkdir()
    run("getscu", server, "-od", tmp_path / "got", *STUDY)
    assert len(list((tmp_path / "got").iterdir())) == 3


def test_an_ae_title_sees_and_moves_what_its_entry_says(server, files):
    ct = files[0].read_bytes()
    with Provider("WS") as ws, Provider("ELSEWHERE") as elsewhere:
        for one in (ws, elsewhere):
            host, port = one.address
            server.base.ae_titles.add(AEEntry(title=one.ae_title, host=host, port=port))
        server.base.ae_titles.add(AEEntry(title="US1", modalities=("US",), move_to=("WS",)))
        server.base.ae_titles.add(AEEntry(title="CT1", aliases=("CT2",), modalities=("CT",), move_to=("WS",)))
        contexts = [*dn.contexts.storage([CT]), *dn.contexts.query_retrieve([CT])]
        seen = {}
        for calling in ("STRANGER", "US1", "CT2"):
            with dn.connect(server.peer, calling=calling, contexts=contexts) as peer:
                assert peer.store(ct).status.is_success  # what it may store is another matter
                found = len(list(peer.find("STUDY", StudyInstanceUID="")))
                got = peer.get("STUDY", to=lambda _: None, StudyInstanceUID="1.2.1").completed
                moved = peer.move("STUDY", destination="WS", StudyInstanceUID="1.2.1").completed
                seen[calling] = (found, got, moved)
                if calling != "STRANGER":
                    with pytest.raises(dn.ServiceFailure) as caught:
                        peer.move("STUDY", destination="ELSEWHERE", StudyInstanceUID="1.2.1")
                    assert caught.value.status == 0xA801
        assert seen == {"STRANGER": (1, 1, 1), "US1": (0, 0, 0), "CT2": (1, 1, 1)}
        assert not elsewhere.received


def test_what_is_answered_later_is_counted_when_it_is(server, files, monkeypatch):
    broken = OSError(errno.EIO, "broken")
    monkeypatch.setattr(server.addins.get("archive").found.plugin.storage.committer, "_commit", Failing(broken))
    with dn.client.Client(server.peer, calling="CT1") as client, Told(server) as told:
        client.echo()
        client.store(files[0])
        actions = [event.data for event in told.wait_for("client.action", 2)]
        assert [(one["action"], one["status"]) for one in actions] == [("C-ECHO-RQ", "0000"), ("C-STORE-RQ", "A700")]
        assert all(0 < one["seconds"] < 60 for one in actions)
    text = server.metrics.exposition().decode()
    assert 'service="C-STORE-RQ",sop_class="CT Image Storage",status="A700"} 1.0' in text
    assert 'dicomnet_addin_failures_total{addin="archive"} 0.0' in text  # its answer, and no failure of its code


class Failing:
    def __init__(self, error):
        self.error = error

    def __call__(self, items):
        return [self.error] * len(items)


def test_it_is_administered_measured_and_seen_over_http(server, files, directory):
    with Told(server) as told, dn.client.Client(server.peer, calling="CT1") as client:
        client.store(files[0])
        told.wait_for("client.action")
    with Client(directory) as admin:
        services = {message for message, _ in admin.addins()["addins"][0]["services"]}
        assert {"C_STORE_RQ", "C_FIND_RQ", "C_MOVE_RQ", "C_GET_RQ", "N_ACTION_RQ", "N_CREATE_RQ"} <= services
        assert admin.health()["ok"]
        said = admin.conformance()["markdown"]
        assert "Study Root" in said
        assert "relational queries, combined date-time matching, timezone query adjustment |" in said
        for name in (
            "Unified Procedure Step - Push", "Unified Procedure Step - Pull", "Unified Procedure Step - Watch",
            "Unified Procedure Step - Event", "Unified Procedure Step - Query", "Hanging Protocol Storage",
            "Color Palette Query/Retrieve Information Model - FIND", "Implant Template Group Storage",
            "General Relevant Patient Information Query",
        ):  # fmt: skip
            assert f"| {name} | No | Yes |" in said
        assert f"| Unified Procedure Step - Event | {dn.uids.UNIFIED_PROCEDURE_STEP_EVENT} | SCP |" in said
    found = httpx.get(f"{server.web.url}archive/dicomweb/studies").json()
    assert [one["0020000D"]["Value"] for one in found] == [["1.2.1"]]
    text = httpx.get(f"{server.web.url}metrics").text
    assert "dicomnet_archive_instances 1.0" in text
    labels = 'ae="CT1",service="C-STORE-RQ",sop_class="CT Image Storage",status="0000"'
    assert f"dicomnet_operations_total{{{labels}}} 1.0" in text
    assert httpx.get(server.web.url).json() == {"ae_title": "ARCHIVE", "addins": ["archive"]}
    assert httpx.get(f"{server.web.url}health/ready").json()["ok"]


@pytest.mark.long
def test_a_reload_changes_nothing_by_half_and_takes_the_archive_out_and_in(server, files, directory):
    run("storescu", server, *files)
    file = directory / "server.toml"
    before = file.read_text()
    file.write_text(before.replace('durability = "os"', 'durability = "os"\nrelational = true\nrefuse_at = 0.9'))
    assert server.reload().pending_restart == ("addin.archive.refuse_at",)
    assert server.base.shared.show()["settings"][3]["value"] is True  # relational holds at once
    file.write_text(before.replace('enable = ["archive"]', 'enable = ["verification"]'))
    server.reload()
    with pytest.raises(dn.NoAcceptedContext), dn.client.Client(server.peer) as client:
        client.store(files[0])
    assert httpx.get(f"{server.web.url}archive/dicomweb/studies").status_code == 404
    file.write_text(before)
    server.reload()
    assert "[P1" in run("findscu", server, *STUDY, "-k", "PatientID")
    run("storescu", server, *files)


@pytest.mark.long
def test_who_is_needed_is_not_removed_and_who_is_not_known_is_told(directory):
    table = {"archive": {"durability": "os", "steps_to": ["RIS"]}}
    with pytest.raises(StartFailed, match=r'steps_to: "RIS" has no address'):
        Server(make_settings(addins={"enable": ["archive"]}, addin=table), directory=directory).start()
    with Server(directory) as server:
        server.base.ae_titles.add(AEEntry(title="RIS", host="127.0.0.1", port=104))
    settings = make_settings(addins={"enable": ["archive"]}, addin=table)
    with Server(settings, directory=directory) as server, pytest.raises(InUse, match="archive: steps_to"):
        server.base.ae_titles.remove("RIS")


@pytest.mark.long
def test_what_it_keeps_is_an_archive_like_any_other(server, files, directory):
    run("storescu", server, *files)
    server.stop()
    kept = directory / "data" / "archive"
    with Holdings(kept) as holdings:
        assert holdings.recovered == 0
        assert len(holdings.places.retrieved(studies=["1.2.1"])) == 3


def test_a_stop_waits_for_no_destination_that_does_not_answer(directory):
    """What was to be sent there waits for the next start, and the stop counts as no try."""
    with Provider("SLOW", stall="response") as slow:
        with Server(directory) as server:
            here = f"ARCHIVE@127.0.0.1:{server.address[1]}"
            with dn.connect(here, contexts=dn.contexts.storage([CT])) as association:
                assert association.store(part10(1)).status.is_success
            server.base.ae_titles.add(AEEntry(title="SLOW", host="127.0.0.1", port=int(slow.peer.rpartition(":")[2])))
            with Client(directory) as admin:
                assert admin.send("ArchiveSend", {"studies": ["1.2.1"], "to": "SLOW"}) == {"ordered": 1}
            slow.wait_for(1)
            begun = time.monotonic()
        assert time.monotonic() - begun < (Timeouts().response or 0) / 2
    with Holdings(directory / "data/archive") as holdings:
        [item] = holdings.outbox.items(queue="send")
        assert (item.state, item.attempts, item.error) == ("waiting", 0, "")
