"""What an archive says when there is too much, when something fails beneath it, and that it goes on after that."""

from __future__ import annotations

import threading
from dataclasses import replace

import archives
import psycopg
import pytest
from archives import CT, LITTLE, data_set, part10
from rig import PATIENCE, until
from servers import make_settings
from sqlalchemy.exc import OperationalError

import dicomnet as dn
from dicomnet import uids
from dicomnet.archive import availability, housekeeping, retention_worker
from dicomnet.archive.add_in import ArchiveAddIn
from dicomnet.archive.archive import Archive
from dicomnet.archive.availability import AvailabilityNotifier
from dicomnet.archive.housekeeping import Housekeeper
from dicomnet.archive.retention_worker import RetentionWorker
from dicomnet.files.instance_source import BytesSource
from dicomnet.repository.incoming import BlobSink
from dicomnet.repository.index import Index
from dicomnet.server import Server
from dicomnet.server.admin import Client

AWAY = OperationalError("", {}, psycopg.OperationalError("connection refused"))


@pytest.fixture
def archive(tmp_path):
    with Archive(tmp_path / "archive", archives.make(tmp_path / "archive")) as archive:
        yield archive


@pytest.fixture
def link(archive):
    peer = dn.Entity("ARCHIVE", *archive.listener.address)
    contexts = [*dn.contexts.storage([CT]), *dn.contexts.query_retrieve([CT])]
    with dn.connect(peer, calling="TESTER", contexts=contexts) as link:
        yield link


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


class TestQueries:
    @pytest.fixture(autouse=True)
    def held(self, archive):
        archives.store(archive.holdings, [part10(1, study=study) for study in range(1, 4)])

    def asked(self, link):
        """How many matches come, and the status at the end."""
        count = 0
        try:
            for _ in link.find("STUDY", StudyInstanceUID=""):
                count += 1
        except dn.ServiceFailure as error:
            return count, error.status
        return count, None

    def test_more_matches_than_anybody_wants(self, link, monkeypatch):
        monkeypatch.setattr("dicomnet.repository.find_service.MOST_MATCHES", 3)
        assert self.asked(link) == (3, None)
        monkeypatch.setattr("dicomnet.repository.find_service.MOST_MATCHES", 2)
        count, status = self.asked(link)
        assert (count, status, status.comment) == (2, 0xA700, "more than 2 matches")

    def test_one_that_takes_too_long(self, link, monkeypatch, caplog):
        monkeypatch.setattr("dicomnet.repository.find_service.QUERY_SECONDS", 1e-6)
        count, status = self.asked(link)
        assert (count, status) == (0, 0xA700)
        assert "took longer than its budget" in status.comment
        assert "a query by TESTER took too long: 0 matches so far" in caplog.text


class TestStoring:
    @pytest.mark.parametrize(("where", "name", "error", "status"), [
        (Index, "add", AWAY, 0xA700), (Index, "add", ZeroDivisionError(), 0x0110),
        (BlobSink, "take", OSError(5, "Input/output error"), 0xA700),
    ])  # fmt: skip
    def test_what_fails_beneath_is_a_status_and_the_next_is_stored(
        self, archive, link, monkeypatch, caplog, where, name, error, status
    ):
        with monkeypatch.context() as patch:
            patch.setattr("dicomnet.repository.database.FAILOVER_SECONDS", 0.0)
            patch.setattr(where, name, failing(error))
            assert link.store(part10(1)).status == status
        assert link.store(part10(2)).status.is_success
        assert link.store(part10(1)).status.is_success
        assert set(archive.holdings.places.of(["1.2.1.1.1", "1.2.1.1.2"])) == {"1.2.1.1.1", "1.2.1.1.2"}

    def test_what_comes_at_the_end_is_refused(self, archive, link):
        archive.storage.committer.close()
        assert link.store(part10(1)).status.is_failure
        assert archive.holdings.places.of(["1.2.1.1.1"]) == {}

    @pytest.mark.parametrize(("cls", "uid", "tag"), [(CT, "1.2.1.1.9", 0x00080018), (CT, "1.2.1.1.1", None)])
    def test_a_data_set_is_that_of_its_request(self, link, cls, uid, tag):
        answer = link.store(BytesSource(data_set(1), LITTLE, cls, uid)).status
        assert (answer == 0xA900, answer.offending) == ((True, (tag,)) if tag else (False, ()))


