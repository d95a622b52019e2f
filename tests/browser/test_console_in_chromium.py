"""The console in Chromium: each page at two widths, in light and dark, and each action with and without scripts."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import console_pages
import consoles
import peers
import programs
import pytest
from routers import CT, address, eventually, everything_to, part10
from servers import call

import dicomnet as dn
from dicomnet import uids
from dicomnet.server.admin import Client
from dicomnet.server.ae_entry import AEEntry
from dicomnet.server.directory import ENVIRONMENT
from dicomnet.site.plan import Site
from dicomnet.site.running import down
from dicomnet.testing import Provider
from dicomnet.web.viewer import viewer_files

pytestmark = [pytest.mark.long, pytest.mark.deadline(300)]

PAGES = (
    "/", "/new-server", "/servers/main", "/servers/main/clients", "/servers/main/ae-titles",
    "/servers/main/new-ae-title", "/servers/main/ae-titles/CT1", "/servers/main/ae-titles/CT1/remove",
    "/servers/main/settings", "/servers/main/settings/listen", "/servers/main/settings/admin",
    "/servers/main/settings/addin.webhook", "/servers/main/addins", "/servers/main/delete", "/servers/none",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with consoles.place(tmp_path_factory.mktemp("servers")) as path:
        yield path


@pytest.fixture(scope="module")
def server(place):
    with consoles.running(place, timeouts__reconnect=0.1) as server:
        yield server


@pytest.fixture(scope="module")
def url(server):
    with consoles.serving() as url, consoles.browser(url) as client:
        entry = {"title": "CT1", "host": "127.0.0.1", "port": "11112", "description": "A scanner", "rights": "echo"}
        assert client.post("/servers/main/new-ae-title", data=entry).status_code == 303
        yield url


@pytest.mark.parametrize(("width", "dark"), [("wide", False), ("narrow", True)], ids=["wide", "narrow"])
def test_every_page(chromium, url, server, width, dark):
    with (
        call(server, uids.VERIFICATION, calling="CTA", called="MAIN"),
        console_pages.context(chromium, url, width=width, dark=dark) as page,
    ):
        for path in PAGES:
            page.goto(path)
            console_pages.check(page)


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "forms"])
class TestActions:
    @pytest.fixture
    def page(self, chromium, url, scripts):
        with console_pages.context(chromium, url, scripts=scripts) as page:
            yield page

    def test_ae_titles(self, page, server):
        page.goto("/servers/main/ae-titles")
        page.get_by_role("link", name="Add an AE title").click()
        page.get_by_label("AE title").fill("SELF")
        page.get_by_label("Host").fill("no host")
        page.get_by_label("Port").fill("many")
        page.get_by_role("button", name="Save").click()
        assert page.get_by_label("Port").get_attribute("aria-invalid") == "true"
        assert page.get_by_label("Host").input_value() == "no host"
        page.get_by_label("AE title").fill("MAIN")
        page.get_by_label("Host").fill("127.0.0.1")
        page.get_by_label("Port").fill(str(server.address[1]))
        page.get_by_role("button", name="Save").click()
        page.get_by_text("MAIN is saved.").wait_for()
        page.get_by_role("button", name="Echo MAIN").click()
        page.get_by_text("MAIN answers.").wait_for()
        page.get_by_role("link", name="Remove MAIN").click()
        page.get_by_role("button", name="Remove").click()
        page.get_by_text("MAIN is removed.").wait_for()
        assert server.base.ae_titles.find("MAIN") is None

    def test_clients(self, page, server, scripts):
        if scripts:  # the page stays as it is, and hears of those who come
            page.goto("/servers/main/clients")
            page.get_by_text("Nobody is connected.").wait_for()
        with call(server, uids.VERIFICATION, calling="CTB", called="MAIN") as association:
            if not scripts:
                page.goto("/servers/main/clients")
            page.get_by_role("link", name="CTB").click()
            page.get_by_text("Presentation contexts").first.wait_for()
            page.go_back()
            page.get_by_role("button", name="Disconnect CTB").click()
            page.get_by_text("is aborted.").wait_for()
            page.get_by_text("Nobody is connected.").wait_for()
            association.abort()

    def test_manager(self, page, place, scripts):
        name = "made-by-script" if scripts else "made-by-form"
        page.goto("/")
        page.get_by_role("link", name="New server").click()
        page.get_by_label("Name").fill(name)
        page.get_by_label("AE title").fill(name[:16].upper())
        page.get_by_label("Port").fill("0")
        page.get_by_role("button", name="Create").click()
        page.get_by_role("link", name="Settings", exact=True).click()
        page.get_by_role("link", name="access").click()
        page.get_by_label("Per title").fill("many")
        page.get_by_role("button", name="Save").click()
        assert page.get_by_label("Per title").get_attribute("aria-invalid") == "true"
        page.get_by_label("Per title").fill("2")
        page.get_by_role("button", name="Save").click()
        page.get_by_text("It holds when the server starts.").wait_for()
        page.get_by_role("link", name="Overview").click()
        for button, said in (("Start", "runs as process"), ("Pause", "takes no new association"),
                             ("Resume", "takes associations"), ("Reload settings", "has changed"),
                             ("Stop", "has stopped")):  # fmt: skip
            page.get_by_role("button", name=button, exact=True).click()
            page.get_by_text(said).wait_for()
        page.get_by_role("link", name="Delete").click()
        page.get_by_role("button", name="Delete").click()
        page.get_by_text("its directory is still there").wait_for()
        assert (place / name / "server.toml").is_file()


class TestRouter:
    NEW = """
