"""Every service, both ways, over real sockets: results, statuses, cancels, failures, and peers that break the rules."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import faces
import peers
import pytest
import rig as rigs
from rig import Rig, Script, instance, keys, message

import dicomnet as dn
from dicomnet import uids
from dicomnet._pdu import Abort, ReleaseRQ
from dicomnet.dataset import codec, transcoding
from dicomnet.errors import RemoteProtocolError, ServiceFailure
from dicomnet.files.instance_source import BytesSource
from dicomnet.protocol.messages import CommandField
from dicomnet.protocol.negotiation import ProposedContext
from dicomnet.status import Status
from dicomnet.wire.command_set import Command

QR = dn.contexts.query_retrieve([uids.CT_IMAGE_STORAGE])
CT = dn.contexts.storage([uids.CT_IMAGE_STORAGE])
STUDY_FIND = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
PRINTER = "1.2.840.10008.5.1.1.16"
PRINTER_INSTANCE = "1.2.840.10008.5.1.1.17"
MPPS = uids.MODALITY_PERFORMED_PROCEDURE_STEP
QUICK = 0.1  # seconds: "under 100 ms"
SILENCE = 2.0  # seconds of a time-out that is not to run out, though a machine is busy


def quickly(test: Callable[[Rig], float]) -> Callable[[Rig], None]:
    """Of a test that says how long something took: the best of three counts, as others may keep the machine busy."""

    @functools.wraps(test)
    def tried(rig: Rig) -> None:
        assert test(rig) < QUICK or test(rig) < QUICK or test(rig) < QUICK

    return pytest.mark.measures(tried)


@pytest.fixture(params=rigs.PAIRINGS)
def rig(request: pytest.FixtureRequest) -> Any:
    made = Rig(request.param)
    yield made
    made.close()


@pytest.fixture
def blocking() -> Any:
    made = Rig("sync-sync")
    yield made
    made.close()


# ---- C-ECHO and C-STORE ----------------------------------------------------------------------------------------------


def test_echo(rig: Rig) -> None:
    listener = rig.listener("ARCHIVE")
    seen = []
    listener.on_echo(lambda request: seen.append((request.calling, request.called)))
    with rig.pair(listener, dn.contexts.verification(), calling="ME") as association:
        assert association.echo().is_success
    assert seen == [("ME", "ARCHIVE")]


def test_store_from_every_kind_of_source(rig: Rig, tmp_path: Any) -> None:
    listener = rig.listener()
    stored = []
    listener.on_store()(lambda request: stored.append((request.sop_instance_uid, request.data, request.dataset)))
    path = tmp_path / "one.dcm"
    instance(1).save_as(path, enforce_file_format=True)
    with rig.pair(listener, CT) as association, path.open("rb") as file:
        results = list(association.store_many([path, str(path), path.read_bytes(), instance(1), file]))
    assert [result.ok for result in results] == [True] * 5
    assert {uid for uid, _, _ in stored} == {"2.25.1001"}
    assert len({data for _, data, _ in stored}) == 1
    assert rigs.equal(stored[0][2], instance(1))


@pytest.mark.parametrize(
    ("answer", "code", "ok"),
    [(None, 0x0000, True), (0xB000, 0xB000, True), (Status(0xA700, comment="full"), 0xA700, False)],
)
def test_store_answers_what_the_handler_says(rig: Rig, answer: Any, code: int, ok: bool) -> None:
    listener = rig.listener()
    listener.on_store()(lambda _: answer)
    with rig.pair(listener, CT) as association:
        result = association.store(instance())
    assert result.ok is ok
    assert result.status == code
    if code == 0xA700:
        assert result.status.comment == "full"
        assert "resources" in result.status.meaning


def test_store_of_more_than_the_limit_is_refused_and_the_association_goes_on(rig: Rig) -> None:
    listener = rig.listener(limits=dn.Limits(message=10_000))
    listener.on_store()(lambda _: None)
    with rig.pair(listener, CT) as association:
        results = list(association.store_many([instance(1, pixels=20_000), instance(2)]))
    assert results[0].status == 0xA700
    assert results[1].ok


# ---- C-FIND ----------------------------------------------------------------------------------------------------------


def test_find_streams_what_a_generator_yields(rig: Rig) -> None:
    listener = rig.listener()
    asked = []

    @listener.on_find("STUDY_ROOT")
    def find(request: Any) -> Any:
        asked.append((request.level, request.identifier.PatientName, request.identifier.StudyDate))
        for number in range(5):
            yield keys(StudyInstanceUID=f"2.25.{number}", PatientName="DÖE^JOHN", SpecificCharacterSet="ISO_IR 100")

    with rig.pair(listener, QR) as association:
        matches = list(association.find("study", PatientName="D*", StudyDate="20260101-"))
    assert asked == [("STUDY", "D*", "20260101-")]
    assert [match.StudyInstanceUID for match in matches] == [f"2.25.{number}" for number in range(5)]
    assert {str(match.PatientName) for match in matches} == {"DÖE^JOHN"}
    assert all(match.status == 0xFF00 and match.data for match in matches)


@pytest.mark.parametrize(
    ("answer", "count"),
    [(None, 0), ([], 0), ([keys(PatientID="1"), keys(PatientID="2")], 2), ("123", 3)],
)
def test_find_takes_nothing_lists_and_generators(rig: Rig, answer: Any, count: int) -> None:
    listener = rig.listener()
    listener.on_find("STUDY_ROOT")(lambda _: (keys(PatientID=i) for i in answer) if answer == "123" else answer)
    with rig.pair(listener, QR) as association:
        assert len(list(association.find("STUDY"))) == count


def test_find_yields_pairs_and_bytes(rig: Rig) -> None:
    listener = rig.listener()
    encoded = codec.encode(keys(PatientID="RAW"), uids.EXPLICIT_VR_LITTLE_ENDIAN)

    @listener.on_find("PATIENT_ROOT")
    def find(_: Any) -> Any:
        yield Status(0xFF01), keys(PatientID="WARN")
        yield encoded

    with rig.pair(listener, QR) as association:
        first, second = association.find("PATIENT", model="patient")
    assert (first.status, first.PatientID) == (0xFF01, "WARN")
    assert first.status.is_pending
    assert (second.status, second.data, second.PatientID) == (0xFF00, encoded, "RAW")
    assert second["PatientID"].value == "RAW"
    assert "PatientID" in second


@pytest.mark.parametrize("status", [0xA700, Status(0xC123, comment="why not")])
def test_find_ends_with_the_status_that_the_generator_returns(rig: Rig, status: int) -> None:
    listener = rig.listener()

    @listener.on_find("STUDY_ROOT")
    def find(_: Any) -> Any:
        yield keys(PatientID="1")
        return status

    got = []
    with rig.pair(listener, QR) as association:
        with pytest.raises(ServiceFailure) as failure:
            got.extend(association.find("STUDY"))
        assert association.established
        got.clear()
        for match in association.find("STUDY"):
            got.append(match)
            break
    assert failure.value.status == status
    assert failure.value.status.comment == getattr(status, "comment", None)
    assert [match.PatientID for match in got] == ["1"]


def test_find_answers_with_a_status_alone(rig: Rig) -> None:
    listener = rig.listener()
    listener.on_find("STUDY_ROOT")(lambda _: 0xA900)
    with rig.pair(listener, QR) as association, pytest.raises(ServiceFailure) as failure:
        list(association.find("STUDY"))
    assert failure.value.status == 0xA900


@pytest.mark.parametrize("after", [0, 3])
def test_an_unhandled_exception_is_0110_with_one_traceback(
    rig: Rig, after: int, caplog: pytest.LogCaptureFixture
) -> None:
    listener = rig.listener()

    @listener.on_find("STUDY_ROOT")
    def find(_: Any) -> Any:
        for _ in range(after):
            yield keys(PatientID="1")
        raise ZeroDivisionError("what went wrong")

    with caplog.at_level(logging.ERROR), rig.pair(listener, QR) as association:
        with pytest.raises(ServiceFailure) as failure:
            list(association.find("STUDY"))
        assert association.established
    assert failure.value.status == 0x0110
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info
    assert record.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize("service", ["echo", "store", "n_get", "n_create", "get", "move"])
def test_every_service_turns_exceptions_into_0110(rig: Rig, service: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Any) -> Any:
        raise KeyError("secret")

    listener = rig.listener(destinations={"THERE": dn.Entity("THERE", "127.0.0.1", 1)})
    listener.on_echo(fail)
    listener.on_store()(fail)
    listener.on_n_get(PRINTER)(fail)
    listener.on_n_create(PRINTER)(fail)
    listener.on_get("STUDY_ROOT")(fail)
    listener.on_move("STUDY_ROOT")(fail)
    asked = {
        "echo": lambda association: association.echo(),
        "store": lambda association: association.store(instance()).status,
        "n_get": lambda association: association.n_get(PRINTER, PRINTER_INSTANCE),
        "n_create": lambda association: association.n_create(PRINTER),
        "get": lambda association: association.get("STUDY", to=print, StudyInstanceUID="1.2"),
        "move": lambda association: association.move("STUDY", destination="THERE", StudyInstanceUID="1.2"),
    }
    contexts = [*dn.contexts.verification(), *CT, *dn.contexts.sop_classes(PRINTER), *QR[:6]]
    with caplog.at_level(logging.ERROR), rig.pair(listener, contexts) as association:
        try:
            status = asked[service](association)
        except ServiceFailure as failure:
            status = failure.status
        assert association.established
    assert status == 0x0110
    assert "secret" not in (status.comment or "")
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [KeyError]


def test_an_identifier_that_is_none_gets_c000(rig: Rig) -> None:
    listener = rig.listener()
    listener.on_find("STUDY_ROOT")(lambda request: [request.identifier])
    sent = b"\x08\x00\x52\x00ZZ\xff\xff\xff\xff"
    command = Command(
        affected_sop_class_uid=STUDY_FIND, command_field=0x0020, message_id=1, priority=0, command_data_set_type=1
    )
    with rig.serving(listener) as peer, raw(peer, STUDY_FIND) as (sock, reader):
        sock.sendall(message(command, sent))
        answer = answer_in(reader)
    assert answer.status == 0xC000


# ---- cancel ----------------------------------------------------------------------------------------------------------


class Closed:
    """Notes that a generator was closed, and how far it had come."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.event = threading.Event()
        self.yielded = 0

    def count(self, things: Any) -> Any:
        self.begun.set()
        try:
            for thing in things:
                yield thing
                self.yielded += 1
        finally:
            self.event.set()


