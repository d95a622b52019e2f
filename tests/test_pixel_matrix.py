"""Every conversion of pixel data, there and back: equal to the pixels that were put in, judged by decoders of others.

Photometric interpretation x planar configuration x bits allocated, stored and signed x frames x codec, with an icon in
every instance. GDCM, DCMTK and pydicom decode what dicomnet has made.
"""

from __future__ import annotations

import itertools
import struct
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peers
import pydicom
import pytest
from pydicom.pixels import pixel_array

from dicomnet import uids
from dicomnet.dataset.transcoding import Lossy, converted
from dicomnet.errors import InvalidArgument
from dicomnet.files.instance_source import BytesSource
from dicomnet.files.part10 import meta_header

EXPLICIT, IMPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN
BIG, DEFLATED = uids.EXPLICIT_VR_BIG_ENDIAN, uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
NATIVE = (EXPLICIT, IMPLICIT, BIG, DEFLATED)
RLE, JPEG_LS, JPEG_2000 = uids.RLE_LOSSLESS, uids.JPEG_LS_LOSSLESS, uids.JPEG2000_LOSSLESS
COMPRESSED = (RLE, JPEG_LS, JPEG_2000)
ROWS, COLUMNS = 37, 67  # an odd number of bytes, and room for the resolutions of JPEG 2000


class Form(NamedTuple):
    """How pixels are described (PS3.3 Section C.7.6.3)."""

    photometric: str
    planar: int
    allocated: int
    stored: int
    signed: int
    frames: int

    @property
    def samples(self) -> int:
        return 3 if self.photometric in ("RGB", "YBR_FULL") else 1


def forms() -> list[Form]:
    stored = {8: (8, 7), 16: (16, 12, 8, 9), 32: (32, 20)}
    found = []
    for photometric, allocated in itertools.product(
        ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL"), (8, 16, 32)
    ):
        colour = photometric in ("RGB", "YBR_FULL")
        for bits, signed, frames, planar in itertools.product(
            stored[allocated], (0, 1), (1, 3), (0, 1) if colour else (0,)
        ):
            if signed and (colour or photometric == "PALETTE COLOR"):
                continue
            if allocated == 32 and photometric == "PALETTE COLOR":
                continue
            found.append(Form(photometric, planar, allocated, bits, signed, frames))
    return found


FORMS = forms()


def pixels_of(form: Form) -> Any:
    """Pixels that use the whole range of their bits, and differ under every flip: frames, rows, columns, samples."""
    shape = (form.frames, ROWS, COLUMNS, form.samples)
    low, high = (-(1 << form.stored - 1), 1 << form.stored - 1) if form.signed else (0, 1 << form.stored)
    place = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    pixels = (low + (high - 1 - low) * (0.5 + 0.5 * np.sin(place / 97) * np.cos(place / 1301))).astype(np.int64)
    pixels[..., 0, 0, :], pixels[..., -1, -1, :] = low, high - 1
    return pixels.astype(f"<{'i' if form.signed else 'u'}{form.allocated // 8}")


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    value += (b"\0" if vr in (b"UI", b"OB") else b" ") * (len(value) & 1)
    if vr in (b"OB", b"OW", b"SQ"):
        return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def short(tag: int, value: int) -> bytes:
    return element(tag, b"US", struct.pack("<H", value))


def described(form: Form, pixels: Any) -> bytes:
    """The image pixel module in explicit VR little endian, made without any library for DICOM."""
    ordered = pixels.transpose(0, 3, 1, 2) if form.planar else pixels
    data = short(0x00280002, form.samples) + element(0x00280004, b"CS", form.photometric.encode())
    if form.samples > 1:
        data += short(0x00280006, form.planar)
    if form.frames > 1:
        data += element(0x00280008, b"IS", str(form.frames).encode())
    data += short(0x00280010, ROWS) + short(0x00280011, COLUMNS) + short(0x00280100, form.allocated)
    data += short(0x00280101, form.stored) + short(0x00280102, form.stored - 1) + short(0x00280103, form.signed)
    if form.photometric == "PALETTE COLOR":
        entries = b"".join(struct.pack("<H", value << 8) for value in range(256))
        for number in range(3):
            data += element(0x00281101 + number, b"US", struct.pack("<HHH", 256, 0, 16))
        for number in range(3):
            data += element(0x00281201 + number, b"OW", entries)
    vr = b"OW" if form.allocated > 8 else b"OB"
    return data + element(0x7FE00010, vr, np.ascontiguousarray(ordered).tobytes())


