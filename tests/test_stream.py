"""The buffers of a blocking stream: `sync._driver.Stream`, by way of the `Transport` of a pair of sockets."""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Iterator

import pytest

from dicomnet.config import Limits, Timeouts
from dicomnet.sync.transport import Transport

_PAGE = 4096
_LARGE = 64 << 10


@pytest.fixture
def pair() -> Iterator[tuple[Transport, socket.socket]]:
    """A transport with large buffers of 64 KiB, and its peer."""
    ours, theirs = socket.socketpair()
    with theirs:
        transport = Transport(ours, Limits(receive_buffer=_LARGE), Timeouts())
        yield transport, theirs
        transport.close()


def _received(transport: Transport, size: int) -> memoryview:
    assert transport.wait(5.0)
    received = transport.receive()
    assert received is not None
    assert len(received) == size
    return received


def test_what_is_received_begins_elsewhere_in_a_page_with_each_message(pair: tuple[Transport, socket.socket]) -> None:
    transport, peer = pair
    starts = []
    for _ in range(128):
        transport.grow()
        peer.send(b"some")
        starts.append(ctypes.addressof(ctypes.c_char.from_buffer(_received(transport, 4))))
        transport.rest()
    within = sorted(start % _PAGE for start in starts)
    assert len(set(within)) >= 64  # all of them, where it is the same buffer each time
    assert all(within.count(start) <= 8 for start in within)


def test_wherever_a_large_buffer_begins_it_takes_as_much(pair: tuple[Transport, socket.socket]) -> None:
    transport, peer = pair
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * _LARGE)
    data = bytes(range(256)) * (_LARGE // 256)
    for _ in range(128):
        transport.grow()
        peer.sendall(data + b"more")
        assert bytes(_received(transport, _LARGE)) == data
        assert bytes(_received(transport, 4)) == b"more"
        transport.rest()
