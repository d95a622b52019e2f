"""The user's half of the services, driven without I/O against a peer that the test plays, or a provider of ours."""

from typing import Any

import pytest
from wiring import CONTEXTS, CT, EXPLICIT, POLICY, Drive, aborts, fragments, message, pair, run, sent, transfer

from dicomnet import uids
from dicomnet._pdu import Abort, AssociateRJ, ReleaseRP, ReleaseRQ
from dicomnet.config import Limits, Timeouts
from dicomnet.errors import (
    AssociationAborted,
    AssociationError,
    AssociationRejected,
    ConnectionFailed,
    DeadlineExceeded,
    InputFileError,
    InputProblem,
    InvalidArgument,
    NoAcceptedContext,
    RemoteProtocolError,
)
from dicomnet.protocol import events
from dicomnet.protocol.exchange import Exchange
from dicomnet.protocol.messages import CommandField, Priority
from dicomnet.protocol.negotiation import AcceptancePolicy
from dicomnet.protocol.states import State
from dicomnet.services import scp, scu
from dicomnet.status import Status
from dicomnet.wire.command_set import Command, Message

ONLY_ECHO = AcceptancePolicy(abstract_syntaxes={uids.VERIFICATION: ()})


class Instance:
    """A source of any bytes; it knows how much of it was asked for, and which ones are open."""

    opened: set[Any] = set()

    def __init__(self, data: bytes = b"data", number: int = 1, sop_class: str = CT, syntax: str = EXPLICIT) -> None:
        self.data, self.name, self.size = data, f"instance {number}", len(data)
        self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax_uid = sop_class, f"1.2.3.{number}", syntax
        self.asked = 0

    def chunks(self, unit):
        for at in range(0, self.size, unit):
            assert self in Instance.opened, "a source that is closed is not read"
            self.asked += 1
            yield memoryview(self.data)[at : at + unit]

    def close(self):
        Instance.opened.discard(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return f"{self.sop_class_uid} in {self.transfer_syntax_uid}"


@pytest.fixture(autouse=True)
def closed_in_the_end():
    Instance.opened = set()
    yield
    assert Instance.opened == set()


def answered(exchange: Exchange, drive: Drive, status: int = 0, context_id: int = 1, **elements) -> None:
    """The peer answers the last request; the flow gets to know."""
    request = next(reversed(exchange.pending.values()))
    elements = {
        "command_field": request.command.command_field | 0x8000,
        "message_id_being_responded_to": request.command.message_id,
        "status": status,
    } | elements
    exchange.receive(message(Command(**elements), context_id=context_id))
    drive.give(*exchange.events())


# ---- associations --------------------------------------------------------------------------------------------------


def proposed() -> tuple[Exchange, Exchange]:
    """Two exchanges with the request of one on its way."""
    user = Exchange.requestor(calling="USER", called="PROVIDER", contexts=CONTEXTS)
    provider = Exchange.acceptor()
    user.tick(0.0)
    transfer(user, provider)
    provider.events()
    return user, provider


def test_associate():
    user, provider = proposed()
    drive = Drive(scu.associate(user))
    provider.evaluate(POLICY)
    transfer(provider, user)
    drive.give(*user.events())
    assert drive.done
    assert user.established


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda user: user.receive(AssociateRJ(2, 3, 2).encode()), AssociationRejected),
        (lambda user: user.receive(Abort(2, 0).encode()), AssociationAborted),
        (lambda user: user.receive(b"HTTP/1.1 400 Bad Request"), RemoteProtocolError),
        (lambda user: user.receive_eof(), ConnectionFailed),
        (lambda user: user.tick(30.0), DeadlineExceeded),
    ],
)
def test_an_association_that_does_not_come_about(end, error):
    user, _ = proposed()
    drive = Drive(scu.associate(user))
    end(user)
    with pytest.raises(error):
        drive.give(*user.events())


def test_release():
    user, provider = pair()
    drive = Drive(scu.release(user))
    assert sent(user) == [ReleaseRQ()]
    provider.receive(ReleaseRQ().encode())
    provider.release_response()
    transfer(provider, user)
    drive.give(*user.events())
    assert drive.done
    assert user.closed


