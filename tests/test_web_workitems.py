"""UPS-RS: each state with each request, and each kind of subscription over a real WebSocket (PS3.4 Annex CC)."""

from __future__ import annotations

import itertools
import json

import pytest
from web_archives import client, element, served
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from dicomnet import uids
from dicomnet.repository import workitems
from dicomnet.repository.database import Database
from dicomnet.repository.keys import Identifier
from dicomnet.repository.workitem_rules import CANCELED, COMPLETED, IN_PROGRESS, SCHEDULED, WorkitemRefused
from dicomnet.repository.workitems import FILTERED, GLOBAL, Workitems

STATES = (SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED)
READY = "00404041"
numbers = itertools.count(1)


def new(**more: object) -> dict:
    item = {
        "00741000": element("CS", SCHEDULED),
        "00741204": element("LO", "Segment"),
        "00741202": element("LO", "Lungs"),
        "00741200": element("CS", "MEDIUM"),
        READY: element("CS", "READY"),
        "00404005": element("DT", "20260101120000"),
        "00100010": element("PN", {"Alphabetic": "Doe^Jane"}),
        "00100020": element("LO", "P1"),
    }
    return item | more


PERFORMED = {
    "00741216": element(
        "SQ",
        {
            "00404028": element("SQ", {"00080100": element("SH", "WS1")}),
            "00404050": element("DT", "20260101120000"),
            "00404051": element("DT", "20260101121000"),
            "00404019": element("SQ", {"00080100": element("SH", "SEG")}),
            "00404033": {"vr": "SQ"},
        },
    )
}


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    with served(tmp_path_factory.mktemp("ups") / "archive") as (_, url):
        yield url


@pytest.fixture
def http(web):
    with client(f"{web}/dicomweb") as http:
        yield http


class Item:
    """A work item in a state, by HTTP."""

    def __init__(self, http, state: str = SCHEDULED, **more: object) -> None:
        self.http, self.uid, self.txn = http, f"1.2.3.{next(numbers)}", ""
        assert http.post(f"/workitems?{self.uid}", json=new(**more)).status_code == 201
        if state == CANCELED:
            assert http.post(f"{self.path}/cancelrequest", json={}).status_code == 202
        elif state != SCHEDULED:
            self.txn = uids.new()
            assert self.to(IN_PROGRESS, self.txn).status_code == 200
            if state == COMPLETED:
                assert http.post(f"{self.path}?transaction-uid={self.txn}", json=PERFORMED).status_code == 200
                assert self.to(COMPLETED, self.txn).status_code == 200
        assert self.state == state

    @property
    def path(self) -> str:
        return f"/workitems/{self.uid}"

    @property
    def state(self) -> str:
        return self.http.get(self.path).json()[0]["00741000"]["Value"][0]

    def to(self, state: str, txn: str):
        item = {"00741000": element("CS", state)} | ({"00081195": element("UI", txn)} if txn else {})
        return self.http.put(f"{self.path}/state", json=item)


# What PS3.4 Table CC.1.1-2 says, for who performs the item: state, asked for -> HTTP status, state after.
TABLE = {
    (SCHEDULED, SCHEDULED): (409, SCHEDULED), (SCHEDULED, IN_PROGRESS): (200, IN_PROGRESS),
    (SCHEDULED, COMPLETED): (409, SCHEDULED), (SCHEDULED, CANCELED): (409, SCHEDULED),
    (IN_PROGRESS, SCHEDULED): (409, IN_PROGRESS), (IN_PROGRESS, IN_PROGRESS): (409, IN_PROGRESS),
    (IN_PROGRESS, COMPLETED): (409, IN_PROGRESS), (IN_PROGRESS, CANCELED): (200, CANCELED),
    (COMPLETED, SCHEDULED): (409, COMPLETED), (COMPLETED, IN_PROGRESS): (409, COMPLETED),
    (COMPLETED, COMPLETED): (200, COMPLETED), (COMPLETED, CANCELED): (409, COMPLETED),
}  # fmt: skip


