"""Odd providers and users: whatever they say, each case of the conformance suite ends with a verdict in words."""

from __future__ import annotations

import shlex
import socket
import struct
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from io import StringIO

import pytest
from test_conform import ACCEPT, SUCCESS, accept_everything, case, fake

from dicomnet.cli.app import run
from dicomnet.cli.exits import Exit
from dicomnet.conform import program as program_module
from dicomnet.conform import wire
from dicomnet.conform.case import Departure, Unavailable
from dicomnet.conform.cases import store
from dicomnet.conform.catalog import PROVIDER_CASES
from dicomnet.conform.listening import USER_CASES, Program, UserRunner
from dicomnet.conform.peer import Connection, Kind
from dicomnet.conform.runner import Outcome, Result, Runner, run_case
from dicomnet.conform.session import Facts, Session, Target, has_room, probe, user_items, works

THREADS = 16
#: What there is to say to an A-ASSOCIATE-RQ.
UNREADABLE = wire.pdu(wire.ASSOCIATE_AC, ACCEPT[6:74] + b"\x10\x00\x00\xff")
REFUSING = wire.associate(
    [wire.application(), *(wire.context_result(one, 3, None) for one in (1, 3, 5)),
     wire.user_information(*user_items())],
    called="ANY-SCP", calling="CONFORM", kind=wire.ASSOCIATE_AC,
)  # fmt: skip
STRANGE = wire.associate(
    (
        wire.application("1.2.3"), wire.context_result(1, 0, "1.2.9"), wire.context_result(3), wire.context_result(5),
        wire.user_information(*user_items(max_length=0), wire.window(9, 9), wire.role(wire.VERIFICATION, 1, 1)),
    ),
    called="ANY-SCP", calling="CONFORM", kind=wire.ASSOCIATE_AC,
)  # fmt: skip
#: What there is to say to a C-ECHO-RQ.
BARE = wire.data_tf(wire.pdv(1, 3, wire.command_set({0x0100: wire.us(0x8030)})))
TORN = wire.pdu(wire.DATA_TF, struct.pack(">IBB", 99, 1, 3))


def answering(accept: bytes, reply: bytes = SUCCESS, release: bytes | None = None) -> Callable[[bytes], bytes | None]:
    def behave(data: bytes) -> bytes | None:
        return {4: reply, 5: wire.release_rp() if release is None else release}.get(data[0], accept)

    return behave


@pytest.mark.deadline(240)
@pytest.mark.parametrize("behave", [
    answering(wire.reject(1, 1, 1)), answering(UNREADABLE), answering(REFUSING), answering(STRANGE),
    answering(ACCEPT, BARE), answering(ACCEPT, TORN),
], ids=["rejects", "unreadable", "refuses", "strange", "bare", "torn"])  # fmt: skip
def test_each_case_has_a_verdict(behave, monkeypatch):
    monkeypatch.setattr("dicomnet.conform.session._PATIENCE", 0.2)
    facts = Facts(stores=True, explicit=True)
    with fake(behave) as there, ThreadPoolExecutor(THREADS) as pool:
        target = replace(there, timeout=0.2, artim=0.2)
        found = list(pool.map(lambda one: run_case(one, target, facts), PROVIDER_CASES))
    assert all(one.observed for one in found)
    assert any(one.outcome is Outcome.FAILED for one in found)


def test_what_a_provider_does_not_do_is_skipped_or_not_run():
    with fake(accept_everything) as target:
        found = [run_case(one, target, Facts(stores=False)) for one in store.CASES]
    skipped = [one for one in found if one.outcome is Outcome.SKIPPED]
    assert len(skipped) > len(found) // 2
    assert {one.observed for one in skipped} <= {
        "no CT images are stored here", "no CT images in explicit VR little endian are stored here"
    }  # fmt: skip


def test_how_many_associations_there_is_room_for():
    for places, room in ((100, True), (2, False)):
        with fake(accept_everything, places=places) as target:
            assert has_room(target) is room


def test_a_probe_wants_verification():
    with fake(answering(REFUSING)) as target, pytest.raises(Unavailable, match="of verification is refused"):
        probe(target)


