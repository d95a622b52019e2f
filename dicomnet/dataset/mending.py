"""Files that cannot be sent as they are, where what is wrong can be put right, or the user wants them all the same."""

from __future__ import annotations

from .. import uids
from ..errors import InputFileError, InputProblem
from ..files.instance_source import DEFLATED, BytesSource
from ..files.part10 import read_meta
from ..log import log
from .codec import actual_encoding, encoding_of
from .raw import Encoding, read, write

__all__ = ["mended"]


def mended(
    data: bytes, name: str, error: InputFileError, *, force: bool = False, headerless: bool = False
) -> BytesSource | None:
    """What can be sent in the place of a file; None where there is nothing.

    A value with an odd number of bytes gets one of padding (PS3.5 Section 7.1.1).

    Args:
        data: the file.
        name: by which people know it.
        error: what is wrong with it.
        force: send what is no data set in its transfer syntax, too.
        headerless: send data sets without file meta information, as programs wrote them before there was any.
    """
    try:
        if error.flaw == "odd":
            return _padded(data, name, error)
        if error.flaw == "misdeclared" and force:
            meta, start = read_meta(data)
            return BytesSource(
                memoryview(data)[start:], meta.transfer_syntax_uid, meta.sop_class_uid, meta.sop_instance_uid,
                name=name, force=True,
            )  # fmt: skip
        if error.problem is InputProblem.NOT_PART10 and headerless and not error.flaw:
            return _headless(data, name)
    except (InputFileError, ValueError):  # an InvalidArgument is one: it cannot be mended so
        pass
    return None


def _padded(data: bytes, name: str, error: InputFileError) -> BytesSource | None:
    meta, start = read_meta(data)
    syntax = meta.transfer_syntax_uid
    if syntax is None or syntax in DEFLATED:
        return None
    plain = memoryview(data)[start:]
    encoding = Encoding(*actual_encoding(plain, syntax))
    if encoding != Encoding(*encoding_of(syntax)):
        return None
    source = BytesSource(write(read(plain, encoding), encoding), syntax, name=name)
    if not error.mended:
        error.mended = True
        log.warning("%s: %s: it is sent with a byte of padding", name, error.message)
    return source


def _headless(data: bytes, name: str) -> BytesSource | None:
    """Implicit VR little endian, as ACR-NEMA and early DICOM had it, or what a program left the header off."""
    for syntax in (uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN):
        try:
            if Encoding(*actual_encoding(data, syntax)) == Encoding(*encoding_of(syntax)):
                return BytesSource(data, syntax, name=name)
        except ValueError:
            continue
    return None