class TestStates:
    @pytest.mark.parametrize(("state", "wanted"), TABLE)
    def test_every_state_asked_for_every_state(self, http, state, wanted):
        item = Item(http, state)
        status, after = TABLE[state, wanted]
        answer = item.to(wanted, item.txn or uids.new())
        assert (answer.status_code, item.state) == (status, after)
        if status == 409:
            assert answer.headers["warning"].startswith("299 ")
        if state == wanted == COMPLETED:
            assert "already in the requested state of COMPLETED" in answer.headers["warning"]

    @pytest.mark.parametrize("state", STATES)
    @pytest.mark.parametrize("wanted", [IN_PROGRESS, COMPLETED, CANCELED])
    def test_without_a_transaction_uid_nothing_moves(self, http, state, wanted):
        item = Item(http, state)
        answer = item.to(wanted, "")
        assert (answer.status_code, item.state) == (400, state)
        assert "The Transaction UID is missing" in answer.headers["warning"]

    def test_another_one_neither_ends_nor_changes_it(self, http):
        item = Item(http, IN_PROGRESS)
        for wanted in (COMPLETED, CANCELED):
            answer = item.to(wanted, uids.new())
            assert answer.status_code == 400
            assert "incorrect" in answer.headers["warning"]
        label = {"00741204": element("LO", "Other")}
        assert http.post(item.path, json=label).status_code == 400
        assert http.post(f"{item.path}?transaction-uid={uids.new()}", json=label).status_code == 400
        assert http.post(f"{item.path}?{item.txn}", json=label).status_code == 200
        assert http.get(item.path).json()[0]["00741204"]["Value"] == ["Other"]
        assert "00081195" not in http.get(item.path).text

    def test_it_is_not_completed_before_it_says_what_was_done(self, http):
        item = Item(http, IN_PROGRESS)
        assert item.to(COMPLETED, item.txn).status_code == 409
        half = {"00741216": element("SQ", {"00404050": element("DT", "2026")})}
        assert http.post(f"{item.path}?{item.txn}", json=half).status_code == 200
        assert item.to(COMPLETED, item.txn).status_code == 409
        assert http.post(f"{item.path}?{item.txn}", json=PERFORMED).status_code == 200
        assert item.to(COMPLETED, item.txn).status_code == 200

    @pytest.mark.parametrize(("state", "status", "after"), [
        (SCHEDULED, 202, CANCELED), (IN_PROGRESS, 409, IN_PROGRESS), (COMPLETED, 409, COMPLETED),
        (CANCELED, 409, CANCELED),
    ])  # fmt: skip
    def test_a_request_to_cancel(self, http, state, status, after):
        item = Item(http, state)
        assert http.post(f"{item.path}/cancelrequest", json={}).status_code == status
        assert item.state == after

    @pytest.mark.parametrize("state", [COMPLETED, CANCELED])
    def test_what_has_ended_does_not_change(self, http, state):
        item = Item(http, state)
        answer = http.post(f"{item.path}?{item.txn or '1.2'}", json={"00741204": element("LO", "x")})
        assert answer.status_code == 400

    def test_one_who_performs_it_and_listens_is_asked_to_cancel(self, http):
        item = Item(http, IN_PROGRESS)
        assert http.post(f"{item.path}/subscribers/PERFORMER").status_code == 201
        assert http.post(f"{item.path}/cancelrequest", json={}).status_code == 202
        assert item.state == IN_PROGRESS

    def test_a_cancelled_item_says_when_and_why(self, http):
        item = Item(http)
        code = element("SQ", {"00080100": element("SH", "110514"), "00080102": element("SH", "DCM")})
        why = {"00741238": element("LT", "Wrong one"), "0074100E": code}
        assert http.post(f"{item.path}/cancelrequest", json=why).status_code == 202
        said = http.get(item.path).json()[0]["00741002"]["Value"][0]
        assert {tag: said[tag] for tag in why} == why
        assert "00404052" in said
        said = http.get(Item(http, CANCELED).path).json()[0]["00741002"]["Value"][0]
        assert said["0074100E"]["Value"][0]["00080100"]["Value"] == ["110513"]  # for no reason that was given

    def test_two_want_it_and_one_gets_it(self, http):
        item = Item(http)
        assert item.to(IN_PROGRESS, uids.new()).status_code == 200
        late = item.to(IN_PROGRESS, uids.new())
        assert late.status_code == 400
        assert "incorrect" in late.headers["warning"]


