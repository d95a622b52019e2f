"""What the workers of a server have together: their clients, add-ins, metrics and messages, as of one server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from .ae_titles import NotKnown
from .base import MOST_WHO
from .discovery import Found
from .messages import AdminMessage, MessageRegistry
from .worker_process import WorkerProcess

__all__ = ["FleetAddIns", "FleetClients", "FleetMessages", "FleetMetrics", "FleetSettings"]

Workers = Sequence[WorkerProcess]


@dataclass(frozen=True, slots=True)
class FleetClient:
    """A client of one of the workers, as that describes it."""

    described: Mapping[str, Any]

    @property
    def associated(self) -> bool:
        """Whether it has an association."""
        return bool(self.described["associated"])

    def brief(self) -> dict[str, Any]:
        """Who it is."""
        return {name: self.described[name] for name in ("id", "address", "calling", "called")}

    def as_json(self, now: float) -> dict[str, Any]:
        """All there is to know."""
        return dict(self.described)


class FleetClients:
    """The clients of all workers."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def __iter__(self) -> Iterator[FleetClient]:
        for worker in self._workers:
            for one in worker.ask("GET", "/v1/clients").get("clients", ()):
                yield FleetClient(one)

    def worker_of(self, number: str) -> WorkerProcess:
        """The worker of an association id.

        Raises:
            NotKnown: there is none.
        """
        prefix = number.partition("-")[0]
        for worker in self._workers:
            if str(worker.number) == prefix:
                return worker
        raise NotKnown(f'there is no association "{number[:32]}"', hint="`dicomnet server clients` lists them.")


class FleetAddIn:
    """An add-in that runs in every worker."""

    def __init__(self, found: Found, workers: Workers) -> None:
        self.found = found
        self.name: str = found.name
        self._workers = workers

    def as_json(self) -> dict[str, Any]:
        """What the workers say of it: sums, and why it is suspended in any."""
        said = [one for worker in self._workers for one in worker.ask("GET", "/v1/addins").get("addins", ())]
        mine = [one for one in said if one["name"] == self.name]
        reasons = [one["suspended"] for one in mine if one["suspended"]]
        return {
            "name": self.name,
            "place": self.found.place,
            "description": self.found.description,
            "hooks": sorted(self.found.hooks()),
            "services": mine[0]["services"] if mine else [],
            "calls": sum(one["calls"] for one in mine),
            "failures": sum(one["failures"] for one in mine),
            "suspended": reasons[0] if reasons else None,
        }


class FleetAddIns:
    """The add-ins of a server with workers; what is loaded here describes them, and does not run."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.found: tuple[Found, ...] = ()
        self.metrics: dict[str, CollectorRegistry] = {}

    def __iter__(self) -> Iterator[FleetAddIn]:
        return (FleetAddIn(found, self._workers) for found in self.found)

    @property
    def broken(self) -> dict[str, str]:
        """Optional add-ins that do not run, and why."""
        said = (worker.ask("GET", "/v1/addins").get("broken", {}) for worker in self._workers)
        return {name: why for one in said for name, why in one.items()}

    def get(self, name: str) -> FleetAddIn | None:
        """The add-in of a name."""
        return next((one for one in self if one.name == name), None)

    def resume(self, addin: FleetAddIn) -> None:
        """Let a suspended add-in serve again, in every worker."""
        for worker in self._workers:
            worker.ask("POST", f"/v1/addins/{addin.name}/resume")


class FleetMetrics:
    """The metrics of all workers, added up."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Each metric with the sums of its samples."""
        families: dict[str, Metric] = {}
        sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
        for worker in self._workers:
            for family in text_string_to_metric_families(worker.metrics()):
                families.setdefault(family.name, family)
                mine = sums.setdefault(family.name, {})
                for sample in family.samples:
                    key = sample.name, tuple(sample.labels.items())
                    mine[key] = mine.get(key, 0.0) + sample.value
        for name, family in families.items():
            metric = Metric(name, family.documentation, family.type)
            for (sample_name, labels), value in sums[name].items():
                if not sample_name.endswith("_created"):  # a time, of which there is no sum
                    metric.add_sample(sample_name, dict(labels), value)
            yield metric

    def exposition(self, others: Iterable[CollectorRegistry] = ()) -> bytes:
        """All metrics in Prometheus' text format."""
        return b"".join(generate_latest(registry) for registry in (self._registry, *others))


class FleetMessages(MessageRegistry):
    """The messages of the server, and those of add-ins, which the first worker answers."""

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self._workers = workers

    def _theirs(self) -> dict[str, AdminMessage]:
        worker = self._workers[0]
        said = worker.ask("GET", "/v1/messages").get("messages", ())
        return {
            one["name"]: AdminMessage(one["name"], _asked(worker, one["name"]), one["role"], owner=one["service"])
            for one in said
            if one["service"]
        }

    def get(self, name: str) -> AdminMessage:
        """The message of a name; see `MessageRegistry.get`."""
        try:
            return super().get(name)
        except NotKnown:
            found = self._theirs().get(name)
            if found is None:
                raise
            return found

    def __iter__(self) -> Iterator[AdminMessage]:
        yield from super().__iter__()
        yield from self._theirs().values()


class FleetSettings:
    """`base.SharedSettings` of the workers, as the first of them says."""

    tables: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._workers[0].client.request(method, f"/v1/shared-settings{path}", body)

    def show(self, number: int | None = None) -> dict[str, Any]:
        """See `base.SharedSettings`."""
        return self._ask("GET", "" if number is None else f"/{number}")

    def history(self, most: int) -> list[dict[str, Any]]:
        """See `base.SharedSettings`."""
        return list(self._ask("GET", "/history")["snapshots"])[:most]

    def change(
        self, values: Mapping[str, Any], unset: Sequence[str], who: str, *, after: int | None = None
    ) -> dict[str, Any]:
        """See `base.SharedSettings`."""
        body = {"set": values, "unset": list(unset), "on_behalf_of": who[:MOST_WHO], "after": after}
        return self._ask("PATCH", "", body)

    def revert(self, number: int, who: str, *, after: int | None = None) -> dict[str, Any]:
        """See `base.SharedSettings`."""
        return self._ask("POST", f"/{number}/revert", {"on_behalf_of": who[:MOST_WHO], "after": after})


def _asked(worker: WorkerProcess, name: str) -> Any:
    return lambda data: worker.client.send(name, data)
