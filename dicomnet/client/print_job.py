"""What a print job consists of: sessions, films, pictures and their attributes (PS3.4 Annex H, PS3.3 Section C.13)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .. import uids
from ..config import Limits
from ..dataset import codec, pictures
from ..dataset.pictures import Window
from ..dataset.types import Dataset
from ..errors import DicomNetError, InvalidArgument
from ..services.film import FILM_SIZES, GRAYSCALE, Layout
from ..status import Status
from .inputs import gather

__all__ = [
    "Film",
    "Picture",
    "PrintJob",
    "PrintSession",
    "Printed",
    "PrinterState",
    "film_session",
    "image_box",
    "pictures_of",
]

_ORIENTATIONS = ("PORTRAIT", "LANDSCAPE")
_PRIORITIES = ("HIGH", "MED", "LOW")
_MAGNIFICATIONS = ("", "REPLICATE", "BILINEAR", "CUBIC", "NONE")
_LUT_SHAPES = ("", "IDENTITY", "LIN OD")
_BEHAVIOURS = ("", "DECIMATE", "CROP", "FAIL")
_GREY_BITS = (8, 12)


def _one_of(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        names = ", ".join(one for one in known if one)
        raise InvalidArgument(f"{what} cannot be {value!r}", hint=f"One of {names}.")


def _density(what: str, value: str) -> None:
    if value and value not in GRAYSCALE and not value.isdigit():
        raise InvalidArgument(
            f"{what} cannot be {value!r}", hint="BLACK, WHITE, or hundredths of an optical density such as 150."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintSession:
    """What holds for all films of a job; what is left out is as the printer has it (PS3.3 Section C.13.1).

    Attributes:
        copies: of each film.
        priority: HIGH, MED or LOW.
        medium: Medium Type: PAPER, CLEAR FILM, BLUE FILM and so on.
        destination: Film Destination: MAGAZINE, PROCESSOR, BIN_1 and so on.
        label: Film Session Label.
        owner: Owner ID.
    """

    copies: int = 1
    priority: str = ""
    medium: str = ""
    destination: str = ""
    label: str = ""
    owner: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.copies <= 999:
            raise InvalidArgument(f"{self.copies} copies cannot be printed", hint="From 1 to 999.")
        _one_of("the print priority", self.priority, ("", *_PRIORITIES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    r"""How films are laid out and printed; what is left out is as the printer has it (PS3.3 Section C.13.3).

    Attributes:
        layout: ``2x3`` is two columns of three rows; or as the standard has it, ``ROW\1,2``.
        size: Film Size ID, one of `FILM_SIZES` or a printer's own.
        orientation: PORTRAIT or LANDSCAPE.
        magnification: REPLICATE, BILINEAR, CUBIC or NONE.
        smoothing: Smoothing Type, as the printer names it, for CUBIC.
        border, empty: density between images, and of boxes without one: BLACK, WHITE, or hundredths of an OD.
        min_density, max_density: in hundredths of an optical density; 0 is the printer's.
        trim: a line around each image.
        resolution: Requested Resolution ID: STANDARD or HIGH.
        configuration: Configuration Information, as the printer has it.
        lut: shape of the presentation LUT, IDENTITY or LIN OD; without one the printer's usual.
        annotation_format: Annotation Display Format ID, as the printer names it.
        annotations: texts for its annotation boxes, in their order.
    """

    layout: str = "1x1"
    size: str = ""
    orientation: str = "PORTRAIT"
    magnification: str = ""
    smoothing: str = ""
    border: str = ""
    empty: str = ""
    min_density: int = 0
    max_density: int = 0
    trim: bool | None = None
    resolution: str = ""
    configuration: str = ""
    lut: str = ""
    annotation_format: str = ""
    annotations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Layout.parse(self.layout)
        _one_of("the orientation of a film", self.orientation, _ORIENTATIONS)
        _one_of("the magnification", self.magnification, _MAGNIFICATIONS)
        _one_of("the presentation LUT", self.lut, _LUT_SHAPES)
        _density("the border density", self.border)
        _density("the empty image density", self.empty)
        if self.min_density < 0 or self.max_density < 0 or self.min_density > (self.max_density or self.min_density):
            raise InvalidArgument("the least density of a film is at least 0, and not above the greatest")
        if self.size and self.size.upper().endswith(("IN", "CM")) and self.size not in FILM_SIZES:
            raise InvalidArgument(f"there is no film of {self.size!r}", hint=f"One of {', '.join(FILM_SIZES)}.")
        if self.annotations and not self.annotation_format:
            hint = "Give annotation_format (--annotation-format)."
            raise InvalidArgument("annotations need the printer's name of their layout", hint=hint)

    @property
    def capacity(self) -> int:
        """How many images a film holds."""
        return len(Layout.parse(self.layout).boxes)

    def attributes(self, session_uid: str, lut_uid: str = "") -> dict[str, Any]:
        """Of an N-CREATE of a film box (PS3.4 Section H.4.2.2.1)."""
        values = {
            "FilmSizeID": self.size,
            "MagnificationType": self.magnification,
            "SmoothingType": self.smoothing,
            "BorderDensity": self.border,
            "EmptyImageDensity": self.empty,
            "MinDensity": self.min_density,
            "MaxDensity": self.max_density,
            "Trim": "" if self.trim is None else "YES" if self.trim else "NO",
            "RequestedResolutionID": self.resolution,
            "ConfigurationInformation": self.configuration,
            "AnnotationDisplayFormatID": self.annotation_format,
        }
        layout = Layout.parse(self.layout).text
        made: dict[str, Any] = {"ImageDisplayFormat": layout, "FilmOrientation": self.orientation}
        made |= {keyword: value for keyword, value in values.items() if value}
        made["ReferencedFilmSessionSequence"] = [_reference(uids.BASIC_FILM_SESSION, session_uid)]
        if lut_uid:
            made["ReferencedPresentationLUTSequence"] = [_reference(uids.PRESENTATION_LUT, lut_uid)]
        return made


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One image as it is printed.

    Attributes:
        pixels: grey ``(rows, columns)`` from black 0 to ``2**bits - 1``; or RGB ``(rows, columns, 3)`` as uint8.
        bits: of a grey value, 8 or 12.
        spacing: of rows and of columns in millimetres; None where that is not known.
        name: of where it came from, for messages.
    """

    pixels: Any
    bits: int = 8
    spacing: tuple[float, float] | None = None
    name: str = "image"

    @property
    def is_color(self) -> bool:
        """Whether it has colours."""
        return int(self.pixels.ndim) == 3


