"""WADO-RS: instances, metadata, frames and bulk data (PS3.18 Section 10.4), as they are stored or converted."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from starlette.requests import Request
from starlette.responses import Response

from .. import uids
from ..dataset.transcoding import converted
from ..errors import DicomNetError
from ..files.part10 import meta_header
from ..repository.blob_source import BlobSource
from ..repository.catalog import Level
from ..repository.locations import InstanceLocation
from ..repository.metadata import SeriesMetadata, metadata_of
from ..repository.places import Place
from .addresses import base_url
from .drawing import NATIVE
from .json_text import json_bytes
from .media_types import DICOM, DICOM_JSON, DICOM_XML, MediaType, best, ranges_of
from .multipart import Part, boundary, written
from .native_xml import xml_answer
from .pieces import in_pieces, streamed
from .problems import Problem
from .renderer import Renderer
from .repository import WebRepository
from .stored import StoredInstance
from .users import scope_of
from .values import ranged_value, value_pieces

__all__ = [
    "as_part", "bulk_data", "entity_tag", "found", "frame_count", "frames", "instances", "is_unchanged", "metadata",
    "series_metadata",
]  # fmt: skip

_BYTES = "application/octet-stream"
#: What a compressed frame is to a browser (PS3.18 Table 8.7.3-5).
FRAME_TYPES = {
    uids.RLE_LOSSLESS: "image/dicom-rle",
    uids.JPEG_BASELINE_8_BIT: "image/jpeg",
    uids.JPEG_EXTENDED_12_BIT: "image/jpeg",
    uids.JPEG_LOSSLESS: "image/jpeg",
    uids.JPEG_LOSSLESS_SV1: "image/jpeg",
    uids.JPEG_LS_LOSSLESS: "image/jls",
    uids.JPEG_LS_NEAR_LOSSLESS: "image/jls",
    uids.JPEG2000_LOSSLESS: "image/jp2",
    uids.JPEG2000: "image/jp2",
    uids.HTJ2K_LOSSLESS: "image/jphc",
    uids.HTJ2K_LOSSLESS_RPCL: "image/jphc",
    uids.HTJ2K: "image/jphc",
}
_MOST_FRAMES = 10_000  # in one request


def found(request: Request, repository: WebRepository) -> list[InstanceLocation]:
    """The instances that the path names and the caller may see; the path's UIDs have to belong together.

    Raises:
        Problem: 404, where there are none.
    """
    path = request.path_params
    level = Level.IMAGE if "instance" in path else Level.SERIES if "series" in path else Level.STUDY
    uid = path.get("instance") or path.get("series") or path["study"]
    locations = [
        one
        for one in repository.index.instances(level, [uid], scope=scope_of(request))
        if path.get("study", one.study_uid) == one.study_uid and path.get("series", one.series_uid) == one.series_uid
    ]
    if not locations:
        raise Problem(404, f"there is no such {level.name.lower().replace('image', 'instance')}")
    return locations


def entity_tag(locations: Iterable[InstanceLocation], what: str) -> str:
    """Changes with the bytes of any of the instances.

    Args:
        locations: of the instances.
        what: is made of them.
    """
    digest = hashlib.sha256(what.encode())
    for one in locations:
        digest.update(one.sha)
    return f'"{digest.hexdigest()[:32]}"'


def is_unchanged(request: Request, etag: str) -> bool:
    """Whether the client has what this tag stands for."""
    return etag in (one.strip() for one in request.headers.get("if-none-match", "").split(","))


# ---- instances -----------------------------------------------------------------------------------------------------


def instances(request: Request, repository: WebRepository) -> Response:
    """A study, a series or an instance, as Part 10 files, in the transfer syntax that is asked for."""
    ranges = ranges_of(request)
    best(ranges, (DICOM,))
    wanted = next(one for one in ranges if best_or_none(one, (DICOM,)))
    locations = found(request, repository)
    syntax = wanted.transfer_syntax if wanted.transfer_syntax != "*" else ""
    etag = entity_tag(locations, f"instances {syntax}")
    if is_unchanged(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    single = wanted.type == DICOM and len(locations) == 1
    base = base_url(request)
    parts = (as_part(repository, one, syntax, base) for one in locations)
    first = next(parts)  # what cannot be converted is told before anything is sent
    if single:
        return streamed(first.chunks, {"ETag": etag, "Content-Type": first.content_type})
    mark = boundary()
    headers = {"ETag": etag, "Content-Type": f'multipart/related; type="{DICOM}"; boundary={mark}'}
    return streamed(written(chain([first], parts), mark), headers)


def best_or_none(one: MediaType, offered: Sequence[str]) -> str | None:
    """`media_types.best` of a single range; None where it does not fit."""
    try:
        return best([one], offered)
    except Problem:
        return None


def as_part(repository: WebRepository, one: InstanceLocation, syntax: str, base: str = "") -> Part:
    """An instance, as it is stored or in a transfer syntax.

    Raises:
        Problem: 406, where it cannot be converted.
    """
    address = f"{base}/studies/{one.study_uid}/series/{one.series_uid}/instances/{one.uid}" if base else ""
    if not syntax or syntax == one.ts:
        return Part(f"{DICOM}; transfer-syntax={one.ts}", _stored_blocks(repository, one), address)
    return Part(f"{DICOM}; transfer-syntax={syntax}", [_converted(repository, one, syntax)], address)


def _stored_blocks(repository: WebRepository, one: InstanceLocation) -> Iterator[bytes]:
    with StoredInstance(repository.blobs, one) as stored:
        yield from stored.blocks()


def _converted(repository: WebRepository, one: InstanceLocation, syntax: str) -> bytes:
    place = Place(one.id, one.uid, one.cls, one.ts, one.storage, one.key, one.offset, one.length, one.sha)
    try:
        with BlobSource(repository.blobs, place) as source:
            made = converted(source, syntax)
    except DicomNetError as error:
        detail = f"instance {one.uid} is not to be had in {uids.name_of(syntax)}"
        raise Problem(406, detail, parameter="transfer-syntax") from error
    header = meta_header(one.cls, one.uid, syntax, repository.ae_title)
    return bytes(header) + b"".join(bytes(chunk) for chunk in made.chunks(1 << 20))


# ---- metadata ------------------------------------------------------------------------------------------------------


def series_metadata(repository: WebRepository) -> SeriesMetadata:
    """The packed metadata of series; addresses of bulk data are relative to a study's or a series' metadata."""
    return SeriesMetadata(
        repository.index.database,
        lambda one: _header(repository, one),
        lambda uid, path: f"instances/{uid}/bulkdata/{path}",
    )


def _header(repository: WebRepository, one: InstanceLocation) -> bytes:
    """The data set of an instance up to Pixel Data."""
    with StoredInstance(repository.blobs, one) as stored:
        return stored.stored_header()


def metadata(request: Request, repository: WebRepository, packed: SeriesMetadata) -> Response:
    """The attributes of the instances of a study, a series, or of one instance, as DICOM JSON or XML."""
    kind = best(ranges_of(request), (DICOM_JSON, "application/json", DICOM_XML))
    if "instance" in request.path_params:
        return _metadata_of_one(request, repository, kind)
    path = request.path_params
    level = Level.SERIES if "series" in path else Level.STUDY
    seen = packed.states(level, path.get("series", path["study"]), scope=scope_of(request))
    states = [one for one in seen if one[0] == path["study"]]
    if not states:
        raise Problem(404, f"there is no such {level.name.lower()}")
    etag = entity_tag([], f"metadata {kind} {states}")
    if is_unchanged(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    headers = {"ETag": etag, "Vary": "Accept, Accept-Encoding", "Cache-Control": "no-cache"}
    blobs = [data for _, uid, _ in states if (data := packed.get(uid)) is not None]
    if kind == DICOM_XML:
        return xml_answer((item for data in blobs for item in json.loads(gzip.decompress(data))), headers)
    if len(blobs) == 1 and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(blobs[0], headers=headers | {"Content-Encoding": "gzip"}, media_type=DICOM_JSON)
    inner = (gzip.decompress(data).strip()[1:-1] for data in blobs)
    return Response(b"[" + b",".join(filter(None, inner)) + b"]", headers=headers, media_type=DICOM_JSON)


def _metadata_of_one(request: Request, repository: WebRepository, kind: str) -> Response:
    one = found(request, repository)[0]
    etag = entity_tag([one], f"metadata {kind}")
    if is_unchanged(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    body = [metadata_of(_header(repository, one), one.ts, one.uid, lambda _, path: f"bulkdata/{path}")]
    headers = {"ETag": etag, "Vary": "Accept", "Cache-Control": "no-cache"}
    return xml_answer(body, headers) if kind == DICOM_XML else Response(json_bytes(body), 200, headers, DICOM_JSON)


# ---- frames --------------------------------------------------------------------------------------------------------


def frames(request: Request, repository: WebRepository, renderer: Renderer) -> Response:
    """Frames of an instance by number, as they are stored or decoded."""
    numbers = _numbers(str(request.path_params["frames"]))
    one = found(request, repository)[0]
    native = one.ts in NATIVE
    kind = _BYTES if native else FRAME_TYPES.get(one.ts, _BYTES)
    wanted = _frame_choice(ranges_of(request), kind, one.ts)
    as_stored = native or wanted.inner == "*/*" or wanted.transfer_syntax in ("*", one.ts)
    as_stored = as_stored or (wanted.inner == kind != _BYTES)
    if not as_stored and wanted.transfer_syntax not in ("", uids.EXPLICIT_VR_LITTLE_ENDIAN):
        raise Problem(406, f"frames come in {one.ts}, or uncompressed", parameter="transfer-syntax")
    # Uncompressed frames are in little endian, whatever the instance is stored in.
    syntax = one.ts if as_stored and not native else uids.EXPLICIT_VR_LITTLE_ENDIAN
    content_type = f"{wanted.inner if wanted.inner == kind else _BYTES}; transfer-syntax={syntax}"
    etag = entity_tag([one], f"frames {numbers} {content_type} {wanted.is_multipart}")
    headers = {"ETag": etag, "Cache-Control": "private, max-age=3600"}
    if is_unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    single = not wanted.is_multipart and wanted.type != "*/*" and len(numbers) == 1
    parts = _frames(repository, renderer, one, numbers, as_stored)
    first = next(parts)  # what is wrong is told before anything is sent
    if single:
        return Response(first, headers=headers | {"Content-Type": content_type})
    mark = boundary()
    headers["Content-Type"] = f'multipart/related; type="{content_type.partition(";")[0]}"; boundary={mark}'
    body = written((Part(content_type, [frame]) for frame in chain([first], parts)), mark)
    return in_pieces(list(body), headers) if len(numbers) == 1 else streamed(body, headers)


def frame_count(repository: WebRepository, one: InstanceLocation) -> int:
    """How many frames an instance has; 0 for what is no image."""
    with StoredInstance(repository.blobs, one) as stored:
        return stored.frame_count if stored.is_image else 0


def _frame_choice(ranges: Sequence[MediaType], kind: str, stored: str) -> MediaType:
    """The first range that fits, by its transfer syntax as well, if there is one."""
    fitting = [one for one in ranges if best_or_none(one, (_BYTES, kind))]
    if not fitting:
        raise Problem(406, f"frames come as {', '.join(dict.fromkeys((_BYTES, kind)))}", parameter="Accept")
    given = ("", "*", stored, uids.EXPLICIT_VR_LITTLE_ENDIAN)
    return next((one for one in fitting if one.transfer_syntax in given), fitting[0])


def _numbers(text: str) -> list[int]:
    if not re.fullmatch(r"\d{1,9}(,\d{1,9})*", text):
        raise Problem(400, "frames are numbers from 1 on, separated by commas", parameter="frames")
    numbers = [int(one) for one in text.split(",")]
    if len(numbers) > _MOST_FRAMES:
        raise Problem(400, f"more than {_MOST_FRAMES} frames in one request", parameter="frames")
    return numbers


def _frames(
    repository: WebRepository, renderer: Renderer, one: InstanceLocation, numbers: list[int], as_stored: bool
) -> Iterator[bytes]:
    with StoredInstance(repository.blobs, one) as stored:
        for number in numbers:
            if not 1 <= number <= stored.frame_count:
                detail = f"there is no frame {number}: the instance has {stored.frame_count}"
                raise Problem(404, detail, parameter="frames")
        for number in numbers:
            yield stored.frame(number) if as_stored else renderer.decoded(stored.raw_frame(number))


# ---- bulk data -----------------------------------------------------------------------------------------------------


def bulk_data(request: Request, repository: WebRepository) -> Response:
    """One value of an instance: its tag, or the path through sequences, ``00081115/0/00081199``; also by range."""
    best(ranges_of(request), (_BYTES, "application/pdf", "video/mp4"))
    one = found(request, repository)[0]
    path = str(request.path_params["path"]).strip("/").upper().split("/")
    headers = {"ETag": entity_tag([one], "/".join(path)), "Accept-Ranges": "bytes"}
    content_type = f"{_BYTES}; transfer-syntax={one.ts}"
    if not ranges_of(request)[0].is_multipart:
        return ranged_value(request, repository, one, path, headers | {"Content-Type": _BYTES})
    with StoredInstance(repository.blobs, one) as stored:
        size = stored.value_size(path)
    mark = boundary()
    headers["Content-Type"] = f'multipart/related; type="{_BYTES}"; boundary={mark}'
    pieces = value_pieces(repository, one, path, 0, size)
    return streamed(written([Part(content_type, pieces)], mark), headers)
