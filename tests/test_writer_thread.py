"""What is written in the background: a data set that arrives while other peers send, too."""

from __future__ import annotations

import errno
import gc
import os
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from math import inf
from pathlib import Path
from typing import Any

import faces
import pytest
from faces import CT, PATIENCE, SYNTAX, RawUser, echo_request, message, provider, store_request
from hypothesis import given
from hypothesis import strategies as st
from rig import until

import dicomnet as dn
from dicomnet._pdu import Abort, AssociateRQ, MaximumLength, PresentationContextRQ
from dicomnet.errors import LocalProtocolError, OutputFileError
from dicomnet.files import file_sink
from dicomnet.files.file_sink import FileSink
from dicomnet.files.receive_buffer import ReceiveBuffer
from dicomnet.protocol.messages import CommandField
from dicomnet.sync.writer_thread import WriterThread
from dicomnet.wire.command_set import Command

LARGE = 1 << 16  # what is worth to be written in the background
WRITER = "dicomnet-writer"
OUT_OF_RESOURCES = 0xA700


@pytest.fixture
def writer() -> Iterator[WriterThread]:
    """One that is wanted, and never late."""
    writer = WriterThread(late=inf)
    writer.wanted = True
    yield writer
    writer.close()


class Held:
    """Holds back what the writer's thread writes, from when it is made until `let`; the first write may fail then.

    Attributes:
        reached: the writer's thread has come to its first write.
        forgotten: it was held for so long that it went on by itself.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.forgotten = False
        self.reached, self._go_on = threading.Event(), threading.Event()
        self.error: OSError | None = None
        monkeypatch.setattr(file_sink, "_write", self._write)

    def _write(self, fd: int, buffers: list[Any]) -> int:
        if threading.current_thread().name == WRITER:
            self.reached.set()
            self.forgotten = not self._go_on.wait(PATIENCE)
            error, self.error = self.error, None
            if error is not None:
                raise error
        return os.writev(fd, buffers)

    def let(self, error: int = 0) -> None:
        """Go on, or fail."""
        self.error = OSError(error, os.strerror(error)) if error else None
        self._go_on.set()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held(monkeypatch)
    yield held
    held.let()
    assert not held.forgotten


def received(writer: WriterThread, data: bytes) -> memoryview:
    """What a loop that received this gives to a sink."""
    buffer = ReceiveBuffer(writer, len(data))
    view = memoryview(buffer)
    view[:] = data
    return view


def awaited(directory: Path, header: bytes = b"") -> FileSink:
    """A sink of which somebody waits until nothing is pending."""
    sink = FileSink(directory, header)
    sink.awaited = True
    return sink


def left_in(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


# ---- the sink --------------------------------------------------------------------------------------------------------


class TestSink:
    def test_a_large_part_is_borrowed_and_what_follows_it(
        self, tmp_path: Path, writer: WriterThread, held: Held
    ) -> None:
        sink = awaited(tmp_path, b"header")
        large, small = received(writer, os.urandom(LARGE)), received(writer, b"small")
        sink.write([large])
        sink.write([small])
        assert (sink.pending, writer.waiting, sink.size) == (2, 2, LARGE + 5)
        assert [view.obj.lent for view in (large, small)] == [1, 1]
        settled = threading.Event()
        sink.settled = settled.set
        sink.close()
        held.let()
        assert settled.wait(PATIENCE)
        assert [view.obj.lent for view in (large, small)] == [0, 0]
        assert not sink.pending
        sink.commit(tmp_path / "whole")
        assert (tmp_path / "whole").read_bytes() == b"header" + bytes(large) + b"small"

    @pytest.mark.parametrize("wanted", [False, True])
    def test_what_is_small_or_not_wanted_or_not_lent_is_written_at_once(
        self, tmp_path: Path, writer: WriterThread, held: Held, wanted: bool
    ) -> None:
        writer.wanted = wanted
        sink = awaited(tmp_path)
        sink.write([received(writer, bytes(LARGE - 1 if wanted else LARGE))])
        sink.write([memoryview(bytes(LARGE))])
        assert (sink.pending, writer.waiting) == (0, 0)

    def test_what_a_sink_of_others_leaves_to_it_is_whole_after_the_close(
        self, tmp_path: Path, writer: WriterThread, held: Held
    ) -> None:
        sink = FileSink(tmp_path, b"header")
        sink.write([received(writer, bytes(LARGE))])
        sink.close()
        assert (sink.pending, writer.waiting) == (0, 0)
        assert sink.path is not None
        assert Path(sink.path).read_bytes() == b"header" + bytes(LARGE)

    def test_so_many_writes_may_wait_and_no_more(self, tmp_path: Path, writer: WriterThread, held: Held) -> None:
        sinks = [awaited(tmp_path) for _ in range(9)]
        for sink in sinks:
            sink.write([received(writer, bytes(LARGE))])
        assert [sink.pending for sink in sinks] == [1] * 5 + [0] * 4
        held.let()
        writer.wait()
        assert not any(sink.pending for sink in sinks)

    def test_where_no_more_may_wait_who_writes_does_it_himself_in_order(
        self, tmp_path: Path, writer: WriterThread, held: Held
    ) -> None:
        sink = awaited(tmp_path)
        for number in range(5):
            sink.write([received(writer, bytes([number]) * LARGE)])
        writing = threading.Thread(target=sink.write, args=([received(writer, b"end")],))
        writing.start()
        until(lambda: writer.waiting == 6)
        assert sink.pending == 5  # it waits for them
        held.let()
        writing.join(PATIENCE)
        sink.commit(tmp_path / "whole")
        assert (tmp_path / "whole").read_bytes() == b"".join(bytes([number]) * LARGE for number in range(5)) + b"end"

    def test_after_writes_that_began_late_it_goes_without_more_and_more(self, tmp_path: Path) -> None:
        writer, taken = WriterThread(late=0.0), []
        writer.wanted = True
        for _ in range(1 + 1 + 1 + 3 + 1 + 7 + 1):
            sink = awaited(tmp_path)
            view = received(writer, bytes(LARGE))
            settled = threading.Event()
            sink.settled = settled.set
            sink.write([view])
            sink.close()
            taken.append(sink.settled is None or settled.wait(0) or bool(sink.pending))
            writer.wait()
        writer.close()
        assert taken == [True, False, True, *[False] * 3, True, *[False] * 7, True]

    def test_a_commit_waits_and_so_does_a_write_of_other_memory(
        self, tmp_path: Path, writer: WriterThread, held: Held
    ) -> None:
        sink, other = awaited(tmp_path), awaited(tmp_path)
        for one in (sink, other):
            one.write([received(writer, b"\1" * LARGE)])
        threading.Timer(0, held.let).start()
        sink.write([memoryview(b"end")])
        sink.commit(tmp_path / "one")
        other.commit(tmp_path / "other")
        assert (tmp_path / "one").read_bytes() == b"\1" * LARGE + b"end"
        assert (tmp_path / "other").read_bytes() == b"\1" * LARGE

    @pytest.mark.parametrize("then", ["write", "commit"])
    def test_a_failure_is_raised_by_what_comes_next_and_leaves_nothing(
        self, tmp_path: Path, writer: WriterThread, held: Held, then: str
    ) -> None:
        sink = awaited(tmp_path)
        for _ in range(2):
            sink.write([received(writer, bytes(LARGE))])
        held.let(errno.ENOSPC)
        writer.wait()
        assert sink.failure is not None
        with pytest.raises(OutputFileError, match="No space left") as caught:
            sink.write([memoryview(b"more")]) if then == "write" else sink.commit(tmp_path / "x")
        assert caught.value.errno == errno.ENOSPC
        assert left_in(tmp_path) == []

    def test_what_is_discarded_is_not_written_and_its_last_part_deletes_it(
        self, tmp_path: Path, writer: WriterThread, held: Held
    ) -> None:
        sinks = [awaited(tmp_path), awaited(tmp_path)]
        views = [received(writer, bytes(LARGE)) for _ in sinks]
        for sink, view in zip(sinks, views, strict=True):
            sink.write([view])
        assert held.reached.wait(PATIENCE)
        for sink in (*sinks, *sinks):
            sink.discard()  # without a wait for what is being written
        assert [sink.pending for sink in sinks] == [1, 1]
        held.let()
        writer.wait()
        assert left_in(tmp_path) == []
        assert [view.obj.lent for view in views] == [0, 0]
        with pytest.raises(LocalProtocolError):
            sinks[0].commit(tmp_path / "x")

    def test_a_failure_is_told_at_once_and_what_is_left_deletes_the_file(
        self, tmp_path: Path, writer: WriterThread, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queued, go_on, writes = threading.Event(), threading.Event(), []

        def write(fd: int, buffers: list[Any]) -> int:
            writes.append(fd)
            if len(writes) == 1:
                assert queued.wait(PATIENCE)
                raise OSError(errno.ENOSPC, "No space left on device")
            assert go_on.wait(PATIENCE)
            return os.writev(fd, buffers)

        monkeypatch.setattr(file_sink, "_write", write)
        sink, other = awaited(tmp_path), awaited(tmp_path)
        for one in (sink, other, sink):
            one.write([received(writer, b"x" * LARGE)])
        queued.set()
        until(lambda: sink.failure is not None)
        with pytest.raises(OutputFileError, match="No space left"):
            sink.write([received(writer, b"more")])
        assert sink.pending == 1
        go_on.set()
        other.commit(tmp_path / "other")
        assert not sink.pending
        assert left_in(tmp_path) == ["other"]

    def test_without_a_thread_to_be_had_a_sink_writes_itself(
        self, tmp_path: Path, writer: WriterThread, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def none_left(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", none_left)
        sink = awaited(tmp_path)
        sink.write([received(writer, bytes(LARGE))])
        assert not sink.pending
        sink.commit(tmp_path / "whole")
        assert (tmp_path / "whole").stat().st_size == LARGE

    @given(
        parts=st.lists(
            st.tuples(st.integers(0, 2), st.sampled_from([1, 1000, LARGE, LARGE + 1]), st.booleans(), st.booleans()),
            max_size=25,
        )
    )
    def test_however_it_is_cut_each_file_has_its_own_in_order(
        self, tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int, bool, bool]]
    ) -> None:
        directory, writer = tmp_path_factory.mktemp("spool"), WriterThread(late=inf)
        sinks = [awaited(directory) for _ in range(3)]
        expected = [bytearray() for _ in sinks]
        for number, (place, size, wanted, lent) in enumerate(parts):
            writer.wanted, data = wanted, bytes([number]) * size
            sinks[place].write([received(writer, data) if lent else memoryview(data)])
            expected[place] += data
        for place, sink in enumerate(sinks):
            sink.commit(directory / str(place))
            assert (directory / str(place)).read_bytes() == expected[place]
        writer.close()


def waiting() -> int:
    """How many writes wait for the writer of a listener."""
    return max((one.waiting for one in gc.get_objects() if isinstance(one, WriterThread)), default=0)


# ---- a listener ------------------------------------------------------------------------------------------------------


class Spooling:
    """A provider whose handler gives each instance a number as its name."""

    def __init__(self, directory: Path) -> None:
        self.spool, self.kept = directory / "spool", directory / "kept"
        self.spool.mkdir()
        self.kept.mkdir()
        self.handled = 0

    def configure(self, listener: Any) -> None:
        listener.on_echo(inline=True)(lambda _: 0)
        listener.on_store(spool=self.spool, inline=True)(self._keep)

    def _keep(self, request: dn.StoreRequest) -> int:
        self.handled += 1
        request.file.commit(str(self.handled), root=self.kept)
        return 0


@pytest.fixture
def spooling(tmp_path: Path) -> Spooling:
    return Spooling(tmp_path)


def pour(raw: RawUser, reached: threading.Event) -> int:
    """Send a data set without its end until a part of it has come to the writer; how many bytes."""
    part = bytes(4 * LARGE)
    raw.send(store_request(part, last=False))
    more, sent = b"".join(map(bytes, faces.frame(3, part, 16378, False, False))), len(part)
    while not reached.wait(0.2):  # it may have come in pieces that are too small for it
        raw.send(more)
        sent += len(part)
    return sent


def finish(raw: RawUser) -> None:
    raw.send(b"".join(map(bytes, faces.frame(3, b"\0\0", 16378, False, True))))


STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IDENTIFIER = struct.pack("<HH2sH6s", 8, 0x52, b"CS", 6, b"STUDY ")  # (0008,0052) Query/Retrieve Level


def finding(serving: faces.Provider) -> RawUser:
    """An association for CT, context 3, and C-FIND, context 5."""
    raw = serving.raw()
    models = {3: CT, 5: STUDY_ROOT_FIND}
    contexts = tuple(PresentationContextRQ(number, model, (SYNTAX,)) for number, model in models.items())
    raw.send(AssociateRQ("ANY-SCP", "RAW", contexts, (MaximumLength(16384),)))
    raw.read()
    return raw


def find_request(number: int) -> bytes:
    """A C-FIND-RQ as PDUs."""
    command = Command(
        affected_sop_class_uid=STUDY_ROOT_FIND, command_field=CommandField.C_FIND_RQ, message_id=number, priority=0,
        command_data_set_type=1,
    )  # fmt: skip
    return message(5, command) + b"".join(map(bytes, faces.frame(5, IDENTIFIER, 16378, False, True)))


def data_of(path: Path) -> bytes:
    """The data set of a Part 10 file: it begins where the File Meta Information ends."""
    found = path.read_bytes()
    length = int.from_bytes(found[140:144], "little")  # (0002,0000) File Meta Information Group Length
    return found[144 + length :]


class TestListener:
    def test_who_waits_for_the_disk_keeps_no_other_waiting(self, spooling: Spooling, held: Held) -> None:
        with provider("sync", spooling.configure) as serving, serving.raw() as one, serving.raw() as other:
            one.associate()
            other.associate()
            sent = pour(one, held.reached)
            finish(one)
            for number in range(3):
                assert other.echo(number + 1).status == 0
            assert not spooling.handled
            held.let()
            assert one.read_command().status == 0
        assert data_of(spooling.kept / "1") == bytes(sent + 2)
        assert left_in(spooling.spool) == []

    def test_what_cannot_be_written_is_refused_and_the_association_lives(self, spooling: Spooling, held: Held) -> None:
        with provider("sync", spooling.configure) as serving, serving.raw() as raw:
            raw.associate()
            pour(raw, held.reached)
            finish(raw)
            held.let(errno.ENOSPC)
            assert raw.read_command().status == OUT_OF_RESOURCES
            assert raw.echo(2).status == 0
        assert not spooling.handled
        assert left_in(spooling.spool) == left_in(spooling.kept) == []

    def test_an_association_that_ends_meanwhile_keeps_no_other_waiting_and_leaves_nothing(
        self, spooling: Spooling, held: Held
    ) -> None:
        with provider("sync", spooling.configure) as serving, serving.raw() as one, serving.raw() as other:
            one.associate()
            pour(one, held.reached)
            serving.listener.abort(serving.listener.present()[0])
            until(lambda: serving.listener.counters["open"] == 1)
            other.associate()
            assert other.echo().status == 0
            held.let()
            until(lambda: left_in(spooling.spool) == [])
        assert left_in(spooling.kept) == []

    def test_what_is_answered_meanwhile_is_sent(self, spooling: Spooling, held: Held) -> None:
        later: Future[int] = Future()

        def configure(listener: Any) -> None:
            spooling.configure(listener)
            listener.on_echo(inline=True, replace=True)(lambda request: later if request.command.message_id == 7 else 0)

        with provider("sync", configure) as serving, serving.raw() as one, serving.raw() as other:
            one.associate()
            other.associate()
            one.send(echo_request(7))
            pour(one, held.reached)
            finish(one)
            assert other.echo().status == 0  # the loop has had all that was sent before
            later.set_result(0)
            assert one.read_command().message_id_being_responded_to == 7
            held.let()
            assert one.read_command().message_id_being_responded_to == 1

    def test_a_request_that_is_kept_for_later_waits_for_its_file(self, spooling: Spooling, held: Held) -> None:
        asked, go_on = threading.Event(), threading.Event()

        def find(_: dn.FindRequest) -> Iterator[Any]:
            asked.set()
            assert go_on.wait(PATIENCE)
            yield from ()

        def configure(listener: Any) -> None:
            spooling.configure(listener)
            listener.on_find("STUDY_ROOT")(find)

        with provider("sync", configure) as serving, finding(serving) as raw, serving.raw() as other:
            raw.send(find_request(7))
            assert asked.wait(PATIENCE)
            pour(raw, held.reached)
            finish(raw)
            other.associate()
            assert other.echo().status == 0
            go_on.set()
            held.let(errno.ENOSPC)
            assert raw.read_command().message_id_being_responded_to == 7
            assert raw.read_command().status == OUT_OF_RESOURCES
        assert not spooling.handled

    def test_who_gets_matches_meanwhile_is_read_no_further(self, spooling: Spooling, held: Held) -> None:
        asked, go_on, over = threading.Event(), threading.Event(), threading.Event()

        def find(_: dn.FindRequest) -> Iterator[Any]:
            asked.set()
            assert go_on.wait(PATIENCE)
            while not over.is_set():
                yield IDENTIFIER

        def configure(listener: Any) -> None:
            spooling.configure(listener)
            listener.on_find("STUDY_ROOT")(find)

        with provider("sync", configure) as serving, finding(serving) as raw, serving.raw() as other:
            raw.send(find_request(7))
            assert asked.wait(PATIENCE)
            sent = pour(raw, held.reached)
            more = bytes(32 << 20)
            rest = b"".join(map(bytes, faces.frame(3, more, 16378, False, True)))
            sending = threading.Thread(target=raw.send, args=(rest,))
            sending.start()
            until(lambda: waiting() >= 5)
            go_on.set()
            for _ in range(200):
                raw.read()
            other.associate()
            assert other.echo().status == 0
            assert sum(one.lent > 0 for one in gc.get_objects() if isinstance(one, ReceiveBuffer)) <= 6
            over.set()
            held.let()
            sending.join(PATIENCE)
            while not spooling.handled:
                raw.read()
        assert data_of(spooling.kept / "1") == bytes(sent) + more

    def test_a_request_whose_file_has_failed_is_not_taken_with_the_one_before(
        self, spooling: Spooling, held: Held
    ) -> None:
        """As `GatheredStores` takes it: what is wanted has no error."""
        go_on, reached, taken = threading.Event(), threading.Event(), []
        held.let(errno.ENOSPC)

        def echo(request: Any) -> int:
            reached.set()
            if request.command.message_id == 1:
                assert go_on.wait(PATIENCE)
            else:
                until(lambda: not waiting())
                taken.append(connection().take_next(lambda event: event.message.error is None))
            return 0

        def connection() -> Any:
            return next(iter(serving.listener._acceptor.connections))

        def configure(listener: Any) -> None:
            spooling.configure(listener)
            listener.on_echo(inline=True, replace=True)(echo)
            listener.bound = lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)

        with provider("sync", configure) as serving, serving.raw() as raw:
            raw.associate()
            raw.send(echo_request(1))
            assert reached.wait(PATIENCE)
            both = echo_request(2) + store_request(bytes(2 * LARGE))
            raw.send(both)
            until(lambda: len(connection().sock.recv(1 << 20, socket.MSG_PEEK)) == len(both))
            go_on.set()
            statuses = [raw.read_command().status for _ in range(3)]
        assert (taken, statuses) == ([None], [0, 0, OUT_OF_RESOURCES])
        assert not spooling.handled

    def test_a_stop_waits_for_it(self, spooling: Spooling, held: Held) -> None:
        with provider("sync", spooling.configure) as serving, serving.raw() as raw:
            raw.associate()
            sent = pour(raw, held.reached)
            finish(raw)
            stopping = threading.Thread(target=serving.listener.stop)
            stopping.start()
            held.let()
            assert raw.read_command().status == 0
            stopping.join(PATIENCE)
        assert data_of(spooling.kept / "1") == bytes(sent + 2)

    def test_a_stop_that_waits_no_longer_leaves_no_file_behind(self, spooling: Spooling, held: Held) -> None:
        with provider("sync", spooling.configure, drain=0.0) as serving, serving.raw() as raw:
            raw.associate()
            sent = pour(raw, held.reached)
            finish(raw)
            stopping = threading.Thread(target=serving.listener.__exit__)
            stopping.start()
            assert [type(pdu) for pdu in raw.read_to_the_end()] == [Abort]
            held.let()
            stopping.join(PATIENCE)
            assert left_in(spooling.spool) == []
        if left_in(spooling.kept):  # its handler may still have had its turn
            assert data_of(spooling.kept / "1") == bytes(sent + 2)

    def test_eight_who_send_at_once_each_get_their_own(self, spooling: Spooling) -> None:
        sources = [[faces.instance(3 * LARGE + 2 * number, uid=f"2.25.{number}.{many}") for many in range(5)]
                   for number in range(8)]  # fmt: skip

        def configure(listener: Any) -> None:
            listener.on_store(spool=spooling.spool, inline=True)(
                lambda request: request.file.commit(request.sop_instance_uid, root=spooling.kept) and 0
            )

        with provider("sync", configure) as serving:

            def send(some: list[Any]) -> None:
                with faces.SyncUser(serving.peer()) as user:
                    assert [result.status for result in user.store_many(some)] == [0] * len(some)

            threads = [threading.Thread(target=send, args=(some,)) for some in sources]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
        for number, some in enumerate(sources):
            for many, source in enumerate(some):
                assert data_of(spooling.kept / f"2.25.{number}.{many}") == faces.data_of(source)
