"""All 247 cells of Table 9-10 over real sockets, both roles and both faces, against a peer of raw bytes (goal G3).

Our side is `Listener` or `connect` with all that is under them. What goes on in it is not a service but an `Actor`,
which brings the association into a state by the verbs of the core, and tries one there. Everything else comes from the
peer. What our side says is read to the end of the stream, so that what it does not say is seen, too.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any

import pytest
from cases import every
from driving import AC, ACCEPTOR, ARTIM_ALONE, DATA, ECHO_PDV, INVALID, REQUESTOR, RJ, RQ, STANDARD, said_by
from faces import RawPeer, provider
from peers import full_backlog

import dicomnet as dn
from dicomnet._pdu import Abort, AssociateRQ, ReleaseRP, ReleaseRQ, decode
from dicomnet.errors import LocalProtocolError
from dicomnet.protocol import states
from dicomnet.protocol.exchange import Exchange
from dicomnet.protocol.states import Event, State
from dicomnet.services import scu

PATIENCE = 20  # seconds for what takes none
CELLS = STANDARD["fsm"]["table"]
FACES = ("sync", "aio")
RELEASE, AGREE, ABORT = ReleaseRQ().encode(), ReleaseRP().encode(), Abort(2, 2).encode()

#: What the peer can do.
BYTES = {
    3: AC.encode(), 4: RJ.encode(), 6: RQ.encode(), 10: DATA.encode(), 12: RELEASE, 13: AGREE, 16: ABORT, 19: INVALID,
}  # fmt: skip
#: What our user can do, and the clock, which is an argument.
VERBS: dict[int, Callable[[Exchange], object]] = {
    1: lambda exchange: exchange._upper.associate(RQ),
    2: lambda exchange: exchange._upper.transport_connected(),
    5: lambda exchange: exchange._upper.transport_opened(),
    7: lambda exchange: exchange.accept(AC),
    8: lambda exchange: exchange.reject(1, 1, 7),
    9: lambda exchange: exchange._upper.send([ECHO_PDV]),
    11: lambda exchange: exchange.release(),
    14: lambda exchange: exchange.release_response(),
    15: lambda exchange: exchange.abort(),
    18: lambda exchange: exchange.tick(1e9 if exchange.deadline is None else exchange.deadline),
}
CLOSED = 17
NUDGE = b"\x05"  # the first byte of a PDU changes nothing, but has our side look at the clock

#: The ways into the states: ">" is what the peer sends, "<" what it gets to read, the rest are verbs of ours.
ROUTES: dict[tuple[str, str], tuple[int, str]] = {
    (ACCEPTOR, "over"): (1, ">rq accept <ac >abort"),
    (ACCEPTOR, "opened"): (2, ""),
    (ACCEPTOR, "requested"): (3, ">rq"),
    (ACCEPTOR, "established"): (6, ">rq accept <ac"),
    (ACCEPTOR, "releasing"): (7, ">rq accept <ac release <release"),
    (ACCEPTOR, "asked"): (8, ">rq accept <ac >release"),
    (ACCEPTOR, "collided"): (10, ">rq accept <ac release <release >release"),
    (ACCEPTOR, "half done"): (12, ">rq accept <ac release <release >release >agree"),
    (ACCEPTOR, "rejected"): (13, ">rq reject <rj"),
    (ACCEPTOR, "offended"): (13, ">release <abort"),
    (ACCEPTOR, "released"): (13, ">rq accept <ac >release agree <agree"),
    (ACCEPTOR, "aborted"): (13, ">rq accept <ac abort <abort"),
    (REQUESTOR, "over"): (1, "<rq >ac >abort"),
    (REQUESTOR, "requested"): (5, "<rq"),
    (REQUESTOR, "established"): (6, "<rq >ac"),
    (REQUESTOR, "releasing"): (7, "<rq >ac release <release"),
    (REQUESTOR, "asked"): (8, "<rq >ac >release"),
    (REQUESTOR, "collided"): (9, "<rq >ac release <release >release"),
    (REQUESTOR, "half done"): (11, "<rq >ac release <release >release agree <agree"),
    (REQUESTOR, "released"): (13, "<rq >ac >release agree <agree"),
    (REQUESTOR, "offended"): (13, "<rq >release <abort"),
    (REQUESTOR, "aborted"): (13, "<rq >ac abort <abort"),
}
SAID = {"rq": RQ.encode(), "ac": AC.encode(), "release": RELEASE, "agree": AGREE, "abort": ABORT}
DONE = {"accept": VERBS[7], "reject": VERBS[8], "release": VERBS[11], "agree": VERBS[14], "abort": VERBS[15]}

#: Connecting is a state of `connect`, which has not given anything to its caller yet.
STA4_TESTED = {2, 15, 17}
STA4_OUT_OF_REACH = {
    **dict.fromkeys((1, 5, 7, 8, 9, 11, 14), "connect has not returned: there is nothing to call a verb of"),
    **dict.fromkeys((3, 4, 6, 10, 12, 13, 16, 19), "there is no connection on which a PDU could come"),
    18: "ARTIM does not run, and nobody asks the core for it",
}


class Actor:
    """Our side of one association: does its part of a route, perhaps one verb more, and notes what became of it."""

    def __init__(self, route: str, event: int) -> None:
        self.notes: SimpleQueue[Any] = SimpleQueue()
        self.received = self._left = 0
        self._part: deque[int | Callable[[Exchange], object]] = deque()
        for token in route.split():
            if token[0] == ">":
                self._part.append(len(SAID[token[1:]]))
            elif token[0] != "<":
                self._part.append(DONE[token])
        self._part.append(self._note)
        if event == Event.ARTIM_EXPIRED and route[-6:] != ">abort":
            self._part.append(len(NUDGE))
        if event in VERBS:
            self._part += [lambda exchange: self._attempt(VERBS[event]), self._note]
        elif event in BYTES:
            self._part += [len(BYTES[event]), self._note]

    def flow(self, exchange: Exchange, *_: Any, **__: Any) -> Iterator[None]:
        """What serves the association, or asks for it."""
        self.exchange = exchange
        self._receive, self._eof = exchange.receive, exchange.receive_eof
        exchange.receive, exchange.receive_eof = self.receive, self.receive_eof
        try:
            self._act()
            while True:
                yield None
        finally:
            self.notes.put("over")

    def receive(self, data: Any) -> None:
        """Bytes came."""
        self._receive(data)
        self._left += len(data)
        self.received += len(data)
        self._act()

    def receive_eof(self) -> None:
        """The end came, or we have closed."""
        self._eof()
        self._note(self.exchange)

    def _act(self) -> None:
        self.exchange._collect()
        while self._part:
            step = self._part[0]
            if isinstance(step, int):
                if self._left < step:
                    return
                self._left -= step
            else:
                step(self.exchange)
            self._part.popleft()

    def _attempt(self, verb: Callable[[Exchange], object]) -> None:
        try:
            verb(self.exchange)
        except LocalProtocolError as error:
            self.notes.put(error)
        else:
            self.notes.put(None)

    def _note(self, exchange: Exchange) -> None:
        self.notes.put(exchange.state)

    def note(self) -> Any:
        """What was noted next."""
        return self.notes.get(timeout=PATIENCE)


class Stage:
    """Where associations of one face meet peers of raw bytes."""

    def __init__(self, face: str, serving: Any, listening: socket.socket) -> None:
        self.face = face
        self._serving = serving
        self._actors: SimpleQueue[Actor] = SimpleQueue()
        serving.listener.flow = lambda *given, **options: self._actors.get(timeout=PATIENCE).flow(*given, **options)
        self._listening = listening
        self._loop = serving.loop

    @contextmanager
    def meet(self, role: str, actor: Actor, monkeypatch: pytest.MonkeyPatch) -> Iterator[RawPeer]:
        """The peer of an association in which we have this role."""
        if role == ACCEPTOR:
            self._actors.put(actor)
            with RawPeer(socket.create_connection(("127.0.0.1", self._serving.port), PATIENCE)) as peer:
                yield peer
            return
        monkeypatch.setattr(scu, "associate", actor.flow)
        thread = threading.Thread(target=self._connect, args=(self._listening.getsockname()[1],))
        thread.start()
        try:
            with RawPeer(self._listening.accept()[0]) as peer:
                yield peer
        finally:
            thread.join(PATIENCE)

    def _connect(self, port: int) -> None:
        with suppress(dn.DicomNetError):
            options = {"contexts": dn.contexts.verification(), "calling": "CALLING", "timeouts": ARTIM_ALONE}
            if self._loop is None:
                dn.connect(f"CALLED@127.0.0.1:{port}", **options)
            else:
                self._loop.run(dn.aio.connect(f"CALLED@127.0.0.1:{port}", **options))


@pytest.fixture(scope="module")
def stages() -> Iterator[dict[str, Stage]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        provider("sync", lambda _: None, timeouts=ARTIM_ALONE) as sync,
        provider("aio", lambda _: None, timeouts=ARTIM_ALONE) as aio,
    ):
        listening.settimeout(PATIENCE)
        yield {one.face: Stage(one.face, one, listening) for one in (sync, aio)}


def play(peer: RawPeer, route: str) -> None:
    """The peer's part of a route."""
    kinds = {"rq": 1, "ac": 2, "rj": 3, "release": 5, "agree": 6, "abort": 7}
    for token in route.split():
        if token[0] == ">":
            peer.send(SAID[token[1:]])
        elif token[0] == "<":
            assert peer.read().encode()[0] == kinds[token[1:]]


