"""Where received data sets go: files appear whole or not at all, and nothing from a peer leads anywhere else."""

import errno
import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnet.errors import InvalidArgument, LocalProtocolError, OutputFileError, OutputProblem
from dicomnet.files import file_sink
from dicomnet.files.dataset_sink import DiscardSink, MemorySink
from dicomnet.files.file_sink import FileSink, own_path, uid_path

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
linux = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
UID = "1.2.840.99.1"


def views(*pieces: bytes) -> list[memoryview]:
    return [memoryview(piece) for piece in pieces]


def listing(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


@pytest.fixture
def spool(tmp_path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool"


def filled(spool: Path, data: bytes = b"data") -> FileSink:
    sink = FileSink(spool, b"header ")
    sink.write(views(data))
    return sink


# Files


def test_a_file_appears_whole(spool):
    sink = FileSink(str(spool), b"header ")
    assert sink.size == 0
    assert [os.path.basename(sink.path)] == listing(spool)
    sink.write(views(b"ab", b"", b"cdef"))
    sink.write([])
    sink.write(views(b"gh"))
    assert sink.size == 8
    assert [os.path.basename(sink.path)] == listing(spool)
    assert sink.path.endswith(".part")
    assert os.path.basename(sink.path).startswith(".")
    sink.close()
    sink.close()
    target = uid_path(spool, UID)
    assert sink.commit(target) == sink.path == target
    sink.discard()
    assert listing(spool) == [f"{UID}.dcm"]
    assert Path(target).read_bytes() == b"header abcdefgh"
    assert sink.size == 8


def test_commit_closes(spool):
    filled(spool).commit(spool / "x")
    assert (spool / "x").read_bytes() == b"header data"


@pytest.mark.parametrize("closed", [True, False])
def test_an_empty_data_set_leaves_a_header(spool, closed):
    sink = FileSink(spool, b"header")
    if closed:
        sink.close()
    sink.commit(spool / "x")
    assert (spool / "x").read_bytes() == b"header"
    assert sink.size == 0


@posix
def test_permissions_are_the_umask_s(spool):
    before = os.umask(0o027)
    try:
        sink = filled(spool)
    finally:
        os.umask(before)
    sink.commit(spool / "x")
    assert stat.S_IMODE((spool / "x").stat().st_mode) == 0o640


def test_the_directory_may_be_relative(spool, monkeypatch):
    monkeypatch.chdir(spool)
    for directory in ("", ".", "../spool"):
        FileSink(directory).commit("x")
        assert listing(spool) == ["x"]
        os.unlink("x")


def test_a_sink_survives_a_change_of_its_caller_s_memory(spool):
    buffer = bytearray(b"first")
    sink = FileSink(spool)
    sink.write([memoryview(buffer)])
    buffer[:] = b"again"
    sink.write([memoryview(buffer)])
    sink.commit(spool / "x")
    assert (spool / "x").read_bytes() == b"firstagain"


@given(pieces=st.lists(st.lists(st.binary(max_size=50), max_size=6), max_size=5), most=st.integers(1, 60))
def test_partial_writes_and_many_buffers(tmp_path_factory, pieces, most):
    """The system takes at most so many bytes, and three buffers, at a time."""
    directory = tmp_path_factory.mktemp("x")

    def write(fd: int, buffers: list) -> int:
        assert len(buffers) <= 3
        return os.write(fd, b"".join(buffers)[:most])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_sink, "_write", write)
        patch.setattr(file_sink, "_IOV_MAX", 3)
        sink = FileSink(directory, b"header")
        for group in pieces:
            sink.write(views(*group))
        sink.commit(directory / "x")
    data = b"".join(map(b"".join, pieces))
    assert (directory / "x").read_bytes() == b"header" + data
    assert sink.size == len(data)


def test_more_buffers_than_one_call_takes(spool):
    sink = FileSink(spool, b"header")
    sink.write(views(*[b"%05d" % n for n in range(5000)]))
    sink.write(views(*[b""] * 3000, b"end"))
    sink.commit(spool / "x")
    assert (spool / "x").read_bytes() == b"header" + b"".join(b"%05d" % n for n in range(5000)) + b"end"


def test_writing_without_writev(spool, monkeypatch):
    monkeypatch.setattr(file_sink, "_write", file_sink._write_first)
    sink = FileSink(spool, b"")
    sink.write([])
    sink.write(views(b"", b"ab", b"", b"cd"))
    sink.commit(spool / "x")
    assert (spool / "x").read_bytes() == b"abcd"


@posix
@pytest.mark.skipif(not hasattr(os, "writev"), reason="writev")
def test_a_small_object_takes_four_system_calls(spool, monkeypatch):
    calls = []

    def recorded(name: str):
        function = getattr(os, name)
        return lambda *arguments, **options: (calls.append(name), function(*arguments, **options))[1]

    for name in ("open", "write", "close", "replace", "rename", "unlink", "fstat", "stat", "link"):
        monkeypatch.setattr(os, name, recorded(name))
    monkeypatch.setattr(file_sink, "_write", lambda *arguments: (calls.append("writev"), os.writev(*arguments))[1])
    sink = filled(spool)
    sink.close()
    sink.commit(uid_path(spool, UID))
    sink.discard()
    del sink
    assert calls == ["open", "writev", "close", "replace"]


# What the disk has confirmed


def test_a_durable_file_is_confirmed_before_it_has_its_name_and_then_the_name_is(spool, monkeypatch):
    calls = []

    def recorded(name: str):
        function = getattr(os, name)

        def call(*arguments, **options):
            what = arguments[0]
            if name in ("fsync", "close") and isinstance(what, int):
                what = os.readlink(f"/proc/self/fd/{what}")
            calls.append((name, os.path.basename(what)))
            return function(*arguments, **options)

        return call

    store = spool.parent / "store"
    store.mkdir()
    sink = FileSink(spool, b"header ", durable=True)
    sink.write(views(b"data"))
    part = os.path.basename(sink.path)
    for name in ("fsync", "close", "replace", "link", "unlink"):
        monkeypatch.setattr(os, name, recorded(name))
    sink.close()
    sink.commit(uid_path(store, UID))
    name = [("fsync", "store"), ("close", "store")]
    assert calls == [("fsync", part), ("close", part), ("replace", part), *name]
    assert (store / f"{UID}.dcm").read_bytes() == b"header data"
    calls.clear()
    other = FileSink(spool, durable=True)
    rename = file_sink._rename_exclusively
    monkeypatch.setattr(file_sink, "_rename_exclusively", lambda *to: (calls.append(("rename", "")), rename(*to)))
    other.commit(store / "other", replace=False)
    links = ("link", "unlink")  # where no rename spares what is there
    assert [call for call, _ in calls if call not in links] == ["fsync", "close", "rename", "fsync", "close"]


def test_a_durable_file_in_the_working_directory(spool, monkeypatch):
    monkeypatch.chdir(spool)
    sink = FileSink("", durable=True)
    sink.write(views(b"data"))
    assert sink.commit("here") == "here"


def test_a_disk_that_does_not_confirm_the_file_leaves_nothing(spool, monkeypatch):
    sink = FileSink(spool, durable=True)
    sink.write(views(b"data"))

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    before = listing(Path("/proc/self/fd"))
    with pytest.raises(OutputFileError) as caught:
        sink.close()
    assert caught.value.errno == errno.EIO
    assert listing(spool) == []
    assert len(listing(Path("/proc/self/fd"))) == len(before) - 1
    with pytest.raises(LocalProtocolError):
        sink.commit(spool / "a")


def test_a_disk_that_does_not_confirm_the_name_is_an_error(spool, monkeypatch):
    sink = FileSink(spool, durable=True)
    sink.write(views(b"data"))
    sink.close()

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputFileError) as caught:
        sink.commit(spool / "a")
    assert caught.value.errno == errno.EIO
    sink.discard()


