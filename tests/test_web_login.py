"""Who comes in over HTTP: login by form and by HTTP Basic, roles, TLS, proxies, limits, and what is logged of it."""

from __future__ import annotations

import base64
import dataclasses
import io
import logging
import re
import ssl
import sys
from functools import partial
from pathlib import Path

import archives
import httpx
import pytest
from argon2 import PasswordHasher
from certificates import Authority
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dicomnet.archive.archive import Archive
from dicomnet.archive.web import serve_web
from dicomnet.cli.app import run
from dicomnet.cli.exits import Exit
from dicomnet.errors import InvalidArgument
from dicomnet.web import login
from dicomnet.web.limits import Buckets, RateLimit
from dicomnet.web.login import FAILURES, needed_right, needed_role
from dicomnet.web.metrics import service_of
from dicomnet.web.request_log import loggable
from dicomnet.web.settings import WebSettings
from dicomnet.web.users import RIGHTS, ROLES, Users

PASSWORD = "correct horse"
TOKEN = re.compile(r'name="token" value="([^"]+)"')


def served(directory: Path, **web: object) -> Archive:
    settings = archives.make(directory)
    web = {"listen": "127.0.0.1:0", "proxies": ("127.0.0.1",), **web}
    return Archive(directory, dataclasses.replace(settings, web=dataclasses.replace(settings.web, **web)))


@pytest.fixture(scope="module", autouse=True)
def usual():
    """A hash is to take long; not in every test."""
    quick = partial(PasswordHasher, time_cost=1, memory_cost=64, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dicomnet.web.users.PasswordHasher", quick)
        patch.setattr("dicomnet.cli.options.log_to_stderr", lambda verbosity: None)  # commands run in this process
        yield


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("login") / "archive"
    archives.make(directory)
    users = Users(directory / "users.json")
    for role in ROLES:
        users.put(role, PASSWORD, role)
    return directory


@pytest.fixture(scope="module")
def web(directory):
    archive = served(directory)
    with archive, serve_web(archive) as serving:
        yield serving.url.rstrip("/")


def trust(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.file))


def as_(name: str, **headers: str) -> dict:
    return {"auth": (name, PASSWORD), "headers": headers, "timeout": 30}


@pytest.fixture
def browser(web):
    with httpx.Client(base_url=web, timeout=30) as client:
        yield client


def log_in(client: httpx.Client, password: str = PASSWORD, **form: str) -> httpx.Response:
    page = client.get("/login", params={"next": form.pop("next", "/dicomweb/studies")})
    fields = {"token": TOKEN.search(page.text)[1], "name": "operate", "password": password}
    fields["next"] = re.search(r'name="next" value="([^"]*)"', page.text)[1]
    return client.post("/login", data=fields | form)


