"""`dicomnet workstation …`: each command, against a workstation and an archive in this process."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import archives
import pytest
from archives import part10
from servers import Told
from workstations import serving, stored

from dicomnet.archive.archive import Archive
from dicomnet.cli import app
from dicomnet.config import Limits
from dicomnet.repository import importing
from dicomnet.server.ae_entry import AEEntry
from dicomnet.server.directory import ServerDirectory


class Desk:
    """What someone types, and reads."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str], told: Told, archive: Archive) -> None:
        self.directory, self._capsys, self.told, self.archive = directory, capsys, told, archive

    def run(self, command: str, *arguments: object, code: int = 0) -> str:
        self._capsys.readouterr()
        given = ["workstation", command, str(self.directory), *map(str, arguments)]
        assert app.run(given) == code, self._capsys.readouterr()
        out, err = self._capsys.readouterr()
        return out + err

    def records(self, command: str, *arguments: object, code: int = 0) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run(command, *arguments, "--json", code=code).splitlines()]


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    directory = tmp_path / "ws"
    ServerDirectory(directory).create({"server.ae_title": "SELF", "addins.enable": ["workstation"]})
    archive = Archive(tmp_path / "pacs", archives.make(tmp_path / "pacs"))
    with archive, serving(directory) as (server, _, _), Told(server) as told:
        port = archive.listener.address[1]
        server.base.ae_titles.add(AEEntry(title="ARCHIVE", host="127.0.0.1", port=port))
        stored(f"ARCHIVE@127.0.0.1:{port}", *(part10(number) for number in range(1, 5)))
        yield Desk(directory, capsys, told, archive)


@pytest.mark.long
def test_asked_retrieved_listed_and_sent(desk: Desk) -> None:
    assert "P1" in desk.run("query", "ARCHIVE", "-k", "PatientID=P1")
    assert desk.run("query", "ARCHIVE", "-k", "PatientID=NOBODY").strip() == "0 found"
    keys = ("--level", "IMAGE", "-k", "StudyInstanceUID=1.2.1", "-k", "SeriesInstanceUID=1.2.1.1", "--most", 3)
    assert len(desk.records("query", "ARCHIVE", *keys)) == 4  # with the summary
    assert "job 1 done, 4 of 4" in desk.run("retrieve", "ARCHIVE", "1.2.1", "--wait")
    [study, total] = desk.records("studies")
    assert (study["uid"], study["instances"], study["pinned"], total["summary"]["studies"]) == ("1.2.1", 4, False, 1)
    assert desk.run("pin", "1.2.1").strip() == "1 pinned"
    assert "pinned" in desk.run("studies")
    assert desk.run("pin", "1.2.1", "--off").strip() == "1 no longer pinned"
    assert "job 2 done, 4 of 4" in desk.run("store", "ARCHIVE", "1.2.1", "--wait")
    [sent, retrieved, _] = desk.records("jobs")
    assert (sent["kind"], retrieved["kind"], retrieved["found"]) == ("send", "retrieve", 0)
    assert "0 earlier studies ordered" in desk.run("prefetch", "ARCHIVE", "1.2.1")


def test_a_job_is_cancelled_and_tried_again(desk: Desk) -> None:
    desk.run("retrieve", "ARCHIVE", "1.2.404")
    with desk.told._changed:
        assert desk.told._changed.wait_for(lambda: "has nothing of it" in str(desk.told.events), 20)
    assert "job 1 cancelled: ARCHIVE has nothing of it" in desk.run("cancel", 1)
    assert "job 1 waiting" in desk.run("retry", 1) or "job 1 running" in desk.run("jobs")
    desk.run("cancel", 1)
    assert "there is no job 9" in desk.run("cancel", 9, code=61)


def test_files_in_and_out(desk: Desk, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as packed:
        packed.writestr("a.dcm", part10(1, study=2))
        packed.writestr("b.dcm", part10(2, study=2))
    assert "2 stored, 0 there already" in desk.run("import", tmp_path / "in.zip")
    assert "0 stored, 2 there already" in desk.run("import", tmp_path / "in.zip")
    assert "2 instances written" in desk.run("export", tmp_path / "media", "--study", "1.2.2", "--format", "dicomdir")
    assert (tmp_path / "media" / "DICOMDIR").is_file()
    (tmp_path / "bad.txt").write_text("no instance")
    assert "bad.txt" in desk.run("import", tmp_path / "bad.txt", code=69)


def test_a_zip_that_unpacks_to_too_much_is_refused(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry is read to its bound and no further; the others come in all the same."""
    monkeypatch.setattr(importing, "Limits", lambda: Limits(archive_entry=1 << 20))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("good.dcm", part10(1, study=3))
        with packed.open("bomb.dcm", "w", force_zip64=True) as entry:
            entry.write(part10(2, study=3))
            entry.write(bytes(16 << 20))
    said = desk.run("import", tmp_path / "bomb.zip", code=69)
    assert f"bomb.dcm: it inflates to more than {1 << 20} bytes" in said
    assert "1 stored" in said


def test_what_is_no_workstation_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["workstation", "jobs", str(tmp_path)]) == 2
    assert "is no workstation: it has no server.toml" in capsys.readouterr().err
    made = ServerDirectory(tmp_path / "other")
    made.create({"server.ae_title": "X"})
    assert app.run(["workstation", "import", str(made.path), "x.dcm"]) == 2
    assert 'is no workstation: it does not enable "workstation"' in capsys.readouterr().err
    assert app.run(["workstation", "jobs", str(made.path)]) != 0
    assert "Does it run?" in capsys.readouterr().err
    assert app.run(["workstation", "create", str(tmp_path / "ws"), "--quota", "lots"]) == 2
    assert "quota" in capsys.readouterr().err
    assert not (tmp_path / "ws").exists()
