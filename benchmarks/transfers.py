"""When a transfer began and ended, by the segments on the loopback interface: the same for every peer, asking none.

A packet socket with a filter, which the kernel runs, lets through what begins and ends a connection, an A-ASSOCIATE-AC
and an A-RELEASE-RQ: some ten segments of a connection, with the kernel's time of each. All others are only looked at.
It wants Linux and CAP_NET_RAW.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Self

ETH_P_IP = 0x0800  # a socket of this protocol sees each packet of the loopback interface once: where it arrives
SO_ATTACH_FILTER, SO_TIMESTAMPNS = 26, 35  # Python has no names for them
TIME = struct.Struct("@qq")  # struct timespec
KEPT = 128  # bytes of a packet: its headers, at most 120, and the type of a PDU
ROOM = 1 << 22  # for what was seen: a thousand times what a run has
PATIENCE = 2.0  # seconds for the last segment: the sender has ended, so that it was sent

TCP = 6
FIN, SYN, RST = 1, 2, 4
ASSOCIATE_AC, RELEASE_RQ = 2, 5  # PDU types (PS3.8 Section 9.3)
RELEASE_LENGTH = 10  # bytes of an A-RELEASE-RQ: a segment of its own, for its sender has had all responses

HOW_SEEN = "transfer: by the segments on the loopback interface, the same for everyone"
HOW_TOLD = "transfer: as senders tell it, which DCMTK does not: the loopback interface cannot be watched (CAP_NET_RAW)"


class Event(Enum):
    """What a segment says of its connection."""

    OPENED = "the sender's SYN"
    ACCEPTED = "A-ASSOCIATE-AC"
    RELEASING = "A-RELEASE-RQ"
    CLOSED = "the sender's FIN, or a RST"


@dataclass(frozen=True, slots=True)
class Segment:
    """One of those that the filter lets through: the sender's port, what it says, and when, in nanoseconds."""

    connection: int
    event: Event
    time: int


class Watch:
    """Sees the transfers to one port for as long as this is entered.

    Args:
        port: the receiver's.

    Raises:
        PermissionError: (when entered) without CAP_NET_RAW.
    """

    def __init__(self, port: int) -> None:
        self._port = port

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)  # of no protocol: nothing arrives yet
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, _attached(program(self._port)))
            self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
            self._socket.bind(("lo", ETH_P_IP))
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def seconds(self) -> float | None:
        """The time of the transfers, once their senders have ended; see `transfer_seconds`."""
        seen: list[Segment] = []
        self._socket.settimeout(PATIENCE)
        while not seen or not all_closed(seen):
            try:
                packet, ancillary, *_ = self._socket.recvmsg(KEPT, socket.CMSG_SPACE(TIME.size))
            except TimeoutError:
                return None
            seen.extend(parse(packet, self._port, _nanoseconds(ancillary)))
        return transfer_seconds(seen)


@cache
def can_watch() -> bool:
    """Whether this process may, and the system can."""
    if sys.platform != "linux":
        return False
    try:
        with Watch(1):
            return True
    except OSError:
        return False


def how() -> str:
    """One line for whoever reads the numbers."""
    return HOW_SEEN if can_watch() else HOW_TOLD


def transfer_seconds(segments: Iterable[Segment]) -> float | None:
    """From the first A-ASSOCIATE-AC to the last A-RELEASE-RQ; where there are none, from the first SYN to the last FIN.

    The raw socket has no association, and over TLS none can be seen: then all of the connection counts. Connections
    that were opened before are left out. None where no connection was opened and closed.
    """
    connections = _connections(segments).values()
    associated = [one for one in connections if {Event.ACCEPTED, Event.RELEASING} <= one.keys()]
    if associated:
        spans = [(one[Event.ACCEPTED], one[Event.RELEASING]) for one in associated]
    else:
        spans = [(one[Event.OPENED], one[Event.CLOSED]) for one in connections if Event.CLOSED in one]
    return (max(end for _, end in spans) - min(start for start, _ in spans)) / 1e9 if spans else None


def all_closed(segments: Iterable[Segment]) -> bool:
    """Whether each connection that was opened is closed, and at least one was opened."""
    connections = _connections(segments)
    return bool(connections) and all(Event.CLOSED in one for one in connections.values())


def _connections(segments: Iterable[Segment]) -> dict[int, dict[Event, int]]:
    """When what happened first, by the sender's port, for connections that were opened."""
    found: dict[int, dict[Event, int]] = {}
    for segment in segments:
        if segment.event is Event.OPENED:
            found.setdefault(segment.connection, {})
        if segment.connection in found:
            found[segment.connection].setdefault(segment.event, segment.time)
    return found


