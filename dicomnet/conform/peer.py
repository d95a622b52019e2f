"""One TCP connection to the peer under test: send anything, and say in words what came back, each with a deadline."""

from __future__ import annotations

import contextlib
import enum
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic

from . import wire

_NO_PLACE = (2, 3)  # rejected-transient by the provider, presentation related
_LONGEST = 1 << 24  # bytes of a PDU to wait for; no answer needs more


class Full(Exception):
    """The peer has no place for another association now: that says nothing about the one that was asked for."""


class Kind(enum.Enum):
    """What an answer can be."""

    REQUEST = "A-ASSOCIATE-RQ"
    ACCEPT = "A-ASSOCIATE-AC"
    REJECT = "A-ASSOCIATE-RJ"
    DATA = "P-DATA-TF"
    RELEASE_RQ = "A-RELEASE-RQ"
    RELEASE_RP = "A-RELEASE-RP"
    ABORT = "A-ABORT"
    CLOSED = "connection closed"
    RESET = "connection reset"
    SILENCE = "silence"
    NOISE = "no PDU"


_KINDS = (None, *list(Kind)[:7])


@dataclass(frozen=True, slots=True)
class Answer:
    """The next thing that the peer said, or how it said nothing."""

    kind: Kind
    body: bytes = b""
    header: bytes = b""

    @property
    def ended(self) -> bool:
        """Whether the connection is over."""
        return self.kind in (Kind.CLOSED, Kind.RESET)

    @property
    def codes(self) -> tuple[int, ...]:
        """Result, source and reason of a rejection; source and reason of an abort."""
        return tuple(self.body[1:4] if self.kind is Kind.REJECT else self.body[2:4])

    @property
    def accept(self) -> wire.Associate:
        """The A-ASSOCIATE-AC. Raises `wire.Unreadable`."""
        return wire.read_associate(self.body)

    def __str__(self) -> str:
        if self.kind in (Kind.REJECT, Kind.ABORT):
            return f"{self.kind.value} {'/'.join(map(str, self.codes))}"
        if self.kind is Kind.NOISE:
            return f"bytes that are no PDU: {(self.header + self.body)[:8].hex(' ')}"
        return str(self.kind.value)


@dataclass(frozen=True, slots=True)
class Reply:
    """A DIMSE message from the peer."""

    context_id: int
    command: Mapping[int, bytes]
    command_bytes: bytes
    data: bytes
    pdu_lengths: tuple[int, ...]
    fragments: tuple[wire.Pdv, ...] = field(repr=False)

    def number(self, element: int) -> int | None:
        """The value of an unsigned short, None where the element is missing."""
        value = self.command.get(element)
        return None if value is None else wire.number(value)

    @property
    def status(self) -> int:
        """The status; -1 where it is missing."""
        found = self.number(wire.STATUS)
        return -1 if found is None else found

    def __str__(self) -> str:
        what = self.number(wire.FIELD)
        name = _MESSAGES.get(what or 0, f"message {what or 0:04X}H")
        return f"{name} with status {self.status:04X}" if self.status >= 0 else name


_MESSAGES = {
    wire.ECHO_RQ: "C-ECHO-RQ",
    wire.ECHO_RSP: "C-ECHO-RSP",
    wire.STORE_RQ: "C-STORE-RQ",
    wire.STORE_RSP: "C-STORE-RSP",
}

Seen = Answer | Reply