def test_nothing_is_confirmed_unless_asked_for(spool, monkeypatch):
    monkeypatch.setattr(os, "fsync", None)
    sink = filled(spool)
    sink.close()
    sink.commit(spool / "a")


# What is not committed leaves nothing behind


def test_discard_deletes_the_file_in_every_stage(spool):
    for stage in range(4):
        sink = FileSink(spool, b"header")
        if stage > 0:
            sink.write(views(b"data"))
        if stage > 1:
            sink.close()
        if stage > 2:
            os.unlink(sink.path)  # somebody was faster
        sink.discard()
        sink.discard()
        assert listing(spool) == []
        assert sink.path is None
        with pytest.raises(LocalProtocolError):
            sink.commit(spool / "x")
        with pytest.raises(LocalProtocolError):
            sink.write(views(b"x"))
    assert listing(spool) == []


def test_a_forgotten_sink_deletes_its_file(spool):
    sink = filled(spool)
    sink.close()
    assert len(listing(spool)) == 1
    del sink
    sink = filled(spool)
    sink = None
    assert sink is None
    assert listing(spool) == []


@linux
def test_no_descriptor_is_left(spool):
    before = len(os.listdir("/proc/self/fd"))
    for end in (FileSink.close, FileSink.discard, lambda sink: sink.commit(spool / "x"), lambda sink: None):
        sink = filled(spool)
        end(sink)
        del sink
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_sink_that_was_never_made_closes_nothing():
    before = os.fstat(0)
    FileSink.__new__(FileSink).discard()
    assert os.path.samestat(os.fstat(0), before)


