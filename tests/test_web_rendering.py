"""Pictures: equal to a plain reference within one grey level, states applied, processes that may fail; WADO-URI."""

from __future__ import annotations

import io
import os
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import anyio
import httpx
import numpy as np
import peers
import pydicom
import pytest
from anyio.to_thread import current_default_thread_limiter
from index_records import header
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from web_archives import client, served

from dicomnet import uids
from dicomnet.dataset import codec
from dicomnet.files.part10 import meta_header
from dicomnet.web.drawing import Frame, NotDecodable, Wish, decoded, picture
from dicomnet.web.problems import Problem
from dicomnet.web.renderer import MOST_WAITING, PROCESSES, Renderer

LITTLE = uids.EXPLICIT_VR_LITTLE_ENDIAN
FILES = [path for path in peers.sample_files() if path.stat().st_size < 4 << 20]


def frame_of(ds: Dataset, number: int = 1) -> Frame:
    """A frame of a data set, by pydicom's own means."""
    syntax = str(ds.file_meta.TransferSyntaxUID)
    count = int(ds.get("NumberOfFrames") or 1)
    if ds.file_meta.TransferSyntaxUID.is_compressed and not ds.file_meta.TransferSyntaxUID.is_deflated:
        data = get_frame(ds.PixelData, number - 1, number_of_frames=count)
    else:
        size = int(ds.Rows) * int(ds.Columns) * int(ds.get("SamplesPerPixel", 1)) * int(ds.BitsAllocated) // 8
        data = ds.PixelData[(number - 1) * size : number * size]
    header = Dataset()
    header.update({element.tag: element for element in ds if element.tag < 0x7FE00000})
    if syntax == uids.EXPLICIT_VR_BIG_ENDIAN and ds["PixelData"].VR == "OW":
        size = max(int(ds.BitsAllocated) // 8, 2)
        data = np.frombuffer(ds.PixelData, f">u{size}").astype(f"<u{size}").tobytes()[: len(data)]
    return Frame(codec.encode(header, syntax), syntax, data, number)


def grey(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """PS3.3 Section C.11.2.1.2.1, as it is written there."""
    out = np.zeros(values.shape)
    low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    inside = (values > low) & (values <= high)
    out[values > high] = 255
    if width > 1:
        out[inside] = ((values[inside] - (centre - 0.5)) / (width - 1) + 0.5) * 255
    return out


def reference(ds: Dataset, number: int = 1) -> np.ndarray:
    """What is to be seen, without our code: pydicom's array, then the formulas of the standard."""
    pixels = ds.pixel_array
    if int(ds.get("NumberOfFrames") or 1) > 1:
        pixels = pixels[number - 1]
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        names = [f"{name}PaletteColorLookupTableData" for name in ("Red", "Green", "Blue")]
        table = [np.frombuffer(ds[name].value, "<u2") for name in names]
        first = ds.RedPaletteColorLookupTableDescriptor[1]
        return np.stack([one[np.clip(pixels.astype(int) - first, 0, len(one) - 1)] >> 8 for one in table], -1)
    if ds.get("SamplesPerPixel", 1) > 1:
        return pixels.astype(float) / (1 << max(ds.BitsStored - 8, 0))
    values = pixels.astype(float) * float(ds.get("RescaleSlope", 1) or 1) + float(ds.get("RescaleIntercept", 0) or 0)
    if ds.get("WindowCenter") is not None and ds.get("WindowWidth") is not None:
        centre, width = (np.atleast_1d(ds[name].value)[0] for name in ("WindowCenter", "WindowWidth"))
        shown = grey(values, float(centre), float(width))
    else:
        span = values.max() - values.min()
        shown = (values - values.min()) / span * 255 if span else np.where(values > values.min() - 1, 128.0, 0)
    return 255 - shown if ds.PhotometricInterpretation == "MONOCHROME1" else shown


def seen(frame: Frame, **wish: object) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture(frame, Wish("image/png", **wish)))))


def readable(path) -> Dataset | None:
    ds = pydicom.dcmread(path, force=True)
    known = "PixelData" in ds and "TransferSyntaxUID" in ds.get("file_meta", {})
    return ds if known and str(ds.get("NumberOfFrames") or 1).isdigit() else None