@pytest.mark.parametrize("together", [True, False])
def test_a_collision_of_releases_is_resolved_by_both_halves(together):
    """The requestor answers first, the acceptor once it has been answered (PS3.8 Section 7.2.2)."""
    user, provider = pair()
    drives = {exchange: Drive(scu.release(exchange)) for exchange in (user, provider)}
    waiting = {exchange: b"".join(exchange.outgoing()) for exchange in (user, provider)}
    for _ in range(4):
        for one, other in ((user, provider), (provider, user)):
            data, waiting[one] = waiting[one], b""
            if data and not other.closed:
                other.receive(data)
            if not together or not waiting[other]:
                drives[other].give(*other.events())
            waiting[other] += b"".join(other.outgoing())
    assert drives[user].done
    assert drives[provider].done
    assert user.closed
    assert provider.state is State.STA13_AWAIT_TRANSPORT_CLOSE


def test_the_acceptor_gets_both_halves_of_a_collision_in_one_read():
    _, provider = pair()
    drive = Drive(scu.release(provider))
    assert sent(provider) == [ReleaseRQ()]
    provider.receive(ReleaseRQ().encode() + ReleaseRP().encode())
    drive.give(*provider.events())
    assert drive.done
    assert sent(provider) == [ReleaseRP()]


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda user: user.receive(Abort(0, 0).encode()), AssociationAborted),
        (lambda user: user.receive_eof(), ConnectionFailed),
        (lambda user: user.tick(15.0), DeadlineExceeded),
        (lambda user: user.receive(ReleaseRQ().encode() + Abort(0, 0).encode()), AssociationAborted),
    ],
)
def test_a_release_that_is_not_agreed_to(end, error):
    user, _ = pair()
    drive = Drive(scu.release(user))
    end(user)
    with pytest.raises(error):
        drive.give(*user.events())


def test_what_still_comes_before_the_release_is_confirmed_is_let_go():
    user, provider = pair()
    drive = Drive(scu.release(user))
    sent(user)
    user.receive(message(Command(command_field=0x0030, message_id=1)))
    drive.give(*user.events())
    assert not drive.done
    provider.receive(ReleaseRQ().encode())
    provider.release_response()
    transfer(provider, user)
    drive.give(*user.events())
    assert drive.done


# ---- C-ECHO ----------------------------------------------------------------------------------------------------------


def test_echo():
    user, _ = pair()
    drive = Drive(scu.echo(user))
    (pdv,) = fragments(sent(user))
    assert pdv.data == Command(affected_sop_class_uid=uids.VERIFICATION, command_field=0x0030, message_id=1).encode()
    answered(user, drive, error_comment="just so", offending_element=(0x00100010,))
    assert drive.value == Status.SUCCESS
    assert (drive.value.service, drive.value.comment, drive.value.offending) == ("C-ECHO", "just so", (0x00100010,))


@pytest.mark.parametrize("status", [0x0122, 0x0210, 0x0211, 0x0212, 0xC123])
def test_an_echo_that_is_refused_is_a_status_and_no_error(status):
    user, _ = pair()
    drive = Drive(scu.echo(user))
    sent(user)
    answered(user, drive, status)
    assert drive.value == status
    assert drive.value.is_failure


def test_an_echo_without_a_context():
    user, _ = pair(policy=AcceptancePolicy(abstract_syntaxes={CT: ()}))
    with pytest.raises(NoAcceptedContext) as caught:
        Drive(scu.echo(user))
    assert caught.value.abstract_syntax == uids.VERIFICATION
    assert user.established


ENDS = [
    pytest.param(lambda user: user.receive(Abort(0, 0).encode()), AssociationAborted, id="abort"),
    pytest.param(lambda user: user.receive_eof(), ConnectionFailed, id="lost"),
    pytest.param(lambda user: user.receive(b"\0"), RemoteProtocolError, id="noise"),
    pytest.param(lambda user: user.receive(ReleaseRQ().encode()), AssociationError, id="release"),
    pytest.param(lambda user: user.tick(60.0), DeadlineExceeded, id="silence"),
    pytest.param(
        lambda user: user.receive(message(Command(command_field=0x8030, status=0))), RemoteProtocolError, id="nonsense"
    ),
]


