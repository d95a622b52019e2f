"""The provider's half of the services without I/O: what handlers get, give and raise, and what the peer is told."""

import errno
import gc
import logging
import os

import pytest
from driving import RQ
from wiring import CT, EXPLICIT, IMPLICIT, Drive, aborts, fragments, message, pair, sent

from dicomnet import uids
from dicomnet._pdu import Abort, AssociateAC, AssociateRJ, AssociateRQ, MaximumLength, ReleaseRP, ReleaseRQ
from dicomnet.config import Entity, Limits, Timeouts
from dicomnet.errors import ConnectionFailed, InvalidArgument, OutputFileError
from dicomnet.files.part10 import read_meta
from dicomnet.protocol.exchange import Call, Exchange
from dicomnet.protocol.messages import MESSAGES, CommandField
from dicomnet.protocol.negotiation import ProposedContext
from dicomnet.protocol.states import State
from dicomnet.services import query_models, scp
from dicomnet.services.provider_requests import EchoRequest, StoreRequest
from dicomnet.status import Status
from dicomnet.wire.command_set import Command, decode_command

ECHO = Command(affected_sop_class_uid=uids.VERIFICATION, command_field=0x0030, message_id=7)


def store_command(**changes) -> Command:
    elements = {
        "affected_sop_class_uid": CT,
        "affected_sop_instance_uid": "1.2.3",
        "command_field": 0x0001,
        "message_id": 9,
        "priority": 0,
        "command_data_set_type": 1,
    }
    return Command(**elements | changes)


class Served:
    """A provider's flow over an established association, and what it answers."""

    def __init__(self, provider: scp.Provider, contexts: tuple[ProposedContext, ...] | None = None) -> None:
        contexts = contexts or (
            ProposedContext(uids.VERIFICATION, (IMPLICIT,)),
            ProposedContext(CT, (EXPLICIT,)),
            ProposedContext("1.2.3", (EXPLICIT,)),
        )
        self.exchange = pair(contexts, provider.policy(), acceptor_limits=provider.limits)[1]
        self.drive = Drive(scp.AssociationProvider(self.exchange, provider, "192.0.2.1:5678").serve())

    def take(self, data: bytes) -> list[Command]:
        """Bytes of the peer; the command sets that it is answered with."""
        self.exchange.receive(data)
        self.drive.give(*self.exchange.events())
        return [decode_command(pdv.data) for pdv in fragments(sent(self.exchange)) if pdv.is_command]

    def echo(self) -> Command:
        (answer,) = self.take(message(ECHO))
        return answer

    def store(self, data: bytes = b"data", context_id: int = 3, **changes) -> Command:
        (answer,) = self.take(message(store_command(**changes), data, context_id))
        return answer


def storing(function=lambda request: None, **options) -> scp.Provider:
    provider = scp.Provider(limits=options.pop("limits", None))
    provider.on_store(**options)(function)
    return provider


# ---- associations --------------------------------------------------------------------------------------------------


def asked(provider: scp.Provider, request: AssociateRQ = RQ, behind: bytes = b"", **options) -> tuple[Exchange, Drive]:
    """A provider that was asked for an association."""
    exchange = Exchange.acceptor(limits=provider.limits, timeouts=provider.timeouts)
    drive = Drive(scp.AssociationProvider(exchange, provider, "192.0.2.1:5678").serve(**options))
    exchange.receive(request.encode() + behind)
    drive.give(*exchange.events())
    return exchange, drive


def test_an_association_is_accepted_by_what_is_registered():
    provider = scp.Provider("ARCHIVE", limits=Limits(max_pdu=12345))
    request = AssociateRQ("ARCHIVE", "USER", RQ.presentation_contexts, RQ.user_information)
    exchange, _ = asked(provider, request)
    (answer,) = sent(exchange)
    assert [context.result for context in answer.presentation_contexts] == [0]
    assert MaximumLength(12345) in answer.user_information
    assert exchange.established


def test_another_called_title_is_rejected():
    exchange, _ = asked(scp.Provider("ARCHIVE"))
    assert sent(exchange) == [AssociateRJ(1, 1, 7)]


