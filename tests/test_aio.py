"""The asyncio face, with users and providers of both faces on the other side."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import faces
import pytest
from face_suite import QUICK, ProviderSuite, UserSuite, keeper, still_serves
from faces import EVERYTHING, RawProvider, data_of, echo_request, instance, store_request

import dicomnet as dn
from dicomnet._pdu import Abort, ReleaseRP, ReleaseRQ
from dicomnet.aio.transport import Transport
from dicomnet.files.instance_source import BytesSource


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run it on a new loop, with asyncio's own checks."""
    return asyncio.run(coroutine, debug=True)


class TestUser(UserSuite):
    face = "aio"

    def test_calls_of_several_tasks_take_turns(self) -> None:
        async def main(peer: str) -> None:
            async with await dn.aio.connect(peer, contexts=EVERYTHING) as pacs:
                statuses = await asyncio.gather(*[pacs.echo() for _ in range(10)], pacs.store(instance(500_000)))
                assert all(getattr(status, "ok", True) for status in statuses)

        with faces.provider("sync") as provider:
            run(main(provider.peer()))

    def test_an_echo_among_results(self) -> None:
        async def main(peer: str) -> None:
            async with await dn.aio.connect(peer, contexts=EVERYTHING) as pacs:
                async for result in pacs.store_many([instance(100), instance(200)]):
                    assert result.ok
                    assert (await pacs.echo()).is_success

        with faces.provider("sync") as provider:
            run(main(provider.peer()))

    def test_a_call_that_is_cancelled_after_its_message_leaves_the_association_usable(self) -> None:
        asked, go_on = threading.Event(), threading.Event()

        def slow(_: object) -> None:
            asked.set()
            go_on.wait(faces.PATIENCE)

        async def main(peer: str) -> None:
            async with await dn.aio.connect(peer, contexts=EVERYTHING) as pacs:
                call = asyncio.create_task(pacs.echo())
                await asyncio.to_thread(asked.wait, faces.PATIENCE)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                assert pacs.established
                go_on.set()
                assert (await pacs.echo()).is_success

        with faces.provider("sync", lambda scp: scp.on_echo(slow)) as provider:
            run(main(provider.peer()))

    def test_a_call_that_is_cancelled_within_its_message_aborts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dicomnet.aio.driver.FAREWELL", faces.PATIENCE)
        begun = threading.Event()

        def script(raw: RawProvider) -> list[Any]:
            raw.accept()
            raw.read_command()
            begun.set()
            return raw.read_to_the_end()

        async def main(peer: str) -> None:
            pacs = await dn.aio.connect(peer, contexts=EVERYTHING)
            call = asyncio.create_task(pacs.store(instance(100_000_000)))
            await asyncio.to_thread(begun.wait, faces.PATIENCE)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert not pacs.established
            with pytest.raises(dn.LocalProtocolError):
                await pacs.echo()
            await pacs.abort()

        with faces.raw_provider(script) as told:
            run(main(told.peer))
            *fragments, end = told()
            # Whole PDUs to the last, though the call died within one.
            assert end == Abort(0, 0)
            assert not fragments[-1].pdvs[-1].is_last

    def test_abort_is_told_to_a_call_that_waits(self) -> None:
        asked = threading.Event()

        def script(raw: RawProvider) -> list[Any]:
            raw.accept()
            raw.read_command()
            asked.set()
            return raw.read_to_the_end()

        async def main(peer: str) -> None:
            pacs = await dn.aio.connect(peer, contexts=EVERYTHING)
            call = asyncio.create_task(pacs.echo())
            await asyncio.to_thread(asked.wait, faces.PATIENCE)
            await pacs.abort()
            with pytest.raises(dn.AssociationAborted) as caught:
                await call
            assert not caught.value.by_peer

        with faces.raw_provider(script) as told:
            run(main(told.peer))
            assert told() == [Abort(0, 0)]

    def test_the_end_of_an_idle_association_is_noticed(self) -> None:
        """Without a call: an idle association whose peer is gone holds nothing, and the next call says why."""
        go_on = threading.Event()

        def script(raw: RawProvider) -> None:
            raw.accept()
            go_on.wait(faces.PATIENCE)
            raw.send(Abort(0, 0))

        async def main(peer: str) -> None:
            async with await dn.aio.connect(peer, contexts=EVERYTHING) as pacs:
                go_on.set()
                await pacs._requestor.driver._disconnection()
                assert not pacs.established
                for _ in range(2):
                    with pytest.raises(dn.AssociationAborted):
                        await pacs.echo()

        with faces.raw_provider(script) as told:
            run(main(told.peer))

    def test_a_file_that_shrinks_ends_the_association(self, tmp_path: Path) -> None:
        path = tmp_path / "shrinks.dcm"

        class Shrinks(BytesSource):
            def chunks(self, unit: int) -> Any:
                yield next(iter(super().chunks(unit)))[:unit]
                raise dn.InputFileError("it became shorter", problem=22, path=path)

        async def main(peer: str) -> None:
            async with await dn.aio.connect(peer, contexts=EVERYTHING) as pacs:
                source = instance(1_000_000)
                shrinks = Shrinks(data_of(source), faces.SYNTAX)
                with pytest.raises(dn.InputFileError, match="shorter"):
                    await pacs.store(shrinks)
                assert not pacs.established

        with faces.provider("sync") as provider:
            run(main(provider.peer()))
            assert provider.stored == []


