"""`WebClient`: search, retrieve and store by DICOMweb (PS3.18)."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Self

from ... import uids
from ...dataset.types import Path
from ...errors import (
    ConnectionFailed,
    DeadlineExceeded,
    InvalidArgument,
    OutputFileError,
    RemoteProtocolError,
    cannot_read,
)
from ...files.file_sink import FileSink, uid_path
from ...files.part10 import read_meta
from ..multipart import BadMultipart, Begun, PartReader, boundary
from ..open_sockets import OpenSockets
from ..web_peer import LEVELS, WebFailure, WebPeer, WebStored, json_of, outcomes, path_of

__all__ = ["WebClient"]

_JSON, _DICOM = "application/dicom+json", "application/dicom"
_PAGE = 500  # results asked for at a time
_BLOCK = 256 << 10
#: Instances of one request of STOW-RS, and bytes after which another one begins.
MOST_PARTS, MOST_BYTES = 200, 256 << 20
_HEADER = 64 << 10  # bytes of a file in which its meta information ends


class WebClient:
    """Asynchronous client of DICOMweb; connections are kept and used again.

    Args:
        peer: the address of the services, as ``https://pacs.local/dicomweb``, a name from `peers.toml`, or a `WebPeer`.
        timeout: seconds to connect, and without any progress.

    Raises:
        InvalidArgument: it is no peer.
    """

    def __init__(self, peer: str | WebPeer, *, timeout: float = 60.0) -> None:
        import httpx  # noqa: PLC0415 heavy, and of an extra

        self.peer: WebPeer = WebPeer.of(peer)
        self.timeout: float = timeout
        verify = self.peer.tls.client_context() if self.peer.tls is not None else True
        self._sockets = OpenSockets()
        self._http: Any = httpx.AsyncClient(
            base_url=self.peer.url.rstrip("/"), auth=self.peer.login, verify=verify, timeout=timeout
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def interrupt(self) -> None:
        """End what waits for the server, from any thread: it raises `ConnectionFailed`, as does all that comes later.

        A task that waits is better cancelled.
        """
        self._sockets.end()

    async def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        self._sockets.trace(event, info)

    async def _send(self, method: str, path: str, *, stream: bool = False, **more: Any) -> Any:
        """An answer of 200 to 299, as httpx has it.

        Raises:
            WebFailure: it is another one.
            ConnectionFailed, DeadlineExceeded: there is none.
        """
        import httpx  # noqa: PLC0415

        try:
            request = self._http.build_request(method, path, extensions={"trace": self._trace}, **more)
            answer = await self._http.send(request, stream=stream)
            if answer.status_code >= 300:
                await answer.aread()
                await answer.aclose()
        except httpx.TimeoutException as error:
            raise self._late() from error
        except httpx.TransportError as error:
            raise ConnectionFailed(f"{self.peer.url}: {str(error) or type(error).__name__}") from error
        if answer.status_code >= 300:
            words = _words(answer.status_code, answer.reason_phrase, answer.content)
            raise WebFailure(answer.status_code, words, answer.content)
        return answer

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded("web", self.timeout, f"{self.peer.url} does not answer in time")

    # ---- search ------------------------------------------------------------------------------------------------

    async def search(
        self,
        level: str = "STUDY",
        keys: Mapping[str, str] | None = None,
        *,
        study: str = "",
        series: str = "",
        fields: Iterable[str] = (),
        limit: int | None = None,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """What matches, in DICOM JSON, page by page (QIDO-RS, PS3.18 Section 10.6).

        Args:
            level: STUDY, SERIES or IMAGE.
            keys: by keyword or tag, ``{"PatientName": "DOE*"}``.
            study, series: UIDs that the search stays within.
            fields: more attributes to be told.
            limit: the most matches.

        Raises:
            WebFailure: the server refuses.
            InvalidArgument: there is no such level.
        """
        if level not in LEVELS:
            raise InvalidArgument(f"{level!r} is no level", hint=f"Levels are {', '.join(LEVELS)}.")
        path = f"{path_of(study, series) if study else ''}/{LEVELS[level]}"
        query: list[tuple[str, str]] = [*(keys or {}).items(), *(("includefield", one) for one in fields)]
        offset = 0
        while limit is None or offset < limit:
            count = _PAGE if limit is None else min(_PAGE, limit - offset)
            page = [*query, ("limit", str(count)), ("offset", str(offset))]
            answer = await self._send("GET", path, params=page, headers={"Accept": _JSON})
            found = json_of(answer.content)
            for one in found:
                yield one
            offset += len(found)
            # A server may give fewer than it is asked for; that there are more it says.
            if not found or ("299" not in answer.headers.get("warning", "") and len(found) < count):
                return

    # ---- retrieve ----------------------------------------------------------------------------------------------

    async def metadata(self, study: str, series: str = "", instance: str = "") -> list[dict[str, Any]]:
        """The attributes of instances, in DICOM JSON; pixel data and what else is large is left where it is."""
        path = f"{path_of(study, series, instance)}/metadata"
        return json_of((await self._send("GET", path, headers={"Accept": _JSON})).content)

    async def retrieve(
        self, study: str, series: str = "", instance: str = "", *, transfer_syntax: str = "*"
    ) -> AsyncGenerator[bytes, None]:
        """The instances of a study, a series, or one, each as a Part 10 stream (WADO-RS, PS3.18 Section 10.4).

        Args:
            study, series, instance: UIDs.
            transfer_syntax: ``*`` takes each as it is stored.
        """
        content = bytearray()
        async with aclosing(self._parts(study, series, instance, transfer_syntax)) as parts:
            async for part in parts:
                if part is None:
                    yield bytes(content)
                    content.clear()
                else:
                    content += part

    async def save(
        self, directory: Path, study: str, series: str = "", instance: str = "", *, transfer_syntax: str = "*"
    ) -> AsyncGenerator[str, None]:
        """As `retrieve`, into files ``UID.dcm`` as they come, which appear when they are whole; the path of each.

        Other bytes of a UID whose file is there are kept beside it, as ``UID-1.dcm``.
        """
        os.makedirs(directory, exist_ok=True)
        sink, head = FileSink(directory), bytearray()
        try:
            async with aclosing(self._parts(study, series, instance, transfer_syntax)) as parts:
                async for part in parts:
                    if part is not None:
                        sink.write([memoryview(part)])
                        head += part[: max(_HEADER - len(head), 0)]
                        continue
                    sink.close()
                    yield _named(sink, directory, bytes(head))
                    sink, head = FileSink(directory), bytearray()
        finally:
            sink.discard()

    async def _parts(
        self, study: str, series: str, instance: str, transfer_syntax: str
    ) -> AsyncGenerator[bytes | None, None]:
        """The bytes of each instance, and None where it ends."""
        import httpx  # noqa: PLC0415

        accept = f'multipart/related; type="{_DICOM}"; transfer-syntax={transfer_syntax}'
        path = path_of(study, series, instance)
        answer = await self._send("GET", path, stream=True, headers={"Accept": accept})
        try:
            reader = PartReader(_boundary_of(answer.headers.get("content-type", "")))
            async for chunk in answer.aiter_bytes(_BLOCK):
                for event in reader.feed(chunk):
                    if not isinstance(event, Begun):
                        yield event
            list(reader.feed(b"", last=True))  # gives nothing more: it raises where the last boundary is missing
        except httpx.TimeoutException as error:
            raise self._late() from error
        except httpx.HTTPError as error:
            raise ConnectionFailed(f"{self.peer.url}: the connection ended within an answer") from error
        finally:
            await answer.aclose()

    # ---- store -------------------------------------------------------------------------------------------------

    async def store(self, *paths: Path, study: str = "") -> AsyncGenerator[WebStored, None]:
        """Store files, many in each request; the outcome of each (STOW-RS, PS3.18 Section 10.5).

        Args:
            paths: Part 10 files.
            study: the UID of the study that all have to belong to.

        Raises:
            WebFailure: the server refuses a request as a whole.
            InputFileError: a file cannot be read, or is none.
        """
        for group in _groups(paths):
            sent = [(path, _uid_in(path)) for path in group]
            mark = boundary()
            answer = await self._stow(_body(group, mark), mark, study)
            for one in outcomes(answer, sent):
                yield one

    async def _stow(self, body: AsyncIterator[bytes], mark: str, study: str) -> Mapping[str, Any]:
        kind = f'multipart/related; type="{_DICOM}"; boundary={mark}'
        path = path_of(study) if study else "/studies"
        try:
            headers = {"Content-Type": kind, "Accept": _JSON}
            content = (await self._send("POST", path, content=body, headers=headers)).content
        except WebFailure as failure:
            if failure.http_status != 409:  # with it comes the outcome of each instance, as with 200 and 202
                raise
            content = failure.content
        try:
            found = json.loads(content) or {}
        except ValueError as error:
            raise RemoteProtocolError("the server does not tell what became of what it was sent") from error
        found = found[0] if isinstance(found, list) else found
        if not isinstance(found, dict):
            raise RemoteProtocolError("the server tells what became of it in no DICOM JSON")
        return found

    async def delete(self, study: str, series: str = "", instance: str = "") -> None:
        """Delete a study, a series or an instance.

        Raises:
            WebFailure: the server refuses, or does not have it.
        """
        await self._send("DELETE", path_of(study, series, instance))


async def _body(paths: Sequence[Path], mark: str) -> AsyncIterator[bytes]:
    for path in paths:
        yield f"--{mark}\r\nContent-Type: {_DICOM}\r\n\r\n".encode()
        with open(path, "rb") as file:
            while chunk := file.read(_BLOCK):
                yield chunk
        yield b"\r\n"
    yield f"--{mark}--\r\n".encode()


def _groups(paths: Iterable[Path]) -> Iterable[list[Path]]:
    """As many files as go into one request."""
    group: list[Path] = []
    size = 0
    for path in paths:
        try:
            size += os.path.getsize(path)
        except OSError as error:
            raise cannot_read(error, path) from error
        group.append(path)
        if len(group) == MOST_PARTS or size >= MOST_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _uid_in(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return read_meta(file.read(_HEADER))[0].sop_instance_uid or ""
    except OSError as error:
        raise cannot_read(error, path) from error


def _named(sink: FileSink, directory: Path, head: bytes) -> str:
    """Give a file that is whole its name."""
    uid = read_meta(head)[0].sop_instance_uid or ""
    if not uids.is_valid(uid):
        raise RemoteProtocolError("the server sent an instance without a UID")
    target, number = uid_path(directory, uid), 0
    while True:
        try:
            return sink.commit(target, replace=False)
        except OutputFileError as error:
            if not isinstance(error.__cause__, FileExistsError):
                raise
            number += 1
            target = os.path.join(directory, f"{uid}-{number}.dcm")


def _boundary_of(content_type: str) -> str:
    for piece in content_type.split(";")[1:]:
        name, _, value = piece.partition("=")
        if name.strip().lower() == "boundary":
            return value.strip().strip('"')
    raise BadMultipart(f"the server answered with {content_type[:64] or 'no content type'}, which is no multipart")


def _words(status: int, phrase: str, content: bytes) -> str:
    """What a problem document says."""
    try:
        detail = json.loads(content).get("detail")
    except (ValueError, AttributeError):
        detail = None
    return f"the server answers {status} {phrase}" + (f": {detail}" if isinstance(detail, str) else "")