# Shown by tables, which have tests of their own.
ODD = {"VOILUTSequence", "ModalityLUTSequence"}


@pytest.mark.long
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_sample_is_as_the_formulas_say(path):
    ds = readable(path)
    if ds is None or any(name in ds for name in ODD):
        return
    try:
        wanted = reference(ds)
    except Exception:
        with pytest.raises(NotDecodable):  # what pydicom cannot decode, we say that we cannot
            decoded(frame_of(ds))
        return
    found = seen(frame_of(ds))
    assert found.shape == wanted.shape
    if ds.get("SamplesPerPixel", 1) == 1 and wanted.max() == wanted.min():
        assert found.max() == found.min()
    else:
        assert np.abs(found.astype(float) - wanted).max() <= 1


def plain(values: np.ndarray, **more: object) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = uids.CT_IMAGE_STORAGE, "1.2.3"
    ds.Rows, ds.Columns = values.shape[-2:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    if values.ndim == 3:
        ds.NumberOfFrames = len(values)
    for name, value in more.items():
        setattr(ds, name, value)
    return ds


def shown(ds: Dataset, values: np.ndarray, number: int = 1, **wish: object) -> np.ndarray:
    one = values if values.ndim == 2 else values[number - 1]
    return seen(Frame(codec.encode(ds, LITTLE), LITTLE, one.astype("<u2").tobytes(), number), **wish)


RAMP = np.arange(1000, 1000 + 64 * 48).reshape(48, 64)


class TestValues:
    @pytest.mark.parametrize("function", ["linear", "linear-exact", "sigmoid"])
    def test_a_window(self, function):
        found = shown(plain(RAMP), RAMP, window=(2000.0, 800.0, function)).astype(float)
        wanted = {
            "linear": grey(RAMP, 2000, 800),
            "linear-exact": np.clip((RAMP - 2000) / 800 + 0.5, 0, 1) * 255,
            "sigmoid": 255 / (1 + np.exp(-4 * (RAMP - 2000) / 800)),
        }[function]
        assert np.abs(found - wanted).max() <= 1

    def test_what_is_beyond_a_sigmoid_is_white_or_black(self):
        found = shown(plain(RAMP), RAMP, window=(2000.0, 0.01, "sigmoid"))
        assert (found.min(), found.max()) == (0, 255)

    def test_a_lut(self):
        item = Dataset()
        item.LUTDescriptor, item.LUTData = [4096, 1000, 12], (np.arange(4096)[::-1]).astype("<u2").tobytes()
        item["LUTData"].VR = "OW"
        found = shown(plain(RAMP, VOILUTSequence=[item]), RAMP).astype(float)
        wanted = np.arange(4096)[::-1][RAMP - 1000] * 255 / 4095
        assert np.abs(found - wanted).max() <= 1

    def test_each_frame_has_its_own_values(self):
        frames = np.stack([RAMP, RAMP])
        groups = []
        for centre in (1500, 3000):
            values, window, group = Dataset(), Dataset(), Dataset()
            values.RescaleSlope, values.RescaleIntercept = 1, 0
            window.WindowCenter, window.WindowWidth = centre, 500
            group.PixelValueTransformationSequence, group.FrameVOILUTSequence = [values], [window]
            groups.append(group)
        ds = plain(frames, PerFrameFunctionalGroupsSequence=groups)
        for number, centre in ((1, 1500), (2, 3000)):
            assert np.abs(shown(ds, frames, number).astype(float) - grey(RAMP, centre, 500)).max() <= 1

    def test_region_viewport_and_mirror(self):
        ds = plain(RAMP)
        whole = shown(ds, RAMP)
        assert np.array_equal(shown(ds, RAMP, region=(10, 5, 20, 8)), whole[5:13, 10:30])
        assert np.array_equal(shown(ds, RAMP, region=(10, 5, -20, 8)), whole[5:13, 10:30][:, ::-1])
        assert np.array_equal(shown(ds, RAMP, region=(10, 5, 20, -8)), whole[5:13, 10:30][::-1])
        assert np.array_equal(shown(ds, RAMP, share=(0, 0, 0.5, 0.25)), whole[:12, :32])
        assert shown(ds, RAMP, viewport=(32, 32)).shape == (24, 32)

    def test_a_frame_that_claims_too_much_is_not_decoded(self):
        with pytest.raises(NotDecodable):
            shown(plain(RAMP, Rows=65535, Columns=65535), RAMP)


def state_of(**more: object) -> Dataset:
    state = Dataset()
    state.SOPClassUID, state.SOPInstanceUID = uids.GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE, "1.2.9"
    window = Dataset()
    window.WindowCenter, window.WindowWidth = 2000, 800
    state.SoftcopyVOILUTSequence, state.PresentationLUTShape = [window], "IDENTITY"
    for name, value in more.items():
        setattr(state, name, value)
    return state


def in_state(**more: object) -> np.ndarray:
    return shown(plain(RAMP, WindowCenter=1, WindowWidth=2), RAMP, state=codec.encode(state_of(**more), LITTLE))


class TestStates:
    def test_its_window_replaces_that_of_the_image(self):
        assert np.abs(in_state().astype(float) - grey(RAMP, 2000, 800)).max() <= 1
        assert np.array_equal(in_state(PresentationLUTShape="INVERSE"), 255 - in_state())

    def test_a_window_for_another_image_is_none_of_this_one(self):
        other, mine, reference = Dataset(), Dataset(), Dataset()
        reference.ReferencedSOPInstanceUID = "1.2.4"
        other.ReferencedImageSequence, other.WindowCenter, other.WindowWidth = [reference], 1, 2
        mine.WindowCenter, mine.WindowWidth = 3000, 100
        found = in_state(SoftcopyVOILUTSequence=[other, mine])
        assert np.abs(found.astype(float) - grey(RAMP, 3000, 100)).max() <= 1

    def test_its_rescale_is_the_one(self):
        found = in_state(RescaleSlope=2, RescaleIntercept=-1000)
        assert np.abs(found.astype(float) - grey(RAMP * 2 - 1000.0, 2000, 800)).max() <= 1

    @pytest.mark.parametrize("turns", [0, 1, 2, 3])
    def test_turned_clockwise_and_flipped(self, turns):
        turned = np.rot90(in_state(), -turns)
        assert np.array_equal(in_state(ImageRotation=90 * turns, ImageHorizontalFlip="N"), turned)
        assert np.array_equal(in_state(ImageRotation=90 * turns, ImageHorizontalFlip="Y"), turned[:, ::-1])

    def test_the_displayed_area(self):
        area = Dataset()
        area.DisplayedAreaTopLeftHandCorner, area.DisplayedAreaBottomRightHandCorner = [11, 6], [30, 13]
        assert np.array_equal(in_state(DisplayedAreaSelectionSequence=[area]), in_state()[5:13, 10:30])

    def test_shutters(self):
        edges = {"ShutterLeftVerticalEdge": 10, "ShutterRightVerticalEdge": 21, "ShutterUpperHorizontalEdge": 5,
                 "ShutterLowerHorizontalEdge": 16, "ShutterPresentationValue": 0x8000}  # fmt: skip
        found = in_state(ShutterShape="RECTANGULAR", **edges)
        inside = np.zeros(RAMP.shape, bool)
        inside[5:15, 10:20] = True
        assert np.array_equal(found[inside], in_state()[inside])
        assert (found[~inside] == 0x80).all()
        circle = {"CenterOfCircularShutter": [24, 32], "RadiusOfCircularShutter": 10}
        found = in_state(ShutterShape="CIRCULAR", ShutterPresentationValue=0, **circle)
        rows, columns = np.mgrid[1:49, 1:65]
        far = np.hypot(rows - 24, columns - 32)
        assert np.array_equal(found[far < 9], in_state()[far < 9])
        assert not found[far > 11.5].any()

    def test_a_polygon_as_shutter(self):
        """Vertices are rows and columns by turns."""
        found = in_state(ShutterShape="POLYGONAL", VerticesOfThePolygonalShutter=[11, 11, 11, 41, 31, 41, 31, 11])
        assert np.array_equal(found[10:31, 10:41], in_state()[10:31, 10:41])
        outside = np.ones(RAMP.shape, bool)
        outside[10:31, 10:41] = False
        assert not found[outside].any()

    def test_its_shape_alone_says_what_is_dark(self):
        negative = plain(RAMP, PhotometricInterpretation="MONOCHROME1")
        assert np.array_equal(shown(negative, RAMP, state=codec.encode(state_of(), LITTLE)), in_state())

    def test_an_area_without_corners_is_the_whole_image(self):
        area = Dataset()
        area.PresentationSizeMode = "SCALE TO FIT"
        assert np.array_equal(in_state(DisplayedAreaSelectionSequence=[area]), in_state())

    @pytest.mark.parametrize(
        ("kind", "data", "drawn", "filled"),
        [
            ("POINT", [20, 10], [(9, 19)], []),
            ("POLYLINE", [11, 11, 31, 11, 31, 21, 11, 11], [(10, 10), (10, 20), (15, 30)], [(13, 25)]),
            ("INTERPOLATED", [11, 11, 31, 11], [(10, 10), (10, 30)], []),
            ("CIRCLE", [31, 21, 31, 31], [(30, 30), (10, 30), (20, 20), (20, 40)], [(20, 30)]),
            ("ELLIPSE", [11, 21, 31, 21, 21, 16, 21, 26], [(20, 10), (20, 30), (15, 20), (25, 20)], [(20, 20)]),
        ],
    )
    @pytest.mark.parametrize("fill", ["Y", "N"])
    def test_each_kind_of_graphic(self, kind, data, drawn, filled, fill):
        one, annotation = Dataset(), Dataset()
        one.GraphicAnnotationUnits, one.GraphicType, one.GraphicFilled = "PIXEL", kind, fill
        one.GraphicData, one.NumberOfGraphicPoints, one.GraphicDimensions = data, len(data) // 2, 2
        annotation.GraphicObjectSequence = [one]
        found, before = in_state(GraphicAnnotationSequence=[annotation]), in_state()
        assert all(found[at] == 255 for at in drawn)
        assert all(found[at] == (255 if fill == "Y" else before[at]) for at in filled)
        assert (found != before).sum() < RAMP.size // 2

    def test_graphics(self):
        line, text, annotation = Dataset(), Dataset(), Dataset()
        line.GraphicAnnotationUnits, line.GraphicType, line.GraphicFilled = "PIXEL", "POLYLINE", "N"
        line.GraphicData, line.NumberOfGraphicPoints, line.GraphicDimensions = [3, 8, 3, 20], 2, 2
        text.AnchorPointAnnotationUnits, text.AnchorPoint, text.UnformattedTextValue = "DISPLAY", [0.5, 0.1], "L"
        annotation.GraphicObjectSequence, annotation.TextObjectSequence = [line], [text]
        found, before = in_state(GraphicAnnotationSequence=[annotation]), in_state()
        assert (found[7:20, 2] == 255).all()
        assert (found != before)[4:20, 32:42].any()


def test_a_frame_that_says_it_is_huge_is_not_decoded():
    ds = plain(RAMP, Rows=16384, Columns=16384)
    with pytest.raises(NotDecodable, match="of this size"):
        decoded(Frame(codec.encode(ds, LITTLE), LITTLE, b"", 1))


def test_pictures_leave_threads_to_other_requests():
    async def threads() -> float:
        return current_default_thread_limiter().total_tokens

    assert anyio.run(threads) / 2 >= PROCESSES + MOST_WAITING


@pytest.mark.long
class TestRenderer:
    def frame(self) -> Frame:
        return Frame(codec.encode(plain(RAMP), LITTLE), LITTLE, RAMP.astype("<u2").tobytes(), 1)

    def test_what_kills_a_process_fails_one_picture(self):
        renderer = Renderer(1)
        try:
            wanted = picture(self.frame(), Wish())
            assert renderer.picture(self.frame(), Wish()) == wanted
            with pytest.raises(Problem) as died:
                renderer._run(os._exit, 1)
            assert died.value.status == 406
            assert renderer.picture(self.frame(), Wish()) == wanted
            assert np.frombuffer(renderer.decoded(self.frame()), "<u2").tolist() == RAMP.ravel().tolist()
        finally:
            renderer.close()

    def test_what_takes_too_long_is_ended(self):
        renderer = Renderer(1, seconds=1.0)
        try:
            with pytest.raises(Problem) as late:
                renderer._run(time.sleep, 3600)
            assert late.value.status == 503
            renderer._seconds = 60.0
            assert renderer.picture(self.frame(), Wish())
        finally:
            renderer.close()

    def test_a_picture_that_takes_too_long_ends_no_other(self, tmp_path):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        renderer = Renderer(2, seconds=60)
        try:
            with ThreadPoolExecutor(1) as threads:
                other = threads.submit(renderer._run, Path.read_text, pipe)
                with pipe.open("w") as end:  # opens when the process has it
                    renderer._seconds = 0.2
                    with pytest.raises(Problem) as late:
                        renderer._run(time.sleep, 3600)
                    end.write("done")
                assert late.value.status == 503
                assert other.result(30) == "done"
        finally:
            renderer.close()

    def test_the_time_of_a_picture_begins_with_its_process(self, tmp_path):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        renderer = Renderer(1, seconds=60)
        try:
            with ThreadPoolExecutor(2) as threads:
                first = threads.submit(renderer._run, Path.read_text, pipe)
                with pipe.open("w"):
                    renderer._seconds = 3.0  # more than it takes, once it has its process
                    second = threads.submit(renderer._run, abs, -1)
                    assert not wait([second], timeout=3.5).done
                assert (first.result(30), second.result(30)) == ("", 1)
        finally:
            renderer.close()

    def test_what_takes_too_much_memory_is_a_problem(self):
        renderer = Renderer(1, memory=256 << 20)
        try:
            with pytest.raises(Problem, match="more memory") as large:
                renderer._run(eval, "len(bytearray(1 << 30))")
            assert large.value.status == 406
            assert renderer.picture(self.frame(), Wish())
        finally:
            renderer.close()

    def test_more_than_may_wait_are_turned_away(self):
        renderer = Renderer(1, waiting=1, seconds=30)
        try:
            with ThreadPoolExecutor(8) as threads:
                futures = [threads.submit(self.asked, renderer) for _ in range(8)]
                statuses = sorted(future.result() for future in futures)
            assert statuses[0] == 200
            assert statuses[-1] == 503
        finally:
            renderer.close()

    def asked(self, renderer: Renderer) -> int:
        try:
            renderer.picture(self.frame(), Wish())
        except Problem as problem:
            return problem.status
        return 200


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    names = {"CT_small.dcm", "rtdose.dcm"}
    paths = [path for path in peers.sample_files() if path.name in names]
    with served(tmp_path_factory.mktemp("wado") / "archive", *paths) as (_, url), client(url) as http:
        yield http, {path.name: pydicom.dcmread(path) for path in paths}


def test_big_endian_pixels_come_in_little_endian(tmp_path):
    paths = [path for path in FILES if "big_endian" in path.name or path.name == "MR_small_bigendian.dcm"]
    assert paths
    with served(tmp_path / "archive", *paths) as (_, url), client(f"{url}/dicomweb") as http:
        for path in paths:
            ds = pydicom.dcmread(path)
            base = f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
            pixels = ds.pixel_array
            frames = pixels if int(ds.get("NumberOfFrames") or 1) > 1 else [pixels]
            for number, frame in enumerate(frames, 1):
                got = http.get(f"{base}/frames/{number}", headers={"accept": "application/octet-stream"})
                assert got.headers["content-type"].endswith(f"transfer-syntax={LITTLE}")
                wanted = frame.astype(frame.dtype.newbyteorder("<")).tobytes()
                assert got.content[: len(wanted)] == wanted, path.name


class TestWadoUri:
    @staticmethod
    def ask(web, name: str = "CT_small.dcm", **more: str) -> httpx.Response:
        http, files = web
        ds = files[name]
        named = {"studyUID": ds.StudyInstanceUID, "seriesUID": ds.SeriesInstanceUID, "objectUID": ds.SOPInstanceUID}
        return http.get("/wado", params={"requestType": "WADO"} | named | more)

    def test_a_picture(self, web):
        answer = self.ask(web)
        assert answer.headers["content-type"] == "image/jpeg"
        found = self.ask(web, contentType="image/png", windowCenter="40", windowWidth="400")
        pixels = np.asarray(Image.open(io.BytesIO(found.content))).astype(float)
        ds = web[1]["CT_small.dcm"]
        wanted = grey(ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept), 40, 400)
        assert np.abs(pixels - wanted).max() <= 1
        small = Image.open(io.BytesIO(self.ask(web, rows="32", region="0,0,0.5,0.5").content))
        assert small.size == (32, 32)

    def test_an_instance(self, web):
        answer = self.ask(web, contentType="application/dicom")
        assert answer.headers["content-type"].startswith("application/dicom")
        assert pydicom.dcmread(io.BytesIO(answer.content)) == web[1]["CT_small.dcm"]
        converted = self.ask(web, contentType="application/dicom", transferSyntax=uids.IMPLICIT_VR_LITTLE_ENDIAN)
        meta = pydicom.dcmread(io.BytesIO(converted.content)).file_meta
        assert meta.TransferSyntaxUID == uids.IMPLICIT_VR_LITTLE_ENDIAN
        assert self.ask(web, "rtdose.dcm").headers["content-type"].startswith("application/dicom")
        frame = self.ask(web, "rtdose.dcm", contentType="image/png", frameNumber="3")
        assert Image.open(io.BytesIO(frame.content)).mode == "L"

    @pytest.mark.parametrize(("more", "status", "parameter"), [
        ({"requestType": "X"}, 400, "requestType"), ({"objectUID": "x"}, 400, "objectUID"),
        ({"objectUID": "1.2"}, 404, "objectUID"), ({"seriesUID": "1.2"}, 404, "objectUID"),
        ({"rows": "x"}, 400, "rows"), ({"frameNumber": "0"}, 400, "frameNumber"), ({"frameNumber": "2"}, 404, "frames"),
        ({"windowCenter": "1"}, 400, "windowCenter"), ({"windowCenter": "1", "windowWidth": "x"}, 400, "window"),
        ({"region": "0,0,2,1"}, 400, "region"), ({"anonymize": "yes"}, 400, "anonymize"),
        ({"contentType": "video/mpeg"}, 406, "Accept"), ({"presentationUID": "1.2"}, 404, "presentationUID"),
        ({"contentType": "application/dicom", "rows": "5"}, 400, "rows"),
        ({"contentType": "application/dicom", "transferSyntax": "x"}, 400, "transferSyntax"),
    ])  # fmt: skip
    def test_what_is_no_request(self, web, more, status, parameter):
        answer = self.ask(web, **more)
        assert (answer.status_code, answer.json().get("parameter")) == (status, parameter)