@quickly
def test_leaving_a_find_loop_cancels_at_once(rig: Rig) -> float:
    listener, closed = rig.listener(), Closed()
    listener.on_find("STUDY_ROOT")(lambda _: closed.count(keys(PatientID=str(number)) for number in range(10_000)))
    with rig.pair(listener, [*QR, *dn.contexts.verification()]) as association:
        for match in association.find("STUDY"):
            start = time.monotonic()
            assert match.PatientID == "0"
            break
        elapsed = time.monotonic() - start
        assert association.echo().is_success
        assert closed.event.wait(rigs.PATIENCE)
    assert closed.yielded < 10_000
    return elapsed


def test_an_asynchronous_generator_is_closed_too() -> None:
    rig, closed = Rig("sync-aio"), Closed()
    listener = rig.listener()

    @listener.on_find("STUDY_ROOT")
    async def find(_: Any) -> Any:
        try:
            for number in range(10_000):
                yield keys(PatientID=str(number))
                closed.yielded += 1
        finally:
            closed.event.set()

    with rig.pair(listener, QR) as association:
        for _ in association.find("STUDY"):
            break
        assert closed.event.wait(rigs.PATIENCE)
    rig.close()
    assert closed.yielded < 10_000


def test_a_query_that_fails_as_it_is_closed_is_answered(rig: Rig) -> None:
    listener = rig.listener()

    @listener.on_find("STUDY_ROOT")
    def search(_: Any) -> Any:
        try:
            while True:
                yield keys(StudyInstanceUID="2.25.1")
        finally:
            raise OSError("the database is gone")

    with rig.pair(listener, [*QR, *dn.contexts.verification()]) as association:
        for _ in association.find("STUDY"):
            break
        assert association.echo().is_success


class Enough(Exception):
    """The user has seen enough."""


class Leaving:
    """A progress function that has seen enough at once, and how long it takes to get out from there."""

    def __init__(self) -> None:
        self._since = 0.0

    def __call__(self, _: Any) -> None:
        self._since = time.monotonic()
        raise Enough

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._since


@quickly
def test_a_get_that_is_left_early_returns_at_once(rig: Rig) -> float:
    listener, closed, stored, leaving = rig.listener(), Closed(), [], Leaving()
    listener.on_get("STUDY_ROOT")(lambda _: closed.count(instance(number) for number in range(2_000)))
    with rig.pair(listener, [*QR, *dn.contexts.verification()]) as association:
        with pytest.raises(Enough):
            association.get("STUDY", to=stored.append, StudyInstanceUID="2.25.100", progress=leaving)
        elapsed, before = leaving.elapsed, len(stored)
        assert association.established
        assert association.echo().is_success
        assert closed.event.wait(rigs.PATIENCE)
    assert before < 50
    return elapsed


@quickly
def test_a_get_is_cancelled_while_its_instances_are_collected(rig: Rig) -> float:
    listener, closed = rig.listener(), Closed()
    listener.on_get("STUDY_ROOT")(lambda _: closed.count(iter(instance, None)))  # without end
    model = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET
    with rig.serving(listener) as peer, raw(peer, model) as (sock, reader):
        sock.sendall(message(retrieve_request(model), study()))
        assert closed.begun.wait(rigs.PATIENCE)
        start = time.monotonic()
        sock.sendall(message(Command(command_field=0x0FFF, message_id_being_responded_to=7)))
        assert answer_in(reader).status == 0xFE00
        elapsed = time.monotonic() - start
    assert closed.event.wait(rigs.PATIENCE)
    return elapsed


@quickly
def test_a_move_that_is_left_early_returns_at_once(rig: Rig) -> float:
    arrived: list[Any] = []
    with destination(rig, arrived) as there:
        listener, closed, leaving = rig.listener(destinations={"THERE": there}), Closed(), Leaving()
        listener.on_move("STUDY_ROOT")(lambda _: closed.count(instance(number) for number in range(2_000)))
        with rig.pair(listener, [*QR, *dn.contexts.verification()]) as association:
            with pytest.raises(Enough):
                association.move("STUDY", destination="THERE", StudyInstanceUID="2.25.100", progress=leaving)
            elapsed = leaving.elapsed
            assert association.echo().is_success
            assert closed.event.wait(rigs.PATIENCE)
    assert len(arrived) < 1_000
    return elapsed


@quickly
def test_a_move_is_cancelled_while_its_instances_are_collected(rig: Rig) -> float:
    listener, closed = rig.listener(destinations={"THERE": dn.Entity("THERE", "127.0.0.1", 9)}), Closed()
    listener.on_move("STUDY_ROOT")(lambda _: closed.count(iter(instance, None)))  # without end
    model = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE
    with rig.serving(listener) as peer, raw(peer, model) as (sock, reader):
        sock.sendall(message(retrieve_request(model, move_destination="THERE"), study()))
        assert closed.begun.wait(rigs.PATIENCE)
        start = time.monotonic()
        sock.sendall(message(Command(command_field=0x0FFF, message_id_being_responded_to=7)))
        assert answer_in(reader).status == 0xFE00
        elapsed = time.monotonic() - start
    assert closed.event.wait(rigs.PATIENCE)
    return elapsed


