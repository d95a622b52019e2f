"""Files of what is not done yet: whole, or not there; a disk that lets go of nothing ends no add-in."""

import logging

import pytest

from dicomnet.server.kept_files import KeptFiles


@pytest.fixture
def kept(tmp_path):
    return KeptFiles(tmp_path, ".job", logging.getLogger("dicomnet.test"))


def test_what_was_kept_is_read_in_its_order_and_removed(kept, tmp_path):
    for uid in ("1.9", "1.2"):
        kept.put(uid, uid.encode())
    kept.put("1.9", b"again")
    assert sorted(kept.read()) == [("1.2", b"1.2"), ("1.9", b"again")]
    kept.remove("1.9")
    kept.remove("1.9")  # it is gone already
    assert list(kept.read()) == [("1.2", b"1.2")]
    assert [one.name for one in tmp_path.iterdir()] == ["1.2.job"]


def test_what_an_ended_process_left_half_written_goes(kept, tmp_path):
    (tmp_path / ".1.2.job.part").write_bytes(b"ha")
    KeptFiles(tmp_path, ".job", logging.getLogger("dicomnet.test"))
    assert not list(tmp_path.iterdir())


def test_one_that_cannot_be_removed_is_logged(kept, tmp_path, caplog):
    (tmp_path / "1.2.job").mkdir()
    kept.remove("1.2")
    assert "cannot be removed" in caplog.text
