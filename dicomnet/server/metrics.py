"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .. import uids
from ..protocol.exchange import Exchange
from ..protocol.messages import MESSAGES
from ..wire.command_set import Message
from .clients import ClientRecord

__all__ = ["MOST_TITLES", "Metrics"]

#: Calling AE titles that have series of their own; later ones share "other", lest callers make series without end.
MOST_TITLES = 256
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The metrics of one server, in a registry of its own: several servers may live in a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["ae", "service", "sop_class"]
        self._operations = self._counter("operations", "DIMSE requests performed.", [*labels, "status"])
        self._bytes = self._counter("received_bytes", "Bytes of data sets received.", labels)
        self._seconds = Histogram(
            "dicomnet_operation_seconds", "How long a request takes.", labels, registry=self.registry, buckets=_SECONDS
        )
        self._associations = self._counter("associations", "Associations accepted.", ["ae"])
        self._refused = self._counter("associations_refused", "Associations rejected.", ["ae", "why"])
        self._contexts = self._counter("contexts_refused", "Presentation contexts refused.", ["ae"])
        self._closed = self._counter("connections_closed", "Connections that ended.", [])
        self._titles: set[str] = set()
        self._children: dict[tuple[str, int, str, int], tuple[Counter, Counter, Histogram]] = {}

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return Counter(f"dicomnet_{name}", text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A figure that is read when it is asked for."""
        Gauge(f"dicomnet_{name}", text, registry=self.registry).set_function(read)

    def _title(self, title: str) -> str:
        if title not in self._titles:
            if len(self._titles) >= MOST_TITLES:
                return "other"
            self._titles.add(title)
        return title

    def performed(self, title: str, message: Message, status: int, size: int, seconds: float) -> None:
        """A request was answered."""
        command = message.command
        field, uid = command.command_field or 0, command.affected_sop_class_uid or command.requested_sop_class_uid or ""
        key = self._title(title), field, uid, status
        children = self._children.get(key)
        if children is None:
            kind = MESSAGES.get(field)
            known = uids.name_of(uid)
            labels = (key[0], kind.name if kind is not None else "unknown", known if known != uid else "other")
            children = (
                self._operations.labels(*labels, f"{status:04X}"),
                self._bytes.labels(*labels),
                self._seconds.labels(*labels),
            )
            self._children[key] = children
        operations, received, latency = children
        operations.inc()
        received.inc(size)
        latency.observe(seconds)

    def accepted(self, exchange: Exchange, refused: int) -> None:
        """An association was accepted, with so many contexts refused."""
        title = self._title(exchange.calling)
        self._associations.labels(title).inc()
        if refused:
            self._contexts.labels(title).inc(refused)

    def refused(self, title: str, why: str) -> None:
        """An association was rejected."""
        self._refused.labels(self._title(title), why).inc()

    def connection_closed(self, _: ClientRecord) -> None:
        """A connection ended."""
        self._closed.inc()

    def exposition(self, others: Iterable[CollectorRegistry] = ()) -> bytes:
        """All metrics in Prometheus' text format, those of add-ins after the server's own."""
        return b"".join(generate_latest(registry) for registry in (self.registry, *others))