def parse(packet: bytes, port: int, time: int) -> Iterator[Segment]:
    """What one IPv4 packet to or from ``port`` says; the filter's rules, once more and by name."""
    head = (packet[0] & 15) * 4
    source, destination = struct.unpack_from("!HH", packet, head)
    flags, start = packet[head + 13], head + (packet[head + 12] >> 4) * 4
    length = int.from_bytes(packet[2:4], "big") - start
    kind = packet[start] if length and start < len(packet) else None
    if destination == port:
        if flags & SYN:
            yield Segment(source, Event.OPENED, time)
        if kind == RELEASE_RQ and length == RELEASE_LENGTH:
            yield Segment(source, Event.RELEASING, time)
        if flags & (FIN | RST):
            yield Segment(source, Event.CLOSED, time)
    elif source == port:
        if kind == ASSOCIATE_AC:
            yield Segment(destination, Event.ACCEPTED, time)
        if flags & RST:
            yield Segment(destination, Event.CLOSED, time)


# ---- the filter: classic BPF (Linux, Documentation/networking/filter.rst) -------------------------------------------

LOAD_BYTE, LOAD_HALF = 0x30, 0x28  # A = packet[k]
LOAD_BYTE_AT, LOAD_HALF_AT = 0x50, 0x48  # A = packet[X + k]; beyond the packet: it is dropped
LOAD_HEADER = 0xB1  # X = 4 * (packet[k] & 15)
EQUAL, ANY_BIT = 0x15, 0x45  # A == k, A & k: go on behind so many more, if so and if not
AND, SHIFT_RIGHT, ADD_X, SUBTRACT_X, TO_X = 0x54, 0x74, 0x0C, 0x1C, 0x07
RETURN = 0x06  # so many bytes of the packet; 0 drops it

Instruction = tuple[int, int, int, int]  # operation, jump if so, jump if not, k


def program(port: int) -> list[Instruction]:
    """Those packets that `parse` says something of, for the address family AF_PACKET and SOCK_DGRAM."""
    payload = [(LOAD_BYTE_AT, 0, 0, 12), (SHIFT_RIGHT, 0, 0, 2), (AND, 0, 0, 0x3C), (ADD_X, 0, 0, 0), (TO_X, 0, 0, 0)]
    sender = [
        (LOAD_BYTE_AT, 0, 0, 13),
        (ANY_BIT, 10, 0, SYN | FIN | RST),  # keep
        *payload,
        (LOAD_HALF, 0, 0, 2),
        (SUBTRACT_X, 0, 0, 0),
        (EQUAL, 0, 3, RELEASE_LENGTH),  # drop
        (LOAD_BYTE_AT, 0, 0, 0),
        (EQUAL, 0, 1, RELEASE_RQ),
        (RETURN, 0, 0, KEPT),
        (RETURN, 0, 0, 0),
    ]
    receiver = [
        (LOAD_BYTE_AT, 0, 0, 13),
        (ANY_BIT, 7, 0, RST),
        *payload,
        (LOAD_BYTE_AT, 0, 0, 0),
        (EQUAL, 0, 1, ASSOCIATE_AC),
        (RETURN, 0, 0, KEPT),
        (RETURN, 0, 0, 0),
    ]
    return [
        (LOAD_BYTE, 0, 0, 9),
        (EQUAL, 0, 4 + len(sender) + len(receiver), TCP),
        (LOAD_HEADER, 0, 0, 0),
        (LOAD_HALF_AT, 0, 0, 2),
        (EQUAL, 2, 0, port),
        (LOAD_HALF_AT, 0, 0, 0),
        (EQUAL, len(sender), len(sender) + len(receiver), port),
        *sender,
        *receiver,
        (RETURN, 0, 0, 0),
    ]


def _attached(instructions: list[Instruction]) -> bytes:
    """A struct sock_fprog. The instructions are kept for the life of the process: it has their address."""
    code = b"".join(struct.pack("@HBBI", *instruction) for instruction in instructions)
    return struct.pack("@HP", len(instructions), ctypes.addressof(_kept(code)))


@cache
def _kept(code: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(code, len(code))


def _nanoseconds(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The kernel's time of a packet."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, rest = TIME.unpack_from(data)
            return int(seconds) * 1_000_000_000 + int(rest)
    raise OSError("a packet came without its time")
