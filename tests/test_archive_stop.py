"""An archive that is told to stop ends in a time that is known, whatever its callers and workers do."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial

import archives
import programs
import pytest
from archives import CT, part10
from servers import make_settings

import dicomnet as dn
from dicomnet.archive.add_in import ArchiveAddIn
from dicomnet.archive.archive import Archive
from dicomnet.archive.commitment import CommitmentService
from dicomnet.archive.holdings import Holdings
from dicomnet.archive.housekeeping import Housekeeper
from dicomnet.archive.node_settings import NodeSettings
from dicomnet.config import STOP_DRAIN
from dicomnet.errors import InvalidArgument
from dicomnet.repository.application import end_together
from dicomnet.server import Server

FAR = 20.0  # seconds: less than the default drain of a listener, 30


@contextmanager
def running(directory, *options):
    """An archive as a process; gives it and its port."""
    command = programs.command("archive", "run", directory, "--port", "0", *options)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=programs.ROOT)
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on "), line
        yield process, int(line.rpartition(":")[2])
    finally:
        programs.end(process)


class Sender:
    """Stores instance after instance on one association, until that is ended."""

    def __init__(self, port):
        self.acknowledged, self.some = 0, threading.Event()
        self._thread = threading.Thread(target=self._send, args=(port,))
        self._thread.start()

    def _send(self, port):
        with (
            suppress(dn.DicomNetError),
            dn.connect(f"ARCHIVE@127.0.0.1:{port}", contexts=dn.contexts.storage([CT])) as to,
        ):
            while to.store(part10(self.acknowledged + 1)).status.is_success:
                self.acknowledged += 1
                self.some.set()

    def join(self):
        self._thread.join(programs.PATIENCE)
        assert not self._thread.is_alive()


def until_closed(port):
    end = time.monotonic() + programs.PATIENCE
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            continue  # it was taken from the backlog as the port closed
    raise AssertionError("the port stays open")


@pytest.mark.parametrize(("drain", "signals"), [("1", 1), ("10m", 2)], ids=["in its time", "at once"])
def test_a_sender_that_goes_on_does_not_hold_up_a_stop(tmp_path, drain, signals):
    with running(tmp_path / "archive", "--drain", drain) as (process, port):
        sender = Sender(port)
        assert sender.some.wait(programs.PATIENCE)
        began = time.monotonic()
        for _ in range(signals):
            process.send_signal(signal.SIGTERM)
            until_closed(port)
        assert process.wait(FAR) == 0
        lasted = time.monotonic() - began
        sender.join()
    assert lasted < FAR
    with Holdings(tmp_path / "archive") as holdings:
        uids = [f"1.2.1.1.{number + 1}" for number in range(sender.acknowledged)]
        assert len(holdings.places.of(uids)) == sender.acknowledged


def test_the_drain_is_a_setting(tmp_path):
    archive = Archive(tmp_path, archives.make(tmp_path))
    archive.close()
    assert archive.listener.drain == STOP_DRAIN < 30
    for wrong in (-1.0, 1e9, float("nan"), "5", True):
        with pytest.raises(InvalidArgument, match=r"drain .*: 0 to 3600 seconds"):
            archives.make(tmp_path, drain=wrong)


def test_a_worker_that_does_not_end_is_left_behind(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("dicomnet.archive.archive.end_together", partial(end_together, patience=0.2))
    archive, for_good = Archive(tmp_path, archives.make(tmp_path)), threading.Event()
    archive.start()
    real = archive.commitment.close
    archive.commitment.close = for_good.wait
    began = time.monotonic()
    archive.close()
    assert time.monotonic() - began < FAR
    for_good.set()
    real()
    [line] = [one.getMessage() for one in caplog.records if "left behind" in one.getMessage()]
    assert line.startswith("storage commitment has not ended after 0.2 s")


@pytest.mark.parametrize(("kind", "what"), [
    (CommitmentService, "storage commitment"), (Housekeeper, "housekeeping"), (Holdings, "what it holds"),
    (NodeSettings, "what follows the settings of all nodes"),
])  # fmt: skip
def test_nor_does_it_hold_up_a_server(tmp_path, monkeypatch, caplog, kind, what):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("dicomnet.archive.add_in.end_together", partial(end_together, patience=0.2))
    real, for_good, kept = kind.close, threading.Event(), []
    with monkeypatch.context() as patch:
        patch.setattr(kind, "close", lambda one: (kept.append(one), for_good.wait()))
        settings = make_settings(addin={"archive": {"durability": "os"}})
        with Server(settings, directory=tmp_path, addins={"archive": ArchiveAddIn()}):
            began = time.monotonic()
    assert time.monotonic() - began < FAR
    for_good.set()
    real(kept[0])
    assert f"{what} has not ended after 0.2 s" in caplog.text


def test_what_fails_as_it_ends_keeps_no_other_from_it(caplog):
    ended = []
    end_together({"one": lambda: 1 / 0, "another": lambda: ended.append(1)})
    assert ended == [1]
    assert "one does not end well" in caplog.text
