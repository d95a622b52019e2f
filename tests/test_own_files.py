"""What is to be on the disk: all of it, in its order, and a file that is replaced is one of the two, whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dicomnet.files.own_files import PART, make_directory, replace_file, write_all


def written(path: Path, buffers: list[bytes | memoryview]) -> int:
    with path.open("wb", buffering=0) as file:
        return write_all(file.fileno(), buffers)


@pytest.mark.parametrize("count", [0, 1, os.sysconf("SC_IOV_MAX"), os.sysconf("SC_IOV_MAX") + 1, 5000])
def test_however_many_buffers_there_are(tmp_path: Path, count: int) -> None:
    buffers: list[bytes | memoryview] = [b"%d," % number * (number % 4) for number in range(count)]
    assert written(tmp_path / "x", buffers) == sum(map(len, buffers))
    assert (tmp_path / "x").read_bytes() == b"".join(buffers)


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_a_disk_that_takes_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """As POSIX allows: fewer bytes than were given, and the end of them within any buffer, or between two."""
    monkeypatch.setattr(os, "writev", lambda fd, buffers: os.write(fd, b"".join(buffers)[:most]))
    buffers = [b"ab", b"", memoryview(b"cdefg"), b"", b"h"]
    assert written(tmp_path / "x", buffers) == 8
    assert (tmp_path / "x").read_bytes() == b"abcdefgh"


class TestReplacing:
    def test_those_who_may_read_it_stay(self, tmp_path: Path) -> None:
        path = tmp_path / "settings.toml"
        replace_file(path, b"one")
        path.chmod(0o600)
        replace_file(path, b"two")
        assert path.read_bytes() == b"two"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert os.listdir(tmp_path) == ["settings.toml"]

    def test_where_it_fails_the_old_one_is_there_and_nothing_else(self, tmp_path: Path) -> None:
        path = tmp_path / "settings.toml"
        path.mkdir()
        with pytest.raises(IsADirectoryError):
            replace_file(path, b"two")
        assert os.listdir(tmp_path) == ["settings.toml"]
        assert path.is_dir()

    def test_a_part_that_is_none_of_ours_stays(self, tmp_path: Path) -> None:
        """What has the name of the part cannot be written: nothing is replaced, and nobody loses anything."""
        path, part = tmp_path / "settings.toml", tmp_path / f".settings.toml{PART}"
        path.write_bytes(b"one")
        part.mkdir()
        with pytest.raises(OSError, match="directory"):
            replace_file(path, b"two")
        assert path.read_bytes() == b"one"
        assert part.is_dir()


def test_a_directory_that_is_there_is_taken(tmp_path: Path) -> None:
    for _ in range(2):
        make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        make_directory(tmp_path / "file" / "c")