@pytest.mark.parametrize(("end", "error"), ENDS)
def test_whatever_ends_the_association_ends_the_wait_for_a_response(end, error):
    user, _ = pair(timeouts=Timeouts())
    drive = Drive(scu.echo(user))
    sent(user)
    end(user)
    with pytest.raises(error):
        drive.give(*user.events())
    assert not user.established


# ---- C-STORE ---------------------------------------------------------------------------------------------------------


def test_a_store():
    user, _ = pair()
    out = []
    open_source = opened({"one": Instance(b"1234")})
    flow = scu.store_many(user, ["one"], open_source, Clock(), Priority.HIGH, ("MOVER", 7))
    drive = Drive(flow, lambda: out.extend(sent(user)))
    command, data = fragments(out)
    assert command.context_id == data.context_id == 3
    assert (
        command.data
        == Command(
            affected_sop_class_uid=CT,
            command_field=CommandField.C_STORE_RQ,
            message_id=1,
            priority=Priority.HIGH,
            command_data_set_type=1,
            affected_sop_instance_uid="1.2.3.1",
            move_originator_ae_title="MOVER",
            move_originator_message_id=7,
        ).encode()
    )
    assert data.data == b"1234"
    answered(user, drive, 0xB007)
    ((status,),) = ([result.status for result in drive.results],)
    assert status == 0xB007
    assert status.is_warning
    assert status.service == "C-STORE"


@pytest.mark.parametrize(
    "given", [Instance(syntax=uids.JPEG_BASELINE_8_BIT), Instance(sop_class=uids.MR_IMAGE_STORAGE)], ids=repr
)
def test_a_store_without_a_context_sends_nothing(given):
    user, _ = pair()
    drive = Drive(scu.store_many(user, ["one"], opened({"one": given}), Clock()))
    (result,) = drive.results
    assert drive.done
    assert isinstance(result.error, NoAcceptedContext)
    assert result.error.abstract_syntax == given.sop_class_uid
    assert result.error.transfer_syntaxes == (given.transfer_syntax_uid,)
    assert user.outgoing() == []