def raw(peer: str, *abstract_syntaxes: str, contexts: Any = None) -> Any:
    """An association over a bare socket: (socket, reader of PDUs)."""
    from contextlib import contextmanager

    from dicomnet.protocol.negotiation import propose

    @contextmanager
    def opened() -> Any:
        import socket

        entity = dn.Entity.parse(peer)
        proposed = contexts or dn.contexts.sop_classes(*abstract_syntaxes)
        with socket.create_connection((entity.host, entity.port), rigs.PATIENCE) as sock:
            sock.sendall(propose(proposed, calling="RAW", called=entity.ae_title, max_pdu=16384).encode())
            reader = rigs.PDUs(sock)
            assert reader.next() is not None
            yield sock, reader

    return opened()


def answer_in(reader: Any) -> Command:
    """The command set of the next message; its PDU holds nothing else."""
    from dicomnet.wire.command_set import decode_command

    while True:
        pdu = reader.next()
        for pdv in pdu.pdvs:
            if pdv.is_command:
                command = decode_command(pdv.data)
                if command.status not in (0xFF00, 0xFF01):
                    return command


def retrieve_request(model: str, **elements: Any) -> Command:
    field = 0x0021 if "move_destination" in elements else 0x0010
    return Command(
        affected_sop_class_uid=model, command_field=field, message_id=7, priority=0, command_data_set_type=1, **elements
    )


def study() -> bytes:
    return codec.encode(keys(QueryRetrieveLevel="STUDY", StudyInstanceUID="2.25.100"), uids.EXPLICIT_VR_LITTLE_ENDIAN)


# ---- C-GET -----------------------------------------------------------------------------------------------------------


def test_get_brings_instances_and_counts(rig: Rig, tmp_path: Any) -> None:
    listener, progress = rig.listener(), []
    listener.pending_every = 0
    listener.on_get("STUDY_ROOT")(lambda request: [instance(number) for number in range(1, 6)])
    with rig.pair(listener, QR) as association:
        done = association.get("STUDY", to=tmp_path, StudyInstanceUID="2.25.100", progress=progress.append)
    assert done.ok
    assert (done.completed, done.failed, done.warning, done.remaining) == (5, 0, 0, 0)
    assert [step.completed for step in progress] == [1, 2, 3, 4]
    assert [step.remaining for step in progress] == [4, 3, 2, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"2.25.{number}.dcm" for number in range(1001, 1006)]
    import pydicom

    assert rigs.equal(pydicom.dcmread(tmp_path / "2.25.1003.dcm"), instance(3))


def test_get_to_a_function_tells_what_failed(rig: Rig) -> None:
    listener = rig.listener()
    listener.on_get("STUDY_ROOT")(lambda _: [instance(number) for number in range(1, 5)])

    def keep(request: Any) -> Any:
        return {"2.25.1002": Status(0xB000), "2.25.1003": Status(0xA700)}.get(request.sop_instance_uid)

    with rig.pair(listener, QR) as association:
        done = association.get("STUDY", to=keep, StudyInstanceUID="2.25.100")
    assert (done.completed, done.failed, done.warning) == (2, 1, 1)
    assert done.status == 0xB000
    assert done.failed_uids == ["2.25.1003"]
    assert not done.ok


def test_get_of_what_was_not_proposed_or_cannot_be_read_fails_per_instance(rig: Rig, tmp_path: Any) -> None:
    listener = rig.listener()
    missing = tmp_path / "missing.dcm"
    mr = instance(9, sop_class=uids.MR_IMAGE_STORAGE)
    listener.on_get("STUDY_ROOT")(lambda _: [instance(1), mr, missing])
    with rig.pair(listener, QR) as association:
        done = association.get("STUDY", to=lambda _: None, StudyInstanceUID="2.25.100")
    assert (done.completed, done.failed) == (1, 2)
    assert done.failed_uids == ["2.25.1009"]


def test_get_where_everything_fails(rig: Rig) -> None:
    listener = rig.listener()
    listener.on_get("STUDY_ROOT")(lambda _: [instance(1), instance(2)])
    with rig.pair(listener, QR) as association:
        done = association.get("STUDY", to=lambda _: 0xC000, StudyInstanceUID="2.25.100")
    assert (done.status, done.failed) == (0xA702, 2)
    assert done.failed_uids == ["2.25.1001", "2.25.1002"]


@pytest.mark.parametrize("given", [0, 2])
def test_a_get_ends_with_the_status_that_the_generator_returns(rig: Rig, given: int) -> None:
    listener = rig.listener()

    @listener.on_get("STUDY_ROOT")
    def get(_: Any) -> Any:
        yield from [instance(number) for number in range(given)]
        return Status(0xA701, comment="no more")

    listener.on_move("STUDY_ROOT")(lambda _: 0xA900)
    listener.destinations["THERE"] = dn.Entity("THERE", "127.0.0.1", 1)
    with rig.pair(listener, QR) as association:
        if given:
            done = association.get("STUDY", to=lambda _: None, StudyInstanceUID="2.25.100")
            assert (done.status, done.completed) == (0xA701, 2)
            assert not done.ok
        else:
            with pytest.raises(ServiceFailure, match="no more"):
                association.get("STUDY", to=lambda _: None, StudyInstanceUID="2.25.100")
        with pytest.raises(ServiceFailure) as failure:
            association.move("STUDY", destination="THERE", StudyInstanceUID="2.25.100")
    assert failure.value.status == 0xA900


def test_get_of_nothing_is_a_success(rig: Rig) -> None:
    listener = rig.listener()
    listener.on_get("STUDY_ROOT")(lambda _: None)
    with rig.pair(listener, QR) as association:
        done = association.get("STUDY", to=print, StudyInstanceUID="2.25.100")
    assert done.ok
    assert done.completed == 0


# ---- C-MOVE ----------------------------------------------------------------------------------------------------------


def destination(rig: Rig, arrived: list[Any], answer: Any = None) -> Any:
    """A provider that stores; gives its entity."""
    from contextlib import contextmanager

    @contextmanager
    def opened() -> Any:
        there = rig.listener("THERE")
        there.on_store()(lambda request: arrived.append(request) or (answer(request) if answer else None))
        with rig.serving(there) as peer:
            yield dn.Entity.parse(peer)

    return opened()


def test_move_sends_to_a_configured_destination(rig: Rig) -> None:
    arrived: list[Any] = []
    progress: list[Any] = []
    with destination(rig, arrived) as there:
        listener = rig.listener("ARCHIVE", destinations={"THERE": there})
        listener.pending_every = 0
        listener.on_move("STUDY_ROOT")(lambda request: [instance(number) for number in range(1, 6)])
        with rig.pair(listener, QR, calling="ASKER") as association:
            done = association.move("STUDY", destination="THERE", StudyInstanceUID="2.25.100", progress=progress.append)
    assert done.ok
    assert done.completed == 5
    assert [step.remaining for step in progress] == [4, 3, 2, 1]
    assert [request.sop_instance_uid for request in arrived] == [f"2.25.{number}" for number in range(1001, 1006)]
    assert {request.calling for request in arrived} == {"ARCHIVE"}
    assert {request.command.move_originator_ae_title for request in arrived} == {"ASKER"}
    assert {request.command.move_originator_message_id for request in arrived} == {1}


@pytest.mark.parametrize("operation", ["get", "move"])
def test_a_retrieve_tells_its_progress_now_and_then(rig: Rig, operation: str) -> None:
    arrived: list[Any] = []
    progress: list[Any] = []
    with destination(rig, arrived) as there:
        listener = rig.listener("ARCHIVE", destinations={"THERE": there})
        listener.pending_every = 3600.0
        listener.on_get("STUDY_ROOT")(lambda request: [instance(number) for number in range(1, 6)])
        listener.on_move("STUDY_ROOT")(lambda request: [instance(number) for number in range(1, 6)])
        with rig.pair(listener, QR) as association:
            where = {"to": arrived.append} if operation == "get" else {"destination": "THERE"}
            done = getattr(association, operation)(
                "STUDY", StudyInstanceUID="2.25.100", progress=progress.append, **where
            )
    assert (done.completed, done.remaining, len(arrived)) == (5, 0, 5)
    assert [(step.completed, step.remaining) for step in progress] == [(1, 4)]  # the first at once


