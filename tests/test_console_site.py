"""A site made by a form of the console: as `dicomnet site init` makes it, or told at the field why not."""

from __future__ import annotations

import html
import os
import re
import shlex
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import consoles
import pytest
from argon2 import PasswordHasher
from test_site import tree

from dicomnet.cli import app
from dicomnet.cli.site_init import certify
from dicomnet.site.console import routes
from dicomnet.site.plan import FIRST_PORT, USUAL_TITLES, Site
from dicomnet.web.users import ROLES

PAGES = partial(routes, certify=certify)


@pytest.fixture(scope="module")
def place():
    with TemporaryDirectory(prefix="site-") as folder, consoles.place(Path(folder, "servers")):
        yield Path(folder)


@pytest.fixture(scope="module")
def pages(place):
    with consoles.serving(site_pages=PAGES) as url, consoles.browser(url) as client:
        yield client


@pytest.fixture
def folder():
    """A folder with a short path: sockets are in it."""
    with TemporaryDirectory(prefix="site-") as path:
        yield Path(path)


def typed(directory: Path, **changed: str) -> dict[str, str]:
    """A form that is filled in as usual, but for its ports."""
    return {"directory": str(directory), "host": "127.0.0.1", "port": "0", **USUAL_TITLES, **changed}


def told(text: str) -> dict[str, str]:
    """What is said at the fields of a page, by field."""
    found = re.findall(r'<p class="wrong" id="f-(\w+)-error">(.*?)</p>', text)
    assert text.count('aria-invalid="true"') == len(found)
    return {name: html.unescape(said) for name, said in found}


def refused(pages, form: dict[str, str]) -> dict[str, str]:
    """What a form is refused for; all that was typed is still there."""
    response = pages.post("/new-site", data=form)
    assert response.status_code == 422
    for name, value in form.items():
        if name != "deidentified":
            assert f'name="{name}" value="{html.escape(value)}"'.replace("&#x27;", "&#39;") in response.text
    assert ("checked" in response.text) == ("deidentified" in form)
    return told(response.text)


def test_the_form_is_filled_in_as_usual(pages):
    assert 'href="/new-site"' in pages.get("/").text
    text = pages.get("/new-site").text
    for name, value in {"host": "127.0.0.1", "port": str(FIRST_PORT), **USUAL_TITLES}.items():
        assert f'name="{name}" value="{value}"' in text
    assert f'name="directory" value="{Path.home()}/hospital"' in text
    assert "checked" not in text


def test_a_site_is_made_shown_and_listed_and_made_once(pages, folder):
    target = folder / "hospital"
    form = typed(target, archive="PACS", deidentified="on")
    done = pages.post("/new-site", data=form)
    assert (done.status_code, done.headers["location"]) == (303, f"/site?directory={target}")
    site = Site.load(target)
    assert (site.nodes["archive"].title, site.client, site.deidentified) == ("PACS", "CLIENT", True)
    page = pages.get(done.headers["location"]).text
    assert f"{target} is made." in page
    assert f"dicomnet site up {target}</pre>" in page
    assert str(site.nodes["router"].tls_port) in page
    assert page.count('<span class="state stopped">') == 3
    assert 'href="/servers/archive"' in page
    assert "the workstation of the site" in pages.get("/").text
    before = tree(target)
    again = pages.post("/new-site", data=form, follow_redirects=True)
    assert "is this site already; nothing was changed" in again.text
    assert tree(target) == before


def test_a_site_as_the_command_makes_it_is_known(pages, folder):
    """By the same options, and by those that leave what it has as it is."""
    target = folder / "hospital"
    assert app.run(["site", "init", str(target), "--port", "0", "--yes", "-q"]) == 0
    before = tree(target)
    port = Site.load(target).nodes["archive"].port
    for same in (typed(target), typed(target, port=str(port))):
        assert "is this site already" in pages.post("/new-site", data=same, follow_redirects=True).text
    assert tree(target) == before
    assert told(pages.post("/new-site", data=typed(target, port=str(port + 1))).text).keys() == {"directory"}
    said = refused(pages, typed(target, router="GATE"))
    assert said == {"directory": said["directory"]}
    assert f"{target} is another site already: the router is ROUTER@" in said["directory"]


def test_two_who_make_one_site_at_once_make_one(pages, folder):
    target = folder / "hospital"
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(pages.post, "/new-site", data=typed(target)) for _ in range(2)]
    done = [one.result() for one in asked]
    assert 303 in [one.status_code for one in done]
    assert all(told(one.text).keys() == {"directory"} for one in done if one.status_code != 303)
    assert [one.name for one in folder.iterdir()] == ["hospital"]
    assert len(Site.load(target).nodes) == 3


