"""The add-in `webhook`: posts the server's events to a URL, signed, and again until they are taken.

::

    [addin.webhook]
    url = "https://example.org/dicom-events"
    secret = "…"
    types = ["client", "storage-folder"]

Each request has the header ``X-Dicomnet-Signature: sha256=HEX``: the HMAC of its body with the secret. Events go out in
their order; one that the receiver does not take (no answer with 2xx) is tried again with growing pauses, and those
behind it wait, in a bounded queue on disk.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import sqlite3
import threading
from typing import Annotated

import httpx
from prometheus_client import CollectorRegistry, Gauge
from pydantic import Field, SecretStr

from ..context import AddInContext
from ..events import Event
from ..hookspecs import hookimpl
from ..settings import Seconds, Table

__all__ = ["Webhook", "signature"]


def signature(secret: str, body: bytes) -> str:
    """The value of the header ``X-Dicomnet-Signature``."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


class Webhook:
    """Posts the server's events to a URL, signed, until they are taken."""

    class Settings(Table):
        """``[addin.webhook]``."""

        url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
        """Where events are posted."""
        secret: SecretStr
        """The key of the signature."""
        types: tuple[str, ...] = ("client.associated", "client.disconnected")
        """The types of events that are posted; "client" takes all that begin with it."""
        timeout: Seconds = 10
        """Seconds for an answer."""
        first_pause: Seconds = 1
        """Seconds before the second attempt; each further pause is twice as long."""
        longest_pause: Seconds = 300
        """No pause is longer."""
        most: Annotated[int, Field(ge=1)] = 10_000
        """Events that may wait; past it the oldest are dropped, and counted."""

    @hookimpl
    def start(self, context: AddInContext) -> None:
        """Open the queue, and begin to post."""
        self.settings: Webhook.Settings = context.settings
        self.log: logging.Logger = context.log
        self.dropped: int = 0
        self._changed = threading.Condition()
        self._stopped = False
        self._queue = sqlite3.connect(context.data / "queue.sqlite", isolation_level=None, check_same_thread=False)
        self._queue.execute("PRAGMA journal_mode = WAL")
        self._queue.execute("CREATE TABLE IF NOT EXISTS waiting (id INTEGER PRIMARY KEY, body BLOB)")
        self._end = context.listen(self._put)
        self._thread = threading.Thread(target=self._run, name="dicomnet-webhook", daemon=True)
        self._thread.start()

    @hookimpl
    def metrics(self, registry: CollectorRegistry) -> None:
        """How many wait, and how many were dropped."""
        waiting = Gauge("dicomnet_webhook_waiting", "Events that wait.", registry=registry)
        waiting.set_function(lambda: self.waiting)
        dropped = Gauge("dicomnet_webhook_dropped", "Events that were dropped.", registry=registry)
        dropped.set_function(lambda: self.dropped)

    @property
    def waiting(self) -> int:
        """How many events are still to be posted."""
        with self._changed:
            return int(self._queue.execute("SELECT count(*) FROM waiting").fetchone()[0])

    def _put(self, event: Event) -> None:
        """An event happened."""
        if not any(event.type == one or event.type.startswith(f"{one}.") for one in self.settings.types):
            return
        body = json.dumps(event.as_json()).encode()
        with self._changed:
            self._queue.execute("INSERT OR REPLACE INTO waiting VALUES (?, ?)", (event.id, body))
            gone = self._queue.execute(
                "DELETE FROM waiting WHERE id <= (SELECT id FROM waiting ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (self.settings.most,),
            )
            self.dropped += gone.rowcount
            self._changed.notify()

    def _run(self) -> None:
        pause = self.settings.first_pause
        with httpx.Client(timeout=self.settings.timeout) as http:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped or self._first() is not None)
                    first = self._first()
                    if self._stopped or first is None:
                        return
                if self._post(http, *first):
                    pause = self.settings.first_pause
                    continue
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped, pause)
                pause = min(pause * 2, self.settings.longest_pause)

    def _first(self) -> tuple[int, bytes] | None:
        row: tuple[int, bytes] | None = self._queue.execute("SELECT id, body FROM waiting ORDER BY id").fetchone()
        return row

    def _post(self, http: httpx.Client, number: int, body: bytes) -> bool:
        secret = self.settings.secret.get_secret_value()
        headers = {"Content-Type": "application/json", "X-Dicomnet-Signature": signature(secret, body)}
        try:
            answer = http.post(self.settings.url, content=body, headers=headers)
        except httpx.HTTPError as error:
            self.log.warning("the webhook does not answer: %s", type(error).__name__)
            return False
        if not answer.is_success:
            self.log.warning("the webhook answered %s", answer.status_code)
            return False
        with self._changed:
            self._queue.execute("DELETE FROM waiting WHERE id = ?", (number,))
        return True

    @hookimpl
    def stop(self) -> None:
        """End; what waits is posted after the next start."""
        self._end()
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(self.settings.timeout + 1)
        self._queue.close()
