"""What a server keeps in files: its log, its database, its audit trail, its settings; and disks that do not take it."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import stat

import pytest
from servers import make_settings

from dicomnet.errors import InvalidArgument
from dicomnet.net.tls import TLS
from dicomnet.server import Server, Settings, server_log
from dicomnet.server.audit import NoTrail, SyslogSender, open_trail
from dicomnet.server.audit_message import message
from dicomnet.server.database import Database
from dicomnet.server.directory import ServerDirectory
from dicomnet.server.health import disk_check
from dicomnet.server.server_log import ServerLog
from dicomnet.server.setting_errors import SettingsInvalid
from dicomnet.server.settings import LogSettings


def log_to(path):
    return ServerLog(LogSettings.model_validate({"file": path and str(path), "level": "info"}))


class TestLog:
    def test_it_goes_on_where_it_was_if_it_cannot_be_opened_anew(self, tmp_path):
        path = tmp_path / "logs/server.log"
        log = log_to(path)
        log.start()
        try:
            shutil.move(path.parent, tmp_path / "away")
            log.reopen()
            assert log.lost == 1
            logging.getLogger("dicomnet").info("is this kept?")
            assert "is this kept?" in (tmp_path / "away/server.log").read_text()
            path.parent.mkdir()
            log.reopen()
            logging.getLogger("dicomnet").info("and this?")
            assert "and this?" in path.read_text()
            assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0
        finally:
            log.stop()
        assert log.lost == 0

    def test_standard_error_is_not_opened_anew(self, capfd):
        log = log_to("")
        log.start()
        try:
            log.reopen()
            logging.getLogger("dicomnet").info("to the terminal")
        finally:
            log.stop()
        assert "to the terminal" in capfd.readouterr().err

    def test_peers_that_are_remembered_have_a_bound(self, tmp_path, monkeypatch):
        monkeypatch.setattr(server_log, "MOST_PEERS", 4)
        log = log_to(tmp_path / "log")
        log.start()
        try:
            for number in range(20):
                logging.getLogger("dicomnet").info("no association with %s", f"192.0.2.{number}:1")
            assert len(log.limiter._seen) == 4
        finally:
            log.stop()
        assert len((tmp_path / "log").read_text().splitlines()) == 20


def two_steps(database):
    with database.transaction() as run:
        run("UPDATE state SET value = 2")
        run("UPDATE none_such SET value = 2")


class TestDatabase:
    def test_one_that_is_none_or_newer_is_left_alone(self, tmp_path):
        file = tmp_path / "server.sqlite"
        file.write_bytes(b"no database of SQLite" * 100)
        with pytest.raises(InvalidArgument, match=r"server\.sqlite: the database of the server cannot be opened"):
            Database(file)
        assert file.read_bytes().startswith(b"no database")
        newer = tmp_path / "newer.sqlite"
        with sqlite3.connect(newer) as connection:
            connection.execute("PRAGMA user_version = 99")
        with pytest.raises(InvalidArgument, match="is of version 99, this dicomnet knows") as caught:
            Database(newer)
        assert "Update dicomnet" in str(caught.value.hint)

    def test_what_fails_in_a_transaction_is_not_kept(self):
        database = Database(None)
        database.keep("a", 1)
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            two_steps(database)
        assert database.number("a") == 1
        database.keep("a", 3)  # and the next one begins
        assert database.number("a") == 3
        database.close()


class TestAuditTrail:
    def test_none_is_kept_where_the_settings_say_so(self, tmp_path):
        trail = open_trail(make_settings(audit={"enabled": False}), tmp_path)
        assert isinstance(trail, NoTrail)
        trail.record("security-alert", what="x")
        trail.close()
        assert not list(tmp_path.iterdir())

    def test_a_place_that_cannot_be_is_told_at_the_start(self, tmp_path):
        (tmp_path / "logs").write_text("a file")
        settings = make_settings(audit={"file": str(tmp_path / "logs/audit.log")})
        with pytest.raises(InvalidArgument, match=r"the audit trail cannot be kept in .*audit\.log"):
            open_trail(settings, tmp_path)

    def test_more_than_may_wait_is_counted_and_logged(self, tmp_path, caplog):
        where = {"file": "", "syslog": "127.0.0.1:1", "buffer": 2}  # where none listens
        trail = open_trail(make_settings(audit=where), tmp_path)
        try:
            for _ in range(3):
                trail.record("security-alert", what="x")
            assert trail.lost == 1
            assert "an audit message cannot be kept: 2 messages wait for the audit repository" in caplog.text
        finally:
            trail.close()
        again = SyslogSender("127.0.0.1:1", TLS(), tmp_path / "data/audit.sqlite", 2, "X")
        assert again.waiting == 2  # they are sent once it can be reached
        again.close()

    def test_there_is_no_event_of_another_name(self):
        with pytest.raises(InvalidArgument, match='no audit event "nonsense"'):
            message("nonsense", "X", ())


class TestSettings:
    def test_those_that_cannot_be_read_are_told_with_their_file(self, tmp_path):
        with pytest.raises(SettingsInvalid, match=r"server\.toml: there is no such file"):
            Settings.load(tmp_path / "server.toml")
        (tmp_path / "server.toml").symlink_to(tmp_path / "server.toml")
        with pytest.raises(SettingsInvalid, match=r"server\.toml: cannot be read: Too many levels of symbolic links"):
            Settings.load(tmp_path / "server.toml")

    def test_a_server_listens_somewhere(self):
        with pytest.raises(SettingsInvalid, match="there is neither a plain nor a TLS port"):
            make_settings(listen={"plain": False})

    def test_a_field_that_is_taken_out_has_its_default(self, tmp_path):
        server = ServerDirectory(tmp_path / "s")
        server.create({"server.ae_title": "X", "log.level": "debug"})
        assert server.edit({"log.level": None, "listen.port": None, "timeouts.drain": None}).log.level == "info"
        assert "[log]" not in server.file.read_text()


def test_a_disk_that_cannot_be_asked_is_not_ready(tmp_path):
    check = disk_check(tmp_path / "gone")
    assert (check.ok, check.detail) == (False, f"{tmp_path / 'gone'}: No such file or directory")
    assert not disk_check(tmp_path, 1 << 80).ok
    with Server(make_settings(), directory=tmp_path) as server:
        assert {one.name: one.ok for one in server.health()} == {"accepting": True, "disk": True}
