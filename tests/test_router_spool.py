"""The spool of a router: what a start finds in it, what is forgotten, and what is damaged in it."""

from __future__ import annotations

import http.server
import os
import threading
from contextlib import contextmanager

import archives
import pytest
import routers
from routers import State, address, everything_to, made, states
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from dicomnet.errors import InvalidArgument
from dicomnet.repository.database import Database
from dicomnet.router import schema
from dicomnet.router.plan import PlanInvalid
from dicomnet.router.router import Router
from dicomnet.router.settings import FILE_NAME, RouterSettings
from dicomnet.router.spool import Spool
from dicomnet.router.versions import read_file
from dicomnet.testing import Provider

AWAY = address("A@127.0.0.1:1")
TO_A = everything_to(A=AWAY)


@contextmanager
def spooling(directory, rules=TO_A, clock=lambda: 1_700_000_000.0, **settings):
    with Spool(directory, made(directory, rules, **settings), serves=True, clock=clock) as spool:
        spool.plans.refresh()
        yield spool


class TestStart:
    def test_what_was_stored_and_not_acknowledged_is_deleted_and_the_rest_goes_on(self, tmp_path, caplog):
        caplog.set_level("INFO", "dicomnet")
        with spooling(tmp_path) as spool:
            spool.store([archives.an_incoming(1)])
            [item] = spool.queue.lease("A")
            blob = archives.an_incoming(2).blob
            blob.hash()
            spool.blobs.put([blob])
            spool.blobs._log._segment.abandon()  # and the process is killed: there is no row
        with spooling(tmp_path) as again:
            assert [one.sop_instance_uid for one in again.blobs.scan()] == ["1.2.1.1.1"]
            assert states(again) == {"A": {"waiting": 1}}
            assert again.queue.lease("A")[0].ref == item.ref
        assert "1 instances that were not acknowledged are deleted, 1 deliveries begin again" in caplog.text

    def test_tables_of_a_later_version_are_left_alone(self, tmp_path):
        with spooling(tmp_path) as spool, spool.database.write() as connection:
            connection.execute(text(f"UPDATE router_version SET version = {schema.VERSION + 1}"))
        with pytest.raises(InvalidArgument, match="this dicomnet knows"), Spool(tmp_path):
            pass
        with Database(tmp_path / "router.db") as database, database.read() as connection:
            assert connection.execute(text("SELECT version FROM router_version")).scalar() == schema.VERSION + 1

    def test_rows_that_cannot_be_written_leave_no_bytes(self, tmp_path, monkeypatch):
        def away(*_, **__):
            raise OperationalError("", {}, Exception("disk I/O error"))

        with spooling(tmp_path) as spool:
            with monkeypatch.context() as patch:
                patch.setattr(spool.database, "transaction", away)
                with pytest.raises(OperationalError):
                    spool.store([archives.an_incoming(1)])
            assert list(spool.blobs.scan()) == []
            spool.store([archives.an_incoming(1)])
            assert states(spool) == {"A": {"waiting": 1}}


class TestForgetting:
    def test_lines_go_when_they_are_older_than_the_ledger_is_kept(self, tmp_path):
        now = [1_700_000_000.0]
        with spooling(tmp_path, keep=10, ledger=100, clock=lambda: now[0]) as spool:
            spool.store([archives.an_incoming(1)])
            spool.queue.finish([(one, State.SENT, "") for one in spool.queue.lease("A")])
            spool.store([archives.an_incoming(2)])
            now[0] += 20
            assert (spool.tidy(), spool.forget()) == (1, 0)  # its line stays; the other waits
            now[0] += 81
            assert spool.forget() == 1
            assert states(spool) == {"A": {"waiting": 1}}
            assert spool.forget() == 0

    def test_deliveries_by_their_states_and_none(self, tmp_path):
        with spooling(tmp_path) as spool:
            spool.store([archives.an_incoming(1), archives.an_incoming(2)])
            first, second = spool.queue.lease("A")
            spool.queue.give_back([second])
            assert spool.queue.find([]) == []
            assert [one.id for one in spool.queue.items(states=[State.LEASED])] == [first.id]

    def test_one_that_is_too_early_waits_and_that_was_no_try(self, tmp_path):
        now = [1_700_000_000.0]
        with spooling(tmp_path, clock=lambda: now[0]) as spool:
            spool.store([archives.an_incoming(1)])
            [item] = spool.queue.lease("A")
            spool.queue.postpone(item, now[0] + 60)
            assert spool.queue.lease("A") == []
            [waiting] = spool.queue.items()
            assert (waiting.state, waiting.attempts, spool.queue.next_due("A")) == (State.WAITING, 0, now[0] + 60)
            now[0] += 61
            assert [one.attempts for one in spool.queue.lease("A")] == [1]