ICON = Form("MONOCHROME2", 0, 8, 8, 0, 1)


def instance(form: Form, pixels: Any) -> BytesSource:
    data = element(0x00080016, b"UI", uids.SECONDARY_CAPTURE_IMAGE_STORAGE.encode()) + element(
        0x00080018, b"UI", b"1.2.3.4"
    )
    icon = described(ICON, pixels_of(ICON))
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(icon)) + icon
    body = described(form, pixels)
    # (0088,0200) stands before Pixel Data and behind group 0028.
    start = body.rindex(struct.pack("<HH", 0x7FE0, 0x0010), 0, len(body) - pixels.nbytes)
    data += body[:start] + element(0x00880200, b"SQ", item) + body[start:]
    return BytesSource(data, EXPLICIT)


def file_of(source: BytesSource) -> bytes:
    header = meta_header(source.sop_class_uid, source.sop_instance_uid, source.transfer_syntax_uid, "TEST")
    return bytes(header) + b"".join(bytes(chunk) for chunk in source.chunks(1 << 20))


def read_by_pydicom(source: BytesSource, plugin: str = "") -> Any:
    """Frames, rows, columns, samples."""
    dataset = pydicom.dcmread(BytesIO(file_of(source)))
    found = pixel_array(dataset, raw=True, decoding_plugin=plugin) if plugin else pixel_array(dataset, raw=True)
    return dataset, found.reshape(int(dataset.get("NumberOfFrames", 1)), ROWS, COLUMNS, -1)


def native_bytes(source: BytesSource) -> tuple[int, Any]:
    """Planar configuration, and the pixels as they lie in a native instance; pydicom only finds the element."""
    dataset = pydicom.dcmread(BytesIO(file_of(source)))
    return int(dataset.get("PlanarConfiguration", 0)), dataset.PixelData


def check_native(source: BytesSource, form: Form, pixels: Any) -> None:
    planar, data = native_bytes(source)
    ordered = pixels.transpose(0, 3, 1, 2) if planar else pixels
    wanted = ordered.tobytes()
    if source.transfer_syntax_uid == BIG and form.allocated > 8:  # OW is words of 16 bits, whatever they hold
        wanted = np.frombuffer(wanted, "<u2").byteswap().tobytes()
    assert data[: len(wanted)] == wanted
    icon = pydicom.dcmread(BytesIO(file_of(source))).IconImageSequence[0]
    assert icon.PixelData[: ROWS * COLUMNS] == pixels_of(ICON).tobytes()


def attempt(source: BytesSource, syntax: str) -> BytesSource | None:
    """What becomes of it; None where the codec says that it has no such pixels, for a reason that is named."""
    try:
        return converted(source, syntax)
    except InvalidArgument as error:
        said = str(error)
    assert "cannot be converted" in said
    assert "Traceback" not in said
    return None


def may_refuse(form: Form) -> bool:
    """The encoders stop at 16 bits; PS3.5 Section 8.2 has no YBR_FULL of more than eight for any of these codecs."""
    return form.allocated == 32 or (form.photometric == "YBR_FULL" and form.allocated > 8)


sampled = pytest.mark.parametrize("form", FORMS[::9], ids=str)
every = pytest.mark.parametrize("form", FORMS, ids=str)


def roundtrip(form: Form) -> int:
    """All conversions of one form; how many there were."""
    pixels = pixels_of(form)
    original = instance(form, pixels)
    count = 0
    for syntax in NATIVE:
        native = converted(original, syntax)
        check_native(native, form, pixels)
        check_native(converted(native, EXPLICIT), form, pixels)
        count += 2
        for codec in COMPRESSED:
            made = attempt(native, codec)
            if made is None:
                assert may_refuse(form)
                continue
            # GDCM's JPEG-LS has no 6 and 7 bits, and it does not decode RLE for pydicom.
            other = "gdcm" if codec != RLE and form.stored > 7 else {RLE: "pydicom", JPEG_LS: "pyjpegls"}.get(codec, "")
            dataset, found = read_by_pydicom(made, other)
            assert np.array_equal(found, pixels), f"{uids.name_of(codec)} from {uids.name_of(syntax)}"
            assert dataset.IconImageSequence[0].PixelData[: ROWS * COLUMNS] == pixels_of(ICON).tobytes()
            for target in NATIVE:
                check_native(converted(made, target), form, pixels)
                count += 1
            count += 1
    return count


