"""What ends with an add-in or a server, and what an add-in that fails does not end."""

from __future__ import annotations

import asyncio
import textwrap
import threading

from servers import call, make_settings

from dicomnet import uids
from dicomnet.server import Server, hookimpl
from dicomnet.services.query_models import model_uid

WORKLIST = model_uid("WORKLIST", "find")
RAISING_LATER = """
from dicomnet.server import Table, hookimpl
class Raising:
    class Settings(Table):
        colour: str
    @hookimpl
    def health(self): raise RuntimeError
    @hookimpl
    def reload(self): raise RuntimeError
    @hookimpl
    def stop(self): raise RuntimeError
"""
LEAVING = """
from dicomnet.server import hookimpl
ended = []
@hookimpl
def services(registry):
    registry.on_find("WORKLIST")(lambda request: [])
@hookimpl
def stop():
    ended.append(True)
"""


def test_what_an_add_in_raises_ends_neither_the_server_nor_other_add_ins(tmp_path, caplog):
    (tmp_path / "addins").mkdir()
    (tmp_path / "addins/raising.py").write_text(textwrap.dedent(RAISING_LATER))
    tables = {"addins": {"enable": ["verification", "raising"]}}
    settings = make_settings(**tables, addin={"raising": {"colour": "red"}})
    with Server(settings, directory=tmp_path) as server:
        checks = {one.name: (one.ok, one.detail) for one in server.health()}
        assert checks["raising"] == (False, "its health check failed: RuntimeError")
        told = []
        server.events.listen(lambda event: told.append((event.type, dict(event.data))))
        server.reload(make_settings(**tables, addin={"raising": {"colour": "blue"}}))
        assert ("addin.failed", {"name": "raising", "hook": "reload"}) in told
        with call(server, uids.VERIFICATION) as association:
            assert association.echo().is_success
    assert "add-in raising failed in reload" in caplog.text
    assert "add-in raising failed in stop" in caplog.text


def test_an_add_in_that_waits_for_its_associations_to_end_is_ended_with_the_server(tmp_path):
    (tmp_path / "addins").mkdir()
    (tmp_path / "addins/leaving.py").write_text(LEAVING)
    enabled = make_settings(addins={"enable": ["verification", "leaving"]}, timeouts={"drain": 60})
    server = Server(enabled, directory=tmp_path)
    server.start()
    try:
        ended = server.addins.get("leaving").found.plugin.ended
        association = call(server, WORKLIST)
        server.reload(make_settings(addins={"enable": ["verification"]}, timeouts={"drain": 60}))
        assert [one.name for one in server.addins] == ["verification"]
        assert list(association.find(model="WORKLIST")) == []  # what it began with
        assert not ended
    finally:
        server.stop(drain=0)
    assert ended == [True]
    association.abort()


def test_what_an_add_in_runs_in_the_loop_is_cancelled_at_the_end(tmp_path):
    class Running:
        @hookimpl
        def start(self, context):
            self.begun, self.said = context.spawn(self.run()), threading.Event()
            self.done = context.spawn(self.sum(20, 22))

        async def run(self):
            try:
                await asyncio.Event().wait()
            finally:
                self.said.set()

        async def sum(self, one, other):
            return one + other

    addin = Running()
    with Server(make_settings(), directory=tmp_path, addins={"running": addin}):
        assert addin.done.result(30) == 42
    assert addin.said.wait(30)
    assert addin.begun.cancelled()