def test_a_move_of_what_cannot_be_read_fails(rig: Rig, tmp_path: Any) -> None:
    arrived: list[Any] = []
    with destination(rig, arrived) as there:
        listener = rig.listener("ARCHIVE", destinations={"THERE": there})
        listener.on_move("STUDY_ROOT")(lambda request: [tmp_path / "1.dcm", tmp_path / "2.dcm"])
        with rig.pair(listener, QR) as association:
            done = association.move("STUDY", destination="THERE", StudyInstanceUID="2.25.100")
    assert (done.status, done.completed, done.failed, arrived) == (0xA702, 0, 2, [])


def test_move_tells_what_failed(rig: Rig, tmp_path: Any) -> None:
    def answer(request: Any) -> Any:
        return 0xA700 if request.sop_instance_uid == "2.25.1002" else None

    with destination(rig, [], answer) as there:
        listener = rig.listener(destinations={"THERE": there})
        listener.on_move("STUDY_ROOT")(lambda _: [instance(1), instance(2), tmp_path / "missing.dcm"])
        with rig.pair(listener, QR) as association:
            done = association.move("STUDY", destination="THERE", StudyInstanceUID="2.25.100")
    assert (done.status, done.completed, done.failed) == (0xB000, 1, 2)
    assert done.failed_uids == ["2.25.1002"]


def test_move_names_instances_that_the_destination_has_no_context_for(rig: Rig) -> None:
    with destination(rig, []) as there:
        listener = rig.listener(destinations={"THERE": there})
        listener.on_move("STUDY_ROOT")(lambda _: [instance(1), instance(2, sop_class="1.2.3.4.5")])
        with rig.pair(listener, QR) as association:
            done = association.move("STUDY", destination="THERE", StudyInstanceUID="2.25.100")
    assert (done.completed, done.failed) == (1, 1)
    assert done.failed_uids == ["2.25.1002"]


def test_move_to_nobody_we_know_is_a801_and_nothing_is_asked_of_the_handler(rig: Rig) -> None:
    listener, asked = rig.listener(destinations={}), []
    listener.on_move("STUDY_ROOT")(asked.append)
    with rig.pair(listener, QR) as association, pytest.raises(ServiceFailure) as failure:
        association.move("STUDY", destination="NOBODY", StudyInstanceUID="2.25.100")
    assert failure.value.status == 0xA801
    assert not asked


@pytest.mark.parametrize("asked", ["there", "There", "THERE2", "T HERE", "PROVIDER", "127.0.0.1:104", "THERE@pacs:104"])
def test_t_move_a_destination_is_one_that_is_configured_and_no_other(rig: Rig, asked: str) -> None:
    """Not by another case, not the provider itself, not an address from the wire; padding alone does not count."""
    listener, moves = rig.listener("PROVIDER", destinations={"THERE": dn.Entity("THERE", "127.0.0.1", 1)}), []
    listener.on_move("STUDY_ROOT")(lambda request: moves.append(request.destination) or [])
    with rig.pair(listener, QR) as association:
        with pytest.raises(ServiceFailure) as failure:
            association.move("STUDY", destination=asked, StudyInstanceUID="2.25.100")
        assert (failure.value.status, moves) == (0xA801, [])
        association.move("STUDY", destination=" THERE ", StudyInstanceUID="2.25.100")
        assert moves == ["THERE"]


def test_move_to_somebody_who_is_not_there_is_a702(rig: Rig) -> None:
    gone = dn.Entity("GONE", "127.0.0.1", peers.free_port())
    listener = rig.listener(destinations={"GONE": gone})
    listener.on_move("STUDY_ROOT")(lambda _: [instance(1)])
    with rig.pair(listener, QR) as association:
        with pytest.raises(ServiceFailure) as failure:
            association.move("STUDY", destination="GONE", StudyInstanceUID="2.25.100")
        assert association.established
    assert failure.value.status == 0xA702


def test_a_move_is_answered_though_its_destination_goes_without_a_release(rig: Rig) -> None:
    def script(raw: faces.RawProvider) -> None:
        raw.accept()
        raw.send(faces.message(1, faces.response(raw.read_command())))
        while not isinstance(raw.read(), ReleaseRQ):
            pass
        raw.send(Abort(0, 0))

    with faces.raw_provider(script) as told:
        listener = rig.listener(destinations={"RAW": dn.Entity.parse(told.peer)})  # type: ignore[attr-defined]
        listener.on_move("STUDY_ROOT")(lambda _: [instance(1)])
        with rig.pair(listener, QR) as association:
            done = association.move("STUDY", destination="RAW", StudyInstanceUID="2.25.100")
            assert (done.status, done.completed) == (0x0000, 1)
            assert association.established


def test_a_call_from_a_progress_function_is_refused(rig: Rig) -> None:
    """It would wait for its turn, which comes after the call that it was told about."""
    listener, refusals = rig.listener(), []
    listener.on_get("STUDY_ROOT")(lambda _: [instance(1), instance(2)])
    with rig.pair(listener, [*QR, *dn.contexts.verification()]) as association:

        def told(_: Any) -> None:
            with pytest.raises(dn.LocalProtocolError, match="still to come"):
                association.echo()
            refusals.append(1)

        async def awaited(_: Any) -> None:
            with pytest.raises(dn.LocalProtocolError, match="still to come"):
                async with asyncio.timeout(rigs.PATIENCE / 2):
                    await association._association.echo()
            refusals.append(1)

        progress = told if rig.user == "sync" else awaited
        done = association.get("STUDY", to=lambda _: None, StudyInstanceUID="2.25.100", progress=progress)
        assert (done.completed, refusals) == (2, [1])
        assert association.echo().is_success


# ---- N-services ------------------------------------------------------------------------------------------------------


def test_all_n_services(rig: Rig) -> None:
    listener, seen = rig.listener(), []

    def handler(request: Any) -> Any:
        seen.append(
            (
                request.operation.name,
                request.sop_class_uid,
                request.sop_instance_uid,
                request.action_type_id,
                request.event_type_id,
                request.dataset.get("PatientID") if request.size else None,
            )
        )
        return Status.SUCCESS, keys(PatientID="ANSWER")

    for register in ("on_n_get", "on_n_set", "on_n_action", "on_n_create", "on_event_report"):
        getattr(listener, register)(PRINTER)(handler)
    listener.on_n_delete(PRINTER)(lambda request: seen.append(request.operation.name))
    given = keys(PatientID="ASK")
    with rig.pair(listener, dn.contexts.sop_classes(PRINTER)) as association:
        replies = [
            association.n_get(PRINTER, PRINTER_INSTANCE, ["PatientID", 0x00100010]),
            association.n_set(PRINTER, PRINTER_INSTANCE, given),
            association.n_action(PRINTER, PRINTER_INSTANCE, 3, given),
            association.n_create(PRINTER, "1.2.3", given),
            association.n_event_report(PRINTER, PRINTER_INSTANCE, 2, given),
        ]
        deleted = association.n_delete(PRINTER, PRINTER_INSTANCE)
    assert [reply.dataset.PatientID for reply in replies] == ["ANSWER"] * 5
    assert deleted.dataset is None
    assert deleted.status.is_success
    assert replies[2].action_type_id == 3
    assert replies[4].event_type_id == 2
    assert replies[3].sop_instance_uid == "1.2.3"
    assert seen == [
        ("N-GET-RQ", PRINTER, PRINTER_INSTANCE, None, None, None),
        ("N-SET-RQ", PRINTER, PRINTER_INSTANCE, None, None, "ASK"),
        ("N-ACTION-RQ", PRINTER, PRINTER_INSTANCE, 3, None, "ASK"),
        ("N-CREATE-RQ", PRINTER, "1.2.3", None, None, "ASK"),
        ("N-EVENT-REPORT-RQ", PRINTER, PRINTER_INSTANCE, None, 2, "ASK"),
        "N-DELETE-RQ",
    ]


