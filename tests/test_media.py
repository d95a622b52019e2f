"""Media: file-sets written and read, with DCMTK's and dicom3tools' programs; and asked for, at a maker of ours."""

from __future__ import annotations

import asyncio
import json
import subprocess
import zipfile
from pathlib import Path

import peers
import pydicom
import pytest
from programs import run_here
from pydicom import dcmread
from pydicom.fileset import FileSet
from rig import instance
from servers import Told, call, make_settings

import dicomnet as dn
from dicomnet import uids
from dicomnet.client import MediaRequest, media_set
from dicomnet.dataset import codec
from dicomnet.server import Server

CLASS = uids.MEDIA_CREATION_MANAGEMENT
#: Room for some ten small instances.
SMALL = (4 << 20) + 45_000


def write_files(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        dataset = instance(number, StudyDate="20260102", SeriesNumber=1)
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files") / "study", 25)


def bytes_by_uid(folder):
    return {dcmread(path).SOPInstanceUID: path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name != "DICOMDIR"}  # fmt: skip


# ---- written and read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", media_set.FORMS)
def test_three_media_come_back_whole_and_bit_for_bit(tmp_path, files, form):
    target = tmp_path / ("disc" if form == "folder" else f"disc.{form}")
    made = media_set.make([files], target, form=form, capacity=SMALL, name="STUDY")
    assert [medium.file_set_id for medium in made] == ["STUDY_1", "STUDY_2", "STUDY_3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(medium.path.name for medium in made)
    back = {}
    for medium in made:
        found = media_set.check(medium.path)
        assert (found.is_whole, found.file_set_id) == (True, medium.file_set_id)
        with media_set.open_medium(medium.path) as folder:
            assert len(FileSet(folder / "DICOMDIR")) == len(medium.instances)
            back |= bytes_by_uid(folder)
    assert back == bytes_by_uid(files)


def append(disc, number):
    """DCMTK's own tool goes through all records, and adds one."""
    more = instance(number, StudyDate="20260102", SeriesNumber=1)
    more.save_as(disc / "MORE", enforce_file_format=True)
    command = [peers.peer_program("dcmmkdir"), "+A", "+I", "-Pgp", "MORE"]
    added = subprocess.run(command, cwd=disc, capture_output=True, text=True)
    assert added.returncode == 0, added.stderr


def records(directory):
    """What a directory says, but for where its records are and what its files are called."""
    places = ("OffsetOfTheNextDirectoryRecord", "OffsetOfReferencedLowerLevelDirectoryEntity", "ReferencedFileID")
    found = []
    for record in dcmread(directory).DirectoryRecordSequence:
        for keyword in places:
            record.pop(keyword, None)
        found.append(record)
    return found


def test_the_directory_is_that_of_pydicom(tmp_path):
    chosen = [path for path in peers.sample_files() if path.name in ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm")]
    media_set.make(chosen, tmp_path / "ours")
    theirs = FileSet()
    for path in sorted(chosen, key=lambda path: str(dcmread(path).PatientID)):
        theirs.add(media_set.completed(dcmread(path)))
    theirs.write(tmp_path / "theirs")
    assert records(tmp_path / "ours" / "DICOMDIR") == records(tmp_path / "theirs" / "DICOMDIR")


def test_dcmtk_and_dicom3tools_read_the_directory(tmp_path, files):
    media_set.make([files], tmp_path / "disc")
    dump = subprocess.run(
        [peers.peer_program("dcmdump"), "+P", "0004,1500", tmp_path / "disc" / "DICOMDIR"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert dump.stdout.count("ReferencedFileID") == 25
    verified = subprocess.run(
        [peers.peer_program("dciodvfy"), tmp_path / "disc" / "DICOMDIR"], capture_output=True, text=True
    )
    assert verified.stderr.startswith("BasicDirectory")
    assert "Error" not in verified.stderr
    append(tmp_path / "disc", 99)
    assert len(media_set.check(tmp_path / "disc").listed) == 26


@pytest.mark.long
@pytest.mark.deadline(600)
def test_a_directory_of_5000_instances_is_read_by_dcmtk_and_verified(tmp_path):
    write_files(tmp_path / "files", 5000)
    media_set.make([tmp_path / "files"], tmp_path / "disc")
    directory = tmp_path / "disc" / "DICOMDIR"
    dump = subprocess.run(
        [peers.peer_program("dcmdump"), "+P", "0004,1500", directory], check=True, capture_output=True, text=True
    )
    assert dump.stdout.count("ReferencedFileID") == 5000
    verified = subprocess.run([peers.peer_program("dciodvfy"), directory], capture_output=True, text=True)
    assert "Error" not in verified.stderr
    append(tmp_path / "disc", 9999)
    assert len(media_set.check(tmp_path / "disc").listed) == 5001


def test_a_viewer_is_put_beside_and_is_not_listed(tmp_path, files):
    viewer = tmp_path / "viewer"
    (viewer / "a folder").mkdir(parents=True)
    (viewer / "Viewer.exe").write_bytes(b"MZ")
    (viewer / "a folder" / "Lies mich.txt").write_text("ja")
    for form, name in (("iso", "disc.iso"), ("zip", "disc.zip"), ("folder", "disc")):
        media_set.make([files], tmp_path / name, form=form, beside=viewer)
        with media_set.open_medium(tmp_path / name) as folder:
            assert (folder / "Viewer.exe").read_bytes() == b"MZ"
            assert (folder / "a folder" / "Lies mich.txt").read_text() == "ja"
            assert len(media_set.check(folder).listed) == 25


def test_media_are_made_of_media(tmp_path, files):
    media_set.make([files], tmp_path / "a.zip", form="zip")
    media_set.make([tmp_path / "a.zip", files], tmp_path / "b")
    assert len(media_set.check(tmp_path / "b").listed) == 25


def test_what_lacks_attributes_of_its_records_is_listed_all_the_same(tmp_path, sample_files):
    chosen = [path for path in sample_files if path.name in ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm")]
    media_set.make(chosen, tmp_path / "disc")
    assert media_set.check(tmp_path / "disc").is_whole


def test_a_directory_whose_names_are_spelled_otherwise_is_read(tmp_path, files):
    made = media_set.make([files], tmp_path / "disc")
    for path in sorted((tmp_path / "disc").rglob("*"), key=lambda path: -len(path.parts)):
        path.rename(path.with_name(path.name.lower() + (".dcm" if path.is_file() and path.suffix == "" else "")))
    (tmp_path / "disc" / "dicomdir.dcm").rename(tmp_path / "disc" / "dicomdir")
    found = media_set.check(tmp_path / "disc")
    assert (len(found.listed), found.missing) == (len(made[0].instances), ())


def test_what_is_missing_and_what_is_not_listed_is_said(tmp_path, files):
    media_set.make([files], tmp_path / "disc")
    gone = next(path for path in (tmp_path / "disc").rglob("IM*"))
    gone.rename(tmp_path / "disc" / "STRANGER")
    found = media_set.check(tmp_path / "disc")
    assert (len(found.listed), len(found.missing), found.unlisted) == (24, 1, ("STRANGER",))
    assert "leads nowhere" in found.missing[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"form": "tar"}, "folder, zip, iso"), ({"capacity": 5 << 20 >> 1}, "room for 0"),
        ({"name": "small letters"}, "A-Z"), ({"name": "A" * 17}, "A-Z"),
    ],
)  # fmt: skip
def test_media_that_cannot_be_are_refused_and_nothing_is_left(tmp_path, files, options, says):
    with pytest.raises(dn.InvalidArgument, match=says):
        media_set.make([files], tmp_path / "disc", **options)
    assert list(tmp_path.iterdir()) == []


def test_nothing_what_is_there_and_other_profiles_are_refused(tmp_path, files):
    with pytest.raises(dn.InvalidArgument, match="nothing"):
        media_set.write([], tmp_path / "disc")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(dn.OutputFileError, match="is there already"):
        media_set.make([files], tmp_path / "full")
    with pytest.raises(dn.InvalidArgument, match="STD-GEN-CD"):
        media_set.make([files], tmp_path / "disc", profile="STD-X")
    packed = next(path for path in peers.sample_files() if path.name == "MR_small_RLE.dcm")
    with pytest.raises(dn.InvalidArgument, match="RLE"):
        media_set.make([packed], tmp_path / "disc", profile="STD-GEN-CD")


def test_what_is_no_medium_is_said_in_a_line(tmp_path, files):
    (tmp_path / "empty.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    (tmp_path / "torn.iso").write_bytes(bytes(32768) + b"\1CD001\1" + bytes(2041))
    for path in (files, tmp_path / "empty.zip", tmp_path / "torn.iso", tmp_path / "gone"):
        with pytest.raises(dn.InputFileError) as caught:
            media_set.check(path)
        assert "\n" not in str(caught.value)
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.writestr("../DICOMDIR", b"")
        archive.writestr("DICOMDIR", b"no directory")
    with pytest.raises(dn.DicomNetError):
        media_set.check(tmp_path / "out.zip")
    assert not (tmp_path / "DICOMDIR").exists()


def test_the_commands_make_and_check(tmp_path, files):
    made = run_here(
        "media", "make", tmp_path / "disc.iso", files, "--format", "iso", "--capacity", str(SMALL), "--json"
    )
    assert json.loads(made.stdout.splitlines()[-1])["summary"]["media"] == 3
    names = [tmp_path / f"disc{number}.iso" for number in ("", "-2", "-3")]
    checked = run_here("media", "check", *names)
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "25 instances listed")
    again = run_here("media", "make", tmp_path / "disc.iso", files, "--format", "iso")
    assert (again.returncode, again.stderr.count("\n")) == (40, 1)


# ---- asked for -------------------------------------------------------------------------------------------------


class Maker:
    """A server of ours that makes media."""

    def __init__(self, folder, **settings):
        self.folder = folder / "media"
        table = {"folder": str(self.folder), **settings}
        self.server = Server(
            make_settings(addins={"enable": ["media"]}, addin={"media": table}), directory=folder / "server"
        )

    def __enter__(self):
        self.server.__enter__()
        self.told = Told(self.server)
        self.told.__enter__()
        host, port = self.server.address
        self.address = f"SERVER@{host}:{port}"
        return self

    def __exit__(self, *why):
        self.told.__exit__()
        self.server.__exit__(*why)

    def stored(self, *paths):
        """Pairs of SOP class and instance UID of what is stored there now."""
        with dn.client.StoreScu(self.address) as scu:
            results = list(scu.send(*map(str, paths)))
        assert all(result.ok for result in results)
        return [(result.sop_class_uid, result.sop_instance_uid) for result in results]


@pytest.mark.parametrize("form", media_set.FORMS)
def test_media_are_made_of_what_was_stored(tmp_path, files, form):
    with Maker(tmp_path, form=form, capacity=str(SMALL)) as maker:
        instances = maker.stored(files)
        with dn.client.MediaCreationScu(maker.address) as scu:
            made = scu.create(instances, request=MediaRequest(file_set_id="ANNA", copies=2), patience=60)
            assert scu.state(made.uid) == made
            with pytest.raises(dn.ServiceFailure, match="0xC201"):
                scu.cancel(made.uid)
        told = maker.told.wait_for("media.done")[0].data
    assert [title for title, _ in made.media] == ["ANNA_1", "ANNA_2", "ANNA_3"]
    assert told["copies"] == 2
    listed = [uid for path in told["media"] for uid in media_set.check(Path(path)).listed]
    assert sorted(listed) == sorted(uid for _, uid in instances)
    assert not list((tmp_path / "server").rglob("*.dcm"))  # they were not to be kept


def test_by_asyncio_media_are_made_cancelled_and_refused(tmp_path, files):
    async def work(maker, instances):
        async with dn.client.aio.MediaCreationScu(maker.address) as scu:
            made = await scu.create(instances, request=MediaRequest(file_set_id="ANNA"), patience=60)
            assert await scu.state(made.uid) == made
            with pytest.raises(dn.ServiceFailure, match="0xC201"):
                await scu.cancel(made.uid)
            with pytest.raises(dn.ServiceFailure, match=r"NO_INSTANCE, 1 instances such as 1\.2\.3"):
                await scu.create([(uids.CT_IMAGE_STORAGE, "1.2.3")], patience=60)
            return made

    with Maker(tmp_path) as maker:
        made = asyncio.run(work(maker, maker.stored(files)))
    assert [title for title, _ in made.media] == ["ANNA"]


def test_the_command_has_media_made(tmp_path, files):
    with Maker(tmp_path) as maker:
        maker.stored(files)
        done = run_here("media", "ask", maker.address, files, "--name", "EVA", "--wait", "60")
    assert (done.returncode, done.stdout.partition(":")[0]) == (0, "EVA")


@pytest.mark.parametrize(
    ("settings", "request_", "info"),
    [
        ({}, MediaRequest(), "NO_INSTANCE"), ({"capacity": str(SMALL)}, MediaRequest(split=False), "SET_OVERSIZED"),
        ({"capacity": "1m"}, MediaRequest(), "INST_OVERSIZED"),
        ({}, MediaRequest(profile="STD-GEN-CD"), "INST_AP_CONFLICT"),
    ],
)  # fmt: skip
def test_media_that_cannot_be_made_fail_and_leave_nothing(tmp_path, files, settings, request_, info):
    packed = next(path for path in peers.sample_files() if path.name == "MR_small_RLE.dcm")
    with Maker(tmp_path, **settings) as maker, dn.client.MediaCreationScu(maker.address) as scu:
        instances = maker.stored(packed if info == "INST_AP_CONFLICT" else files)
        wanted = [*instances, (uids.CT_IMAGE_STORAGE, "1.2.3")] if info == "NO_INSTANCE" else instances
        with pytest.raises(dn.ServiceFailure, match=info):
            scu.create(wanted, request=request_, patience=60)
        assert maker.told.wait_for("media.failure")[0].data["info"] == info
    assert not list(maker.folder.iterdir())
    assert list((tmp_path / "server").rglob("*.dcm"))  # for another try


def test_requests_are_held_to_the_standard(tmp_path, files):
    with Maker(tmp_path) as maker:
        (sop_class, uid), *_ = maker.stored(next(files.iterdir()))
        with call(maker.server, CLASS) as link:

            def ask(service, request_uid, *arguments):
                try:
                    return getattr(link, service)(CLASS, request_uid, *arguments).status
                except dn.ServiceFailure as error:
                    return error.status

            def create(request_uid, **values):
                reference = {"ReferencedSOPClassUID": sop_class, "ReferencedSOPInstanceUID": uid}
                values = {"ReferencedSOPSequence": [reference]} | values
                return ask("n_create", request_uid, codec.from_keywords(values))

            assert create("1.2.1") == 0
            assert create("1.2.1") == 0x0111
            assert create("1.02") == 0x0117
            assert create("1.2.2", ReferencedSOPSequence=[]) == 0x0120
            assert create("1.2.2", ReferencedSOPSequence=[{"ReferencedSOPClassUID": sop_class}]) == 0x0120
            refused = create("1.2.2", StorageMediaFileSetID="small letters")
            assert (refused, refused.offending) == (0x0106, (0x00880130,))
            assert create("1.2.2", IncludeDisplayApplication="REQUIRED") == 0x0106
            assert ask("n_action", "1.2.9", 1) == ask("n_get", "1.2.9") == 0x0112
            assert ask("n_action", "1.2.1", 3) == 0x0123
            assert ask("n_action", "1.2.1", 1, codec.from_keywords({"NumberOfCopies": 100})) == 0x0115
            assert ask("n_action", "1.2.1", 2) == 0  # cancelled before it began
            assert ask("n_get", "1.2.1") == 0x0112
            assert create("1.2.3") == 0
            assert ask("n_action", "1.2.3", 1) == 0
            assert ask("n_action", "1.2.3", 1) == 0xA510
            maker.told.wait_for("media.done")


def test_pynetdicom_has_media_made(tmp_path, files):
    from pynetdicom import AE

    with Maker(tmp_path) as maker:
        (sop_class, uid), *_ = maker.stored(next(files.iterdir()))
        ae = AE()
        ae.add_requested_context(CLASS)
        host, port = maker.server.address
        link = peers.steadied(ae.associate(host, port, ae_title="SERVER"))
        reference = {"ReferencedSOPClassUID": sop_class, "ReferencedSOPInstanceUID": uid}
        wanted = codec.from_keywords({"ReferencedSOPSequence": [reference]})
        assert link.send_n_create(wanted, CLASS, "1.2.5")[0].Status == 0
        assert link.send_n_action(codec.from_keywords({"NumberOfCopies": 1}), 1, CLASS, "1.2.5")[0].Status == 0
        maker.told.wait_for("media.done")
        status, said = link.send_n_get([], CLASS, "1.2.5")
        link.release()
    assert (status.Status, said.ExecutionStatus, said.TotalNumberOfPiecesOfMediaCreated) == (0, "DONE", 1)
    assert isinstance(said, pydicom.Dataset)


def test_what_was_asked_for_is_made_after_a_restart(tmp_path, files):
    with Maker(tmp_path) as maker:
        instances = maker.stored(files)
        with dn.connect(maker.address, contexts=dn.services.presentation_contexts.sop_classes(CLASS)) as link:
            reference = [{"ReferencedSOPClassUID": one, "ReferencedSOPInstanceUID": uid} for one, uid in instances]
            for uid in ("1.2.5", "1.2.6"):
                wanted = codec.from_keywords({"ReferencedSOPSequence": reference, "StorageMediaFileSetID": "ANNA"})
                assert link.n_create(CLASS, uid, wanted).status == 0
    (kept,) = (tmp_path / "server").rglob("1.2.6.json")
    kept.write_text(kept.read_text().replace('"IDLE"', '"CREATING"'))  # as where the process was killed meanwhile
    for left in (maker.folder / "1.2.6", maker.folder / ".1.2.6.part"):
        left.mkdir()
        (left / "half").write_bytes(b"x")
    with Maker(tmp_path) as maker, dn.client.MediaCreationScu(maker.address) as scu:
        assert scu.ended("1.2.6", 60).media[0][0] == "ANNA"
        assert scu.state("1.2.5").status == "IDLE"
        scu.cancel("1.2.5")
    assert sorted(media_set.check(maker.folder / "1.2.6").listed) == sorted(uid for _, uid in instances)
    assert media_set.check(maker.folder / "1.2.6").is_whole
    assert [path.name for path in maker.folder.iterdir()] == ["1.2.6"]
    with Maker(tmp_path) as maker, dn.client.MediaCreationScu(maker.address) as scu:
        assert scu.state("1.2.6").status == "DONE"  # it can be asked after
        with pytest.raises(dn.ServiceFailure):
            scu.state("1.2.5")