@dataclass(frozen=True, slots=True)
class PrinterState:
    """How a printer is: NORMAL, WARNING or FAILURE; what is amiss, and all that it says of itself."""

    status: str
    info: str
    name: str
    dataset: Dataset


@dataclass(frozen=True, slots=True)
class PrintJob:
    """A job of a printer: PENDING, PRINTING, DONE or FAILURE; empty where the printer does not tell."""

    uid: str
    status: str = ""
    info: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status in ("DONE", "FAILURE")


@dataclass(frozen=True, slots=True)
class Printed:
    """What was printed.

    Attributes:
        films: how many, without copies.
        images: how many are on them.
        jobs: of the printer; none where it does not tell of jobs.
        warnings: what the printer did not do quite as asked.
    """

    films: int
    images: int
    jobs: tuple[PrintJob, ...] = ()
    warnings: tuple[Status, ...] = ()


def film_session(session: PrintSession) -> dict[str, Any]:
    """The attributes of an N-CREATE of a film session (PS3.4 Section H.4.1.2.1)."""
    values = {
        "NumberOfCopies": session.copies,
        "PrintPriority": session.priority,
        "MediumType": session.medium,
        "FilmDestination": session.destination,
        "FilmSessionLabel": session.label,
        "OwnerID": session.owner,
    }
    return {keyword: value for keyword, value in values.items() if value}


def image_box(
    picture: Picture, position: int, *, polarity: str = "", true_size: bool = False, behaviour: str = ""
) -> dict[str, Any]:
    """The attributes of an N-SET of an image box, grey or in colour as the picture is (PS3.4 Section H.4.3).

    Args:
        picture: what is printed there.
        position: from 1.
        polarity: NORMAL or REVERSE; empty is the printer's usual.
        true_size: print it as large as it is; a picture that does not know how large that is, as large as it fits.
        behaviour: what becomes of one that is too large: DECIMATE, CROP or FAIL; empty is the printer's usual.
    """
    _one_of("the polarity", polarity, ("", "NORMAL", "REVERSE"))
    _one_of("what becomes of large images", behaviour, _BEHAVIOURS)
    values: dict[str, Any] = {"ImageBoxPosition": position}
    if polarity:
        values["Polarity"] = polarity
    if behaviour:
        values["RequestedDecimateCropBehavior"] = behaviour
    if true_size and picture.spacing:
        values["RequestedImageSize"] = f"{picture.pixels.shape[1] * picture.spacing[1]:.6g}"
    name = "BasicColorImageSequence" if picture.is_color else "BasicGrayscaleImageSequence"
    return values | {name: [_pixels(picture)]}


