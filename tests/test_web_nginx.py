"""Behind nginx, at a path of its own, with TLS there and a login here: what addresses say, and that all of it works."""

from __future__ import annotations

import dataclasses
import json
import re
import ssl
import subprocess
from pathlib import Path

import archives
import httpx
import peers
import pytest
from argon2 import PasswordHasher
from certificates import Authority
from web_archives import element
from websockets.sync.client import connect

from dicomnet.archive.archive import Archive
from dicomnet.archive.web import serve_web
from dicomnet.client import WebClient, WebPeer
from dicomnet.net.tls import TLS
from dicomnet.web.users import Users

PASSWORD = "correct horse"
# As docs/how-to/web.md has it, with what a test needs around it.
CONFIG = """
daemon off; pid {directory}/pid; error_log {directory}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    server {{
        listen 127.0.0.1:{port} ssl; server_name localhost;
        ssl_certificate {cert}; ssl_certificate_key {key};
        {location}
    }}
}}
"""


def location(upstream: int) -> str:
    """What the page on the subject says, for this port."""
    page = (Path(__file__).parent.parent / "docs" / "how-to" / "web.md").read_text(encoding="utf-8")
    return re.search(r"```nginx\n(.*?)```", page, re.DOTALL)[1].replace("8042", str(upstream))


@pytest.fixture(scope="module")
def proxied(tmp_path_factory):
    """The address that a browser uses, and the authority of its certificate."""
    nginx = peers.peer_program("nginx")
    directory = tmp_path_factory.mktemp("nginx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dicomnet.web.users.PasswordHasher", lambda: PasswordHasher(1, 64, 1))
        settings = archives.make(directory / "archive")
        Users(directory / "archive" / "users.json").put("jane", PASSWORD, "administer")
        web = dataclasses.replace(settings.web, listen="127.0.0.1:0", proxies=("127.0.0.1",))
        archive = Archive(directory / "archive", dataclasses.replace(settings, web=web))
        authority, port = Authority(directory), peers.free_port()
        issued = authority.issue("localhost")
        with archive, serve_web(archive) as serving:
            values = {"directory": directory, "port": port, "cert": issued.cert, "key": issued.key}
            path = directory / "nginx.conf"
            path.write_text(CONFIG.format(location=location(serving.address[1]), **values))
            with subprocess.Popen([nginx, "-c", str(path), "-e", str(directory / "error.log")]) as process:
                try:
                    yield f"https://localhost:{port}/pacs", authority.file
                finally:
                    process.terminate()


@pytest.fixture
def browser(proxied):
    url, authority = proxied
    context = ssl.create_default_context(cafile=str(authority))
    transport = httpx.HTTPTransport(verify=context, retries=6)
    with httpx.Client(base_url=url, transport=transport, timeout=30) as client:
        yield client


def log_in(browser: httpx.Client) -> httpx.Response:
    token = re.search(r'name="token" value="([^"]+)"', browser.get("/login").text)[1]
    return browser.post("/login", data={"token": token, "name": "jane", "password": PASSWORD, "next": "/pacs/viewer/"})


def test_the_login_keeps_to_its_path_and_to_tls(browser):
    led = browser.get("/viewer/viewer", headers={"accept": "text/html"})
    assert (led.status_code, led.headers["location"]) == (303, "/pacs/login?next=/pacs/viewer/viewer")
    page = browser.get("/login")
    assert 'action="/pacs/login"' in page.text
    done = log_in(browser)
    assert (done.status_code, done.headers["location"]) == (303, "/pacs/viewer/")
    cookie = next(one for one in done.headers.get_list("set-cookie") if "session" in one)
    assert "Path=/pacs" in cookie
    assert "Secure" in cookie
    assert browser.get("/dicomweb/studies").status_code == 204
    assert browser.get("/").headers["location"] == "/pacs/viewer/"


def test_pages_of_the_proxys_own_host_are_ours(browser):
    log_in(browser)
    host = str(browser.base_url.copy_with(path="/")).rstrip("/")
    assert browser.post("/dicomweb/studies", headers={"origin": host}).status_code == 415
    assert browser.post("/dicomweb/studies", headers={"origin": "https://evil.example"}).status_code == 403


def test_addresses_are_those_that_the_client_sees(proxied, tmp_path):
    url, authority = proxied
    path = tmp_path / "a.dcm"
    path.write_bytes(archives.part10(1, size=3 << 20))
    peer = WebPeer(f"{url}/dicomweb", ("jane", PASSWORD), TLS(ca=authority))
    with WebClient(peer) as client:
        assert all(one.ok for one in client.store(path))
        (found,) = client.search("IMAGE")
        assert found["00081190"]["Value"][0] == f"{url}/dicomweb/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1"
        (got,) = client.retrieve("1.2.1")
        assert got.endswith(path.read_bytes()[-3_000_000:])


def test_work_items_are_told_through_it(proxied, browser):
    log_in(browser)
    url, authority = proxied
    item = {"00741000": element("CS", "SCHEDULED"), "00741204": element("LO", "x"), "00741200": element("CS", "LOW"),
            "00404041": element("CS", "READY"), "00404005": element("DT", "2026")}  # fmt: skip
    made = browser.post("/dicomweb/workitems", json=item)
    assert made.headers["location"].startswith(f"{url}/dicomweb/workitems/")
    channel = browser.post(f"{made.headers['location']}/subscribers/WS1").headers["content-location"]
    assert channel == f"wss{url.removeprefix('https')}/dicomweb/subscribers/WS1"
    session = browser.cookies["dicomnet_session"]
    headers = {"Cookie": f"dicomnet_session={session}", "Origin": url.removesuffix("/pacs")}
    context = ssl.create_default_context(cafile=str(authority))
    with connect(channel, ssl=context, additional_headers=headers, open_timeout=30) as socket:
        browser.post(f"{made.headers['location']}/cancelrequest", json={})
        # What nobody performs is taken over before it is canceled (PS3.4 CC.2.2.3).
        states = [json.loads(socket.recv(timeout=30))["00741000"]["Value"] for _ in range(2)]
        assert states == [["IN PROGRESS"], ["CANCELED"]]


def test_a_caller_is_counted_by_its_own_address(browser):
    assert browser.get("/metrics", auth=("jane", PASSWORD)).status_code == 200
