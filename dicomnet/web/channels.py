"""Who listens by WebSocket to what happens with work items (PS3.18 Section 11.13)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from contextlib import suppress

from starlette.websockets import WebSocket, WebSocketDisconnect

from .. import uids
from ..repository.workitems import Notice

__all__ = ["Channels"]

log: logging.Logger = logging.getLogger("dicomnet.web")

#: Channels at a time, and notices that may wait in one: who does not read them is let go.
MOST_CHANNELS, MOST_WAITING = 256, 1000
_TRY_LATER, _TOO_SLOW = 1013, 1008

_Queue = asyncio.Queue["str | None"]


class Channels:
    """The open channels, by AE title."""

    def __init__(self) -> None:
        self._queues: dict[str, set[_Queue]] = {}
        self._message = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def publish(self, notices: Iterable[Notice]) -> None:
        """Tell those who listen, from any thread; who does not is not told later."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and with it every channel
                self._loop.call_soon_threadsafe(self._publish, notices)

    def _publish(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            queues = [queue for aet in notice.to for queue in self._queues.get(aet, ())]
            if queues:
                text = self._text(notice)
                for queue in queues:
                    self._put(queue, text)

    def _put(self, queue: _Queue, text: str) -> None:
        if queue.full():
            with suppress(asyncio.QueueEmpty):
                queue.get_nowait()
            queue.put_nowait(None)
        else:
            queue.put_nowait(text)

    def _text(self, notice: Notice) -> str:
        """A notice as N-EVENT-REPORT has it, in DICOM JSON (PS3.18 Section 11.13)."""
        self._message = self._message % 0xFFFF + 1
        command = {
            "00000002": {"vr": "UI", "Value": [uids.UNIFIED_PROCEDURE_STEP_EVENT]},
            "00000110": {"vr": "US", "Value": [self._message]},
            "00001000": {"vr": "UI", "Value": [notice.uid]},
            "00001002": {"vr": "US", "Value": [notice.event]},
        }
        return json.dumps(command | notice.item, ensure_ascii=False, separators=(",", ":"))

    async def serve(self, socket: WebSocket, aet: str) -> None:
        """One channel, until its client leaves or does not keep up."""
        self._loop = asyncio.get_running_loop()
        if sum(map(len, self._queues.values())) >= MOST_CHANNELS:
            await socket.close(_TRY_LATER)
            return
        queue: _Queue = asyncio.Queue(MOST_WAITING)
        self._queues.setdefault(aet, set()).add(queue)
        try:
            await socket.accept()
            leaving = asyncio.create_task(_left(socket))
            try:
                await self._send(socket, queue, leaving)
            finally:
                leaving.cancel()
        finally:
            self._queues[aet].discard(queue)
            if not self._queues[aet]:
                del self._queues[aet]

    async def _send(self, socket: WebSocket, queue: _Queue, leaving: asyncio.Task[None]) -> None:
        while True:
            next_one = asyncio.create_task(queue.get())
            await asyncio.wait({next_one, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                next_one.cancel()
                return
            text = next_one.result()
            try:
                if text is None:
                    log.warning("a channel of work items does not keep up, and is closed")
                    await socket.close(_TOO_SLOW)
                    return
                await socket.send_text(text)
            except (WebSocketDisconnect, RuntimeError):
                return


async def _left(socket: WebSocket) -> None:
    """Until the client leaves; what it says is not listened to."""
    with suppress(WebSocketDisconnect, RuntimeError):
        while True:
            await socket.receive()
            if socket.client_state.name == "DISCONNECTED":
                return