def test_without_a_title_of_its_own_a_provider_takes_any():
    exchange, _ = asked(scp.Provider())
    assert isinstance(sent(exchange)[0], AssociateAC)


def test_a_full_provider_rejects_for_now():
    exchange, _ = asked(scp.Provider(), full=lambda: True)
    assert sent(exchange) == [AssociateRJ(2, 3, 2)]


def test_a_title_that_is_none():
    with pytest.raises(InvalidArgument):
        scp.Provider("A\\B")


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("behind", [Abort(0, 0).encode(), RQ.encode(), b"\xff"], ids=["abort", "again", "noise"])
def test_a_request_that_is_over_before_it_is_answered(behind, full):
    exchange, drive = asked(scp.Provider(), RQ, behind, full=lambda: full)
    assert not any(isinstance(pdu, AssociateAC | AssociateRJ) for pdu in sent(exchange))
    assert not drive.done
    assert exchange.state in (State.STA1_IDLE, State.STA13_AWAIT_TRANSPORT_CLOSE)


def test_a_request_that_cannot_be_read():
    exchange, _ = asked(scp.Provider(), RQ, b"")
    other = Exchange.acceptor()
    drive = Drive(scp.AssociationProvider(other, scp.Provider()).serve())
    other.receive(RQ.encode()[:74] + b"\xff" * (len(RQ.encode()) - 74))
    drive.give(*other.events())
    assert sent(other) == [Abort(0, 0)]
    assert exchange.established


def test_release():
    served = Served(scp.Provider())
    served.exchange.receive(ReleaseRQ().encode())
    served.drive.give(*served.exchange.events())
    assert sent(served.exchange) == [ReleaseRP()]


@pytest.mark.parametrize("behind", [Abort(0, 0).encode(), b"\xff", ReleaseRQ().encode()])
def test_a_release_that_is_over_before_it_is_answered(behind):
    served = Served(scp.Provider())
    served.exchange.receive(ReleaseRQ().encode() + behind)
    served.drive.give(*served.exchange.events())
    assert ReleaseRP() not in sent(served.exchange)


def test_requests_in_one_read_are_answered_in_order():
    served = Served(storing())
    answers = served.take(message(store_command(message_id=1), b"data", 3) + message(ECHO) * 2)
    assert [answer.message_id_being_responded_to for answer in answers] == [1, 7, 7]


def test_a_request_and_a_release_in_one_read():
    """The peer does not wait for its answer: it gets none, and is let go."""
    ran = []
    served = Served(storing(ran.append))
    assert served.take(message(store_command(), b"data", 3) + ReleaseRQ().encode()) == []
    assert len(ran) == 1
    assert served.exchange.state is State.STA13_AWAIT_TRANSPORT_CLOSE


# ---- C-ECHO ----------------------------------------------------------------------------------------------------------


def test_an_echo_succeeds_without_a_handler():
    assert Served(scp.Provider()).echo() == Command(
        affected_sop_class_uid=uids.VERIFICATION, command_field=0x8030, message_id_being_responded_to=7, status=0
    )


def test_an_echo_handler_gets_to_know_who_asks():
    provider, got = scp.Provider(), []

    @provider.on_echo
    def answer(request):
        got.append(request)
        return Status.NOT_AUTHORIZED

    assert Served(provider).echo().status == 0x0124
    (request,) = got
    assert isinstance(request, EchoRequest)
    assert (request.calling, request.called, request.address) == ("USER", "PROVIDER", "192.0.2.1:5678")
    assert request.command == ECHO
    assert request.context.abstract_syntax == uids.VERIFICATION


def test_an_echo_that_brings_a_data_set_is_an_echo_all_the_same():
    served = Served(scp.Provider())
    command = Command(
        affected_sop_class_uid=uids.VERIFICATION, command_field=0x0030, message_id=7, command_data_set_type=1
    )
    (answer,) = served.take(message(command, b"what for?!"))
    assert answer.status == 0


# ---- C-STORE ---------------------------------------------------------------------------------------------------------


