"""Instances in another transfer syntax: by policy, without loss, or with the loss that a rule allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from .. import uids
from ..errors import InvalidArgument
from ..files.instance_source import DEFLATED, BytesSource, Source
from .codec import (
    NATIVE,
    Dataset,
    actual_encoding,
    decode,
    deflate,
    encode,
    encoding_of,
    from_keywords,
    inflate,
)
from .pixels import compress, decompress
from .raw import PIXEL_DATA, Encoding, RawDataSet, read, write

__all__ = ["IF_NEEDED", "LOSSLESS", "NEVER", "Lossy", "Transcoding", "check_policy", "converted", "preferred"]

#: Compressed transfer syntaxes that lose nothing, into which pydicom's plug-ins may compress.
LOSSLESS = frozenset(
    {uids.RLE_LOSSLESS, uids.JPEG_LS_LOSSLESS, uids.JPEG2000_LOSSLESS, uids.HTJ2K_LOSSLESS, uids.HTJ2K_LOSSLESS_RPCL}
)
_DERIVED = ["DERIVED", "SECONDARY"]
#: What says how an instance was derived: Specific Character Set, Image Type, SOP Class and Instance UID, Derivation
#: Description, Source Image and Derivation Code Sequence, Lossy Image Compression with its ratio and method.
_DERIVATION = (
    0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x00082111, 0x00082112, 0x00089215,
    0x00282110, 0x00282112, 0x00282114,
)  # fmt: skip


@dataclass(frozen=True)
class Lossy:
    """The rule by which pixel data may be compressed with loss; nothing else makes dicomnet lose anything.

    What comes out is another instance: it has a SOP Instance UID of its own, and says what was done to which
    (PS3.3 Sections C.7.6.1.1.2 to C.7.6.1.1.5 and C.12.4).

    Args:
        transfer_syntax: JPEG 2000, or JPEG-LS near-lossless.
        ratio: for JPEG 2000, how many times smaller the pixel data become; above 1.
        error: for JPEG-LS, by how much a pixel value may be off; 1 to 255.

    Raises:
        InvalidArgument: there is no such compression, or not with these parameters.
    """

    transfer_syntax: str
    _: KW_ONLY
    ratio: float = 0
    error: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "transfer_syntax", str(self.transfer_syntax))
        if self.transfer_syntax not in _METHODS:
            raise InvalidArgument(
                f"dicomnet does not compress with loss to {uids.name_of(self.transfer_syntax)}",
                hint="It does to JPEG 2000 and to JPEG-LS near-lossless.",
            )
        if self.transfer_syntax == uids.JPEG2000:
            fits = self.ratio > 1 and not self.error
        else:
            fits = isinstance(self.error, int) and 1 <= self.error <= 255 and not self.ratio
        if not fits:
            raise InvalidArgument(f"{self!r}: JPEG 2000 wants a ratio above 1, JPEG-LS an error from 1 to 255")


#: When an instance is converted to another transfer syntax: "never", "if needed", or to those of a list, by preference.
Transcoding = str | Lossy | Sequence[str | Lossy]
NEVER, IF_NEEDED = "never", "if needed"
# Defined terms of Lossy Image Compression Method (0028,2114), PS3.3 Section C.7.6.1.1.5.1.
_METHODS = {uids.JPEG2000: "ISO_15444_1", uids.JPEG_LS_NEAR_LOSSLESS: "ISO_14495_1"}


def check_policy(policy: Transcoding) -> Transcoding:
    """Return ``policy`` if it is one; see `fitting`.

    Raises:
        InvalidArgument: it is none.
    """
    if isinstance(policy, str) and policy not in (NEVER, IF_NEEDED):
        raise InvalidArgument(
            f"{policy!r} is no way of converting instances",
            hint='It is "never", "if needed", or a list of transfer syntaxes.',
        )
    return policy


def preferred(policy: Transcoding) -> tuple[str, ...]:
    """The transfer syntaxes that a policy prefers to the one that an instance has."""
    if isinstance(policy, str):
        return ()
    rules = (policy,) if isinstance(policy, Lossy) else policy
    return tuple(rule.transfer_syntax if isinstance(rule, Lossy) else str(rule) for rule in rules)


def converted(source: Source, wanted: str | Lossy) -> BytesSource:
    """An instance in another transfer syntax: the same one, of which nothing is lost, unless a rule allows that.

    Values stay as they are: what changes is how headers are written, the order of bytes within words, and the pixel
    data, which pydicom compresses and decompresses by the codecs that are installed (``pip install dicomnet[codecs]``).

    Args:
        source: the instance.
        wanted: the transfer syntax, or the rule for a new instance that has lost some of its precision.

    Raises:
        InvalidArgument: it cannot be converted, or not without loss.
    """
    rule = wanted if isinstance(wanted, Lossy) else None
    syntax = rule.transfer_syntax if rule else str(wanted)
    if rule is None and syntax not in NATIVE | LOSSLESS:
        raise InvalidArgument(
            f"the instance cannot be converted to {uids.name_of(syntax)} without loss",
            hint="A Lossy rule would allow it.",
        )
    data = b"".join(bytes(chunk) for chunk in source.chunks(1 << 20))
    instance = uids.new() if rule else source.sop_instance_uid
    try:
        encoded = _convert(data, source.transfer_syntax_uid, syntax, rule, instance)
    except Exception as error:  # pydicom's plug-ins raise what they like
        what = f"the instance cannot be converted to {uids.name_of(syntax)}: {_in_one_line(error)}"
        raise InvalidArgument(what) from error
    return BytesSource(encoded, syntax, source.sop_class_uid, instance, name=source.name)


def _in_one_line(error: Exception) -> str:
    """What an error says, without the traceback that some codecs put into their message."""
    said = str(error).partition("Traceback")[0]
    return " ".join(said.split()) or type(error).__name__


def _convert(data: bytes, own: str, wanted: str, rule: Lossy | None, instance: str) -> bytes:
    if own in DEFLATED:
        data = inflate(data)
    dataset = read(data, Encoding(*actual_encoding(data, own)))
    if own not in NATIVE:
        decompress(dataset, own)
    if rule is not None:
        _compress_with_loss(dataset, rule, instance)
    elif wanted not in NATIVE:
        compress(dataset, wanted)
    encoded = write(dataset, Encoding(*encoding_of(wanted)))
    return deflate(encoded) if wanted in DEFLATED else encoded


def _compress_with_loss(dataset: RawDataSet, rule: Lossy, instance: str) -> None:
    """Make it a derived instance, and say how it was derived (PS3.3 Sections C.7.6.1.1 and C.12.4)."""
    if PIXEL_DATA not in dataset.elements:
        raise InvalidArgument("it has no pixel data")
    options = {"j2k_cr": [rule.ratio]} if rule.ratio else {"jls_error": rule.error}
    before, after = compress(dataset, rule.transfer_syntax, **options)
    explicit = uids.EXPLICIT_VR_LITTLE_ENDIAN
    known = RawDataSet({tag: dataset.elements[tag] for tag in _DERIVATION if tag in dataset.elements})
    derived = decode(write(known, Encoding(*encoding_of(explicit))), explicit)
    _say_derivation(derived, rule, before / after)
    derived.SOPInstanceUID = instance
    for element in read(encode(derived, explicit), Encoding(*encoding_of(explicit))).elements.values():
        dataset.put(element)


def _say_derivation(dataset: Dataset, rule: Lossy, ratio: float) -> None:
    dataset.LossyImageCompression = "01"
    _append(dataset, "LossyImageCompressionRatio", f"{ratio:.4g}")
    _append(dataset, "LossyImageCompressionMethod", _METHODS[rule.transfer_syntax])
    dataset.ImageType = ["DERIVED", *_values(dataset, "ImageType")[1:]] if "ImageType" in dataset else _DERIVED
    bound = f"ratio {rule.ratio:g}" if rule.ratio else f"greatest error {rule.error}"
    done = f"Lossy compression: {uids.name_of(rule.transfer_syntax)}, {bound}"
    dataset.DerivationDescription = "; ".join(filter(None, (dataset.get("DerivationDescription"), done)))[-1024:]
    _append(dataset, "DerivationCodeSequence", _code("113040", "Lossy Compression"))
    origin = {
        "ReferencedSOPClassUID": dataset.SOPClassUID,
        "ReferencedSOPInstanceUID": dataset.SOPInstanceUID,
        "PurposeOfReferenceCodeSequence": [_code("121320", "Uncompressed predecessor")],
    }
    _append(dataset, "SourceImageSequence", from_keywords(origin))


def _code(value: str, meaning: str) -> Dataset:
    return from_keywords({"CodeValue": value, "CodingSchemeDesignator": "DCM", "CodeMeaning": meaning})


def _values(dataset: Dataset, keyword: str) -> list[Any]:
    """All values of an attribute that may have several, or one, or none."""
    value = dataset.get(keyword)
    return [] if value in (None, "") else [value] if isinstance(value, str | float) else list(value)


def _append(dataset: Dataset, keyword: str, value: Any) -> None:
    setattr(dataset, keyword, [*_values(dataset, keyword), value])
