"""Several processes on one port: who gets what, one stop, one log, one count, and what a death leaves behind."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import faces
import programs
import pytest
from certificates import Authority

import dicomnet as dn
from dicomnet.protocol.negotiation import AcceptancePolicy
from dicomnet.sync.board import Board
from dicomnet.sync.shared_state import MOST_SLOTS, AssociationSlots
from dicomnet.sync.workers import WorkerPool

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")

PATIENCE = 30
ECHO = dn.contexts.verification()


class Records(logging.Handler):
    """What is logged here, to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: queue.Queue[logging.LogRecord] = queue.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.queue.put(record)

    def await_text(self, text: str) -> logging.LogRecord:
        while True:
            record = self.queue.get(timeout=PATIENCE)
            if text in record.getMessage():
                return record


@pytest.fixture
def records() -> Iterator[Records]:
    handler = Records()
    log = logging.getLogger("dicomnet")
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


def address(listener: dn.Listener) -> str:
    host, port = listener.address
    return f"{host}:{port}"


class Crowd:
    """A listener with two workers, and the process that answers each echo."""

    def __init__(self, **options) -> None:
        self._read, write = os.pipe()
        self.listener = dn.Listener(port=0, workers=options.pop("workers", 2), drain=5, **options)
        self.seen: set[int] = set()

        @self.listener.on_echo
        def tell(_):
            os.write(write, struct.pack("i", os.getpid()))

    @property
    def peer(self) -> str:
        return address(self.listener)

    def connect(self, **options) -> dn.Association:
        return dn.connect(self.peer, contexts=ECHO, **options)

    def pid_of(self, association: dn.Association) -> int:
        assert association.echo() == 0
        pid = struct.unpack("i", os.read(self._read, 4))[0]
        self.seen.add(pid)
        return pid


