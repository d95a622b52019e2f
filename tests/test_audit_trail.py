"""What is in the audit trail (PS3.15 Annex A.5): who logged in to the web, and out."""

from __future__ import annotations

import re
from functools import partial

import consoles
import httpx
import pytest
from argon2 import PasswordHasher
from servers import recorded

from dicomnet.web import login
from dicomnet.web.login import FAILURES, MOST_NAME

LOGIN, LOGOUT = "110122", "110123"
TOKEN = re.compile(r'name="token" value="([^"]+)"')


@pytest.fixture(scope="module", autouse=True)
def usual():
    """A hash is to take long; not in every test."""
    quick = partial(PasswordHasher, time_cost=1, memory_cost=64, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dicomnet.web.users.PasswordHasher", quick)
        yield


class TestLogins:
    @pytest.fixture
    def console(self, tmp_path, monkeypatch):
        """The address of a console that is an add-in, and the audit trail of its server."""
        monkeypatch.setattr(login, "FAILURE_SECONDS", 3600.0)
        folder = tmp_path / "main"
        folder.mkdir()
        consoles.users_of(folder / "users.json")
        with (
            consoles.place(tmp_path),
            consoles.running(tmp_path, addins__enable=["console"], web__port=0) as server,
        ):
            yield f"{server.web.url}console", folder / "logs" / "audit.log"

    @staticmethod
    def told(trail, *codes):
        """Of each message its outcome, the user, the address, and what is said of the outcome."""
        found = []
        for message in recorded(trail, *codes):
            event, user = message.find("EventIdentification"), message.findall("ActiveParticipant")[1]
            assert user.get("UserIsRequestor") == "true"
            found.append((event.get("EventOutcomeIndicator"), user.get("UserID"), user.get("NetworkAccessPointID"),
                          event.findtext("EventOutcomeDescription")))  # fmt: skip
        return found

    @staticmethod
    def log_in(client, url, name, password=consoles.PASSWORD):
        token = TOKEN.search(client.get(f"{url}/login").text)[1]
        return client.post(f"{url}/login", data={"token": token, "name": name, "password": password})

    def test_who_logs_in_by_the_form_and_out_again(self, console):
        url, trail = console
        with httpx.Client(timeout=30) as client:
            assert self.log_in(client, url, "operate", "wrong one").status_code == 403
            assert self.log_in(client, url, "operate").status_code == 303
            token = TOKEN.search(client.get(f"{url}/logout").text)[1]
            assert client.post(f"{url}/logout", data={"token": token}).status_code == 303
            token = TOKEN.search(client.get(f"{url}/logout").text)[1]
            assert client.post(f"{url}/logout", data={"token": token}).status_code == 303  # nobody is logged in
        failed = ("4", "operate", "127.0.0.1", "the login failed")
        assert self.told(trail, LOGIN) == [failed, ("0", "operate", "127.0.0.1", None)]
        assert self.told(trail, LOGOUT) == [("0", "operate", "127.0.0.1", None)]
        assert consoles.PASSWORD not in trail.read_text()
        assert "wrong one" not in trail.read_text()

    def test_http_basic_that_is_remembered_is_no_login(self, console):
        url, trail = console
        with httpx.Client(auth=("read", consoles.PASSWORD), timeout=30) as client:
            assert [client.get(f"{url}/").status_code for _ in range(3)] == [200] * 3
        assert self.told(trail, LOGIN) == [("0", "read", "127.0.0.1", None)]

    def test_attempts_fill_no_disk(self, console):
        url, trail = console
        name = "x" * (MOST_NAME + 10)
        with httpx.Client(timeout=30) as client:
            statuses = [client.get(f"{url}/", auth=(name, f"wrong {one}")).status_code for one in range(FAILURES + 9)]
        assert statuses == [401] * FAILURES + [429] * 9
        failed, refused = ("4", name[:MOST_NAME], "127.0.0.1"), "too many logins failed"
        assert self.told(trail, LOGIN) == [(*failed, "the login failed")] * FAILURES + [(*failed, refused)]
