"""`dicomnet store`: what is sent, what is said about what is not, and how the program ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import zipfile
from contextlib import contextmanager
from pathlib import Path

import peers
import programs
import pydicom
import pytest
from pydicom.encaps import encapsulate

import dicomnet as dn
from dicomnet import uids
from dicomnet.cli import progress
from dicomnet.files.instance_source import FileSource
from dicomnet.files.part10 import meta_header

CT, MR = uids.CT_IMAGE_STORAGE, uids.MR_IMAGE_STORAGE
EXPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN
# Of every kind, those of which nobody has heard, too; one that no C-STORE can end with is no success.
FAILURES = [0x0003, 0x0110, 0x0122, 0x1234, 0xA700, 0xA9FF, 0xC123, 0xD000, 0xFFFF, 0xFE00]
WARNINGS = [0x0001, 0x0107, 0xB000, 0xBFFF]


def element(tag: int, text: str) -> bytes:
    value = text.encode()
    value += b"\0" * (len(value) % 2)
    group_and_element = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")
    return group_and_element + b"UI" + len(value).to_bytes(2, "little") + value


def instance(path: Path, number: int, sop_class: str = CT, size: int = 0) -> Path:
    """Write a Part 10 file with little more than its UIDs."""
    uid = f"1.2.3.{number}"
    pixels = b"\xe0\x7f\x10\x00OW\0\0" + size.to_bytes(4, "little") + bytes(size)
    dataset = element(0x00080016, sop_class) + element(0x00080018, uid) + (pixels if size else b"")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(meta_header(sop_class, uid, EXPLICIT) + dataset)
    return path


@pytest.fixture
def five(tmp_path):
    return [instance(tmp_path / "five" / f"{number}.dcm", number) for number in range(1, 6)]


class Archive:
    """A provider in this process that keeps what it gets, and answers as it is told."""

    def __init__(self, answer=None, **store_options):
        self.requests = []
        self.answer = answer
        self.scp = dn.Listener("ARCHIVE", port=0)
        self.scp.on_store(**store_options)(self.keep)

    def keep(self, request):
        self.requests.append((request.sop_instance_uid, request.transfer_syntax_uid, request.data, request.address))
        return self.answer(self, request) if self.answer else None

    @property
    def uids(self):
        return [uid for uid, *_ in self.requests]

    @property
    def associations(self):
        return len({address for *_, address in self.requests})

    def take_one(self, refused):
        """Take one association at a time, and set an event where another is refused."""
        judge = self.scp.is_full

        def is_full(driver):
            if full := judge(driver):
                refused.set()
            return full

        self.scp.is_full = is_full
        self.scp.limits = dn.Limits(associations=1)

    def break_off(self, request):
        """Cut the connection of a request, and no other: the next association may be under way already."""
        for connection in self.scp._acceptor.connections:
            if connection.address == request.address:
                connection.cut()


@contextmanager
def archive(answer=None, **store_options):
    provider = Archive(answer, **store_options)
    with provider.scp:
        provider.address = f"ARCHIVE@127.0.0.1:{provider.scp.address[1]}"
        yield provider


class TestWhatIsSent:
    def test_files_and_directories(self, five, tmp_path):
        instance(tmp_path / "five" / "deeper" / "6.dcm", 6)
        lone = instance(tmp_path / "lone.dcm", 7)
        with archive() as scp:
            flat = programs.run_here("store", scp.address, five[0].parent, lone)
            assert scp.uids == ["1.2.3.1", "1.2.3.2", "1.2.3.3", "1.2.3.4", "1.2.3.5", "1.2.3.7"]
            scp.requests.clear()
            deep_too = programs.run_here("store", scp.address, five[0].parent, "-r")
            assert scp.uids[-1] == "1.2.3.6"
        assert (flat.returncode, deep_too.returncode) == (0, 0)
        assert flat.stdout.startswith(f"6 instances sent to {scp.address}: ")

    @pytest.mark.parametrize("spelling", ["-r", "+r", "--recurse"])
    def test_spellings_of_recursion(self, spelling, tmp_path):
        instance(tmp_path / "a" / "b" / "1.dcm", 1)
        with archive() as scp:
            result = programs.run_here("store", scp.address, "+sd", spelling, tmp_path / "a")
        assert (result.returncode, scp.uids) == (0, ["1.2.3.1"])

    @pytest.mark.parametrize("size", [0, 100, 70_000, 2_000_000])
    def test_bytes_are_untouched(self, size, tmp_path):
        path = instance(tmp_path / "1.dcm", 1, size=size)
        other = instance(tmp_path / "2.dcm", 2, size=size)  # once small files begin, they are held
        with archive() as scp:
            assert programs.run_here("store", scp.address, path, other).returncode == 0
        offset = len(meta_header(CT, "1.2.3.1", EXPLICIT))
        assert [data for _, _, data, _ in scp.requests] == [file.read_bytes()[offset:] for file in (path, other)]

    def test_json(self, five):
        with archive() as scp:
            result = programs.run_here("store", scp.address, *five, "--json")
        *sent, _ = map(json.loads, result.stdout.splitlines())
        assert [record["file"] for record in sent] == list(map(str, five))
        assert sent[0].items() >= {"sop_class_uid": CT, "transfer_syntax_uid": EXPLICIT, "status": 0}.items()
        total = programs.summary(result.stdout)
        size = sum(len(data) for _, _, data, _ in scp.requests)
        assert (total["instances"], total["failed"], total["bytes"]) == (5, 0, size)
        assert 0 < total["seconds"] < 10

    def test_quiet_json_is_the_summary_alone(self, five):
        with archive() as scp:
            result = programs.run_here("store", scp.address, *five, "--json", "-q")
        assert len(result.stdout.splitlines()) == 1
        assert programs.summary(result.stdout)["instances"] == 5

    def test_verbose_and_quiet(self, five):
        with archive() as scp:
            verbose = programs.run_here("store", scp.address, *five, "-v")
            quiet = programs.run_here("store", scp.address, *five, "-q")
        assert verbose.stdout.count("0x0000 (success)") == 5
        assert (quiet.stdout, quiet.stderr) == ("", "")

    def test_several_associations(self, tmp_path):
        meeting = threading.Barrier(3)

        def together(scp, request):
            if len(scp.uids) <= 3:
                meeting.wait(programs.PATIENCE)  # none of the first three is answered before all are there

        files = [instance(tmp_path / f"{number}.dcm", number) for number in range(30)]
        with archive(together) as scp:
            result = programs.run_here("store", scp.address, *files, "--associations", 3)
        assert result.returncode == 0
        assert sorted(scp.uids) == sorted(f"1.2.3.{number}" for number in range(30))
        assert scp.associations == 3

    def test_more_than_128_contexts_take_several_associations(self, tmp_path):
        files = [instance(tmp_path / f"{number:03}.dcm", number, f"1.2.3.4.{number}") for number in range(300)]
        with archive(unknown_classes=True) as scp:
            result = programs.run_here("store", scp.address, *files)
        assert result.returncode == 0
        assert scp.uids == [f"1.2.3.{number}" for number in range(300)]
        assert scp.associations == 5  # each class in its own syntax, and in implicit VR

    def test_archives_and_dicomdirs(self, five, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.write(five[0], "1.dcm")
        with archive() as scp:
            result = programs.run_here("store", scp.address, tmp_path / "a.zip", "--json")
        assert (result.returncode, scp.uids) == (0, ["1.2.3.1"])
        assert json.loads(result.stdout.splitlines()[0])["file"] == f"{tmp_path / 'a.zip'}!1.dcm"

    def test_transcodes_what_is_not_taken_as_it_is(self):
        path = next(path for path in peers.sample_files() if path.name == "MR_small_RLE.dcm")
        with archive(transfer_syntaxes=[EXPLICIT]) as scp:
            as_it_is = programs.run_here("store", scp.address, path)
            converted = programs.run_here("store", scp.address, path, "--transcode")
        assert as_it_is.returncode == 66
        assert "With --transcode it may be converted" in as_it_is.stderr
        assert (converted.returncode, converted.stderr) == (0, "")
        assert [syntax for _, syntax, *_ in scp.requests] == [EXPLICIT]

    def test_names_in_one_line_what_cannot_be_transcoded(self, five, tmp_path):
        path = next(path for path in peers.sample_files() if path.name == "MR_small_RLE.dcm")
        dataset = pydicom.dcmread(path)
        dataset.PixelData = encapsulate([b"this is no RLE: "])
        dataset.save_as(tmp_path / "bad.dcm")
        with archive(transfer_syntaxes=[EXPLICIT]) as scp:
            alone = programs.run_here("store", scp.address, tmp_path / "bad.dcm", "--transcode")
            among = programs.run_here("store", scp.address, tmp_path / "bad.dcm", *five, "--transcode", "--json")
        assert (alone.returncode, among.returncode) == (66, 66)
        for result in (alone, among):
            assert result.stderr.startswith(f"error: {tmp_path / 'bad.dcm'}: ")
            assert "cannot be converted to Explicit VR Little Endian" in result.stderr
            assert result.stderr.count("\n") == 1
        assert scp.uids == [f"1.2.3.{number}" for number in range(1, 6)]


class TestWhatCannotBeSent:
    @pytest.fixture
    def broken(self, tmp_path):
        contents = {
            "text": b"This is not DICOM.",
            "cut": instance(tmp_path / "cut", 9, size=1000).read_bytes()[:-100],
            "nameless": meta_header(CT, None, EXPLICIT) + element(0x00080016, CT),
        }
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
        return {"text": 21, "cut": 22, "nameless": 23, "absent": 20}

    @pytest.mark.parametrize("name", ["text", "cut", "nameless", "absent"])
    def test_is_named_in_one_line_and_the_others_go(self, name, broken, five, tmp_path):
        with archive() as scp:
            result = programs.run_here("store", scp.address, five[0], tmp_path / name, *five[1:], "--json")
        assert result.returncode == broken[name]
        assert scp.uids == [f"1.2.3.{number}" for number in range(1, 6)]
        assert result.stderr.startswith(f"error: {tmp_path / name}: ")
        assert result.stderr.count("\n") == 1
        assert json.loads(result.stdout.splitlines()[0])["file"] == str(tmp_path / name)
        assert programs.summary(result.stdout)["failed"] == 1

    def test_nothing_at_all(self, tmp_path, free_port):
        result = programs.run_here("store", f"127.0.0.1:{free_port}", tmp_path)
        assert result.returncode == 20
        assert result.stderr == f"error: {tmp_path}: no DICOM files in it\n"
        result = programs.run_here("store", f"127.0.0.1:{free_port}", tmp_path, "--json")
        assert result.returncode == 20
        assert programs.summary(result.stdout)["failed"] == 1

    def test_only_broken_files_need_no_connection(self, broken, tmp_path, free_port):
        result = programs.run_here("store", f"127.0.0.1:{free_port}", tmp_path / "text", tmp_path / "cut")
        assert result.returncode == 21

    def test_names_from_files_are_escaped(self, tmp_path, free_port):
        path = tmp_path / "red\x1b[31m\n"
        path.write_bytes(b"")
        result = programs.run_here("store", f"127.0.0.1:{free_port}", path)
        assert "red\\x1b[31m\\n: " in result.stderr
        assert result.stderr.count("\n") == 1

    def test_a_transfer_syntax_that_is_no_uid(self, five, tmp_path):
        path = tmp_path / "odd.dcm"
        path.write_bytes(five[0].read_bytes().replace(EXPLICIT.encode(), b"1.2.840.10008.1.2.x"))
        with archive() as scp:
            result = programs.run_here("store", scp.address, path, *five)
        assert result.returncode == 23
        assert len(scp.uids) == 5
        assert result.stderr.startswith(f'error: {path}: its transfer syntax, "1.2.840.10008.1.2.x", is no UID')

    @pytest.mark.parametrize("kind", ["empty", "encrypted"])
    def test_a_place_with_nothing_to_send_does_not_keep_the_others(self, kind, five, tmp_path):
        place = tmp_path / "place"
        if kind == "empty":
            place.mkdir()
        else:
            with zipfile.ZipFile(place, "w") as file:
                file.write(five[0], "1.dcm")
            data = bytearray(place.read_bytes())
            for header in (b"PK\x03\x04", b"PK\x01\x02"):  # bit 0 of the flags, at 6 and at 8, says so
                data[data.index(header) + (6 if header[2] == 3 else 8)] |= 1
            place.write_bytes(data)
        with archive() as scp:
            result = programs.run_here("store", scp.address, place, *five)
        assert (result.returncode, len(scp.uids)) == (20, 5)
        assert result.stderr.startswith(f"error: {place}")
        assert result.stderr.count("\n") == 1

    def test_halt_does_not_begin_with_a_broken_file(self, broken, five, tmp_path, free_port):
        result = programs.run_here("store", f"127.0.0.1:{free_port}", tmp_path / "text", *five, "--halt")
        assert result.returncode == 21


class TestWhatThePeerDoesNotWant:
    def test_a_refused_context(self, five, tmp_path):
        mr = instance(tmp_path / "mr.dcm", 9, MR)
        with archive(sop_classes=[CT]) as scp:
            result = programs.run_here("store", scp.address, mr, *five)
        assert result.returncode == 66
        assert len(scp.uids) == 5
        assert result.stderr.startswith(f"error: {mr}: {scp.address}: no accepted presentation context for MR Image")

    def test_no_context_at_all(self, five):
        with archive(sop_classes=[MR]) as scp:
            result = programs.run_here("store", scp.address, *five, "--json")
        assert result.returncode == 66
        assert result.stderr.count("no accepted presentation context for CT Image Storage in Explicit VR") == 5
        assert programs.summary(result.stdout)["failed"] == 5

    @pytest.mark.parametrize(("status", "code"), [(one, 69) for one in FAILURES] + [(one, 68) for one in WARNINGS])
    def test_a_status_that_is_no_success(self, status, code, five):
        with archive(lambda scp, request: dn.Status(status if len(scp.uids) == 2 else 0)) as scp:
            result = programs.run_here("store", scp.address, *five, "--json", "-q")
        assert result.returncode == code
        assert len(scp.uids) == 5
        assert f"{five[1]}: the peer answered 0x{status:04X} (" in result.stderr
        total = programs.summary(result.stdout)
        assert (total["instances"], total["failed"], total["warnings"]) == ((5, 0, 1) if code == 68 else (4, 1, 0))
        stored = [data for number, (_, _, data, _) in enumerate(scp.requests) if number != 1 or code == 68]
        assert total["bytes"] == sum(map(len, stored))

    def test_halt_stops_after_the_first_failure(self, five):
        with archive(lambda scp, request: dn.Status(0xA700 if len(scp.uids) == 2 else 0)) as scp:
            result = programs.run_here("store", scp.address, *five, "--halt")
        assert result.returncode == 69
        assert len(scp.uids) == 2
        assert result.stderr.count("not sent: the batch was stopped after a failure") == 3

    def test_another_title(self, five):
        with archive() as scp:
            result = programs.run_here("store", scp.address, "-aec", "OTHER", *five)
        assert result.returncode == 61
        lines = result.stderr.splitlines()
        assert "rejected the association" in lines[0]
        assert lines[1:] == [f"error: {file}: not sent: no association" for file in five]

    def test_nobody_is_there(self, five, free_port):
        result = programs.run_here("store", f"127.0.0.1:{free_port}", *five, "--associations", 2, "--json")
        assert result.returncode == 60
        assert programs.summary(result.stdout)["failed"] == 5
        assert result.stderr.count("cannot connect") == 1  # however many associations have met it
        assert result.stderr.count("not sent: no association") == 5
        assert result.stderr.splitlines()[0].startswith("error: ANY-SCP@")

    @pytest.mark.parametrize("associations", [1, 2])
    def test_nobody_reads(self, associations, five):
        """It ends as any program in a pipe does, and blames neither the peer nor a file."""
        reader, writer = os.pipe()
        os.close(reader)
        with archive() as scp, open(writer, "w") as stdout:
            result = subprocess.run(
                programs.command("store", scp.address, *five, "--json", "--associations", associations),
                cwd=programs.ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=programs.PATIENCE,
            )  # fmt: skip
        assert (result.returncode, result.stderr) == (1, "")

    @pytest.mark.parametrize("associations", [1, 2])
    def test_a_connection_that_breaks_at_every_instance(self, associations, five):
        def answer(scp, request):
            if len(scp.uids) >= 3:
                scp.break_off(request)

        with archive(answer) as scp:
            result = programs.run_here("store", scp.address, *five, "--json", "--associations", associations)
        assert result.returncode == 62
        total = programs.summary(result.stdout)
        assert total["instances"] + total["failed"] == 5
        assert total["failed"] >= 3
        assert result.stderr.count(": the association ended while it was sent: ") == total["failed"]

    @pytest.mark.parametrize("options", [[], ["--window", 1]])
    def test_an_instance_at_which_the_peer_aborts(self, options, tmp_path):
        """It is named, and the others arrive."""
        files = [instance(tmp_path / f"{number}.dcm", number) for number in range(1, 31)]

        def answer(scp, request):
            if request.sop_instance_uid == "1.2.3.7":
                scp.break_off(request)

        with archive(answer) as scp:
            result = programs.run_here("store", scp.address, *files, "--json", *options)
        assert result.returncode == 62
        assert set(scp.uids) == {f"1.2.3.{number}" for number in range(1, 31)}
        total = programs.summary(result.stdout)
        assert (total["instances"], total["failed"]) == (29, 1)
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert line.startswith(f"error: {files[6]}: the association ended while it was sent: ")

    def test_a_peer_that_closes_instead_of_releasing(self, five):
        """The work is done: a warning."""
        with archive() as scp, programs.closing_at_release(scp.scp.address[1]) as port:
            result = programs.run_here("store", f"ARCHIVE@127.0.0.1:{port}", *five)
        assert result.returncode == 0
        assert result.stdout.startswith("5 instances sent to ")
        assert result.stderr.startswith("warning: the peer did not release the association: ")
        assert result.stderr.count("\n") == 1

    def test_an_association_too_many_costs_only_a_warning(self, five):
        refused = threading.Event()

        def answer(scp, request):
            assert refused.wait(programs.PATIENCE)

        with archive(answer) as scp:
            scp.take_one(refused)
            result = programs.run_here("store", scp.address, *five, "--associations", 2, "--json")
        assert result.returncode == 0
        assert programs.summary(result.stdout)["instances"] == 5
        assert result.stderr.startswith("warning: ")
        assert "local limit exceeded" in result.stderr


class TestInterrupted:
    def start(self, scp, files, *options):
        return subprocess.Popen(
            programs.command("store", scp.address, *files, "--json", *options),
            cwd=programs.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    @pytest.mark.parametrize(("options", "most"), [(["--window", 1], 1), ([], 17)])
    def test_once_releases(self, tmp_path, options, most):
        """What is under way is answered for, and so is the next, which was on its way to be sent."""
        files = [instance(tmp_path / f"{number}.dcm", number) for number in range(1, 41)]
        arrived, go_on = threading.Event(), threading.Event()

        def answer(scp, request):
            arrived.set()
            assert go_on.wait(programs.PATIENCE)

        with archive(answer) as scp:
            process = self.start(scp, files, *options)
            assert arrived.wait(programs.PATIENCE)
            process.send_signal(signal.SIGINT)
            line = process.stderr.readline()  # it has noticed
            go_on.set()
            stdout, _ = process.communicate(timeout=programs.PATIENCE)
        assert line == "interrupted: what is under way may end; once more aborts it\n"
        assert process.returncode == 130
        assert scp.uids == [f"1.2.3.{number}" for number in range(1, len(scp.uids) + 1)]
        assert 1 <= len(scp.uids) <= most
        total = programs.summary(stdout)
        assert (total["instances"], total["failed"]) == (len(scp.uids), 40 - len(scp.uids))

    @pytest.mark.parametrize("associations", [1, 2])
    def test_twice_aborts(self, five, associations):
        arrived, go_on = threading.Event(), threading.Event()

        def answer(scp, request):
            arrived.set()
            assert go_on.wait(programs.PATIENCE)

        with archive(answer) as scp:
            process = self.start(scp, five, "--associations", associations)
            assert arrived.wait(programs.PATIENCE)
            process.send_signal(signal.SIGINT)
            process.stderr.readline()
            process.send_signal(signal.SIGINT)
            go_on.set()
            stdout, _ = process.communicate(timeout=programs.PATIENCE)
        assert process.returncode == 130
        total = programs.summary(stdout)
        assert total["instances"] <= 5
        assert total["instances"] + total["failed"] == 5
        assert len(stdout.splitlines()) == 6  # each is told of once, those that an association had taken, too


class TestProgress:
    @pytest.fixture
    def clock(self, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(progress, "monotonic", lambda: now[0])
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        return now

    def test_short_batches_have_no_bar(self, clock):
        bar = progress.Progress(lambda: 100, wanted=True)
        bar.advance(50)
        assert bar._bar is None
        bar.close()

    def test_long_batches_get_one(self, clock):
        bar = progress.Progress(lambda: 100, wanted=True)
        clock[0] = 2.0
        bar.advance(50)
        assert bar._bar is not None
        bar.advance(25)
        assert bar._bar.tasks[0].completed == 75
        bar.close()
        assert bar._bar is None

    def test_it_moves_within_a_file(self, clock, tmp_path):
        path = instance(tmp_path / "1.dcm", 1, size=3_000_000)
        bar = progress.Progress(lambda: path.stat().st_size, wanted=True)
        clock[0] = 2.0
        with progress.Watched(FileSource(path), bar) as source:
            seen = [(len(chunk), bar._done) for chunk in source.chunks(1 << 20)]
        assert len(seen) > 2
        assert [done for _, done in seen] == [sum(size for size, _ in seen[:index]) for index in range(len(seen))]
        assert bar._done == source.size
        bar.close()

    def test_it_counts_what_is_one_piece(self, clock, tmp_path):
        path = instance(tmp_path / "1.dcm", 1, size=1000)
        bar = progress.Progress(lambda: 1000, wanted=True)
        source = bar.watched(str(path))
        for _ in source.chunks(1 << 20):
            break  # whoever has sent the last piece does not ask for another
        assert bar._done == source.size
        source.__exit__()

    def test_none_away_from_a_terminal(self, clock, monkeypatch):
        monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
        bar = progress.Progress(lambda: 100, wanted=True)
        clock[0] = 2.0
        bar.advance(50)
        assert bar._bar is None