@contextmanager
def crowd(**options) -> Iterator[Crowd]:
    one = Crowd(**options)
    with one.listener:
        yield one
    for pid in one.seen:
        assert is_gone(pid)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one whose parent is dead may wait for somebody to notice."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def connected_in_time(one: Crowd, **options) -> dn.Association:
    """Connect; who was just let go may take a moment to be seen off."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return one.connect(**options)
        except dn.AssociationRejected:
            if time.monotonic() > end:
                raise


class TestServing:
    def test_each_worker_gets_as_many_associations(self):
        with crowd() as one, ExitStack() as stack:
            pids = [one.pid_of(stack.enter_context(one.connect())) for _ in range(8)]
            assert os.getpid() not in pids
            assert sorted(map(pids.count, set(pids))) == [4, 4]

    def test_who_left_makes_room_with_its_worker(self):
        with crowd() as one, one.connect() as first:
            pid = one.pid_of(first)
            with one.connect() as second:
                other = one.pid_of(second)
            end = time.monotonic() + PATIENCE
            while one.listener.counters["open"] > 1 and time.monotonic() < end:
                pass
            with one.connect() as third:
                assert one.pid_of(third) == other != pid

    def test_counters_are_those_of_all(self):
        with crowd() as one, one.connect(), one.connect(), one.connect():
            counted = one.listener.counters
            assert (counted["connections"], counted["associations"], counted["open"]) == (3, 3, 3)
        expected = {"connections": 3, "associations": 3, "refused": 0, "open": 0}
        assert one.listener.counters == expected | {"contexts_refused": 0, "requests_refused": 0}

    def test_a_secured_port_is_served_by_all_of_them(self, tmp_path):
        authority = Authority(tmp_path)
        ours = authority.issue("server")
        server = dn.TLS(cert=ours.cert, key=ours.key, client_certificate="ignored")
        user = dn.TLS(ca=authority.file)
        with crowd(tls=server) as one, one.connect(tls=user) as first, one.connect(tls=user) as second:
            assert one.pid_of(first) != one.pid_of(second)
            assert first.tls.version == "TLSv1.3"

    def test_nothing_that_was_shared_stays_open(self):
        def serve() -> None:
            with dn.Listener(port=0, workers=2, drain=5) as one, dn.connect(address(one), contexts=ECHO) as association:
                assert association.echo() == 0

        with faces.nothing_left():
            serve()

    def test_serve_forever_returns_after_a_stop_from_elsewhere(self):
        one = Crowd()
        one.listener.open()
        with dn.Listener(port=0) as other:

            @other.on_echo
            def stop(_):
                one.listener.stop()

            signal.signal(signal.SIGALRM, lambda *_: dn.connect(address(other), contexts=ECHO).echo())
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            one.listener.serve_forever()
        assert one.listener.counters["open"] == 0

    def test_a_stop_while_the_workers_are_being_started(self, monkeypatch):
        one = Crowd()

        def start(*arguments):
            one.listener.stop()
            return WorkerPool(*arguments)

        monkeypatch.setattr("dicomnet.sync.listener.WorkerPool", start)
        one.listener.serve_forever()
        assert one.listener.counters["open"] == 0

    def test_a_listener_that_was_stopped_before_starts_nobody(self):
        one = Crowd()
        one.listener.open()
        one.listener.stop()
        one.listener.serve_forever()
        assert one.listener.counters["connections"] == 0

    def test_one_that_does_not_end_is_cut_off_after_the_drain(self):
        one = Crowd()
        one.listener.drain = 0.1
        with one.listener:
            association = one.connect()
            pid = one.pid_of(association)
        assert is_gone(pid)
        with pytest.raises(dn.DicomNetError):
            association.echo()


class TestLimits:
    def test_associations_in_all(self):
        limits = dn.Limits(associations=3)
        with crowd(limits=limits) as one, ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(one.connect())
            with pytest.raises(dn.AssociationRejected) as caught:
                one.connect()
            assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 2)
            assert one.listener.counters["refused"] == 1
            stack.close()
            connected_in_time(one).release()

    @pytest.mark.parametrize("rule", ["associations_per_title", "associations_per_host"])
    def test_associations_of_a_caller(self, rule):
        with crowd(acceptance=AcceptancePolicy(**{rule: 2})) as one, one.connect(), one.connect() as second:
            with pytest.raises(dn.AssociationRejected):
                one.connect()
            second.release()
            with one.connect():  # at once: a release counts before it is answered
                pass

    def test_a_title_is_told_from_another(self):
        policy = AcceptancePolicy(associations_per_title=1)
        with (
            crowd(acceptance=policy) as one,
            one.connect(calling="A"),
            one.connect(calling="B"),
            pytest.raises(dn.AssociationRejected),
        ):
            one.connect(calling="A")


class TestDeath:
    def test_a_worker_that_is_killed_is_replaced(self, records):
        with crowd(limits=dn.Limits(associations=2)) as one:
            first, second = one.connect(), one.connect()
            dead, alive = one.pid_of(first), one.pid_of(second)
            os.kill(dead, signal.SIGKILL)
            record = records.await_text(f"(process {dead}) was killed by SIGKILL")
            assert record.levelno == logging.ERROR
            with pytest.raises(dn.DicomNetError):
                first.echo()
            assert one.pid_of(second) == alive
            assert one.listener.counters["open"] == 1
            third = connected_in_time(one)  # its seat is free again
            fresh = {one.pid_of(third)}
            third.release()
            while fresh <= {alive}:  # the other one is restarted after a pause
                with connected_in_time(one) as next_one:
                    fresh.add(one.pid_of(next_one))
            assert dead not in fresh
            second.release()
        assert one.listener.counters["open"] == 0

    def test_workers_that_die_at_once_are_not_restarted_at_once(self, records):
        class Broken(dn.Listener):
            def _work(self, channel):
                raise RuntimeError("cannot serve")

        with Broken(port=0, workers=2):
            assert "cannot serve" in records.await_text("failed").exc_text
            deaths = [records.await_text("worker 1 (").created for _ in range(3)]
        assert deaths[1] - deaths[0] > 0.5
        assert deaths[2] - deaths[1] > 0.5

    def test_without_the_supervisor_nobody_stays(self, records):
        one = Crowd()
        one.listener.open()
        one.listener._start_workers()
        association = one.connect()
        worker = one.pid_of(association)
        os.kill(one.listener._pool._pid, signal.SIGKILL)
        with pytest.raises(dn.ConnectionFailed, match="was killed by SIGKILL"):
            one.listener.serve_forever()
        association.abort()
        end = time.monotonic() + PATIENCE
        while not is_gone(worker):  # what it had open is closed a little sooner
            assert time.monotonic() < end


class TestLog:
    def test_what_a_worker_logs_is_logged_here(self, records):
        class Failing(dn.Listener):
            def flow(self, *_, **__):
                raise type("E" * 10_000, (RuntimeError,), {})

        with Failing(port=0, workers=2) as listener:
            with pytest.raises(dn.DicomNetError):
                dn.connect(address(listener), contexts=ECHO)
            record = records.await_text("failed")
        assert (record.levelname, record.worker in (1, 2), record.processName) == (
            "ERROR", True, f"worker-{record.worker}",
        )  # fmt: skip
        assert record.exc_text.startswith("Traceback")
        assert record.exc_text.endswith("E" * 10_000)

    def test_levels_hold(self, records):
        log = logging.getLogger("dicomnet")
        log.setLevel(logging.ERROR)
        try:
            with crowd() as one:
                one.connect().abort()  # which is logged as information
            assert records.queue.empty()
        finally:
            log.setLevel(logging.NOTSET)


class TestRefusals:
    @pytest.mark.parametrize("workers", [0, -1, 256])
    def test_a_number_that_is_none(self, workers):
        with pytest.raises(dn.InvalidArgument):
            dn.Listener(workers=workers)

    def test_an_asynchronous_listener_has_none(self):
        with pytest.raises(dn.InvalidArgument, match=r"dicomnet\.Listener"):
            dn.aio.Listener(workers=2)


class TestProgram:
    def send(self, recv, tmp_path, count=5):
        from test_cli_recv import send, source

        for number in range(count):
            assert send(recv.address, source(f"1.2.{number}")) == [0]

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_one_stop_and_one_sum(self, tmp_path, number):
        with programs.provider("--out", tmp_path, "--workers", 3, "--json") as recv:
            self.send(recv, tmp_path)
            output = recv.stop(number)
            assert recv.process.returncode == 0
        assert programs.summary(output)["instances"] == 5
        assert len([line for line in output.splitlines() if "sop_instance_uid" in json.loads(line)]) == 5
        assert len(list(tmp_path.iterdir())) == 5

    def test_the_second_signal_does_not_wait(self, tmp_path):
        with programs.provider("--out", tmp_path, "--workers", 2, "--drain", "1h") as recv:
            association = dn.connect(recv.address, contexts=ECHO)
            recv.process.send_signal(signal.SIGTERM)
            time_out = time.monotonic() + PATIENCE
            while not stopped_listening(recv) and time.monotonic() < time_out:
                pass
            assert association.echo() == 0  # the first did
            output = recv.stop()
            association.abort()
        assert output.startswith("0 instances received")
        assert recv.process.returncode == 0

    def test_whom_nobody_stops_any_more_stops(self, tmp_path):
        with programs.provider("--out", tmp_path, "--workers", 2) as recv:
            recv.process.kill()
            # The end of what all of its processes write to: none is left.
            output, _ = recv.process.communicate(timeout=PATIENCE)
            assert output == ""


def stopped_listening(recv: programs.Provider) -> bool:
    try:
        dn.connect(recv.address, contexts=ECHO).abort()
    except dn.AssociationRejected:
        return False  # it turns callers away, and will
    except dn.ConnectionFailed:
        return True
    return False


class TestBoard:
    def test_a_board_by_itself(self):
        board = Board(["a", "b"])
        board.add("a")
        board.add("a", 2)
        board.note("b", 0.5)
        assert (board.total("a"), board.values("b")) == (3, [0.5])

    def test_rows_are_summed(self):
        board = Board(["a", "b"], rows=3)
        for row in range(3):
            board.use_row(row)
            board.add("b", row + 1)
        assert board.values("b") == [1, 2, 3]
        assert board.total("b") == 6
        assert board.total("a") == 0

    def test_slots_are_taken_and_left(self):
        slots = AssociationSlots(3)
        slots.own(0)
        assert [slots.take() for _ in range(4)] == [0, 1, 2, None]
        slots.leave(1)
        assert (slots.taken(), slots.take()) == (2, 1)
        slots.own(4)
        slots.clear(4)
        assert slots.taken() == 3
        slots.clear(0)
        assert slots.taken() == 0

    def test_names_are_whole(self):
        slots = AssociationSlots(MOST_SLOTS + 1)
        slots.own(0)
        for title, host in [("A" * 16, "[2001:db8::1]"), ("A", "10.0.0.1"), ("AA", "10.0.0.11")]:
            slots.name(slots.take(), title, host)
        assert slots.namesakes("A", "10.0.0.1") == (1, 1)
        assert slots.namesakes("A" * 16, "[2001:db8::1]") == (1, 1)
        assert slots.namesakes("AAA", "10.0.0.1") == (0, 1)
        slots.unname(1)
        assert slots.namesakes("A", "10.0.0.1") == (0, 0)
        assert slots.taken() == 3

    def test_a_lock_ends_with_its_process(self):
        slots = AssociationSlots(1)
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            slots.own(0)
            slots.__enter__()
            os.write(write, b"!")
            signal.pause()
        os.read(read, 1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert slots.take() == 0
