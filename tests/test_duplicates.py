"""Names of received files: below their root whatever a peer made up, and never in place of other bytes."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from dicomnet.errors import InvalidArgument, OutputFileError
from dicomnet.files import duplicates
from dicomnet.files.file_sink import FileSink
from dicomnet.files.part10 import meta_header

UID = "1.2.3"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def sink(root: Path, data: bytes, *, sender: str = "CT1", syntax: str = EXPLICIT, durable: bool = False) -> FileSink:
    made = FileSink(root, meta_header("1.2.840.10008.5.1.4.1.1.2", UID, syntax, sender), durable=durable)
    made.write([memoryview(data)])
    return made


def keep(made: FileSink, root: Path, name: str = f"{UID}.dcm") -> str:
    return os.path.relpath(duplicates.commit_apart(made, name, root, sender="CT1", uid=UID), root)


def names(root: Path) -> list[str]:
    return sorted(os.listdir(root))


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/x", "", "a//x", "./x", "a/.", "a\0/x", "..", "a/../x", "../root/x"]
)
def test_a_name_never_leaves_its_root(tmp_path: Path, root: Path, name: str) -> None:
    (tmp_path / "x").write_bytes(b"outside")
    made = sink(root, b"data")
    with pytest.raises(InvalidArgument):
        made.commit(name, root=root)
    made.discard()
    assert (names(tmp_path), names(root)) == (["root", "x"], [])
    assert (tmp_path / "x").read_bytes() == b"outside"


@pytest.mark.parametrize("name", ["link/x", "inner/link/x"])
def test_a_symbolic_link_is_no_way_out(tmp_path: Path, root: Path, name: str) -> None:
    (tmp_path / "outside").mkdir()
    (root / "inner").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "inner" / "link").symlink_to(tmp_path / "outside")
    made = sink(root, b"data")
    with pytest.raises(OutputFileError):
        made.commit(name, root=root)
    made.discard()
    assert names(tmp_path / "outside") == []


def test_a_link_in_place_of_the_file_is_replaced_not_followed(tmp_path: Path, root: Path) -> None:
    (tmp_path / "x").write_bytes(b"outside")
    (root / "y").symlink_to(tmp_path / "x")
    sink(root, b"data").commit("y", root=root)
    assert (tmp_path / "x").read_bytes() == b"outside"
    assert not (root / "y").is_symlink()


@pytest.mark.parametrize("durable", [False, True])
def test_directories_below_the_root_are_made(root: Path, durable: bool) -> None:
    made = sink(root, b"data", durable=durable)
    assert made.commit("a/b/x", root=root) == made.path == f"{root}/a/b/x"
    assert (root / "a/b/x").read_bytes().endswith(b"data")
    assert names(root) == ["a"]


def test_other_bytes_get_a_number_and_the_same_bytes_are_one_copy(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dicomnet")
    kept = [keep(sink(root, data), root) for data in (b"one", b"two", b"six")]
    assert kept == ["1.2.3.dcm", "1.2.3-1.dcm", "1.2.3-2.dcm"]
    assert [record.message for record in caplog.records] == [
        "CT1 sent 1.2.3, of which other bytes are here: both are kept"
    ] * 2
    caplog.clear()
    assert keep(sink(root, b"two", sender="CT2"), root) == "1.2.3-1.dcm"
    assert caplog.records[0].message == "CT1 sent 1.2.3 again: the same bytes are here, one copy is kept"
    assert names(root) == ["1.2.3-1.dcm", "1.2.3-2.dcm", "1.2.3.dcm"]


def test_the_same_bytes_in_another_transfer_syntax_are_others(root: Path) -> None:
    keep(sink(root, b"one"), root)
    assert keep(sink(root, b"one", syntax=IMPLICIT), root) == "1.2.3-1.dcm"


@pytest.mark.parametrize("there", ["text", "directory", "fifo", "link"])
def test_whatever_has_the_name_stays(tmp_path: Path, root: Path, there: str) -> None:
    path = root / f"{UID}.dcm"
    if there == "text":
        path.write_text("mine")
    elif there == "directory":
        path.mkdir()
    elif there == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "nowhere")
    before = path.lstat()
    assert keep(sink(root, b"one"), root) == "1.2.3-1.dcm"
    assert path.lstat().st_ino == before.st_ino


def test_numbers_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MOST_NUMBERED", 2)
    for data in (b"one", b"two", b"six"):
        keep(sink(root, data), root)
    made = sink(root, b"ten")
    with pytest.raises(OutputFileError, match="2 files with other bytes"):
        keep(made, root)
    made.discard()
    assert len(names(root)) == 3


def test_what_cannot_be_written_is_said_and_no_number_is_tried(root: Path) -> None:
    (root / "taken").write_bytes(b"a file where a directory would be")
    made = sink(root, b"one")
    with pytest.raises(OutputFileError, match="Not a directory"):
        keep(made, root, "taken/x.dcm")
    made.discard()
    assert names(root) == ["taken"]


def test_a_name_that_is_too_long_with_its_number(root: Path) -> None:
    name = "n" * 251 + ".dcm"  # 255 characters are the most
    keep(sink(root, b"one"), root, name)
    made = sink(root, b"two")
    with pytest.raises(OutputFileError, match="File name too long"):
        keep(made, root, name)
    made.discard()
    assert names(root) == [name]