def test_n_get_names_the_attributes(rig: Rig) -> None:
    listener, wanted = rig.listener(), []
    listener.on_n_get(PRINTER)(lambda request: wanted.append(request.attribute_identifier_list))
    with rig.pair(listener, dn.contexts.sop_classes(PRINTER)) as association:
        association.n_get(PRINTER, PRINTER_INSTANCE, ["PatientID", 0x00100010])
        association.n_get(PRINTER, PRINTER_INSTANCE)
    assert wanted == [(0x00100020, 0x00100010), ()]


def test_n_create_without_a_uid_gets_one(rig: Rig) -> None:
    listener, seen = rig.listener(), []
    listener.on_n_create(PRINTER)(lambda request: seen.append(request.sop_instance_uid))
    with rig.pair(listener, dn.contexts.sop_classes(PRINTER)) as association:
        reply = association.n_create(PRINTER)
    assert uids.is_valid(reply.sop_instance_uid)
    assert seen == [reply.sop_instance_uid]


@pytest.mark.parametrize("code", [0x0112, 0x0110, 0x0106, 0x0211])
def test_a_failure_of_an_n_service_is_raised_with_its_meaning(rig: Rig, code: int) -> None:
    listener = rig.listener()
    listener.on_n_get(PRINTER)(lambda _: Status(code, comment="because"))
    with rig.pair(listener, dn.contexts.sop_classes(PRINTER)) as association:
        with pytest.raises(ServiceFailure) as failure:
            association.n_get(PRINTER, PRINTER_INSTANCE)
        assert association.established
    assert failure.value.status == code
    assert failure.value.status.comment == "because"
    assert failure.value.status.meaning


def test_a_warning_of_an_n_service_is_returned(rig: Rig) -> None:
    listener = rig.listener()
    listener.on_n_set(PRINTER)(lambda _: (0x0107, keys(PatientID="1")))
    with rig.pair(listener, dn.contexts.sop_classes(PRINTER)) as association:
        reply = association.n_set(PRINTER, PRINTER_INSTANCE, keys(PatientID="1"))
    assert reply.status.is_warning
    assert reply.dataset.PatientID == "1"


def test_meta_sop_classes_carry_their_members(rig: Rig) -> None:
    meta = "1.2.840.10008.5.1.1.9"  # Basic Grayscale Print Management
    listener = rig.listener()
    listener.on_n_get(meta)(lambda request: keys(PrinterStatus="NORMAL"))
    with rig.pair(listener, dn.contexts.sop_classes(meta)) as association:
        reply = association.n_get(PRINTER, PRINTER_INSTANCE, context=meta)
    assert reply.dataset.PrinterStatus == "NORMAL"


def test_a_service_without_a_handler(rig: Rig) -> None:
    listener = rig.listener()
    listener.on_n_get(PRINTER)(lambda _: None)
    with rig.pair(listener, dn.contexts.sop_classes(PRINTER)) as association:
        with pytest.raises(ServiceFailure) as failure:
            association.n_delete(PRINTER, PRINTER_INSTANCE)
        assert association.established
    assert failure.value.status in (0x0122, 0x0211)


# ---- service classes with helpers ------------------------------------------------------------------------------------


def test_worklist(rig: Rig) -> None:
    listener, asked = rig.listener(), []

    @listener.on_find("WORKLIST")
    def find(request: Any) -> Any:
        asked.append(request.identifier)
        yield keys(PatientName="DOE^JANE", ScheduledProcedureStepSequence=[keys(Modality="CT")])

    with rig.pair(listener, dn.contexts.worklist()) as association:
        step = {"Modality": "CT", "ScheduledStationAETitle": None}
        [match] = association.worklist(PatientName="*", ScheduledProcedureStepSequence=[step])
    assert match.ScheduledProcedureStepSequence[0].Modality == "CT"
    assert asked[0].ScheduledProcedureStepSequence[0].Modality == "CT"
    assert "QueryRetrieveLevel" not in asked[0]


def test_performed_procedure_step(rig: Rig) -> None:
    listener, steps = rig.listener(), {}
    listener.on_n_create(MPPS)(
        lambda request: steps.update({request.sop_instance_uid: request.dataset.PerformedProcedureStepStatus})
    )
    listener.on_n_set(MPPS)(
        lambda request: steps.update({request.sop_instance_uid: request.dataset.PerformedProcedureStepStatus})
    )
    with rig.pair(listener, dn.contexts.procedure_step()) as association:
        reply = association.mpps_create(keys(PerformedProcedureStepStatus="IN PROGRESS"))
        assert steps == {reply.sop_instance_uid: "IN PROGRESS"}
        association.mpps_set(reply.sop_instance_uid, keys(PerformedProcedureStepStatus="COMPLETED"))
    assert steps == {reply.sop_instance_uid: "COMPLETED"}


def test_storage_commitment_on_the_same_association(rig: Rig) -> None:
    listener = rig.listener()

    @listener.on_n_action(uids.STORAGE_COMMITMENT_PUSH_MODEL)
    def commit(request: Any) -> Any:
        first, second = request.dataset.ReferencedSOPSequence
        second.FailureReason = 0x0112
        request.report(
            2,
            keys(
                TransactionUID=request.dataset.TransactionUID,
                ReferencedSOPSequence=[first],
                FailedSOPSequence=[second],
            ),
        )

    with rig.pair(listener, dn.contexts.commitment()) as association:
        outcome = association.commit([(uids.CT_IMAGE_STORAGE, "2.25.1"), (uids.CT_IMAGE_STORAGE, "2.25.2")])
    assert outcome.committed == [(uids.CT_IMAGE_STORAGE, "2.25.1")]
    assert outcome.failed == [(uids.CT_IMAGE_STORAGE, "2.25.2", 0x0112)]
    assert not outcome.ok


def test_storage_commitment_reported_on_a_later_association(rig: Rig) -> None:
    """The archive is user of the N-EVENT-REPORT and provider of the SOP class: it proposes that role (PS3.4 J.3.3)."""
    listener, reports = rig.listener(), []
    listener.on_event_report(uids.STORAGE_COMMITMENT_PUSH_MODEL)(
        lambda request: reports.append((request.event_type_id, request.dataset.TransactionUID))
    )
    context = ProposedContext(
        uids.STORAGE_COMMITMENT_PUSH_MODEL, (uids.EXPLICIT_VR_LITTLE_ENDIAN,), scu=False, scp=True
    )
    with rig.pair(listener, [context]) as association:
        association.n_event_report(
            uids.STORAGE_COMMITMENT_PUSH_MODEL,
            uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE,
            1,
            keys(TransactionUID="2.25.9"),
        )
    assert reports == [(1, "2.25.9")]


def test_a_commitment_of_nothing_is_our_mistake(blocking: Rig) -> None:
    listener = blocking.listener()
    listener.on_n_action(uids.STORAGE_COMMITMENT_PUSH_MODEL)(lambda _: None)
    with blocking.pair(listener, dn.contexts.commitment()) as association, pytest.raises(dn.InvalidArgument):
        association.commit([])