class Taking(http.server.BaseHTTPRequestHandler):
    """Takes everything."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.send_header("ETag", '"x"')
        self.end_headers()

    do_PUT = do_POST  # noqa: N815 its name

    def log_message(self, *_):
        pass


@pytest.fixture
def web():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


class TestDamage:
    @pytest.mark.parametrize("kind", ["dimse", "folder", "stow", "s3"])
    def test_what_cannot_be_read_any_more_is_parked_with_its_reason(self, tmp_path, monkeypatch, web, kind):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x")
        with Provider("A") as provider:
            rules = everything_to(A={
                "dimse": address(provider.peer), "folder": f'kind = "folder"\npath = "{tmp_path}/out"',
                "stow": f'kind = "stow"\nurl = "{web}"',
                "s3": f'kind = "s3"\nurl = "s3://bucket"\nendpoint = "{web}"\nplain_http = true',
            }[kind])  # fmt: skip
            directory = tmp_path / "router"
            with spooling(directory, rules) as spool:
                spool.store([archives.an_incoming(1)])
                [item] = spool.queue.items()
                path = spool.blobs.root / item.ref.key
            with path.open("r+b") as file:
                file.seek(item.ref.offset)
                file.write(b"\xff" * item.ref.length)
            with Router(directory, RouterSettings.load(directory), pace=routers.QUICK) as router:
                routers.wait_for(router, lambda: states(router.spool) == {"A": {"parked": 1}})
                [parked] = router.spool.queue.items()
            assert parked.why
            assert parked.attempts == 1  # it is not tried again
            assert provider.received == []

    def test_a_folder_that_is_away_gets_it_later(self, tmp_path):
        (tmp_path / "out").write_bytes(b"")  # where the folder is to be mounted
        rules = everything_to(A=f'kind = "folder"\npath = "{tmp_path}/out/in"')
        with routers.routing(tmp_path / "router", rules) as router:
            routers.send(router, archives.part10(1))
            routers.wait_for(router, lambda: router.forwarder.health["A"].failures > 0)
            assert f"{tmp_path}/out/in: File exists" in router.forwarder.health["A"].why
            (tmp_path / "out").unlink()
            assert routers.eventually(router, {"A": {"sent": 1}})


class TestFiles:
    def test_a_new_router_s_settings_are_for_its_user_alone(self, tmp_path):
        """The URL of a database may have a password in it."""
        settings = RouterSettings.make(tmp_path / "r", port=0, database="postgresql://u:secret@h/d")
        path = tmp_path / "r" / FILE_NAME
        assert path.stat().st_mode & 0o777 == 0o600
        assert "secret" in path.read_text()
        assert RouterSettings.load(tmp_path / "r").database == settings.database

    def test_settings_that_cannot_be(self, tmp_path):
        with pytest.raises(InvalidArgument, match="port"):
            RouterSettings.make(tmp_path / "r", port=70_000)
        assert not (tmp_path / "r").exists()
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(InvalidArgument, match="cannot be made: Not a directory"):
            RouterSettings.make(tmp_path / "file" / "r", port=0)

    def test_rules_that_cannot_be_read(self, tmp_path):
        with pytest.raises(PlanInvalid, match="it cannot be read"):
            read_file(tmp_path / "none.toml")
        (tmp_path / "rules.toml").write_bytes(b"\xff")
        with pytest.raises(PlanInvalid, match="it cannot be read"):
            read_file(tmp_path / "rules.toml")

    def test_rules_that_are_gone_hold_until_there_are_others(self, tmp_path):
        with spooling(tmp_path) as spool:
            version, plan = spool.plans.current
            os.unlink(spool.plans.path)
            assert not spool.plans.refresh()
            assert not spool.plans.refresh()
            assert spool.plans.current == (version, plan)
            assert "cannot be read" in spool.plans.problem
            spool.plans.path.write_text(everything_to(B=AWAY))
            assert spool.plans.refresh()
            assert (spool.plans.problem, list(spool.plans.current[1].destinations)) == ("", ["B"])
            with pytest.raises(InvalidArgument, match="version 77 of the rules is not known"):
                spool.plans.of(77)