class Connection:
    """A connected socket, which it owns; nothing here raises for what the peer does, but for `Full`.

    Args:
        sock: connected.
        timeout: seconds that each answer may take.
        settle: seconds after which silence is taken for an answer where silence is right.
    """

    def __init__(self, sock: socket.socket, timeout: float, settle: float) -> None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._buffer = bytearray()
        self.timeout = timeout
        self.settle = settle

    def send(self, data: bytes) -> bool:
        """Send; False where the peer has closed or does not read. What it answered can still be read."""
        self._sock.settimeout(self.timeout)
        try:
            self._sock.sendall(data)
        except OSError:
            return False
        return True

    def answer(self, timeout: float | None = None) -> Answer:
        """The next PDU of the peer, or what there is instead of one.

        Raises:
            Full: an A-ASSOCIATE-RJ for congestion, or for a limit of associations (PS3.8 Section 9.3.4).
        """
        deadline = monotonic() + (self.timeout if timeout is None else timeout)
        missing = self._fill(6, deadline)
        if missing is not None:
            return self._short(missing)
        kind, length = self._buffer[0], struct.unpack_from(">I", self._buffer, 2)[0]
        if not 1 <= kind <= 7 or length > _LONGEST:
            return self._take(Kind.NOISE, len(self._buffer) - 6)
        missing = self._fill(6 + length, deadline)
        if missing is not None:
            return self._short(missing)
        found = _KINDS[kind]
        assert found is not None
        answer = self._take(found, length)
        if found is Kind.REJECT and answer.codes[:2] == _NO_PLACE:
            raise Full(str(answer))
        return answer

    def quiet(self) -> Answer:
        """What comes in the short time in which nothing should; the peer's close is taken for nothing."""
        return self.answer(self.settle)

    def rest(self) -> list[Answer]:
        """Everything up to the end of the connection, or until it is quiet; without that end."""
        found = []
        while (answer := self.quiet()).kind not in (Kind.CLOSED, Kind.RESET, Kind.SILENCE):
            found.append(answer)
        return found

    def message(self) -> Seen:
        """The next DIMSE message; another answer where one comes instead."""
        fragments: list[wire.Pdv] = []
        lengths: list[int] = []
        while True:
            answer = self.answer()
            if answer.kind is not Kind.DATA:
                return answer
            lengths.append(len(answer.body))
            try:
                fragments += wire.read_pdvs(answer.body)
                if reply := _join(fragments, lengths):
                    return reply
            except wire.Unreadable:
                return Answer(Kind.NOISE, answer.body, answer.header)

    def end_sending(self) -> None:
        """Half-close: the peer sees the end of the stream and can still answer."""
        with contextlib.suppress(OSError):
            # Below TLS, where there is any: its own shutdown would end the reading, too.
            socket.socket.shutdown(self._sock, socket.SHUT_WR)

    def reset(self) -> None:
        """Close with a reset, as a host does that has forgotten the connection."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _fill(self, size: int, deadline: float) -> Kind | None:
        """Read until ``size`` bytes are there; why they are not, if so."""
        while len(self._buffer) < size:
            left = deadline - monotonic()
            if left <= 0:
                return Kind.SILENCE
            self._sock.settimeout(left)
            try:
                data = self._sock.recv(65536)
            except TimeoutError:
                return Kind.SILENCE
            except OSError:
                return Kind.RESET
            if not data:
                return Kind.CLOSED
            self._buffer += data
        return None

    def _short(self, why: Kind) -> Answer:
        """Not even a PDU: the bytes that did come are more telling than how they ended."""
        return self._take(Kind.NOISE, 0) if self._buffer else Answer(why)

    def _take(self, kind: Kind, length: int) -> Answer:
        header, body = bytes(self._buffer[:6]), bytes(self._buffer[6 : 6 + length])
        del self._buffer[: 6 + length]
        return Answer(kind, body, header)


def _join(fragments: list[wire.Pdv], lengths: list[int]) -> Reply | None:
    """The message that the fragments make, None where some are still to come."""
    command = b"".join(part.data for part in fragments if part.control & wire.COMMAND)
    if not any(part.control & 3 == 3 for part in fragments):
        return None
    elements = wire.read_command(command)
    has_data = wire.number(elements.get(wire.DATA_SET_TYPE, b"")) != wire.NO_DATA_SET
    if has_data and not any(part.control & 3 == wire.LAST for part in fragments):
        return None
    data = b"".join(part.data for part in fragments if not part.control & wire.COMMAND)
    return Reply(fragments[0].context_id, elements, command, data, tuple(lengths), tuple(fragments))