class TestAlone:
    """What goes on by itself, in threads of its own: one failure is told, and the next look is made."""

    def test_a_node_that_cannot_tell_of_itself_says_so_and_goes_on(self, tmp_path, postgresql, monkeypatch, caplog):
        monkeypatch.setattr(housekeeping, "BEAT_SECONDS", 0.005)
        url = postgresql.url(postgresql.new_database())
        with archives.opened(tmp_path / "archive", database=url) as holdings:
            keeper = Housekeeper(holdings, lambda: "ARCHIVE", dict)
            beats, told = threading.Semaphore(0), holdings.nodes.tell
            troubles = [AWAY, OSError(5, "the bucket does not confirm"), ZeroDivisionError()]

            def tell(*arguments):
                if threading.current_thread().name == "dicomnet-beat":
                    beats.release()
                    if troubles:
                        raise troubles.pop(0)
                told(*arguments)

            monkeypatch.setattr(holdings.nodes, "tell", tell)
            keeper.start()
            for _ in range(5):
                assert beats.acquire(timeout=PATIENCE)
            monkeypatch.setattr(holdings.nodes, "leave", failing(AWAY))
            keeper.close()
        for words in (
            "this node cannot say that it lives: the index is away (OperationalError)",
            "this node cannot say that it lives: the bucket does not confirm", "housekeeping failed",
            "this node cannot say that it ends: the index is away (OperationalError)",
        ):  # fmt: skip
            assert caplog.text.count(words) == 1

    def test_retention_is_looked_after_again(self, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(retention_worker, "EVERY", 0.01)
        with archives.opened(tmp_path / "archive", retention_days=1) as holdings:
            archives.store(holdings, [part10(1)])
            worker, troubles = RetentionWorker(holdings, clock=lambda: 4e9), [AWAY, ZeroDivisionError()]
            real = worker.look
            monkeypatch.setattr(worker, "look", lambda: failing(troubles.pop(0))() if troubles else real())
            worker.start()
            until(lambda: not holdings.places.of(["1.2.1.1.1"]))
            worker.close()
        assert troubles == []
        assert caplog.text.count("retention cannot be looked after") == 2

    def test_availability_is_told_again(self, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(availability, "_LOOK", 0.01)
        with dn.Listener("RIS", port=0) as listener:
            told = threading.Event()

            def take(request):
                told.set()
                return dn.Status.SUCCESS

            listener.on_n_create(uids.INSTANCE_AVAILABILITY_NOTIFICATION)(take)
            chosen = {"destinations": {"RIS": dn.Entity("RIS", *listener.address)}, "availability_to": ("RIS",)}
            with archives.opened(tmp_path / "archive", availability_after=0.02, **chosen) as holdings:
                notifier, troubles = AvailabilityNotifier(holdings), [ZeroDivisionError()]
                real = notifier.look
                monkeypatch.setattr(notifier, "look", lambda own: failing(troubles.pop())() if troubles else real(own))
                notifier.start()
                archives.store(holdings, [part10(1)])
                assert told.wait(PATIENCE)
                notifier.close()
        assert caplog.text.count("availability cannot be told") == 1


def test_a_server_says_whom_its_archive_calls(tmp_path):
    addin = ArchiveAddIn()
    settings = make_settings(addin={"archive": {"durability": "os"}})
    with Server(settings, directory=tmp_path, addins={"archive": addin}), Client(tmp_path / "run/admin.sock") as admin:
        mpps, notes = uids.MODALITY_PERFORMED_PROCEDURE_STEP, uids.INSTANCE_AVAILABILITY_NOTIFICATION
        called = {"RIS": dn.Entity("RIS", "127.0.0.1", 104)}
        said = [admin.conformance()["markdown"]]
        addin.holdings.apply(
            replace(addin.holdings.settings, destinations=called, steps_to=("RIS",), availability_to=("RIS",))
        )
        said.append(admin.conformance()["markdown"])
    for one, role in ((mpps, "SCU"), (notes, "SCU"), (CT, "SCU")):
        line = f"| {uids.name_of(one)} | {one} | {role} |"
        assert [line in text for text in said] == [False, True]
