"""The port that takes HL7 messages: what its senders see of each other, of errors, and of its end."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest
from rig import until

from dicomnet.archive import mllp
from dicomnet.archive.mllp import MllpReader, MllpServer, framed
from dicomnet.net.mllp import MOST_BYTES

PATIENCE = 30


def done(answer: bytes) -> Future[bytes]:
    future: Future[bytes] = Future()
    future.set_result(answer)
    return future


def echoed(message: bytes) -> Future[bytes]:
    return done(b"to " + message)


@contextmanager
def serving(handler: Callable[[bytes], Future[bytes]] = echoed) -> Iterator[MllpServer]:
    with MllpServer(handler, port=0) as server:
        yield server


def connected(server: MllpServer) -> socket.socket:
    return socket.create_connection(server.address, PATIENCE)


def answer(connection: socket.socket) -> bytes | None:
    """The next answer; None at the end of the connection."""
    reader = MllpReader()
    while data := connection.recv(1):
        for found in reader.feed(data):
            return found
    return None


def logged(caplog: pytest.LogCaptureFixture, what: str) -> list[logging.LogRecord]:
    """The records that say it, once there are any."""

    def found() -> list[logging.LogRecord]:
        return [one for one in caplog.records if what in one.getMessage()]

    until(found, lambda: caplog.text)
    return found()


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dicomnet")


def test_one_sender_too_many_is_refused_until_another_goes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mllp, "MOST_CONNECTIONS", 1)
    with serving() as server:
        with connected(server) as first:
            first.sendall(framed(b"one"))
            assert answer(first) == b"to one"
            with connected(server) as second:
                assert answer(second) is None
            logged(caplog, "is refused: 1 are connected")
            first.sendall(framed(b"two"))
            assert answer(first) == b"to two"

        def is_taken() -> bool:
            with connected(server) as third:
                try:
                    third.sendall(framed(b"three"))
                    return answer(third) == b"to three"
                except OSError:  # refused while it was sending
                    return False

        until(is_taken)


def test_a_message_without_an_end_ends_its_connection_alone(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as server, connected(server) as other:
        with connected(server) as sender:
            try:
                sender.sendall(b"\x0b" + b"x" * (MOST_BYTES + 1))
                assert answer(sender) is None
            except OSError:  # it ends with bytes on their way
                pass
        logged(caplog, f"ends: a message of more than {MOST_BYTES} bytes")
        other.sendall(framed(b"one"))
        assert answer(other) == b"to one"


def test_an_answer_that_fails_ends_its_connection_alone_and_is_not_quoted(caplog: pytest.LogCaptureFixture) -> None:
    def handler(message: bytes) -> Future[bytes]:
        if message == b"bad":
            failed: Future[bytes] = Future()
            failed.set_exception(LookupError("Doe^John"))
            return failed
        return echoed(message)

    with serving(handler) as server, connected(server) as other:
        with connected(server) as sender:
            sender.sendall(framed(b"bad"))
            assert answer(sender) is None
        [record] = logged(caplog, "the connection of the HL7 sender at 127.0.0.1 ends")
        assert record.levelno == logging.ERROR
        assert record.exc_info is not None
        assert "Doe" not in caplog.text
        other.sendall(framed(b"one"))
        assert answer(other) == b"to one"


def test_an_answer_that_takes_too_long(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(mllp, "ANSWER_SECONDS", 0.01)
    with serving(lambda _: Future()) as server, connected(server) as sender:
        sender.sendall(framed(b"one"))
        assert answer(sender) is None
        logged(caplog, "the connection of the HL7 sender at 127.0.0.1 ends: no answer in 0.01 s")


def test_a_sender_that_says_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(mllp, "IDLE_SECONDS", 0.01)
    with serving() as server, connected(server) as sender:
        assert answer(sender) is None
        logged(caplog, "the connection of the HL7 sender at 127.0.0.1 ends: timed out")


def test_at_its_end_who_waits_is_answered_and_who_is_gone_hinders_nothing() -> None:
    taken: dict[bytes, Future[bytes]] = {}

    def handler(message: bytes) -> Future[bytes]:
        taken[message] = Future()
        return taken[message]

    with serving(handler) as server:
        waiting, gone, silent = connected(server), connected(server), connected(server)
        waiting.sendall(framed(b"waits"))
        gone.sendall(framed(b"goes"))
        until(lambda: len(taken) == 2)
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()  # by a reset
        until(lambda: any(is_reset(one) for one in list(server._server.open)))
        until(lambda: len(server._server.open) == 3)
    with waiting, silent:
        assert answer(silent) is None
        for future in taken.values():
            future.set_result(b"kept")
        assert answer(waiting) == b"kept"
        assert answer(waiting) is None


def is_reset(connection: socket.socket) -> bool:
    try:
        connection.getpeername()
    except OSError:
        return True
    return False
