"""The add-in `printer`: every service and status of PS3.4 Annex H, with DCMTK's and pynetdicom's users, and ours."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import contextmanager

import numpy as np
import peers
import pytest
from printing import Printer, dcmtk, dcmtk_folder
from programs import ROOT, command, end, run
from pydicom import dcmread
from pydicom.dataset import Dataset
from servers import make_settings

import dicomnet as dn
from dicomnet import uids
from dicomnet.client import Film
from dicomnet.client.print_job import Picture, image_box
from dicomnet.dataset import codec
from dicomnet.server import Server
from dicomnet.server.shipped.printer.hierarchy import MOST_LUTS

GREY, COLOR = uids.BASIC_GRAYSCALE_PRINT_MANAGEMENT_META, uids.BASIC_COLOR_PRINT_MANAGEMENT_META
SESSION, FILM, IMAGE = uids.BASIC_FILM_SESSION, uids.BASIC_FILM_BOX, uids.BASIC_GRAYSCALE_IMAGE_BOX
GRADIENT = np.arange(256, dtype=np.uint8).reshape(16, 16)


class User:
    """Makes, changes and prints over one association, and gives the statuses, whatever they are."""

    def __init__(self, printer, meta=GREY):
        self.meta = meta
        classes = (meta, uids.PRESENTATION_LUT, uids.BASIC_ANNOTATION_BOX, uids.PRINT_JOB)
        contexts = dn.services.presentation_contexts.sop_classes(*classes)
        self.association = dn.connect(printer.address, contexts=contexts, calling="TESTER")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.association.release()

    def ask(self, service, sop_class, uid, *arguments, context=""):
        arguments = [codec.from_keywords(one) if isinstance(one, dict) else one for one in arguments]
        try:
            reply = getattr(self.association, service)(sop_class, uid, *arguments, context=context or self.meta)
        except dn.ServiceFailure as error:
            return error.status, None
        return reply.status, reply.dataset

    def session(self, **values):
        return self.ask("n_create", SESSION, "1.2.1", values)[0]

    def film(self, uid="1.2.2", layout="STANDARD\\1,1", session="1.2.1", **values):
        """The status, and the UIDs of the image boxes."""
        values = {"ImageDisplayFormat": layout, "FilmSizeID": "8INX10IN"} | values
        if session:
            values["ReferencedFilmSessionSequence"] = [
                {"ReferencedSOPClassUID": SESSION, "ReferencedSOPInstanceUID": session}
            ]
        status, said = self.ask("n_create", FILM, uid, values)
        return status, [] if said is None else [one.ReferencedSOPInstanceUID for one in said.ReferencedImageBoxSequence]

    def image(self, uid, pixels=GRADIENT, position=1, bits=8, **values):
        return self.ask("n_set", IMAGE, uid, image_box(Picture(pixels, bits), position) | values)[0]

    def print(self, sop_class=FILM, uid="1.2.2", action=1):
        return self.ask("n_action", sop_class, uid, action)[0]


@pytest.fixture
def printer(tmp_path):
    with Printer(tmp_path) as one:
        yield one


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A printer for tests that ask about answers alone."""
    with Printer(tmp_path_factory.mktemp("shared")) as one:
        yield one


@pytest.fixture
def user(shared):
    with User(shared) as one:
        yield one


