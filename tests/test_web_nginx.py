"""Behind nginx, at a path of its own, with TLS there and a login here: what addresses say, and that all of it works."""

from __future__ import annotations

import json
import re
import ssl

import archives
import httpx
import pytest
from proxied import PASSWORD, USER, proxied
from web_archives import element
from websockets.sync.client import connect

from dicomnet.client import WebClient, WebPeer
from dicomnet.net.tls import TLS


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address that a browser uses, and the authority of its certificate."""
    with proxied(tmp_path_factory.mktemp("nginx")) as (_, url, authority):
        yield url, authority


@pytest.fixture
def browser(served):
    url, authority = served
    context = ssl.create_default_context(cafile=str(authority))
    transport = httpx.HTTPTransport(verify=context, retries=6)
    with httpx.Client(base_url=url, transport=transport, timeout=30) as client:
        yield client


def log_in(browser: httpx.Client) -> httpx.Response:
    token = re.search(r'name="token" value="([^"]+)"', browser.get("/login").text)[1]
    return browser.post("/login", data={"token": token, "name": USER, "password": PASSWORD, "next": "/pacs/viewer/"})


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


def test_addresses_are_those_that_the_client_sees(served, tmp_path):
    url, authority = served
    path = tmp_path / "a.dcm"
    path.write_bytes(archives.part10(1, size=3 << 20))
    peer = WebPeer(f"{url}/dicomweb", (USER, PASSWORD), TLS(ca=authority))
    with WebClient(peer) as client:
        assert all(one.ok for one in client.store(path))
        (found,) = client.search("IMAGE")
        assert found["00081190"]["Value"][0] == f"{url}/dicomweb/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1"
        (got,) = client.retrieve("1.2.1")
        assert got.endswith(path.read_bytes()[-3_000_000:])


def test_work_items_are_told_through_it(served, browser):
    log_in(browser)
    url, authority = served
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
    assert browser.get("/metrics", auth=(USER, PASSWORD)).status_code == 200
