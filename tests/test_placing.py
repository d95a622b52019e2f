"""The directory of a received file: with descriptors of directories, and without them; and what is left over."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicomnet.errors import InvalidArgument
from dicomnet.files import placing
from dicomnet.files.placing import LEFT_OVER, open_below, sweep

NOW = 1_000_000.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def without_descriptors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a system whose `os.open` knows no descriptors of directories."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "supports_dir_fd", frozenset[Callable[..., object]]())
        yield


def left(path: Path, age: float) -> Path:
    path.write_bytes(b"data")
    os.utime(path, (NOW - age, NOW - age))
    return path


def test_another_association_makes_the_same_directory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.mkdir

    def second(name: str, *, dir_fd: int) -> None:
        real(name, dir_fd=dir_fd)
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(placing.os, "mkdir", second)
    fd, last = open_below(str(root), "a/x")
    assert fd is not None
    assert last == "x"
    assert os.path.samestat(os.fstat(fd), (root / "a").stat())
    os.close(fd)


@pytest.mark.usefixtures("without_descriptors")
class TestWithoutDescriptors:
    def test_directories_are_made_and_the_whole_path_is_given(self, root: Path) -> None:
        assert open_below(str(root), "a/b/x") == (None, f"{root}/a/b/x")
        assert (root / "a" / "b").is_dir()
        assert open_below(str(root), "y") == (None, f"{root}/y")

    @pytest.mark.parametrize("name", ["link/x", "inner/link/x", "link/deeper/x"])
    def test_a_link_is_no_way_out(self, tmp_path: Path, root: Path, name: str) -> None:
        (tmp_path / "outside").mkdir()
        (root / "inner").mkdir()
        for place in (root, root / "inner"):
            (place / "link").symlink_to(tmp_path / "outside")
        with pytest.raises(InvalidArgument, match="a link in it leads out"):
            open_below(str(root), name)

    def test_a_link_that_stays_inside_and_a_root_that_is_one_are_followed(self, tmp_path: Path, root: Path) -> None:
        (root / "real").mkdir()
        (root / "link").symlink_to(root / "real")
        (tmp_path / "other").symlink_to(root)
        assert open_below(str(tmp_path / "other"), "link/x") == (None, f"{tmp_path}/other/link/x")

    @pytest.mark.parametrize("name", ["../x", "/x", "a//x", "a/../x", "a\0/x"])
    def test_a_name_that_leads_out_is_none(self, root: Path, name: str) -> None:
        with pytest.raises(InvalidArgument, match="no name below a directory"):
            open_below(str(root), name)


class TestSweeping:
    def test_only_old_unfinished_files_go(self, root: Path) -> None:
        left(root / ".a1.part", LEFT_OVER + 1)
        left(root / ".b2.part", LEFT_OVER - 1)  # it still arrives
        left(root / "1.2.3.dcm", LEFT_OVER + 1)
        left(root / ".hidden", LEFT_OVER + 1)
        (root / ".c3.part").mkdir()
        os.utime(root / ".c3.part", (0, 0))
        assert sweep(str(root), NOW) == [".a1.part"]
        assert sorted(os.listdir(root)) == [".b2.part", ".c3.part", ".hidden", "1.2.3.dcm"]

    def test_another_program_sweeps_at_the_same_time(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("a", "b"):
            left(root / f".{name}.part", LEFT_OVER + 1)
        real = os.lstat

        def too_late(path: str) -> os.stat_result:
            found = real(path)
            if path.endswith(".a.part") and stat.S_ISREG(found.st_mode):
                os.unlink(path)
            return found

        monkeypatch.setattr(placing.os, "lstat", too_late)
        assert sweep(str(root), NOW) == [".b.part"]
        assert os.listdir(root) == []