class TestBasic:
    def test_without_a_login_there_is_nothing(self, web):
        for path in ("/dicomweb/studies", "/metrics", "/viewer/", "/", "/nothing"):
            answer = httpx.get(web + path)
            assert (answer.status_code, answer.json()["status"]) == (401, 401)
            assert "Basic" in answer.headers["www-authenticate"]
        assert httpx.get(web + "/health").status_code == 200
        assert httpx.get(web + "/dicomweb/studies", auth=("read", "wrong")).status_code == 401
        assert httpx.get(web + "/dicomweb/studies", auth=("Doe^Jane", PASSWORD)).status_code == 401
        for junk in ("Basic !", "Basic", "Basic /w==", "Bearer x"):
            assert httpx.get(web + "/dicomweb/studies", headers={"authorization": junk}).status_code == 401

    def test_a_browsers_script_is_not_challenged(self, web):
        answer = httpx.get(web + "/dicomweb/studies", headers={"sec-fetch-mode": "cors"})
        assert answer.status_code == 401
        assert "www-authenticate" not in answer.headers

    @pytest.mark.parametrize(
        ("rights", "answers"),
        [
            (("store",), (403, 403, 415, 403)),
            (("search", "retrieve"), (204, 404, 403, 403)),
            (RIGHTS, (204, 404, 415, 404)),
        ],
    )
    def test_a_right_that_a_user_has_not_is_refused(self, web, directory, rights, answers):
        Users(directory / "users.json").put("held", PASSWORD, "administer", rights)
        study = f"{web}/dicomweb/studies"
        found = [
            httpx.get(study, **as_("held")), httpx.get(f"{study}/1.2", **as_("held")),
            httpx.post(study, **as_("held")), httpx.delete(f"{study}/1.2", **as_("held")),
        ]  # fmt: skip
        assert tuple(one.status_code for one in found) == answers
        refused = [one.json()["detail"] for one in found if one.status_code == 403]
        assert all("has not the right" in one for one in refused)

    def test_each_role_may_what_it_may(self, web):
        for role, (search, store, delete, metrics) in {
            "read": (204, 403, 403, 403), "operate": (204, 415, 403, 403), "administer": (204, 415, 404, 200),
        }.items():  # fmt: skip
            assert httpx.get(web + "/dicomweb/studies", **as_(role)).status_code == search
            assert httpx.post(web + "/dicomweb/studies", **as_(role)).status_code == store
            assert httpx.delete(web + "/dicomweb/studies/1.2.3", **as_(role)).status_code == delete
            assert httpx.get(web + "/metrics", **as_(role)).status_code == metrics
        told = httpx.post(web + "/dicomweb/studies", **as_(role := "read")).json()
        assert role in told["detail"]

    def test_metrics_count_requests_and_logins(self, web):
        httpx.get(web + "/dicomweb/studies", **as_("administer"))
        text = httpx.get(web + "/metrics", **as_("administer")).text
        assert re.search(r'dicomnet_web_requests_total{method="GET",service="search",status="204"} [1-9]', text)
        assert re.search(r'dicomnet_web_logins_total{outcome="done"} [1-9]', text)

    def test_a_new_password_counts_at_once(self, directory, web):
        users = Users(directory / "users.json")
        users.put("jane", PASSWORD, "read")
        assert httpx.get(web + "/dicomweb/studies", **as_("jane")).status_code == 204
        users.put("jane", "another one", "read")
        assert httpx.get(web + "/dicomweb/studies", **as_("jane")).status_code == 401
        users.remove("jane")
        assert httpx.get(web + "/dicomweb/studies", auth=("jane", "another one")).status_code == 401


