"""Figures of a server for Prometheus that are read when they are asked for: how it is, and how its add-ins are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from .addins import AddIns
from .clients import Clients
from .server_log import ServerLog
from .spies import Spies

__all__ = ["Figures"]


class Measured(Protocol):
    """A server, as far as it is measured."""

    addins: AddIns
    clients: Clients
    spies: Spies
    log: ServerLog
    state: str


class Figures:
    """What is read from a server."""

    def __init__(self, server: Measured) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        """All figures, at this moment."""
        server = self._server
        yield GaugeMetricFamily("dicomnet_up", "Whether associations are taken.", float(server.state == "running"))
        yield GaugeMetricFamily("dicomnet_associations_open", "Associations now.", server.clients.associated)
        yield GaugeMetricFamily(
            "dicomnet_handlers_late", "Handlers that run past their deadline.", server.addins.abandoned
        )
        yield CounterMetricFamily("dicomnet_log_lost", "Log records that could not be written.", server.log.lost)
        calls = CounterMetricFamily("dicomnet_addin_calls", "Calls of handlers.", labels=["addin"])
        failures = CounterMetricFamily("dicomnet_addin_failures", "Handlers that failed.", labels=["addin"])
        suspended = GaugeMetricFamily("dicomnet_addin_suspended", "Whether it is suspended.", labels=["addin"])
        for addin in server.addins:
            calls.add_metric([addin.name], addin.guard.calls)
            failures.add_metric([addin.name], addin.guard.failures)
            suspended.add_metric([addin.name], float(bool(addin.guard.suspended)))
        dropped = CounterMetricFamily("dicomnet_spy_dropped", "What spies had no time for.", labels=["addin"])
        for name, number in server.spies.dropped.items():
            dropped.add_metric([name], number)
        yield from (calls, failures, suspended, dropped)
