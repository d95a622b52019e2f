"""STOW-RS: instances into the repository, each with its own outcome (PS3.18 Section 10.5)."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import Future
from contextlib import aclosing, closing
from typing import IO, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from .. import uids
from ..dataset import codec
from ..errors import DicomNetError, InvalidArgument
from ..log import in_brief
from ..repository.attributes import MissingElement, instance_record
from ..repository.catalog import Level
from ..repository.dicom_json import DicomJson, text_at
from ..repository.headers import read_elements
from ..repository.incoming import Incoming, Memory, incoming_of
from ..repository.index import Outcome
from ..repository.intake import Kept
from ..repository.keys import Identifier, QueryOptions
from ..repository.scope import ALL, Scope
from .addresses import base_url
from .bodies import body_chunks, json_items
from .described import BulkData, file_of
from .json_text import json_bytes
from .media_types import DICOM, DICOM_JSON, DICOM_XML, parse
from .multipart import Begun, PartReader
from .native_xml_reader import item_of_xml
from .problems import Problem
from .repository import WebRepository
from .users import scope_of

__all__ = ["MOST_BODY", "MOST_PARTS", "store"]

log: logging.Logger = logging.getLogger("dicomnet.web")

#: A part is held in memory up to here, and in a temporary file beyond.
IN_MEMORY = 4 << 20
#: A part up to here is taken without another thread.
AT_ONCE = 1 << 20
#: What has come of a request is made durable after so many bytes, and after so many seconds, whether more comes or not.
GROUP_BYTES, GROUP_SECONDS = 32 << 20, 0.5
#: The most bytes of a request, and the most parts.
MOST_BODY = 16 << 30
MOST_PARTS = 100_000
#: Bytes of metadata with their bulk data, which are in memory at a time.
MOST_DESCRIBED = 512 << 20
#: Failure Reason (0008,1197), PS3.3 Section C.14.1.1.
_OUT_OF_RESOURCES, _CANNOT_UNDERSTAND, _MISMATCH, _NOT_OF_STUDY = 0xA700, 0xC000, 0xA900, 0x0110
_NOT_AUTHORIZED = 0x0124
_DUPLICATE = 0x0111


class _Outcome:
    """What becomes of one part."""

    def __init__(self) -> None:
        self.sop_class_uid = self.sop_instance_uid = ""
        self.study_uid = self.series_uid = ""
        self.reason = 0
        self.kept: Future[Kept] | None = None
        self.memory = Memory()

    def refuse(self, reason: int, why: str) -> None:
        """It is not stored; the log says why, for which the answer has no room."""
        self.reason = reason
        which = self.sop_instance_uid if uids.is_valid(self.sop_instance_uid) else "without a valid UID"
        log.warning("STOW-RS: the instance %s is not stored (0x%04X): %s", which, reason, why)


async def store(request: Request, repository: WebRepository) -> Response:
    """Take the instances of a request; 200 where all are stored, 202 where some are, 409 where none is."""
    content = parse(request.headers.get("content-type", ""))
    if content.type not in ("multipart/related", DICOM):
        raise Problem(415, f"instances come as multipart/related; type={DICOM}", parameter="Content-Type")
    if content.is_multipart and content.inner not in ("", DICOM, DICOM_JSON, DICOM_XML):
        kinds = f"{DICOM}, or {DICOM_JSON} or {DICOM_XML} with bulk data"
        detail = f"parts of {content.inner} are not taken here: {kinds} is"
        raise Problem(415, detail, parameter="Content-Type")
    if not repository.has_room():
        raise Problem(507, "the archive's disk is nearly full", headers={"Retry-After": "600"})
    try:
        if content.is_multipart:
            read = _described if content.inner in (DICOM_JSON, DICOM_XML) else _multipart
            outcomes = await read(request, repository, content.parameters.get("boundary", ""))
        else:
            outcomes = await _single(request, repository)
    finally:
        repository.turn()  # what has come is stored, whatever comes of the rest
    if not outcomes:
        raise Problem(400, "the request has no parts", parameter="body")
    await run_in_threadpool(_settle, outcomes)
    return _answer(outcomes, base_url(request))


async def _multipart(request: Request, repository: WebRepository, mark: str) -> list[_Outcome]:
    outcomes = list[_Outcome]()
    with closing(_Group(repository)) as group:
        async with aclosing(_parts(request, mark)) as parts:
            async for _, content in parts:
                # What is in memory is handed over in less time than another thread takes to begin.
                if content.size <= AT_ONCE and scope_of(request).sees_all:
                    outcomes.append(_take(repository, content, request))
                else:
                    outcomes.append(await run_in_threadpool(_take, repository, content, request))
                group.add(content.size)
    return outcomes


class _Group:
    """Has what came of a request made durable a group at a time: its sender waits for all of it.

    A group for each part would have the disk confirm hundreds of small ones. What comes slowly is not held back: it
    would be lost with the power, though the sender thinks that it has long arrived.
    """

    def __init__(self, repository: WebRepository) -> None:
        self._repository = repository
        self._bytes = 0
        self._due: asyncio.TimerHandle | None = None  # set by the first part of a group, whether more comes or not

    def add(self, size: int) -> None:
        """One more part, of so many bytes, was handed over."""
        self._bytes += size
        if self._bytes >= GROUP_BYTES:
            self._turn()
        elif self._due is None:
            self._due = asyncio.get_running_loop().call_later(GROUP_SECONDS, self._turn)

    def _turn(self) -> None:
        self.close()
        self._bytes = 0
        self._repository.turn()

    def close(self) -> None:
        """No more parts come."""
        if self._due is not None:
            self._due.cancel()
            self._due = None


class _Content:
    """What a part brings: in memory, and in a temporary file if it is large."""

    def __init__(self) -> None:
        self.size: int = 0
        self._pieces: list[bytes] = []
        self._file: IO[bytes] | None = None

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self.size += len(data)
        if self._file is None and self.size > IN_MEMORY:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 closed by `close`
            self._file.writelines(self._pieces)
            self._pieces = []
        if self._file is None:
            self._pieces.append(data)
        else:
            self._file.write(data)

    def source(self) -> bytes | IO[bytes]:
        """All of it: bytes, or a file that is read from the disk piece by piece."""
        if self._file is None:
            return b"".join(self._pieces)
        self._file.seek(0)
        return self._file

    def read(self) -> bytes:
        """All of it, in memory."""
        source = self.source()
        return source if isinstance(source, bytes) else source.read()

    def close(self) -> None:
        """Let go of it."""
        self._pieces = []
        if self._file is not None:
            self._file.close()


async def _parts(request: Request, mark: str) -> AsyncGenerator[tuple[Mapping[str, str], _Content], None]:
    """Each part of the body, whole: its headers, and what it brings, which is for the caller to close."""
    if not mark:
        raise Problem(400, "the content type names no boundary", parameter="Content-Type")
    reader, headers, count, size = PartReader(mark), dict[str, str](), 0, 0
    content: _Content | None = None
    try:
        async for chunk in body_chunks(request):
            size += len(chunk)
            if size > MOST_BODY:
                raise Problem(413, f"a request has at most {MOST_BODY} bytes", parameter="body")
            for event in reader.feed(chunk, last=not chunk):
                if isinstance(event, Begun):
                    count += 1
                    if count > MOST_PARTS:
                        raise Problem(413, f"a request has at most {MOST_PARTS} parts", parameter="body")
                    headers = event.headers
                    content = _Content()
                elif event is None and content is not None:
                    whole, content = content, None
                    yield headers, whole
                elif event and content is not None:
                    content.write(event)
            if reader.ended:
                break
    finally:
        if content is not None:
            content.close()


async def _described(request: Request, repository: WebRepository, mark: str) -> list[_Outcome]:
    """Instances whose metadata come in JSON or XML, and what is large in them in parts of its own."""
    items, bulk, size = list[DicomJson](), dict[str, list[BulkData]](), 0
    async with aclosing(_parts(request, mark)) as parts:
        async for headers, part in parts:
            with closing(part):
                size += part.size
                if size > MOST_DESCRIBED:
                    raise Problem(413, f"metadata and bulk data have at most {MOST_DESCRIBED} bytes", parameter="body")
                kind, content = parse(headers.get("content-type", "")), part.read()
            location = headers.get("content-location", "")
            if kind.type in (DICOM_JSON, "application/json"):
                items += await run_in_threadpool(json_items, content)
            elif kind.type in (DICOM_XML, "application/xml"):
                items.append(await run_in_threadpool(item_of_xml, content))
            elif location:
                bulk.setdefault(location, []).append(BulkData(kind, content))
            else:
                raise Problem(400, "a part of bulk data has a Content-Location", parameter="Content-Location")
    return await run_in_threadpool(lambda: [_take_described(repository, item, bulk, request) for item in items])


def _take_described(
    repository: WebRepository, item: DicomJson, bulk: Mapping[str, list[BulkData]], request: Request
) -> _Outcome:
    content = _Content()
    try:
        content.write(file_of(item, bulk))
        return _take(repository, content, request)
    except InvalidArgument as error:
        outcome = _Outcome()
        outcome.sop_class_uid, outcome.sop_instance_uid = text_at(item, 0x00080016), text_at(item, 0x00080018)
        outcome.refuse(_CANNOT_UNDERSTAND, str(error))  # it quotes no value
        return outcome


async def _single(request: Request, repository: WebRepository) -> list[_Outcome]:
    content = _Content()
    with closing(content):
        async for chunk in body_chunks(request):
            if content.size + len(chunk) > MOST_BODY:
                raise Problem(413, f"a request has at most {MOST_BODY} bytes", parameter="body")
            content.write(chunk)
        return [await run_in_threadpool(_take, repository, content, request)]


def _take(repository: WebRepository, content: _Content, request: Request) -> _Outcome:
    """Hand one part to the repository; it is durable when its future is done."""
    outcome = _Outcome()
    with closing(content):
        try:
            study = request.path_params.get("study", "")
            incoming = _incoming(repository, content, outcome)
            _check(incoming, study, scope_of(request), repository)
            outcome.kept = repository.submit(incoming)
        except _NotHere as error:
            outcome.refuse(error.reason, in_brief(error))
        except (DicomNetError, ValueError) as error:
            outcome.refuse(_CANNOT_UNDERSTAND, in_brief(error))
        except OSError as error:
            outcome.refuse(_OUT_OF_RESOURCES, in_brief(error))
    return outcome


class _NotHere(DicomNetError):
    """An instance that may not be stored by this request.

    Attributes:
        reason: Failure Reason.
    """

    def __init__(self, reason: int, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _incoming(repository: WebRepository, content: _Content, outcome: _Outcome) -> Incoming:
    with codec.open_source(content.source()) as source:
        outcome.sop_class_uid, outcome.sop_instance_uid = source.sop_class_uid, source.sop_instance_uid
        return incoming_of(source, repository.blobs, repository.ae_title, outcome.memory)


def _check(incoming: Incoming, study: str, scope: Scope, repository: WebRepository) -> None:
    """Let go of an instance of another study than the path names, or that its sender may not see, or not store.

    Raises:
        _NotHere: it is one.
    """
    if study and _study_of(incoming) != study:
        incoming.discard()
        raise _NotHere(_NOT_OF_STUDY, "it is of another study than the path names")
    if not scope.sees_all:
        why = _why_not(incoming, scope, repository)
        if why:
            incoming.discard()
            raise _NotHere(_NOT_AUTHORIZED, why)


def _why_not(incoming: Incoming, scope: Scope, repository: WebRepository) -> str:
    """Why who may see a part alone may not store an instance; empty where it may be stored."""
    blob = incoming.blob
    try:
        record = instance_record(
            incoming.head, blob.transfer_syntax_uid, sop_class_uid=blob.sop_class_uid,
            sop_instance_uid=blob.sop_instance_uid,
        )  # fmt: skip
    except MissingElement:
        return ""  # it is not stored in any case, for a reason of its own
    if not scope.shows(record.series.modality, record.patient.issuer):
        return "its sender may not see its modality, or the patients of its issuer"
    if repository.honours_notes() and record.cls == uids.KEY_OBJECT_SELECTION_DOCUMENT_STORAGE:
        return "it may reject what its sender may not see"
    taken = ((Level.SERIES, record.series.uid), (Level.IMAGE, record.uid))
    if any(_is_hidden(repository, level, uid, scope) for level, uid in taken):
        return "its series, or its UID, is of what its sender may not see"
    return ""


def _is_hidden(repository: WebRepository, level: Level, uid: str, scope: Scope) -> bool:
    """Whether there is a series, or an instance, that is not seen."""
    key = {"SeriesInstanceUID" if level is Level.SERIES else "SOPInstanceUID": uid}
    identifier = Identifier.of(key, level=level.name, options=QueryOptions(relational=True))
    there, seen = (list(repository.index.find(identifier, level=level, limit=1, scope=one)) for one in (ALL, scope))
    return bool(there) and not seen


def _study_of(incoming: Incoming) -> str:
    found = read_elements(incoming.head, incoming.blob.transfer_syntax_uid)
    value = next((one.value for one in found if one.tag == 0x0020000D), b"")
    return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else ""


def _settle(outcomes: list[_Outcome]) -> None:
    """Wait until all that was handed over is durable."""
    for one in outcomes:
        if one.kept is None:
            continue
        try:
            kept = one.kept.result()
        except OSError:
            one.reason = _OUT_OF_RESOURCES
            continue
        except Exception:  # what cannot be indexed: the repository's log says why
            one.reason = _MISMATCH
            continue
        one.study_uid, one.series_uid = kept.record.study.uid, kept.record.series.uid
        if kept.outcome not in (Outcome.NEW, Outcome.SAME, Outcome.REJECTED):
            one.reason = _DUPLICATE


def _answer(outcomes: list[_Outcome], base: str) -> Response:
    stored = [one for one in outcomes if not one.reason]
    failed = [one for one in outcomes if one.reason]
    body: dict[str, Any] = {}
    studies = {one.study_uid for one in stored}
    if len(studies) == 1:
        body["00081190"] = {"vr": "UR", "Value": [f"{base}/studies/{studies.pop()}"]}
    if failed:
        body["00081198"] = {
            "vr": "SQ",
            "Value": [_reference(one) | {"00081197": {"vr": "US", "Value": [one.reason]}} for one in failed],
        }
    if stored:
        body["00081199"] = {"vr": "SQ", "Value": [_reference(one) | _address(one, base) for one in stored]}
    status = 200 if not failed else 202 if stored else 409
    return Response(json_bytes(dict(sorted(body.items()))), status, media_type=DICOM_JSON)


def _reference(one: _Outcome) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [one.sop_class_uid]} if one.sop_class_uid else {"vr": "UI"},
        "00081155": {"vr": "UI", "Value": [one.sop_instance_uid]} if one.sop_instance_uid else {"vr": "UI"},
    }


def _address(one: _Outcome, base: str) -> dict[str, Any]:
    address = f"{base}/studies/{one.study_uid}/series/{one.series_uid}/instances/{one.sop_instance_uid}"
    return {"00081190": {"vr": "UR", "Value": [address]}}