def test_a_committed_file_stays(spool):
    sink = filled(spool)
    sink.commit(spool / "x")
    sink.discard()
    sink.close()
    with pytest.raises(LocalProtocolError):
        sink.commit(spool / "y")
    with pytest.raises(LocalProtocolError):
        sink.write(views(b"more"))
    del sink
    assert listing(spool) == ["x"]


def test_a_closed_sink_takes_no_more(spool):
    sink = filled(spool)
    sink.close()
    with pytest.raises(LocalProtocolError):
        sink.write(views(b"more"))
    sink.commit(spool / "x")
    assert (spool / "x").read_bytes() == b"header data"


# Failures


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("writes_before", [0, 1, 3])
def test_a_write_that_fails_leaves_nothing(spool, monkeypatch, code, writes_before):
    sink = FileSink(spool, b"header")
    for _ in range(writes_before):
        sink.write(views(b"data"))

    def fail(fd: int, buffers: list) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(file_sink, "_write", fail)
    with pytest.raises(OSError, match="cannot be written") as caught:
        sink.write(views(b"data"))
    assert isinstance(caught.value, OutputFileError)
    assert caught.value.errno == code
    assert caught.value.problem is OutputProblem.CANNOT_WRITE
    assert listing(spool) == []
    assert sink.size == 4 * writes_before
    sink.close()
    sink.discard()
    with pytest.raises(LocalProtocolError):
        sink.commit(spool / "x")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full")
def test_a_full_disk_shows_after_a_partial_write(spool, monkeypatch):
    """First some bytes fit, then none."""
    room = [10]

    def write(fd: int, buffers: list) -> int:
        data = b"".join(buffers)[: room[0]]
        if not data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room[0] -= len(data)
        return os.write(fd, data)

    monkeypatch.setattr(file_sink, "_write", write)
    with pytest.raises(OSError, match="No space left on device"):
        filled(spool, b"more than fits")
    assert listing(spool) == []


@posix
def test_a_real_limit(spool):
    """A file may grow to 10,000 bytes: in a child, since a limit once lowered stays."""
    resource = pytest.importorskip("resource")
    import signal

    child = os.fork()
    if child == 0:
        outcome = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
            filled(spool, bytes(20_000))
        except OSError as error:
            outcome = 0 if error.errno == errno.EFBIG and not os.listdir(spool) else 2
        finally:
            os._exit(outcome)
    assert os.waitpid(child, 0)[1] == 0
    assert listing(spool) == []


def test_a_close_that_fails_leaves_nothing(spool, monkeypatch):
    sink = filled(spool)
    close = os.close

    def fail(fd: int) -> None:
        close(fd)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "close", fail)
    with pytest.raises(OutputFileError):
        sink.close()
    monkeypatch.undo()
    assert listing(spool) == []
    with pytest.raises(LocalProtocolError):
        sink.commit(spool / "x")


@pytest.mark.parametrize("directory", ["missing", "file"])
def test_a_spool_that_is_none(tmp_path, directory):
    (tmp_path / "file").touch()
    with pytest.raises(OutputFileError) as caught:
        FileSink(tmp_path / directory, b"header")
    assert caught.value.problem is OutputProblem.NO_DIRECTORY
    assert directory in str(caught.value)
    assert listing(tmp_path) == ["file"]


