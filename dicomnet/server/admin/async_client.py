"""Asynchronous client of the admin interface, over the Unix socket of a server's directory."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx
import httpx_sse

from .answers import JSON, PATIENCE, checked, data_of, event_of, failure, message_of, query_of, socket_of, title_path

__all__ = ["AsyncClient"]

_BASE = "http://dicomnet"
_SHARED = "/v1/shared-settings"


class AsyncClient:
    """Asynchronous client of a server; safe to use from several tasks.

    Args:
        place: a server's directory, or its admin socket.

    Raises:
        AdminError: from every method: the server declined.
        ConnectionFailed: from every method: no server answers.
    """

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
            return checked(await self._http.request(method, path, json=body, timeout=httpx.Timeout(patience)))
        except httpx.TransportError as error:
            raise failure(error, self.path, patience) from error

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
        return await self.request("GET", title_path(title))

    async def add_ae(self, title: str, **fields: Any) -> JSON:
        """Add an AE title."""
        return await self.request("POST", "/v1/ae-titles", {"title": title, **fields})

    async def update_ae(self, old: str, title: str, **fields: Any) -> JSON:
        """Put an entry in place of another, with another title if it has one."""
        return await self.request("PUT", title_path(old), {"title": title, **fields})

    async def remove_ae(self, title: str) -> None:
        """Remove an AE title."""
        await self.request("DELETE", title_path(title))

    async def echo(self, title: str) -> JSON:
        """C-ECHO from the server to an AE."""
        return await self.request("POST", f"{title_path(title)}/echo")

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
            raise failure(error, self.path) from error

    async def conformance(self) -> JSON:
        """The conformance statement of what runs."""
        return await self.request("GET", "/v1/conformance")

    async def send(
        self, message: str, data: Mapping[str, Any] | None = None, *, service: str = "", patience: float = PATIENCE
    ) -> Any:
        """A message of the classic interface, or of an add-in; the data of its answer, as `request` waits for it."""
        body = message_of(message, data or {}, service)
        return data_of(await self.request("POST", "/v1/messages", body, patience=patience))

    async def events(self, after: int | None = None, *types: str) -> AsyncIterator[JSON]:
        """The events after an id, and each as it happens; on a connection of its own, until the server stops."""
        async with self._new(stream=True) as http:
            try:
                async with httpx_sse.aconnect_sse(http, "GET", "/v1/events", params=query_of(after, types)) as source:
                    if source.response.status_code != 200:
                        await source.response.aread()
                        checked(source.response)
                    async for one in source.aiter_sse():
                        if one.data:
                            yield event_of(one)
            except httpx.TransportError as error:
                raise failure(error, self.path) from error

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
