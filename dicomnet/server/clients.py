"""Who is connected: one record for each association, and the events of its life."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from .. import uids
from ..protocol.exchange import Exchange
from ..protocol.messages import name_of
from .accounting import Account, Performed
from .ae_titles import NotKnown
from .events import EventLog

__all__ = ["ClientRecord", "Clients"]


class ClientRecord(Account):
    """One connection, and the association on it; its `Account` says what it asked for.

    Args:
        number: of the association, as people disconnect it.
        address: where the peer connected from, ``host:port``.
        exchange: its protocol.
        end: aborts it; from any thread.
        notes, cell_of: see `Account`.

    Attributes:
        since: when it connected, seconds since the epoch; ``began`` by the monotonic clock.
        owners: the add-ins whose services it was offered, and keeps.
    """

    __slots__ = ("address", "associated", "began", "end", "exchange", "owners", "since")

    def __init__(
        self,
        number: str,
        address: str,
        exchange: Exchange,
        end: Callable[[], object],
        notes: EventLog,
        cell_of: Callable[[str, int, str | None], Performed],
    ) -> None:
        self.began: float = time.monotonic()
        super().__init__(number, self.began, notes, cell_of)
        self.address: str = address
        self.exchange: Exchange = exchange
        self.end: Callable[[], object] = end
        self.since: float = time.time()
        self.associated: bool = False
        self.owners: frozenset[str] = frozenset()

    def brief(self) -> dict[str, Any]:
        """Who it is."""
        return {
            "id": self.id,
            "address": self.address,
            "calling": self.exchange.calling,
            "called": self.exchange.called,
        }

    def as_json(self, now: float) -> dict[str, Any]:
        """All there is to know; ``now`` in monotonic seconds."""
        tls, user = self.exchange.tls, self.exchange.user
        contexts = self.exchange.contexts if self.associated else {}
        return {
            **self.brief(),
            "associated": self.associated,
            "since": self.since,
            "age": now - self.began,
            "tls": None if tls is None else {"version": tls.version, "cipher": tls.cipher, "subject": tls.subject},
            "user": None if user is None else user.name,
            "contexts": [
                {
                    "id": one.id,
                    "abstract_syntax": one.abstract_syntax,
                    "name": uids.name_of(one.abstract_syntax),
                    "transfer_syntax": one.transfer_syntax if one.accepted else None,
                    "accepted": one.accepted,
                }
                for one in contexts.values()
            ],
            "messages": self.messages,
            "bytes": self.received,
            "last_action": None if self.command is None else name_of(self.command),
            "last_status": f"{self.status:04X}" if self.messages else None,
            "message_age": now - began if (began := self.under_way) else None,
        }


class Clients:
    """The connections of a server.

    Args:
        events: where their lives are told.
        prefix: of the ids, which tells one worker's from another's.
    """

    def __init__(self, events: EventLog, prefix: str = "") -> None:
        self._events = events
        self._prefix = prefix
        self._numbers = count(1)
        self._records: dict[str, ClientRecord] = {}
        self._condition = threading.Condition()

    def __iter__(self) -> Iterator[ClientRecord]:
        return iter(tuple(self._records.values()))

    def __len__(self) -> int:
        return len(self._records)

    @property
    def associated(self) -> int:
        """How many associations there are."""
        return sum(one.associated for one in self)

    def changed(self) -> None:
        """Have `quiesce` look again."""
        with self._condition:
            self._condition.notify_all()

    def quiesce(self, deadline: Callable[[], float], quiet: float) -> None:
        """Wait until all are gone, ending those that are idle.

        Args:
            deadline: until when, in monotonic seconds; it may come nearer while this waits.
            quiet: seconds without a message after which one is idle.
        """
        unlisten = self._events.listen(lambda _: self.changed(), "client.action")
        try:
            with self._condition:
                while self._records and (left := deadline() - time.monotonic()) > 0:
                    now = time.monotonic()
                    idle_from = [one.latest for one in self if not one.under_way]
                    for one in self:
                        if not one.under_way and now - one.latest >= quiet:
                            one.end()
                    due = min((max(since + quiet - now, 0.05) for since in idle_from), default=left)
                    self._condition.wait(min(left, due))
        finally:
            unlisten()

    def uses(self, owner: str) -> bool:
        """Whether there is an association that was offered what an add-in performs."""
        return any(owner in one.owners for one in self)

    def wait_unused(self, owner: str, patience: float) -> bool:
        """Wait until there is none, for so many seconds."""
        with self._condition:
            return self._condition.wait_for(lambda: not self.uses(owner), patience)

    def get(self, number: str) -> ClientRecord:
        """The record of an association id.

        Raises:
            NotKnown: there is none; it may be over.
        """
        try:
            return self._records[number]
        except KeyError as error:
            raise NotKnown(
                f'there is no association "{number[:32]}"', hint="`dicomnet server clients` lists them."
            ) from error

    def connected(
        self,
        exchange: Exchange,
        address: str,
        end: Callable[[], object],
        cell_of: Callable[[str, int, str | None], Performed],
    ) -> ClientRecord:
        """A connection begins; it is told of once it asks for an association, so that scanners stay quiet."""
        number = f"{self._prefix}{next(self._numbers)}"
        record = ClientRecord(number, address, exchange, end, self._events, cell_of)
        self._records[number] = record
        return record

    def accepted(self, record: ClientRecord) -> None:
        """Its association is accepted."""
        with self._events.lock:
            record.associated, record.calling = True, record.exchange.calling
            accepted = [one.abstract_syntax for one in record.exchange.contexts.values() if one.accepted]
            self._events.publish("client.connected", record.brief())
            self._events.publish("client.associated", {**record.brief(), "contexts": accepted})

    def disconnected(self, record: ClientRecord) -> None:
        """The connection is over."""
        with self._events.lock:
            self._records.pop(record.id, None)
            self.changed()
            if record.associated:
                data = {**record.brief(), "messages": record.messages, "bytes": record.received}
                self._events.publish("client.disconnected", data)
