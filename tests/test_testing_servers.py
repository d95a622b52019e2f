"""What the tests of an add-in have: a server in their own process, and the fixtures `server` and `admin`."""

from __future__ import annotations

import pytest

import dicomnet as dn
from dicomnet.server import Table, hookimpl
from dicomnet.status import Status
from dicomnet.testing.servers import admin, serve, server  # noqa: F401 as in a conftest.py


class Hello:
    """An add-in as its author tests it."""

    class Settings(Table):
        """Its settings."""

        name: str = "WORLD"
        """Whom it greets."""

    @hookimpl
    def start(self, context):
        self.context = context

    @hookimpl
    def services(self, registry):
        registry.on_find("WORKLIST")(self.find)

    def find(self, request):
        yield {"PatientName": f"HELLO^{self.context.settings.name}"}


ADDINS = {"hello": Hello()}
SETTINGS = {"server": {"ae_title": "MINE"}, "addin": {"hello": {"name": "MOON"}}}


def greeted(running):
    with dn.client.Client(running.peer) as client:
        return [str(match.dataset.PatientName) for match in client.find(model="WORKLIST", PatientName="")]


def test_the_fixtures_serve_what_the_module_names(server, admin):  # noqa: F811
    assert server.peer.startswith("MINE@127.0.0.1:")
    assert greeted(server) == ["HELLO^MOON"]
    assert [one["name"] for one in admin.addins()["addins"]] == ["hello"]
    assert admin.health()["ok"]


def test_a_server_for_a_block(tmp_path):
    with serve({"hello": Hello()}, directory=tmp_path) as running:
        assert running.peer.startswith("SERVER@127.0.0.1:")
        assert greeted(running) == ["HELLO^WORLD"]
        peer = running.peer
    with pytest.raises(dn.ConnectionFailed), dn.client.Client(peer) as client:
        client.echo()


def test_without_an_add_in_it_answers_c_echo_alone():
    with serve() as running, dn.client.Client(running.peer) as client:
        assert client.echo() == Status.SUCCESS
        with pytest.raises(dn.DicomNetError):
            list(client.find(model="WORKLIST", PatientName=""))


def test_settings_come_before_what_is_usual():
    asked = {"listen": {"host": "127.0.0.1"}, "addins": {"enable": []}}
    with serve(settings=asked) as running, pytest.raises(dn.DicomNetError), dn.client.Client(running.peer) as client:
        client.echo()
    assert asked == {"listen": {"host": "127.0.0.1"}, "addins": {"enable": []}}  # the caller's are as they were
