"""Clients of the admin interface, blocking and asyncio, over the Unix socket of a server's directory."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import httpx_sse

from ...errors import ConnectionFailed, DeadlineExceeded, DicomNetError, InvalidArgument
from ..settings import Settings

__all__ = ["AdminError", "AsyncClient", "Client"]

#: Seconds for an answer; a reload may start add-ins.
PATIENCE = 60.0
JSON = dict[str, Any]
_BASE = "http://dicomnet"
_SHARED = "/v1/shared-settings"


class AdminError(DicomNetError):
    """The server declined a request.

    Attributes:
        status: of HTTP: 403 not allowed, 404 not known, 409 in conflict, 422 does not fit.
        problem: the whole problem document.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        detail = str(problem.get("detail", f"the server answered {status}"))
        lines = [f"[{one.get('table')}] {one.get('field')}: {one.get('what')}; expected {one.get('expected')}"
                 if "table" in one else f"{one.get('field')}: {one.get('what')}"
                 for one in problem.get("problems", ())]  # fmt: skip
        super().__init__("; ".join([detail, *lines]), hint=problem.get("hint"))
        self.status = status
        self.problem: dict[str, Any] = dict(problem)


def socket_of(place: str | os.PathLike[str]) -> Path:
    """The admin socket: of a server's directory, or the socket itself."""
    path = Path(place)
    if not path.is_dir():
        return path
    return Settings.load(path).admin.socket


def _checked(response: httpx.Response) -> JSON:
    if response.status_code == 204:
        return {}
    try:
        answer = response.json()
    except ValueError as error:
        raise AdminError(response.status_code, {"detail": "the answer is not JSON"}) from error
    if response.status_code >= 400 and not (response.status_code == 503 and "checks" in answer):
        raise AdminError(response.status_code, answer)
    return dict(answer)


def _failure(error: httpx.TransportError, path: Path, patience: float = PATIENCE) -> DicomNetError:
    if isinstance(error, httpx.TimeoutException):
        return DeadlineExceeded("admin", patience, f"the server at {path} does not answer")
    return ConnectionFailed(f"no server answers at {path}: {error}", hint="Does it run? `dicomnet server list` shows.")


def _event(one: httpx_sse.ServerSentEvent) -> JSON:
    return dict(json.loads(one.data))


def _query(after: int | None, types: tuple[str, ...]) -> dict[str, str]:
    query = {} if after is None else {"after": str(after)}
    return query | ({"types": ",".join(types)} if types else {})


def _title(title: str) -> str:
    if not title:
        raise InvalidArgument("an AE title is needed")
    return f"/v1/ae-titles/{quote(title, safe='')}"


def _message(name: str, data: Mapping[str, Any], service: str) -> JSON:
    return {"message": name, "service": service, "data": dict(data)}


def _answer(envelope: JSON) -> Any:
    if not envelope["success"]:
        raise AdminError(422, {"detail": envelope["error"]})
    return envelope["data"]