def rest(peer: RawPeer) -> bytes:
    """All that our side still says once the peer has said that nothing follows."""
    with suppress(OSError):  # we have closed already
        peer.sock.shutdown(socket.SHUT_WR)
    return b"".join(pdu.encode() for pdu in peer.read_to_the_end())


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(("role", "route"), ROUTES)
@every("event", Event)
def test_a_cell(stages, monkeypatch, face, role, route, event):
    for module in ("sync.connection", "aio.provider_driver"):  # however slow the machine is
        monkeypatch.setattr(f"dicomnet.{module}.LAST_WORD", PATIENCE)
        monkeypatch.setattr(f"dicomnet.{module}.FAREWELL", PATIENCE)
    state, tokens = ROUTES[role, route]
    actor = Actor(tokens, event)
    with stages[face].meet(role, actor, monkeypatch) as peer:
        play(peer, tokens)
        assert actor.note() == state
        if state == State.STA1_IDLE:
            check_over(peer, actor, event)
            return
        if event == Event.ARTIM_EXPIRED:
            peer.send(NUDGE)
        error = actor.note() if event in VERBS else None
        if event in BYTES:
            peer.send(BYTES[event])
        elif event == CLOSED:
            peer.sock.shutdown(socket.SHUT_WR)
        after, said = actor.note(), rest(peer)
    cell = CELLS[f"Evt{event}"][f"Sta{state}"]
    if cell is None:  # a verb that is not possible now, or a timer that does not run: refused, and nothing said
        assert isinstance(error, LocalProtocolError) is (event != Event.ARTIM_EXPIRED)
        assert (after, said) == (state, b"")
    else:
        assert error is None
        assert f"Sta{after:d}" == cell["next"][cell["action"] == "AR-8" and role == ACCEPTOR]
        assert said == said_by(cell["action"], event, silent=route in ("aborted", "offended"))


