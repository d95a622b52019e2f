"""What is written in the background: a data set that arrives while other peers send, too."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any

import faces
import pytest
from faces import PATIENCE, RawUser, echo_request, provider, store_request
from hypothesis import given
from hypothesis import strategies as st
from rig import until

import dicomnet as dn
from dicomnet.errors import LocalProtocolError, OutputFileError
from dicomnet.files import file_sink
from dicomnet.files.file_sink import FileSink
from dicomnet.files.receive_buffer import ReceiveBuffer
from dicomnet.sync.writer_thread import WriterThread

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
    """Holds back what the writer's thread writes, from when it is made until `let`; the first write may fail then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self._go_on = threading.Event(), threading.Event()
        self.error: OSError | None = None
        monkeypatch.setattr(file_sink, "_write", self._write)

    def _write(self, fd: int, buffers: list[Any]) -> int:
        if threading.current_thread().name == WRITER:
            self.reached.set()
            assert self._go_on.wait(PATIENCE)
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


def received(writer: WriterThread, data: bytes) -> memoryview:
    """What a loop that received this gives to a sink."""
    buffer = ReceiveBuffer(writer, len(data))
    view = memoryview(buffer)
    view[:] = data
    return view


def left_in(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


# ---- the sink --------------------------------------------------------------------------------------------------------


class TestSink:
    def test_a_large_part_is_borrowed_and_what_follows_it(
        self, tmp_path: Path, writer: WriterThread, held: Held
    ) -> None:
        sink = FileSink(tmp_path, b"header")
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
        sink = FileSink(tmp_path)
        sink.write([received(writer, bytes(LARGE - 1 if wanted else LARGE))])
        sink.write([memoryview(bytes(LARGE))])
        assert (sink.pending, writer.waiting) == (0, 0)

    def test_so_many_writes_may_wait_and_no_more(self, tmp_path: Path, writer: WriterThread, held: Held) -> None:
        sinks = [FileSink(tmp_path) for _ in range(9)]
        for sink in sinks:
            sink.write([received(writer, bytes(LARGE))])
        assert [sink.pending for sink in sinks] == [1] * 5 + [0] * 4
        held.let()
        writer.wait()
        assert not any(sink.pending for sink in sinks)

    def test_after_writes_that_began_late_it_goes_without_more_and_more(self, tmp_path: Path) -> None:
        writer, taken = WriterThread(late=0.0), []
        writer.wanted = True
        for _ in range(1 + 1 + 1 + 3 + 1 + 7 + 1):
            sink = FileSink(tmp_path)
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
        sink, other = FileSink(tmp_path), FileSink(tmp_path)
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
        sink = FileSink(tmp_path)
        for _ in range(2):
            sink.write([received(writer, bytes(LARGE))])
        held.let(errno.ENOSPC)
        writer.wait()
        assert sink.failure is not None
        with pytest.raises(OutputFileError, match="No space left") as caught:
            sink.write([memoryview(b"more")]) if then == "write" else sink.commit(tmp_path / "x")
        assert caught.value.errno == errno.ENOSPC
        assert left_in(tmp_path) == []

    def test_what_is_discarded_is_not_written(self, tmp_path: Path, writer: WriterThread, held: Held) -> None:
        sinks = [FileSink(tmp_path), FileSink(tmp_path)]
        views = [received(writer, bytes(LARGE)) for _ in sinks]
        for sink, view in zip(sinks, views, strict=True):
            sink.write([view])
        assert held.reached.wait(PATIENCE)
        threading.Timer(0, held.let).start()
        for sink in sinks:
            sink.discard()
        assert left_in(tmp_path) == []
        assert [view.obj.lent for view in views] == [0, 0]
        with pytest.raises(LocalProtocolError):
            sinks[0].commit(tmp_path / "x")

    def test_without_a_thread_to_be_had_a_sink_writes_itself(
        self, tmp_path: Path, writer: WriterThread, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def none_left(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", none_left)
        sink = FileSink(tmp_path)
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
        sinks = [FileSink(directory) for _ in range(3)]
        expected = [bytearray() for _ in sinks]
        for number, (place, size, wanted, lent) in enumerate(parts):
            writer.wanted, data = wanted, bytes([number]) * size
            sinks[place].write([received(writer, data) if lent else memoryview(data)])
            expected[place] += data
        for place, sink in enumerate(sinks):
            sink.commit(directory / str(place))
            assert (directory / str(place)).read_bytes() == expected[place]
        writer.close()


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


def pour(raw: RawUser, reached: Callable[[], bool]) -> int:
    """Send a data set without its end until a part of it has come to the writer; how many bytes."""
    part = bytes(LARGE)
    raw.send(store_request(part, last=False))
    more, sent = b"".join(map(bytes, faces.frame(3, part, 16378, False, False))), len(part)
    while not reached():
        raw.send(more)
        sent += len(part)
    return sent


def finish(raw: RawUser) -> None:
    raw.send(b"".join(map(bytes, faces.frame(3, b"\0\0", 16378, False, True))))


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
            sent = pour(one, held.reached.is_set)
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
            pour(raw, held.reached.is_set)
            finish(raw)
            held.let(errno.ENOSPC)
            assert raw.read_command().status == OUT_OF_RESOURCES
            assert raw.echo(2).status == 0
        assert not spooling.handled
        assert left_in(spooling.spool) == left_in(spooling.kept) == []

    def test_an_association_that_ends_meanwhile_leaves_nothing(self, spooling: Spooling, held: Held) -> None:
        with provider("sync", spooling.configure) as serving, serving.raw() as raw:
            raw.associate()
            pour(raw, held.reached.is_set)
            raw.sock.close()
            held.let()
            until(lambda: left_in(spooling.spool) == [])
            with serving.raw() as other:
                other.associate()
                other.send(echo_request())
                assert other.read_command().status == 0
        assert left_in(spooling.kept) == []

    def test_a_stop_waits_for_it(self, spooling: Spooling, held: Held) -> None:
        with provider("sync", spooling.configure) as serving, serving.raw() as raw:
            raw.associate()
            sent = pour(raw, held.reached.is_set)
            finish(raw)
            stopping = threading.Thread(target=serving.listener.stop)
            stopping.start()
            held.let()
            assert raw.read_command().status == 0
            stopping.join(PATIENCE)
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