class TestItems:
    def test_what_is_no_item(self, http):
        for wrong in (
            {"00741000": element("CS", "COMPLETED")}, {"00741000": element("CS", "")}, {"00741204": {"vr": "LO"}},
            {READY: element("CS", "MAYBE")}, {"00741200": element("CS", "NOW")}, {"00404005": {"vr": "DT"}},
            {"00081195": element("UI", "1.2")}, {"00741002": element("SQ", {"00741004": element("DS", 1)})},
            {"00741216": element("SQ", {"00404050": element("DT", "2026")})},
        ):  # fmt: skip
            assert http.post("/workitems", json=new(**wrong)).status_code == 400, wrong
        assert http.post("/workitems?workitem=x", json=new()).status_code == 400
        assert http.post("/workitems", json={"x": 1}).status_code == 400
        assert http.post("/workitems", content=b"<x/>", headers={"content-type": "text/xml"}).status_code == 415

    def test_one_that_is_there(self, http):
        item = Item(http)
        assert http.post(f"/workitems?workitem={item.uid}", json=new()).status_code == 409
        assert http.get("/workitems/1.2.999").status_code == 404
        wanted = {"00741000": element("CS", CANCELED), "00081195": element("UI", "1.2")}
        assert http.put("/workitems/1.2.999/state", json=wanted).status_code == 404

    def test_what_only_the_beginning_says(self, http):
        item = Item(http)
        for tag in ("00741000", "00100020", "00080018"):
            assert http.post(item.path, json={tag: element("LO", "x")}).status_code == 400
        assert http.post(f"{item.path}?1.2.3", json={"00741204": element("LO", "x")}).status_code == 409

    def test_a_new_one_gets_a_uid(self, http):
        made = http.post("/workitems", json=[new()])
        assert http.get(made.headers["location"]).json()[0]["00741204"]["Value"] == ["Segment"]

    def test_one_without_a_label_gets_one_and_says_so(self, http):
        made = http.post("/workitems", json=new(**{"00741202": {"vr": "LO"}}))
        assert made.status_code == 201
        assert "created with modifications" in made.headers["warning"]
        assert http.get(made.headers["location"]).json()[0]["00741202"]["Value"] == ["GENERAL"]

    def test_search(self, http):
        item = Item(http, **{"00741202": element("LO", "Unique words")})
        found = http.get("/workitems", params={"WorklistLabel": "Unique*", "00741000": SCHEDULED}).json()
        assert [one["00080018"]["Value"] for one in found] == [[item.uid]]
        assert http.get("/workitems?WorklistLabel=nothing").status_code == 204
        assert http.get("/workitems?ProcedureStepState=SCHEDULED&WorklistLabel=Unique*&PatientID=P2").status_code == 204
        assert http.get("/workitems?NoSuchThing=1").status_code == 400
        paged = http.get("/workitems?limit=1")
        assert len(paged.json()) == 1
        assert "299" in paged.headers["warning"]
        assert http.get("/workitems?limit=1&offset=1").json() != paged.json()


