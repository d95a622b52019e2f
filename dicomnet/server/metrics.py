"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections import Counter as Counted
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from .. import uids
from ..protocol.exchange import Exchange
from ..protocol.messages import MESSAGES
from .accounting import BOUNDS, Performed
from .clients import ClientRecord

__all__ = ["MOST_TITLES", "Metrics"]

#: Calling AE titles that have series of their own; later ones share "other", lest callers make series without end.
MOST_TITLES = 256

_LABELS = ("ae", "service", "sop_class")
_Labels = tuple[str, str, str]


class Recorder:
    """Counts what one listener performs, in its thread, and so without locks."""

    def __init__(self, title_of: Callable[[str], str]) -> None:
        self._title_of = title_of
        self.cells: dict[_Labels, Performed] = {}

    def cell_of(self, title: str, field: int, uid: str | None) -> Performed:
        """Where a request is counted: there are few, though a caller may think of as many titles and UIDs as it likes.

        Args:
            title: the calling AE title.
            field: the Command Field of the request.
            uid: its SOP class.
        """
        kind, known = MESSAGES.get(field), uids.name_of(uid or "")
        labels = (
            self._title_of(title),
            kind.name if kind is not None else "unknown",
            known if known != (uid or "") else "other",
        )
        cell = self.cells.get(labels)
        if cell is None:
            cell = self.cells[labels] = Performed(labels)
        return cell


class _Collector(Collector):
    """Adds up what all listeners count, when it is asked for."""

    def __init__(self) -> None:
        self.recorders: list[Recorder] = []

    def collect(self) -> Iterator[Metric]:
        """The metrics of operations."""
        operations = CounterMetricFamily(
            "dicomnet_operations", "DIMSE requests performed.", labels=[*_LABELS, "status"]
        )
        received = CounterMetricFamily("dicomnet_received_bytes", "Bytes of data sets received.", labels=_LABELS)
        latency = HistogramMetricFamily("dicomnet_operation_seconds", "How long a request takes.", labels=_LABELS)
        gathered: dict[_Labels, list[Performed]] = {}
        for recorder in self.recorders:
            for labels, cell in list(recorder.cells.items()):
                gathered.setdefault(labels, []).append(cell)
        for labels, cells in gathered.items():
            statuses: Counted[int] = Counted()
            for cell in cells:
                statuses.update(cell.statuses)
            for status, number in statuses.items():
                operations.add_metric([*labels, f"{status:04X}"], number)
            received.add_metric(labels, sum(cell.bytes for cell in cells))
            counts = accumulate(map(sum, zip(*(cell.buckets for cell in cells), strict=True)))
            buckets = list(zip((*map(floatToGoString, BOUNDS), "+Inf"), map(float, counts), strict=True))
            latency.add_metric(labels, buckets, sum(cell.seconds for cell in cells))
        yield from (operations, received, latency)


class Metrics:
    """The metrics of one server, in a registry of its own: several servers may live in a process."""

    def __init__(self) -> None:
        self.registry: CollectorRegistry = CollectorRegistry()
        self._performed = _Collector()
        self.registry.register(self._performed)
        self._associations = self._counter("associations", "Associations accepted.", ["ae"])
        self._refused = self._counter("associations_refused", "Associations rejected.", ["ae", "why"])
        self._contexts = self._counter("contexts_refused", "Presentation contexts refused.", ["ae"])
        self._closed = self._counter("connections_closed", "Connections that ended.", [])
        self._titles: set[str] = set()

    def recorder(self) -> Recorder:
        """For one listener: counts what it performs."""
        recorder = Recorder(self._title)
        self._performed.recorders.append(recorder)
        return recorder

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return Counter(f"dicomnet_{name}", text, labels, registry=self.registry)

    def _title(self, title: str) -> str:
        if title not in self._titles:
            if len(self._titles) >= MOST_TITLES:
                return "other"
            self._titles.add(title)
        return title

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