[[rules]]
name = "only B"
priority = 5
then = "stop"
when = { field = "PatientName", matches = "Doe.*" }
actions = [{ do = "forward", to = ["B"] }]
"""

    @pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "forms"])
    def test_a_rule_is_written_tried_saved_and_in_force(self, chromium, place, scripts):
        """Refused with its place first; then the next association is routed by it."""
        name = f"router-{scripts}".lower()
        folder = place / name / "data" / "router"
        folder.mkdir(parents=True)
        with Provider("A") as a, Provider("B") as b:
            (folder / "rules.toml").write_text(
                everything_to(A=address(a.peer), B=address(b.peer)).replace('"A", "B"', '"A"')
            )
            with (
                consoles.running(place, name, addins__enable=["verification", "router"]) as server,
                consoles.serving() as url,
                console_pages.context(chromium, url, scripts=scripts) as page,
            ):
                routing = server.addins.get("router").found.plugin.routing
                self.store(server, part10(1, PatientName="Doe^Jane"))
                eventually(routing, {"A": {"sent": 1}})
                self.write(page, name)
                self.store(server, part10(2, PatientName="Doe^John"))
                eventually(routing, {"A": {"sent": 1}, "B": {"sent": 1}})
                page.get_by_role("link", name="Queue").click()
                page.get_by_label("State").select_option("sent")
                page.get_by_role("button", name="Show").click()
                assert page.get_by_role("row").filter(has_text="only B").count() == 1
                console_pages.check(page)
                page.get_by_role("link", name="Report").click()
                page.get_by_text("Nothing is unaccounted for.").wait_for()
                console_pages.check(page)

    def write(self, page, name):
        page.goto(f"/servers/{name}/rules")
        editor = page.get_by_label("Rules and destinations")
        text = editor.input_value()
        line = text.count("\n") + 2
        editor.fill(text + self.NEW.replace("PatientName", "PatentName"))
        page.get_by_role("button", name="Save").click()
        page.get_by_text(f"Line {line}").wait_for()
        page.get_by_text('there is no attribute "PatentName"').wait_for()
        assert "PatentName" in editor.input_value()
        editor.fill(text + self.NEW)
        page.get_by_label("Try them on a study").fill("1.2.1")
        page.get_by_role("button", name="Try").click()
        page.get_by_text('sent to B by "only B"').wait_for()
        console_pages.check(page)
        page.get_by_role("button", name="Save").click()
        page.get_by_text("Saved: version 2 holds").wait_for()
        assert editor.input_value() == text + self.NEW

    @staticmethod
    def store(server, instance, title="MAIN"):
        peer = f"{title}@127.0.0.1:{server.address[1]}"
        with dn.connect(peer, contexts=dn.contexts.storage([CT])) as association:
            assert association.store(instance).status.is_success


class TestArchive:
    @pytest.fixture(scope="class")
    @staticmethod
    def archive(place):
        """An archive with three studies, and the address of a console."""
        addins = ["verification", "archive"]
        with (
            consoles.running(place, "arch", title="ARCH", addins__enable=addins, addin__archive__durability="os",
                             web__port=0) as server,
            consoles.serving() as url,
        ):  # fmt: skip
            for study in range(1, 4):
                TestRouter.store(server, part10(1, study=study, PatientName=f"Doe{study}^Jane"), "ARCH")
            yield server, url

    @pytest.mark.parametrize(("width", "dark"), [("wide", False), ("narrow", True)], ids=["wide", "narrow"])
    def test_every_page(self, chromium, archive, width, dark):
        with console_pages.context(chromium, archive[1], width=width, dark=dark) as page:
            for path in ("studies", "studies?from=never", "studies/1.2.1", "import", "sending", "worklist", "booking",
                         "steps", "commitment"):  # fmt: skip
                page.goto(f"/servers/arch/{path}")
                console_pages.check(page)

    @pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "forms"])
    def test_studies(self, chromium, archive, scripts, tmp_path):
        server, url = archive
        with Provider("DEST") as peer, console_pages.context(chromium, url, scripts=scripts) as page:
            entry = AEEntry(title="DEST", host="127.0.0.1", port=int(peer.peer.rpartition(":")[2]))
            server.base.ae_titles.add(entry)
            page.goto("/servers/arch/studies")
            page.get_by_label("Patient name").fill("Doe2")
            if not scripts:
                page.get_by_role("button", name="Search").click()
            page.get_by_role("link", name="Doe1^Jane", exact=True).wait_for(state="detached")
            page.get_by_role("checkbox", name="Study of Doe2^Jane").check()
            page.get_by_role("button", name="Send").click()
            page.get_by_text("On their way to DEST: 1.").wait_for()
            assert len(peer.wait_for(1)) == 1
            page.goto("/servers/arch/studies/1.2.2")
            page.get_by_role("button", name="Export").click()
            console_pages.check(page)
            with page.expect_download() as taken:
                page.get_by_role("button", name="Download").click()
            taken.value.save_as(tmp_path / "out.zip")
            page.goto("/servers/arch/studies/1.2.2")
            page.get_by_role("button", name="Delete").click()
            console_pages.check(page)
            page.get_by_role("button", name="Delete").click()
            page.get_by_text("Deleted: 1 instances.").wait_for()
            page.goto("/servers/arch/import")
            page.get_by_label("DICOM files").set_input_files(tmp_path / "out.zip")
            page.get_by_role("button", name="Import").click()
            page.get_by_text("1 stored, 0 there already").wait_for()
            server.base.ae_titles.remove("DEST")

    def test_a_study_opens_in_the_viewer(self, chromium, archive):
        if viewer_files() is None:
            peers.absent("the viewer (make viewer)")
        context = chromium.new_context(base_url=archive[1])
        page = context.new_page()
        page.goto("/servers/arch/studies")
        with page.expect_popup() as opened:
            page.get_by_role("link", name="Open the study of Doe1^Jane in the viewer").click()
        viewer = opened.value
        viewer.locator(".cornerstone-canvas").first.wait_for(timeout=120_000)
        assert "StudyInstanceUIDs=1.2.1" in viewer.url
        context.close()

    @pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "forms"])
    def test_worklist(self, chromium, archive, scripts):
        with console_pages.context(chromium, archive[1], scripts=scripts) as page:
            page.goto("/servers/arch/worklist")
            page.get_by_role("link", name="Book", exact=True).click()
            for label, text in (("Patient name", "Muster^Anna"), ("Patient ID", "P1"), ("Modality", "c t"),
                                ("Date", "2026-11-30"), ("Time", "10:30"), ("Step", "Chest")):  # fmt: skip
                page.get_by_label(re.compile(f"^{label}")).last.fill(text)
            page.get_by_role("button", name="Book").click()
            assert page.get_by_label("Modality").get_attribute("aria-invalid") == "true"
            assert page.get_by_label("Patient name").input_value() == "Muster^Anna"
            console_pages.check(page)
            page.get_by_label("Modality").fill("CT")
            page.get_by_role("button", name="Book").click()
            page.get_by_text("Booked.").wait_for()
            page.get_by_role("link", name="Muster^Anna", exact=True).click()
            page.get_by_label("Time").fill("11:45")
            page.get_by_label("Status").select_option("ARRIVED")
            page.get_by_role("button", name="Save").click()
            page.get_by_text("2026-11-30 11:45").wait_for()
            page.get_by_role("link", name="Remove what is booked").click()
            page.get_by_role("button", name="Remove").click()
            page.get_by_text("Nothing is scheduled.").wait_for()


class TestWorkstation:
    @pytest.fixture(scope="class")
    @staticmethod
    def url(place):
        with (
            consoles.running(place, "pacs", title="PACS", addins__enable=["archive"],
                             addin__archive__durability="os") as archive,
            consoles.running(place, "ws", title="WS", addins__enable=["workstation"], timeouts__reconnect=0.1,
                             addin__workstation__durability="os", log__file="logs/server.log") as station,
            consoles.serving() as url,
        ):  # fmt: skip
            for study in range(1, 6):
                TestRouter.store(archive, part10(1, study=study, PatientName=f"Doe{study}^Jane"), "PACS")
            for patient in (4, 5):  # an earlier study of whom is there, too, and the later one here
                names = {"PatientName": f"Doe{patient}^Jane", "PatientID": f"P{patient}"}
                TestRouter.store(archive, part10(1, study=10 + patient, **names), "PACS")
                TestRouter.store(station, part10(1, study=patient, **names), "WS")
            for title, port in (("PACS", archive.address[1]), ("AWAY", 1)):
                station.base.ae_titles.add(AEEntry(title=title, host="127.0.0.1", port=port))
            yield url

    @pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "forms"])
    def test_remote_query_retrieve_and_queue(self, chromium, url, scripts):
        number = 1 if scripts else 2
        with console_pages.context(chromium, url, scripts=scripts) as page:
            done = page.get_by_role("link", name="Study of job")  # each job that is done has one
            page.goto("/servers/ws/jobs")
            before = done.count()
            page.goto("/servers/ws/remote")
            page.get_by_role("combobox").select_option("PACS")
            page.get_by_label("Patient name").fill(f"Doe{number}")
            page.get_by_role("button", name="Ask").click()
            page.get_by_role("checkbox", name=f"Study of Doe{number}^Jane").check()
            console_pages.check(page)
            page.get_by_role("button", name="Retrieve").click()
            page.get_by_text("as soon as it is their turn").wait_for()
            if scripts:  # by itself
                done.nth(before).wait_for()
            else:
                console_pages.reload_until(page, lambda: done.count() > before)
            page.get_by_text("1 of 1").first.wait_for()
            console_pages.check(page)
            done.first.click()  # the latest job stands first
            page.get_by_role("heading", name=f"Doe{number}^Jane").wait_for()

    @pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "forms"])
    def test_a_study_is_pinned_unpinned_and_its_priors_are_fetched(self, chromium, url, place, scripts):
        number = 4 if scripts else 5
        study = f"/servers/ws/studies/1.2.{number}"
        with console_pages.context(chromium, url, scripts=scripts) as page, Client(place / "ws") as admin:

            def held() -> dict[str, bool]:
                return {one["uid"]: one["pinned"] for one in admin.send("WorkstationStudies", {})["studies"]}

            for button, said, pinned in (("Pin", "It stays", True), ("Unpin", "The quota may remove it", False)):
                page.goto(study)
                page.get_by_role("button", name=button, exact=True).click()
                page.get_by_text(said).wait_for()
                assert held()[f"1.2.{number}"] is pinned
                console_pages.check(page)
            page.goto(study)
            console_pages.check(page)
            page.get_by_label("Send to").select_option("PACS")
            page.get_by_role("button", name="Fetch earlier studies from there").click()
            page.get_by_text("Earlier studies on their way: 1.").wait_for()
            console_pages.check(page)
            page.goto("/servers/ws/studies")
            there = page.get_by_role("link", name=f"Doe{number}^Jane", exact=True)
            console_pages.reload_until(page, lambda: there.count() == 2)
            assert f"1.2.1{number}" in held()

    @pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "forms"])
    def test_a_job_is_cancelled(self, chromium, url, scripts):
        with console_pages.context(chromium, url, scripts=scripts) as page:
            page.goto("/servers/ws/remote?peer=PACS&patient_name=Doe3")
            page.get_by_role("checkbox", name="Study of").check()
            # The archive that was asked is not the one that is there when it is retrieved.
            page.locator('input[name="peer"]').evaluate("one => { one.value = 'AWAY'; }")
            page.get_by_role("button", name="Retrieve").click()
            page.get_by_role("button", name="Cancel job").click()
            page.get_by_text("is cancelled").wait_for()
            page.get_by_role("button", name="Retry job").first.click()
            page.get_by_role("button", name="Cancel job").click()
            page.get_by_text("is cancelled").wait_for()
            page.get_by_role("button", name="Clear what is over").click()
            page.get_by_text("Cleared:").wait_for()

    @pytest.mark.parametrize(("width", "dark"), [("wide", False), ("narrow", True)], ids=["wide", "narrow"])
    def test_every_page(self, chromium, url, width, dark):
        with console_pages.context(chromium, url, width=width, dark=dark) as page:
            for path in ("/servers/ws/remote", "/servers/ws/jobs", "/servers/ws/log", "/servers/ws/audit", "/check",
                         "/servers/ws/remote?peer=AWAY"):  # fmt: skip
                page.goto(path)
                console_pages.check(page)
            page.goto("/check")
            page.get_by_role("button", name="Check").click()
            page.get_by_text("answers").first.wait_for()
            console_pages.check(page)


class TestSite:
    @pytest.fixture
    def console(self, monkeypatch):
        """A console as people run it, and a folder with a short path, for sockets."""
        with TemporaryDirectory(prefix="site-") as folder:
            monkeypatch.setenv(ENVIRONMENT, f"{folder}/servers")
            command = programs.command("console", "run", "--listen", "127.0.0.1:0")
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=programs.ROOT)
            try:
                yield process.stdout.readline().split()[-1].rstrip("/"), Path(folder, "hospital")
            finally:
                programs.end(process)

    @pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "forms"])
    def test_it_is_made_and_started(self, chromium, console, scripts):
        url, target = console
        with console_pages.context(chromium, url, scripts=scripts) as page:
            page.goto("/")
            page.get_by_role("link", name="New site").click()
            self.check(page)
            page.get_by_label("Folder").fill(str(target))
            self.refuse(page)
            page.get_by_label("First port").fill("0")
            page.get_by_label("de-identified").check()
            page.get_by_role("button", name="Make the site").click()
            page.get_by_text(f"{target} is made.").wait_for()
            page.get_by_text(f"dicomnet site up {target}").wait_for()
            self.check(page)
            site = Site.load(target)
            assert site.nodes["archive"].title == "PACS"
            assert site.deidentified
            try:
                page.get_by_role("button", name="Start its servers").click()
                page.get_by_text("Started: archive, workstation, router.").wait_for(timeout=200_000)
                self.check(page)
                assert page.get_by_role("button", name="Start its servers").count() == 0
                page.get_by_role("link", name="router", exact=True).click()
                page.get_by_role("button", name="Stop").click()
                page.get_by_text("router has stopped").wait_for()
                page.goto("/")
                page.get_by_text("the workstation of the site").wait_for()
                assert page.get_by_text("running", exact=True).count() == 2
            finally:
                down(site)

    @staticmethod
    def refuse(page):
        """First for a title with a space, then for a port that we have ourselves; what was typed stays."""
        make = page.get_by_role("button", name="Make the site")
        title, first = page.get_by_label("AE title of the archive"), page.get_by_label("First port")
        title.fill("MY PACS")
        make.click()
        assert title.get_attribute("aria-invalid") == "true"
        assert title.input_value() == "MY PACS"
        title.fill("PACS")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            first.fill(str(port - 101))
            make.click()
            page.get_by_text(f"port {port} of the workstation over TLS is taken: process {os.getpid()} ").wait_for()
        assert first.get_attribute("aria-invalid") == "true"
        assert (first.input_value(), title.input_value()) == (str(port - 101), "PACS")
        console_pages.check(page)

    @staticmethod
    def check(page):
        """At two widths, in light and dark."""
        for width, colors in (("narrow", "dark"), ("wide", "light")):
            page.set_viewport_size({"width": console_pages.WIDTHS[width], "height": 760})
            page.emulate_media(color_scheme=colors)
            console_pages.check(page)


def test_by_keyboard_alone(chromium, url):
    with console_pages.context(chromium, url) as page:
        page.goto("/servers/main/ae-titles")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Add an AE title"
        page.keyboard.press("Enter")
        page.wait_for_url("**/new-ae-title")


def test_login_and_logout(chromium, server, place):
    users = consoles.users_of(place / "users.json")
    with consoles.serving(users) as url, console_pages.context(chromium, url, role="read") as page:
        page.get_by_text("read (read)").wait_for()
        console_pages.check(page)
        page.goto("/servers/main")
        assert page.get_by_role("button", name="Stop").count() == 0
        page.goto("/new-server")
        page.get_by_text("this needs the role administer").wait_for()
        page.goto("/")
        page.get_by_role("link", name="Log out").click()
        page.get_by_role("button", name="Log out").click()
        page.goto("/")
        page.wait_for_url("**/login**")