class TestForm:
    def test_a_page_leads_to_the_form_and_back(self, browser):
        led = browser.get("/viewer/viewer?StudyInstanceUIDs=1.2.3", headers={"accept": "text/html"})
        assert (led.status_code, led.headers["location"]) == (303, "/login?next=/viewer/viewer")
        done = log_in(browser, next="/viewer/viewer")
        assert (done.status_code, done.headers["location"]) == (303, "/viewer/viewer")
        cookie = next(one for one in done.headers.get_list("set-cookie") if "session" in one)
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert browser.get("/dicomweb/studies").status_code == 204

    def test_a_wrong_password_is_told_without_saying_which(self, browser):
        for name, password in (("operate", "wrong"), ("nothing", "wrong")):
            answer = log_in(browser, password, name=name)
            assert answer.status_code == 403
            assert "do not belong together" in answer.text
        assert browser.get("/dicomweb/studies").status_code == 401

    @pytest.mark.parametrize("there", ["//evil.example", "https://evil.example", "/\\evil.example", "x", "", "/\n"])
    def test_a_login_leads_nowhere_else(self, browser, there):
        assert log_in(browser, next=there).headers["location"] == "/"

    def test_a_name_is_no_markup(self, browser):
        page = browser.get("/login", params={"next": '/"><script>'}).text
        assert "<script>" not in page

    def test_forms_of_others_are_refused(self, web, browser):
        token = TOKEN.search(browser.get("/login").text)[1]
        fields = {"token": token, "name": "operate", "password": PASSWORD}
        assert httpx.post(web + "/login", data=fields).status_code == 403  # without the cookie that goes with it
        assert browser.post("/login", data=fields | {"token": "x"}).status_code == 403
        assert browser.post("/login", data=fields, headers={"origin": "https://evil.example"}).status_code == 403
        assert browser.post("/login", data={"x": "y" * 20_000}).status_code == 413
        assert browser.post("/login", content=b"&".join([b"a=b"] * 100)).status_code == 403
        assert browser.post("/login", data=fields).status_code == 303

    def test_pages_of_other_sites_change_nothing(self, browser):
        log_in(browser)
        for headers in ({"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "http://evil"}):
            answer = browser.post("/dicomweb/studies", headers=headers)
            assert (answer.status_code, answer.json()["parameter"]) == (403, "Origin")
        for headers in ({"sec-fetch-site": "same-origin"}, {"origin": str(browser.base_url).rstrip("/")}, {}):
            assert browser.post("/dicomweb/studies", headers=headers).status_code == 415

    def test_a_browser_that_knows_a_password_is_no_program(self, web):
        for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "http://evil"}, {"origin": "null"}):
            answer = httpx.post(web + "/dicomweb/studies", **as_("operate", **headers))
            assert (answer.status_code, answer.json()["parameter"]) == (403, "Origin")
        for headers in ({"origin": web}, {"sec-fetch-site": "same-origin"}, {}):
            assert httpx.post(web + "/dicomweb/studies", **as_("operate", **headers)).status_code == 415
        assert httpx.get(web + "/dicomweb/studies", **as_("operate", origin="http://evil")).status_code == 204

    @pytest.mark.parametrize("origin", ["null", "http://[", "x", "", "://"])
    def test_an_origin_that_is_none_is_refused(self, browser, origin):
        log_in(browser)
        for headers in ({"origin": origin}, {"origin": origin, "x-forwarded-host": ""}):
            assert browser.post("/dicomweb/studies", headers=headers).status_code == 403

    def test_logout_ends_it(self, browser):
        log_in(browser)
        token = TOKEN.search(browser.get("/logout").text)[1]
        assert browser.post("/logout", data={}).status_code == 403
        assert browser.get("/dicomweb/studies").status_code == 204
        assert browser.post("/logout", data={"token": token}).status_code == 303
        assert browser.get("/dicomweb/studies").status_code == 401

    def test_a_session_is_none_if_it_is_changed_or_old(self, web, browser):
        log_in(browser)
        session = browser.cookies["dicomnet_session"]
        other = "A" if session[-9] != "A" else "B"
        for bad in (session[:-9] + other + session[-8:], "x" + session, "", "e30.x.y"):
            assert httpx.get(web + "/dicomweb/studies", cookies={"dicomnet_session": bad}).status_code == 401


class TestLimits:
    def test_passwords_cannot_be_tried_for_long(self, directory):
        archive = served(directory)
        with archive, serve_web(archive) as serving, httpx.Client(base_url=serving.url, timeout=30) as client:
            tried = [client.get("dicomweb/studies", auth=("read", f"wrong {one}")) for one in range(FAILURES + 1)]
            assert [one.status_code for one in tried] == [401] * FAILURES + [429]
            assert int(tried[-1].headers["retry-after"]) > 0
            assert client.get("dicomweb/studies", auth=("read", PASSWORD)).status_code == 429
            elsewhere = {"x-forwarded-for": "203.0.113.7"}
            right = client.get("dicomweb/studies", auth=("operate", PASSWORD), headers=elsewhere)
            assert right.status_code == 204

    def test_a_form_says_how_long_to_wait(self, directory):
        archive = served(directory)
        with archive, serve_web(archive) as serving, httpx.Client(base_url=serving.url, timeout=30) as client:
            tried = [log_in(client, "wrong", name="read") for _ in range(FAILURES + 1)]
            assert [one.status_code for one in tried] == [403] * FAILURES + [429]
            assert int(tried[-1].headers["retry-after"]) > 0
            assert "<form" in tried[-1].text

    def test_logins_that_are_remembered_have_a_bound(self, directory, monkeypatch):
        monkeypatch.setattr(login, "MOST_REMEMBERED", 2)
        archive = served(directory)
        with archive, serve_web(archive) as serving:
            for _ in range(2):
                for role in ROLES:
                    answer = httpx.get(f"{serving.url}dicomweb/studies", **as_(role))
                    assert answer.status_code == 204

    def test_an_address_may_ask_so_often(self, directory):
        archive = served(directory, requests_per_second=0.001, burst=2)
        with archive, serve_web(archive) as serving, httpx.Client(base_url=serving.url, timeout=30) as client:
            far = {"x-forwarded-for": "198.51.100.1, 203.0.113.8"}
            answers = [client.get("health", headers=far) for _ in range(3)]
            assert [one.status_code for one in answers] == [200, 200, 429]
            assert answers[-1].headers["content-type"] == "application/problem+json"
            assert client.get("health", headers={"x-forwarded-for": "203.0.113.9"}).status_code == 200
            lines = [("x-forwarded-for", "203.0.113.10"), ("x-forwarded-for", "203.0.113.8")]  # the proxy's is the last
            assert client.get("health", headers=lines).status_code == 429
            assert all(client.get("health").status_code == 200 for _ in range(4))

    def test_tokens_come_back(self):
        now = 0.0
        buckets = Buckets(2, 3, lambda: now)
        for _ in range(3):
            assert buckets.wait("a") == 0
            buckets.take("a")
        assert buckets.wait("a") == pytest.approx(0.5)
        assert buckets.wait("b") == 0
        now = 0.5
        assert buckets.wait("a") == 0
        now = 1e6
        buckets.take("a")
        buckets.give("a")
        assert buckets.wait("a") == 0

    def test_callers_are_forgotten(self, monkeypatch):
        monkeypatch.setattr("dicomnet.web.limits.MOST_CALLERS", 10)
        buckets = Buckets(1, 5)
        for one in range(100):
            buckets.take(one)
        assert len(buckets._levels) == 10
        assert RateLimit(None, 1, 1)