def test_unified_procedure_step(rig: Rig) -> None:
    """Pull finds and gets, push creates, and the actions change its state (PS3.4 Annex CC)."""
    push, pull = uids.UNIFIED_PROCEDURE_STEP_PUSH, uids.UNIFIED_PROCEDURE_STEP_PULL
    listener, steps = rig.listener(), {}
    listener.on_n_create(push)(lambda request: steps.update({request.sop_instance_uid: request.dataset}))
    listener.on_n_get(push, pull)(lambda request: steps[request.sop_instance_uid])
    listener.on_n_set(pull)(lambda request: steps[request.sop_instance_uid].update(request.dataset))
    listener.on_find("UPS")(lambda _: list(steps.values()))

    @listener.on_n_action(push, pull)
    def act(request: Any) -> None:
        steps[request.sop_instance_uid].ProcedureStepState = request.dataset.ProcedureStepState

    with rig.pair(listener, dn.contexts.sop_classes(push, pull)) as association:
        uid = association.n_create(push, None, keys(ProcedureStepState="SCHEDULED")).sop_instance_uid
        association.n_action(push, uid, 1, keys(ProcedureStepState="IN PROGRESS"), context=pull)
        association.n_set(push, uid, keys(ProcedureStepLabel="CT"), context=pull)
        [match] = association.find(model="UPS", ProcedureStepState="IN PROGRESS")
        reply = association.n_get(push, uid, ["ProcedureStepState"], context=pull)
    assert match.ProcedureStepLabel == "CT"
    assert reply.dataset.ProcedureStepState == "IN PROGRESS"


def printing(rig: Rig) -> Any:
    """A provider of print jobs that says on the same association how they are getting on (PS3.4 Section H.4.5)."""
    session, job = "1.2.840.10008.5.1.1.1", "1.2.840.10008.5.1.1.14"
    listener = rig.listener()

    @listener.on_n_action(session)
    def start(request: Any) -> None:
        for event in (2, 3):  # printing, done
            state = keys(ExecutionStatusInfo=str(event))
            request.report(event, state, sop_class_uid=job, sop_instance_uid="1.2.3")

    return listener, session, job


def test_event_reports_on_the_association_of_their_user(rig: Rig) -> None:
    listener, session, job = printing(rig)
    heard: list[Any] = []
    with rig.pair(listener, [*dn.contexts.sop_classes(session), *dn.contexts.verification()]) as association:

        @association.on_event_report(job)
        def hear(request: Any) -> None:
            heard.append((request.event_type_id, request.dataset.ExecutionStatusInfo, request.sop_instance_uid))

        association.n_action(session, "1.2.9", 1)
        association.wait_for_event_report()
        association.wait_for_event_report()
        assert heard == [(2, "2", "1.2.3"), (3, "3", "1.2.3")]
        assert association.echo().is_success


