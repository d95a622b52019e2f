"""Pixel data compressed and decompressed, wherever they are in a data set, by pydicom and the codecs that it finds.

Only the attributes that describe pixels (PS3.3 Section C.7.6.3) pass through pydicom; the rest of the data set stays as
the bytes that came. Pixel values are the same before and after, but for a rule that allows a loss.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from .. import uids
from ..errors import InvalidArgument
from .raw import PIXEL_DATA, Encoding, RawDataSet, RawElement, write

__all__ = ["compress", "decompress"]

_SAMPLES, _PHOTOMETRIC, _PLANAR, _FRAMES = 0x00280002, 0x00280004, 0x00280006, 0x00280008
_ROWS, _COLUMNS = 0x00280010, 0x00280011
_ALLOCATED, _STORED, _HIGH, _SIGNED = 0x00280100, 0x00280101, 0x00280102, 0x00280103
_DESCRIPTION = (_SAMPLES, _PHOTOMETRIC, _PLANAR, _FRAMES, _ROWS, _COLUMNS, _ALLOCATED, _STORED, _HIGH, _SIGNED)
_EXTENDED_OFFSETS, _EXTENDED_LENGTHS = 0x7FE00001, 0x7FE00002
#: What pydicom is not to do to decoded pixels: `_as_allocated` does it, whatever the codec said of their sign.
_AS_THEY_ARE: dict[str, Any] = dict.fromkeys(
    ("correct_unused_bits", "apply_jls_sign_correction", "apply_j2k_sign_correction"), False
)
_CODECS = "pip install 'dicomnet[codecs]'"
#: What decodes the processes of JPEG that no codec of dicomnet[codecs] does, or of which it does those of eight bits.
_OTHERS = {
    uids.JPEG_EXTENDED_12_BIT: "pip install pylibjpeg-libjpeg",
    uids.JPEG_LOSSLESS: "pip install python-gdcm",
    uids.JPEG_LOSSLESS_SV1: "pip install python-gdcm",
}
_EXPLICIT = Encoding(implicit=False, little_endian=True)


def _described(around: RawDataSet) -> Any:
    """The attributes of the pixel data of a data set, as pydicom has them."""
    from pydicom.dataset import FileMetaDataset  # noqa: PLC0415 heavy
    from pydicom.filereader import read_dataset  # noqa: PLC0415

    wanted = {tag: around.elements[tag] for tag in _DESCRIPTION if tag in around.elements}
    dataset = read_dataset(BytesIO(write(RawDataSet(wanted), _EXPLICIT)), False, True)
    dataset.file_meta = FileMetaDataset()
    return dataset


def decompress(dataset: RawDataSet, transfer_syntax: str) -> None:
    """Put native pixel data in the place of encapsulated ones, in the data set and in all that is nested in it.

    Raises:
        InvalidArgument: no codec for this transfer syntax is installed, or it cannot decode them.
    """
    for inner in dataset.walk():
        element = inner.elements.get(PIXEL_DATA)
        if element is not None and element.undefined:
            _decompress_one(inner, element, transfer_syntax)


def _decompress_one(around: RawDataSet, element: RawElement, transfer_syntax: str) -> None:
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415 heavy
    from pydicom.uid import UID  # noqa: PLC0415

    image = _described(around)
    assert not isinstance(element.value, list)
    image.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    image.add_new(PIXEL_DATA, "OB", bytes(element.value) + b"\xfe\xff\xdd\xe0\0\0\0\0")
    image["PixelData"].is_undefined_length = True
    for tag in (_EXTENDED_OFFSETS, _EXTENDED_LENGTHS):
        offsets = around.elements.pop(tag, None)
        if offsets is not None:
            image.add_new(tag, "OV", bytes(offsets.value))  # type: ignore[arg-type]  # it is no sequence
    decoder = get_decoder(transfer_syntax)
    hint = _OTHERS.get(transfer_syntax, _CODECS)
    if not decoder.is_available:
        missing = ", ".join(decoder.missing_dependencies)
        raise InvalidArgument(f"no decoder is installed: {missing}", hint=hint)
    frames, photometric = [], image.PhotometricInterpretation
    try:
        for frame, properties in decoder.iter_array(image, raw=True, **_AS_THEY_ARE):
            frames.append(_as_allocated(frame, image))
            photometric = str(properties["photometric_interpretation"])
    except RuntimeError as error:  # every plug-in has failed
        if transfer_syntax == uids.JPEG_EXTENDED_12_BIT and image.BitsStored > 8:
            told = " ".join(str(error).split())
            raise InvalidArgument(f"no decoder that is installed takes it: {told}", hint=hint) from error
        raise
    data = b"".join(frames)
    around.put(RawElement(PIXEL_DATA, "OW" if image.BitsAllocated > 8 else "OB", data + b"\0" * (len(data) & 1)))
    around.set_text(_PHOTOMETRIC, "CS", photometric)
    if image.SamplesPerPixel > 1:
        around.set_number(_PLANAR, 0)


def _as_allocated(frame: Any, image: Any) -> bytes:
    """A decoded frame in words of Bits Allocated, the sign carried on above High Bit; codecs give what they have."""
    signed = image.PixelRepresentation == 1
    words = frame.astype(f"<{'i' if signed else 'u'}{image.BitsAllocated // 8}")
    unused = image.BitsAllocated - image.BitsStored
    if signed and unused and image.HighBit == image.BitsStored - 1:
        words = (words << unused) >> unused
    return bytes(words.tobytes())


def compress(dataset: RawDataSet, transfer_syntax: str, **options: Any) -> tuple[int, int]:
    """Put encapsulated pixel data in the place of native ones; icons and other nested images stay native.

    Args:
        dataset: with its pixel data native, or none.
        transfer_syntax: of the codec.
        options: of the codec, where it is to lose something.

    Returns:
        The bytes of the pixel data before and after.

    Raises:
        InvalidArgument: no codec is installed, or it cannot take such pixels.
    """
    from pydicom.uid import UID  # noqa: PLC0415 heavy

    element = dataset.elements.get(PIXEL_DATA)
    if element is None:
        return 0, 0
    image = _described(dataset)
    image.file_meta.TransferSyntaxUID = UID(uids.EXPLICIT_VR_LITTLE_ENDIAN)
    image.add_new(PIXEL_DATA, "OW", _little(element))
    before = len(image.PixelData)
    pixels = _interleaved(image)
    if transfer_syntax == uids.RLE_LOSSLESS:
        # pydicom cuts words that hold no more than eight bits down to bytes, which Bits Allocated then denies.
        image.BitsStored, image.HighBit = image.BitsAllocated, image.BitsAllocated - 1
    plugin = _encoder(transfer_syntax)
    image.compress(transfer_syntax, pixels, encoding_plugin=plugin, generate_instance_uid=False, **options)
    value = image.PixelData
    dataset.put(RawElement(PIXEL_DATA, "OB", value, undefined=True))
    dataset.set_text(_PHOTOMETRIC, "CS", image.PhotometricInterpretation)
    if image.SamplesPerPixel > 1:
        dataset.set_number(_PLANAR, image.PlanarConfiguration)
    return before, len(value)


def _encoder(transfer_syntax: str) -> str:
    """The plug-in of pydicom that compresses; never GDCM's, whose RLE encoder ends the process where it fails."""
    from pydicom.pixels.encoders.base import get_encoder  # noqa: PLC0415 heavy

    encoder = get_encoder(transfer_syntax)
    for plugin in encoder.available_plugins:
        if plugin != "gdcm":
            return str(plugin)
    missing = ", ".join(encoder.missing_dependencies)
    raise InvalidArgument(f"no encoder is installed: {missing}", hint=_CODECS)


def _little(element: RawElement) -> bytes:
    """Native pixel data in little endian."""
    out = write(RawDataSet({PIXEL_DATA: element}), _EXPLICIT)
    return out[12:]


def _interleaved(image: Any) -> Any:
    """The pixels as an array, colour by pixel, whatever Planar Configuration says; nothing is converted."""
    from pydicom.pixels.decoders.base import ExplicitVRLittleEndianDecoder  # noqa: PLC0415 heavy

    if image.BitsAllocated == 1:
        raise InvalidArgument("pixels of one bit are not compressed", hint="Send the instance uncompressed.")
    pixels, _ = ExplicitVRLittleEndianDecoder.as_array(image, raw=True)
    if image.SamplesPerPixel > 1:
        image.PlanarConfiguration = 0
    return pixels