def test_one_that_is_busy_at_first_gets_a_second_chance():
    """It closes the first connection at once, and serves from then on."""
    seen = []

    def behave(data: bytes) -> bytes | None:
        seen.append(data)
        return accept_everything(data) if len(seen) > 1 else wire.reject(2, 3, 2)

    with fake(behave) as target:
        [result] = Runner(target, Facts(), jobs=1, recovery=30).run([case("PS3.8/7.2-1")])
    assert (result.outcome, result.observed) == (Outcome.PASSED, "A-RELEASE-RP")


# ---- users -----------------------------------------------------------------------------------------------------------

ECHO = wire.data_tf(wire.pdv(1, 3, wire.command_set(wire.echo_rq())))
SESSION = Session(Target("127.0.0.1", 1))
REQUEST = SESSION.request()


def ask(sock: socket.socket, request: bytes, *says: bytes) -> None:
    """Say something after each answer, and hear the last one out."""
    sock.sendall(request)
    for one in says:
        if not sock.recv(1 << 16):
            return
        sock.sendall(one)
    while sock.recv(1 << 16):
        pass


#: What a user does on a connection.
USERS: dict[str, tuple[bytes, ...]] = {
    "well": (REQUEST, ECHO, wire.release_rq()),
    "one request after the other": (REQUEST, ECHO * 5, wire.release_rq()),
    "gives up": (REQUEST, wire.abort(0, 0)),
    "wants the one that is refused": (
        SESSION.request(contexts=(wire.context(1), wire.context(3))), ECHO, ECHO, wire.release_rq()
    ),
    "all contexts": (
        SESSION.request(contexts=[wire.context(one) for one in range(1, 256, 2)]), ECHO, wire.release_rq()
    ),
    "reserved bytes": (REQUEST[:1] + b"\1" + REQUEST[2:], ECHO, wire.release_rq()),
    "odd titles": (SESSION.request(called=b"A\\B", calling=b" " * 16), ECHO, wire.release_rq()),
    "no request": (REQUEST, wire.release_rq()),
    "unreadable": (wire.pdu(wire.ASSOCIATE_RQ, REQUEST[6:74] + b"\x10\0\0\xff"),),
}  # fmt: skip


@pytest.mark.deadline(240)
@pytest.mark.parametrize("name", USERS)
def test_each_case_of_a_user_has_a_verdict(name):
    ended = threading.Event()

    def connect_again_and_again(address: tuple[str, int]) -> None:
        while not ended.is_set():
            with suppress(OSError), socket.create_connection(address, 20) as sock:
                ask(sock, *USERS[name])

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        user = pool.submit(connect_again_and_again, listening.getsockname())
        try:
            found = UserRunner(listening, timeout=0.1, wait=20).run(USER_CASES)
        finally:
            ended.set()
            listening.shutdown(socket.SHUT_RDWR)
        user.result(30)
    assert all(one.observed for one in found)
    assert any(one.outcome is not Outcome.PASSED for one in found)  # for want of time, at least: none has much


@pytest.mark.parametrize(("seconds", "words"), [
    (0.05, "the program does not end within 0.05 s"), (30, "the program was killed by signal 9"),
])  # fmt: skip
def test_a_program_that_does_not_end_as_it_should(seconds, words):
    """It connects, is served, and then hangs, or dies."""
    then = "signal.pause()" if seconds < 1 else "os.kill(os.getpid(), 9)"
    code = (
        "import os, signal, socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2]))); "
        f"s.sendall({REQUEST!r}); s.recv(9999); s.sendall({ECHO!r}); s.recv(9999); "
        f"s.sendall({wire.release_rq()!r}); s.recv(9999); s.close(); {then}"
    )
    cases = [one for one in USER_CASES if one.id == "PS3.8/9.3.2-201"]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = shlex.join([sys.executable, "-c", code, "{host}", "{port}"])
        program = Program(command, listening.getsockname(), seconds)
        reported: list[Result] = []
        UserRunner(listening, timeout=20, wait=30, program=program, report=reported.append).run(cases)
    assert reported[-1].outcome is Outcome.FAILED
    assert words in reported[-1].observed


def test_who_never_comes_is_waited_for_once():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = UserRunner(listening, timeout=0.1, wait=0.05).run(USER_CASES)
    assert {one.outcome for one in found} == {Outcome.NOT_RUN}
    assert {one.observed for one in found} <= {
        "no user connects within 0.05 s", "no user connects", "no request was seen"
    }  # fmt: skip


