"""The base service `requests`: DICOM requests to known AEs, over pooled associations, by each one's profile."""

from __future__ import annotations

import threading

from ..client import Client
from ..client.retry import Retry
from ..errors import InvalidArgument
from ..status import Status
from .ae_entry import AEEntry, key_of
from .base import AEDirectory, Security

__all__ = ["PooledRequests"]

_FIRST_PAUSE = 0.5  # seconds before a refused connection is tried again


class PooledRequests:
    """A client for each destination, kept while its entry, and `reconnect`, stay as they are.

    Args:
        calling: our AE title.
        titles: who is known.
        security: how connections are secured.
        reconnect: seconds for which a refused connection is tried again.
    """

    def __init__(self, calling: str, titles: AEDirectory, security: Security, reconnect: float) -> None:
        self._calling = calling
        self._titles = titles
        self._security = security
        self.reconnect = reconnect
        self._lock = threading.Lock()
        self._clients: dict[str, tuple[AEEntry, float, Client]] = {}

    def client(self, title: str) -> Client:
        """The client of a known AE title; see `base.Requests`."""
        entry = self._titles.find(title)
        if entry is None:
            raise InvalidArgument(f'the AE title "{title}" is not known', hint="`dicomnet server ae add` adds it.")
        if entry.entity is None:
            raise InvalidArgument(f"the AE title {entry.title} has no host and port to connect to")
        with self._lock:
            kept = self._clients.get(key_of(entry.title))
            if kept is not None and kept[:2] == (entry, self.reconnect):
                return kept[2]
            client = Client(
                entry.profile(), calling=self._calling, tls=self._security.destination(entry), retry=self._retry()
            )
            self._clients[key_of(entry.title)] = entry, self.reconnect, client
        if kept is not None:
            kept[2].close()
        return client

    def _retry(self) -> Retry:
        attempts, waited, pause = 1, 0.0, _FIRST_PAUSE
        while waited + pause <= self.reconnect:
            attempts, waited, pause = attempts + 1, waited + pause, pause * 2
        return Retry(attempts=attempts, first=_FIRST_PAUSE)

    def echo(self, title: str) -> Status:
        """C-ECHO; the destination's answer."""
        status: Status = self.client(title).echo()
        return status

    def close(self) -> None:
        """Release all associations."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for _, _, client in clients.values():
            client.close()
