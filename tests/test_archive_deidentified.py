"""Export of an archive without who it is of: no value that tells is left in any file, and the pictures are the same."""

import json
import zipfile

import archives
import pydicom
import pytest
from archives import part10

from dicomnet.cli import app
from dicomnet.repository.exporting import FORMATS


@pytest.fixture
def directory(tmp_path):
    with archives.opened(tmp_path / "archive") as holdings:
        names = {"PatientName": "Telltale^Tom", "StudyDate": "20240229", "StudyDescription": "Head of Telltale"}
        archives.store(holdings, [part10(number, size=200, **names) for number in (1, 2)])
        archives.store(holdings, [part10(3, size=200, BurnedInAnnotation="YES", **names)])
    return tmp_path / "archive"


@pytest.fixture
def export(directory, capsys):
    """Exports to a place: exit code, records, and standard error."""

    def export(target, *words):
        capsys.readouterr()
        named = ("--study", "1.2.1", "--deidentify", "--json")
        code = app.run(["archive", "export", str(directory), str(target), *named, *words])
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return export


def files_in(target, form):
    if form == "zip":
        with zipfile.ZipFile(target) as archive:
            return [archive.read(name) for name in archive.namelist()]
    return [path.read_bytes() for path in sorted(target.rglob("*")) if path.is_file() and path.name != "DICOMDIR"]


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_in_it_tells(export, tmp_path, form):
    target = tmp_path / ("out.zip" if form == "zip" else "out")
    code, records, stderr = export(target, "--format", form)
    assert code == 69
    assert "burned" in stderr
    files = files_in(target, form)
    assert len(files) == 2
    for content in files:
        assert not any(word in content for word in (b"Telltale", b"1.2.1.", b"20240229", b"P1"))
    if form == "dicomdir":
        assert b"Telltale" not in (target / "DICOMDIR").read_bytes()
    assert [bool(one["written_as"]) for one in records[:-1]] == [True, True, False]
    assert records[-1]["summary"]["instances"] == 2


def test_it_is_the_same_each_time_and_says_what_was_done(export, tmp_path):
    words = ("--option", "shifted", "--option", "descriptors", "--burned-in")
    assert export(tmp_path / "one", *words)[0] == 0
    _, records, _ = export(tmp_path / "two", *words)
    paths = [
        [path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*.dcm")] for name in ("one", "two")
    ]
    assert sorted(paths[0]) == sorted(paths[1])
    assert len(paths[0]) == 3
    dataset = pydicom.dcmread(tmp_path / "two" / paths[1][0])
    assert dataset.PatientIdentityRemoved == "YES"
    assert dataset.StudyDescription == "Head of"
    assert dataset.StudyDate < "20240229"
    assert len(dataset.PixelData) == 192
    assert records[0]["done"]["shifted"]
    assert records[-1]["summary"]["warnings"]


@pytest.mark.parametrize("words", [("--option", "dates", "--option", "shifted"), ("--option", "pixels")])
def test_options_that_make_no_sense_are_a_usage_error(export, tmp_path, words):
    code, _, stderr = export(tmp_path / "out", *words)
    assert code in (2, 64)
    assert "Traceback" not in stderr


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_there_stays(export, tmp_path, form):
    target = tmp_path / "there"
    if form == "zip":
        target.write_bytes(b"mine")
    else:
        target.mkdir()
        (target / "mine").write_bytes(b"mine")
    code, records, stderr = export(target, "--format", form)
    assert (code, records) == (40, [])
    assert "is there already" in stderr
    assert (target if form == "zip" else target / "mine").read_bytes() == b"mine"


@pytest.mark.parametrize("form", FORMATS)
def test_where_nothing_can_be_written_it_is_said(export, tmp_path, form):
    (tmp_path / "file").write_bytes(b"")
    code, _, stderr = export(tmp_path / "file" / "out", "--format", form)
    assert code == 40
    assert "cannot be written: Not a directory" in stderr