class Client:
    """A blocking client; safe to use from several threads.

    Args:
        place: a server's directory, or its admin socket.

    Raises:
        AdminError: from every method: the server declined.
        ConnectionFailed: from every method: no server answers.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.path: Path = socket_of(place)
        self._http = self._new()

    def _new(self, *, stream: bool = False) -> httpx.Client:
        timeout = httpx.Timeout(PATIENCE, read=None) if stream else httpx.Timeout(PATIENCE)
        return httpx.Client(transport=httpx.HTTPTransport(uds=str(self.path)), base_url=_BASE, timeout=timeout)

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> JSON:
        """Any request; the members of its answer."""
        try:
            return _checked(self._http.request(method, path, json=body))
        except httpx.TransportError as error:
            raise _failure(error, self.path) from error

    def status(self) -> JSON:
        """The server at a glance."""
        return self.request("GET", "/v1/status")

    def snapshot(self) -> JSON:
        """State, and the id of the latest event in it."""
        return self.request("GET", "/v1/snapshot")

    def nodes(self) -> list[JSON]:
        """All nodes of one archive, and how each is; one that has not been heard of is not ``alive``."""
        return list(self.request("GET", "/v1/nodes")["nodes"])

    def clients(self) -> list[JSON]:
        """Who is connected."""
        return list(self.request("GET", "/v1/clients")["clients"])

    def disconnect(self, number: str) -> None:
        """Abort an association, by its id."""
        self.request("DELETE", f"/v1/clients/{quote(number, safe='')}")

    def shared_settings(self, number: int | None = None) -> JSON:
        """The settings of all nodes of one archive: the latest snapshot, or one by its number."""
        return self.request("GET", _SHARED if number is None else f"{_SHARED}/{number}")

    def shared_history(self) -> list[JSON]:
        """Who changed them, and when, the latest first."""
        return list(self.request("GET", f"{_SHARED}/history")["snapshots"])

    def change_shared(
        self, values: Mapping[str, Any], unset: Iterable[str] = (), *, after: int | None = None, on_behalf_of: str = ""
    ) -> JSON:
        """Set some of them by key, and unset others; ``after`` is the number that the latest snapshot has to have."""
        body = {"set": dict(values), "unset": list(unset), "after": after, "on_behalf_of": on_behalf_of}
        return self.request("PATCH", _SHARED, body)

    def revert_shared(self, number: int, *, after: int | None = None, on_behalf_of: str = "") -> JSON:
        """Have an earlier snapshot again, as a new one."""
        return self.request("POST", f"{_SHARED}/{number}/revert", {"after": after, "on_behalf_of": on_behalf_of})

    def ae_titles(self) -> list[JSON]:
        """The AE titles that are known."""
        return list(self.request("GET", "/v1/ae-titles")["ae_titles"])

    def ae_title(self, title: str) -> JSON:
        """One that is known, by its title or an alias."""
        return self.request("GET", _title(title))

    def add_ae(self, title: str, **fields: Any) -> JSON:
        """Add an AE title."""
        return self.request("POST", "/v1/ae-titles", {"title": title, **fields})

    def update_ae(self, old: str, title: str, **fields: Any) -> JSON:
        """Put an entry in place of another, with another title if it has one."""
        return self.request("PUT", _title(old), {"title": title, **fields})

    def remove_ae(self, title: str) -> None:
        """Remove an AE title."""
        self.request("DELETE", _title(title))

    def echo(self, title: str) -> JSON:
        """C-ECHO from the server to an AE."""
        return self.request("POST", f"{_title(title)}/echo")

    def addins(self) -> JSON:
        """The add-ins, and what each implements."""
        return self.request("GET", "/v1/addins")

    def resume_addin(self, name: str) -> JSON:
        """Let a suspended add-in serve again."""
        return self.request("POST", f"/v1/addins/{quote(name, safe='')}/resume")

    def pause(self) -> JSON:
        """Take no new association."""
        return self.request("POST", "/v1/pause")

    def resume(self) -> JSON:
        """Take associations again."""
        return self.request("POST", "/v1/resume")

    def reload(self) -> JSON:
        """Read the settings again: what changed, and what waits for a restart."""
        return self.request("POST", "/v1/reload")

    def stop(self, drain: float | None = None) -> JSON:
        """Stop the server."""
        return self.request("POST", "/v1/stop", {"drain": drain})

    def health(self) -> JSON:
        """Whether the server is ready, and what is not."""
        return self.request("GET", "/v1/health/ready")

    def metrics(self) -> str:
        """The metrics, in Prometheus' text format."""
        try:
            return self._http.get("/metrics").text
        except httpx.TransportError as error:
            raise _failure(error, self.path) from error

    def conformance(self) -> JSON:
        """The conformance statement of what runs."""
        return self.request("GET", "/v1/conformance")

    def send(self, message: str, data: Mapping[str, Any] | None = None, *, service: str = "") -> Any:
        """A message of the classic interface, or of an add-in; the data of its answer."""
        return _answer(self.request("POST", "/v1/messages", _message(message, data or {}, service)))

    def events(self, after: int | None = None, *types: str) -> Iterator[JSON]:
        """The events after an id, and each as it happens; on a connection of its own, until the server stops."""
        with self._new(stream=True) as http:
            try:
                with httpx_sse.connect_sse(http, "GET", "/v1/events", params=_query(after, types)) as source:
                    if source.response.status_code != 200:
                        source.response.read()
                        _checked(source.response)
                    for one in source.iter_sse():
                        if one.data:
                            yield _event(one)
            except httpx.TransportError as error:
                raise _failure(error, self.path) from error

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient:
    """The same for asyncio; see `Client`."""

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.path: Path = socket_of(place)
        self._http = self._new()

    def _new(self, *, stream: bool = False) -> httpx.AsyncClient:
        timeout = httpx.Timeout(PATIENCE, read=None) if stream else httpx.Timeout(PATIENCE)
        transport = httpx.AsyncHTTPTransport(uds=str(self.path))
        return httpx.AsyncClient(transport=transport, base_url=_BASE, timeout=timeout)

    async def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, patience: float = PATIENCE
    ) -> JSON:
        """Any request; the members of its answer, which may take so many seconds."""
        try:
            return _checked(await self._http.request(method, path, json=body, timeout=httpx.Timeout(patience)))
        except httpx.TransportError as error:
            raise _failure(error, self.path, patience) from error

    async def status(self) -> JSON:
        """The server at a glance."""
        return await self.request("GET", "/v1/status")

    async def snapshot(self) -> JSON:
        """State, and the id of the latest event in it."""
        return await self.request("GET", "/v1/snapshot")

    async def nodes(self) -> list[JSON]:
        """All nodes of one archive, and how each is; one that has not been heard of is not ``alive``."""
        return list((await self.request("GET", "/v1/nodes"))["nodes"])

    async def clients(self) -> list[JSON]:
        """Who is connected."""
        return list((await self.request("GET", "/v1/clients"))["clients"])

    async def disconnect(self, number: str) -> None:
        """Abort an association, by its id."""
        await self.request("DELETE", f"/v1/clients/{quote(number, safe='')}")

    async def shared_settings(self, number: int | None = None) -> JSON:
        """The settings of all nodes of one archive: the latest snapshot, or one by its number."""
        return await self.request("GET", _SHARED if number is None else f"{_SHARED}/{number}")

    async def shared_history(self) -> list[JSON]:
        """Who changed them, and when, the latest first."""
        return list((await self.request("GET", f"{_SHARED}/history"))["snapshots"])

    async def change_shared(
        self, values: Mapping[str, Any], unset: Iterable[str] = (), *, after: int | None = None, on_behalf_of: str = ""
    ) -> JSON:
        """Set some of them by key, and unset others; ``after`` is the number that the latest snapshot has to have."""
        body = {"set": dict(values), "unset": list(unset), "after": after, "on_behalf_of": on_behalf_of}
        return await self.request("PATCH", _SHARED, body)

    async def revert_shared(self, number: int, *, after: int | None = None, on_behalf_of: str = "") -> JSON:
        """Have an earlier snapshot again, as a new one."""
        return await self.request("POST", f"{_SHARED}/{number}/revert", {"after": after, "on_behalf_of": on_behalf_of})

    async def ae_titles(self) -> list[JSON]:
        """The AE titles that are known."""
        return list((await self.request("GET", "/v1/ae-titles"))["ae_titles"])

    async def ae_title(self, title: str) -> JSON:
        """One that is known, by its title or an alias."""
        return await self.request("GET", _title(title))

    async def add_ae(self, title: str, **fields: Any) -> JSON:
        """Add an AE title."""
        return await self.request("POST", "/v1/ae-titles", {"title": title, **fields})

    async def update_ae(self, old: str, title: str, **fields: Any) -> JSON:
        """Put an entry in place of another, with another title if it has one."""
        return await self.request("PUT", _title(old), {"title": title, **fields})

    async def remove_ae(self, title: str) -> None:
        """Remove an AE title."""
        await self.request("DELETE", _title(title))

    async def echo(self, title: str) -> JSON:
        """C-ECHO from the server to an AE."""
        return await self.request("POST", f"{_title(title)}/echo")

    async def addins(self) -> JSON:
        """The add-ins, and what each implements."""
        return await self.request("GET", "/v1/addins")

    async def resume_addin(self, name: str) -> JSON:
        """Let a suspended add-in serve again."""
        return await self.request("POST", f"/v1/addins/{quote(name, safe='')}/resume")

    async def pause(self) -> JSON:
        """Take no new association."""
        return await self.request("POST", "/v1/pause")

    async def resume(self) -> JSON:
        """Take associations again."""
        return await self.request("POST", "/v1/resume")

    async def reload(self) -> JSON:
        """Read the settings again: what changed, and what waits for a restart."""
        return await self.request("POST", "/v1/reload")

    async def stop(self, drain: float | None = None) -> JSON:
        """Stop the server."""
        return await self.request("POST", "/v1/stop", {"drain": drain})

    async def health(self) -> JSON:
        """Whether the server is ready, and what is not."""
        return await self.request("GET", "/v1/health/ready")

    async def metrics(self) -> str:
        """The metrics, in Prometheus' text format."""
        try:
            return (await self._http.get("/metrics")).text
        except httpx.TransportError as error:
            raise _failure(error, self.path) from error

    async def conformance(self) -> JSON:
        """The conformance statement of what runs."""
        return await self.request("GET", "/v1/conformance")

    async def send(
        self, message: str, data: Mapping[str, Any] | None = None, *, service: str = "", patience: float = PATIENCE
    ) -> Any:
        """A message of the classic interface, or of an add-in; the data of its answer, as `request` waits for it."""
        body = _message(message, data or {}, service)
        return _answer(await self.request("POST", "/v1/messages", body, patience=patience))

    async def events(self, after: int | None = None, *types: str) -> AsyncIterator[JSON]:
        """The events after an id, and each as it happens; on a connection of its own, until the server stops."""
        async with self._new(stream=True) as http:
            try:
                async with httpx_sse.aconnect_sse(http, "GET", "/v1/events", params=_query(after, types)) as source:
                    if source.response.status_code != 200:
                        await source.response.aread()
                        _checked(source.response)
                    async for one in source.aiter_sse():
                        if one.data:
                            yield _event(one)
            except httpx.TransportError as error:
                raise _failure(error, self.path) from error

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