@sampled
def test_pixels_are_the_same_there_and_back(form: Form) -> None:
    assert roundtrip(form) >= 8


@pytest.mark.long
@every
def test_every_form_is_the_same_there_and_back(form: Form) -> None:
    codecs = 0 if may_refuse(form) else len(COMPRESSED)
    assert roundtrip(form) >= len(NATIVE) * (2 + codecs * (1 + len(NATIVE)))


def test_the_matrix_has_at_least_1500_combinations() -> None:
    taken = sum(not may_refuse(form) for form in FORMS)
    assert len(NATIVE) * (2 * len(FORMS) + taken * len(COMPRESSED) * (1 + len(NATIVE))) >= 1500


DCMTK = {RLE: "dcmdrle", JPEG_LS: "dcmdjpls"}


@pytest.mark.parametrize("codec", DCMTK, ids=uids.name_of)
@pytest.mark.parametrize("form", FORMS[::7], ids=str)
def test_dcmtk_decodes_the_same_pixels(codec: str, form: Form, tmp_path: Path) -> None:
    program = peers.peer_program(DCMTK[codec])
    pixels = pixels_of(form)
    if codec == JPEG_LS and (form.stored < 8 or form.stored == 8 < form.allocated):
        return  # DCMTK 3.6.7 takes neither a precision below eight bits nor one byte a sample where two are allocated
    made = attempt(instance(form, pixels), codec)
    if made is None:
        assert may_refuse(form)
        return
    (tmp_path / "in.dcm").write_bytes(file_of(made))
    done = subprocess.run(
        [program, tmp_path / "in.dcm", tmp_path / "out.dcm"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    dataset = pydicom.dcmread(tmp_path / "out.dcm")
    planar = int(dataset.get("PlanarConfiguration", 0))
    ordered = pixels.transpose(0, 3, 1, 2) if planar else pixels
    mask = ordered.dtype.type(
        -1 if form.stored == form.allocated and form.signed else (1 << form.stored - form.signed) - 1
    )  # DCMTK leaves the bits above as the codec had them
    found = np.frombuffer(dataset.PixelData, ordered.dtype)[: ordered.size]
    assert np.array_equal(found & mask, ordered.ravel() & mask)


@pytest.mark.parametrize("codec", COMPRESSED, ids=uids.name_of)
def test_a_compressed_icon_is_native_in_a_native_instance(codec: str) -> None:
    """An icon in another codec's bytes is noise to the viewer that shows it."""
    form = Form("MONOCHROME2", 0, 16, 12, 0, 1)
    pixels = pixels_of(form)
    made = pydicom.dcmread(BytesIO(file_of(converted(instance(form, pixels), codec))))
    icon = pydicom.dcmread(BytesIO(file_of(converted(instance(ICON, pixels_of(ICON)), codec))))
    made.IconImageSequence[0].PixelData = icon.PixelData
    made.IconImageSequence[0]["PixelData"].is_undefined_length = True
    out = BytesIO()
    made.save_as(out)
    for target in NATIVE:
        data = out.getvalue()
        start = 132 + 12 + made.file_meta.FileMetaInformationGroupLength
        back = converted(BytesSource(data[start:], codec), target)
        check_native(back, form, pixels)


LOSSY = [form for form in FORMS if form.stored in (8, 12) and form.photometric[:4] == "MONO" and not form.signed]


@pytest.mark.parametrize("error", [1, 3, 9])
@pytest.mark.parametrize("form", LOSSY[::3], ids=str)
def test_jpeg_ls_with_loss_stays_within_its_bound(form: Form, error: int) -> None:
    pixels = pixels_of(form)
    made = converted(instance(form, pixels), Lossy(uids.JPEG_LS_NEAR_LOSSLESS, error=error))
    _, found = read_by_pydicom(made, "gdcm")
    assert np.abs(found.astype(np.int64) - pixels.astype(np.int64)).max() <= error
