"""The worklist and performed steps over HTTP: made, read, changed, removed, and what each bad request gets."""

from __future__ import annotations

import pytest
from web_archives import client, element, served

import dicomnet as dn
from dicomnet import uids

WORKLIST, STEPS = "/modality-scheduled-procedure-steps", "/modality-performed-procedure-steps"


def an_item(**more: object) -> dict:
    step = {"00080060": element("CS", "CT"), "00400001": element("AE", "CT1"), "00400002": element("DA", "20260101")}
    item = {
        "00100010": element("PN", {"Alphabetic": "Müller^Jörg"}),
        "00100020": element("LO", "P1"),
        "00080050": element("SH", "A1"),
        "00400100": element("SQ", step),
    }
    return item | more


def a_step(study: str, scheduled: str = "S1", **more: object) -> dict:
    item = {
        "00080060": element("CS", "CT"),
        "00400241": element("AE", "CT1"),
        "00400244": element("DA", "20260101"),
        "00400245": element("TM", "1200"),
        "00400252": element("CS", "IN PROGRESS"),
        "00400253": element("SH", "PPS1"),
        "00400270": element("SQ", {"0020000D": element("UI", study), "00400009": element("SH", scheduled)}),
    }
    return item | more


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with served(tmp_path_factory.mktemp("worklist") / "archive") as found:
        yield found


@pytest.fixture
def http(archive):
    with client(f"{archive[1]}/dicomweb") as http:
        yield http


def test_an_item_is_made_read_changed_and_removed(archive, http):
    made = http.post(WORKLIST, json=an_item())
    assert made.status_code == 201
    url = made.headers["location"]
    item = http.get(url).json()[0]
    assert item["00081190"]["Value"] == [url]
    assert item["0020000D"]["Value"]
    scheduled = {"00400100.00080060": "CT", "PatientName": "*jörg*", "00400100.00400001": "CT1"}
    assert [one["00080050"]["Value"] for one in http.get(WORKLIST, params=scheduled).json()] == [["A1"]]
    assert http.get(WORKLIST, params={"00400100.00080060": "MR"}).status_code == 204

    etag = http.get(url).headers["etag"]
    name = {"00100010": element("PN", {"Alphabetic": "Maier^Jörg"})}
    changed = http.patch(url, json=name, headers={"if-match": etag})
    assert changed.status_code == 200
    late = http.patch(url, json={"00100020": element("LO", "P2")}, headers={"if-match": etag})
    assert late.status_code == 409

    peer = f"ARCHIVE@127.0.0.1:{archive[0].listener.address[1]}"  # a modality sees the same
    with dn.client.WorklistScu(peer) as scu:
        (match,) = scu.items(step={"Modality": "CT"})
        assert str(match.PatientName) == "Maier^Jörg"

    assert http.delete(url).status_code == 204
    assert http.get(url).status_code == http.delete(url).status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400), ([], 400), ([{}, {}], 400), ({"0010": element("LO", "x")}, 400), ({"00100020": "P1"}, 400),
        ({"00100020": {"vr": "LO", "Value": "P1"}}, 400), ({"00100010": element("PN", {"First": "x"})}, 400),
        (an_item(**{"00100020": element("LO", "a\0b")}), 400), (an_item(**{"0020000D": element("UI", "x")}), 400),
        (an_item(**{"00400100": {"vr": "SQ"}, "00080050": element("SH", "A9")}), 400),
        (an_item(**{"00100020": {"vr": "LO", "Value": [[1]]}}), 400),
    ],
)  # fmt: skip
def test_what_is_no_item(http, body, status):
    answer = http.post(WORKLIST, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_what_is_no_json(http):
    assert http.post(WORKLIST, content=b"{", headers={"content-type": "application/json"}).status_code == 400
    assert http.post(WORKLIST, content=b'{"00100020":NaN}').status_code == 400
    assert http.post(WORKLIST, content=b"[" * 100_000).status_code == 400
    assert http.post(WORKLIST, content=b" " * (5 << 20)).status_code == 413
    deep = b'{"00400100":{"vr":"SQ","Value":[' * 40 + b"{}" + b"]}}" * 40
    assert http.post(WORKLIST, content=deep).status_code == 400


def test_the_same_order_twice(http):
    order = an_item(**{"00080050": element("SH", "A7"), "0020000D": element("UI", "1.2.7")})
    url = http.post(WORKLIST, json=order).headers["location"]
    assert http.post(WORKLIST, json=order).status_code == 409
    assert http.delete(url).status_code == 204
    for number in ("0", "x", "9" * 30):
        assert http.get(f"{WORKLIST}/{number}").status_code == 404


def test_a_step_begins_changes_and_ends(http):
    order = http.post(WORKLIST, json=an_item(**{"00080050": element("SH", "A2")}))
    item = http.get(order.headers["location"]).json()[0]
    study, scheduled = item["0020000D"]["Value"][0], item["00400100"]["Value"][0]["00400009"]["Value"][0]
    url = f"{STEPS}/{uids.new()}"
    assert http.post(url, json=a_step(study, scheduled)).status_code == 201
    assert http.post(url, json=a_step(study, scheduled)).status_code == 409
    status = lambda: http.get(order.headers["location"]).json()[0]["00400100"]["Value"][0]["00400020"]["Value"]  # noqa: E731
    assert status() == ["STARTED"]
    assert http.post(f"{url}?update", json={"00400252": element("CS", "COMPLETED")}).status_code == 200
    assert status() == ["COMPLETED"]
    assert http.post(f"{url}?update", json={"00400252": element("CS", "IN PROGRESS")}).status_code == 409
    assert http.get(url).json()[0]["00400252"]["Value"] == ["COMPLETED"]
    assert http.delete(url).status_code == 204
    assert http.get(url).status_code == http.delete(url).status_code == 404


def test_what_is_no_step(http):
    url = f"{STEPS}/{uids.new()}"
    assert http.post(url, json={}).status_code == 400
    assert http.post(url, json=a_step("1.2", **{"00400252": element("CS", "COMPLETED")})).status_code == 400
    assert http.post(f"{STEPS}/x", json=a_step("1.2")).status_code == 400
    assert http.post(url, json=a_step("1.2")).status_code == 201
    settled = http.post(f"{url}?update", json={"00100020": element("LO", "P9")})
    assert settled.status_code == 409
