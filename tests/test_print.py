"""`PrintScu` and `dicomnet print`: what is sent, with DCMTK's printer and ours; see test_printer for the latter."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import peers
import pytest
from printing import Printer, dcmprscp
from programs import run_here
from pydicom import dcmread
from pydicom.pixels.processing import convert_color_space
from rig import instance

import dicomnet as dn
from dicomnet import uids
from dicomnet.client import Film, PrintSession, events
from dicomnet.client.print_job import Picture, image_box, pictures_of
from dicomnet.dataset import pictures
from dicomnet.services.film import FILM_SIZES, Layout, film_millimetres

GRADIENT = np.arange(256, dtype=np.uint8).reshape(16, 16)


def file_named(name):
    return next(path for path in peers.sample_files() if path.name == name)


def without_pixels():
    dataset = instance()
    del dataset.PixelData
    return dataset


def damaged():
    dataset = dcmread(file_named("CT_small.dcm"))
    dataset.PixelData = dataset.PixelData[:100]
    return dataset


# ---- what is pure ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "format", "count"),
    [
        ("2x3", "STANDARD\\2,3", 6), ("1X1", "STANDARD\\1,1", 1), ("STANDARD\\4,5", "STANDARD\\4,5", 20),
        ("row\\1,2", "ROW\\1,2", 3), ("COL\\2,1,3", "COL\\2,1,3", 6),
    ],
)  # fmt: skip
def test_layouts_are_read_as_people_and_the_standard_write_them(text, format, count):
    layout = Layout.parse(text)
    assert (layout.text, len(layout.boxes)) == (format, count)
    assert sum(width * height for _, _, width, height in layout.boxes) == pytest.approx(1)


def test_boxes_are_counted_along_rows_or_down_columns():
    assert [box[:2] for box in Layout.parse("2x2").boxes] == [(0, 0), (0.5, 0), (0, 0.5), (0.5, 0.5)]
    assert Layout.parse("ROW\\1,2").boxes == ((0, 0, 1, 0.5), (0, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5))
    assert Layout.parse("COL\\1,2").boxes == ((0, 0, 0.5, 1), (0.5, 0, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5))


@pytest.mark.parametrize("text", ["", "2", "0x1", "2x0", "x", "STANDARD\\2", "ROW\\", "CUSTOM\\1", "SLIDE", "99x99"])
def test_what_is_no_layout_is_refused_in_a_line(text):
    with pytest.raises(dn.InvalidArgument) as caught:
        Layout.parse(text)
    assert "\n" not in str(caught.value)


def test_film_sizes_have_millimetres():
    assert film_millimetres("14INX17IN") == pytest.approx((355.6, 431.8))
    assert film_millimetres("24CMX30CM", "LANDSCAPE") == (300, 240)
    with pytest.raises(dn.InvalidArgument, match="8INX10IN"):
        film_millimetres("1INX1IN")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"layout": "7"}, "layout"), ({"size": "9INX9IN"}, "14INX17IN"), ({"orientation": "SIDEWAYS"}, "LANDSCAPE"),
        ({"magnification": "BIG"}, "CUBIC"), ({"border": "GREY"}, "BLACK"), ({"empty": "1.5"}, "hundredths"),
        ({"min_density": 50, "max_density": 20}, "density"), ({"lut": "LINEAR"}, "LIN OD"),
        ({"annotations": ("text",)}, "annotation_format"),
    ],
)  # fmt: skip
def test_a_film_that_cannot_be_is_refused_before_anything_is_sent(wrong, says):
    with pytest.raises(dn.InvalidArgument, match=says):
        Film(**wrong)


@pytest.mark.parametrize("wrong", [{"copies": 0}, {"copies": 1000}, {"priority": "NOW"}])
def test_a_session_that_cannot_be_is_refused(wrong):
    with pytest.raises(dn.InvalidArgument):
        PrintSession(**wrong)


def test_a_film_says_only_what_was_asked_for():
    assert set(Film().attributes("1.2")) == {"ImageDisplayFormat", "FilmOrientation", "ReferencedFilmSessionSequence"}
    said = Film(size=next(iter(FILM_SIZES)), trim=False, lut="LIN OD", min_density=20).attributes("1.2", "1.3")
    assert (said["FilmSizeID"], said["Trim"], said["MinDensity"]) == ("8INX10IN", "NO", 20)
    assert said["ReferencedPresentationLUTSequence"][0]["ReferencedSOPInstanceUID"] == "1.3"


def test_an_image_box_has_the_pixels_and_their_true_size():
    said = image_box(Picture(GRADIENT, spacing=(0.5, 0.25)), 3, true_size=True, polarity="REVERSE", behaviour="CROP")
    item = said["BasicGrayscaleImageSequence"][0]
    assert (said["ImageBoxPosition"], said["RequestedImageSize"], said["Polarity"]) == (3, "4", "REVERSE")
    assert (item["Rows"], item["PixelAspectRatio"], item["PixelData"]) == (16, [500, 250], GRADIENT.tobytes())
    twelve = image_box(Picture(GRADIENT.astype(np.uint16) * 16, bits=12), 1)["BasicGrayscaleImageSequence"][0]
    assert [twelve[name] for name in ("BitsAllocated", "BitsStored", "HighBit")] == [16, 12, 11]
    colour = image_box(Picture(np.dstack([GRADIENT] * 3)), 1)["BasicColorImageSequence"][0]
    assert (colour["PlanarConfiguration"], colour["PixelData"]) == (1, GRADIENT.tobytes() * 3)


@pytest.mark.parametrize("bits", [8, 12])
def test_an_instance_is_rendered_as_the_standard_has_it(bits):
    dataset = dcmread(file_named("CT_small.dcm"))
    (picture,) = pictures_of([dataset], bits=bits, window=(40.0, 400.0, "linear"))
    values = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    exact = np.clip((values - 39.5) / 399 + 0.5, 0, 1) * ((1 << bits) - 1)
    assert np.abs(picture.pixels - exact).max() <= 0.5 + 1e-9
    assert picture.spacing == tuple(map(float, dataset.PixelSpacing))


def test_every_frame_is_a_picture_and_colours_become_grey_or_stay():
    many = dcmread(file_named("CT_small.dcm"))
    frames = [many.pixel_array, many.pixel_array // 2]
    many.NumberOfFrames, many.PixelData = 2, b"".join(frame.tobytes() for frame in frames)
    found = pictures_of([many], window=(500.0, 3000.0, "linear"))
    assert [picture.pixels.shape for picture in found] == [frame.shape for frame in frames]
    assert not np.array_equal(found[0].pixels, found[1].pixels)
    path = str(file_named("examples_rgb_color.dcm"))
    (colour,), (grey,) = pictures_of([path], color=True), pictures_of([path])
    exact = colour.pixels.astype(float) @ (0.299, 0.587, 0.114)
    assert (colour.is_color, grey.is_color) == (True, False)
    assert np.abs(grey.pixels - exact).max() <= 0.5


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (np.zeros((4, 4), float), "float64"), (np.zeros((2, 2, 2, 2), np.uint8), "shape"),
        (np.full((2, 2), 256, np.uint16), "255"), (np.full((2, 2), -1, np.int16), "255"),
        (np.zeros((0, 3), np.uint8), "shape"), (without_pixels(), "no pixel data"),
        (damaged(), "its pixel data cannot be decoded"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused_in_a_line(source, says):
    with pytest.raises(dn.InvalidArgument, match=says):
        pictures_of([source])


def test_nothing_and_other_depths_cannot_be_printed():
    with pytest.raises(dn.InvalidArgument, match="nothing to print"):
        pictures_of([])
    with pytest.raises(dn.InvalidArgument, match="8 or 12"):
        pictures_of([GRADIENT], bits=10)


def test_luminance_and_chrominance_are_shown_as_colours():
    dataset = dcmread(file_named("examples_rgb_color.dcm"))
    colours = dataset.pixel_array
    dataset.PhotometricInterpretation = "YBR_FULL"
    shown = pictures.shown(convert_color_space(colours, "RGB", "YBR_FULL"), dataset)
    assert np.abs(shown.astype(int) - colours).max() <= 2  # rounded, twice


def test_monochrome1_is_shown_inverted():
    dataset = dcmread(file_named("CT_small.dcm"))
    plain = pictures.shown(dataset.pixel_array, dataset)
    dataset.PhotometricInterpretation = "MONOCHROME1"
    assert np.array_equal(pictures.shown(dataset.pixel_array, dataset), 255 - plain)


# ---- with DCMTK's printer --------------------------------------------------------------------------------------


def kept(folder, prefix):
    return [dcmread(path) for path in sorted((folder / "database").glob(f"{prefix}_*.dcm"))]


def test_dcmprscp_prints_what_is_sent(tmp_path):
    path = str(file_named("CT_small.dcm"))
    film = Film(layout="1x2", size="8INX10IN", trim=True, border="WHITE", lut="IDENTITY")
    with dcmprscp(tmp_path) as address, dn.client.PrintScu(address, calling="DCMPSTATE") as printer:
        assert printer.printer().status == "NORMAL"
        session, window = PrintSession(copies=2, medium="BLUE FILM"), (40.0, 400.0, "linear")
        done = printer.print(path, GRADIENT, film=film, session=session, window=window)
        twelve = printer.print(path, bits=12, film=Film(lut="IDENTITY"))
    assert (done.films, done.images, done.warnings, twelve.films) == (1, 2, (), 1)
    films = {str(one.FilmBoxContentSequence[0].ImageDisplayFormat): one for one in kept(tmp_path, "SP")}
    box = films["STANDARD\\1,2"].FilmBoxContentSequence[0]
    assert (box.FilmSizeID, box.Trim, box.BorderDensity) == ("8INX10IN", "YES", "WHITE")
    images = kept(tmp_path, "HG")
    (sent,) = pictures_of([path], window=(40.0, 400.0, "linear"))
    eight = [one.pixel_array for one in images if one.BitsStored == 8]
    assert any(np.array_equal(one, sent.pixels) for one in eight)
    assert any(np.array_equal(one, GRADIENT) for one in eight)
    (fine,) = pictures_of([path], bits=12)
    assert [np.array_equal(one.pixel_array, fine.pixels) for one in images if one.BitsStored == 12] == [True]


def test_dcmprscp_prints_several_films_of_a_session(tmp_path):
    with dcmprscp(tmp_path) as address, dn.client.PrintScu(address, calling="DCMPSTATE") as printer:
        done = printer.print(*[GRADIENT] * 5, film=Film(layout="2x2", size="14INX17IN"))
    assert (done.films, done.images) == (2, 5)
    counts = sorted(len(one.ImageBoxContentSequence) for one in kept(tmp_path, "SP"))
    assert counts == [1, 4]


def test_what_dcmprscp_refuses_is_one_line_that_says_what(tmp_path):
    with dcmprscp(tmp_path) as address, dn.client.PrintScu(address, calling="DCMPSTATE") as printer:
        with pytest.raises(dn.ServiceFailure, match="film: the printer says 0x0106") as caught:
            printer.print(GRADIENT, film=Film(layout="3x7"))
        assert "\n" not in str(caught.value)
        with pytest.raises(dn.NoAcceptedContext):
            printer.print(GRADIENT, color=True)
    assert kept(tmp_path, "SP") == []


# ---- with ours -------------------------------------------------------------------------------------------------


def test_asyncio_prints_and_hears_of_each_request(tmp_path):
    seen, heard = [], []

    async def work(address):
        async with dn.client.aio.PrintScu(address) as printer:
            printer.on(events.Reported)(heard.append)
            printer.on(events.BeforeAction)(lambda event: seen.append((event.service, event.sop_class_uid)))
            return await printer.print(GRADIENT, patience=20.0)

    with Printer(tmp_path) as printer:
        done = asyncio.run(work(printer.address))
    assert {event.sop_class_uid for event in heard} == {uids.PRINT_JOB}
    assert heard[0].sop_instance_uid == done.jobs[0].uid
    assert heard[0].event_type_id in (1, 2, 3)
    assert [job.status for job in done.jobs] == ["DONE"]
    assert seen[:4] == [
        ("n_create", uids.BASIC_FILM_SESSION), ("n_create", uids.BASIC_FILM_BOX),
        ("n_set", uids.BASIC_GRAYSCALE_IMAGE_BOX), ("n_action", uids.BASIC_FILM_BOX),
    ]  # fmt: skip
    assert ("n_get", uids.PRINT_JOB) in seen


def test_by_asyncio_a_printer_gets_one_film_at_a_time(tmp_path):
    async def work(address):
        async with dn.client.aio.PrintScu(address) as scu:
            return await scu.print(*[GRADIENT] * 3, film=Film(lut="IDENTITY"), patience=20.0), await scu.printer()

    with Printer(tmp_path, sessions="refused") as printer:
        done, state = asyncio.run(work(printer.address))
    assert (done.films, len(done.jobs), state.status) == (3, 3, "NORMAL")


def test_by_asyncio_a_job_that_fails_is_told(tmp_path):
    async def work(address):
        async with dn.client.aio.PrintScu(address) as scu:
            with pytest.raises(dn.ServiceFailure, match="the print job has failed: UNKNOWN"):
                await scu.print(GRADIENT, patience=20.0)
            with pytest.raises(dn.ServiceFailure, match="no such job"):
                await scu.job("1.2.3")

    with Printer(tmp_path, command=["/bin/false"]) as printer:
        asyncio.run(work(printer.address))


def test_a_printer_that_takes_one_film_at_a_time_gets_them_so(tmp_path):
    with Printer(tmp_path, sessions="refused") as printer, dn.client.PrintScu(printer.address) as scu:
        done = scu.print(*[GRADIENT] * 3, patience=20.0)
    assert (done.films, len(done.jobs)) == (3, 3)
    assert len(list(printer.films.glob("*.pdf"))) == 3


def test_a_printer_out_of_film_reports_and_refuses(tmp_path):
    heard = []
    with Printer(tmp_path, room=1 << 60) as printer, dn.client.PrintScu(printer.address) as scu:
        scu.on(events.Reported)(heard.append)
        assert (scu.printer().status, scu.printer().info) == ("FAILURE", "SUPPLY EMPTY")
        with pytest.raises(dn.ServiceFailure, match="SUPPLY EMPTY"):
            scu.print(GRADIENT)
        scu.printer()
    assert [(event.event_type_id, event.dataset.PrinterStatusInfo) for event in heard] == [(3, "SUPPLY EMPTY")]
    assert not list(printer.films.iterdir())


def test_a_job_that_fails_is_told(tmp_path):
    with Printer(tmp_path, command=["/bin/false"]) as printer, dn.client.PrintScu(printer.address) as scu:
        with pytest.raises(dn.ServiceFailure, match="the print job has failed: UNKNOWN"):
            scu.print(GRADIENT, patience=20.0)
        assert scu.printer().status == "WARNING"
        with pytest.raises(dn.ServiceFailure, match="no such job"):
            scu.job("1.2.3")


# ---- on the command line ---------------------------------------------------------------------------------------


def test_the_command_prints_and_says_what_became_of_it(tmp_path):
    path = file_named("CT_small.dcm")
    with Printer(tmp_path) as printer:
        options = ("--layout", "2x3", "--film", "8INX10IN", "--copies", "2", "--window", "40,400", "--wait", "20")
        said = run_here("print", printer.address, path, *options, "--json")
        lines = [json.loads(line) for line in said.stdout.splitlines()]
        state = run_here("print", printer.address)
        none = run_here("print", printer.address, path, "--layout", "nine")
    assert (said.returncode, lines[0]["status"]) == (0, "DONE")
    assert lines[-1] == {"summary": {"images": 1, "films": 1, "jobs": 1, "warnings": []}}
    assert (state.returncode, state.stdout) == (0, "dicomnet: NORMAL NORMAL\n")
    assert (none.returncode, none.stderr.count("\n")) == (2, 1)
    assert printer.printed()[0]["copies"] == 2


def test_a_warning_of_the_printer_is_said_and_is_the_exit_code(tmp_path):
    with Printer(tmp_path) as printer:
        said = run_here("print", printer.address, file_named("CT_small.dcm"), "--layout", "4x5", "--film", "8INX10IN")
    assert said.returncode == 68
    assert "0xB604" in said.stderr
