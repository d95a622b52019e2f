"""Media types of DICOMweb: what a request accepts, and which of what there is fits best (PS3.18 Section 8.7)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request

from .problems import Problem

__all__ = ["DICOM", "DICOM_JSON", "DICOM_XML", "MediaType", "accepted", "best", "parse", "ranges_of"]

DICOM, DICOM_JSON, DICOM_XML = "application/dicom", "application/dicom+json", "application/dicom+xml"


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type, or a media range.

    Attributes:
        type: ``application/dicom+json``, in lower case.
        parameters: by name in lower case, without quotation marks, ``q`` left out.
        quality: of a range that is accepted, 0 to 1.
    """

    type: str
    parameters: dict[str, str] = field(default_factory=dict)
    quality: float = 1.0

    @property
    def inner(self) -> str:
        """The type of the parts of a multipart; the type itself otherwise."""
        return self.parameters.get("type", "").lower() if self.is_multipart else self.type

    @property
    def is_multipart(self) -> bool:
        """Whether it is multipart/related."""
        return self.type == "multipart/related"

    @property
    def transfer_syntax(self) -> str:
        """The transfer syntax that is asked for; empty for none, ``*`` for that of the stored instance."""
        return self.parameters.get("transfer-syntax", "")

    def accepts(self, offered: str) -> bool:
        """Whether a type is in this range."""
        if self.type in ("*/*", offered):
            return True
        main, _, sub = self.type.partition("/")
        return sub == "*" and offered.startswith(f"{main}/")


def parse(text: str) -> MediaType:
    """One media type with its parameters; quotation marks may be missing."""
    pieces = _split(text, ";")
    parameters: dict[str, str] = {}
    quality = 1.0
    for piece in pieces[1:]:
        name, _, value = piece.partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name == "q":
            quality = _quality(value)
        elif name:
            parameters[name] = value
    return MediaType(pieces[0].strip().lower(), parameters, quality)


def _quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0


def _split(text: str, mark: str) -> list[str]:
    """Split at a mark that is not within quotation marks."""
    pieces, start, quoted = [], 0, False
    for place, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == mark and not quoted:
            pieces.append(text[start:place])
            start = place + 1
    return [*pieces, text[start:]]


def accepted(headers: Iterable[str], parameter: str | None = None) -> list[MediaType]:
    """What a request accepts, the best first; anything where it does not say.

    Args:
        headers: the values of its Accept headers.
        parameter: of the query (``accept=``), which goes before the header (PS3.18 Section 8.3.3.1).
    """
    texts = [parameter] if parameter else list(headers)
    ranges = [parse(piece) for text in texts for piece in _split(text, ",") if piece.strip()]
    if not ranges:
        return [MediaType("*/*")]
    return sorted((one for one in ranges if one.quality), key=lambda one: -one.quality)


def ranges_of(request: Request) -> list[MediaType]:
    """What a request accepts, by its headers and its query."""
    return accepted(request.headers.getlist("accept"), request.query_params.get("accept"))


def best(ranges: Sequence[MediaType], offered: Sequence[str]) -> str:
    """The first of the types that there are which the request accepts; a multipart counts by its parts.

    Raises:
        Problem: 406, where none fits.
    """
    for wanted in ranges:
        for one in offered:
            inner = MediaType(wanted.inner or "*/*") if wanted.is_multipart else wanted
            if inner.accepts(one):
                return one
    raise Problem(406, f"this resource comes as {', '.join(offered)}", parameter="Accept")
