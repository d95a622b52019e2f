"""The router in the console: rules tried, refused with their place, saved and in force; queues and dead letters."""

from __future__ import annotations

import html
from itertools import count

import consoles
import pytest
import routers
from routers import CT, address, everything_to, part10

import dicomnet as dn
from dicomnet.server.admin import AdminError, Client
from dicomnet.testing import Provider

NUMBERS = count(1)
HOSTILE = "<img src=x onerror=alert(1)>"
NEW = """
[[rules]]
name = "only B"
priority = 5
then = "stop"
when = { field = "PatientName", matches = "Doe.*" }
actions = [{ do = "forward", to = ["B"] }]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with consoles.place(tmp_path_factory.mktemp("servers")) as path:
        yield path


@pytest.fixture(scope="module")
def peers():
    with Provider("A") as a, Provider("B") as b:
        yield a, b


@pytest.fixture
def router(place, peers):
    """A router that sends all to A, and a client of its administration."""
    name = f"router{next(NUMBERS)}"
    folder = place / name / "data" / "router"
    folder.mkdir(parents=True)
    rules = everything_to(A=address(peers[0].peer, "tries = 1"), B=address(peers[1].peer))
    rules = rules.replace('"A", "B"', '"A"')
    (folder / "rules.toml").write_text(f"# Ours\n{rules}")
    with (
        consoles.running(place, name, addins__enable=["verification", "router"]) as server,
        Client(server.settings.admin.socket) as admin,
    ):
        yield server, admin, name


@pytest.fixture
def pages(router):
    with consoles.serving() as url, consoles.browser(url) as client:
        client.base_url = f"{url}/servers/{router[2]}/"
        yield client


def stored(server, *instances):
    with dn.connect(f"MAIN@127.0.0.1:{server.address[1]}", contexts=dn.contexts.storage([CT])) as association:
        for one in instances:
            assert association.store(one).status.is_success


def wait(server, admin, state, expected=None):
    """The deliveries in a state, once all destinations are as expected; by default one is in that state for A."""
    routers.eventually(server.addins.get("router").found.plugin.routing, expected or {"A": {state: 1}})
    return admin.send("RouterQueue", {"states": [state]})["deliveries"]


def text_of(page):
    _, _, inner = page.partition('<textarea id="toml"')
    return html.unescape(inner.partition(">")[2].partition("</textarea>")[0]).removeprefix("\n")


def test_a_rule_is_tried_saved_and_in_force_for_the_next_association(router, pages, peers):
    server, admin, _ = router
    a, b = peers
    before = len(a.received), len(b.received)
    stored(server, part10(1, PatientName="Doe^Jane"))
    [one] = wait(server, admin, "sent")
    text = text_of(pages.get("rules").text)
    assert text.startswith("# Ours\n")
    page = pages.post("rules", data={"toml": text + NEW, "study": one["study"], "version": "1", "action": "try"}).text
    assert "sent to B by &#34;only B&#34;" in page
    assert "sent to A by &#34;all&#34;" in page
    assert "rule &#34;only B&#34; fires" in page
    assert admin.send("RouterRules")["version"] == 1  # nothing is saved, nothing is sent
    assert (len(a.received), len(b.received)) == (before[0] + 1, before[1])
    saved = pages.post("rules", data={"toml": text + NEW, "version": "1", "action": "save"}, follow_redirects=True)
    assert "Saved: version 2 holds" in saved.text
    assert text_of(saved.text) == text + NEW  # comments and all
    stored(server, part10(2, PatientName="Doe^Jane"))
    assert len(wait(server, admin, "sent", {"A": {"sent": 1}, "B": {"sent": 1}})) == 2
    assert (len(a.received), len(b.received)) == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize(
    ("wrong", "name", "what", "line"),
    [
        (NEW.replace("PatientName", "PatentName"), "only B", 'there is no attribute "PatentName"', 2),
        (NEW.replace('"B"', '"C"'), "only B", "C", 2),
        (NEW.replace("priority = 5", "priority = "), "", "this is no TOML", 4),
    ],
)
def test_a_bad_rule_is_refused_with_its_place_and_kept_in_the_form(router, pages, wrong, name, what, line):
    _, admin, _ = router
    text = text_of(pages.get("rules").text)
    for action in ("try", "save"):
        response = pages.post("rules", data={"toml": text + wrong, "version": "1", "action": action})
        assert response.status_code == 422
        assert ("Not saved" in response.text) == (action == "save")
        assert text_of(response.text) == text + wrong
        for one in (name, what, f"Line {text.count(chr(10)) + line}<"):
            assert one.replace('"', "&#34;") in response.text
    assert admin.send("RouterRules")["version"] == 1
    assert admin.send("RouterStatus")["problem"] == ""


def test_rules_that_another_has_changed_are_not_lost(router, pages):
    _, admin, _ = router
    text = text_of(pages.get("rules").text)
    admin.send("RouterSaveRules", {"toml": f"# Theirs\n{text}"})
    response = pages.post("rules", data={"toml": text + NEW, "version": "1", "action": "save"})
    assert response.status_code == 409
    assert "the rules have changed" in response.text
    assert text_of(response.text) == text + NEW
    assert admin.send("RouterRules")["toml"].startswith("# Theirs")
    with pytest.raises(AdminError, match="version 2 holds"):
        admin.send("RouterSaveRules", {"toml": text, "version": 1})


def test_a_study_that_is_not_there(router, pages):
    text = text_of(pages.get("rules").text)
    response = pages.post("rules", data={"toml": text, "study": "1.2.3", "version": "1", "action": "try"})
    assert response.status_code == 422
    assert "nothing of the study 1.2.3 is in the spool" in response.text


def test_dead_letters_are_seen_and_sent_again(router, pages, peers):
    server, admin, _ = router
    peers[0].status = 0xC000
    try:
        stored(server, part10(3, PatientName=HOSTILE, PatientID=HOSTILE))
        [one] = wait(server, admin, "parked")
        page = pages.get("queue").text
        assert "<img src=x" not in page
        assert "&lt;img src=x" in page
        assert "parked" in page
        assert one["uid"] in page
        assert "Choose the deliveries first." in pages.post("queue", data={"act": "retry"}, follow_redirects=True).text
    finally:
        peers[0].status = 0
    said = pages.post("queue", data={"act": "retry", "id": str(one["id"])}, follow_redirects=True).text
    assert "Retry: 1 delivery." in said
    wait(server, admin, "sent")
    assert one["uid"] in pages.get("queue?state=sent").text
    assert "Nothing is unaccounted for." in pages.get("queue/report").text
    assert pages.get("queue/report?day=never").status_code == 422


def test_only_who_administers_changes_rules(router, tmp_path):
    with consoles.serving(consoles.users_of(tmp_path / "users.json")) as url:
        for role in ("read", "operate"):
            with consoles.browser(url, role) as client:
                page = client.get(f"/servers/{router[2]}/rules")
                assert page.status_code == 200
                assert "readonly" in page.text
                assert client.post(f"/servers/{router[2]}/rules", data={"toml": "", "action": "try"}).status_code == 403
