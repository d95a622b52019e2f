"""Users and providers of both faces behind one blocking interface, for the tests of the services."""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

import dicomnet as dn
from dicomnet import uids
from dicomnet._pdu import AssociateAC, AssociateRQ, MaximumLength, PresentationContextAC, decode_first
from dicomnet.wire.command_set import Command, frame

PATIENCE = 30  # seconds for what takes none
PAIRINGS = ("sync-sync", "sync-aio", "aio-sync", "aio-aio")  # user and provider


def until(condition: Callable[[], object], told: Callable[[], object] = str) -> None:
    """Wait for what another thread or process is about to do, with an end; what is told if it does not happen."""
    pause, end = threading.Event(), time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"it did not happen: {told()}"
        pause.wait(0.001)


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, awaitable: Any) -> Any:
        async def wrapped() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wrapped(), self.loop).result(PATIENCE)

    def close(self) -> None:
        self.run(self.loop.shutdown_default_executor())  # which names were looked up in
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()


class Blocking:
    """An asynchronous association with the manners of a blocking one."""

    def __init__(self, loop: Loop, association: Any) -> None:
        self._loop = loop
        self._association = association

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._association, name)
        return self._called(member) if inspect.ismethod(member) else member

    def _called(self, method: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            async def on_the_loop() -> Any:
                answer = method(*arguments, **options)
                return await answer if inspect.isawaitable(answer) else answer

            answer = self._loop.run(on_the_loop())
            return self._iterated(answer) if hasattr(answer, "__anext__") else answer

        return call

    def _iterated(self, results: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._loop.run(results.__anext__())
                except StopAsyncIteration:
                    return
        finally:
            self._loop.run(results.aclose())


class Rig:
    """Makes users and providers of the faces of one pairing, and takes them down."""

    def __init__(self, pairing: str) -> None:
        self.user, self.provider = pairing.split("-")
        self._loop = Loop() if "aio" in pairing else None

    def listener(self, *arguments: Any, **options: Any) -> Any:
        """A provider that is not started yet."""
        face = dn.Listener if self.provider == "sync" else dn.aio.Listener
        return face(*arguments, **{"port": 0, "drain": 2, **options})

    @contextmanager
    def serving(self, listener: Any) -> Iterator[str]:
        """The provider's address, while it serves."""
        if self.provider == "sync":
            with listener:
                yield f"{listener.ae_title or 'ANY'}@127.0.0.1:{listener.address[1]}"
            return
        assert self._loop is not None
        self._loop.run(listener.__aenter__())
        try:
            yield f"{listener.ae_title or 'ANY'}@127.0.0.1:{listener.address[1]}"
        finally:
            self._loop.run(listener.__aexit__(None, None, None))

    @contextmanager
    def connected(self, peer: str, contexts: Any, **options: Any) -> Iterator[Any]:
        """An association with the manners of a blocking one."""
        if self.user == "sync":
            with dn.connect(peer, contexts=contexts, **options) as association:
                yield association
            return
        assert self._loop is not None
        association = self._loop.run(dn.aio.connect(peer, contexts=contexts, **options))
        try:
            yield Blocking(self._loop, association)
        except BaseException:
            self._loop.run(association.abort())
            raise
        self._loop.run(association.release())

    @contextmanager
    def pair(self, listener: Any, contexts: Any, **options: Any) -> Iterator[Any]:
        """An association with a provider that serves as long."""
        with self.serving(listener) as peer, self.connected(peer, contexts, **options) as association:
            yield association

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close()


def keys(**values: Any) -> Dataset:
    """A data set from keywords."""
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def instance(number: int = 1, sop_class: str = uids.CT_IMAGE_STORAGE, pixels: int = 512, **values: Any) -> Dataset:
    """A small instance of study 2.25.100 and series 2.25.200."""
    dataset = keys(
        SOPClassUID=sop_class,
        SOPInstanceUID=f"2.25.{1000 + number}",
        StudyInstanceUID="2.25.100",
        SeriesInstanceUID="2.25.200",
        PatientID="P1",
        PatientName="DOE^JANE",
        Modality="CT",
        InstanceNumber=number,
        **values,
    )
    dataset.PixelData = bytes([number % 251]) * pixels
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def equal(received: Any, sent: Any) -> bool:
    """Whether two data sets are the same, file meta information apart."""
    return len(received) == len(sent) and all(received[element.tag].value == element.value for element in sent)


class Script:
    """A provider that accepts everything and then does what a function of (socket, read) says, once."""

    def __init__(self, play: Any) -> None:
        self._play = play
        self._server = socket.create_server(("127.0.0.1", 0))
        self.peer = f"SCRIPT@127.0.0.1:{self._server.getsockname()[1]}"
        self.rest = b""  # what the user still said after the play
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Script:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        sock, _ = self._server.accept()
        sock.settimeout(PATIENCE)
        reader = PDUs(sock)
        with sock:
            request: AssociateRQ = reader.next()
            accepted = tuple(
                PresentationContextAC(context.id, 0, context.transfer_syntaxes[0])
                for context in request.presentation_contexts
            )
            sock.sendall(AssociateAC("SCRIPT", "ME", accepted, (MaximumLength(0),)).encode())
            reader.next()
            self._play(sock, reader)
            try:
                while self.rest[-10:-9] != b"\x07" and (chunk := sock.recv(65536)):  # an A-ABORT ends it
                    self.rest += chunk
            except OSError:
                pass


class PDUs:
    """Reads PDUs from a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""

    def next(self) -> Any:
        while True:
            found = decode_first(self._buffer)
            if found is not None:
                pdu, size = found
                self._buffer = self._buffer[size:]
                return pdu
            chunk = self._sock.recv(65536)
            if not chunk:
                return None
            self._buffer += chunk


def message(command: Command, data: bytes | None = None, context_id: int = 1) -> bytes:
    """A message as it goes over the wire."""
    buffers = frame(context_id, command.encode(), 16000, True, True)
    if data is not None:
        buffers += frame(context_id, data, 16000, False, True)
    return b"".join(buffers)