# ---- other people's users --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--session-print",), ("--monochrome1",)])
def test_jobs_of_dcmprscu_come_out(tmp_path, options):
    with Printer(tmp_path) as printer:
        folder = dcmtk_folder(tmp_path / "dcmtk", "PRINTER", "SERVER", printer.port)
        file = next(path for path in peers.sample_files() if path.name == "CT_small.dcm")
        made = ("-c", "dcmpstat.cfg", "-p", "PRINTER", "--filmsize", "8INX10IN", "--layout", 1, 2, "--identity",
                "--border", "BLACK", "--annotation", "HELLO", "--print-no-date", file, file)  # fmt: skip
        dcmtk("dcmpsprt", *made, cwd=folder)
        (stored,) = (folder / "database").glob("SP_*.dcm")
        dcmtk("dcmprscu", "-c", "dcmpstat.cfg", "-p", "PRINTER", *options, "--copies", 3, stored, cwd=folder)
        (job,) = printer.printed()
    assert (job["copies"], job["calling"]) == (3, "DCMPSTATE")
    (film,) = printer.pictures(job["job"])
    hardcopy = dcmread(next((folder / "database").glob("HG_*.dcm")))
    wanted = hardcopy.pixel_array * (255 / ((1 << hardcopy.BitsStored) - 1))
    assert film.shape == (600, 480)
    for top, bottom in ((14, 298), (302, 572)):  # two boxes above the line of the annotation
        values = film[top + (bottom - top) // 4 : bottom - (bottom - top) // 4, 180:300].astype(float)
        middle = wanted[wanted.shape[0] // 4 : -wanted.shape[0] // 4, wanted.shape[1] // 4 : -wanted.shape[1] // 4]
        assert wanted.min() - 1 <= values.min()
        assert values.max() <= wanted.max() + 1
        assert abs(np.median(values) - np.median(middle)) <= 2
    assert film[575:, :240].max() > 200  # the annotation at the foot


def test_pynetdicom_prints_in_colour_and_asks_after_its_job(printer):
    from pynetdicom import AE
    from pynetdicom.sop_class import BasicColorPrintManagementMeta, PrintJob

    ae = AE("PYNETDICOM")

    def linked(sop_class):
        """Apart, for who proposes Print Job beside the rest hears of jobs in the middle of it."""
        ae.requested_contexts = []
        ae.add_requested_context(sop_class)
        found = peers.steadied(ae.associate(printer.host, printer.port, ae_title="SERVER"))
        assert found.is_established
        return found

    link = linked(BasicColorPrintManagementMeta)
    status, said = link.send_n_get([0x21100010], uids.PRINTER, uids.PRINTER_INSTANCE, meta_uid=COLOR)
    assert (status.Status, said.PrinterStatus, len(said)) == (0, "NORMAL", 1)
    session = Dataset()
    session.NumberOfCopies = "1"
    assert link.send_n_create(session, SESSION, "1.2.1", meta_uid=COLOR)[0].Status == 0
    film, reference = Dataset(), Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = SESSION, "1.2.1"
    film.ImageDisplayFormat, film.FilmSizeID = "STANDARD\\1,1", "8INX10IN"
    film.MagnificationType, film.ReferencedFilmSessionSequence = "NONE", [reference]
    status, said = link.send_n_create(film, FILM, "1.2.2", meta_uid=COLOR)
    assert status.Status == 0
    (box,) = said.ReferencedImageBoxSequence
    colours = np.dstack([GRADIENT, GRADIENT.T, 255 - GRADIENT])
    image = codec.from_keywords(image_box(Picture(colours), 1))
    answer = link.send_n_set(image, box.ReferencedSOPClassUID, box.ReferencedSOPInstanceUID, meta_uid=COLOR)
    assert (box.ReferencedSOPClassUID, answer[0].Status) == (uids.BASIC_COLOR_IMAGE_BOX, 0)
    status, said = link.send_n_action(None, 1, FILM, "1.2.2", meta_uid=COLOR)
    assert status.Status == 0
    uid = said.ReferencedPrintJobSequence[0].ReferencedSOPInstanceUID
    assert printer.printed()[0]["job"] == uid
    assert link.send_n_delete(SESSION, "1.2.1", meta_uid=COLOR).Status == 0
    link.release()
    link = linked(PrintJob)
    status, said = link.send_n_get([], uids.PRINT_JOB, uid)
    assert (status.Status, said.ExecutionStatus, said.Originator) == (0, "DONE", "PYNETDICOM")
    link.release()
    (film,) = printer.pictures(uid)
    assert film.shape == (600, 480, 3)
    assert np.array_equal(film[292:308, 232:248], colours)  # one dot for each pixel, in the middle


# ---- the statuses ----------------------------------------------------------------------------------------------


def test_a_film_session_is_made_once_and_held_to_its_attributes(user):
    assert user.film()[0] == 0x0112  # no session yet
    assert user.session(NumberOfCopies=0) == 0x0106
    assert user.session(PrintPriority="NOW") == 0x0106
    assert user.session(MemoryAllocation=5) == 0xB600
    assert user.session() == 0x0111
    assert user.ask("n_set", SESSION, "1.2.1", {"NumberOfCopies": 2})[0] == 0
    assert user.ask("n_set", SESSION, "1.2.9", {"NumberOfCopies": 2})[0] == 0x0112
    assert user.ask("n_create", uids.PRINTER, "1.2.8")[0] == 0x0118
    assert user.ask("n_create", SESSION, "1.02")[0] == 0x0117
    assert user.ask("n_delete", SESSION, "1.2.9")[0] == 0x0112
    assert user.ask("n_delete", SESSION, "1.2.1")[0] == 0
    assert user.session() == 0


@pytest.mark.parametrize(
    ("values", "status", "offending"),
    [
        ({"layout": ""}, 0x0120, 0x20100010), ({"layout": "STANDARD\\0,1"}, 0x0106, 0x20100010),
        ({"layout": "STANDARD\\21,20"}, 0x0106, 0x20100010), ({"FilmSizeID": "1INX1IN"}, 0x0106, 0x20100050),
        ({"FilmOrientation": "SIDEWAYS"}, 0x0106, 0x20100040), ({"MagnificationType": "BIG"}, 0x0106, 0x20100060),
        ({"BorderDensity": "GREY"}, 0x0106, 0x20100100), ({"EmptyImageDensity": "GREY"}, 0x0106, 0x20100110),
        ({"Trim": "MAYBE"}, 0x0106, 0x20100140), ({"AnnotationDisplayFormatID": "9"}, 0x0106, 0x20100030),
        ({"MinDensity": 300, "MaxDensity": 200}, 0x0106, 0x20100120), ({"session": ""}, 0x0120, 0x20100500),
        ({"session": "1.2.3.4"}, 0x0106, 0x20100500),
        ({"ReferencedPresentationLUTSequence": [{"ReferencedSOPInstanceUID": "1.9"}]}, 0x0106, 0x20500500),
    ],
)  # fmt: skip
def test_a_film_that_cannot_be_is_refused_and_the_attribute_named(user, values, status, offending):
    user.session()
    found, boxes = user.film(**values)
    assert (found, found.offending, boxes) == (status, (offending,), [])
    assert user.film()[0] == 0


def test_films_are_made_changed_and_deleted(user):
    user.session()
    assert [status for status, _ in (user.film(MaxDensity=400), user.film(), user.film("1.2.3"))] == [0xB605, 0x0111, 0]
    assert user.ask("n_set", FILM, "1.2.3", {"Trim": "YES", "BorderDensity": "WHITE"})[0] == 0
    assert user.ask("n_set", FILM, "1.2.3", {"ImageDisplayFormat": "STANDARD\\2,2"})[0] == 0x0106
    assert user.ask("n_set", FILM, "1.2.9", {"Trim": "YES"})[0] == 0x0112
    assert user.ask("n_set", IMAGE, "1.2.9", {"ImageBoxPosition": 1})[0] == 0x0112
    assert user.ask("n_delete", FILM, "1.2.3")[0] == 0
    assert user.ask("n_delete", FILM, "1.2.3")[0] == 0x0112


def test_a_session_has_no_more_films_than_the_settings_say(tmp_path):
    with Printer(tmp_path, most_films=1) as printer, User(printer) as user:
        user.session()
        assert [user.film(uid)[0] for uid in ("1.2.2", "1.2.3")] == [0, 0x0213]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"SamplesPerPixel": 3}, 0x0106), ({"PhotometricInterpretation": "RGB"}, 0x0106), ({"Rows": None}, 0x0120),
        ({"BitsAllocated": 32}, 0x0106), ({"BitsStored": 7, "HighBit": 6}, 0x0106), ({"HighBit": 9}, 0x0106),
        ({"PixelRepresentation": 1}, 0x0106), ({"PixelData": b"12"}, 0x0106), ({"Columns": 0}, 0x0106),
        ({"PixelAspectRatio": [0, 1]}, 0x0106),
    ],
)  # fmt: skip
def test_an_image_that_cannot_be_printed_is_refused(user, change, status):
    user.session()
    (box,) = user.film()[1]
    values = image_box(Picture(GRADIENT), 1)
    values["BasicGrayscaleImageSequence"][0] |= change
    assert user.ask("n_set", IMAGE, box, values)[0] == status