def test_a_store_handler_gets_the_data_set():
    got = []
    served = Served(storing(lambda request: got.append((request, request.data, request.size))))
    answer = served.store(b"123456", move_originator_ae_title="MOVER")
    assert answer == Command(
        affected_sop_class_uid=CT,
        affected_sop_instance_uid="1.2.3",
        command_field=0x8001,
        message_id_being_responded_to=9,
        status=0,
    )
    ((request, data, size),) = got
    assert isinstance(request, StoreRequest)
    assert (data, size) == (b"123456", 6)
    assert (request.sop_class_uid, request.sop_instance_uid, request.transfer_syntax_uid) == (CT, "1.2.3", EXPLICIT)
    assert request.command.move_originator_ae_title == "MOVER"
    with pytest.raises(TypeError, match="spool"):
        _ = request.file
    assert request.data == b"", "what is kept of a request after its handler has no data any more"


def test_with_a_spool_the_data_set_is_a_file(tmp_path):
    def keep(request):
        with pytest.raises(TypeError, match="spool"):
            _ = request.data
        request.file.commit(tmp_path / "kept.dcm")

    served = Served(storing(keep, spool=tmp_path))
    assert served.store(b"123456").status == 0
    kept = (tmp_path / "kept.dcm").read_bytes()
    assert kept.endswith(b"123456")
    meta, offset = read_meta(kept)
    assert kept[offset:] == b"123456"
    assert (meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid) == (CT, "1.2.3", EXPLICIT)
    assert meta.source_ae_title == "USER"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.dcm"]


@pytest.mark.parametrize(
    "handler",
    [lambda request: None, lambda request: Status.OUT_OF_RESOURCES, lambda request: 1 / 0],
    ids=["forgets", "refuses", "fails"],
)
def test_what_is_not_committed_leaves_nothing_behind(tmp_path, handler):
    served = Served(storing(handler, spool=tmp_path))
    served.store(b"123456")
    assert list(tmp_path.iterdir()) == []


def test_an_association_that_ends_in_the_middle_of_a_data_set_leaves_nothing_behind(tmp_path):
    served = Served(storing(spool=tmp_path))
    served.exchange.receive(message(store_command(), bytes(1000), 3)[:-100])
    assert len(list(tmp_path.iterdir())) == 1
    served.exchange.receive_eof()
    served.drive.give(*served.exchange.events())
    assert list(tmp_path.iterdir()) == []


def test_a_spool_that_is_not_there_is_a_status(tmp_path, caplog):
    served = Served(storing(spool=tmp_path / "nowhere"))
    assert served.store().status == 0x0110
    assert served.echo().status == 0
    assert "nowhere" in caplog.text


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (None, 0x0000),
        (Status.SUCCESS, 0x0000),
        (Status.COERCION_OF_DATA_ELEMENTS, 0xB000),
        (0xA900, 0xA900),
        (0, 0x0000),
        (Status(0xC123, comment="why"), 0xC123),
    ],
)
def test_what_a_handler_returns_is_the_status(answer, status):
    found = Served(storing(lambda request: answer)).store()
    assert found.status == status
    assert found.error_comment == getattr(answer, "comment", None)


@pytest.mark.parametrize("answer", ["fine", 1 << 20, -1, object(), 3.5j])
def test_what_is_no_status_is_a_failure_of_the_handler(answer, caplog):
    served = Served(storing(lambda request: answer))
    assert served.store().status == 0x0110
    assert served.echo().status == 0


@pytest.mark.parametrize("comment", ["x" * 100, "ü\N{GREEK CAPITAL LETTER OMEGA}\N{SNOWMAN}", "a\\b\nc\x1b[1m\0"])
def test_a_comment_that_does_not_fit_its_element_is_made_to(comment):
    served = Served(storing(lambda request: Status(0xA700, comment=comment)))
    found = served.store()
    assert found.status == 0xA700
    assert len(found.error_comment) == min(len(comment), 64)
    assert found.error_comment.isascii()
    assert found.error_comment.isprintable()
    assert "\\" not in found.error_comment


def test_offending_elements_are_passed_on():
    served = Served(storing(lambda request: Status(0xA900, offending=(0x00080016, 0x00100010))))
    assert served.store().offending_element == (0x00080016, 0x00100010)


