"""What idling and stopping cost where HTTP is served."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from dicomnet.server import http_serving
from dicomnet.server.http_serving import HttpServing


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _get(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


def test_an_idle_server_looks_at_nothing_until_the_date_is_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    ticked = http_serving._Uvicorn.on_tick

    async def on_tick(self: Any, counter: int) -> bool:
        looks.append(counter)
        return await ticked(self, counter)

    monkeypatch.setattr(http_serving._Uvicorn, "on_tick", on_tick)
    monkeypatch.setattr(http_serving, "_DATE", 3600.0)

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            serving = HttpServing(_hello)
            await serving.start([listening])
            answer = await _get(listening.getsockname()[1])
            assert answer.startswith(b"HTTP/1.1 204")
            assert b"\r\ndate: " in answer
            await asyncio.wait_for(serving.stop(), 30)  # it does not wait for the next look

    asyncio.run(run())
    assert looks == [0, 0]  # as it begins, and as it ends