def _pixels(picture: Picture) -> dict[str, Any]:
    rows, columns = picture.pixels.shape[:2]
    data = picture.pixels
    if picture.is_color:
        data = data.transpose(2, 0, 1)  # by plane, as the colour image box wants it (PS3.3 Section C.13.6.1)
    wide = picture.bits > 8 and not picture.is_color
    bits = picture.bits if wide else 8
    data = data.astype("<u2" if wide else "u1").tobytes()
    values: dict[str, Any] = {
        "SamplesPerPixel": 3 if picture.is_color else 1,
        "PhotometricInterpretation": "RGB" if picture.is_color else "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 16 if wide else 8,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "PixelData": data + b"\0" * (len(data) & 1),
    }
    if picture.is_color:
        values["PlanarConfiguration"] = 1
    if picture.spacing and abs(picture.spacing[0] / picture.spacing[1] - 1) > 1e-4:
        values["PixelAspectRatio"] = [round(picture.spacing[0] * 1000), round(picture.spacing[1] * 1000)]
    return values


def _reference(sop_class: str, uid: str) -> dict[str, str]:
    return {"ReferencedSOPClassUID": sop_class, "ReferencedSOPInstanceUID": uid}


def pictures_of(
    sources: Sequence[Any], *, color: bool = False, bits: int = 8, window: Window | None = None
) -> list[Picture]:
    """Every frame of what is given, as it is printed.

    Args:
        sources: paths of files, of directories, DICOMDIRs and zip archives; data sets; arrays, grey
            ``(rows, columns)`` of values below ``2**bits``, or RGB ``(rows, columns, 3)`` below 256.
        color: print in colour; else colours become grey.
        bits: of a grey value, 8 or 12.
        window: in place of those of the instances.

    Raises:
        InvalidArgument: one of them is no picture.
        InputFileError: one of them cannot be read.
    """
    if bits not in _GREY_BITS:
        raise InvalidArgument(f"{bits} bits of grey cannot be printed", hint="8 or 12.")
    found = [one for source in sources for one in _of_one(source, color, bits, window)]
    if not found:
        raise InvalidArgument("there is nothing to print", hint="Give files, data sets or arrays.")
    return found


def _of_one(source: Any, color: bool, bits: int, window: Window | None) -> Iterator[Picture]:
    if hasattr(source, "__array_interface__"):
        yield _of_array(source, color, bits)
        return
    for dataset, name in [(source, "data set")] if codec.is_dataset(source) else _datasets(source):
        try:
            for pixels, image in pictures.frames_of(dataset):
                made = _printed(pictures.shown(pixels, image, window, bits), color, bits)
                yield Picture(made, bits, _spacing(image), name)
        except InvalidArgument as error:
            raise InvalidArgument(f"{name}: {error.message}", hint=error.hint) from error


def _datasets(path: Any) -> Iterator[tuple[Dataset, str]]:
    def refuse(_: object, __: str, error: DicomNetError) -> None:
        raise error

    for item in gather([path], refuse, recurse=True):
        with codec.open_source(item.open()) as source:
            data = b"".join(bytes(chunk) for chunk in source.chunks(Limits().file_buffer))
            yield codec.decode(data, source.transfer_syntax_uid), item.name


def _of_array(array: Any, color: bool, bits: int) -> Picture:
    import numpy as np  # noqa: PLC0415 heavy

    values = np.asarray(array)
    is_color = values.ndim == 3 and values.shape[2] == 3
    if values.dtype.kind not in "ui" or not (is_color or values.ndim == 2) or 0 in values.shape:
        raise InvalidArgument(
            f"an array of {values.dtype} and shape {values.shape} is no picture",
            hint="Whole numbers, (rows, columns) or (rows, columns, 3).",
        )
    top = (1 << (8 if is_color else bits)) - 1
    if int(values.min()) < 0 or int(values.max()) > top:
        raise InvalidArgument(f"an array has values beyond 0 to {top}", hint="Scale it, or print 12 bits.")
    if is_color:
        return Picture(_printed(values.astype(np.uint8), color, bits), bits, name="array")
    return Picture(_printed(values.astype(np.uint16 if bits > 8 else np.uint8), color, bits), bits, name="array")


def _printed(values: Any, color: bool, bits: int) -> Any:
    """In colours, or grey, whatever it was."""
    import numpy as np  # noqa: PLC0415 heavy

    if color and values.ndim == 2:
        grey = values >> (bits - 8) if bits > 8 else values
        return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    if not color and values.ndim == 3:
        grey = values.astype(np.float64) @ (0.299, 0.587, 0.114)
        return (grey * (((1 << bits) - 1) / 255) + 0.5).astype(np.uint16 if bits > 8 else np.uint8)
    return values


def _spacing(image: Dataset) -> tuple[float, float] | None:
    """Of rows and columns in millimetres, as far as the instance says (PS3.3 Sections C.7.6.2 and C.8.1.2)."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = image.get(keyword)
        if spacing and len(spacing) == 2 and min(map(float, spacing)) > 0:
            return float(spacing[0]), float(spacing[1])
    return None
