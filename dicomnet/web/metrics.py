"""What a web server counts, for Prometheus."""

from __future__ import annotations

import re

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["WebMetrics", "service_of"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
#: What a path below /dicomweb is about, by its first pattern that fits.
_SERVICES = (
    (re.compile(r"/dicomweb/(modality-scheduled|worklist-items)"), "worklist"),
    (re.compile(r"/dicomweb/(modality-performed|performed-steps)"), "mpps"),
    (re.compile(r"/dicomweb/(workitems|subscribers)"), "ups"),
    (re.compile(r"/dicomweb/.*/metadata$"), "metadata"),
    (re.compile(r"/dicomweb/.*/(rendered|thumbnail)$"), "rendered"),
    (re.compile(r"/dicomweb/.*/frames/"), "frames"),
    (re.compile(r"/dicomweb/.*/bulkdata/"), "bulkdata"),
    (re.compile(r"/dicomweb/((studies|series|instances)|.*/(series|instances))/?$"), "search"),
    (re.compile(r"/dicomweb/studies/"), "retrieve"),
    (re.compile(r"/dicomweb/"), "dicomweb"),
    (re.compile(r"/wado$"), "wado"),
    (re.compile(r"/viewer(/|$)"), "viewer"),
    (re.compile(r"/log(in|out)$"), "login"),
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def service_of(method: str, path: str) -> str:
    """The name of what a request is about: one of a few."""
    name = next((name for pattern, name in _SERVICES if pattern.match(path)), "other")
    if method == "POST" and path.startswith("/dicomweb/studies"):
        return "store"
    return "delete" if method == "DELETE" and name in ("search", "retrieve") else name


class WebMetrics:
    """The metrics of one web server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry: CollectorRegistry = CollectorRegistry()
        labels = ["method", "service"]
        self._requests = Counter(
            "dicomnet_web_requests", "Requests answered.", [*labels, "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "dicomnet_web_request_seconds", "How long a request takes.", labels, registry=self.registry,
            buckets=_SECONDS,
        )  # fmt: skip
        self._sent = Counter("dicomnet_web_sent_bytes", "Bytes of bodies sent.", ["service"], registry=self.registry)
        self._logins = Counter("dicomnet_web_logins", "Logins, by outcome.", ["outcome"], registry=self.registry)
        self.under_way: Gauge = Gauge("dicomnet_web_requests_under_way", "Requests under way.", registry=self.registry)

    def answered(self, method: str, path: str, status: int, size: int, seconds: float) -> None:
        """A request was answered; status 0: its client went away before."""
        method, service = (method if method in _METHODS else "other"), service_of(method, path)
        self._requests.labels(method, service, str(status)).inc()
        self._seconds.labels(method, service).observe(seconds)
        self._sent.labels(service).inc(size)

    def login(self, outcome: str) -> None:
        """A login was tried."""
        self._logins.labels(outcome).inc()

    def exposition(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)