# ---- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("read", "data", "words"), [
    (wire.number, b"\1", "an unsigned short of 1 bytes"),
    (wire.read_pdvs, b"", "without a presentation data value"),
    (wire.read_pdvs, b"\0\0\0", "3 bytes where a presentation data value"),
    (wire.read_pdvs, b"\0\0\0\1\1\3", "claims 1 bytes where 2 are left"),
    (wire.read_pdvs, b"\0\0\0\7\1\3ab", "claims 7 bytes where 4 are left"),
    (wire.read_command, b"\0\0\0\0", "4 bytes where a command element"),
    (wire.read_command, b"\0\0\0\1\2\0\0\0", "of 2 bytes where 0 are left"),
])  # fmt: skip
def test_what_cannot_be_read_is_said(read, data, words):
    with pytest.raises(wire.Unreadable, match=words):
        read(data)


def test_a_presentation_context_that_is_cut_off():
    body = wire.associate((wire.application(), b"\x21\0\0\2\1\0"), called="A", calling="B", kind=wire.ASSOCIATE_AC)
    with pytest.raises(wire.Unreadable, match="a presentation context item of 2 bytes"):
        _ = wire.read_associate(body[6:]).results


def test_an_answer_names_the_instance_that_was_stored():
    answer = wire.response(wire.store_rq("1.2.3", 7), 0xB000)
    assert (answer[wire.AFFECTED_INSTANCE], wire.number(answer[wire.STATUS])) == (b"1.2.3\0", 0xB000)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Connection(ours, 0.2, 0.05), theirs


def test_a_pdu_whose_rest_does_not_come(pair):
    connection, theirs = pair
    assert connection.answer(0.0).kind is Kind.SILENCE
    theirs.sendall(b"\4\0\0\0\0\x20abc")
    theirs.shutdown(socket.SHUT_WR)
    assert str(connection.answer()) == "bytes that are no PDU: 04 00 00 00 00 20"


def test_a_message_whose_data_set_comes_later(pair):
    connection, theirs = pair
    command = wire.command_set(wire.store_rq("1.2.3", 7))
    theirs.sendall(wire.data_tf(wire.pdv(3, 3, command)) + wire.data_tf(wire.pdv(3, 0, b"da"), wire.pdv(3, 2, b"ta")))
    reply = connection.message()
    assert (reply.command_bytes, reply.data) == (command, b"data")


@pytest.mark.parametrize(("behave", "words"), [
    (answering(REFUSING), "the presentation context of verification is refused"),
    (answering(UNREADABLE), "an A-ASSOCIATE-AC that cannot be read"),
    (answering(ACCEPT, wire.abort(2, 1)), "then to C-ECHO: A-ABORT 2/1"),
    (answering(ACCEPT, SUCCESS, wire.abort(2, 1)), "then to A-RELEASE-RQ: A-ABORT 2/1"),
    (answering(wire.reject(1, 1, 1)), "A-ASSOCIATE-RJ 1/1/1"),
])  # fmt: skip
def test_an_association_that_does_not_work(behave, words):
    with fake(behave) as target, Session(target) as session:
        connection = session.opened(session.request())
        answer = connection.answer()
        with pytest.raises(Departure, match=words):
            works(session, answer, connection)


def test_a_terminal_sees_how_far_it_is(monkeypatch):
    out = StringIO()
    out.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", out)
    progress = program_module._Progress(2, quiet=False)
    for outcome in (Outcome.PASSED, Outcome.FAILED):
        progress.step(Result(case("PS3.8/7.2-1"), outcome, "x"))
    progress.end()
    assert out.getvalue() == "\r1/2, 0 failed \r2/2, 1 failed \r\x1b[K"


def test_strict_wants_all_that_may_be(capsys):
    """What is no rule of the standard, but of a robust provider, fails the command if that is asked for."""
    with fake(answering(ACCEPT)) as target:
        words = [f"127.0.0.1:{target.port}", "-k", "PS3.8/9.3.2.2-?", "--timeout", "20s", "-q"]
        codes = [run(["conform", *words, *more]) for more in ((), ("--strict",))]
    capsys.readouterr()
    assert codes == [Exit.FAILURES, Exit.FAILURES]
