"""Users and providers of both faces behind one blocking interface, and raw peers that misbehave.

A test written against these runs with either face on either side.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import dicomnet as dn
from dicomnet import uids
from dicomnet._pdu import (
    PDU_ASSOCIATE_RQ,
    AssociateAC,
    AssociateRQ,
    MaximumLength,
    PresentationContextAC,
    PresentationContextRQ,
    decode_first,
)
from dicomnet.files.instance_source import BytesSource
from dicomnet.protocol.messages import CommandField
from dicomnet.wire.command_set import Command, frame

T = TypeVar("T")

FACES = ("sync", "aio")
CT, MR = uids.CT_IMAGE_STORAGE, uids.MR_IMAGE_STORAGE
SYNTAX = uids.EXPLICIT_VR_LITTLE_ENDIAN
EVERYTHING = [*dn.contexts.verification(), *dn.contexts.storage([CT])]
PATIENCE = 20  # seconds for what takes none


def instance(pixels: int, sop_class: str = CT, uid: str = "2.25.1") -> BytesSource:
    """An instance with so many bytes of pixel data."""
    data = _element(0x0008, 0x0016, b"UI", sop_class) + _element(0x0008, 0x0018, b"UI", uid)
    data += struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, pixels) + os.urandom(pixels)
    return BytesSource(data, SYNTAX)


def _element(group: int, number: int, vr: bytes, value: str) -> bytes:
    padded = value.encode() + b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", group, number, vr, len(padded)) + padded


def data_of(source: BytesSource) -> bytes:
    """The encoded data set."""
    return b"".join(source.chunks(1 << 20))


# ---- users -----------------------------------------------------------------------------------------------------------


class SyncUser:
    """`dicomnet.connect`."""

    def __init__(self, peer: str, **options: Any) -> None:
        options.setdefault("contexts", EVERYTHING)
        self.association: Any = dn.connect(peer, **options)

    @property
    def established(self) -> bool:
        return bool(self.association.established)

    @property
    def contexts(self) -> dict[int, Any]:
        return dict(self.association.contexts)

    def echo(self) -> dn.Status:
        return self._run(self.association.echo())

    def store(self, source: Any, **options: Any) -> dn.StoreResult:
        return self._run(self.association.store(source, **options))

    def store_many(self, sources: Iterable[Any], **options: Any) -> list[dn.StoreResult]:
        return list(self.association.store_many(sources, **options))

    def first_result(self, sources: Iterable[Any]) -> dn.StoreResult:
        """The first of many, and no more is asked for."""
        for result in self.association.store_many(sources):
            return result
        raise AssertionError

    def find(self, *arguments: Any, **keys: Any) -> list[Any]:
        return list(self.association.find(*arguments, **keys))

    def first_match(self, *arguments: Any, **keys: Any) -> Any:
        """The first of many, and no more is asked for."""
        for match in self.association.find(*arguments, **keys):
            return match
        raise AssertionError

    def get(self, *arguments: Any, **keys: Any) -> Any:
        return self._run(self.association.get(*arguments, **keys))

    def move(self, *arguments: Any, **keys: Any) -> Any:
        return self._run(self.association.move(*arguments, **keys))

    def n_set(self, *arguments: Any, **options: Any) -> Any:
        return self._run(self.association.n_set(*arguments, **options))

    def release(self) -> None:
        self._run(self.association.release())

    def abort(self) -> None:
        self._run(self.association.abort())

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        self.association.__exit__(*error)

    def _run(self, value: Any) -> Any:
        return value


class AioUser(SyncUser):
    """`dicomnet.aio.connect`, on a loop of its own that runs during each call."""

    def __init__(self, peer: str, **options: Any) -> None:
        options.setdefault("contexts", EVERYTHING)
        self._runner = asyncio.Runner()
        try:
            self.association = self._run(dn.aio.connect(peer, **options))
        except BaseException:
            self._runner.close()
            raise

    def store_many(self, sources: Iterable[Any], **options: Any) -> list[dn.StoreResult]:
        async def collect() -> list[dn.StoreResult]:
            return [result async for result in self.association.store_many(sources, **options)]

        return list(self._run(collect()))

    def first_result(self, sources: Iterable[Any]) -> dn.StoreResult:
        async def first() -> dn.StoreResult:
            async for result in self.association.store_many(sources):
                return result
            raise AssertionError

        result: dn.StoreResult = self._run(first())
        return result

    def find(self, *arguments: Any, **keys: Any) -> list[Any]:
        async def collect() -> list[Any]:
            return [match async for match in self.association.find(*arguments, **keys)]

        return list(self._run(collect()))

    def first_match(self, *arguments: Any, **keys: Any) -> Any:
        async def first() -> Any:
            async for match in self.association.find(*arguments, **keys):
                return match
            raise AssertionError

        return self._run(first())

    def __exit__(self, *error: Any) -> None:
        try:
            self._run(self.association.__aexit__(*error))
        finally:
            self._runner.close()

    def _run(self, value: Any) -> Any:
        return self._runner.run(value)


USERS: dict[str, type[SyncUser]] = {"sync": SyncUser, "aio": AioUser}


# ---- providers -------------------------------------------------------------------------------------------------------


class LoopThread:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="test-loop")
        self._thread.start()

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine to its end; its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    def close(self) -> None:
        """End the loop and its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


