"""The add-ins of a server: found by name, checked, called in their order, suspended where they fail."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pluggy
from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute

from ..errors import DicomNetError
from ..log import log_failure
from ..protocol.admission import AdmissionRule
from ..protocol.seen import Seen
from ..services.service_registry import Registering, Registration, ServiceRegistry
from .clients import Clients
from .context import AddInContext, BaseServices, SharingHost
from .discovery import AddInError, Finder, Found
from .events import EventLog
from .guard import Guard
from .health import Check
from .hookspecs import PROJECT, AddInHooks
from .messages import MessageRegistry
from .settings import Settings, kept

__all__ = ["AddIn", "AddIns"]

#: What the server itself serves on its web port.
RESERVED = ("health", "metrics")

log: logging.Logger = logging.getLogger("dicomnet.server")


@dataclass(eq=False)
class AddIn:
    """One add-in that is enabled.

    Attributes:
        found: what was loaded, and from where.
        context: what it is given.
        guard: counts its failures.
        started: whether `start` was called and succeeded.
        registered: what it registered, as it said and as it is, kept while it is suspended.
        rules: what it has against associations.
        routes: what it serves over HTTP.
    """

    found: Found
    context: AddInContext
    guard: Guard
    started: bool = False
    registered: tuple[tuple[Registration, Registration], ...] = ()
    rules: tuple[AdmissionRule, ...] = ()
    routes: tuple[BaseRoute, ...] = ()

    @property
    def name(self) -> str:
        """As it is enabled."""
        return self.found.name

    @property
    def registrations(self) -> tuple[Registration, ...]:
        """What it registered, as it is."""
        return tuple(mine for _, mine in self.registered)

    def as_json(self) -> dict[str, Any]:
        """For the admin interface: who it is, and what it implements."""
        return {
            "name": self.name,
            "place": self.found.place,
            "description": self.found.description,
            "hooks": sorted(self.found.hooks()),
            "services": sorted({(one.message.name, uid) for one in self.registrations for uid in one.sop_classes}),
            "calls": self.guard.calls,
            "failures": self.guard.failures,
            "suspended": self.guard.suspended or None,
        }


class ScopedRegistry(Registering):
    """The service registry as one add-in sees it: what it registers is its own, is watched, and has a deadline."""

    def __init__(self, registry: ServiceRegistry, addin: AddIn, leaving: frozenset[str]) -> None:
        self._registry = registry
        self._addin = addin
        self._leaving = leaving

    def register(self, registration: Registration) -> Registration:
        """Register in the add-in's name; see `ServiceRegistry.register`."""
        deadline = registration.deadline
        if deadline is None:
            deadline = self._addin.context.server.timeouts.add_in
        watched = self._addin.guard.watched(registration, deadline)
        mine = replace(watched, owner=self._addin.name, replaces=watched.replaces or self._succeeds(watched))
        self._registry.register(mine)
        self._addin.registered += ((registration, mine),)
        return mine

    def _succeeds(self, new: Registration) -> bool:
        """Whether it takes the place of what add-ins registered that are about to stop: no association misses it."""
        same = [
            one for one in self._registry.snapshot().registrations
            if one.message == new.message and not set(one.sop_classes).isdisjoint(new.sop_classes) and one.overlaps(new)
        ]  # fmt: skip
        return bool(same) and all(one.owner in self._leaving for one in same)