class TestSubscriptions:
    def channel(self, web: str, aet: str):
        return connect(f"ws{web.removeprefix('http')}/dicomweb/subscribers/{aet}", open_timeout=30)

    @staticmethod
    def told(channel) -> tuple[str, int, str]:
        event = json.loads(channel.recv(timeout=30))
        state = event.get("00741000", {}).get("Value", [""])[0]
        return event["00001000"]["Value"][0], event["00001002"]["Value"][0], state

    def test_to_one_item_from_its_state_to_its_end(self, web, http):
        item = Item(http)
        with self.channel(web, "ONE") as channel:
            made = http.post(f"{item.path}/subscribers/ONE")
            assert made.status_code == 201
            assert made.headers["content-location"] == f"ws{web.removeprefix('http')}/dicomweb/subscribers/ONE"
            assert self.told(channel) == (item.uid, 1, SCHEDULED)
            txn = uids.new()
            item.to(IN_PROGRESS, txn)
            assert self.told(channel) == (item.uid, 1, IN_PROGRESS)
            progress = {"00741002": element("SQ", {"00741004": element("DS", 50)})}
            http.post(f"{item.path}?{txn}", json=progress)
            assert self.told(channel)[:2] == (item.uid, 3)
            http.post(f"{item.path}?{txn}", json={"00404025": element("SQ", {"00080100": element("SH", "WS2")})})
            assert self.told(channel)[:2] == (item.uid, 5)
            http.post(f"{item.path}?{txn}", json={READY: element("CS", "INCOMPLETE")})
            assert self.told(channel) == (item.uid, 1, IN_PROGRESS)
            http.post(f"{item.path}/cancelrequest", json={"00741238": element("LT", "Too late")})
            assert self.told(channel)[:2] == (item.uid, 2)
            assert http.delete(f"{item.path}/subscribers/ONE").status_code == 200
            other = Item(http)
            item.to(CANCELED, txn)
            http.post(f"{other.path}/subscribers/ONE")
            assert self.told(channel) == (other.uid, 1, SCHEDULED)  # nothing of the first one came before

    def test_to_all_there_are_and_all_to_come(self, web, http):
        item = Item(http)
        with self.channel(web, "ALL") as channel:
            assert http.post(f"/workitems/{GLOBAL}/subscribers/ALL").status_code == 201
            later = Item(http)  # of those that there are, nothing is said before something happens
            assert self.told(channel) == (later.uid, 1, SCHEDULED)
            assert http.post(f"/workitems/{GLOBAL}/subscribers/ALL/suspend").status_code == 200
            Item(http)
            later.to(IN_PROGRESS, uids.new())
            assert self.told(channel) == (later.uid, 1, IN_PROGRESS)  # of the new one there was nothing
            assert http.delete(f"/workitems/{GLOBAL}/subscribers/ALL").status_code == 200
            item.to(IN_PROGRESS, uids.new())
            last = Item(http)
            http.post(f"{last.path}/subscribers/ALL")
            assert self.told(channel) == (last.uid, 1, SCHEDULED)

    def test_to_those_that_match(self, web, http):
        with self.channel(web, "SOME") as channel:
            path = f"/workitems/{FILTERED}/subscribers/SOME"
            assert http.post(path).status_code == 400
            assert http.post(path, params={"filter": "WorklistLabel=Hearts"}).status_code == 201
            Item(http)
            heart = Item(http, **{"00741202": element("LO", "Hearts")})
            assert self.told(channel) == (heart.uid, 1, SCHEDULED)

    def test_with_a_lock_on_all_each_there_is_is_told(self, web, http):
        item = Item(http)
        with self.channel(web, "LOCKED") as channel:
            assert http.post(f"/workitems/{GLOBAL}/subscribers/LOCKED?deletionlock=true").status_code == 201
            told = self.told(channel)
            while told[0] != item.uid:
                told = self.told(channel)

    def test_a_request_to_cancel_goes_by_way_of_in_progress(self, web, http):
        item = Item(http)
        with self.channel(web, "WAY") as channel:
            http.post(f"{item.path}/subscribers/WAY")
            assert http.post(f"{item.path}/cancelrequest", json={}).status_code == 202
            assert [self.told(channel)[2] for _ in range(3)] == [SCHEDULED, IN_PROGRESS, CANCELED]

    def test_two_channels_of_one_title(self, web, http):
        item = Item(http)
        with self.channel(web, "TWO") as first, self.channel(web, "TWO") as second:
            http.post(f"{item.path}/subscribers/TWO")
            assert self.told(first) == self.told(second) == (item.uid, 1, SCHEDULED)

    def test_one_that_does_not_keep_up_is_closed(self, web, http, monkeypatch):
        monkeypatch.setattr("dicomnet.web.channels.MOST_WAITING", 1)
        for _ in range(3):
            Item(http)
        with self.channel(web, "SLOW") as channel:
            assert http.post(f"/workitems/{GLOBAL}/subscribers/SLOW?deletionlock=true").status_code == 201
            with pytest.raises(ConnectionClosed) as closed:
                list(channel)
            assert closed.value.rcvd.code == 1008
        assert http.delete(f"/workitems/{GLOBAL}/subscribers/SLOW").status_code == 200

    def test_there_are_no_more_channels_than_may_be(self, web, monkeypatch):
        monkeypatch.setattr("dicomnet.web.channels.MOST_CHANNELS", 1)
        with self.channel(web, "ONE") as channel:
            with pytest.raises(InvalidStatus):
                self.channel(web, "OTHER")
            assert channel.ping().wait(30)

    def test_what_is_no_subscription(self, web, http):
        item = Item(http)
        assert http.post("/workitems/1.2.999/subscribers/ONE").status_code == 404
        assert http.delete("/workitems/1.2.999/subscribers/ONE").status_code == 404
        assert http.post(f"{item.path}/subscribers/{'A' * 17}").status_code == 400
        assert http.post(f"{item.path}/subscribers/ONE?deletionlock=maybe").status_code == 400
        assert http.post(f"{item.path}/subscribers/ONE/suspend").status_code == 400
        with pytest.raises(InvalidStatus):
            self.channel(web, "A" * 17)
        with pytest.raises(InvalidStatus):
            connect(f"ws{web.removeprefix('http')}/dicomweb/subscribers/ONE", origin="http://evil.example")