@pytest.mark.parametrize(
    ("error", "status", "traceback"),
    [
        (ValueError("bad luck"), 0x0110, True),
        (KeyError("x"), 0x0110, True),
        (OSError(errno.ENOSPC, "No space left on device"), 0xA700, False),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 0xA700, False),
        (OSError(errno.EMFILE, "Too many open files"), 0xA700, False),
        (OutputFileError("full", errno=errno.ENOSPC), 0xA700, False),
        (MemoryError(), 0xA700, False),
        (OSError(errno.EACCES, "Permission denied"), 0x0110, True),
        (StopIteration(), 0x0110, True),
    ],
    ids=repr,
)
def test_what_a_handler_raises_is_a_status_and_a_line_in_the_log(error, status, traceback, caplog):
    def fail(request):
        raise error

    served = Served(storing(fail))
    with caplog.at_level(logging.INFO, "dicomnet"):
        found = served.store()
    assert found.status == status
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "C-STORE-RQ" in record.getMessage()
    assert bool(record.exc_info) is traceback
    assert "bad luck" not in (found.error_comment or ""), "the peer is not told what the code says"
    assert served.echo().status == 0, "the association goes on"


def test_a_path_that_a_handler_made_is_not_logged(caplog):
    def fail(request):
        raise OSError(errno.ENOSPC, "No space left on device", "/archive/DOE^JOHN/1.dcm")

    assert Served(storing(fail)).store().status == 0xA700
    (record,) = caplog.records
    assert record.getMessage().endswith("No space left on device")


def test_what_a_peer_had_its_part_in_stays_on_one_line_of_the_log(caplog):
    def fail(request):
        raise OutputFileError("not a name: 1.2\n2026-01-01 forged \x1b[2J")

    assert Served(storing(fail)).store().status == 0x0110
    (record,) = caplog.records
    assert record.getMessage().isprintable()


def test_an_echo_handler_that_fails(caplog):
    provider = scp.Provider()
    provider.on_echo(lambda request: 1 / 0)
    served = Served(provider)
    assert served.echo().status == 0x0110
    assert "ZeroDivisionError" in caplog.text
    assert served.echo().status == 0x0110


def test_nothing_but_exceptions_is_turned_into_a_status():
    def interrupted(request):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Served(storing(interrupted)).store()


def test_a_data_set_that_is_too_long_for_memory_is_refused_and_the_handler_not_asked():
    ran = []
    served = Served(storing(ran.append, limits=Limits(message=100)))
    assert served.store(bytes(102)).status == 0xA700
    assert served.store(bytes(100)).status == 0
    assert len(ran) == 1


@pytest.mark.parametrize("name", ["affected_sop_class_uid", "affected_sop_instance_uid", "priority"])
def test_a_store_that_lacks_an_element(name, tmp_path):
    ran = []
    served = Served(storing(ran.append, spool=tmp_path))
    found = served.store(**{name: None})
    assert found.status in (0x0212, 0x0122)
    assert ran == []
    assert served.echo().status == 0
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_a_data_set():
    ran = []
    served = Served(storing(ran.append))
    (answer,) = served.take(message(store_command(command_data_set_type=0x0101), None, 3))
    assert answer.status == 0x0212
    assert ran == []


def test_a_data_set_may_be_empty(tmp_path):
    got = []
    assert Served(storing(lambda request: got.append(request.data))).store(b"").status == 0
    assert got == [b""]
    served = Served(storing(lambda request: request.file.commit(tmp_path / "x.dcm") and None, spool=tmp_path))
    assert served.store(b"").status == 0
    assert (tmp_path / "x.dcm").exists()


def test_the_instance_uid_is_what_the_peer_sent_whatever_that_is(tmp_path):
    got = []
    served = Served(storing(lambda request: got.append(request.sop_instance_uid), spool=tmp_path))
    assert served.store(affected_sop_instance_uid="../../etc/passwd").status == 0
    assert got == ["../../etc/passwd"]
    assert list(tmp_path.iterdir()) == []


# ---- what is registered ----------------------------------------------------------------------------------------------