class AddIns:
    """All add-ins of a server.

    Args:
        finder: finds them.
        registry: where their services go.
        messages: where their admin messages go.
        events: where what happens is told.
        loop: the server's event loop, for what is asynchronous.
        clients: whose associations use them.
        status: says how the server is.
        host: the server, for what shares settings.
    """

    def __init__(
        self,
        finder: Finder,
        registry: ServiceRegistry,
        messages: MessageRegistry,
        events: EventLog,
        loop: Callable[[], asyncio.AbstractEventLoop],
        clients: Clients,
        status: Callable[[], Mapping[str, Any]] = dict,
        host: SharingHost | None = None,
    ) -> None:
        self._host = host
        self._finder = finder
        self._clients = clients
        self._retiring: dict[str, AddIn] = {}
        self._ending = threading.Lock()
        self._registry = registry
        self._messages = messages
        self._events = events
        self._publish = events.publish
        self._loop = loop
        self._status = status
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(AddInHooks)
        self._addins: list[AddIn] = []
        self.metrics: dict[str, CollectorRegistry] = {}
        self.broken: dict[str, str] = {}
        self.abandoned: int = 0
        self._leaving: frozenset[str] = frozenset()
        self.rules: tuple[AdmissionRule, ...] = ()
        self._turns: tuple[Callable[[], object], ...] = ()

    def __iter__(self) -> Any:
        return iter(tuple(self._addins))

    def get(self, name: str) -> AddIn | None:
        """The add-in of a name."""
        return next((one for one in self._addins if one.name == name), None)

    # ---- loading and starting ----------------------------------------------------------------------------------

    def load(self, settings: Settings, directory: Path, services: BaseServices) -> None:
        """Find and check all that are enabled; nothing of them runs yet.

        Raises:
            AddInError, SettingsInvalid: one of them is broken, and not optional.
        """
        for name in settings.addins.enable:
            if self.get(name) is None:
                self._load_one(name, settings, directory, services)

    def _load_one(self, name: str, settings: Settings, directory: Path, services: BaseServices) -> AddIn | None:
        try:
            found = self._finder.find(name)
            table = settings.table(name, found.settings_model)
        except ValueError as error:
            if name not in settings.addins.optional:
                raise
            self._leave_out(name, str(error))
            return None
        context = AddInContext(name, table, settings, directory, services, self._events, self._loop, self._status,
                               self._host)  # fmt: skip
        rules = settings.addins
        guard = Guard(rules.failures, rules.abandoned, self._loop, lambda reason: self._on_suspended(name, reason))
        addin = AddIn(found, context, guard)
        self._manager.register(found.plugin, name)
        self._addins.append(addin)
        self.broken.pop(name, None)
        return addin

    def _leave_out(self, name: str, why: str) -> None:
        self.broken[name] = why
        log.warning("the server runs without its optional add-in: %s", why)
        self._publish("addin.broken", {"name": name, "why": why})

    def call(self, addin: AddIn, hook: str, **arguments: Any) -> Any:
        """Call a hook of one add-in; None where it has none."""
        others = self._manager.get_plugins() - {addin.found.plugin}
        results = self._manager.subset_hook_caller(hook, others)(**arguments, context=addin.context)
        return results[0] if results else None

    def replace_base_services(self, services: BaseServices) -> None:
        """Have add-ins put their own base services in place."""
        for addin in self._addins:
            services.owner = addin.name
            self._step(addin, "base_services", services=services)

    def start(self, settings: Settings) -> None:
        """Start all, in order, and have each register what it performs and answers.

        Raises:
            AddInError: one of them fails, and is not optional; those before it are stopped by `stop`.
        """
        for addin in tuple(self._addins):
            if not addin.started:
                self._start_one(addin, settings)

    def _start_one(self, addin: AddIn, settings: Settings) -> None:
        try:
            self._step(addin, "start")
            addin.started = True
            self._step(addin, "services", registry=ScopedRegistry(self._registry, addin, self._leaving))
            self._messages.owner = addin.name
            self._step(addin, "admin_messages", messages=self._messages)
            self.metrics[addin.name] = CollectorRegistry()
            self._step(addin, "metrics", registry=self.metrics[addin.name])
            addin.rules = tuple(self._step(addin, "admission") or ())
            addin.routes = tuple(self._step(addin, "web_routes") or ())
            if addin.routes and addin.name in RESERVED:
                raise AddInError(f"the web port has something else at /{addin.name}: that add-in needs another name")
            self._gather()
        except AddInError as error:
            self._drop(addin)
            if addin.name not in settings.addins.optional:
                raise
            self._leave_out(addin.name, str(error))

    def _step(self, addin: AddIn, hook: str, **arguments: Any) -> Any:
        try:
            return self.call(addin, hook, **arguments)
        except Exception as error:
            if not isinstance(error, DicomNetError):
                log_failure(f"add-in {addin.name} failed in {hook}", error)
            why = str(error) if isinstance(error, DicomNetError) else f"{type(error).__name__}: {error}"
            raise AddInError(f"add-in {addin.name} ({addin.found.place}) failed in {hook}: {why}") from error

    def _drop(self, addin: AddIn) -> None:
        """Take an add-in out, and end it."""
        self._take_out(addin)
        self._end(addin)

    def _take_out(self, addin: AddIn) -> None:
        """New associations, and administrators, see it no more."""
        self._registry.withdraw(addin.name)
        self._messages.withdraw(addin.name)
        self.metrics.pop(addin.name, None)
        self._addins.remove(addin)

    def _end(self, addin: AddIn) -> None:
        """End it, whatever it thinks of that."""
        if addin.started:
            addin.started = False
            try:
                self.call(addin, "stop")
            except Exception as error:
                log_failure(f"add-in {addin.name} failed in stop", error)
        self._manager.unregister(addin.found.plugin)
        self._gather()

    def _retire(self, addin: AddIn, patience: float) -> None:
        """Take an add-in out, and end it once no association uses it any more; after so many seconds all the same."""
        self._take_out(addin)
        if not self._clients.uses(addin.name):
            self._end(addin)
            return
        self._retiring[addin.name] = addin
        self._gather()

        def wait() -> None:
            self._clients.wait_unused(addin.name, patience)
            self._end_retiring(addin.name)

        threading.Thread(target=wait, name=f"dicomnet-retire-{addin.name}", daemon=True).start()

    def _end_retiring(self, name: str) -> None:
        with self._ending:
            addin = self._retiring.pop(name, None)
            if addin is not None:
                self._end(addin)

    def _gather(self) -> None:
        """What all of them have together, made once, for it is asked often."""
        self.rules = tuple(rule for one in self._addins for rule in one.rules)
        serving = (*self._addins, *self._retiring.values())
        self._turns = tuple(function for one in serving for function in one.context.turns)

    def turn(self) -> None:
        """A listener's loop has ended a turn; in its thread."""
        for function in self._turns:
            function()

    def stop(self) -> None:
        """Stop all, in reverse order."""
        for name in tuple(self._retiring):
            self._end_retiring(name)
        for addin in reversed(tuple(self._addins)):
            self._drop(addin)

    # ---- while it runs -----------------------------------------------------------------------------------------

    def reload(self, settings: Settings, directory: Path, services: BaseServices) -> tuple[str, ...]:
        """Go over to other settings: start what is newly enabled, stop what is not any more, tell the others.

        Returns:
            The fields of add-ins' tables whose change waits for the next start.

        Raises:
            AddInError, SettingsInvalid: a new one is broken, or a table of settings is; nothing has changed then.
        """
        staying = [one for one in self._addins if one.name in settings.addins.enable]
        tables = {one.name: settings.table(one.name, one.found.settings_model) for one in staying}
        added: list[AddIn] = []
        self._leaving = frozenset(one.name for one in self._addins) - set(settings.addins.enable)
        try:
            for name in settings.addins.enable:
                self._end_retiring(name)  # it is wanted again
                if self.get(name) is None and (one := self._load_one(name, settings, directory, services)):
                    added.append(one)
                    self._start_one(one, settings)
        except ValueError:
            for one in reversed([one for one in added if one in self._addins]):
                self._drop(one)
            raise
        finally:
            self._leaving = frozenset()
        for addin in reversed([one for one in self._addins if one.name not in settings.addins.enable]):
            self._retire(addin, settings.timeouts.drain)
        order = {name: place for place, name in enumerate(settings.addins.enable)}
        self._addins.sort(key=lambda one: order[one.name])
        waiting: tuple[str, ...] = ()
        for addin in staying:
            table, restart = kept(addin.context.settings, tables[addin.name], f"addin.{addin.name}.")
            waiting += restart
            self._tell(addin, settings, table)
        return waiting

    def know(self, settings: Settings) -> None:
        """These are the settings of the server: nothing of the add-ins' own tables is another.

        Handlers without a deadline of their own have that of these settings, from the next association on.
        """
        renewed: dict[int, Registration] = {}
        for addin in self._addins:
            addin.context.server = settings
            registered: list[tuple[Registration, Registration]] = []
            for said, mine in addin.registered:
                new = _renewed(addin, said, mine, settings.timeouts.add_in)
                registered.append((said, new))
                if new is not mine:
                    renewed[id(mine)] = new
            addin.registered = tuple(registered)
        if renewed:
            self._registry.renew(lambda one: renewed.get(id(one), one))

    def _tell(self, addin: AddIn, settings: Settings, table: Any) -> None:
        changed = addin.context.settings != table
        addin.context.settings, addin.context.server = table, settings
        if changed:
            try:
                self.call(addin, "reload")
            except Exception as error:
                log_failure(f"add-in {addin.name} failed in reload", error)
                self._publish("addin.failed", {"name": addin.name, "hook": "reload"})

    def _on_suspended(self, name: str, reason: str) -> None:
        """Its contexts are offered to new associations no more; those that are open keep what they have."""
        self._registry.withdraw(name)
        log.error("add-in %s is suspended: %s", name, reason)
        self._publish("addin.suspended", {"name": name, "reason": reason})

    def resume(self, addin: AddIn) -> None:
        """Let a suspended add-in serve again."""
        if addin.guard.suspended:
            addin.guard.resume()
            for registration in addin.registrations:
                self._registry.register(registration)
            self._publish("addin.resumed", {"name": addin.name})

    def check(self) -> int:
        """Look after handlers that are late; how many there are."""
        now = time.monotonic()
        self.abandoned = sum(addin.guard.check(now) for addin in tuple(self._addins))
        return self.abandoned

    def spy_of(self, addin: AddIn) -> Callable[[Seen], object]:
        """The spy of an add-in, called past pluggy: there is much to see."""
        function = addin.found.hooks()["spy"]
        names = inspect.signature(function).parameters.keys()
        if set(names) == {"seen"}:
            return function
        bound = partial(function, context=addin.context) if "context" in names else function
        return (lambda seen: bound(seen=seen)) if "seen" in names else (lambda seen: bound())

    def health(self) -> list[Check]:
        """What the add-ins' readiness depends on."""
        checks: list[Check] = []
        for addin in tuple(self._addins):
            try:
                checks += self.call(addin, "health") or ()
            except Exception as error:
                checks.append(Check(addin.name, False, f"its health check failed: {type(error).__name__}"))
        return checks

    def initiated(self) -> dict[str, set[str]]:
        """By SOP class, the roles in which add-ins call others for it."""
        found: dict[str, set[str]] = {}
        for addin in tuple(self._addins):
            for sop_class, role in self.call(addin, "initiates") or ():
                found.setdefault(sop_class, set()).add(role)
        return found

    def web_routes(self) -> dict[str, list[BaseRoute]]:
        """What add-ins serve over HTTP, by their names."""
        return {addin.name: list(addin.routes) for addin in self._addins if addin.routes}


def _renewed(addin: AddIn, said: Registration, mine: Registration, deadline: float) -> Registration:
    """A registration with another deadline, where it has none of its own."""
    if said.deadline is not None or mine.deadline == deadline:
        return mine
    return replace(addin.guard.watched(said, deadline), owner=mine.owner, replaces=mine.replaces)
