"""`Server`: settings, add-ins, base services, listeners and the admin interface.

They are started in this order and stopped in reverse. A step that fails names itself, and nothing stays half started.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import CannotListen, DicomNetError, InvalidArgument
from ..net.sockets import address_of
from ..services.service_registry import ServiceRegistry
from .addins import AddIns
from .admin.classic import register_classic
from .admin.serving import AdminServing
from .admission import ServerAdmission
from .ae_titles import AETitles
from .audit import open_trail
from .audit_message import configuration_event
from .base import AuditTrail
from .clients import Clients
from .conformance import statement
from .context import BaseServices
from .database import Database
from .directory_lock import DirectoryLock
from .discovery import Finder
from .events import BLOCK, Event, EventLog
from .figures import Figures
from .health import Check, disk_check
from .identity import AnyIdentity
from .kept_titles import TitlesUnavailable
from .listening import ServerListener
from .loop_thread import LoopThread
from .messages import MessageRegistry
from .metrics import Metrics
from .node_view import alone
from .notify import Notifier
from .requests import PooledRequests
from .security import SettingsSecurity
from .server_log import ServerLog
from .settings import FILE_NAME, Settings
from .spies import Spies, Spy
from .storage import FolderStorage
from .watchdog import Watchdog
from .web_port import WebPort
from .worker_process import directory_of

__all__ = ["PAUSED", "ReloadReport", "Server", "StartFailed", "take_steps"]

log: logging.Logger = logging.getLogger("dicomnet.server")
#: Under what name the database keeps whether the server is paused.
PAUSED = "paused"
#: Seconds without a message after which an association is idle, and ended, where the server stops.
QUIET = 1.0
#: Seconds that aborted associations get to be put away.
AFTER_ABORT = 2.0


class StartFailed(DicomNetError):
    """The server did not start; nothing of it runs.

    Attributes:
        step: which step failed.
    """

    def __init__(self, step: str, error: Exception) -> None:
        super().__init__(f"the server does not start: {step}: {error}")
        self.step = step

    def __str__(self) -> str:
        return self.message


def take_steps(steps: Iterable[tuple[str, Callable[[ExitStack], None]]], stack: ExitStack) -> None:
    """Start step by step; each leaves on the stack what undoes it.

    Raises:
        StartFailed: which step, and why.
    """
    for step, run in steps:
        try:
            run(stack)
        except (DicomNetError, ValueError, OSError, sqlite3.Error) as error:
            raise StartFailed(step, error) from error


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """What a reload did.

    Attributes:
        changed: the fields that have another value now, as ``table.field``.
        pending_restart: the fields whose change waits for the next start.
    """

    changed: tuple[str, ...]
    pending_restart: tuple[str, ...]

    def record(self, trail: AuditTrail, user: str) -> None:
        """Have the audit trail say what changed, and who had it read; empty: a signal came."""
        if self.changed:
            what = f"settings were read anew: {', '.join(self.changed)} changed"
            trail.record(configuration_event(self.changed), user=user or None, what=what)


class Server:
    """A DICOM server, which performs what its add-ins say.

    It serves from `start` to `stop`, or for the block of a ``with``::

        with Server("/var/lib/dicomnet/servers/archive") as server:
            print(server.address)

    Args:
        settings: a directory with its ``server.toml``, such a file, or settings that were made otherwise.
        directory: where its state is kept; by default that of the file. Settings without one are served from a
            temporary directory.
        addins: add-ins of the embedding program, by name; enabled after those of the settings.
        worker: which of the workers of a `Fleet` this is; 0 is none.

    Attributes:
        settings: those that hold now.
        pending_restart: the fields of the file whose change waits for the next start.
        events: what happens.
        clients: who is connected.
        services: what is performed.
        base: the base services.
        sockets: those that listen before it starts: "plain", "tls", "web", "admin"; see `notify.inherited`.
    """

    def __init__(
        self,
        settings: Settings | str | PathLike[str],
        *,
        directory: str | PathLike[str] | None = None,
        addins: Mapping[str, object] | None = None,
        worker: int = 0,
    ) -> None:
        self._file: Path | None = None
        self._given = dict(addins or {})
        self._worker = worker
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if isinstance(settings, Settings):
            if directory is None:
                self._temporary = tempfile.TemporaryDirectory(prefix="dicomnet-server-", ignore_cleanup_errors=True)
                directory = self._temporary.name
            settings = settings.within(Path(directory))
        else:
            path = Path(settings)
            self._file = path / FILE_NAME if path.is_dir() or not path.suffix else path
            directory = directory or self._file.parent
            settings = Settings.load(self._file)
        self.directory: Path = Path(directory).absolute()
        self._own_settings: Settings = settings
        self._reloading = threading.RLock()
        self._is_going_over = False
        self.settings: Settings = self._with_given(settings)
        self.pending_restart: tuple[str, ...] = ()
        self.sockets: dict[str, socket.socket] = {}
        self.state: str = "stopped"
        self.started_at: float
        self.started_at = self._deadline = 0.0
        self.request_stop: Callable[[float | None], None] = self._stop_in_thread
        self._stack: ExitStack | None = None
        self._prepare()

    @property
    def _own(self) -> Path:
        """Where it keeps what it shares with no other process."""
        return directory_of(self.directory, self._worker) if self._worker else self.directory

    def _with_given(self, settings: Settings) -> Settings:
        if self._worker:
            settings = settings.of_worker(self._own, web=self._worker == 1)
        enabled = tuple(dict.fromkeys((*settings.addins.enable, *self._given)))
        return settings.model_copy(update={"addins": settings.addins.model_copy(update={"enable": enabled})})

    def _prepare(self) -> None:
        """What there is before it runs."""
        self.events: EventLog = EventLog(self.settings.admin.events)
        self.clients: Clients = Clients(self.events)
        self.services: ServiceRegistry = ServiceRegistry(echo=False)
        self.messages: MessageRegistry = MessageRegistry()
        self.metrics: Metrics = Metrics()
        self.metrics.registry.register(Figures(self))
        self.spies: Spies = Spies()
        self.listeners: dict[str, ServerListener] = {}
        self.web: WebPort | None = None
        self.log: ServerLog = ServerLog(self.settings.log)
        self.loop: LoopThread = LoopThread(f"dicomnet-server-{self.settings.server.ae_title}")
        self.addins: AddIns = self._new_addins()

    def _new_addins(self) -> AddIns:
        finder = Finder(self.directory, self._given)
        return AddIns(finder, self.services, self.messages, self.events, self.loop.loop, self.clients, self.status,
                      self)  # fmt: skip

    # ---- starting ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start; once this returns, the ports are open.

        Raises:
            StartFailed: which step, and why.
        """
        if self._stack is not None:
            raise InvalidArgument("the server runs already")
        if self.started_at:
            self.settings, self.pending_restart = self._with_given(self._own_settings), ()
            self._prepare()
        self.state = "starting"
        with ExitStack() as stack:
            stack.callback(setattr, self, "state", "stopped")
            take_steps(self._steps(), stack)
            self._stack = stack.pop_all()
        self.started_at = time.monotonic()
        self.state = "paused" if self.rules.paused else "running"
        self.base.audit.record("application-started")
        self.events.publish("server.started", {"ae_title": self.settings.server.ae_title, "listening": self.listening})
        log.info("the server %s listens on %s", self.settings.server.ae_title, ", ".join(self.listening.values()))

    def _steps(self) -> Iterator[tuple[str, Callable[[ExitStack], None]]]:
        yield "directory", self._start_directory
        yield "log", self._start_log
        yield "database", self._start_database
        yield "event loop", self._start_loop
        yield "base services", self._start_base
        yield "add-ins", self._start_addins
        yield "listeners", self._start_listeners
        yield "web port", self._start_web
        yield "admin interface", self._start_admin

    def _start_directory(self, stack: ExitStack) -> None:
        for path in (self.directory, self.settings.server.temporary_directory):
            path.mkdir(parents=True, exist_ok=True)
        stack.enter_context(DirectoryLock(self._own))

    def _start_log(self, stack: ExitStack) -> None:
        self.log.start()
        stack.callback(self.log.stop)

    def _start_database(self, stack: ExitStack) -> None:
        self.database: Database = Database(self.directory / "server.sqlite")
        stack.callback(self.database.close)
        self.events = EventLog(self.settings.admin.events, first=self.database.reserve("events", BLOCK))
        self.clients = Clients(self.events, f"{self._worker}-" if self._worker else "")

    def _start_loop(self, stack: ExitStack) -> None:
        self.addins = self._new_addins()
        self.loop.start()
        stack.callback(self.loop.stop)
        notifier = Notifier()
        self.watchdog: Watchdog = Watchdog(self.loop, self.addins.check, lambda: notifier.alive(time.monotonic()))
        self.watchdog.start()
        stack.callback(self.watchdog.stop)

    def _start_base(self, stack: ExitStack) -> None:
        titles = self._titles = AETitles(self.database, self.events)
        security = SettingsSecurity(lambda: self.settings)
        reconnect = self.settings.timeouts.reconnect
        requests = self._requests = PooledRequests(self.settings.server.ae_title, titles, security, reconnect)
        trail = open_trail(self.settings, self._own)
        storage = FolderStorage(self.directory / "data")
        self.base: BaseServices = BaseServices(requests, titles, security, storage, AnyIdentity(), trail)
        self.rules: ServerAdmission = ServerAdmission(self.settings, titles, lambda: self.addins.rules)
        self.rules.paused = bool(self.database.number(PAUSED, self.settings.server.start_mode == "paused"))
        stack.callback(self._stop_base)

    def _stop_base(self) -> None:
        self.base.requests.close()
        self.base.audit.record("application-stopped")
        self.base.audit.close()

    def _start_addins(self, stack: ExitStack) -> None:
        self.addins.load(self.settings, self.directory, self.base)
        register_classic(self.messages, self)
        self.addins.replace_base_services(self.base)
        stack.callback(self.addins.stop)
        stack.callback(self.spies.stop)  # before that: what waits for them is still seen
        self.addins.start(self.settings)
        self._watch_spies()
        self.share()

    def _watch_spies(self) -> None:
        """Have a spy for each add-in that sees, and for no other."""
        wanted = {one.name: one for one in self.addins if "spy" in one.found.hooks()}
        for name in self.spies.names() - set(wanted):
            self.spies.remove(name)
        for name in set(wanted) - self.spies.names():
            self.spies.add(Spy(name, self.addins.spy_of(wanted[name])))
        tap = self.spies.tap(data=any(getattr(one.found.plugin, "spy_data", False) for one in wanted.values()))
        for listener in self.listeners.values():
            listener.tap = tap

    def _start_listeners(self, stack: ExitStack) -> None:
        listen = self.settings.listen
        if listen.plain and listen.port is not None:
            self._listen(stack, "plain", listen.port)
        if listen.tls_port is not None:
            self._listen(stack, "tls", listen.tls_port)
        self._watch_spies()
        self._know_peers()
        stack.callback(self.events.listen(self._on_event, "ae."))

    def _listen(self, stack: ExitStack, name: str, port: int) -> None:
        tls = self.base.security.listener() if name == "tls" else None
        if name == "tls" and tls is None:
            raise CannotListen("the TLS port has no certificate", hint="The table [tls] names it.")
        listener = ServerListener(self, port, tls, self.sockets.pop(name, None))
        stack.enter_context(listener)
        stack.callback(self.listeners.pop, name, None)
        self.listeners[name] = listener

    def _start_web(self, stack: ExitStack) -> None:
        web = self.settings.web
        if web.port is None:
            return
        self.web = WebPort(self, web.host, web.port, self.sockets.pop("web", None))
        self.web.mount(self.addins.web_routes())
        self.web.start()
        stack.callback(self._stop_web)

    def _stop_web(self) -> None:
        web, self.web = self.web, None
        if web is not None:
            web.stop()

    def _start_admin(self, stack: ExitStack) -> None:
        if self.settings.admin.enabled:
            self.admin: AdminServing = AdminServing(self, self.loop, self.directory, self.sockets.pop("admin", None))
            self.admin.start()
            stack.callback(self.admin.stop)

    def _on_event(self, _: Event) -> None:
        self._know_peers()

    def _know_peers(self) -> None:
        for listener in self.listeners.values():
            listener.know(self.base.ae_titles)

    # ---- while it runs -----------------------------------------------------------------------------------------

    @property
    def listening(self) -> dict[str, str]:
        """Where it listens: "plain" and "tls", each as ``host:port``, and "web", a URL."""
        found = {name: address_of(listener.address) for name, listener in self.listeners.items()}
        if self.web is not None:
            found["web"] = self.web.url
        return found

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the plain listener; of the TLS one where there is no other."""
        listener = self.listeners.get("plain") or self.listeners["tls"]
        return listener.address

    @property
    def peer(self) -> str:
        """How to call it: ``AET@host:port``."""
        return f"{self.settings.server.ae_title}@{address_of(self.address)}"

    def pause(self) -> None:
        """Take no new association; those that are open go on. This holds through restarts, until `resume`."""
        self.database.keep(PAUSED, 1)
        self.rules.paused = True
        self.state = "paused"
        self.events.publish("server.paused", {})

    def resume(self) -> None:
        """Take associations again."""
        self.database.keep(PAUSED, 0)
        self.rules.paused = False
        self.state = "running"
        self.events.publish("server.resumed", {})

    def reopen_log(self) -> None:
        """Open the log file anew, after it was moved away."""
        self.log.reopen()
        self.events.publish("server.log-reopened", {})

    def disconnect(self, number: str) -> None:
        """Abort an association, by its id.

        Raises:
            NotKnown: there is none.
        """
        self.clients.get(number).end()

    def reload(self, settings: Settings | None = None, *, user: str = "") -> ReloadReport:
        """Go over to the settings in the file, or to others. Associations that are open keep what they began with.

        Args:
            settings: others.
            user: who wants it, for the audit trail.

        Raises:
            SettingsInvalid, AddInError: they are wrong; the old ones hold, all of them.
        """
        with self._reloading:
            if settings is None:
                if self._file is None:
                    raise InvalidArgument("this server has no settings file to read again")
                settings = Settings.load(self._file)
            report = self._go_over(settings.within(self.directory))
        if not self._worker:  # else its fleet does
            report.record(self.base.audit, user)
        return report

    @property
    def own_settings(self) -> Settings:
        """What its file and its environment say; `settings` has what other nodes have in common with it, too."""
        return self._own_settings

    def share(self) -> None:
        """Go over to what `BaseServices.shared` says now, as a reload does. While it starts all of it holds at once."""
        with self._reloading:
            if self.state == "starting":
                self._hold(self._with_shared(self._own_settings))
            elif self.state in ("running", "paused") and not self._is_going_over:  # else it looks at its end
                self._go_over(self._own_settings)

    def _with_shared(self, own: Settings) -> Settings:
        shared = self.base.shared
        return self._with_given(own if shared is None else own.with_shared(shared.tables))

    def _hold(self, settings: Settings) -> None:
        self.settings = self.rules.settings = settings
        self._requests.reconnect = settings.timeouts.reconnect
        self.addins.know(settings)

    def _go_over(self, own: Settings) -> ReloadReport:
        """Have what a file says hold, and what all nodes have in common, but for what waits for a restart."""
        old = self.settings
        self._refresh_titles()
        self._know_peers()
        self._is_going_over = True
        try:
            waiting = self.addins.reload(old.reloaded(self._with_shared(own))[0], self.directory, self.base)
        finally:
            self._is_going_over = False
        # An add-in that came or went may have changed what is shared.
        new, first = old.reloaded(self._with_shared(own))
        waiting = (*first, *waiting)
        self._own_settings, self.pending_restart = own, waiting
        self._hold(new)
        self.log.level(new.log.level)
        self._watch_spies()
        if self.web is not None:
            self.web.mount(self.addins.web_routes())
        report = ReloadReport(old.changes(new), waiting)
        self.events.publish("server.reloaded", {"changed": report.changed, "pending_restart": waiting})
        log.info("settings reloaded: %s changed; %s wait for a restart", len(report.changed), len(waiting))
        return report

    def _refresh_titles(self) -> None:
        try:
            self._titles.refresh()
        except TitlesUnavailable as error:
            log.warning("%s", error)

    def conformance(self) -> dict[str, Any]:
        """The conformance statement of what runs, in the form of PS3.2."""
        return statement(self.settings, self.services.snapshot(), self.addins)

    def health(self) -> list[Check]:
        """What the server's readiness depends on."""
        checks = [Check("accepting", self.state == "running", self.state)]
        checks.append(disk_check(self.settings.server.temporary_directory))
        return checks + self.addins.health()

    def status(self) -> dict[str, Any]:
        """The server at a glance."""
        return {
            "ae_title": self.settings.server.ae_title,
            "description": self.settings.server.description,
            "state": self.state,
            "uptime": time.monotonic() - self.started_at,
            "listening": self.listening,
            "clients": len(self.clients),
            "associations": self.clients.associated,
            "addins": [one.name for one in self.addins],
            "broken": dict(self.addins.broken),
            "pending_restart": list(self.pending_restart),
            "last_event": self.events.last_id,
            "log_lost": self.log.lost,
            "abandoned": self.addins.abandoned,
        }

    def nodes(self) -> list[dict[str, Any]]:
        """This server, and the others that do one work with it; see `base.NodeDirectory`.

        Raises:
            NotNow: they cannot be asked for.
        """
        return [alone(self.status())] if self.base.nodes is None else self.base.nodes.all()

    # ---- stopping ----------------------------------------------------------------------------------------------

    def turn_away(self) -> None:
        """Reject new associations from now on, for the server is about to stop."""
        if not self.rules.stopping:
            self.state = "stopping"
            self.rules.stopping = True
            self.events.publish("server.stopping", {})

    def stop(self, drain: float | None = None) -> None:
        """Stop: new associations are rejected, running messages finish, then what is left is aborted.

        Args:
            drain: seconds for that; by default as the settings say.
        """
        if self._stack is None:
            return
        self.turn_away()
        stack, self._stack = self._stack, None
        left = self.settings.timeouts.drain if drain is None else drain
        self._deadline = time.monotonic() + left
        self.clients.quiesce(lambda: self._deadline, QUIET)
        for listener in self.listeners.values():
            listener.drain = max(self._deadline - time.monotonic(), AFTER_ABORT)
        stack.close()
        self.state = "stopped"

    def hurry(self) -> None:
        """End a stop that is under way: abort what is left, now."""
        self._deadline = time.monotonic()
        for client in self.clients:
            client.end()
        self.clients.changed()

    def _stop_in_thread(self, drain: float | None) -> None:
        """Stop, for one who cannot wait for it: the admin interface is one of those that are stopped."""
        threading.Thread(target=self.stop, args=(drain,), name="dicomnet-stop").start()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Server:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)
