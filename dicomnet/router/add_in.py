"""The add-in `router`: a router in a server of the framework, with its administration, metrics, health and events.

::

    [addins]
    enable = ["verification", "router"]

Its rules are in ``rules.toml`` of its directory, `data/router` in the server's. What `dicomnet router` does beside a
router, messages of the administration do over its interface: ``RouterRules``, ``RouterQueue``, ``RouterReport``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import Field

from ..protocol.admission import AdmissionRule
from ..repository.disk import DiskState
from ..repository.receiving import DiskRoom
from ..server import AddInContext, Check, Table, hookimpl
from ..server.ae_titles import Conflict
from ..server.events import Event
from ..server.messages import MessageRegistry
from ..server.settings import RESTART, Seconds
from ..services.service_registry import Registering
from .editing import RulesFile
from .plan import Plan
from .queue import State
from .report import report, total
from .routing import Routing
from .settings import FILE_NAME, RouterSettings
from .trial import MessageOnTrial, try_rules

__all__ = ["RouterAddIn"]


class Chosen(Table):
    """Which deliveries are meant."""

    ids: tuple[int, ...] | None = None
    """Only these."""
    destination: str | None = None
    """Only for this destination."""
    study: str | None = None
    """Only of this study."""


class Page(Chosen):
    """Which deliveries are listed."""

    states: tuple[State, ...] = tuple(one for one in State if not one.is_over)
    """In these states; by default those that are not over."""
    after: int = 0
    """Begin after this one."""
    most: Annotated[int, Field(ge=1, le=10_000)] = 100
    """How many."""


class Rules(Table):
    """Rules and destinations, to be checked or saved."""

    toml: str | None = None
    """As TOML."""
    plan: Mapping[str, Any] | None = None
    """As an object of the JSON schema."""
    version: int | None = None
    """To be saved only while the rules of this version hold."""


class Trial(Table):
    """Rules to be tried."""

    toml: str
    """As TOML."""
    study: str | None = None
    """Study Instance UID of what they are tried on, in the spool; left out, they are read alone."""
    message: MessageOnTrial | None = None
    """A message that they are tried on."""


class Day(Table):
    """Of which day a report is."""

    day: date | None = None
    """When the instances were received; left out, at any time."""


class RouterAddIn:
    """Receives every class, and passes it on by rules."""

    class Settings(Table):
        """``[addin.router]``."""

        directory: Annotated[Path | None, RESTART] = None
        """Where the router is; left out, `data/router` in the server's directory."""
        database: Annotated[str, RESTART] = ""
        """URL of the queues, postgresql://user@host/name; left out, SQLite in the router's directory."""
        durability: Annotated[Literal["disk", "os"], RESTART] = "disk"
        """What an acknowledged instance survives: a loss of power, or the end of the program."""
        keep: Annotated[Seconds, RESTART] = 3600.0
        """How long instances stay in the spool after they were sent or dropped."""

    @hookimpl
    def start(self, context: AddInContext) -> None:
        """Open the router, which is made with the first start, and begin to send."""
        table = context.settings
        directory = context.data if table.directory is None else context.directory / table.directory
        title = context.server.server.ae_title
        chosen = {"ae_title": title, "durability": table.durability, "keep": table.keep, "database": table.database}
        settings = RouterSettings.make(directory, **chosen)
        lines = (f"{name} = {json.dumps(value)}" for name, value in chosen.items())
        text = "\n".join(["# Written with each start of the server: its settings have [addin.router].", *lines])
        (directory / FILE_NAME).write_text(f"{text}\n", encoding="utf-8")
        self.routing: Routing = Routing(directory, settings, tell=context.publish)
        self.routing.start()
        context.on_turn(self.routing.storage.committer.turn)
        self._unlisten = context.listen(self._heard)

    def _heard(self, event: Event) -> None:
        if event.type == "client.disconnected":
            self.routing.ended(str(event.data.get("calling", "")), str(event.data.get("address", "")))

    @hookimpl
    def services(self, registry: Registering, context: AddInContext) -> None:
        """Take everything."""
        self.routing.register(registry, context.name)

    @hookimpl
    def admission(self) -> Sequence[AdmissionRule]:
        """No association while the disk is full."""
        return [DiskRoom(self.routing.spool.disk)]

    @hookimpl
    def admin_messages(self, messages: MessageRegistry) -> None:
        """What `dicomnet router` does on the command line."""
        queue = self.routing.spool.queue
        messages.add("RouterStatus", self._status, role="read")
        messages.add("RouterRules", self._rules, role="read")
        messages.add("RouterSchema", lambda _: Plan.model_json_schema(by_alias=True), role="read")
        messages.add("RouterCheckRules", self._check, role="administer", model=Rules)  # it may load functions
        messages.add("RouterSaveRules", self._save, role="administer", model=Rules)
        messages.add("RouterTryRules", self._try, role="administer", model=Trial)
        messages.add("RouterQueue", self._queue, role="read", model=Page)
        messages.add("RouterReport", self._report, role="read", model=Day)
        acts = {"Retry": queue.retry, "Drop": queue.drop, "Hold": queue.hold, "Release": queue.release}
        for name, act in acts.items():
            messages.add(f"Router{name}", self._acting(act), model=Chosen)

    def _status(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        version, _plan = self.routing.spool.plans.current
        return {
            "rules": version, "problem": self.routing.spool.plans.problem,
            "received": self.routing.storage.stored, "refused": self.routing.storage.failed,
            "destinations": [asdict(one) for one in self.routing.states()],
        }  # fmt: skip

    def _rules(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        version, plan = self.routing.spool.plans.current
        toml = RulesFile(self.routing.spool.plans.path).text()
        return {"version": version, "plan": json.loads(plan.to_json()), "toml": toml}

    def _try(self, given: Trial) -> Mapping[str, Any]:
        return try_rules(self.routing.spool, given.toml, given.study, given.message)

    def _check(self, given: Rules) -> Mapping[str, Any]:
        plan = _plan_of(given)
        return {"rules": len(plan.rules), "destinations": len(plan.destinations)}

    def _save(self, given: Rules) -> Mapping[str, Any]:
        plan = _plan_of(given)
        holds = self.routing.spool.plans.current[0]
        if given.version is not None and given.version != holds:
            what = f"the rules have changed: version {holds} holds, and not version {given.version} any more"
            raise Conflict(what, hint="Look at those first, and save again.")
        file = RulesFile(self.routing.spool.plans.path)
        file.save(plan, given.toml)
        self.routing.look()
        return {"version": self.routing.spool.plans.current[0]}

    def _queue(self, page: Page) -> Mapping[str, Any]:
        self.routing.storage.ledger.settle()
        found = self.routing.spool.queue.items(
            destination=page.destination, study=page.study, states=page.states, after=page.after, most=page.most
        )
        return {"deliveries": [one.as_json() for one in found]}

    def _report(self, day: Day) -> Mapping[str, Any]:
        self.routing.storage.ledger.settle()
        studies = report(self.routing.spool.database, day.day)
        whole = total(studies)
        return {"studies": [asdict(one) for one in studies], "total": asdict(whole), "balances": whole.balances}

    def _acting(self, act: Callable[..., int]) -> Callable[[Chosen], Mapping[str, Any]]:
        def message(chosen: Chosen) -> Mapping[str, Any]:
            count = act(ids=chosen.ids, destination=chosen.destination, study=chosen.study)
            self.routing.forwarder.wake()
            return {"deliveries": count}

        return message

    @hookimpl
    def metrics(self, registry: CollectorRegistry) -> None:
        """What waits for each destination, and since when."""
        registry.register(_States(self.routing))

    @hookimpl
    def health(self) -> Iterable[Check]:
        """Whether there is room, the rules hold, and nothing waits for too long."""
        state = self.routing.spool.disk.state()
        yield Check("router spool", state is DiskState.ROOM, state.name.lower())
        problem = self.routing.spool.plans.problem
        yield Check("router rules", not problem, problem)
        for one in self.routing.states():
            if one.name:
                yield Check(f"router {one.name}", not one.alarm, f"the oldest waits for {one.oldest:.0f} s")

    @hookimpl
    def stop(self) -> None:
        """Commit what has arrived, and close all of it; what waits stays."""
        self._unlisten()
        self.routing.close()


def _plan_of(given: Rules) -> Plan:
    return Plan.from_toml(given.toml) if given.toml is not None else Plan.read(given.plan or {})


class _States(Collector):
    """The states of destinations, read when they are asked for."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing

    def collect(self) -> Iterator[Any]:
        """See `Collector.collect`."""
        states = self._routing.states()
        for name, text in (
            ("waiting", "Deliveries that wait, or are under way."),
            ("held", "Deliveries on hold."),
            ("parked", "Deliveries that a person has to look at."),
            ("oldest", "Seconds since the oldest waiting instance was received."),
            ("alarm", "Whether the oldest waits for too long."),
        ):
            family = GaugeMetricFamily(f"dicomnet_router_{name}", text, labels=["destination"])
            for one in states:
                family.add_metric([one.name], float(getattr(one, name)))
            yield family
        sent = CounterMetricFamily("dicomnet_router_sent", "Deliveries since the start.", labels=["destination"])
        for one in states:
            sent.add_metric([one.name], one.sent)
        yield sent
        storage = self._routing.storage
        yield CounterMetricFamily("dicomnet_router_received", "Instances acknowledged.", value=storage.stored)
        yield CounterMetricFamily("dicomnet_router_refused", "Instances refused.", value=storage.failed)
