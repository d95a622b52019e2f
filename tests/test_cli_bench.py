"""`dicomnet bench`: what it sends, what it says of it, and two results side by side."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import threading
from contextlib import contextmanager

import programs
import pydicom
import pytest

import dicomnet as dn
from dicomnet import testing, uids
from dicomnet.cli import bench_objects
from dicomnet.cli.bench_run import percentile
from dicomnet.errors import InvalidArgument
from dicomnet.uids import is_valid


@contextmanager
def archive(answer=lambda request: None):
    """A provider in this process, and what it got: the address of the user and the data set of each request."""
    requests = []
    scp = dn.Listener("ARCHIVE", port=0)

    @scp.on_store()
    def keep(request):
        requests.append((request.address, request.data, request.dataset))
        return answer(request)

    with scp:
        yield f"ARCHIVE@127.0.0.1:{scp.address[1]}", requests


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    return programs.run_here("bench", *arguments)


def result_of(*arguments: object) -> dict:
    result = bench(*arguments, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    return programs.summary(result.stdout)


class TestObjects:
    @pytest.mark.parametrize("size", [1024, 1500, 65536, 512 << 10, (1 << 20) + 2, 3 << 20])
    def test_have_exactly_their_size_and_are_images(self, size):
        made = bench_objects.Generator(size, uids.new(), uids.new()).object()
        data = b"".join(bytes(piece) for piece in made.chunks(1000))
        assert len(data) == made.size == size
        dataset = pydicom.filereader.read_dataset(io.BytesIO(data), is_implicit_VR=False, is_little_endian=True)
        assert dataset.SOPInstanceUID == made.sop_instance_uid
        assert dataset.SOPClassUID == made.sop_class_uid
        assert len(dataset.PixelData) == dataset.Rows * dataset.Columns
        assert dataset.PatientName == "BENCH^DICOMNET"

    def test_pieces_are_multiples_of_the_unit_but_for_the_last(self):
        made = bench_objects.Generator(3 << 20, uids.new(), uids.new()).object()
        *pieces, _ = (len(piece) for piece in made.chunks(7000))
        assert pieces
        assert all(size % 7000 == 0 for size in pieces)

    def test_share_their_bytes_but_for_the_uid(self):
        generator = bench_objects.Generator(1024, uids.new(), uids.new())
        one, other = generator.object(), generator.object()
        first, second = (b"".join(bytes(piece) for piece in made.chunks(1 << 20)) for made in (one, other))
        assert first.replace(one.sop_instance_uid.encode(), other.sop_instance_uid.encode()) == second != first

    @pytest.mark.parametrize("size", [0, 100, 1025, 1 << 33])
    def test_of_a_size_that_none_has(self, size):
        with pytest.raises(InvalidArgument, match=f"no object has {size} bytes"):
            bench_objects.Generator(size, uids.new(), uids.new())


class TestStore:
    def test_what_is_sent(self):
        with archive() as (peer, requests):
            result = bench(peer, "--size", "20k", "-n", 30, "--associations", 3)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith(f"30 objects of 20.0 KiB, {peer}, 3 associations, ")
        assert all(word in result.stdout for word in ("MiB/s", "(p50)", "(p99)", "our CPU"))
        assert {len(data) for _, data, _ in requests} == {20 << 10}
        instances = {dataset.SOPInstanceUID for _, _, dataset in requests}
        assert len(instances) == 30
        assert all(map(is_valid, instances))
        assert len({dataset.StudyInstanceUID for _, _, dataset in requests}) == 1
        assert {dataset.PatientID for _, _, dataset in requests} == {"DICOMNET-BENCH"}

    def test_associations_share_the_work_and_are_there_before_it_begins(self):
        together = threading.Barrier(3, timeout=programs.PATIENCE)
        first = threading.local()

        def wait(_):
            if not hasattr(first, "done"):
                first.done = together.wait()

        with archive(wait) as (peer, requests):
            assert result_of(peer, "--size", "2k", "-n", 12, "--associations", 3)["done"] == 12
        assert len({address for address, _, _ in requests}) == 3

    def test_no_more_associations_than_objects(self):
        with archive() as (peer, requests):
            assert result_of(peer, "--size", "2k", "-n", 2, "--associations", 9)["associations"] == 2
        assert len(requests) == 2

    def test_result(self):
        with archive() as (peer, _):
            result = result_of(peer, "--size", "10k", "-n", 20)
        assert result.items() >= {
            "service": "store", "peer": peer, "size": 10240, "count": 20, "associations": 1, "done": 20, "failed": 0,
            "dicomnet": dn.__version__,
        }.items()  # fmt: skip
        assert 0 < result["p50"] <= result["p99"] <= result["seconds"]
        assert result["per_second"] == pytest.approx(20 / result["seconds"])
        assert result["bytes_per_second"] == pytest.approx(10240 * 20 / result["seconds"])
        assert result["cpu_each"] == pytest.approx(result["cpu"] / 20)

    def test_refusals_are_said_once_and_count(self):
        with archive(lambda _: dn.Status(0xA700)) as (peer, _):
            result = bench(peer, "--size", "2k", "-n", 5, "--json")
        assert result.returncode == 69
        assert result.stderr.count("\n") == 1
        assert "the peer answered 0xA700" in result.stderr
        assert programs.summary(result.stdout).items() >= {"done": 0, "failed": 5}.items()

    def test_associations_that_break_leave_a_result(self):
        with testing.Provider(abort=3) as scp:  # each on its third request
            result = bench(scp.peer, "--size", "2k", "-n", 20, "--associations", 2, "--json")
        assert result.returncode == 62
        assert result.stderr.count("\n") == 1
        assert "aborted the association" in result.stderr
        assert programs.summary(result.stdout).items() >= {"done": 4, "failed": 2}.items()

    def test_ctrl_c_ends_it_with_what_there_is(self):
        arrived, sent = threading.Event(), threading.Event()

        def hold(_):
            arrived.set()
            sent.wait(programs.PATIENCE)

        with archive(hold) as (peer, _):
            process = subprocess.Popen(
                programs.command("bench", peer, "--size", "2k", "-n", 100, "--json"),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=programs.ROOT,
            )
            assert arrived.wait(programs.PATIENCE)
            process.send_signal(signal.SIGINT)
            assert process.stderr.readline().startswith("interrupted")
            sent.set()
            output, _ = process.communicate(timeout=programs.PATIENCE)
        assert process.returncode == 130
        assert 1 <= programs.summary(output)["done"] <= 2


def test_echoes():
    with archive() as (peer, requests):
        result = result_of(peer, "--service", "echo", "-n", 50, "--associations", 2)
        said = bench(peer, "--service", "echo", "-n", 3).stdout
    assert result.items() >= {"service": "echo", "size": 0, "done": 50, "failed": 0, "bytes_per_second": 0}.items()
    assert requests == []
    assert said.startswith(f"3 echoes, {peer}, one association, ")
    assert "MiB/s" not in said


def test_a_peer_that_is_not_there(free_port):
    result = bench(f"127.0.0.1:{free_port}")
    assert (result.returncode, result.stdout) == (60, "")
    assert "Connection refused" in result.stderr


def test_a_peer_that_does_not_store():
    with dn.Listener("ARCHIVE", port=0) as scp:
        result = bench(f"127.0.0.1:{scp.address[1]}", "-aec", "ARCHIVE")
    assert result.returncode == 66
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("size", ["10", "1025"])
def test_a_size_that_no_object_has(size):
    result = bench("127.0.0.1:104", "--size", size)
    assert result.returncode == 2
    assert "Invalid value for --size: no object has" in result.stderr


@pytest.mark.parametrize(
    ("times", "share", "expected"),
    [([], 0.5, 0.0), ([3.0], 0.99, 3.0), ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0), (list(range(1, 201)), 0.99, 198)],
)
def test_percentiles(times, share, expected):
    assert percentile(times, share) == expected


class TestCompare:
    RESULT = {
        "service": "store", "size": 1024, "count": 10, "associations": 1, "seconds": 2.0, "per_second": 5.0,
        "bytes_per_second": 5 * 2**20, "p50": 0.1, "p99": 0.2, "cpu": 1.0, "cpu_each": 0.1,
    }  # fmt: skip

    def written(self, path, **changes):
        path.write_text(json.dumps({"summary": self.RESULT | changes}) + "\n")
        return path

    def test_side_by_side(self, tmp_path):
        a, b = self.written(tmp_path / "a"), self.written(tmp_path / "b", seconds=1.0, p99=0.3)
        result = bench("compare", a, b)
        assert (result.returncode, result.stderr) == (0, "")
        rows = {line[:16].strip(): line[16:].split() for line in result.stdout.splitlines()}
        assert rows["seconds"][-3:] == ["2.000", "1.000", "0.50"]
        assert rows["p99, ms"][-1] == "1.50"

    def test_as_json(self, tmp_path):
        a, b = self.written(tmp_path / "a"), self.written(tmp_path / "b", seconds=1.0, cpu=0)
        result = bench("compare", a, b, "--json")
        assert programs.summary(result.stdout)["ratios"].items() >= {"seconds": 0.5, "p50": 1.0, "cpu": 0.0}.items()

    def test_of_real_results(self, tmp_path):
        with archive() as (peer, _):
            for name in "ab":
                (tmp_path / name).write_text(bench(peer, "--size", "2k", "-n", 5, "--json").stdout)
        result = bench("compare", tmp_path / "a", tmp_path / "b")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.count("\n") == 9

    def test_of_other_work(self, tmp_path):
        a, b = self.written(tmp_path / "a"), self.written(tmp_path / "b", size=2048)
        result = bench("compare", a, b)
        assert result.returncode == 0
        assert "not the same work: size is 1.0 KiB" in result.stderr

    @pytest.mark.parametrize(
        "content", [None, "", "no JSON\n", "[1]\n", '{"summary": {}}\n', '{"summary": {"instances": 1}}\n']
    )
    def test_what_is_no_result(self, tmp_path, content):
        a, b = self.written(tmp_path / "a"), tmp_path / "b"
        if content is not None:
            b.write_text(content)
        result = bench("compare", a, b)
        assert result.returncode == 20
        assert str(b) in result.stderr
        assert result.stderr.count("\n") == 1

    def test_wants_two(self):
        result = bench("compare", "a")
        assert result.returncode == 2
        assert "Missing argument 'B.JSON'" in result.stderr.replace("B.json", "B.JSON")


def test_help_names_both():
    result = bench("--help")
    assert all(word in result.stdout for word in ("dicomnet bench PEER", "compare", "run"))
    assert "--associations" in bench("run", "--help").stdout