class TestLocks:
    def test_an_item_that_is_locked_outlasts_its_end(self, tmp_path, monkeypatch):
        now = 1e9
        with Database.opened(tmp_path / "index.db") as database:
            items = Workitems(database, clock=lambda: now)
            for uid in ("1.1", "1.2"):
                items.create(new(), uid)
                items.request_cancel(uid, {})
            items.subscribe("WATCHER", "1.1", locked=True)
            now += workitems.KEPT + 1
            items.create(new(), "1.3")
            assert items.get("1.1")
            with pytest.raises(WorkitemRefused) as gone:
                items.get("1.2")
            assert gone.value.code == 0xC307
            items.unsubscribe("WATCHER", "1.1")
            items.create(new(), "1.4")
            with pytest.raises(WorkitemRefused):
                items.get("1.1")
            assert items.get("1.3")

    def test_a_lock_on_all_locks_what_is_to_come(self, tmp_path):
        now = 1e9
        with Database.opened(tmp_path / "index.db") as database:
            items = Workitems(database, clock=lambda: now)
            items.subscribe("WATCHER", GLOBAL, locked=True)
            items.create(new(), "1.1")
            items.request_cancel("1.1", {})
            now += workitems.KEPT + 1
            items.create(new(), "1.2")
            assert items.get("1.1")
            items.subscribe("WATCHER", "1.1")  # again, without the lock
            items.create(new(), "1.3")
            with pytest.raises(WorkitemRefused):
                items.get("1.1")
            assert len(items.search(Identifier.of({}))) == 2

    def test_one_subscriber_does_not_hold_everything(self, tmp_path):
        with Database.opened(tmp_path / "index.db") as database:
            items = Workitems(database, most_locks=1)
            items.create(new(), "1.1")
            items.create(new(), "1.2")
            assert items.subscribe("WATCHER", "1.1", locked=True) == 0
            assert items.subscribe("WATCHER", "1.2", locked=True) == 0xB301
            assert items.subscribe("OTHER", "1.2", locked=True) == 0

    def test_what_is_said_of_one_item_goes_before_what_is_said_of_all(self, tmp_path):
        now = 1e9
        with Database.opened(tmp_path / "index.db") as database:
            items = Workitems(database, clock=lambda: now)
            items.create(new(), "1.1")
            items.subscribe("WATCHER", "1.1", locked=True)
            items.subscribe("WATCHER", GLOBAL)  # without a lock, which takes none away
            items.request_cancel("1.1", {})
            now += workitems.KEPT + 1
            items.create(new(), "1.2")
            assert items.get("1.1")