class Provider:
    """A listener that serves on a free port."""

    def __init__(self, face: str, listener: Any, loop: LoopThread | None) -> None:
        self.face = face
        self.listener = listener
        self.loop = loop
        self.stored: list[tuple[str, bytes]] = []
        self.port = 0

    def peer(self, title: str = "ANY-SCP") -> str:
        """What a user connects to."""
        return f"{title}@127.0.0.1:{self.port}"

    def raw(self, receive_buffer: int = 0) -> RawUser:
        """A connection without a user; a small buffer is soon full."""
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", self.port))
        return RawUser(sock)


@contextmanager
def provider(
    face: str, configure: Callable[[Any], object] | None = None, ae_title: str | None = None, **options: Any
) -> Iterator[Provider]:
    """A listener of this face that serves until the block ends; without ``configure`` it keeps what is stored."""
    options = {"port": 0, "drain": 5.0} | options
    loop = LoopThread() if face == "aio" else None
    try:
        listener = dn.Listener(ae_title, **options) if loop is None else dn.aio.Listener(ae_title, **options)
        serving = Provider(face, listener, loop)
        if configure is None:
            listener.on_store()(lambda request: serving.stored.append((request.sop_instance_uid, request.data)))
        else:
            configure(listener)
        if loop is None:
            with listener:
                serving.port = listener.address[1]
                yield serving
        else:
            loop.run(listener.__aenter__())
            try:
                serving.port = listener.address[1]
                yield serving
            finally:
                loop.run(listener.__aexit__(None, None, None))
    finally:
        if loop is not None:
            loop.close()


# ---- raw peers -------------------------------------------------------------------------------------------------------


class RawPeer:
    """One end of a connection, by hand."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        self.sock = sock
        self._received = bytearray()

    def send(self, *things: Any) -> None:
        """Send PDUs, or bytes."""
        self.sock.sendall(b"".join(bytes(one) if isinstance(one, bytes) else one.encode() for one in things))

    def fill(self, size: int) -> None:
        """Wait for so many bytes, which are read later."""
        while len(self._received) < size:
            self._received += self.sock.recv(size - len(self._received))

    def read(self) -> Any:
        """The next PDU; None at the end of the stream."""
        while (found := decode_first(self._received)) is None:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._received += data
        pdu, used = found
        del self._received[:used]
        return pdu

    def read_command(self) -> Command:
        """The command set of the next message, which must fit into one PDU."""
        (pdv,) = self.read().pdvs
        assert pdv.is_command
        assert pdv.is_last
        return decode(pdv.data)

    def read_to_the_end(self) -> list[Any]:
        """All PDUs that still come."""
        return list(iter(self.read, None))

    def reset(self) -> None:
        """Close so that the other side gets an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def decode(data: bytes) -> Command:
    """A command set from its bytes."""
    from dicomnet.wire.command_set import decode_command

    command: Command = decode_command(data)
    return command


class RawUser(RawPeer):
    """A requestor by hand: context 1 is verification, context 3 CT."""

    REQUEST = AssociateRQ(
        "ANY-SCP",
        "RAW",
        (PresentationContextRQ(1, uids.VERIFICATION, (SYNTAX,)), PresentationContextRQ(3, CT, (SYNTAX,))),
        (MaximumLength(16384),),
    )

    def associate(self) -> Any:
        """Send a request; the answer."""
        self.send(self.REQUEST)
        return self.read()

    def echo(self, message_id: int = 1) -> Command:
        """A C-ECHO; the response."""
        self.send(echo_request(message_id))
        return self.read_command()