CDA = "1.2.840.10008.5.1.4.1.1.104.2"


def test_a_document_of_a_peer_is_no_page_of_ours(tmp_path):
    page = b'<html xmlns="http://www.w3.org/1999/xhtml"><script>alert(1)</script></html> '
    named = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.1", "SOPInstanceUID": "1.2.1.1.1"}
    data = header(SOPClassUID=CDA, PatientID="P1", EncapsulatedDocument=page, **named)
    body = meta_header(CDA, "1.2.1.1.1", LITTLE, "TESTER") + data
    wado = {"requestType": "WADO", "studyUID": "1.2.1", "seriesUID": "1.2.1.1", "objectUID": "1.2.1.1.1"}
    instance = "/dicomweb/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1"
    with served(tmp_path / "archive") as (_, url), client(url) as http:
        stored = http.post("/dicomweb/studies", content=body, headers={"content-type": "application/dicom"})
        assert stored.status_code == 200
        for answer in (http.get(f"{instance}/rendered"), http.get("/wado", params=wado | {"contentType": "text/xml"})):
            assert answer.content == page
            assert answer.headers["content-type"].startswith("text/xml")
            assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
            assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
        for path in (f"{instance}/bulkdata/00420011", instance, f"{instance}/metadata"):
            assert http.get(path).headers["x-content-type-options"] == "nosniff"