def test_handlers_are_chosen_by_sop_class():
    provider, got = scp.Provider(), []
    provider.on_store([CT])(lambda request: got.append("CT"))
    provider.on_store([uids.MR_IMAGE_STORAGE])(lambda request: got.append("MR"))
    contexts = (ProposedContext(uids.MR_IMAGE_STORAGE, (EXPLICIT,)), ProposedContext(CT, (EXPLICIT,)))
    served = Served(provider, contexts)
    served.store(context_id=3)
    served.store(context_id=1, affected_sop_class_uid=uids.MR_IMAGE_STORAGE)
    assert got == ["CT", "MR"]


def test_a_class_that_nobody_stores_is_not_negotiated_and_refused():
    served = Served(storing(sop_classes=[CT]))
    assert [context.accepted for context in served.exchange.contexts.values()] == [True, True, False]
    assert served.store(affected_sop_class_uid="1.2.3").status in (0, 0x0122)


def test_what_was_negotiated_for_one_class_is_not_used_for_another(tmp_path):
    served = Served(storing(pytest.fail, spool=tmp_path))
    for changes in ({"context_id": 1}, {"affected_sop_class_uid": uids.MR_IMAGE_STORAGE}):
        answer = served.store(**changes)
        assert answer.status == Status.SOP_CLASS_NOT_SUPPORTED
        assert answer.error_comment == "not the SOP class of its presentation context"
    assert list(tmp_path.iterdir()) == []


def test_unknown_classes_are_taken_where_that_is_said():
    got = []
    served = Served(storing(lambda request: got.append(request.sop_class_uid), unknown_classes=True))
    assert all(context.accepted for context in served.exchange.contexts.values())
    assert served.store(context_id=5, affected_sop_class_uid="1.2.3").status == 0
    assert got == ["1.2.3"]


def test_transfer_syntaxes_are_taken_in_the_providers_order():
    provider = storing(transfer_syntaxes=[IMPLICIT, EXPLICIT])
    served = Served(provider, (ProposedContext(CT, (EXPLICIT, IMPLICIT)),))
    assert served.exchange.contexts[1].transfer_syntax == IMPLICIT
    served = Served(storing(), (ProposedContext(CT, (EXPLICIT, IMPLICIT)),))
    assert served.exchange.contexts[1].transfer_syntax == EXPLICIT


def test_every_storage_class_is_taken_by_default():
    policy = storing().policy()
    assert set(policy.abstract_syntaxes) == {uids.VERIFICATION, *uids.STORAGE_CLASSES}


def test_registering_gives_the_handler_back():
    provider = scp.Provider()

    @provider.on_echo
    @provider.on_store()
    def handler(request):
        return None

    assert handler(None) is None


REQUESTS = [m.field for m in MESSAGES.values() if m.field < 0x8000]


@pytest.mark.parametrize("field", REQUESTS, ids=lambda field: field.name)
def test_a_service_that_nobody_performs(field):
    served = Served(scp.Provider())
    kind = MESSAGES[field]
    elements = {name: "1.2.3" if "uid" in name else 7 for name in kind.required}
    if "move_destination" in elements:
        elements["move_destination"] = "ANYWHERE"
    answers = served.take(message(Command(command_field=field, **elements)))
    if field == CommandField.C_CANCEL_RQ:
        assert answers == []
    else:
        (answer,) = answers
        assert answer.command_field == field | 0x8000
        assert answer.status in (0x0122, 0x0211, 0x0000 if field == CommandField.C_ECHO_RQ else 0x0122)
    assert served.echo().status == 0


def test_the_sink_of_a_request_that_nobody_performs_is_let_go(tmp_path):
    served = Served(storing(spool=tmp_path))
    find = Command(
        command_field=0x0020, message_id=3, affected_sop_class_uid="1.2", priority=0, command_data_set_type=1
    )
    (answer,) = served.take(message(find, b"keys", 3))
    assert answer.status in (0x0122, 0x0211)
    assert list(tmp_path.iterdir()) == []


