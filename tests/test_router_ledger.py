"""What destinations took while it arrived is written down, whatever ends the program, and once."""

from __future__ import annotations

import os
import threading

import pytest
from routers import part10, ready, routing, send
from test_router_cut_through import calling, through

from dicomnet.router import ledger as module
from dicomnet.router.ledger import FILE_NAME, Ledger
from dicomnet.router.report import report
from dicomnet.router.spool import Spool
from dicomnet.status import Status
from dicomnet.testing import Provider


def lines(spool):
    return [(one.uid, one.destination, str(one.state), one.rule) for one in spool.queue.items(most=1000)]


@pytest.fixture
def there():
    with Provider("A") as there:
        yield there


@pytest.fixture
def left(tmp_path, there, monkeypatch):
    """The directory of a router that was killed before the database had what was passed on."""

    def fails(lines, again=False):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module, "PAUSE", 0.01)
    with routing(tmp_path, through(there.peer)) as router:
        ready(router)
        monkeypatch.setattr(router.spool, "write_down", fails)
        send(router, part10(1), part10(2))
        assert lines(router.spool) == []
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o077 == 0, "it tells of patients"
    return tmp_path


def test_what_the_database_did_not_get_before_the_end_it_gets_with_the_next_start(left, there):
    with routing(left, through(there.peer)) as router:
        assert lines(router.spool) == [(f"1.2.1.1.{n}", "A", "sent", "all") for n in (1, 2)]
        [study] = report(router.spool.database)
        assert (study.patient, study.sent, study.balances) == ("P1", 2, True)
        assert (left / FILE_NAME).stat().st_size == 0


def test_a_line_that_the_database_has_already_is_not_written_twice(left):
    written = (left / FILE_NAME).read_bytes()
    for _ in range(2):  # killed between the transaction and the end of the file
        (left / FILE_NAME).write_bytes(written)
        with Spool(left) as spool:
            Ledger(spool).close()
            assert len(lines(spool)) == 2


@pytest.mark.parametrize("torn", [b'[{"uid": "1.2', b"\x00" * 40, b'["no line"]\n', b'{"sha": 1}\n'])
def test_a_line_that_is_not_whole_was_not_acknowledged(left, torn):
    with (left / FILE_NAME).open("ab") as file:
        file.write(torn)
    with Spool(left) as spool:
        Ledger(spool).close()
        assert len(lines(spool)) == 2


def test_many_lines_are_one_transaction(tmp_path, there, monkeypatch):
    with routing(tmp_path, through(there.peer)) as router:
        ready(router)
        counts, write = [], router.spool.write_down
        monkeypatch.setattr(router.spool, "write_down", lambda lines: (counts.append(len(lines)), write(lines)))
        send(router, *(part10(number) for number in range(40)))
        router.storage.ledger.settle()
        assert len(lines(router.spool)) == sum(counts) == 40
        assert len(counts) < 20


def test_a_database_that_fails_for_a_moment_gets_them_all_later(tmp_path, there, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.01)
    with routing(tmp_path, through(there.peer)) as router:
        ready(router)
        write, failed = router.spool.write_down, threading.Event()

        def fails(lines):
            if not failed.is_set():
                failed.set()
                raise OSError(5, "Input/output error")
            write(lines)

        monkeypatch.setattr(router.spool, "write_down", fails)
        send(router, part10(1), part10(2))
        router.storage.ledger.settle()
        assert failed.is_set()
        assert len(lines(router.spool)) == 2


def test_what_cannot_be_noted_is_not_acknowledged(tmp_path, there, monkeypatch):
    with routing(tmp_path, through(there.peer)) as router, calling(router) as association:
        ready(router)

        def full(file, text):
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr(module.os, "write", full)
            assert association.store(part10(1)).status.is_failure
        assert association.store(part10(2)).status == Status.SUCCESS


def test_a_line_of_which_a_full_disk_takes_a_part_leaves_nothing_behind(tmp_path, there, monkeypatch):
    with routing(tmp_path, through(there.peer)) as router, calling(router) as association:
        ready(router)
        monkeypatch.setattr(router.spool, "write_down", lambda lines: 1 / 0)
        assert association.store(part10(1)).status == Status.SUCCESS
        write = os.write
        with monkeypatch.context() as patched:
            patched.setattr(module.os, "write", lambda file, text: write(file, text[:20]))
            assert association.store(part10(2)).status.is_failure
        [line, rest] = (tmp_path / FILE_NAME).read_bytes().split(b"\n")
        assert (b"1.2.1.1.1" in line, rest) == (True, b"")


def test_the_file_begins_anew_though_lines_come_without_end(tmp_path, there, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 4000)
    with routing(tmp_path, through(there.peer)) as router:
        ready(router)
        held, write = router.storage.ledger, router.spool.write_down
        noted, sizes = [], []
        note = held.note
        monkeypatch.setattr(held, "note", lambda passed: (noted.append(passed), note(passed)))
        send(router, part10(1))
        held.settle()

        def busy(lines):  # one more comes whenever some are being written, as long as none has to wait
            sizes.append((tmp_path / FILE_NAME).stat().st_size)
            if sizes[-1] < 4000:
                note(noted[0])
            write(lines)

        monkeypatch.setattr(router.spool, "write_down", busy)
        for _ in range(2):
            note(noted[0])
            held.settle(30)
            assert (tmp_path / FILE_NAME).stat().st_size == 0
        assert 4000 <= max(sizes) < 5000
        assert len(lines(router.spool)) == 1 + len(sizes)


def test_a_closed_ledger_writes_to_no_other_file(tmp_path, there, monkeypatch):
    noted = []
    with routing(tmp_path, through(there.peer)) as router:
        ready(router)
        held = router.storage.ledger
        note = held.note
        monkeypatch.setattr(held, "note", lambda passed: (noted.append(passed), note(passed)))
        send(router, part10(1))
    with pytest.raises(OSError, match="the ledger is closed"):
        note(noted[0])


def test_more_lines_than_may_wait_are_not_acknowledged(tmp_path, there, monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 1)
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    with routing(tmp_path, through(there.peer)) as router, calling(router) as association:
        ready(router)
        go_on, write = threading.Event(), router.spool.write_down
        monkeypatch.setattr(router.spool, "write_down", lambda lines: (go_on.wait(30), write(lines)))
        assert association.store(part10(1)).status == Status.SUCCESS
        assert association.store(part10(2)).status.is_failure
        go_on.set()
        router.storage.ledger.settle(30)
        assert [one[0] for one in lines(router.spool)] == ["1.2.1.1.1"]