class Clock:
    """Each look at it takes a second."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        self.now += 1.0
        return self.now


def opened(sources: dict[object, object]):
    """Opens what is given by name."""

    def open_source(given):
        source = sources[given]
        if isinstance(source, Exception):
            raise source
        Instance.opened.add(source)
        assert len(Instance.opened) <= 2, "the one that is stored, and the next"
        return source

    return open_source


def provider_of(*statuses: object) -> tuple[scp.Provider, list[bytes]]:
    """A provider that answers with these statuses in turn, and what it got."""
    provider, got = scp.Provider(), []
    turn = iter(statuses)

    @provider.on_store()
    def keep(request):
        got.append(request.data)
        return next(turn, None)

    return provider, got


def test_store_many_gives_a_result_for_each_and_goes_on():
    provider, got = provider_of(None, Status(0xA700, comment="full"), Status(0xB000))
    user, other = pair(policy=provider.policy())
    missing = InputFileError("cannot be read", problem=InputProblem.CANNOT_READ, path="missing")
    sources = {
        "first": Instance(b"1111", 1),
        "missing": missing,
        "refused": Instance(b"2222", 2),
        "wrong": InvalidArgument("no"),
        "no context": Instance(b"xxxx", 3, syntax=uids.JPEG_BASELINE_8_BIT),
        "last": Instance(b"3333", 4),
    }
    open_source = opened(sources)
    flow = scu.store_many(user, list(sources), open_source, Clock())
    drive = run(user, flow, other, Drive(scp.AssociationProvider(other, provider).serve()))
    assert [result.source for result in drive.results] == list(sources)
    first, unread, refused, wrong, without, last = drive.results
    assert (first.ok, first.status, first.error, first.seconds, first.size) == (True, 0, None, 1.0, 4)
    assert (first.sop_class_uid, first.sop_instance_uid, first.transfer_syntax_uid) == (CT, "1.2.3.1", EXPLICIT)
    assert (refused.ok, refused.status, refused.status.comment) == (False, 0xA700, "full")
    assert (last.ok, last.status) == (True, 0xB000)
    assert unread.error is missing
    assert isinstance(wrong.error, InvalidArgument)
    assert isinstance(without.error, NoAcceptedContext)
    assert not any(result.ok or result.status is not None for result in (unread, wrong, without))
    assert got == [b"1111", b"2222", b"3333"]


@pytest.mark.parametrize(("end", "error"), ENDS)
def test_store_many_ends_with_its_association(end, error):
    user, _ = pair(timeouts=Timeouts())
    open_source = opened({"one": Instance(), "two": Instance()})
    drive = Drive(scu.store_many(user, ["one", "two"], open_source, Clock()), lambda: sent(user))
    end(user)
    with pytest.raises(error):
        drive.give(*user.events())
    assert drive.results == []


def test_of_many_under_way_two_are_open_at_the_most():
    """The sources say so themselves, see `opened`; none is given out or read once it is closed."""
    provider, got = provider_of()
    user, other = pair(policy=provider.policy(), window=(8, 1))
    sources = {str(number): Instance(bytes([number]) * 50_000, number) for number in range(30)}
    flow = scu.store_many(user, list(sources), opened(sources), Clock(), window=8)
    drive = run(user, flow, other, Drive(scp.AssociationProvider(other, provider).serve()))
    assert [result.ok for result in drive.results] == [True] * 30
    assert got == [source.data for source in sources.values()]


def test_leaving_the_loop_closes_the_sources():
    user, _ = pair()
    open_source = opened({"one": Instance(), "two": Instance(number=2)})
    drive = Drive(scu.store_many(user, ["one", "two"], open_source, Clock()), lambda: sent(user))
    assert [str(one.sop_instance_uid) for one in Instance.opened] == ["1.2.3.2"]  # the first is out, and closed
    drive.flow.close()
    assert Instance.opened == set()


def test_an_early_refusal_is_a_result_and_the_next_instance_goes_out():
    user, peer = pair(limits=Limits(outgoing_pdu=1012))
    first = Instance(bytes(100_000))
    open_source = opened({"one": first, "two": Instance(b"next")})

    def write():
        """The refusal comes while the fifth piece is on its way."""
        if not first.asked:
            for _ in range(5):
                peer.receive(b"".join(user.outgoing()))
            refusal = {"command_field": 0x8001, "message_id_being_responded_to": 1, "status": 0xA700}
            user.receive(message(Command(**refusal), context_id=3))
        transfer(user, peer)

    drive = Drive(scu.store_many(user, ["one", "two"], open_source, Clock()), write)
    drive.give(*user.events())
    assert [result.status for result in drive.results] == [0xA700]
    assert first.asked == 5
    refused, following = peer.events()
    assert refused.message.data.size == 5000 + 2
    assert following.message.data.getvalue() == b"next"
    answered(user, drive)
    assert drive.done
    assert [result.ok for result in drive.results] == [False, True]
    assert aborts(user) == []


@pytest.mark.parametrize(
    ("status", "error", "ok"),
    [
        (Status(0), None, True),
        (Status(0xB000), None, True),
        (Status(0xA700), None, False),
        (Status(0xFE00), None, False),
        (None, InvalidArgument("no"), False),
    ],
)
def test_a_result_is_ok_where_the_peer_has_it(status, error, ok):
    assert scu.StoreResult("x", status, error).ok is ok


# ---- helpers ---------------------------------------------------------------------------------------------------------


def test_the_data_of_a_response_is_there_or_an_error():
    command = Command(command_field=0x8020, status=0xFF00)
    assert scu.data_of(Message(1, command)) == b""
    with pytest.raises(RemoteProtocolError, match="too long"):
        scu.data_of(Message(1, command, None, OSError("too long")))


def test_events_that_nobody_asked_for_do_not_end_an_association():
    user, _ = pair()
    user.raise_for(events.ReleaseConfirmation())
    assert user.error_of(events.ReleaseIndication()) is None