def test_a_taken_port_is_told_with_its_owner(pages, folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(pages, typed(folder / "site", port=str(port - 101), deidentified="on"))
    name = Path("/proc/self/comm").read_text().strip()
    owner = f"process {os.getpid()} ({name})"
    assert f"port {port} of the workstation over TLS is taken: {owner} listens there" in said["port"]
    assert said.keys() == {"port"}
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "field", "said"),
    [
        ({"archive": "A" * 17}, "archive", "16"),
        ({"archive": ""}, "archive", "the AE title of the archive"),
        ({"modality": "MY CT"}, "modality", "has a space"),
        ({"port": "many"}, "port", "expected a number from 0 to 65535"),
        ({"port": "65536"}, "port", "expected a number from 0 to 65535"),
        ({"port": "65400"}, "port", "begin at 65333 at most"),
        ({"host": "a b"}, "host", "the address of the archive"),
        ({"host": "192.0.2.1"}, "host", "no address of this machine"),
        ({"host": "192.0.2.1", "port": "11112"}, "host", "no address of this machine"),
        ({"host": "a" * 70}, "host", "no address of this machine"),
        ({"directory": "hospital"}, "directory", "expected a whole path"),
        ({"directory": ""}, "directory", "expected a whole path"),
        ({"directory": "/proc/none/site"}, "directory", "cannot be made"),
        ({"directory": "/" + "a" * 120}, "directory", "has too long a path"),
        ({"directory": "/etc"}, "directory", "is there already, and no site. Name a new or empty folder."),
        ({"directory": "/etc/passwd"}, "directory", "is there already, and no site"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_at_its_field(pages, folder, changed, field, said):
    found = refused(pages, {**typed(folder / "site"), **changed})
    assert found.keys() == {field}
    assert said in found[field]
    assert list(folder.iterdir()) == []


def test_a_name_that_means_something_to_pages_and_shells_is_a_name(pages, folder):
    target = folder / "<b>'\"& #%2f"
    done = pages.post("/new-site", data=typed(target), follow_redirects=True)
    assert "<b>" not in done.text
    assert (
        f"dicomnet site up {html.escape(shlex.quote(str(target)))}".replace("&#x27;", "&#39;").replace(
            "&quot;", "&#34;"
        )
        in done.text
    )
    assert Site.load(target).nodes


def test_all_that_is_wrong_is_told_at_once(pages, folder):
    form = typed(folder / "site", archive="A" * 17, router="A B", host="192.0.2.1", port="-1")
    assert refused(pages, form).keys() == {"archive", "router", "port"}  # an address is tried with a port
    assert refused(pages, form | {"port": "0"}).keys() == {"archive", "router", "host"}


def test_a_title_of_two_is_told_at_both(pages, folder):
    found = refused(pages, typed(folder / "site", client="archive"))
    assert found.keys() == {"archive", "client"}
    assert "is that of archive and client" in found["client"]


def test_a_folder_without_a_site_has_no_page(pages, folder):
    for directory in (str(folder), "", "servers"):
        assert pages.get("/site", params={"directory": directory}).status_code == 422
        assert pages.post("/site/up", data={"directory": directory}).status_code == 422


def test_a_site_whose_port_is_taken_by_now_is_not_started(pages, folder):
    target = folder / "site"
    assert pages.post("/new-site", data=typed(target)).status_code == 303
    node = Site.load(target).nodes["router"]
    with socket.create_server((node.host, node.port)):
        response = pages.post("/site/up", data={"directory": str(target)})
    assert response.status_code == 409
    assert f"port {node.port} of the router is taken: process {os.getpid()} " in response.text
    assert response.text.count('<span class="state stopped">') == 3


def test_who_administers_makes_sites(place, folder, monkeypatch):
    quick = partial(PasswordHasher, time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr("dicomnet.web.users.PasswordHasher", quick)
    users = consoles.users_of(place / "users.json")
    with consoles.serving(users, site_pages=PAGES) as url:
        for role in ROLES:
            with consoles.browser(url, role) as client:
                status = 200 if role == "administer" else 403
                assert client.get("/new-site").status_code == status
                assert ('href="/new-site"' in client.get("/").text) == (role == "administer")
                status = 422 if role == "administer" else 403
                assert client.get("/site").status_code == status
                assert client.post("/site/up").status_code == status
                assert client.post("/new-site", data=typed(folder / "site", host="a b")).status_code == status
                other = {"Sec-Fetch-Site": "cross-site"}
                for path in ("/new-site", "/site/up"):
                    assert client.post(path, data=typed(folder / "site"), headers=other).status_code == 403
    assert list(folder.iterdir()) == []


def test_a_console_without_the_pages_has_no_link_to_them(place):
    with consoles.serving() as url, consoles.browser(url) as client:
        assert "New site" not in client.get("/").text
        assert client.get("/new-site").status_code == 404