# ---- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end",
    [
        lambda exchange: exchange.receive(Abort(0, 0).encode()),
        lambda exchange: exchange.receive_eof(),
        lambda exchange: exchange.receive(b"\0"),
        lambda exchange: exchange.tick(300.0),
        lambda exchange: exchange.receive(message(Command(command_field=0x8030, status=0))),
    ],
    ids=["abort", "lost", "noise", "idle", "nonsense"],
)
def test_the_end_of_an_association_is_no_failure(end, caplog):
    served = Served(scp.Provider(timeouts=Timeouts()))
    end(served.exchange)
    with caplog.at_level(logging.INFO, "dicomnet"):
        served.drive.give(*served.exchange.events())
    assert not any(record.levelno > logging.INFO for record in caplog.records)
    assert len(aborts(served.exchange)) <= 1
    served.drive.flow.close()


def test_a_driver_that_says_that_it_is_over_ends_the_flow():
    served = Served(scp.Provider())
    with pytest.raises(StopIteration):
        served.drive.flow.throw(ConnectionFailed("over"))


@pytest.mark.parametrize("at", ["waiting", "in a handler"])
def test_the_flow_can_be_closed_anywhere(at, tmp_path):
    provider = storing(spool=tmp_path)
    exchange = pair(policy=provider.policy())[1]
    flow = scp.AssociationProvider(exchange, provider).serve()
    next(flow)
    if at == "in a handler":
        exchange.receive(message(store_command(), b"data", 3))
        (event,) = exchange.events()
        flow.send(event)
        assert len(list(tmp_path.iterdir())) == 1
    flow.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("field", [0x0020, 0x0010, 0x0021], ids=["find", "get", "move"])
def test_the_flow_can_be_closed_in_the_middle_of_a_long_operation(field, steps):
    """The driver lets go of a flow when its connection breaks; the user's generator is closed with it."""
    provider, closed = scp.Provider(destinations={"ANYWHERE": Entity("ANYWHERE", "192.0.2.1", 104)}), []

    def matches(request):
        try:
            while True:
                yield b"data"
        finally:
            closed.append(True)

    provider.connect = None  # what a listener has, and is not come to here
    for register in (provider.on_find, provider.on_get, provider.on_move):
        register("STUDY_ROOT")(matches)
    model = query_models.model_uid("STUDY_ROOT", {0x20: "find", 0x10: "get", 0x21: "move"}[field])
    exchange = pair((ProposedContext(model, (IMPLICIT,)),), provider.policy())[1]
    flow = scp.AssociationProvider(exchange, provider).serve()
    next(flow)
    asked = {"affected_sop_instance_uid": None, "affected_sop_class_uid": model, "move_destination": "ANYWHERE"}
    exchange.receive(message(store_command(command_field=field, **asked), b"keys", 1))
    (event,) = exchange.events()
    item = flow.send(event)
    for _ in range(steps):
        try:
            answer = item.function(*item.arguments) if isinstance(item, Call) else None
        except Exception as error:  # of a C-GET, what is given is opened at once
            item = flow.throw(error)
        else:
            item = flow.send(answer)
    del item
    flow.close()
    gc.collect()
    assert closed == [True] * (steps > 1)


def test_a_handler_that_outlives_its_association_answers_nobody():
    served = Served(storing(lambda request: served.exchange.receive(Abort(0, 0).encode()) or Status.SUCCESS))
    assert served.take(message(store_command(), b"data", 3)) == []
    assert served.exchange.closed


@pytest.mark.parametrize("durable", [False, True])
def test_a_durable_store_is_confirmed_before_it_is_answered(tmp_path, durable, monkeypatch):
    confirmed = []
    monkeypatch.setattr(os, "fsync", confirmed.append)
    provider = scp.Provider()

    @provider.on_store(spool=tmp_path, durable=durable)
    def keep(request):
        request.file.commit(tmp_path / "kept.dcm")

    assert Served(provider).store().status == 0
    assert len(confirmed) == 2 * durable


def test_a_disk_that_does_not_confirm_is_no_success(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    provider = scp.Provider()
    provider.on_store(spool=tmp_path, durable=True)(lambda request: request.file.commit(tmp_path / "kept.dcm"))
    assert Status(Served(provider).store().status, service="C-STORE").is_failure
    assert list(tmp_path.iterdir()) == []
