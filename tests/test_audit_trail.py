"""What is in the audit trail (PS3.15 Annex A.5): who logged in to the web and out, stored, queried and retrieved."""

from __future__ import annotations

import errno
import re
import threading
from base64 import b64decode
from functools import partial

import consoles
import httpx
import peers
import pytest
from archives import CT, part10
from argon2 import PasswordHasher
from servers import make_settings, recorded

import dicomnet as dn
from dicomnet import uids
from dicomnet.archive.add_in import ArchiveAddIn
from dicomnet.dataset import codec
from dicomnet.repository import audited
from dicomnet.repository.audited import Recorder
from dicomnet.server import Server
from dicomnet.server.ae_entry import AEEntry
from dicomnet.testing import Provider
from dicomnet.web import login
from dicomnet.web.login import FAILURES, MOST_NAME

LOGIN, LOGOUT, TRANSFERRED, QUERY = "110122", "110123", "110104", "110112"
TOKEN = re.compile(r'name="token" value="([^"]+)"')
JANE = dn.NegotiationOptions(identity=dn.UserIdentity.named("jane"))


@pytest.fixture(scope="module", autouse=True)
def usual():
    """A hash is to take long; not in every test."""
    quick = partial(PasswordHasher, time_cost=1, memory_cost=64, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dicomnet.web.users.PasswordHasher", quick)
        yield


class TestLogins:
    @pytest.fixture
    def console(self, tmp_path, monkeypatch):
        """The address of a console that is an add-in, and the audit trail of its server."""
        monkeypatch.setattr(login, "FAILURE_SECONDS", 3600.0)
        folder = tmp_path / "main"
        folder.mkdir()
        consoles.users_of(folder / "users.json")
        with (
            consoles.place(tmp_path),
            consoles.running(tmp_path, addins__enable=["console"], web__port=0) as server,
        ):
            yield f"{server.web.url}console", folder / "logs" / "audit.log"

    @staticmethod
    def told(trail, *codes):
        """Of each message its outcome, the user, the address, and what is said of the outcome."""
        found = []
        for message in recorded(trail, *codes):
            event, user = message.find("EventIdentification"), message.findall("ActiveParticipant")[1]
            assert user.get("UserIsRequestor") == "true"
            found.append((event.get("EventOutcomeIndicator"), user.get("UserID"), user.get("NetworkAccessPointID"),
                          event.findtext("EventOutcomeDescription")))  # fmt: skip
        return found

    @staticmethod
    def log_in(client, url, name, password=consoles.PASSWORD):
        token = TOKEN.search(client.get(f"{url}/login").text)[1]
        return client.post(f"{url}/login", data={"token": token, "name": name, "password": password})

    def test_who_logs_in_by_the_form_and_out_again(self, console):
        url, trail = console
        with httpx.Client(timeout=30) as client:
            assert self.log_in(client, url, "operate", "wrong one").status_code == 403
            assert self.log_in(client, url, "operate").status_code == 303
            token = TOKEN.search(client.get(f"{url}/logout").text)[1]
            assert client.post(f"{url}/logout", data={"token": token}).status_code == 303
            token = TOKEN.search(client.get(f"{url}/logout").text)[1]
            assert client.post(f"{url}/logout", data={"token": token}).status_code == 303  # nobody is logged in
        failed = ("4", "operate", "127.0.0.1", "the login failed")
        assert self.told(trail, LOGIN) == [failed, ("0", "operate", "127.0.0.1", None)]
        assert self.told(trail, LOGOUT) == [("0", "operate", "127.0.0.1", None)]
        assert consoles.PASSWORD not in trail.read_text()
        assert "wrong one" not in trail.read_text()

    def test_http_basic_that_is_remembered_is_no_login(self, console):
        url, trail = console
        with httpx.Client(auth=("read", consoles.PASSWORD), timeout=30) as client:
            assert [client.get(f"{url}/").status_code for _ in range(3)] == [200] * 3
        assert self.told(trail, LOGIN) == [("0", "read", "127.0.0.1", None)]

    def test_attempts_fill_no_disk(self, console):
        url, trail = console
        name = "x" * (MOST_NAME + 10)
        with httpx.Client(timeout=30) as client:
            statuses = [client.get(f"{url}/", auth=(name, f"wrong {one}")).status_code for one in range(FAILURES + 9)]
        assert statuses == [401] * FAILURES + [429] * 9
        failed, refused = ("4", name[:MOST_NAME], "127.0.0.1"), "too many logins failed"
        assert self.told(trail, LOGIN) == [(*failed, "the login failed")] * FAILURES + [(*failed, refused)]


class Trail:
    """An archive in a server that keeps an audit trail."""

    def __init__(self, path, **audit):
        self.path = path / "audit.log"
        self.add_in = ArchiveAddIn()
        tables = {"audit": {"file": str(self.path), **audit}, "addin": {"archive": {"durability": "os"}}}
        self.server = Server(make_settings(**tables), directory=path / "pacs", addins={"archive": self.add_in})

    def __enter__(self):
        self.server.__enter__()
        return self

    def __exit__(self, *error):
        self.server.__exit__(*error)

    def connect(self, **options):
        contexts = [*dn.contexts.storage([CT]), *dn.contexts.query_retrieve([CT])]
        return dn.connect(self.server.peer, calling="CT1", contexts=contexts, **options)

    def fill(self):
        with self.connect() as peer:
            for number in range(3):
                assert peer.store(part10(number, PatientName="DOE^JANE")).status.is_success

    def transfers(self):
        """Of each message the outcome, the study, the patient, and how many instances of which SOP class."""
        found = []
        for message in recorded(self.path, TRANSFERRED):
            outcome = message.find("EventIdentification").get("EventOutcomeIndicator")
            about = message.xpath("ParticipantObjectIdentification/@ParticipantObjectID")
            classes = message.xpath(".//SOPClass")
            counts = {one.get("UID"): int(one.get("NumberOfInstances")) for one in classes}
            found.append((outcome, *about, counts))
        return found


def people(message):
    """Who took part: the AE titles or the name, whether it asked, its role, and its address."""
    found = []
    for one in message.findall("ActiveParticipant"):
        title = one.get("AlternativeUserID", "").removeprefix("AETITLES=") or one.get("UserID")
        role = one.xpath("string(RoleIDCode/@originalText)").removesuffix(" Role ID")
        found.append((title, one.get("UserIsRequestor") == "true", role, one.get("NetworkAccessPointID")))
    return found


class TestStores:
    def test_a_message_for_each_study_of_an_association(self, tmp_path):
        with Trail(tmp_path) as trail, trail.connect(extras=JANE) as peer:
            for number, study in ((1, 1), (2, 2), (3, 1), (4, 2), (5, 1)):
                assert peer.store(part10(number, study=study)).status.is_success
            assert not trail.transfers()  # not one for each object
        assert trail.transfers() == [("0", "1.2.1", "P1", {CT: 3}), ("0", "1.2.2", "P2", {CT: 2})]
        mine, *others = people(recorded(trail.path, TRANSFERRED)[0])
        assert mine == ("SERVER", False, "Destination", None)
        assert others == [("CT1", True, "Source", "127.0.0.1"), ("jane", True, "", "127.0.0.1")]

    def test_an_association_that_is_aborted_has_stored_all_the_same(self, tmp_path):
        with Trail(tmp_path) as trail:
            peer = trail.connect()
            assert peer.store(part10(1)).status.is_success
            peer.abort()
        assert trail.transfers() == [("0", "1.2.1", "P1", {CT: 1})]

    @pytest.mark.parametrize(("limit", "value"), [("MOST_STUDIES", 2), ("MOST_SECONDS", -1.0)])
    def test_what_is_gathered_has_a_bound(self, tmp_path, monkeypatch, limit, value):
        monkeypatch.setattr(audited, limit, value)
        with Trail(tmp_path) as trail, trail.connect() as peer:
            for number, study in ((1, 1), (2, 2), (3, 1)):
                assert peer.store(part10(number, study=study)).status.is_success
        assert [one[1:] for one in trail.transfers()] == [
            ("1.2.1", "P1", {CT: 1}), ("1.2.2", "P2", {CT: 1}), ("1.2.1", "P1", {CT: 1}),
        ]  # fmt: skip

    def test_what_cannot_be_stored_is_told(self, tmp_path, monkeypatch):
        def broken(group):
            raise OSError(errno.EIO, "broken")

        with Trail(tmp_path) as trail, trail.connect() as peer:
            monkeypatch.setattr(trail.add_in.storage.committer, "_commit", broken)
            assert peer.store(part10(1)).status == dn.Status.OUT_OF_RESOURCES
        assert trail.transfers() == [("8", {})]
        assert "1 instances were not stored" in trail.path.read_text()

    def test_without_a_trail_nothing_is_gathered(self, tmp_path):
        with Trail(tmp_path, enabled=False) as trail:
            trail.fill()
            assert trail.add_in.storage.watch is None
        assert not trail.path.exists()


class TestQueries:
    def test_who_asked_what(self, tmp_path):
        with Trail(tmp_path) as trail:
            trail.fill()
            with trail.connect() as peer:
                assert len(list(peer.find("STUDY", PatientName="DOE*", StudyInstanceUID=""))) == 1
                with pytest.raises(dn.ServiceFailure):
                    list(peer.find("SERIES", SeriesInstanceUID=""))  # without the study that it is to be of
        asked, refused = recorded(trail.path, QUERY)
        assert people(asked) == [("SERVER", False, "Destination", None), ("CT1", True, "Source", "127.0.0.1")]
        about = asked.find("ParticipantObjectIdentification")
        assert about.get("ParticipantObjectID") == uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
        detail = about.find("ParticipantObjectDetail")
        assert detail.get("type") == "TransferSyntax"
        data, syntax = b64decode(about.findtext("ParticipantObjectQuery")), b64decode(detail.get("value")).decode()
        query = codec.decode(data, syntax)
        assert (query.QueryRetrieveLevel, query.PatientName) == ("STUDY", "DOE*")
        outcomes = [one.find("EventIdentification").get("EventOutcomeIndicator") for one in (asked, refused)]
        assert outcomes == ["0", "4"]

    def test_a_query_that_is_too_long_is_left_out(self, tmp_path, monkeypatch):
        monkeypatch.setattr(audited, "MOST_QUERY", 10)
        with Trail(tmp_path) as trail, trail.connect() as peer:
            assert not list(peer.find("STUDY", StudyInstanceUID=""))
        (message,) = recorded(trail.path, QUERY)
        assert message.find(".//ParticipantObjectQuery") is None
        assert "are left out" in message.findtext(".//EventOutcomeDescription")


class TestRetrieves:
    def test_who_got_what_and_had_it_sent_where(self, tmp_path):
        with Trail(tmp_path) as trail, Provider("WS") as ws:
            host, port = ws.address
            trail.server.base.ae_titles.add(AEEntry(title="WS", host=host, port=port))
            trail.fill()
            with trail.connect() as peer:
                assert peer.get("STUDY", to=lambda _: None, StudyInstanceUID="1.2.1").completed == 3
                assert peer.move("SERIES", destination="WS", StudyInstanceUID="1.2.1",
                                 SeriesInstanceUID="1.2.1.1").completed == 3  # fmt: skip
                assert peer.get("STUDY", to=lambda _: None, StudyInstanceUID="1.2.9").completed == 0
        messages = recorded(trail.path, TRANSFERRED)
        assert trail.transfers() == [("0", "1.2.1", "P1", {CT: 3})] * 3
        mine = ("SERVER", False, "Source", None)
        assert people(messages[1]) == [mine, ("CT1", True, "Destination", "127.0.0.1")]
        assert people(messages[2]) == [
            mine, ("CT1", True, "", "127.0.0.1"), ("WS", False, "Destination", None),
        ]  # fmt: skip
        assert "DOE^JANE" in messages[1].xpath(".//ParticipantObjectName/text()")

    def test_a_destination_that_does_not_answer_got_nothing(self, tmp_path):
        with Trail(tmp_path) as trail:
            trail.server.base.ae_titles.add(AEEntry(title="GONE", host="127.0.0.1", port=peers.free_port()))
            trail.fill()
            with trail.connect() as peer, pytest.raises(dn.ServiceFailure):
                peer.move("STUDY", destination="GONE", StudyInstanceUID="1.2.1")
        assert trail.transfers()[1:] == [("8", "1.2.1", "P1", {CT: 3})]
        assert "0 of 3 instances were sent" in trail.path.read_text()

    def test_one_that_is_cancelled_says_how_many_were_sent(self, tmp_path):
        with Trail(tmp_path) as trail:
            trail.fill()
            peer = trail.connect()

            def leave(_):
                peer.abort()

            with pytest.raises(dn.DicomNetError):
                peer.get("STUDY", to=leave, StudyInstanceUID="1.2.1")
        assert trail.transfers()[1:] == [("8", "1.2.1", "P1", {CT: 3})]


class TestWriter:
    """Who has a message does not wait for the disk, nor does a queue grow without end."""

    def test_a_disk_that_stands_still_holds_up_nobody_but_past_a_bound(self, monkeypatch):
        monkeypatch.setattr(audited, "MOST_WAITING", 2)
        going, written = threading.Event(), []

        class Slow:
            def record(self, event, **facts):
                if threading.current_thread() is not threading.main_thread():
                    assert going.wait(60)
                written.append((event, facts["what"]))

        recorder = Recorder(Slow())
        for number in range(3):
            recorder.record("query", what=number)
        assert written == [("query", 2)]
        going.set()
        recorder.close()
        recorder.record("query", what=3)
        assert [what for _, what in written] == [2, 0, 1, 3]

    def test_a_trail_that_fails_is_logged(self, caplog):
        class Failing:
            def record(self, event, **facts):
                raise ValueError(event)

        recorder = Recorder(Failing())
        recorder.record("query")
        recorder.close()
        assert "an audit message was not recorded" in caplog.text