def check_over(peer: RawPeer, actor: Actor, event: int) -> None:
    """Sta1, after the end: our side has closed, so that a PDU or a close reach nobody; verbs are refused."""
    if event in VERBS:
        assert isinstance(actor.note(), LocalProtocolError) is (event != Event.ARTIM_EXPIRED)
        assert actor.note() == State.STA1_IDLE
    assert peer.read() is None
    assert all(state == State.STA1_IDLE for state in iter(actor.note, "over"))
    received = actor.received
    with suppress(OSError):
        if event in BYTES:
            peer.send(BYTES[event])
    assert rest(peer) == b""
    assert actor.received == received
    assert actor.exchange.state is State.STA1_IDLE


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(("role", "route"), [key for key in ROUTES if key[1] != "over"])
def test_a_reset_in_any_state_is_the_end(stages, monkeypatch, face, role, route):
    state, tokens = ROUTES[role, route]
    actor = Actor(tokens, CLOSED)
    with stages[face].meet(role, actor, monkeypatch) as peer:
        play(peer, tokens)
        assert actor.note() == state
        peer.reset()
        assert actor.note() == State.STA1_IDLE


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("version", [0, 2])
def test_a_request_that_the_service_provider_cannot_accept(stages, monkeypatch, face, version):
    """The other way out of AE-6."""
    asked = bytearray(RQ.encode())
    asked[6:8] = version.to_bytes(2, "big")
    actor = Actor("", 6)
    with stages[face].meet(ACCEPTOR, actor, monkeypatch) as peer:
        assert actor.note() == State.STA2_TRANSPORT_OPEN
        peer.send(bytes(asked))
        assert actor.note() == State.STA13_AWAIT_TRANSPORT_CLOSE
        (answer,) = (decode(rest(peer)),)
    assert (answer.result, answer.source, answer.reason) == (1, 2, 2)