class TestProvider(ProviderSuite):
    face = "aio"

    def test_a_handler_may_be_a_coroutine_function(self) -> None:
        stored = []

        def configure(scp: Any) -> None:
            @scp.on_store()
            async def keep(request: Any) -> dn.Status:
                await asyncio.to_thread(stored.append, request.data)
                return dn.Status(0xB000)

            @scp.on_echo
            async def fail(_: object) -> None:
                raise ValueError("a bug")

        source = instance(300_000)
        with faces.provider("aio", configure) as provider, faces.SyncUser(provider.peer()) as user:
            for result in user.store_many([source] * 3):
                assert result.status == 0xB000
            assert user.echo() == 0x0110
            assert user.store(source).ok
        assert stored == [data_of(source)] * 4

    def test_a_handler_may_return_a_future(self) -> None:
        with ThreadPoolExecutor(1) as pool:

            def configure(scp: Any) -> None:
                @scp.on_store(deadline=0.1)
                def keep(request: Any) -> Any:
                    if request.sop_instance_uid == "2.25.9":
                        return asyncio.get_running_loop().create_future()  # which is never done
                    return pool.submit(dn.Status, 0xB000)

                @scp.on_echo
                def fail(_: object) -> Any:
                    future = asyncio.get_running_loop().create_future()
                    future.set_exception(ValueError("a bug"))
                    return future

            with faces.provider("aio", configure) as provider, faces.SyncUser(provider.peer()) as user:
                assert user.store(instance(100)).status == 0xB000
                assert user.store(instance(100, uid="2.25.9")).status.is_failure
                assert user.echo() == 0x0110
                assert user.store(instance(100)).status == 0xB000

    def test_nothing_is_read_while_a_handler_is_awaited(self, tmp_path: Path) -> None:
        go_on = asyncio.Event()
        begun = threading.Event()

        def configure(scp: Any) -> None:
            keeper(tmp_path, tmp_path)(scp)

            @scp.on_echo
            async def wait(_: object) -> None:
                begun.set()
                await go_on.wait()

        with faces.provider("aio", configure) as provider, provider.raw() as raw:
            raw.associate()
            raw.send(echo_request())
            assert begun.wait(faces.PATIENCE)
            size = fill(raw.sock, store_request(bytes(100_000_000)))
            assert size < 50_000_000
            assert list(tmp_path.iterdir()) == []
            with provider.raw() as other:  # others are served meanwhile
                other.associate()
            provider.loop.loop.call_soon_threadsafe(go_on.set)
            assert raw.read_command().status == 0

    def test_a_handler_that_is_awaited_for_long_is_no_silence_of_the_peer(self) -> None:
        async def slow(_: object) -> None:
            loop = asyncio.get_running_loop()
            later = loop.create_future()
            loop.call_later(3.0, later.set_result, None)
            await later

        timeouts = dn.Timeouts(idle=2.0, progress=2.0)  # the test has as long to ask
        with faces.provider("aio", lambda scp: scp.on_echo(slow), timeouts=timeouts) as provider, provider.raw() as raw:
            raw.associate()
            assert raw.echo().status == 0

    def test_a_handler_that_is_cancelled(self) -> None:
        async def cancelled(_: object) -> None:
            raise asyncio.CancelledError

        with faces.provider("aio", lambda scp: scp.on_echo(cancelled)) as provider, provider.raw() as raw:
            raw.associate()
            assert raw.echo().status == 0x0110

    def test_stopping_cancels_a_handler_that_does_not_end(self) -> None:
        begun = threading.Event()
        ended = []

        async def for_ever(_: object) -> None:
            begun.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.append(True)

        with faces.provider("aio", lambda scp: scp.on_echo(for_ever), drain=QUICK) as provider:
            raw = provider.raw()
            raw.associate()
            raw.send(echo_request())
            assert begun.wait(faces.PATIENCE)
        assert ended == [True]
        assert raw.read_to_the_end() == [Abort(0, 0)]
        raw.sock.close()

    def test_serve_forever_ends_with_stop(self) -> None:
        async def main() -> None:
            listener = dn.aio.Listener(port=0)
            await listener.open()
            serving = asyncio.create_task(listener.serve_forever())
            async with await dn.aio.connect(f"127.0.0.1:{listener.address[1]}", contexts=EVERYTHING) as pacs:
                assert (await pacs.echo()).is_success
            listener.stop()
            await asyncio.wait_for(serving, faces.PATIENCE)
            listener.stop()

        run(main())

    def test_serve_forever_may_be_cancelled(self) -> None:
        async def main() -> None:
            listener = dn.aio.Listener(port=0)
            await listener.open()
            serving = asyncio.create_task(listener.serve_forever())
            pacs = await dn.aio.connect(f"127.0.0.1:{listener.address[1]}", contexts=EVERYTHING)
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(serving, faces.PATIENCE)
            with pytest.raises(dn.AssociationAborted):
                await pacs.echo()
            await pacs.abort()

        with faces.nothing_left():
            run(main())

    def test_stop_before_the_start(self) -> None:
        async def main() -> None:
            listener = dn.aio.Listener(port=0)
            listener.stop()
            await asyncio.wait_for(listener.serve_forever(), faces.PATIENCE)

        run(main())

    def test_idle_associations_have_no_tasks_and_one_timer_each(self) -> None:
        count = 50
        with faces.provider("aio", limits=dn.Limits(associations=count)) as provider, ExitStack() as stack:
            for _ in range(count):
                raw = stack.enter_context(provider.raw())
                raw.associate()
                assert raw.echo().status == 0
            tasks, timers, ready = provider.loop.run(what_runs())
            assert len(tasks) == 1, tasks  # the one that asks
            assert timers <= 2 * count  # ARTIM of each is cancelled, and leaves when it would have rung
            assert ready == 0

    @pytest.mark.measures
    def test_idle_associations_are_small(self) -> None:
        count = 100
        with faces.provider("aio", limits=dn.Limits(associations=count)) as provider, ExitStack() as stack:
            still_serves(provider)  # what is made once for all
            tracemalloc.start()
            try:
                before = tracemalloc.get_traced_memory()[0]
                for _ in range(count):
                    raw = stack.enter_context(provider.raw())
                    raw.associate()
                    assert raw.echo().status == 0
                held = tracemalloc.get_traced_memory()[0] - before
            finally:
                tracemalloc.stop()
            assert held / count < 32 << 10


