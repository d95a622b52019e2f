"""One loop for a provider: handlers that are late, stuck or answer later, cancels, the end of connections, proxies."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import faces
import pytest
from faces import CT, PATIENCE, SYNTAX, RawUser, echo_request, message, provider, store_request
from rig import until

import dicomnet as dn
from dicomnet import uids
from dicomnet._pdu import (
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    AsynchronousOperationsWindow,
    MaximumLength,
    PresentationContextRQ,
    ReleaseRQ,
)
from dicomnet.net.admission import Connections
from dicomnet.protocol.negotiation import AcceptancePolicy
from dicomnet.wire.command_set import Command, frame

FIND = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND


def query(raw: RawUser) -> None:
    """Ask for an association and for studies."""
    contexts = (PresentationContextRQ(1, FIND, (SYNTAX,)), PresentationContextRQ(3, uids.VERIFICATION, (SYNTAX,)))
    raw.send(AssociateRQ("ANY-SCP", "RAW", contexts, (MaximumLength(0),)))
    assert isinstance(raw.read(), AssociateAC)
    find(raw)


def find(raw: RawUser, message_id: int = 1) -> None:
    command = Command(
        affected_sop_class_uid=FIND, command_field=0x20, message_id=message_id, priority=0, command_data_set_type=1
    )
    level = struct.pack("<HH2sH", 8, 0x52, b"CS", 6) + b"STUDY "
    raw.send(message(1, command), *map(bytes, frame(1, level, 16000, False, True)))


def final_response(raw: RawUser) -> Command:
    """The first response that is not pending."""
    while True:
        (pdv,) = raw.read().pdvs
        if pdv.is_command and (command := faces.decode(pdv.data)).status != 0xFF00:
            return command


CANCEL = message(1, Command(command_field=0x0FFF, message_id_being_responded_to=1))


class Gate:
    """A handler that stands here until it is opened."""

    def __init__(self) -> None:
        self.reached, self._open = threading.Event(), threading.Event()

    def wait(self, *_: Any) -> None:
        self.reached.set()
        self._open.wait(PATIENCE)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()


class TestDeadlines:
    def test_a_handler_that_never_returns_fails_and_the_association_lives(self, gate, caplog):
        def configure(listener):
            listener.on_store()(gate.wait)

        with provider("sync", configure, timeouts=dn.Timeouts(handler=0.2)) as scp, scp.raw() as raw:
            raw.associate()
            raw.send(store_request(bytes(100)))
            assert raw.read_command().status == 0x0110
            assert raw.echo(2).status == 0
            gate.open()
        assert "handler time-out after 0.2 s" in caplog.text

    def test_a_registration_has_its_own_deadline(self, gate):
        def configure(listener):
            listener.on_store(deadline=0.1)(gate.wait)

        with provider("sync", configure, timeouts=dn.Timeouts(handler=None)) as scp, scp.raw() as raw:
            raw.associate()
            raw.send(store_request(bytes(100)))
            assert raw.read_command().status == 0x0110
            gate.open()

    def test_what_a_late_handler_reads_is_still_there(self, gate):
        read: list[bytes] = []

        def configure(listener):
            @listener.on_store(deadline=0.1)
            def keep(request):
                gate.wait()
                read.append(request.data)

        with provider("sync", configure) as scp, scp.raw() as raw:
            raw.associate()
            raw.send(store_request(b"12345678"))
            assert raw.read_command().status == 0x0110
            gate.open()
            until(lambda: read)
        assert read == [b"12345678"]

    def test_of_several_that_came_together_each_has_its_own(self, gate):
        handled: list[int] = []

        def configure(listener):
            @listener.on_store(deadline=2.0)  # more than the others take, which have to wait for a processor
            def keep(request):
                handled.append(request.command.message_id)
                if request.command.message_id == 4:
                    gate.wait()

        with provider("sync", configure) as scp, scp.raw() as raw:
            raw.associate()
            raw.send(b"".join(store_request(bytes(100), number=number) for number in range(1, 9)))
            answers = [raw.read_command() for _ in range(8)]
            gate.open()
        assert [one.message_id_being_responded_to for one in answers] == list(range(1, 9))
        assert [one.status for one in answers] == [0, 0, 0, 0x0110, 0, 0, 0, 0]
        assert handled == list(range(1, 9))

    def test_handlers_that_never_return_take_the_threads_of_their_registration_alone(self, gate, caplog):
        def configure(listener):
            listener.on_store(deadline=0.3)(gate.wait)
            listener.on_find("STUDY_ROOT")(lambda _: [])

        options: dict[str, Any] = {"timeouts": dn.Timeouts(handler=None), "limits": dn.Limits(handler_threads=2)}
        with provider("sync", configure, **options) as scp:
            stuck = [scp.raw() for _ in range(4)]
            for raw in stuck:
                raw.associate()
                raw.send(store_request(bytes(100)))
            with scp.raw() as other:
                query(other)
                assert final_response(other).status == 0
            assert [raw.read_command().status for raw in stuck] == [0x0110] * 4
            assert scp.listener._acceptor.loop.handlers.busy == 2
            for raw in stuck:
                raw.sock.close()
            gate.open()
        assert "all 2 threads of a handler are busy" in caplog.text

    def test_a_slow_step_of_a_generator_has_a_deadline_too(self, gate):
        closed = threading.Event()

        def slow(_):
            try:
                yield {"PatientID": "1"}
                gate.wait()
                yield {"PatientID": "2"}
            finally:
                closed.set()

        def configure(listener):
            listener.on_find("STUDY_ROOT")(slow)

        with provider("sync", configure, timeouts=dn.Timeouts(handler=2.0)) as scp, scp.raw() as raw:
            query(raw)
            assert final_response(raw).status == 0x0110
            assert raw.read is not None
            gate.open()
            assert closed.wait(PATIENCE)


class TestCancel:
    def test_is_answered_while_a_step_still_runs(self, gate):
        closed = threading.Event()

        def slow(_):
            try:
                gate.wait()
                yield {"PatientID": "1"}
            finally:
                closed.set()

        def configure(listener):
            listener.on_find("STUDY_ROOT")(slow)

        with provider("sync", configure) as scp, scp.raw() as raw:
            query(raw)
            assert gate.reached.wait(PATIENCE)
            raw.send(CANCEL)
            assert final_response(raw).status == 0xFE00
            assert not closed.is_set()
            gate.open()
            assert closed.wait(PATIENCE)

    def test_a_peer_that_leaves_closes_the_generator(self, gate):
        closed = threading.Event()

        def slow(_):
            try:
                while True:
                    gate.reached.set()
                    yield {"PatientID": "1"}
            finally:
                closed.set()

        def configure(listener):
            listener.on_find("STUDY_ROOT")(slow)

        with provider("sync", configure) as scp:
            with scp.raw() as raw:
                query(raw)
                assert gate.reached.wait(PATIENCE)
                raw.reset()
            assert closed.wait(PATIENCE)
            until(lambda: not scp.listener.counters["open"])


WINDOW = AcceptancePolicy(operations_window=(16, 1))


def associate_with_window(raw: RawUser) -> None:
    request = RawUser.REQUEST
    items = (MaximumLength(16384), AsynchronousOperationsWindow(16, 1))
    raw.send(AssociateRQ("ANY-SCP", "RAW", request.presentation_contexts, items))
    assert isinstance(raw.read(), AssociateAC)


def numbered_store(number: int) -> bytes:
    command = Command(
        affected_sop_class_uid=CT, affected_sop_instance_uid=f"2.25.{number}", command_field=1, message_id=number,
        priority=0, command_data_set_type=1,
    )  # fmt: skip
    return message(3, command) + b"".join(map(bytes, frame(3, b"%08d" % number, 16378, False, True)))


class Deferring:
    """Answers each C-STORE by a future."""

    def __init__(self) -> None:
        self.futures: dict[str, tuple[Future[Any], bytes]] = {}

    def configure(self, listener: Any) -> None:
        listener.on_store(inline=True)(self.keep)

    def keep(self, request: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.futures[request.sop_instance_uid] = future, request.data
        return future


class TestDeferredAnswers:
    def test_go_out_as_they_are_done(self):
        deferring = Deferring()
        with provider("sync", deferring.configure, acceptance=WINDOW) as scp, scp.raw() as raw:
            associate_with_window(raw)
            raw.send(*map(numbered_store, range(1, 17)))
            until(lambda: len(deferring.futures) == 16)
            order = [16, 3, 9, 1, 2, 15, 14, 4, 5, 6, 7, 8, 10, 11, 12, 13]
            for number in order:
                future, data = deferring.futures[f"2.25.{number}"]
                assert data == b"%08d" % number
                future.set_result(0xB000 if number == 9 else None)
                answer = raw.read_command()
                assert answer.message_id_being_responded_to == number
                assert answer.affected_sop_instance_uid == f"2.25.{number}"
                assert answer.status == (0xB000 if number == 9 else 0)
            assert raw.echo(99).status == 0

    def test_what_a_future_raises_is_a_status(self):
        deferring = Deferring()
        with provider("sync", deferring.configure, acceptance=WINDOW) as scp, scp.raw() as raw:
            associate_with_window(raw)
            raw.send(numbered_store(1), numbered_store(2))
            until(lambda: len(deferring.futures) == 2)
            deferring.futures["2.25.2"][0].set_exception(OSError(28, "No space left on device"))
            assert raw.read_command().status == 0xA700
            deferring.futures["2.25.1"][0].cancel()
            assert raw.read_command().status == 0x0110

    def test_what_is_no_status_is_a_failure(self):
        deferring = Deferring()
        with provider("sync", deferring.configure) as scp, scp.raw() as raw:
            raw.associate()
            raw.send(numbered_store(1))
            until(lambda: deferring.futures)
            deferring.futures["2.25.1"][0].set_result("fine")
            assert raw.read_command().status == 0x0110
            assert raw.echo(99).status == 0

    def test_one_that_is_late_has_failed(self):
        deferring = Deferring()
        options: dict[str, Any] = {"acceptance": WINDOW, "timeouts": dn.Timeouts(handler=0.1)}
        with provider("sync", deferring.configure, **options) as scp, scp.raw() as raw:
            associate_with_window(raw)
            raw.send(numbered_store(1))
            assert raw.read_command().status == 0x0110
            assert deferring.futures["2.25.1"][0].cancelled()
            assert raw.echo(2).status == 0

    @pytest.mark.parametrize("how", ["abort", "release", "reset"])
    def test_an_association_that_ends_meanwhile_leaves_nothing_behind(self, how, tmp_path):
        futures: list[Future[Any]] = []

        def configure(listener):
            @listener.on_store(spool=str(tmp_path), inline=True)
            def keep(_):
                futures.append(Future())
                return futures[-1]

        with provider("sync", configure, acceptance=WINDOW) as scp:
            with scp.raw() as raw:
                associate_with_window(raw)
                raw.send(*map(numbered_store, range(1, 5)))
                until(lambda: len(futures) == 4)
                futures[0].set_running_or_notify_cancel()
                if how == "reset":
                    raw.reset()
                else:
                    raw.send(b"\x07\0\0\0\0\4\0\0\0\0" if how == "abort" else ReleaseRQ())
                    raw.read()
            until(lambda: not scp.listener.counters["open"])
            assert [future.cancelled() for future in futures] == [False, True, True, True]
            futures[0].set_result(None)
            futures.clear()
            until(lambda: not os.listdir(tmp_path))

    def test_more_than_the_window_wait(self):
        deferring = Deferring()
        limits = dn.Limits(requests_ahead=0)
        policy = AcceptancePolicy(operations_window=(2, 1))
        with provider("sync", deferring.configure, acceptance=policy, limits=limits) as scp, scp.raw() as raw:
            associate_with_window(raw)
            raw.send(*map(numbered_store, range(1, 7)))
            until(lambda: len(deferring.futures) == 2)
            for number in range(1, 7):
                until(lambda: f"2.25.{number}" in deferring.futures)  # noqa: B023
                assert len(deferring.futures) <= number + 1
                deferring.futures[f"2.25.{number}"][0].set_result(None)
                assert raw.read_command().message_id_being_responded_to == number


class TestTurns:
    def test_a_hook_runs_at_the_end_of_each_turn_in_the_loops_thread(self):
        gathered: list[Future[Any]] = []
        turns: list[tuple[int, str]] = []

        def configure(listener):
            @listener.on_store(inline=True)
            def keep(_):
                gathered.append(Future())
                return gathered[-1]

            @listener.on_turn
            def commit():
                if gathered:
                    turns.append((len(gathered), threading.current_thread().name))
                    for future in gathered:
                        future.set_result(None)
                    gathered.clear()

        with provider("sync", configure, acceptance=WINDOW) as scp, scp.raw() as raw:
            associate_with_window(raw)
            raw.send(*map(numbered_store, range(1, 9)))
            assert sorted(raw.read_command().message_id_being_responded_to for _ in range(8)) == list(range(1, 9))
        assert sum(count for count, _ in turns) == 8
        assert {name for _, name in turns} == {"dicomnet-listener"}

    def test_calls_of_other_threads_run_in_the_loop(self):
        called: list[str] = []
        with provider("sync") as scp:
            scp.listener.call_soon_threadsafe(lambda: called.append(threading.current_thread().name))
            until(lambda: called)
        assert called == ["dicomnet-listener"]

    def test_a_pause_leaves_connections_in_the_backlog(self):
        with provider("sync") as scp, scp.raw() as there:
            there.associate()
            scp.listener.pause()
            assert there.echo().status == 0
            waiting = scp.raw()
            waiting.send(RawUser.REQUEST)
            waiting.sock.settimeout(0.2)
            with pytest.raises(TimeoutError):
                waiting.read()
            waiting.sock.settimeout(PATIENCE)
            scp.listener.resume()
            assert isinstance(waiting.read(), AssociateAC)
            waiting.sock.close()


class TestEnds:
    @pytest.mark.parametrize("face", ["sync", "aio"])
    def test_a_rejected_connection_is_half_closed_then_closed_long_before_artim(self, face):
        with provider(face, ae_title="OTHER", timeouts=dn.Timeouts(artim=600)) as scp, scp.raw() as raw:
            assert isinstance(raw.associate(), AssociateRJ)
            assert raw.read() is None  # the provider says no more
            until(lambda: not scp.listener.counters["open"])

    @pytest.mark.measures
    @pytest.mark.parametrize("face", ["sync", "aio"])
    def test_a_rejected_connection_is_half_closed_then_closed_within_a_second(self, face):
        with provider(face, ae_title="OTHER") as scp, scp.raw() as raw:
            begun = time.monotonic()
            assert isinstance(raw.associate(), AssociateRJ)
            assert raw.read() is None
            assert time.monotonic() - begun < 0.5
            until(lambda: not scp.listener.counters["open"])
            assert time.monotonic() - begun < 2.0

    @pytest.mark.parametrize("face", ["sync", "aio"])
    def test_the_seats_are_those_of_accepted_associations(self, face):
        limits = dn.Limits(associations=1)
        with provider(face, ae_title="OTHER", limits=limits) as scp, scp.raw() as refused, scp.raw() as raw:
            assert isinstance(refused.associate(), AssociateRJ)  # and it stays
            raw.send(AssociateRQ("OTHER", "RAW", RawUser.REQUEST.presentation_contexts, (MaximumLength(0),)))
            assert isinstance(raw.read(), AssociateAC)

    @pytest.mark.parametrize("face", ["sync", "aio"])
    def test_a_host_has_not_the_room_of_all_for_connections_without_an_association(self, face):
        with provider(face, limits=dn.Limits(pending_per_host=2)) as scp:
            held = [scp.raw() for _ in range(3)]
            assert held[0].read() is None or held[0].sock.fileno() >= 0
            for raw in held[1:]:
                raw.associate()
                assert raw.echo().status == 0
            for raw in held:
                raw.sock.close()


class TestAddresses:
    @pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6")
    @pytest.mark.parametrize("face", ["sync", "aio"])
    def test_no_host_is_every_address_of_both_families(self, face):
        seen: list[str] = []

        def configure(listener):
            listener.on_echo(lambda request: seen.append(request.address.rpartition(":")[0]))

        with provider(face, configure, host="") as scp:
            for host in ("127.0.0.1", "::1"):
                with RawUser(socket.create_connection((host, scp.port), PATIENCE)) as raw:
                    raw.associate()
                    assert raw.echo().status == 0
        assert seen == ["127.0.0.1", "[::1]"]


class TestConnections:
    def test_the_oldest_makes_room(self):
        ended: list[int] = []
        limits = dn.Limits(pending=3, pending_per_host=2, associations=1)

        def end(one: int) -> None:
            ended.append(one)
            connections.part(one)

        connections: Connections[int] = Connections(lambda: limits, end)
        for number, host in enumerate("aab"):
            connections.arrive(number, host)
        connections.arrive(3, "a")
        assert ended == [0]
        connections.arrive(4, "b")
        assert ended == [0, 1]
        assert connections.admit(2)
        assert not connections.admit(3)
        connections.leave(2)
        assert list(connections) == [3, 4, 2]
        assert connections.admit(3)
        connections.part(3)
        assert len(connections) == 2

    def test_one_that_cannot_end_yet_is_in_nobodys_way(self):
        asked: list[int] = []
        connections: Connections[int] = Connections(lambda: dn.Limits(pending=2), asked.append)
        for number in range(4):
            connections.arrive(number, "a")
        assert asked == [0, 1]
        assert list(connections.pending) == [2, 3]
        assert sorted(connections) == [0, 1, 2, 3]
        for number in range(4):
            connections.part(number)
        assert len(connections) == 0
        assert not connections.make_room()


def test_many_echoes_at_once_are_all_answered():
    with provider("sync") as scp, scp.raw() as raw:
        raw.associate()
        raw.send(*(echo_request(number) for number in range(1, 500)))
        assert [raw.read_command().message_id_being_responded_to for _ in range(1, 500)] == list(range(1, 500))
