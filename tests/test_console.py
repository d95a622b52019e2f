"""The console over HTTP: its pages, who may do what, what forms say, what other sites and peers cannot do with it."""

from __future__ import annotations

import asyncio
import io
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import aclosing
from functools import partial

import consoles
import httpx
import programs
import pytest
from argon2 import PasswordHasher
from servers import call
from starlette.routing import Route

from dicomnet import uids
from dicomnet.cli.app import run
from dicomnet.cli.exits import Exit
from dicomnet.server.admin import AsyncClient
from dicomnet.server.ae_entry import AEEntry
from dicomnet.server.directory import ServerDirectory
from dicomnet.web.console import application, schema_fields
from dicomnet.web.console import live as live_module
from dicomnet.web.console.desk import Desk
from dicomnet.web.console.forms import Form
from dicomnet.web.console.pages import MOST_FIELDS, MOST_FORM, Console
from dicomnet.web.users import ROLES, Users, allows

HOSTILE = "<script>alert(1)</script>\"'&"


@pytest.fixture(scope="module", autouse=True)
def usual():
    """A hash is to take long; not in every test."""
    quick = partial(PasswordHasher, time_cost=1, memory_cost=64, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dicomnet.web.users.PasswordHasher", quick)
        yield


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with consoles.place(tmp_path_factory.mktemp("servers")) as path:
        yield path


@pytest.fixture(scope="module")
def server(servers):
    with consoles.running(servers, timeouts__reconnect=0.1) as server:
        yield server


@pytest.fixture(scope="module")
def open_console(server):
    """Without users: this machine administers."""
    with consoles.serving() as url:
        yield url


@pytest.fixture(scope="module")
def console(server, servers):
    with consoles.serving(consoles.users_of(servers / "users.json")) as url:
        yield url


@pytest.fixture
def pages(open_console):
    with consoles.browser(open_console) as client:
        yield client


def routes() -> list[Route]:
    console = Console(Desk(), login=True, key="k")
    return [route for part in application._PARTS for route in part.routes(console)]


def address(route: Route) -> str:
    path = route.path.replace("{server}", "main")
    return path.replace("{table}", "listen").replace("{", "").replace("}", "")


class TestWhoMay:
    def test_a_stranger_is_sent_to_the_login(self, console):
        with httpx.Client(base_url=console, headers={"Accept": "text/html"}) as client:
            for route in routes():
                response = client.get(address(route))
                assert response.status_code == 303, route.path
                assert "/login?next=" in response.headers["location"]
                assert client.post(address(route)).status_code == 401

    def test_who_may_see_a_part_of_an_archive_does_not_come_in(self, console, servers):
        consoles.users_of(servers / "users.json").put("part", consoles.PASSWORD, "administer", modalities=["US"])
        with consoles.browser(console, "part") as client:
            for route in routes():
                response = client.get(address(route))
                assert response.status_code == 403, route.path
                assert "may see a part" in response.text

    def test_a_reader_changes_nothing(self, console):
        forms = [address(route) for route in routes() if "POST" in route.methods]
        assert len(forms) > 10
        with consoles.browser(console, "read") as client:
            for form in forms:
                response = client.post(form)
                assert response.status_code == 403, form
                assert "needs the role" in response.text

    @pytest.mark.parametrize("role", ROLES)
    @pytest.mark.parametrize(
        ("path", "needed"),
        [("/", "read"), ("/servers/main", "read"), ("/servers/main/clients", "read"), ("/new-server", "administer"),
         ("/servers/main/settings", "operate"), ("/servers/main/settings/listen", "operate"),
         ("/servers/main/new-ae-title", "administer"), ("/servers/main/delete", "administer")],
    )  # fmt: skip
    def test_pages_by_role(self, console, role, path, needed):
        with consoles.browser(console, role) as client:
            assert client.get(path).status_code == (200 if allows(role, needed) else 403)

    def test_who_operates_does_not_administer(self, console):
        with consoles.browser(console, "operate") as client:
            for path in ("/new-server", "/servers/main/stop", "/servers/main/new-ae-title", "/servers/main/delete"):
                assert client.post(path).status_code == 403
            text = client.get("/servers/main").text
        assert "Pause" in text
        assert "Stop" not in text


class TestOtherSites:
    @pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}])
    @pytest.mark.parametrize("role", ["", "administer"])
    def test_a_form_of_another_site_is_refused(self, open_console, console, role, headers):
        with consoles.browser(console if role else open_console, role) as client:
            del client.headers["sec-fetch-site"]
            response = client.post("/servers/main/pause", headers=headers)
        assert response.status_code == 403
        assert "another site" in response.text

    def test_another_name_of_the_loopback_address_is_refused(self, pages):
        assert pages.get("/", headers={"Host": "rebound.example"}).status_code == 421

    def test_no_page_is_framed_sniffed_kept_or_runs_what_it_quotes(self, pages):
        for path in ("/", "/servers/main/settings/listen", "/nothing"):
            headers = pages.get(path).headers
            policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
            assert policy["frame-ancestors"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
            assert headers["x-frame-options"] == "DENY"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"

    def test_a_message_of_another_maker_is_not_shown(self, pages):
        text = pages.get("/", headers={"Cookie": "dicomnet_said=WyJkb25lIiwiaGEiXQ.x.y"}).text
        assert 'role="status"' not in text


class TestHostileValues:
    def test_a_description_is_text(self, pages, server):
        entry = {"title": "HOSTILE<B>", "description": HOSTILE, "host": "127.0.0.1", "port": "104", "rights": "echo"}
        assert pages.post("/servers/main/new-ae-title", data=entry).status_code == 303
        for path in ("/servers/main/ae-titles", "/servers/main/ae-titles/HOSTILE%3CB%3E"):
            text = pages.get(path).text
            assert "<script>alert" not in text
            assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
            assert "HOSTILE&lt;B&gt;" in text
        assert pages.post("/servers/main/ae-titles/HOSTILE%3CB%3E/remove").status_code == 303

    def test_a_calling_title_is_text(self, pages, server):
        with call(server, uids.VERIFICATION, calling="<i>X</i>", called="MAIN"):
            text = pages.get("/servers/main/clients").text
        assert "<i>X" not in text
        assert "&lt;i&gt;X&lt;/i&gt;" in text

    @pytest.mark.parametrize("name", ["..", "%2e%2e", ".", "a%2fb", "nothing", "a" * 65, "%00", "\u202e"])
    def test_a_server_is_a_name_and_no_path(self, pages, name):
        assert pages.get(f"/servers/{name}/clients").status_code == 404

    def test_forms_are_bounded(self, pages):
        path = "/servers/main/new-ae-title"
        assert pages.post(path, data={"title": "A" * MOST_FORM}).status_code == 413
        assert pages.post(path, data={f"f{i}": "" for i in range(MOST_FIELDS + 1)}).status_code == 400
        assert pages.post(path, content=b"\xff\xfe=1", headers={"Content-Type": "text/plain"}).status_code == 415
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert pages.post(path, content=b"\xff\xfe=1", headers=form).status_code == 400


class TestAETitles:
    def test_a_mistake_is_told_at_its_field_and_what_was_typed_is_kept(self, pages):
        given = {"title": "THIS TITLE IS MUCH TOO LONG", "host": "host.example", "port": "many", "aliases": "A\r\nB"}
        response = pages.post("/servers/main/new-ae-title", data=given)
        assert response.status_code == 422
        for kept in ("THIS TITLE IS MUCH TOO LONG", "host.example", "many", "A\nB"):
            assert kept in response.text
        assert response.text.count('aria-invalid="true"') == 2
        assert 'id="f-port-error"' in response.text
        assert 'id="f-title-error"' in response.text

    @pytest.mark.parametrize(
        ("given", "field"), [({"host": "127.0.0.1"}, "port"), ({"port": "11112"}, "host")], ids=["no port", "no host"]
    )
    def test_half_an_address_is_refused(self, pages, server, given, field):
        """The server would take it, and list it as one that only calls."""
        response = pages.post("/servers/main/new-ae-title", data={"title": "HALF", "rights": "echo", **given})
        assert response.status_code == 422
        assert f'id="f-{field}-error"' in response.text
        assert server.base.ae_titles.find("HALF") is None

    def test_added_changed_and_removed(self, pages, server):
        given = {"title": "CT1", "host": "127.0.0.1", "port": "11112", "rights": ["echo", "store"], "tls": "on"}
        assert pages.post("/servers/main/new-ae-title", data=given).headers["location"].endswith("/ae-titles")
        entry = server.base.ae_titles.get("CT1")
        assert (entry.port, entry.tls, entry.rights) == (11112, True, ("echo", "store"))
        again = pages.post("/servers/main/new-ae-title", data=given)
        assert again.status_code == 409
        assert "is there already" in again.text
        assert pages.post("/servers/main/ae-titles/CT1", data={**given, "title": "CT2"}).status_code == 303
        assert server.base.ae_titles.find("CT1") is None
        assert "CT2?" in pages.get("/servers/main/ae-titles/CT2/remove").text
        pages.post("/servers/main/ae-titles/CT2/remove")
        assert server.base.ae_titles.find("CT2") is None

    def test_a_title_may_have_a_slash(self, pages, server):
        server.base.ae_titles.add(AEEntry(title="CT/1", description="upstairs"))
        assert "/servers/main/ae-titles/CT%2F1/remove" in pages.get("/servers/main/ae-titles").text
        assert "upstairs" in pages.get("/servers/main/ae-titles/CT%2F1").text
        assert pages.post("/servers/main/ae-titles/CT%2F1", data={"title": "CT/2"}).status_code == 303
        pages.post("/servers/main/ae-titles/CT%2F2/remove")
        assert server.base.ae_titles.find("CT/2") is None
        assert "there is no AE title" in pages.get("/servers/main/ae-titles/CT%2F2").text

    def test_a_change_widens_no_right_to_see(self, pages, server):
        """Patients without an issuer have no line: a form that lost them would let all be seen."""
        server.base.ae_titles.add(AEEntry(title="NARROW", modalities=("US",), issuers=("",)))
        try:
            page = pages.get("/servers/main/ae-titles/NARROW").text
            (box,) = re.findall(r'<input[^>]*name="no_issuer"[^>]*>', page)
            assert "checked" in box
            given = {"title": "NARROW", "modalities": "US", "issuers": ""}
            pages.post("/servers/main/ae-titles/NARROW", data={**given, "no_issuer": "on"})
            assert server.base.ae_titles.get("NARROW").issuers == ("",)
            pages.post("/servers/main/ae-titles/NARROW", data={**given, "issuers": "WARD\n", "no_issuer": "on"})
            assert set(server.base.ae_titles.get("NARROW").issuers) == {"WARD", ""}
            assert AEEntry(title="PAD", issuers=(" ", "WARD ")).issuers == ("", "WARD")  # a line of spaces is none
        finally:
            server.base.ae_titles.remove("NARROW")

    def test_echo(self, pages, server):
        server.base.ae_titles.add(_entry("SELF", server.address[1], "MAIN"))
        server.base.ae_titles.add(_entry("GONE", 1, "GONE"))
        try:
            page = pages.post("/servers/main/ae-titles/MAIN/echo", follow_redirects=True).text
            assert "MAIN answers." in page
            assert "answers." not in pages.get("/servers/main/ae-titles").text  # said once
            part = pages.post("/servers/main/ae-titles/GONE/echo", headers={"HX-Request": "true"}).text
            assert part.startswith('<div class="notice error"')
            assert "GONE does not answer" in part
        finally:
            for title in ("MAIN", "GONE"):
                server.base.ae_titles.remove(title)


def _entry(name, port, title):
    from dicomnet.server.ae_entry import AEEntry

    return AEEntry(title=title, host="127.0.0.1", port=port, description=name)


class TestClients:
    @pytest.fixture
    def unused(self, server):
        """Nobody is connected: what requests of earlier tests left behind, to be used again, has ended."""
        end = time.monotonic() + 30
        server.clients.quiesce(lambda: end, quiet=0)
        assert not len(server.clients)
        return server

    def test_the_association_is_shown_and_disconnected(self, pages, server):
        with call(server, uids.VERIFICATION, calling="CTA", called="MAIN") as association:
            association.echo()
            [record] = [one for one in server.clients if one.exchange.calling == "CTA"]
            page = pages.get(f"/servers/main/clients/{record.id}").text
            assert "1.2.840.10008.1.1</span>" in page
            pages.post(f"/servers/main/clients/{record.id}/disconnect")
            assert pages.get(f"/servers/main/clients/{record.id}").status_code == 404
            assert pages.post(f"/servers/main/clients/{record.id}/disconnect").status_code == 404
            association.abort()

    @pytest.mark.long
    def test_those_who_look_see_one_come_and_go(self, open_console, unused):
        seen = threading.Event()
        with consoles.browser(open_console) as client, client.stream("GET", "/live?topic=clients&server=main") as live:
            lines = live.iter_lines()
            assert "event: part" in next(line for line in lines if line.startswith("event"))
            with call(unused, uids.VERIFICATION, calling="CTLIVE", called="MAIN"):
                assert next(line for line in lines if "CTLIVE" in line)
                seen.set()
            assert next(line for line in lines if "Nobody is connected" in line)
        assert seen.is_set()

    @pytest.mark.usefixtures("unused")
    def test_a_look_that_fails_is_not_the_last(self, open_console, monkeypatch):
        real, failures = AsyncClient.clients, []

        async def clients(client):
            if not failures:
                failures.append(1)
                raise KeyError("a server of another version")
            return await real(client)

        monkeypatch.setattr(live_module, "TICK", 0.1)
        monkeypatch.setattr(AsyncClient, "clients", clients)
        with consoles.browser(open_console) as client, client.stream("GET", "/live?topic=clients&server=main") as live:
            assert next(line for line in live.iter_lines() if "Nobody is connected" in line)
        assert failures

    def test_a_server_that_cannot_be_heard_is_not_asked_without_a_pause(self, tmp_path, monkeypatch):
        looks: list[float] = []

        async def look():
            looks.append(asyncio.get_running_loop().time())
            return {}

        async def looked_at() -> None:
            live = live_module.Live(Desk(), lambda template, **values: f"look {len(looks)}")
            async with aclosing(live.follow("x", lambda: live_module.Topic("", look), "read")) as pieces:
                async for _ in pieces:
                    if len(looks) >= 4:
                        break

        monkeypatch.setattr(live_module, "PACE", 0.1)
        with consoles.place(tmp_path) as path, consoles.running(path, admin__enabled=False):
            asyncio.run(looked_at())
        assert looks[3] - looks[0] >= 0.2

    def test_too_many_who_look_are_refused(self, pages, monkeypatch):
        monkeypatch.setattr(live_module, "MOST_FOLLOWERS", 0)
        response = pages.get("/live?topic=servers")
        assert response.status_code == 503
        assert response.headers["retry-after"] == "30"

    @pytest.mark.parametrize("query", ["", "?topic=none", "?topic=clients&server=none", "?topic=clients"])
    def test_a_topic_that_there_is_not(self, pages, query):
        assert pages.get(f"/live{query}").status_code == 404


class TestManager:
    def test_a_server_is_made_edited_started_paused_stopped_and_deleted(self, pages, servers):
        given = {"name": "second", "server.ae_title": "SECOND", "listen.port": "0", "addins": "verification"}
        assert pages.post("/new-server", data=given).headers["location"].endswith("/servers/second")
        directory = ServerDirectory(servers / "second")
        said = partial(pages.post, follow_redirects=True)
        page = said("/servers/second/settings/access", data={"access.anonymous": "false", "access.per_title": "2"}).text
        assert "It holds when the server starts." in page
        assert directory.settings().access.per_title == 2
        assert "runs as process" in said("/servers/second/start").text
        try:
            assert "takes no new association" in said("/servers/second/pause").text
            assert '<span class="state paused">' in pages.get("/servers/second").text
            assert "takes associations" in said("/servers/second/resume").text
            changes = {"access.per_title": "", "access.max_clients": "7"}
            page = said("/servers/second/settings/access", data=changes).text
            assert "In force now: access.per_title. After the next start: access.max_clients." in page
            assert directory.settings().access.per_title is None
            refused = said("/servers/second/delete")
            assert refused.status_code == 422
            assert "second runs" in refused.text
        finally:
            assert "has stopped" in said("/servers/second/stop").text
        assert "its directory is still there" in said("/servers/second/delete").text
        assert directory.was_deleted
        assert pages.get("/servers/second").status_code == 404

    def test_what_cannot_be_is_told_at_its_field(self, pages, server):
        given = {"name": "../evil", "server.ae_title": "TOO LONG FOR A TITLE", "listen.port": "99999"}
        response = pages.post("/new-server", data=given)
        assert response.status_code == 422
        assert 'id="f-name-error"' in response.text
        response = pages.post("/new-server", data={**given, "name": "third"})
        assert 'id="f-server-ae_title-error"' in response.text
        assert 'id="f-listen-port-error"' in response.text
        assert "TOO LONG FOR A TITLE" in response.text
        response = pages.post("/new-server", data={"name": "third", "server.ae_title": "main"})
        assert "main has this AE title already" in response.text

    def test_a_setting_that_cannot_be_is_told_at_its_field_and_not_written(self, pages, server, servers):
        before = (servers / "main" / "server.toml").read_text()
        given = {"timeouts.drain": "soon", "timeouts.client": "-1"}
        response = pages.post("/servers/main/settings/timeouts", data=given)
        assert response.status_code == 422
        assert response.text.count('aria-invalid="true"') == 2
        assert "soon" in response.text
        response = pages.post("/servers/main/settings/admin", data={"admin.users": "nobody = 'king'"})
        assert 'id="f-admin-users-error"' in response.text
        response = pages.post("/servers/main/settings/admin", data={"admin.users": "nobody"})
        assert "NAME = VALUE" in response.text
        response = pages.post("/servers/main/addins", data={"enable": ["verification", "nothing"]})
        assert response.status_code == 422
        assert (servers / "main" / "server.toml").read_text() == before
        assert pages.get("/servers/main/settings/nothing").status_code == 404

    def test_a_table_comes_back_from_its_field_as_it_was(self):
        table = {"plain": "x", "with space": 'say "hi" to C:\\new', "several": ['a"b', "c\nd"], "count": 3, "on": True}
        schema = {"properties": {"peers": {"type": "object"}}}
        [field] = schema_fields.fields_of(schema, "addin.x", {"peers": table})
        assert schema_fields.values_of(schema, [field], Form([(field.name, field.value)])) == {"addin.x.peers": table}
        assert not field.error

    def test_an_add_in_has_its_settings(self, pages, server, servers):
        path = "/servers/main/settings/addin.webhook"
        assert "Url" in pages.get(path).text
        response = pages.post(path, data={"addin.webhook.url": "nonsense"})
        assert response.status_code == 422
        assert 'id="f-addin-webhook-url-error"' in response.text

    def test_a_page_of_settings_loads_no_module_that_is_no_add_in(self, console, tmp_path, monkeypatch):
        (tmp_path / "strange_module.py").write_text("class Thing: pass\n")
        monkeypatch.syspath_prepend(tmp_path)
        with consoles.browser(console, "operate") as pages:
            assert pages.get("/servers/main/settings/addin.strange_module:Thing").status_code == 404
            assert pages.get("/servers/main/settings/addin.webhook").status_code == 200
        assert "strange_module" not in sys.modules

    def test_a_server_with_broken_settings_is_shown_with_its_mistakes(self, pages, servers):
        folder = servers / "broken"
        folder.mkdir()
        (folder / "server.toml").write_text('[server]\nae_title = "BROKEN"\n[listen]\nport = "x"\n')
        assert '<span class="state broken">' in pages.get("/").text
        page = pages.get("/servers/broken")
        assert page.status_code == 200
        assert "port" in page.text
        assert pages.get("/servers/broken/clients").status_code == 422
        page = pages.post("/servers/broken/settings/listen", data={"listen.port": "0"}, follow_redirects=True)
        assert "Saved" in page.text
        assert ServerDirectory(folder).settings().listen.port == 0
        assert pages.get("/servers/broken/clients").status_code == 503


class TestAddIn:
    def test_a_server_has_the_console_at_its_web_port(self, servers, server):
        """Below its path, with all addresses of its pages there; the servers beside it are there, too."""
        addins = ["verification", "console"]
        with consoles.running(servers, "hosting", title="HOSTING", addins__enable=addins, web__port=0) as hosting:
            url = hosting.listening["web"].rstrip("/")
            with consoles.browser(f"{url}/console/") as client:
                page = client.get("").text
                assert 'href="/console/servers/hosting"' in page
                assert 'href="/console/servers/main"' in page
                assert client.get("servers/hosting/clients").status_code == 200
                style = re.search(r'href="(/console/static/console.css[^"]*)"', page)[1]
                assert httpx.get(f"{url}{style}").headers["content-type"].startswith("text/css")
                given = {"title": "CT1", "rights": "echo"}
                done = client.post("servers/hosting/new-ae-title", data=given)
                assert done.headers["location"] == "/console/servers/hosting/ae-titles"
                assert hosting.base.ae_titles.find("CT1") is not None

    def test_its_users_log_in(self, servers):
        folder = servers / "guarded"
        folder.mkdir()
        consoles.users_of(folder / "users.json")
        with consoles.running(servers, "guarded", title="GUARDED", addins__enable=["console"], web__port=0) as server:
            url = server.listening["web"].rstrip("/")
            with httpx.Client(base_url=url, headers={"Accept": "text/html"}) as client:
                assert client.get("/console/").headers["location"] == "/console/login?next=/console/"
                login = client.get("/console/login").text
                token = re.search(r'name="token" value="([^"]+)"', login)[1]
                form = {"token": token, "next": "/console/", "name": "read", "password": consoles.PASSWORD}
                assert client.post("/console/login", data=form).status_code == 303
                assert "read (read)" in client.get("/console/").text
                assert client.post("/console/servers/guarded/pause", headers=consoles.OURS).status_code == 403


class TestCommand:
    @pytest.mark.deadline(240)
    def test_it_serves_until_it_is_told_to_stop(self, servers, server):
        command = [sys.executable, "-m", "dicomnet", "console", "run", "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            said = process.stdout.readline()
            assert said.startswith("console on http://127.0.0.1:")
            assert "main" in httpx.get(said.split()[-1]).text
            process.send_signal(signal.SIGTERM)
            assert process.wait(90) == 0
        finally:
            programs.end(process)

    def test_it_does_not_listen_beyond_this_machine_without_a_login(self, tmp_path, capsys):
        assert run(["console", "run", "--listen", "0.0.0.0:0", "--users", str(tmp_path / "users.json")]) == Exit.USAGE
        assert "do not listen on 0.0.0.0 without a login" in capsys.readouterr().err

    def test_users_are_added_listed_and_removed(self, tmp_path, capsys, monkeypatch):
        file = ["--users", str(tmp_path / "users.json")]
        monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\n"))
        assert run(["console", "user", "add", "anna", "--role", "operate", *file]) == 0
        assert run(["console", "user", "list", *file]) == 0
        assert "anna  operate" in capsys.readouterr().out
        assert run(["console", "user", "remove", "anna", *file]) == 0
        assert not list(Users(tmp_path / "users.json"))
