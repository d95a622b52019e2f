"""How a provider's loop waits and reads: by any selector, on through a data set, and looking before it sleeps."""

from __future__ import annotations

import fcntl
import selectors
import socket
import termios
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import Any

import faces
import pytest
from faces import PATIENCE, RawUser, echo_request, provider, store_request
from rig import until

import dicomnet as dn
from dicomnet.config import Limits
from dicomnet.files.dataset_sink import DiscardSink
from dicomnet.net.sockets import QUICK_ACK
from dicomnet.services.provider_requests import Arrival
from dicomnet.sync.connection import Connection
from dicomnet.sync.loop import Loop

FULL = Limits().receive_buffer
LITTLE = 16384  # bytes of a buffer, several of which any socket holds
SELECTORS = ("EpollSelector", "KqueueSelector", "PollSelector", "SelectSelector")
ENOUGH = 40  # messages: more than show that one peer is the only one that is busy


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> list[Loop]:
    """The loops of the listeners that are made."""
    made: list[Loop] = []

    def recorded(*arguments: Any) -> Loop:
        made.append(Loop(*arguments))
        return made[-1]

    monkeypatch.setattr("dicomnet.sync.acceptor.Loop", recorded)
    return made


@pytest.mark.parametrize("name", [name for name in SELECTORS if hasattr(selectors, name)])
def test_by_any_selector(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors, "DefaultSelector", getattr(selectors, name))
    data = bytes(3 * FULL)
    with (
        provider("sync", timeouts=dn.Timeouts(busy_poll=1e-4)) as serving,
        serving.raw() as one,
        serving.raw() as other,
    ):
        for raw in (one, other):
            raw.associate()
            raw.send(store_request(data))
        assert [raw.read_command().status for raw in (one, other)] == [0, 0]
        for number in range(ENOUGH):
            assert one.echo(number + 2).status == 0
        assert [len(stored) for _, stored in serving.stored] == [len(data)] * 2


class TestBusyPoll:
    @pytest.mark.skipif(not hasattr(selectors.DefaultSelector, "fileno"), reason="this selector cannot be looked at")
    @pytest.mark.parametrize("both", [False, True])
    def test_it_looks_where_one_peer_alone_is_busy(self, both: bool, loops: list[Loop]) -> None:
        with provider("sync") as serving, serving.raw() as one, serving.raw() as other:
            one.associate()
            other.associate()
            for number in range(ENOUGH):
                one.echo(number + 1)
                if both:
                    other.echo(number + 1)
            assert bool(loops[0].polls) is not both

    def test_it_does_not_unless_it_is_wanted(self, loops: list[Loop]) -> None:
        with provider("sync", timeouts=dn.Timeouts(busy_poll=None)) as serving, serving.raw() as raw:
            raw.associate()
            for number in range(ENOUGH):
                raw.echo(number + 1)
            assert not loops[0].polls


class Counted(socket.socket):
    """A socket that remembers how much each read brought, and when it was told to acknowledge."""

    def __init__(self, sock: socket.socket, said: list[int | str]) -> None:
        super().__init__(fileno=sock.detach())
        self.setblocking(False)
        self.said = said

    def recv_into(self, *arguments: Any) -> int:
        size = super().recv_into(*arguments)
        self.said.append(size)
        return size

    def setsockopt(self, *arguments: Any) -> None:
        super().setsockopt(*arguments)
        if arguments[1] == QUICK_ACK:
            self.said.append("acknowledged")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[int | str]:
    """What the sockets of connections were asked."""
    said: list[int | str] = []

    class CountedConnection(Connection):
        def __init__(self, loop: Loop, sock: socket.socket, *arguments: Any) -> None:
            super().__init__(loop, Counted(sock, said), *arguments)

    monkeypatch.setattr("dicomnet.sync.acceptor.Connection", CountedConnection)
    return said