class TestChannels:
    def test_one_without_a_login_is_closed(self, web):
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws{web.removeprefix('http')}/dicomweb/subscribers/ONE", open_timeout=30)
        assert refused.value.response.status_code == 403

    def test_one_with_a_login_is_open(self, web):
        basic = {"authorization": "Basic " + base64.b64encode(f"operate:{PASSWORD}".encode()).decode()}
        with connect(f"ws{web.removeprefix('http')}/dicomweb/subscribers/ONE", additional_headers=basic) as channel:
            assert channel.ping().wait(30)


class TestWhere:
    @pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:8042", "pacs.example:80"])
    def test_without_a_login_this_machine_alone(self, tmp_path, listen):
        with pytest.raises(InvalidArgument, match="without a login"):
            WebSettings(listen=listen).check_open(login=False)
        assert WebSettings(listen=listen).check_open(login=True)
        with pytest.raises(InvalidArgument, match="without a login"):
            WebSettings(listen=listen, cert="c").check_open(login=False)
        assert WebSettings(listen=listen, cert="c", ca="ca").check_open(login=False)

    def test_the_program_says_so_in_one_line(self, tmp_path, capsys):
        assert run(["archive", "run", str(tmp_path / "a"), "--port=0", "--web=0.0.0.0:0"]) == Exit.USAGE
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert "dicomnet web user add" in told

    def test_settings_that_make_no_sense(self, tmp_path):
        for values in ({"proxies": ["x"]}, {"cret": "x"}, {"listen": "x"}, {"key": "k"}, {"burst": 0}):
            with pytest.raises(InvalidArgument):
                WebSettings.read(values, tmp_path)
        assert WebSettings.read({"cert": "web.pem"}, tmp_path).cert == str(tmp_path / "web.pem")

    def test_over_tls(self, directory, tmp_path):
        authority = Authority(tmp_path)
        issued = authority.issue("localhost")
        archive = served(directory, cert=str(issued.cert), key=str(issued.key))
        with archive, serve_web(archive) as serving:
            assert serving.url.startswith("https://127.0.0.1:")
            url = serving.url.replace("127.0.0.1", "localhost")
            with httpx.Client(base_url=url, verify=trust(authority), timeout=30) as client:
                assert client.get("/dicomweb/studies", auth=("read", PASSWORD)).status_code == 204
                done = log_in(client)
                assert "Secure" in next(one for one in done.headers.get_list("set-cookie") if "session" in one)
            with pytest.raises(httpx.TransportError):
                httpx.get(serving.url.replace("https", "http"))

    def test_with_client_certificates(self, tmp_path):
        authority = Authority(tmp_path)
        server, client = authority.issue("localhost"), authority.issue("client")
        given = {"cert": str(server.cert), "key": str(server.key), "ca": str(authority.file)}
        archive = served(tmp_path / "archive", **given)
        with archive, serve_web(archive) as serving:
            url = serving.url.replace("127.0.0.1", "localhost")
            with pytest.raises(httpx.TransportError):
                httpx.get(url, verify=trust(authority))
            context = trust(authority)
            context.load_cert_chain(client.cert, client.key)
            assert httpx.get(url + "dicomweb/studies", verify=context).status_code == 204