# ---- Sta1 and Sta4: before there is a connection ---------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
def test_a_connection_indication_opens_and_starts_artim(stages, monkeypatch, face):
    """Evt5 in Sta1."""
    actor = Actor("", CLOSED)
    with stages[face].meet(ACCEPTOR, actor, monkeypatch) as peer:
        assert actor.note() == State.STA2_TRANSPORT_OPEN
        assert actor.exchange.deadline is not None
        assert rest(peer) == b""


@pytest.mark.parametrize("face", FACES)
def test_an_association_request_connects_and_then_asks(stages, monkeypatch, face):
    """Evt1 in Sta1, and Evt2 in Sta4."""
    actor = Actor("", CLOSED)
    with stages[face].meet(REQUESTOR, actor, monkeypatch) as peer:
        request = peer.read()
        assert isinstance(request, AssociateRQ)
        assert (request.called_ae_title, request.calling_ae_title) == ("CALLED", "CALLING")
        assert actor.note() == State.STA5_AWAIT_ASSOCIATE_RESPONSE
        assert rest(peer) == b""


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def connecting(face: str, port: int, **timeouts: float) -> None:
    options = {"contexts": dn.contexts.verification(), "timeouts": dn.Timeouts(**timeouts)}
    if face == "sync":
        dn.connect(f"CALLED@127.0.0.1:{port}", **options)
    else:
        asyncio.run(dn.aio.connect(f"CALLED@127.0.0.1:{port}", **options))


@pytest.mark.parametrize("face", FACES)
def test_who_gives_up_connecting(face):
    """Evt15 in Sta4: there is nobody to tell."""
    with full_backlog() as port, pytest.raises(dn.DeadlineExceeded) as caught:
        connecting(face, port, connect=0.05)
    assert caught.value.timeout == "connect"


def test_a_cancelled_task_gives_up_connecting():
    """Evt15 in Sta4, as asyncio's users say it."""

    async def main(port):
        task = asyncio.create_task(dn.aio.connect(f"CALLED@127.0.0.1:{port}", contexts=dn.contexts.verification()))
        await asyncio.wait([task], timeout=0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with full_backlog() as port:
        asyncio.run(main(port))


@pytest.mark.parametrize("face", FACES)
def test_nobody_listens(face):
    """Evt17 in Sta4."""
    with pytest.raises(dn.ConnectionFailed, match="cannot connect"):
        connecting(face, closed_port())


def test_every_cell_is_covered_or_named():
    covered = {(event, state) for state, _ in ROUTES.values() for event in Event}
    covered |= {(event, State.STA4_AWAIT_TRANSPORT_CONNECTION) for event in STA4_TESTED}
    named = {(event, State.STA4_AWAIT_TRANSPORT_CONNECTION) for event in STA4_OUT_OF_REACH}
    assert covered | named == {(event, state) for event in Event for state in State}
    assert not covered & named
    assert not named & set(states.TABLE), "what is out of reach is blank"