async def what_runs() -> tuple[set[str], int, int]:
    """The tasks of this loop, its timers, and what is about to run."""
    loop: Any = asyncio.get_running_loop()
    return {str(task.get_coro()) for task in asyncio.all_tasks()}, len(loop._scheduled), len(loop._ready)


def fill(sock: socket.socket, data: bytes) -> int:
    """Send until the peer takes no more; how much it took."""
    sock.setblocking(False)
    view = memoryview(data)
    try:
        while view:
            try:
                view = view[sock.send(view) :]
            except BlockingIOError:
                _, writable, _ = select.select([], [sock], [], QUICK)
                if not writable:
                    break
    finally:
        sock.settimeout(faces.PATIENCE)
    return len(data) - len(view)


class Recorder:
    """The owner of a `Transport`, which writes down what it is told."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.received = bytearray()
        self.room = asyncio.Event()
        self.end = asyncio.Event()
        transport.owner = self

    def connected(self) -> None:
        pass

    def received_bytes(self) -> int:
        return len(self.received)

    def writable(self) -> None:
        self.room.set()

    def disconnected(self) -> None:
        self.end.set()


class TestTransport:
    """`Transport` alone, over a socket pair."""

    @pytest.fixture(params=["direct", "through asyncio"])
    def way(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
        """Straight to the socket, or where that is not possible (TLS, Windows)."""
        if request.param != "direct":
            monkeypatch.delattr(os, "writev")
        return str(request.param)

    def test_everything_arrives_in_order(self, way: str) -> None:
        pieces = [[os.urandom(size) for size in (6, 100_000, 6, 1, 0, 300_000)] for _ in range(20)]
        many: list[Any] = [bytes([number % 256]) for number in range(3000)]
        pieces.append(many)

        async def main() -> None:
            ours, theirs = socket.socketpair()
            reader, writer = await asyncio.open_connection(sock=theirs)
            transport = Transport(dn.Limits(), dn.Timeouts())
            recorder = Recorder(transport)
            await asyncio.get_running_loop().create_connection(lambda: transport, sock=ours)
            received = asyncio.create_task(reader.read(-1))
            for piece in pieces:
                memory = [bytearray(buffer) for buffer in piece]
                recorder.room.clear()
                done = transport.send([memoryview(buffer) for buffer in memory])
                while not done:
                    await recorder.room.wait()
                    recorder.room.clear()
                    done = transport.push()
                for buffer in memory:  # it is out: what becomes of the memory is nobody's business any more
                    buffer[:] = bytes(len(buffer))
            transport.shutdown()
            assert await received == b"".join(b"".join(piece) for piece in pieces)
            writer.close()
            await recorder.end.wait()
            transport.close()

        run(main())

    def test_sending_to_nobody_is_no_error(self, way: str) -> None:
        async def main() -> None:
            ours, theirs = socket.socketpair()
            transport = Transport(dn.Limits(), dn.Timeouts())
            recorder = Recorder(transport)
            await asyncio.get_running_loop().create_connection(lambda: transport, sock=ours)
            theirs.close()
            for _ in range(3):
                transport.send([b"x" * 1000])
            await recorder.end.wait()
            assert transport.send([b"x"])
            transport.close()
            transport.close()

        run(main())

    def test_closing_does_not_wait_for_a_peer_that_does_not_read(self, way: str) -> None:
        async def main() -> None:
            ours, theirs = socket.socketpair()
            transport = Transport(dn.Limits(), dn.Timeouts())
            recorder = Recorder(transport)
            await asyncio.get_running_loop().create_connection(lambda: transport, sock=ours)
            assert not transport.send([bytes(10_000_000)])
            transport.close()
            await asyncio.wait_for(recorder.end.wait(), faces.PATIENCE)
            theirs.close()

        run(main())


def test_an_encrypted_connection_is_never_written_to_directly(tmp_path: Path) -> None:
    """The socket under TLS is there to be found; nothing may reach it in the clear."""
    client, server = tls_contexts(tmp_path)
    data = [os.urandom(400_000), b"", os.urandom(1_000_000)]

    async def main() -> None:
        received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.set_result(await reader.readexactly(1_400_000))
            writer.close()

        listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
        transport = Transport(dn.Limits(), dn.Timeouts())
        recorder = Recorder(transport)
        port = listening.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: transport, "127.0.0.1", port, ssl=client)
        done = transport.send(list(data))
        while not done:
            await recorder.room.wait()
            recorder.room.clear()
            done = transport.push()
        assert await received == b"".join(data)
        await recorder.end.wait()
        transport.close()
        listening.close()

    asyncio.run(main())


def tls_contexts(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A client's and a server's, with a certificate made now."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    file = directory / "server.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return client, server


@pytest.mark.parametrize("face", ["sync", "aio"])
def test_callers_are_turned_away_before_the_port_closes(face: str) -> None:
    timeouts, answers = dn.Timeouts(quiet=None), []
    with faces.provider(face, last_call=QUICK, timeouts=timeouts) as provider, provider.raw() as there:
        there.associate()
        began = time.monotonic()
        provider.listener.stop()
        while True:
            try:
                dn.connect(f"ANY-SCP@127.0.0.1:{provider.port}", contexts=dn.contexts.verification()).abort()
            except dn.AssociationRejected as refusal:  # else the stop has not arrived yet
                answers.append((refusal.result, refusal.source, refusal.reason))
            except dn.ConnectionFailed:
                break
        assert time.monotonic() - began >= QUICK
        assert set(answers) == {(2, 3, 1)}
        assert there.echo().status == 0  # what was there goes on
        there.send(ReleaseRQ())
        assert there.read() == ReleaseRP()


def test_a_server_that_is_cancelled_turns_no_caller_away() -> None:
    async def serve() -> None:
        listener = dn.aio.Listener(port=0, last_call=100 * faces.PATIENCE)
        await listener.open()
        serving = asyncio.create_task(listener.serve_forever())
        listener.stop()
        await asyncio.wait([serving], timeout=QUICK)
        assert not serving.done()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(serving, faces.PATIENCE)
        with pytest.raises(dn.ConnectionFailed):
            await dn.aio.connect(f"ANY-SCP@127.0.0.1:{listener.address[1]}", contexts=dn.contexts.verification())

    run(serve())