def echo_request(message_id: int = 1) -> bytes:
    """A C-ECHO-RQ as PDUs."""
    return message(
        1,
        Command(
            affected_sop_class_uid=uids.VERIFICATION,
            command_field=CommandField.C_ECHO_RQ,
            message_id=message_id,
            command_data_set_type=0x0101,
        ),
    )


def store_request(data: bytes, *, size: int = 16384, last: bool = True, number: int = 1) -> bytes:
    """A C-STORE-RQ as PDUs, with so much of its data set; ``last``: there is no more."""
    command = Command(
        affected_sop_class_uid=CT,
        affected_sop_instance_uid="2.25.1",
        command_field=CommandField.C_STORE_RQ,
        message_id=number,
        priority=0,
        command_data_set_type=1,
    )
    return message(3, command) + b"".join(map(bytes, frame(3, data, size - 6, False, last)))


def message(context_id: int, command: Command) -> bytes:
    """A command set as PDUs."""
    return b"".join(map(bytes, frame(context_id, command.encode(), 16378, True, True)))


def response(asked: Command, status: int = 0, **elements: Any) -> Command:
    """The command set that answers another one."""
    return Command(
        command_field=(asked.command_field or 0) | 0x8000,
        message_id_being_responded_to=asked.message_id,
        command_data_set_type=0x0101,
        status=status,
        **elements,
    )


class RawProvider(RawPeer):
    """An acceptor by hand."""

    def accept(self, max_pdu: int = 16384, only: str = "") -> AssociateRQ:
        """Accept the association, with all of its contexts, or ``only`` those of a SOP class; the request."""
        request = self.read()
        assert request.encode()[0] == PDU_ASSOCIATE_RQ
        contexts = tuple(
            PresentationContextAC(one.id, 0 if only in ("", one.abstract_syntax) else 3, one.transfer_syntaxes[0])
            for one in request.presentation_contexts
        )
        self.send(AssociateAC(request.called_ae_title, request.calling_ae_title, contexts, (MaximumLength(max_pdu),)))
        accepted: AssociateRQ = request
        return accepted


@contextmanager
def raw_provider(script: Callable[[RawProvider], T]) -> Iterator[Callable[[], T]]:
    """A provider that does what the script says with its one connection; the value is called for the script's result.

    The callable has the attribute ``peer``, what to connect to.
    """
    results: list[Any] = []
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(PATIENCE)

    def serve() -> None:
        try:
            sock, _ = listening.accept()
            listening.close()  # a second connection is refused at once, instead of left waiting
            with RawProvider(sock) as raw:
                results.append(script(raw))
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=serve, name="test-raw-provider")
    thread.start()

    def result() -> T:
        thread.join(PATIENCE)
        assert results, "the script of the raw provider hangs"
        if isinstance(results[0], BaseException):
            raise results[0]
        outcome: T = results[0]
        return outcome

    result.peer = f"RAW@127.0.0.1:{listening.getsockname()[1]}"  # type: ignore[attr-defined]
    try:
        yield result
        result()
    finally:
        listening.close()
        thread.join(PATIENCE)


# ---- what is left behind ---------------------------------------------------------------------------------------------


@contextmanager
def nothing_left() -> Iterator[None]:
    """After the block there are as many threads and descriptors as before."""
    gc.collect()  # what earlier tests left would go now or later
    threads, before = threading.enumerate(), _held()
    yield
    for thread in threading.enumerate():
        if thread not in threads:
            thread.join(1)  # one that is on its way out, as of a provider that waits for nobody, gets there
    left = _held() - before
    assert not left, f"left behind: {left}"


def _held() -> set[str]:
    descriptors = Path("/proc/self/fd")
    held = {f"thread {thread.name}" for thread in threading.enumerate()}
    for name in os.listdir(descriptors) if descriptors.exists() else ():
        with suppress(FileNotFoundError):  # the one that lists them
            held.add(f"descriptor {name}, {os.readlink(descriptors / name)}")
    return held


def gather(*calls: Callable[[], T]) -> list[T]:
    """Call all of them at once, each in a thread; their results."""
    results: dict[int, Any] = {}

    def run(index: int, call: Callable[[], T]) -> None:
        try:
            results[index] = call()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=one) for one in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    for value in results.values():
        if isinstance(value, BaseException):
            raise value
    return [results[index] for index in range(len(calls))]


Handler = Callable[[Any], Awaitable[Any]]
