"""What the console's pages say where nothing is chosen, a server is silent, or settings cannot be taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import consoles
import httpx
import pytest
from archives import CT, part10
from rig import until
from servers import call

import dicomnet as dn
from dicomnet.server import Server
from dicomnet.server.directory import ServerDirectory
from dicomnet.services.query_models import model_uid

WORKLIST = model_uid("WORKLIST", "find")

FAILING = """
from dicomnet.server import hookimpl

@hookimpl
def services(registry):
    @registry.on_find("WORKLIST")
    def find(request):
        raise RuntimeError("no database")

@hookimpl
def start():
    if {fails}:
        raise RuntimeError("no licence")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with consoles.place(tmp_path_factory.mktemp("servers")) as path:
        yield path


@pytest.fixture(scope="module")
def pages(place: Path) -> Iterator[httpx.Client]:
    with consoles.serving() as url, consoles.browser(url) as browser:
        browser.follow_redirects = True
        yield browser


@pytest.fixture(scope="module")
def pacs(place: Path) -> Iterator[Server]:
    with consoles.running(
        place, "pacs", addins__enable=["verification", "archive"], addin__archive__durability="os"
    ) as server:
        with dn.connect(server.peer, contexts=dn.contexts.storage([CT])) as association:
            assert association.store(part10(1)).status.is_success
        yield server


@pytest.mark.parametrize(
    ("path", "data", "said"),
    [
        ("studies/act", {"act": "send"}, "Choose the studies first."),
        ("studies/act", {"act": "send", "study": "1.2.1"}, "Choose where to send them."),
        ("studies/act", {"act": "burn", "study": "1.2.1"}, "there is no such button"),
        ("studies/act", {"act": "pin", "study": "1.2.1"}, "there is no such button"),
        ("studies/delete", {}, "Choose the studies first."),
        ("studies/export", {}, "Choose the studies first."),
        ("sending", {"act": "cancel"}, "Choose the studies first."),
    ],
)
def test_what_is_not_chosen(pages: httpx.Client, pacs: Server, path: str, data: dict[str, str], said: str) -> None:
    answer = pages.post(f"/servers/pacs/{path}", data=data)
    assert said in answer.text, answer.text
    part = pages.post(f"/servers/pacs/{path}", data=data, headers={"HX-Request": "true"})
    assert said in part.text
    assert len(pages.get("/servers/pacs/studies").text.split("1.2.1")) > 1  # nothing was done


def test_a_search_by_a_part_of_a_description(pages: httpx.Client, pacs: Server) -> None:
    assert "1.2.1" not in pages.get("/servers/pacs/studies", params={"description": "thorax"}).text
    assert "1.2.1" in pages.get("/servers/pacs/studies", params={"patient_name": "doe"}).text


def test_a_page_to_choose_files_is_there(pages: httpx.Client, pacs: Server) -> None:
    assert 'type="file"' in pages.get("/servers/pacs/import").text


def test_a_server_that_holds_no_studies(pages: httpx.Client, place: Path) -> None:
    with consoles.running(place, "echoes"):
        for page in ("studies", "import"):
            answer = pages.get(f"/servers/echoes/{page}")
            assert (answer.status_code, "the server echoes holds no studies" in answer.text) == (404, True)


def test_a_server_whose_administration_is_silent(pages: httpx.Client, place: Path) -> None:
    """It runs, and does not answer: its own pages say so, and those of others are as ever."""
    with consoles.running(place, "mute", admin__enabled=False), consoles.running(place, "well", title="WELL"):
        home = pages.get("/").text
        assert ("silent" in home, "well" in home) == (True, True)
        page = pages.get("/servers/mute").text
        assert "no server answers at" in page
        with pages.stream("GET", "/live?topic=servers") as live:
            assert "mute" in next(text for text in live.iter_text() if "data:" in text)
        assert "mute: no server answers at" in pages.post("/check").text
        answer = pages.post("/servers/mute/settings/log", data={"log.level": "debug"})
        assert "The server that runs cannot take it" in answer.text


def test_settings_are_read_again_by_a_button(pages: httpx.Client, place: Path) -> None:
    with consoles.running(place, "again") as server:
        assert "Nothing that is in force has changed." in pages.post("/servers/again/reload").text
        ServerDirectory(server.directory).edit({"log.level": "debug", "listen.port": 104})
        said = pages.post("/servers/again/reload").text
        assert "In force now: log.level. After the next start: listen.port." in said


def test_add_ins_are_chosen_and_one_serves_again(pages: httpx.Client, place: Path) -> None:
    with consoles.running(place, "chosen") as server:
        (server.directory / "addins/mine.py").write_text(FAILING.format(fails=False))
        (server.directory / "addins/broken.py").write_text(FAILING.format(fails=True))
        assert 'value="mine"' in pages.get("/servers/chosen/addins").text
        saved = pages.post("/servers/chosen/addins", data={"enable": ["verification", "mine"], "order": "mine"})
        assert "In force now: addins.enable." in saved.text
        assert [one.name for one in server.addins] == ["mine", "verification"]
        with call(server, WORKLIST, called="MAIN") as association:
            for _ in range(5):
                with pytest.raises(dn.ServiceFailure):
                    list(association.find(model="WORKLIST"))
        until(lambda: server.addins.get("mine").guard.suspended)
        assert "mine serves again." in pages.post("/servers/chosen/addins/mine/resume").text
        assert not server.addins.get("mine").guard.suspended
        broken = pages.post("/servers/chosen/addins", data={"enable": ["verification", "broken"]})
        assert "The server that runs cannot take it" in broken.text
        assert "no licence" in broken.text
        assert [one.name for one in server.addins] == ["mine", "verification"]
        unknown = pages.post("/servers/chosen/addins", data={"enable": ["nix"]})
        assert (unknown.status_code, "no add-in" in unknown.text and "nix" in unknown.text) == (422, True)
    assert "It holds when the server starts." in pages.post(
        "/servers/chosen/addins", data={"enable": ["verification"]}
    ).text  # fmt: skip


def test_settings_that_cannot_be_read_have_pages(pages: httpx.Client, place: Path) -> None:
    directory = ServerDirectory(place / "broken")
    directory.create({"server.ae_title": "BROKEN"})
    directory.file.write_text("no TOML")
    page = pages.get("/servers/broken/settings")
    assert (page.status_code, "not TOML" in page.text) == (200, True)
    assert "broken" in pages.get("/").text


def test_a_new_server_takes_no_port_of_another(pages: httpx.Client, place: Path) -> None:
    ServerDirectory(place / "first").create({"server.ae_title": "FIRST", "listen.port": 11999})
    given = {"name": "second", "server.ae_title": "SECOND", "listen.port": "11999", "addins": "verification"}
    answer = pages.post("/new-server", data=given)
    assert "first listens on 11999 already" in answer.text
    assert not (place / "second").exists()