@contextmanager
def standing_still(number: int, sink: Callable[[Arrival], Any]) -> Iterator[tuple[list[RawUser], Callable[[], None]]]:
    """So many associations, of a loop with a little buffer that stands still in a C-ECHO until it is told to go on."""
    reached, go_on = threading.Event(), threading.Event()

    def echo(_: dn.EchoRequest) -> None:
        reached.set()
        go_on.wait(PATIENCE)

    def configure(listener: Any) -> None:
        listener.on_echo(inline=True)(echo)
        listener.on_store(sink=sink, inline=True)(lambda _: 0)

    with provider("sync", configure, limits=Limits(receive_buffer=LITTLE)) as serving, ExitStack() as stack:
        *raws, holding = [stack.enter_context(serving.raw()) for _ in range(number + 1)]
        for raw in (*raws, holding):
            raw.associate()
        holding.send(echo_request())
        assert reached.wait(PATIENCE)
        try:
            yield raws, go_on.set
        finally:
            go_on.set()


def send_whole(raw: RawUser, data: bytes) -> None:
    """Send, and wait until the other side's system has all of it."""
    raw.send(data)
    left = array("i", [1])
    until(lambda: fcntl.ioctl(raw.sock, termios.TIOCOUTQ, left) == 0 and left[0] == 0)


@pytest.mark.skipif(QUICK_ACK is None, reason="TCP_QUICKACK, and TIOCOUTQ, are of Linux")
class TestReadingOn:
    def test_what_is_there_is_acknowledged_once_no_more_is(self, said: list[int | str]) -> None:
        with standing_still(1, lambda _: DiscardSink()) as ((raw,), go_on):
            del said[:]
            begun = store_request(bytes(2 * LITTLE), last=False)
            send_whole(raw, begun)
            go_on()
            until(lambda: "acknowledged" in said)
            assert said == [LITTLE, LITTLE, len(begun) - 2 * LITTLE, "acknowledged"]
            raw.send(b"".join(map(bytes, faces.frame(3, b"\0\0", 16378, False, True))))
            assert raw.read_command().status == 0

    def test_those_that_are_ready_together_share_the_time_for_it(self) -> None:
        written: list[int | None] = []

        class SlowSink:
            size = 0

            def __init__(self, arrival: Arrival) -> None:
                self.number = arrival.command.message_id

            def write(self, _: list[memoryview]) -> None:
                written.append(self.number)
                end = monotonic() + 0.001  # half of what one of them could have for itself
                while monotonic() < end:
                    pass

            def close(self) -> None:
                pass

            discard = close

        numbers = [1, 2, 3, 4]
        with standing_still(len(numbers), SlowSink) as (raws, go_on):
            for number, raw in zip(numbers, raws, strict=True):
                send_whole(raw, store_request(bytes(3 * LITTLE), number=number))
            go_on()
            assert [raw.read_command().status for raw in raws] == [0] * len(numbers)
        assert sorted(written[: len(numbers)]) == numbers


def test_who_pours_a_data_set_without_end_keeps_nobody_waiting() -> None:
    def configure(listener: Any) -> None:
        listener.on_echo(inline=True)(lambda _: 0)
        listener.on_store(sink=lambda _: DiscardSink(), inline=True)(lambda _: 0)

    enough = threading.Event()

    def pour(raw: RawUser) -> None:
        raw.send(store_request(bytes(FULL), last=False))
        more = b"".join(map(bytes, faces.frame(3, bytes(FULL), 16378, False, False)))
        while not enough.is_set():
            raw.send(more)

    with provider("sync", configure) as serving, serving.raw() as raw, serving.raw() as other:
        raw.associate()
        other.associate()
        pouring = threading.Thread(target=pour, args=(raw,))
        pouring.start()
        try:
            assert [other.echo(number + 1).status for number in range(ENOUGH)] == [0] * ENOUGH
            assert pouring.is_alive()
        finally:
            enough.set()
            pouring.join(PATIENCE)
        raw.send(b"".join(map(bytes, faces.frame(3, b"\0\0", 16378, False, True))))
        assert raw.read_command().status == 0