def test_passwords_are_hashes_in_a_private_file(tmp_path):
    users = Users(tmp_path / "users.json")
    users.put("jane", PASSWORD, "read")
    text = users.path.read_text()
    assert PASSWORD not in text
    assert "$argon2id$" in text
    assert users.path.stat().st_mode & 0o777 == 0o600
    assert Users(users.path).verify("jane", PASSWORD).role == "read"
    assert Users(users.path).key == users.key
    bad = (("", PASSWORD, "read"), ("a b", PASSWORD, "read"), ("a", "short", "read"), ("a", PASSWORD, "x"))
    for name, password, role in bad:
        with pytest.raises(InvalidArgument):
            users.put(name, password, role)
    with pytest.raises(InvalidArgument):
        users.remove("john")
    users.path.write_text("{}")
    with pytest.raises(InvalidArgument, match="no file of users"):
        Users(users.path)


def test_users_by_the_program(tmp_path, monkeypatch, capsys):
    archives.make(tmp_path / "a")

    def told(*words: str, password: str = "") -> str:
        monkeypatch.setattr(sys, "stdin", io.StringIO(password))
        code = run(["web", "user", words[0], str(tmp_path / "a"), *words[1:]])
        said = capsys.readouterr()
        return said.err if code else said.out

    assert "may log in" in told("add", "jane", "--role=operate", password=f"{PASSWORD}\n")
    assert told("list") == "jane  operate\n"
    assert "8 to" in told("add", "john", password="short\n")
    assert "no user 'john'" in told("remove", "john")
    assert "may not log in" in told("remove", "jane")
    assert told("list") == ""


def test_nothing_of_a_patient_is_logged(web, caplog):
    with caplog.at_level(logging.INFO, "dicomnet.web"):
        httpx.get(f"{web}/dicomweb/studies?PatientName=Doe^Jane", **as_("read"))
        httpx.get(f"{web}/dicomweb/patients/Doe^Jane/studies/1.2.3", **as_("read"))
        httpx.get(f"{web}/dicomweb/studies/1.2.3/series%0A%1B", **as_("read"))
    assert "/dicomweb/*/*/studies/1.2.3 404" in caplog.text
    assert "Doe" not in caplog.text


def test_names_of_paths():
    assert loggable("/viewer/viewer") == "/viewer/…"
    assert loggable("/dicomweb/studies/1.2/series/3/instances/4/bulkdata/00420011") == (
        "/dicomweb/studies/1.2/series/3/instances/4/bulkdata/00420011"
    )
    assert loggable("/dicomweb/studies/DOE\x1b[0m") == "/dicomweb/studies/*"
    assert [service_of("GET", f"/dicomweb/studies/1{path}") for path in ("", "/series", "/metadata", "/rendered")] == [
        "retrieve", "search", "metadata", "rendered",
    ]  # fmt: skip
    assert service_of("POST", "/dicomweb/studies") == "store"
    rights = [
        needed_right(method, f"/dicomweb{path}")
        for method, path in (
            ("GET", ""), ("GET", "/"), ("GET", "/studies"), ("GET", "/studies/1/series"),
            ("GET", "/studies/1/series/2"),
            ("GET", "/studies/1/metadata"), ("POST", "/studies/1"), ("DELETE", "/studies/1"), ("POST", "/workitems"),
            ("GET", "/modality-scheduled-procedure-steps"), ("DELETE", "/workitems/1/subscribers/A"),
        )
    ]  # fmt: skip
    assert rights == ["", "", "search", "search", *["retrieve"] * 2, "store", "delete", *["work"] * 3]
    assert (needed_right("GET", "/wado"), needed_right("GET", "/viewer/")) == ("retrieve", "")
    assert needed_role("DELETE", "/dicomweb/studies/1") == needed_role("DELETE", "/anything") == "administer"
