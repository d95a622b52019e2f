"""`Fleet`: a server whose associations are served by several processes, under one administration.

This process opens the ports, and starts the workers, which accept from them; it has the admin interface, the known AE
titles, and the events of all. A worker is a `Server` of the same directory; one that dies is started again.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import InvalidArgument
from ..net.sockets import address_of
from .admin.answers import AdminError
from .admin.classic import register_classic
from .admin.serving import AdminServing
from .ae_titles import AETitles, NotKnown
from .audit import open_trail
from .context import BaseServices
from .database import Database
from .directory_lock import DirectoryLock
from .discovery import Finder
from .events import BLOCK, Event, EventLog
from .fleet_view import FleetAddIns, FleetClients, FleetMessages, FleetMetrics, FleetSettings
from .health import Check
from .identity import AnyIdentity
from .listening import open_ports
from .loop_thread import LoopThread
from .messages import MessageRegistry
from .notify import Notifier
from .requests import PooledRequests
from .security import SettingsSecurity
from .server import PAUSED, ReloadReport, take_steps
from .server_log import ServerLog
from .settings import FILE_NAME, Settings
from .storage import FolderStorage
from .watchdog import Watchdog
from .worker_process import WorkerProcess

__all__ = ["Fleet"]

log: logging.Logger = logging.getLogger("dicomnet.server")

#: Seconds beyond its drain that a worker gets to end.
GRACE = 10.0


class Fleet:
    """A server with workers; see `Server` for what the methods do.

    Args:
        directory: the server's, with its settings file.

    Attributes:
        sockets: those that listen before it starts.
        workers: the processes that serve.
    """

    def __init__(self, directory: str | PathLike[str]) -> None:
        self.directory: Path = Path(directory).absolute()
        self.settings: Settings = Settings.load(self.directory / FILE_NAME)
        self.pending_restart: tuple[str, ...] = ()
        self.state: str = "stopped"
        self.request_stop: Callable[[float | None], None] = self._stop_in_thread
        self.sockets: dict[str, socket.socket] = {}
        self.workers: list[WorkerProcess] = []
        self._stack: ExitStack | None = None
        self._started_at = 0.0
        self.log: ServerLog = ServerLog(self.settings.log)
        self.loop: LoopThread = LoopThread(f"dicomnet-server-{self.settings.server.ae_title}")
        self.clients: FleetClients = FleetClients(self.workers)
        self.addins: FleetAddIns = FleetAddIns(self.workers)
        self.metrics: FleetMetrics = FleetMetrics(self.workers)
        self.messages: MessageRegistry = FleetMessages(self.workers)
        self._listening: dict[str, str] = {}

    # ---- starting ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start; once this returns, the workers take associations.

        Raises:
            StartFailed: which step, and why.
        """
        with ExitStack() as stack:
            stack.callback(setattr, self, "state", "stopped")
            take_steps(self._steps(), stack)
            self._stack = stack.pop_all()
        self._started_at = time.monotonic()
        paused = self.database.number(PAUSED, self.settings.server.start_mode == "paused")
        self.state = "paused" if paused else "running"
        self.events.publish("server.started", {"ae_title": self.settings.server.ae_title, "listening": self.listening})

    def _steps(self) -> Iterator[tuple[str, Callable[[ExitStack], None]]]:
        yield "directory", self._lock
        yield "log", self._start_log
        yield "database", self._start_database
        yield "base services", self._start_base
        yield "add-ins", lambda _: self._load_addins(self.settings)
        yield "listeners", self._open_ports
        yield "workers", self._start_workers
        yield "admin interface", self._start_admin

    def _lock(self, stack: ExitStack) -> None:
        stack.enter_context(DirectoryLock(self.directory))

    def _start_log(self, stack: ExitStack) -> None:
        self.log.start()
        stack.callback(self.log.stop)

    def _start_database(self, stack: ExitStack) -> None:
        self.database: Database = Database(self.directory / "server.sqlite")
        stack.callback(self.database.close)
        self.events: EventLog = EventLog(self.settings.admin.events, first=self.database.reserve("events", BLOCK))

    def _start_base(self, stack: ExitStack) -> None:
        titles = AETitles(self.database, self.events)
        security = SettingsSecurity(lambda: self.settings)
        requests = PooledRequests(self.settings.server.ae_title, titles, security, self.settings.timeouts.reconnect)
        stack.callback(requests.close)
        trail = open_trail(self.settings, self.directory)
        stack.callback(trail.close)
        storage = FolderStorage(self.directory / "data")
        self.base: BaseServices = BaseServices(requests, titles, security, storage, AnyIdentity(), trail)
        self.base.shared = FleetSettings(self.workers)
        register_classic(self.messages, self)

    def _load_addins(self, settings: Settings) -> None:
        """Look at them here, too: what is wrong with one is told before a worker meets it."""
        finder, found = Finder(self.directory), []
        for name in settings.addins.enable:
            try:
                one = finder.find(name)
                settings.table(name, one.settings_model)
            except ValueError:
                if name not in settings.addins.optional:
                    raise
            else:
                found.append(one)
        self.addins.found = tuple(found)

    def _open_ports(self, stack: ExitStack) -> None:
        for name, sock in open_ports(self.settings, self.sockets).items():
            self.sockets[name] = sock
            stack.callback(sock.close)
            address = address_of(sock.getsockname())
            self._listening[name] = f"http://{address}/" if name == "web" else address

    def _start_workers(self, stack: ExitStack) -> None:
        stack.callback(self.workers.clear)
        for number in range(1, self.settings.server.workers + 1):
            names = ("plain", "tls", "web") if number == 1 else ("plain", "tls")
            sockets = {name: self.sockets[name] for name in names if name in self.sockets}
            worker = WorkerProcess(number, self.directory, sockets, self.events.publish)
            stack.callback(worker.join, GRACE)
            stack.callback(worker.signal, signal.SIGTERM)
            worker.start()
            self.workers.append(worker)
        stack.callback(self.events.listen(self._tell_titles, "ae."))

    def _tell_titles(self, _: Event) -> None:
        """Who is known has changed: the next association of any worker is judged by it."""
        for worker in self.workers:
            try:
                worker.ask("POST", "/v1/reload")
            except AdminError as error:
                log.error("worker %d does not read the AE titles: %s", worker.number, error)

    def _start_admin(self, stack: ExitStack) -> None:
        self.loop.start()
        stack.callback(self.loop.stop)
        notifier = Notifier()
        watchdog = Watchdog(self.loop, bool, lambda: notifier.alive(time.monotonic()))
        watchdog.start()
        stack.callback(watchdog.stop)
        if self.settings.admin.enabled:
            self.admin: AdminServing = AdminServing(self, self.loop, self.directory, self.sockets.pop("admin", None))
            self.admin.start()
            stack.callback(self.admin.stop)

    # ---- while it runs -----------------------------------------------------------------------------------------

    @property
    def listening(self) -> dict[str, str]:
        """Where it listens; see `Server.listening`."""
        return dict(self._listening)

    def _ask_all(self, path: str) -> list[dict[str, Any]]:
        return [worker.ask("POST", path) for worker in self.workers]

    def pause(self) -> None:
        """Take no new association, in any worker."""
        self.database.keep(PAUSED, 1)
        self._ask_all("/v1/pause")
        self.state = "paused"
        self.events.publish("server.paused", {})

    def resume(self) -> None:
        """Take associations again."""
        self.database.keep(PAUSED, 0)
        self._ask_all("/v1/resume")
        self.state = "running"
        self.events.publish("server.resumed", {})

    def reopen_log(self) -> None:
        """Open the log anew, here and in the workers."""
        self.log.reopen()
        for worker in self.workers:
            worker.signal(signal.SIGUSR1)
        self.events.publish("server.log-reopened", {})

    def disconnect(self, number: str) -> None:
        """Abort an association, by its id."""
        try:
            self.clients.worker_of(number).client.disconnect(number)
        except AdminError as error:
            raise NotKnown(str(error)) from error

    def reload(self, *, user: str = "") -> ReloadReport:
        """Have all workers go over to the settings in the file, which are looked at here first; see `Server.reload`."""
        settings = Settings.load(self.directory / FILE_NAME)
        old = self.settings
        new, waiting = old.reloaded(settings)
        self._load_addins(new)
        said = self._ask_all("/v1/reload")
        waiting = tuple(dict.fromkeys((*waiting, *(name for one in said for name in one.get("pending_restart", ())))))
        self.settings, self.pending_restart = new, waiting
        self.log.level(new.log.level)
        report = ReloadReport(old.changes(new), waiting)
        report.record(self.base.audit, user)
        self.events.publish("server.reloaded", {"changed": report.changed, "pending_restart": waiting})
        return report

    def conformance(self) -> dict[str, Any]:
        """The conformance statement of what runs, the same in each worker."""
        return self.workers[0].client.conformance()

    def health(self) -> list[Check]:
        """Whether all workers are ready; a check that fails in any has failed."""
        checks: dict[str, Check] = {}
        for worker in self.workers:
            said = worker.ask("GET", "/v1/health/ready").get("checks")
            if said is None:
                checks[f"worker {worker.number}"] = Check(f"worker {worker.number}", False, "does not answer")
            for one in said or ():
                if one["name"] not in checks or not one["ok"]:
                    checks[one["name"]] = Check(one["name"], one["ok"], one["detail"])
        return list(checks.values())

    def status(self) -> dict[str, Any]:
        """The server at a glance; ``workers`` has a line for each of its processes."""
        said = [(worker, worker.ask("GET", "/v1/status")) for worker in self.workers]

        def total(name: str) -> int:
            return sum(one.get(name, 0) for _, one in said)

        return {
            "ae_title": self.settings.server.ae_title,
            "description": self.settings.server.description,
            "state": self.state,
            "uptime": time.monotonic() - self._started_at,
            "listening": self.listening,
            "clients": total("clients"),
            "associations": total("associations"),
            "addins": [one.name for one in self.addins],
            "broken": self.addins.broken,
            "pending_restart": list(self.pending_restart),
            "last_event": self.events.last_id,
            "log_lost": self.log.lost + total("log_lost"),
            "abandoned": total("abandoned"),
            "workers": [
                {"worker": worker.number, "process": worker.pid, "associations": one.get("associations")}
                for worker, one in said
            ],
        }

    def nodes(self) -> list[dict[str, Any]]:
        """See `Server.nodes`: each worker is one.

        Raises:
            AdminError: 503: they cannot be asked for.
        """
        each: list[dict[str, Any]] = []
        for worker in self.workers:
            found: list[dict[str, Any]] = worker.ask("GET", "/v1/nodes").get("nodes", [])
            if any(one["id"] for one in found):  # of an archive, which shows those of all workers
                return found
            each += found
        return each

    # ---- stopping ----------------------------------------------------------------------------------------------

    def turn_away(self) -> None:
        """Say that it stops; the workers turn callers away once they are told."""
        if self.state != "stopping":
            self.state = "stopping"
            self.events.publish("server.stopping", {})

    def stop(self, drain: float | None = None) -> None:
        """Stop all workers, gracefully, then all else."""
        if self._stack is None:
            return
        self.turn_away()
        stack, self._stack = self._stack, None
        left = self.settings.timeouts.drain if drain is None else drain
        for worker in self.workers:
            worker.stop(drain)
        end = time.monotonic() + left + GRACE
        for worker in self.workers:
            worker.join(max(end - time.monotonic(), 0.0))
        stack.close()

    def hurry(self) -> None:
        """End a stop that is under way: a second SIGTERM is one for each worker, too."""
        for worker in self.workers:
            worker.signal(signal.SIGTERM)

    def _stop_in_thread(self, drain: float | None) -> None:
        threading.Thread(target=self.stop, args=(drain,), name="dicomnet-stop").start()

    def __enter__(self) -> Fleet:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def passed(sockets: Mapping[str, int]) -> dict[str, socket.socket]:
    """In a worker: the sockets that it accepts from, by their descriptors.

    Raises:
        InvalidArgument: a descriptor is no socket.
    """
    found: dict[str, socket.socket] = {}
    for name, descriptor in sockets.items():
        try:
            found[name] = socket.socket(fileno=descriptor)
        except OSError as error:
            raise InvalidArgument(f"{name}={descriptor} is no socket: {error.strerror}") from error
        found[name].setblocking(False)
    return found
