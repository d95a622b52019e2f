"""Films as they come out, compared with numpy within one grey level: geometry, densities, true size, annotations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from printing import Printer
from pydicom.dataset import Dataset

import dicomnet as dn
from dicomnet.client import Film
from dicomnet.client.print_job import Picture, image_box
from dicomnet.dataset import codec
from dicomnet.server.shipped.printer.boxes import WIDEST, FilmBox, Refused, Usual, film_box, lut_of, picture_of
from dicomnet.server.shipped.printer.density import Tone, grey_of
from dicomnet.server.shipped.printer.drawing import Content, Press, draw

DOTS, MARGIN, GAP = 60, round(5 / 25.4 * 60), round(2 / 25.4 * 60)
RANDOM = np.random.default_rng(21)


def printed(tmp_path, *sources, film, settings=None, **options):
    """The films that these become, as they are in PNGs and in the PDF."""
    with Printer(tmp_path, magnification="BILINEAR", **(settings or {})) as printer:
        with dn.client.PrintScu(printer.address) as scu:
            done = scu.print(*sources, film=film, patience=30.0, **options)
        return printer.pictures(done.jobs[0].uid)


def boxes(columns, rows, width=480, height=600):
    """Where image boxes are, by a computation of its own: left, top, right, bottom."""
    across, down = (width - 2 * MARGIN) / columns, (height - 2 * MARGIN) / rows
    for row in range(rows):
        for column in range(columns):
            yield tuple(
                round(MARGIN + one)
                for one in (column * across + GAP / 2, row * down + GAP / 2, (column + 1) * across - GAP / 2,
                            (row + 1) * down - GAP / 2)
            )  # fmt: skip


def enlarged(values, width, height):
    """Bilinear, pixel centres half a pixel in (an upscale only)."""
    rows, columns = values.shape[:2]

    def places(size, count):
        at = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
        low = np.minimum(at.astype(int), count - 2)
        return low, at - low

    (top, down), (left, right) = places(height, rows), places(width, columns)
    down, right = down[:, None], right[None, :]
    if values.ndim == 3:
        down, right = down[:, :, None], right[:, :, None]
    upper = values[top][:, left] * (1 - right) + values[top][:, left + 1] * right
    lower = values[top + 1][:, left] * (1 - right) + values[top + 1][:, left + 1] * right
    return upper * (1 - down) + lower * down


def reference(sources, columns, rows, *, border=0, empty=0):
    shape = sources[0].shape[2:]
    film = np.full((600, 480, *shape), float(border))
    for place, (left, top, right, bottom) in enumerate(boxes(columns, rows)):
        if place >= len(sources):
            film[top:bottom, left:right] = empty
            continue
        height, width = sources[place].shape[:2]
        scale = min((right - left) / width, (bottom - top) / height)
        w, h = round(width * scale), round(height * scale)
        x, y = left + (right - left - w) // 2, top + (bottom - top - h) // 2
        film[y : y + h, x : x + w] = enlarged(sources[place].astype(float), w, h)
    return film


@pytest.mark.parametrize(("columns", "rows", "count"), [(1, 1, 1), (2, 3, 5), (3, 2, 6)])
def test_a_grey_film_is_that_of_numpy(tmp_path, columns, rows, count):
    sources = [RANDOM.integers(0, 256, (20, 31), dtype=np.uint8) for _ in range(count)]
    film = Film(layout=f"{columns}x{rows}", size="8INX10IN", border="WHITE", empty="BLACK")
    (found,) = printed(tmp_path, *sources, film=film)
    assert np.abs(found - reference(sources, columns, rows, border=255)).max() <= 1


def test_twelve_bits_and_colours_are_those_of_numpy(tmp_path):
    fine = RANDOM.integers(0, 4096, (25, 25), dtype=np.uint16)
    (found,) = printed(tmp_path / "a", fine, film=Film(size="8INX10IN"), bits=12)
    assert np.abs(found - reference([fine / 4095 * 255], 1, 1)).max() <= 1
    colours = [RANDOM.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(2)]
    (found,) = printed(tmp_path / "b", *colours, film=Film(size="8INX10IN", layout="1x2"), color=True)
    assert np.abs(found - reference(colours, 1, 2)).max() <= 1


def test_more_images_than_a_film_holds_go_on_the_next(tmp_path):
    sources = [np.full((8, 8), 40 * number, np.uint8) for number in range(1, 6)]
    films = printed(tmp_path, *sources, film=Film(size="8INX10IN", layout="2x1"))
    assert [film.max() for film in films] == [80, 160, 200]


def test_polarity_turns_a_film_around(tmp_path):
    values = RANDOM.integers(0, 256, (20, 31), dtype=np.uint8)
    (found,) = printed(tmp_path, values, film=Film(size="8INX10IN"), polarity="REVERSE")
    assert np.abs(found - reference([255 - values], 1, 1)).max() <= 1


def picture(size, spacing):
    """An instance of one grey value that knows how large it is."""
    dataset = Dataset()
    dataset.file_meta = dn_meta()
    dataset.SOPClassUID, dataset.SOPInstanceUID = dn.uids.CT_IMAGE_STORAGE, "1.2.3"
    dataset.Rows = dataset.Columns = size
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelSpacing = 1, "MONOCHROME2", spacing
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = b"\xc8" * size * size
    dataset.WindowCenter, dataset.WindowWidth = 128, 256
    return dataset


def dn_meta():
    from pydicom.dataset import FileMetaDataset

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = dn.uids.EXPLICIT_VR_LITTLE_ENDIAN
    return meta


@pytest.mark.parametrize(("spacing", "across", "down"), [([1, 1], 100, 100), ([0.5, 1], 100, 50)])
def test_an_image_that_knows_its_size_has_it_on_the_film(tmp_path, spacing, across, down):
    (film,) = printed(tmp_path, picture(100, spacing), film=Film(size="8INX10IN"), true_size=True)
    rows, columns = np.nonzero(film)
    assert abs(np.ptp(columns) + 1 - across / 25.4 * DOTS) <= 1
    assert abs(np.ptp(rows) + 1 - down / 25.4 * DOTS) <= 1


def test_one_that_is_cropped_keeps_its_middle(tmp_path):
    values = np.zeros((700, 700), np.uint8)
    values[349:351, 349:351] = 255
    (film,) = printed(tmp_path, values, film=Film(size="8INX10IN"), behaviour="CROP")
    assert np.argwhere(film == 255).tolist() == [[y, x] for y in (299, 300) for x in (239, 240)]


def test_of_one_that_is_far_too_large_only_what_is_seen_is_made(monkeypatch):
    made, resize = [], Image.Image.resize

    def noted(picture, size, *arguments, **options):
        made.append(size)
        assert max(size) <= 600
        return resize(picture, size, *arguments, **options)

    monkeypatch.setattr(Image.Image, "resize", noted)
    dataset = codec.from_keywords({"ImageDisplayFormat": "STANDARD\\1,1", "FilmSizeID": "8INX10IN"})
    plan, _ = film_box(dataset, usual(), False, Tone())
    content = Content(np.full((1, 1), 200, np.uint8), width=6000.0, behaviour="CROP")
    picture = np.asarray(draw(replace(plan, contents={0: content}), Press(DOTS)))
    left, top, right, bottom = next(boxes(1, 1))
    assert (picture[top:bottom, left:right] == 200).all()
    assert made == [(right - left, bottom - top)]
    pixels = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (500, 500))
    widest = replace(content, pixels=pixels, width=WIDEST, aspect=1e9, magnification="REPLICATE")
    assert set(np.unique(np.asarray(draw(replace(plan, contents={0: widest}), Press(DOTS))))) <= {0, 255}


def usual():
    return Usual(Press(DOTS), "8INX10IN", "BILINEAR", "BLACK", "BLACK", Tone(), {})


@pytest.mark.parametrize("width", ["-1", "100001", "1e300"])
def test_a_width_that_no_image_has_is_refused(width):
    given = codec.from_keywords({"ImageDisplayFormat": "STANDARD\\1,1", "FilmSizeID": "8INX10IN"})
    plan, _ = film_box(given, usual(), False, Tone())
    box = image_box(Picture(np.zeros((2, 2), np.uint8), 8), 1) | {"RequestedImageSize": width}
    with pytest.raises(Refused, match="RequestedImageSize"):
        picture_of(codec.from_keywords(box), FilmBox("1.2", plan, [], [], [], given), usual())


def test_a_line_goes_around_and_text_stands_at_the_foot(tmp_path):
    values = np.full((8, 8), 100, np.uint8)
    plain = Film(size="8INX10IN", layout="1x2")
    (bare,) = printed(tmp_path / "a", values, values, film=plain)
    (trimmed,) = printed(tmp_path / "b", values, values, film=Film(size="8INX10IN", layout="1x2", trim=True))
    assert not (bare == 255).any()
    lines = np.argwhere(trimmed == 255)
    inside = np.argwhere(bare == 100)
    assert (lines.min(0) == inside.min(0) - 1).all()
    assert (lines.max(0) == inside.max(0) + 1).all()
    film = Film(size="8INX10IN", annotation_format="2", annotations=("LEFT", "RIGHT"))
    (noted,) = printed(tmp_path / "c", values, film=film)
    foot = noted[600 - MARGIN - round(6 / 25.4 * DOTS) :] > 127
    assert foot[:, :240].any()
    assert foot[:, 240:].any()
    assert len(printed(tmp_path / "d", values, film=Film(size="A4", orientation="LANDSCAPE"))[0]) < 500


# ---- densities -------------------------------------------------------------------------------------------------


def jnd(luminance):
    """PS3.14 Section 7.2: luminance of each step, searched."""
    index = np.arange(1, 1023.01, 0.05)
    a, b, c, d, e = -1.3011877, -2.5840191e-2, 8.0242636e-2, -1.0320229e-1, 1.3646699e-1
    f, g, h, k, m = 2.8745620e-2, -2.5468404e-2, -3.1978977e-3, 1.2992634e-4, 1.3635334e-3
    log = np.log(index)
    over = a + c * log + e * log**2 + g * log**3 + m * log**4
    table = over / (1 + b * log + d * log**2 + f * log**3 + h * log**4 + k * log**5)
    return np.interp(np.log10(luminance), table, index)


@pytest.mark.parametrize("density", [20, 50, 100, 150, 250, 320])
def test_a_density_is_the_grey_of_the_standard_display_function(density):
    low, high, this = (jnd(10 + 2000 * 10 ** (-one / 100)) for one in (320, 20, density))
    assert abs(grey_of(str(density), Tone()) - (this - low) / (high - low) * 255) <= 1


def test_black_and_white_are_the_ends():
    assert [grey_of(one, Tone()) for one in ("BLACK", "WHITE", "320", "20")] == [0, 255, 0, 255]


def test_a_film_linear_in_density_is_that_of_the_standard(tmp_path):
    values = np.repeat(np.arange(0, 256, 51, dtype=np.uint8), 4).reshape(1, -1).repeat(8, 0)
    film = Film(size="8INX10IN", lut="LIN OD", magnification="REPLICATE")
    (found,) = printed(tmp_path, values, film=film)
    densities = 3.2 - np.arange(0, 256, 51) / 255 * 3.0
    low, high = jnd(10 + 2000 * 10**-3.2), jnd(10 + 2000 * 10**-0.2)
    exact = (jnd(10 + 2000 * 10**-densities) - low) / (high - low) * 255
    middle = found[300, np.linspace(480 / 12, 480 - 480 / 12, 6).astype(int)]
    assert np.abs(middle - exact).max() <= 1


def test_a_table_is_a_presentation_lut():
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [4, 10, 16], np.array([0, 65535, 32768, 16384], "<u2").tobytes()
    given = Dataset()
    given.PresentationLUTSequence = [item]
    tone = lut_of(given, Tone())
    shown = tone.of_values(np.array([0, 10, 11, 12, 13, 200]), 255)
    assert shown == pytest.approx([0, 0, 1, 32768 / 65535, 16384 / 65535, 16384 / 65535])