def test_a_data_set_of_no_bytes_has_its_header_too(spool):
    sink = FileSink(spool, b"header")
    sink.close()
    assert Path(sink.commit(spool / "empty")).read_bytes() == b"header"


def test_no_descriptors_left_is_an_error(spool, monkeypatch):
    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(OutputFileError) as caught:
        filled(spool)
    assert caught.value.errno == errno.EMFILE


@pytest.mark.parametrize(
    ("target", "code"), [("missing/x", errno.ENOENT), ("directory", errno.EISDIR), ("nul\0", errno.EINVAL)]
)
def test_a_name_that_cannot_be_leaves_the_file_for_another(spool, target, code):
    (spool / "directory").mkdir()
    sink = filled(spool)
    with pytest.raises(OutputFileError) as caught:
        sink.commit(f"{spool}/{target}")
    assert caught.value.errno == code
    sink.commit(spool / "x")
    assert listing(spool) == ["directory", "x"]


@posix
@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="a second file system")
def test_another_file_system_is_named(spool):
    if os.stat("/dev/shm").st_dev == spool.stat().st_dev:
        pytest.skip("no second file system")
    sink = filled(spool)
    with pytest.raises(OutputFileError, match="on the file system where files are to stay"):
        sink.commit(f"/dev/shm/{os.path.basename(sink.path)}")
    sink.discard()
    assert listing(spool) == []


# Names


def test_what_is_there_is_replaced_or_kept(spool):
    filled(spool, b"first").commit(spool / "x")
    filled(spool, b"second").commit(spool / "x")
    assert (spool / "x").read_bytes() == b"header second"
    sink = filled(spool, b"third")
    with pytest.raises(OutputFileError) as caught:
        sink.commit(spool / "x", replace=False)
    assert caught.value.errno == errno.EEXIST
    assert (spool / "x").read_bytes() == b"header second"
    assert sink.commit(spool / "y", replace=False) == str(spool / "y")
    assert (spool / "y").read_bytes() == b"header third"
    assert listing(spool) == ["x", "y"]


@pytest.mark.parametrize("links", [True, False])
def test_keeping_where_no_rename_spares_what_is_there(spool, monkeypatch, links):
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(file_sink, "_rename_exclusively", fail)
    if not links:
        monkeypatch.setattr(os, "link", fail)
    filled(spool, b"first").commit(spool / "x", replace=False)
    sink = filled(spool, b"second")
    with pytest.raises(OutputFileError) as caught:
        sink.commit(spool / "x", replace=False)
    assert caught.value.errno == errno.EEXIST
    sink.discard()
    assert (spool / "x").read_bytes() == b"header first"
    assert listing(spool) == ["x"]