def test_other_faults_of_an_image_box(user):
    user.session()
    (box,) = user.film()[1]
    assert user.image(box, position=2) == 0x0106
    assert user.image(box, Polarity="UPSIDE") == 0x0106
    assert user.image(box, RequestedImageSize="-1") == 0x0106
    assert user.ask("n_set", IMAGE, box, {"ImageBoxPosition": 1})[0] == 0x0120
    assert user.ask("n_set", IMAGE, box, {"ImageBoxPosition": 1, "BasicGrayscaleImageSequence": []})[0] == 0
    assert user.print() == 0xB603


@pytest.mark.parametrize(
    ("behaviour", "status"), [("", 0xB604), ("DECIMATE", 0xB60A), ("CROP", 0xB609), ("FAIL", 0xC603)]
)
@pytest.mark.parametrize("wanted", [{}, {"RequestedImageSize": "500"}])
def test_an_image_larger_than_its_box(user, behaviour, status, wanted):
    user.session()
    (box,) = user.film()[1]
    large = GRADIENT if wanted else np.repeat(np.repeat(GRADIENT, 50, 0), 50, 1)
    values = {"RequestedDecimateCropBehavior": behaviour} if behaviour else {}
    assert user.image(box, large, **values, **wanted) == status
    assert user.print() == (0xB603 if status == 0xC603 else 0)