@pytest.mark.parametrize(
    ("answer", "status"), [(None, 0), (0x0110, 0x0110), (ValueError("no"), 0x0110), ("nobody", 0x0211)]
)
@pytest.mark.parametrize("user", ["sync", "aio"])
def test_an_event_report_in_the_middle_of_an_operation_is_answered(user: str, answer: Any, status: int) -> None:
    """The report comes before the response that is waited for."""
    rig, answers = Rig(f"{user}-sync" if user == "sync" else "aio-aio"), []

    def play(sock: Any, reader: Any) -> None:
        sock.sendall(
            message(
                Command(
                    affected_sop_class_uid="1.2.3",
                    affected_sop_instance_uid="1.2.4",
                    command_field=0x0100,
                    message_id=77,
                    event_type_id=1,
                )
            )
        )
        answers.append(answer_in(reader))
        response = Command(
            affected_sop_class_uid="1.2.3", command_field=0x8130, message_id_being_responded_to=1, status=0
        )
        sock.sendall(message(response))

    def hear(_: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with Script(play) as script, rig.connected(script.peer, dn.contexts.sop_classes("1.2.3")) as association:
        if answer != "nobody":
            association.on_event_report("1.2.3")(hear)
        assert association.n_action("1.2.3", "1.2.4", 1).status.is_success
        association.abort()
    rig.close()
    assert (answers[0].command_field, answers[0].message_id_being_responded_to) == (0x8100, 77)
    assert answers[0].status == status


# ---- what is refused before anything is sent -------------------------------------------------------------------------


BAD_QUERIES = [
    (("STUDY",), {"NoSuchKeyword": "1"}),
    (("STUDY",), {"StudyDate": "yesterday"}),
    (("STUDY",), {"StudyInstanceUID": "not a uid"}),
    (("STUDY",), {"NumberOfStudyRelatedInstances": "many"}),
    (("PATIENT",), {"PatientID": "1"}),
    (("NOWHERE",), {}),
    (("",), {}),
    (("STUDY",), {"model": "NO_MODEL"}),
    (("STUDY",), {"model": "WORKLIST"}),
    (("SERIES",), {"model": "PATIENT_STUDY_ONLY"}),
    (("STUDY",), {"returning": ["NoSuchKeyword"]}),
]


@pytest.mark.parametrize(("arguments", "options"), BAD_QUERIES)
def test_bad_keys_are_refused_before_anything_is_sent(blocking: Rig, arguments: Any, options: Any) -> None:
    listener, asked = blocking.listener(), []
    listener.on_find("STUDY_ROOT", "PATIENT_STUDY_ONLY", "WORKLIST")(asked.append)
    contexts = [*QR, *dn.contexts.worklist()]
    with blocking.pair(listener, contexts) as association:
        with pytest.raises(dn.InvalidArgument) as error:
            list(association.find(*arguments, **options))
        assert association.established
    assert not asked
    assert str(error.value)


@pytest.mark.parametrize("operation", ["get", "move"])
@pytest.mark.parametrize(
    ("level", "options"),
    [
        ("STUDY", {}),
        ("SERIES", {"StudyInstanceUID": "1.2"}),
        ("IMAGE", {"SeriesInstanceUID": "1.2"}),
        ("STUDY", {"StudyInstanceUID": ""}),
        ("STUDY", {"StudyInstanceUID": None}),
        ("PATIENT", {"PatientID": "1"}),
    ],
)
def test_a_retrieve_without_its_unique_key_is_refused(blocking: Rig, operation: str, level: str, options: Any) -> None:
    listener, asked = blocking.listener(), []
    listener.on_get("STUDY_ROOT")(asked.append)
    listener.on_move("STUDY_ROOT")(asked.append)
    where = {"to": print} if operation == "get" else {"destination": "THERE"}
    with blocking.pair(listener, QR) as association:
        with pytest.raises(dn.InvalidArgument):
            getattr(association, operation)(level, **where, **options)
        assert association.established
    assert not asked


@pytest.mark.parametrize("bad", ["", "X" * 17, "A\\B", "Ä"])
def test_a_destination_that_is_no_ae_title_is_refused(blocking: Rig, bad: str) -> None:
    listener = blocking.listener()
    listener.on_move("STUDY_ROOT")(lambda _: None)
    with blocking.pair(listener, QR) as association, pytest.raises(dn.InvalidArgument):
        association.move("STUDY", destination=bad, StudyInstanceUID="1.2")


def test_a_model_that_was_not_accepted(blocking: Rig) -> None:
    listener = blocking.listener()
    listener.on_find("STUDY_ROOT")(lambda _: None)
    with blocking.pair(listener, QR) as association:
        with pytest.raises(dn.NoAcceptedContext):
            list(association.find("PATIENT", model="PATIENT_ROOT"))
        with pytest.raises(dn.NoAcceptedContext):
            association.n_get(PRINTER, PRINTER_INSTANCE)
        assert list(association.find("STUDY")) == []


def test_dates_times_ranges_and_lists_are_written_as_the_standard_wants_them(blocking: Rig) -> None:
    import datetime

    listener, asked = blocking.listener(), []
    listener.on_find("STUDY_ROOT")(lambda request: asked.append(request.identifier))
    day = datetime.date(2026, 1, 2)
    with blocking.pair(listener, QR) as association:
        list(
            association.find(
                "STUDY",
                StudyDate=(day, None),
                StudyTime=datetime.time(13, 5),
                StudyInstanceUID=["1.2", "1.3"],
                PatientName="MÜLLER*",
                returning=["ModalitiesInStudy"],
            )
        )
    [identifier] = asked
    assert identifier.StudyDate == "20260102-"
    assert identifier.StudyTime == "130500"
    assert list(identifier.StudyInstanceUID) == ["1.2", "1.3"]
    assert str(identifier.PatientName) == "MÜLLER*"
    assert identifier.SpecificCharacterSet == "ISO_IR 192"
    assert "ModalitiesInStudy" in identifier


# ---- transfer syntaxes -----------------------------------------------------------------------------------------------

SYNTAXES = [
    uids.IMPLICIT_VR_LITTLE_ENDIAN,
    uids.EXPLICIT_VR_LITTLE_ENDIAN,
    uids.EXPLICIT_VR_BIG_ENDIAN,
    uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    uids.RLE_LOSSLESS,
]


def image() -> Any:
    """A real one, with pixel data of 16 bits."""
    import pydicom

    path = next(path for path in peers.sample_files() if path.name == "MR_small.dcm")
    dataset = pydicom.dcmread(path)
    del dataset[0xFFFCFFFC]
    return dataset


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_an_instance_is_converted_if_needed(rig: Rig, syntax: str) -> None:
    listener, stored = rig.listener(), []
    listener.on_store(transfer_syntaxes=[syntax])(lambda request: stored.append((request.data, request.dataset)))
    contexts = dn.contexts.storage([uids.MR_IMAGE_STORAGE], SYNTAXES)
    with rig.pair(listener, contexts) as association:
        result = association.store(image(), transcode="if needed")
        assert result.ok
        assert result.transfer_syntax_uid == syntax
        if syntax in codec.NATIVE:  # what is not compressed is converted whatever the policy (PS3.5 Section 10.1)
            assert association.store(image(), transcode="never").transfer_syntax_uid == syntax
        else:
            with pytest.raises(dn.NoAcceptedContext):
                association.store(image(), transcode="never")
    data, dataset = stored[0]
    assert [again for again, _ in stored[1:]] == [data] * (syntax in codec.NATIVE)
    back = transcoding.converted(BytesSource(data, syntax), uids.EXPLICIT_VR_LITTLE_ENDIAN)
    assert b"".join(back.chunks(1 << 20)) == codec.encode(image(), uids.EXPLICIT_VR_LITTLE_ENDIAN)
    assert dataset.SOPInstanceUID == image().SOPInstanceUID


def test_big_endian_pixels_are_swapped_as_real_files_have_them() -> None:
    import pydicom

    path = next(path for path in peers.sample_files() if path.name == "MR_small_bigendian.dcm")
    little = transcoding.converted(codec.open_source(path), uids.EXPLICIT_VR_LITTLE_ENDIAN)
    dataset = codec.decode(b"".join(little.chunks(1 << 20)), uids.EXPLICIT_VR_LITTLE_ENDIAN)
    assert dataset.PixelData == image().PixelData
    assert pydicom.dcmread(path).PixelData != dataset.PixelData
    big = transcoding.converted(little, uids.EXPLICIT_VR_BIG_ENDIAN)
    assert b"".join(big.chunks(1 << 20)) == b"".join(codec.open_source(path).chunks(1 << 20))


def test_preferred_syntaxes_come_first(rig: Rig) -> None:
    listener = rig.listener()
    listener.on_store()(lambda _: None)
    one_each = [context for syntax in SYNTAXES for context in dn.contexts.storage([uids.MR_IMAGE_STORAGE], [syntax])]
    with rig.pair(listener, one_each) as association:
        used = [
            association.store(image(), transcode=policy).transfer_syntax_uid
            for policy in ("never", "if needed", [uids.RLE_LOSSLESS], ["1.2.3", uids.IMPLICIT_VR_LITTLE_ENDIAN])
        ]
    assert used == [
        uids.EXPLICIT_VR_LITTLE_ENDIAN,
        uids.EXPLICIT_VR_LITTLE_ENDIAN,
        uids.RLE_LOSSLESS,
        uids.IMPLICIT_VR_LITTLE_ENDIAN,
    ]


def test_nothing_is_compressed_with_loss() -> None:
    with pytest.raises(dn.InvalidArgument, match="without loss"):
        transcoding.converted(codec.open_source(image()), "1.2.840.10008.1.2.4.50")


def test_a_get_and_a_move_convert_for_who_takes_only_implicit(rig: Rig) -> None:
    implicit = [uids.IMPLICIT_VR_LITTLE_ENDIAN]
    there, arrived = rig.listener("THERE"), []
    there.on_store(transfer_syntaxes=implicit)(lambda request: arrived.append(request.dataset.PatientID))
    with rig.serving(there) as peer:
        listener = rig.listener(destinations={"THERE": dn.Entity.parse(peer)})
        listener.on_get("STUDY_ROOT")(lambda _: [instance(1)])
        listener.on_move("STUDY_ROOT")(lambda _: [instance(1)])
        contexts = dn.contexts.query_retrieve([uids.CT_IMAGE_STORAGE], implicit)
        with rig.pair(listener, contexts) as association:
            got = association.get("STUDY", to=lambda request: None, StudyInstanceUID="1.2")
            moved = association.move("STUDY", destination="THERE", StudyInstanceUID="1.2")
    assert (got.completed, moved.completed) == (1, 1)
    assert arrived == ["P1"]


# ---- nesting and bombs -----------------------------------------------------------------------------------------------


def nested(depth: int, *, explicit: bool, defined: bool) -> bytes:
    """Sequences within sequences."""
    import struct

    element = struct.pack("<HH", 0x0008, 0x1140) + (b"SQ\0\0" if explicit else b"")
    if not defined:
        begin = element + struct.pack("<LHHL", 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
        return begin * depth + struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0) * depth
    data = b""
    for _ in range(depth):
        data = element + struct.pack("<LHHL", len(data) + 8, 0xFFFE, 0xE000, len(data)) + data
    return data


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("defined", [True, False])
def test_sequences_nest_64_deep_and_no_deeper(explicit: bool, defined: bool) -> None:
    syntax = uids.EXPLICIT_VR_LITTLE_ENDIAN if explicit else uids.IMPLICIT_VR_LITTLE_ENDIAN
    deep = codec.decode(nested(64, explicit=explicit, defined=defined), syntax)
    depth = 0
    while deep:
        deep, depth = deep.ReferencedImageSequence[0], depth + 1
    assert depth == 64
    for depth in (65, 1000) if defined else (65, 100_000):
        with pytest.raises(codec.UndecodableDataSet, match="64"):
            codec.decode(nested(depth, explicit=explicit, defined=defined), syntax)


def test_a_provider_refuses_identifiers_that_nest_too_deep(blocking: Rig) -> None:
    listener = blocking.listener()
    listener.on_find("STUDY_ROOT")(lambda request: [request.identifier])
    command = Command(
        affected_sop_class_uid=STUDY_FIND, command_field=0x0020, message_id=1, priority=0, command_data_set_type=1
    )
    with blocking.serving(listener) as peer, raw(peer, STUDY_FIND) as (sock, reader):
        for depth, status in ((64, 0), (65, 0xC000)):
            sock.sendall(message(command, nested(depth, explicit=True, defined=False)))
            assert answer_in(reader).status == status


def test_a_deflated_bomb_is_refused_without_growing() -> None:
    """10 KiB that inflate to all that deflate can make of them, and 10 MiB that inflate to 10 GiB."""
    import tracemalloc
    import zlib

    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    zeros = bytes(1 << 20)
    block = deflater.compress(zeros) + deflater.flush(zlib.Z_FULL_FLUSH)
    for size in (10 << 10, 10 << 20):
        bomb = (block * (size // len(block) + 1))[:size]
        tracemalloc.start()
        with pytest.raises(codec.UndecodableDataSet, match="deflated"):
            codec.decode(bomb, uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < (4 << 20) + size


# ---- peers that break the rules --------------------------------------------------------------------------------------


def find_response(**elements: Any) -> Command:
    return Command(
        **{
            "affected_sop_class_uid": STUDY_FIND,
            "command_field": CommandField.C_FIND_RSP,
            "message_id_being_responded_to": 1,
            "status": 0,
            **elements,
        }
    )


OFFENCES = {
    "a response to nothing asked": message(find_response(message_id_being_responded_to=99)),
    "another service's response": message(find_response(command_field=CommandField.C_ECHO_RSP)),
    "no status": message(find_response(status=None)),
    "data that nothing announced": message(find_response(), b"\0" * 8),
    "another context": message(find_response(), context_id=3),
}


@pytest.mark.parametrize("offence", OFFENCES)
@pytest.mark.parametrize("face", ["sync-sync", "aio-sync"])
def test_a_broken_rule_ends_the_association_with_the_reason(face: str, offence: str) -> None:
    rig = Rig(face)
    with Script(lambda sock, _: sock.sendall(OFFENCES[offence])) as script:  # noqa: SIM117
        with pytest.raises(RemoteProtocolError) as error:  # noqa: PT012
            with rig.connected(script.peer, dn.contexts.sop_classes(STUDY_FIND)) as association:
                if offence == "data that nothing announced":
                    list(association.find("STUDY"))  # the response itself is good
                list(association.find("STUDY"))
    rig.close()
    assert error.value.message
    assert script.rest[:1] == b"\x07"  # A-ABORT


def test_a_data_set_that_never_comes_ends_in_a_time_out() -> None:
    timeouts = dn.Timeouts(progress=0.2, response=0.2)
    announced = message(find_response(status=0xFF00, command_data_set_type=1))
    with Script(lambda sock, _: sock.sendall(announced)) as script, pytest.raises(dn.DeadlineExceeded):  # noqa: SIM117
        with dn.connect(script.peer, contexts=dn.contexts.sop_classes(STUDY_FIND), timeouts=timeouts) as association:
            list(association.find("STUDY"))


def test_a_match_that_is_no_data_set_is_a_typed_error_with_its_bytes() -> None:
    junk = b"\x08\x00\x52\x00ZZ\xff\xff\xff\xff"

    def play(sock: Any, reader: Any) -> None:
        sock.sendall(message(find_response(status=0xFF00, command_data_set_type=1), junk))
        sock.sendall(message(find_response()))

    with Script(play) as script:
        association = dn.connect(script.peer, contexts=dn.contexts.sop_classes(STUDY_FIND))
        [match] = association.find("STUDY")
        with pytest.raises(codec.UndecodableDataSet) as error:
            _ = match.PatientID
        association.abort()
    assert match.data == junk
    assert error.value.data == junk
    assert isinstance(error.value, RemoteProtocolError)


def test_a_match_past_the_limit_for_memory_is_refused() -> None:
    def play(sock: Any, reader: Any) -> None:
        sock.sendall(message(find_response(status=0xFF00, command_data_set_type=1), b"\0" * 5000))

    with Script(play) as script:
        association = dn.connect(
            script.peer, contexts=dn.contexts.sop_classes(STUDY_FIND), limits=dn.Limits(message=1000)
        )
        with pytest.raises(RemoteProtocolError, match="1000"):
            list(association.find("STUDY"))
        association.abort()


def test_a_failed_response_before_the_last_fragment_ends_the_sending() -> None:
    """PS3.7 Section 9.3.1.3: as user we stop, as the peer has said what it thinks."""
    taken = []

    def play(sock: Any, reader: Any) -> None:
        refused = Command(
            affected_sop_class_uid=uids.CT_IMAGE_STORAGE,
            command_field=CommandField.C_STORE_RSP,
            message_id_being_responded_to=1,
            status=0xA700,
        )
        sock.sendall(message(refused))
        size = 0
        while True:
            pdu = reader.next()
            size += sum(len(pdv.data) for pdv in pdu.pdvs)
            if pdu.pdvs[-1].is_last and not pdu.pdvs[-1].is_command:
                break
        taken.append(size)

    big = instance(1, pixels=64 << 20)
    with Script(play) as script:
        association = dn.connect(script.peer, contexts=CT)
        result = association.store(big)
        assert association.established
        association.abort()
    assert result.status == 0xA700
    assert taken[0] < 32 << 20


def test_requests_that_lack_something_are_answered(blocking: Rig) -> None:
    listener, asked = blocking.listener(), []
    listener.on_find("STUDY_ROOT")(asked.append)
    lacking = [
        (Command(affected_sop_class_uid=STUDY_FIND, command_field=0x0020, message_id=1, priority=0), None, 0x0212),
        (Command(command_field=0x0020, message_id=2, priority=0, command_data_set_type=1), study(), 0x0212),
        (Command(command_field=0x0666, message_id=3), None, 0x0211),
        (
            Command(affected_sop_class_uid="1.2.3", command_field=0x0010, message_id=4, command_data_set_type=1),
            study(),
            0x0122,
        ),
    ]
    with blocking.serving(listener) as peer, raw(peer, STUDY_FIND) as (sock, reader):
        for command, data, status in lacking:
            sock.sendall(message(command, data))
            answer = answer_in(reader)
            assert answer.status == status, command
            assert answer.message_id_being_responded_to == command.message_id
    assert not asked


def test_a_cancel_for_nothing_is_ignored(blocking: Rig) -> None:
    listener = blocking.listener()
    with blocking.serving(listener) as peer, raw(peer, uids.VERIFICATION) as (sock, reader):
        sock.sendall(message(Command(command_field=0x0FFF, message_id_being_responded_to=9)))
        sock.sendall(message(Command(affected_sop_class_uid=uids.VERIFICATION, command_field=0x30, message_id=2)))
        assert answer_in(reader).status == 0


def test_a_get_is_cancelled_in_the_middle_of_a_sub_operation(rig: Rig) -> None:
    listener, model = rig.listener(), uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET
    listener.on_get("STUDY_ROOT")(lambda _: [instance(number) for number in (1, 2, 3)])
    with rig.serving(listener) as peer, raw(peer, contexts=QR) as (sock, reader):
        sock.sendall(message(retrieve_request(model), study(), context_id=_context_of(model)))
        sub = answer_in(reader)
        assert sub.command_field == 0x0001
        cancel = Command(command_field=0x0FFF, message_id_being_responded_to=7)
        stored = Command(command_field=0x8001, message_id_being_responded_to=sub.message_id, status=0)
        sock.sendall(
            message(cancel, context_id=_context_of(model))
            + message(stored, context_id=_context_of(uids.CT_IMAGE_STORAGE))
        )
        final = answer_in(reader)
    assert final.status == dn.Status.CANCEL
    assert final.number_of_completed_suboperations == 1
    assert final.number_of_remaining_suboperations == 2


def _context_of(abstract_syntax: str) -> int:
    return 2 * next(number for number, one in enumerate(QR) if one.abstract_syntax == abstract_syntax) + 1


def test_the_time_that_a_caller_takes_is_no_silence_of_the_peer(rig: Rig) -> None:
    listener, slow = rig.listener(), threading.Event()

    def find(_: Any) -> Any:
        yield keys(PatientID="1")
        slow.wait(QUICK / 2)  # so that the second match is not there yet when the first is
        yield keys(PatientID="2")

    listener.on_find("STUDY_ROOT")(find)
    with rig.pair(listener, QR, timeouts=dn.Timeouts(response=SILENCE)) as association:
        matches = association.find("STUDY", PatientID="*")
        assert next(matches).PatientID == "1"
        threading.Event().wait(1.5 * SILENCE)
        assert [match.PatientID for match in matches] == ["2"]


def test_the_time_that_the_next_instance_takes_is_no_silence_of_the_peer(rig: Rig) -> None:
    def instances() -> Any:
        yield instance(1)
        looked.set()
        threading.Event().wait(1.5 * SILENCE)
        yield instance(2)

    def keep(_: Any) -> None:
        looked.wait(rigs.PATIENCE)  # so that the next instance is looked for before the response is there

    listener, looked = rig.listener(), threading.Event()
    listener.on_store()(keep)
    with rig.pair(listener, CT, timeouts=dn.Timeouts(response=SILENCE)) as association:
        assert [result.ok for result in association.store_many(instances())] == [True, True]