@pytest.mark.parametrize("call", ["rename", "link"])
def test_a_failure_of_another_kind_is_an_error(spool, monkeypatch, call):
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSYS if call == "link" else errno.EIO, "Input/output error")

    def fail_to_link(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(file_sink, "_rename_exclusively", fail)
    monkeypatch.setattr(os, "link", fail_to_link)
    with pytest.raises(OutputFileError, match="Input/output"):
        filled(spool).commit(spool / "x", replace=False)
    assert listing(spool) == []


@posix
def test_a_symbolic_link_in_the_way_is_replaced_and_not_followed(tmp_path, spool):
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    (spool / f"{UID}.dcm").symlink_to(outside)
    filled(spool).commit(uid_path(spool, UID))
    assert outside.read_bytes() == b"precious"
    assert not (spool / f"{UID}.dcm").is_symlink()
    assert (spool / f"{UID}.dcm").read_bytes() == b"header data"
    (spool / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputFileError):
        filled(spool).commit(spool / "dangling", replace=False)
    assert listing(tmp_path) == ["outside", "spool"]


@posix
def test_a_symbolic_link_in_the_way_of_a_file_on_its_way(tmp_path, spool, monkeypatch):
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    names = iter(["a", "b", "c"])
    monkeypatch.setattr(file_sink._Names, "__call__", lambda self: next(names))
    (spool / ".a.part").symlink_to(outside)
    (spool / ".b.part").write_bytes(b"of another process")
    sink = filled(spool)
    assert sink.path == f"{spool}/.c.part"
    sink.discard()
    assert outside.read_bytes() == b"precious"
    assert listing(spool) == [".a.part", ".b.part"]


@posix
def test_a_child_process_draws_other_names(spool):
    read, write = os.pipe()
    filled(spool).discard()
    child = os.fork()
    if child == 0:
        os.write(write, own_path("").encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 100).decode()
    ours = own_path("")
    os.close(read)
    os.close(write)
    assert theirs.split("-")[1] != ours.split("-")[1]


def test_names_of_ours_differ():
    names = {own_path("d") for _ in range(1000)}
    assert len(names) == 1000
    assert all(name.startswith("d/instance-") and name.endswith(".dcm") for name in names)


# reliability.md, T-PATH
HOSTILE = [
    "", ".", "..", "...", "../x", "../../x", "/abs", "a/../../b", "1.2/../../x", "1.2/3", "1.2\\..\\x", "C:\\x", "C:x",
    "con", "nul", "1.2\0", "\0", "1.2\n", "1.2 ", " 1.2", "1..2", ".1.2", "1.2.", "01.2", "1.02", "1", "1.2.dcm",
    "1.2;rm", "~", "~root", "-rf", "1.2%2f..", "٣.٢", "1.²", "1." * 40 + "1", "1.2:stream", "$HOME", "1.2" * 22, "1.2?",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_of_a_peer_becomes_a_path(tmp_path, spool, name):
    (tmp_path / "x").write_bytes(b"outside")
    with pytest.raises(InvalidArgument) as caught:
        uid_path(spool, name)
    assert str(caught.value).isprintable()
    filled(spool).commit(own_path(spool))
    assert len(listing(spool)) == 1
    assert listing(tmp_path) == ["spool", "x"]
    assert (tmp_path / "x").read_bytes() == b"outside"


@pytest.mark.parametrize("name", ["1.2", "0.0", "2.25." + "9" * 39, "1." * 31 + "12"])
def test_a_uid_becomes_a_name(spool, name):
    assert uid_path(spool, name) == f"{spool}/{name}.dcm"
    filled(spool).commit(uid_path(str(spool), name))
    assert listing(spool) == [f"{name}.dcm"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_handler_that_trusts_a_peer_does_not_get_out(tmp_path, spool, name):
    """``commit(f"store/{uid}.dcm")`` without a check: nothing but "store" may change."""
    store = tmp_path / "store"
    store.mkdir()
    (tmp_path / "x.dcm").write_bytes(b"outside")
    sink = filled(spool)
    try:
        sink.commit(f"{store}/{name}.dcm")
    except (InvalidArgument, OutputFileError):
        sink.discard()
    assert listing(tmp_path) == ["spool", "store", "x.dcm"]
    assert (tmp_path / "x.dcm").read_bytes() == b"outside"
    assert listing(spool) == []


def test_leading_ways_up_are_the_caller_s(tmp_path, spool, monkeypatch):
    monkeypatch.chdir(spool)
    filled(spool).commit("../x..y")
    filled(spool).commit("./../z")
    assert listing(tmp_path) == ["spool", "x..y", "z"]


# Memory, and nowhere


def test_memory():
    sink = MemorySink()
    sink.write(views(b"ab", b"c"))
    sink.write(views(b"def"))
    sink.close()
    assert (sink.size, sink.getvalue(), bytes(sink.getbuffer())) == (6, b"abcdef", b"abcdef")
    sink.discard()
    sink.discard()
    assert sink.size == 0


def test_memory_has_a_limit():
    sink = MemorySink(6)
    sink.write(views(b"ab", b"c"))
    sink.write(views(b"def"))
    with pytest.raises(OSError, match="longer than the limit of 6 bytes") as caught:
        sink.write(views(b"", b"g"))
    assert caught.value.errno == errno.EFBIG
    assert sink.getvalue() == b"abcdef"
    with pytest.raises(OutputFileError):
        MemorySink(0).write(views(b"x"))


def test_nowhere():
    sink = DiscardSink()
    sink.write(views(b"ab", b"c"))
    sink.write([])
    sink.close()
    sink.discard()
    assert sink.size == 3