def test_images_beyond_the_memory_are_refused(tmp_path):
    with Printer(tmp_path, memory=300) as printer, User(printer) as user:
        user.session()
        first, second = user.film(layout="STANDARD\\1,2")[1]
        assert user.image(first) == 0
        assert user.image(first) == 0  # in place of the other
        assert user.image(second, position=2) == 0xC605


def test_what_is_printed_has_films_and_images(user):
    user.session()
    assert user.print(SESSION, "1.2.1") == 0xC600
    (box,) = user.film()[1]
    assert [user.print(), user.print(SESSION, "1.2.1")] == [0xB603, 0xB602]
    assert user.print(action=2) == 0x0123
    assert user.print(uid="1.2.9") == user.print(SESSION, "1.2.9") == 0x0112
    user.image(box)
    assert user.print(SESSION, "1.2.1") == 0


def test_a_full_queue(tmp_path):
    with Printer(tmp_path, most_jobs=0) as printer, User(printer) as user:
        user.session()
        user.film()
        assert [user.print(), user.print(SESSION, "1.2.1")] == [0xC602, 0xC601]


def test_what_waits_of_all_sessions_together_is_bounded(tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    settings = {"memory": 300, "command": ["cat", str(gate)]}  # a job ends once the gate was opened and shut
    with Printer(tmp_path, **settings) as printer, User(printer) as first, User(printer) as second:
        for user in (first, second):
            user.session()
            user.image(user.film()[1][0])
        assert first.print() == 0
        with gate.open("w"):  # it is being printed, and waits no more
            assert first.print() == first.print() == 0  # the same image, held once
            assert [second.print(), second.print(SESSION, "1.2.1")] == [0xC602, 0xC601]
            gate.unlink()
            gate.touch()  # those that follow need not wait
        printer.printed(3)
        assert second.print() == 0
        printer.printed(4)


def test_sessions_that_are_not_collated_or_not_printed(tmp_path):
    with Printer(tmp_path / "a", sessions="uncollated") as printer, User(printer) as user:
        user.session()
        for uid in ("1.2.2", "1.2.3"):
            user.image(user.film(uid)[1][0])
        assert user.print(SESSION, "1.2.1") == 0xB601
        assert len(printer.printed(2)) == 2
    with Printer(tmp_path / "b", sessions="refused") as printer, User(printer) as user:
        user.session()
        user.image(user.film()[1][0])
        assert user.film("1.2.3")[0] == 0xC616
        assert [user.print(SESSION, "1.2.1"), user.print()] == [0x0123, 0]
        assert user.film("1.2.3")[0] == 0


def test_presentation_luts_are_made_named_and_deleted(user):
    lut = uids.PRESENTATION_LUT

    def made(uid, **values):
        return user.ask("n_create", lut, uid, values, context=lut)[0]

    table = {"LUTDescriptor": [256, 0, 8], "LUTData": list(range(255, -1, -1))}
    assert made("1.3.1", PresentationLUTShape="IDENTITY") == 0
    assert made("1.3.1", PresentationLUTShape="IDENTITY") == 0x0111
    assert made("1.3.2", PresentationLUTShape="CURVED") == 0x0106
    assert made("1.3.2") == 0x0120
    assert made("1.3.2", PresentationLUTSequence=[table]) == 0
    assert made("1.3.3", PresentationLUTSequence=[table | {"LUTDescriptor": [512, 0, 8]}]) == 0x0106
    assert [user.ask("n_delete", lut, "1.3.2", context=lut)[0] for _ in range(2)] == [0, 0x0112]
    for number in range(MOST_LUTS - 1):
        assert made(f"1.4.{number}", PresentationLUTShape="IDENTITY") == 0
    assert made("1.5.1", PresentationLUTShape="IDENTITY") == 0x0213
    assert user.ask("n_delete", lut, "1.4.0", context=lut)[0] == 0
    assert made("1.5.1", PresentationLUTShape="IDENTITY") == 0


def test_the_printer_and_its_jobs_are_asked_after(user):
    assert user.ask("n_get", uids.PRINTER, "1.2.3")[0] == 0x0112
    status, said = user.ask("n_get", uids.PRINTER, uids.PRINTER_INSTANCE, ["PrinterName", "PatientName"])
    assert (status, said.PrinterName) == (0x0001, "dicomnet")
    assert user.ask("n_get", uids.PRINT_JOB, "1.2.3", context=uids.PRINT_JOB)[0] == 0x0112


def test_what_an_association_made_ends_with_it(shared):
    with User(shared) as user:
        assert user.session() == 0
        assert user.film()[0] == 0
    with User(shared) as user:
        assert user.film()[0] == 0x0112
        assert user.session() == 0


def test_colours_are_refused_where_the_settings_say_so(tmp_path):
    with Printer(tmp_path, colors=False) as printer, pytest.raises(dn.NoAcceptedContext):
        dn.client.PrintScu(printer.address).print(GRADIENT, color=True)


# ---- what comes out --------------------------------------------------------------------------------------------


def test_films_are_handed_to_a_command_without_a_shell(tmp_path):
    command = ["/bin/cp", "{pdf}", str(tmp_path / "$(out) {uid}.pdf")]
    with Printer(tmp_path, command=command, files=["pdf"]) as printer, dn.client.PrintScu(printer.address) as scu:
        done = scu.print(GRADIENT, patience=20.0)
        assert printer.printed()[0]["job"] == done.jobs[0].uid
    (copy,) = tmp_path.glob("$(out) *.pdf")
    assert copy.read_bytes() == next(printer.films.iterdir()).read_bytes()


def test_a_folder_that_takes_nothing_fails_the_job_and_leaves_nothing(tmp_path):
    with Printer(tmp_path) as printer, User(printer) as user:
        user.session()
        user.film()
        printer.films.rmdir()
        printer.films.write_text("in the way")
        user.print()
        (job,) = printer.printed(kind="failed")
        assert (job["info"], job["files"]) == ("UNKNOWN", [])
    assert printer.films.read_text() == "in the way"


def test_what_a_process_left_half_done_goes_when_the_next_begins(tmp_path):
    left = tmp_path / "films" / ".job-1.2.3"
    left.mkdir(parents=True)
    (left / "1.2.3.pdf").write_text("half")
    with Printer(tmp_path):
        assert not left.exists()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"command": ["{uid}"]}, "cannot come from a job"), ({"command": ["lp", "{name}"]}, "{pdf}"),
        ({"command": ["lp", "{uid.__class__}"]}, "braces"), ({"film": "B5"}, "14INX17IN"), ({"dots": 10}, "dots"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_at_the_start(tmp_path, settings, says):
    server = Server(make_settings(addins={"enable": ["printer"]}, addin={"printer": settings}), directory=tmp_path)
    with pytest.raises(dn.DicomNetError, match=says):
        server.start()


@pytest.mark.long
def test_what_was_accepted_is_printed_though_the_printer_is_killed(tmp_path):
    """kill -9 while one job is being printed, and two wait."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    server = tmp_path / "server"
    hangs = f'addin.printer.command=["cat", "{gate}"]'
    made = run("server", "create", server, "--aet", "PRINTER", "--set", "listen.port=0", "--set",
               'addins.enable=["printer"]', "--set", hangs, "--set", "addin.printer.dots=50")  # fmt: skip
    assert made.returncode == 0, made.stderr
    with running(server) as (process, peer), dn.client.PrintScu(peer) as scu:
        uids_ = [job.uid for _ in range(3) for job in scu.print(GRADIENT, film=Film(size="8INX10IN")).jobs]
        with gate.open("w"):  # the first one is being printed
            assert [scu.job(uid).status for uid in uids_] == ["PRINTING", "PENDING", "PENDING"]
            process.kill()
            process.wait()
    gate.unlink()
    gate.touch()
    with running(server) as (process, peer), dn.client.PrintScu(peer) as scu:
        assert [job.status for job in scu.ended(uids_, 60)] == ["DONE"] * 3
    assert sorted(path.stem for path in server.rglob("*.pdf")) == sorted(uids_)
    assert not list(server.rglob("*.job"))


@contextmanager
def running(server):
    """The server as a process of its own, and its address; it ends with the block."""
    process = subprocess.Popen(command("server", "run", server), stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        while "listening" not in (line := process.stdout.readline()):
            assert line, "it ended"
        yield process, f"PRINTER@127.0.0.1:{re.search(r':([0-9]+)', line)[1]}"
    finally:
        end(process)
