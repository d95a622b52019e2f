"""The settings that all nodes of an archive have in common, as one of the nodes runs them, and changes them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy.exc import DBAPIError

from ..errors import InvalidArgument, escaped
from ..log import log, log_failure
from ..repository.setting_snapshots import CHANGED, SettingSnapshots, SettingsUnavailable, Snapshot
from ..server.audit_message import configuration_event
from ..server.base import AuditTrail
from ..server.context import SharingHost
from .holdings import Holdings
from .settings import ArchiveSettings
from .settings_desk import SettingsDesk
from .shared_settings import (
    KEYS,
    LOOK_BACK,
    Refused,
    differences,
    fitted,
    say_unknown,
    tables_of,
    usable,
)

__all__ = ["LOOK_SECONDS", "NodeSettings"]

#: Between two looks at an index in SQLite, which tells no one: another process may have changed something. Also between
#: two attempts at a snapshot that this node cannot use: a destination that it did not know may be known by now.
LOOK_SECONDS = 5.0


class NodeSettings(SettingsDesk):
    """`server.base.SharedSettings` of an archive's node.

    Args:
        holdings: of the archive; their settings follow.
        server: that the archive runs in; None where it runs by itself.
        audit: its audit trail, which is told of what holds here, and what cannot.
    """

    def __init__(self, holdings: Holdings, server: SharingHost | None = None, audit: AuditTrail | None = None) -> None:
        self._holdings, self._server, self._audit = holdings, server, audit
        self._changing = threading.Lock()
        self._closed = threading.Event()
        self._look: threading.Thread | None = None
        self.after: Callable[[], object] = lambda: None
        self.snapshot: Snapshot = Snapshot()
        self.settle()

    @property
    def refused(self) -> Refused | None:
        """The newest snapshot, where this node cannot use it, and why."""
        return self._holdings.refused

    # ---- what holds --------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Begin with the newest snapshot that this node can use."""
        holdings = self._holdings
        settings, self.snapshot, holdings.refused = usable(holdings.given, holdings.snapshots)
        self._say_refused()
        say_unknown(self.snapshot)
        holdings.apply(settings)
        if self.snapshot.number:
            self._record(self.snapshot, self.snapshot.values)

    def start(self) -> None:
        """Follow what other nodes, and other processes, change; before `NodeEvents.start`."""
        events = self._holdings.events
        events.listen(CHANGED, lambda _: self.refresh())
        events.anew(CHANGED, self.refresh)
        self._look = threading.Thread(target=self._run, name="dicomnet-settings", daemon=True)
        self._look.start()

    def _run(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            try:
                if self._holdings.database.is_sqlite or self.refused is not None:
                    self.refresh()
            except Exception as error:
                log_failure("the settings cannot be looked at", error)

    def refresh(self) -> None:
        """Go over to the latest snapshot, in a thread of its own: who ends this node may wait for the caller's.

        Raises:
            SettingsUnavailable: the database cannot be asked; what was read before holds.
        """
        if self._closed.is_set():
            return
        newer = tuple(self.snapshots.newest(LOOK_BACK, after=self.snapshot.number))
        if newer:
            threading.Thread(target=self._take, args=(newer,), name="dicomnet-settings-change", daemon=True).start()

    def _take(self, newer: Sequence[Snapshot]) -> None:
        """Have the first of some snapshots hold that can; the newest comes first."""
        refused: Refused | None = None
        for snapshot in newer:
            try:
                self._apply(snapshot, refused)
                return
            except InvalidArgument as error:
                refused = refused or Refused(snapshot.number, error.message)
            except Exception as error:
                log_failure(f"snapshot {snapshot.number} of the settings cannot be taken", error)
                return
        with self._changing:
            if refused is None or refused == self.refused or refused.number <= self.snapshot.number:
                return
            self._holdings.refused = refused
        self._say_refused()
        self._tell()

    def _say_refused(self) -> None:
        if self.refused is not None:
            log.error("snapshot %d of the settings of all nodes cannot be used here, and %d holds: %s",
                      self.refused.number, self.snapshot.number, self.refused.why)  # fmt: skip
            if self._audit is not None:
                what = f"snapshot {self.refused.number} of the settings of all nodes cannot be used here"
                self._audit.record("software-configuration", what=what, outcome="minor")

    def _record(self, snapshot: Snapshot, changed: Iterable[str]) -> None:
        """Have the audit trail say that a snapshot holds here, by whom; values may be of patients."""
        if self._audit is not None:
            what = f"snapshot {snapshot.number} of the settings of all nodes holds: {snapshot.what or 'no change'}"
            self._audit.record(configuration_event(changed), user=snapshot.who or None, what=what)

    def _apply(self, snapshot: Snapshot, refused: Refused | None = None) -> None:
        """Have a snapshot hold, if it is newer than the one that does.

        Args:
            snapshot: which.
            refused: a newer one, which this node cannot use.

        Raises:
            InvalidArgument: it does not fit; what held before holds.
        """
        with self._changing:
            if self._closed.is_set() or snapshot.number <= self.snapshot.number:
                return
            tables_of(snapshot.require())
            self._holdings.apply(fitted(self._holdings.given, snapshot.values))
            changed = differences(self.snapshot.values, snapshot.values)
            self.snapshot, self._holdings.refused = snapshot, refused
        self._say_refused()
        say_unknown(snapshot)
        about = escaped(snapshot.what), escaped(snapshot.who)
        log.info("snapshot %d of the settings of all nodes holds: %s, by %s", snapshot.number, *about)
        self._record(snapshot, changed)
        if self._server is not None:
            self._server.share()
        self._tell()

    def _tell(self) -> None:
        try:
            if not self._closed.is_set():
                self.after()
        except DBAPIError as error:  # it is told with the next beat
            log.debug("which settings hold here is not told now (%s)", type(error.orig).__name__)

    def rebase(self, given: ArchiveSettings) -> None:
        """This node's own settings are others.

        Raises:
            InvalidArgument: what all have in common does not fit to them; what held before holds.
        """
        with self._changing:
            settings = fitted(given, self.snapshot.values)
            self._holdings.given = given
            self._holdings.apply(settings)

    @property
    def tables(self) -> Mapping[str, Mapping[str, Any]]:
        """See `server.base.SharedSettings`."""
        return tables_of(self.snapshot.values)

    def own(self) -> dict[str, Any]:
        """What this node's own file, command line or environment says, of what nodes may have in common."""
        given = self._holdings.given
        found = {key: getattr(given, key) for key in given.given & KEYS.keys()}
        if self._server is not None:
            settings = self._server.own_settings
            for key in settings.given() & KEYS.keys():
                table, _, name = key.partition(".")
                found[key] = getattr(getattr(settings, table), name)
        return found

    def figures(self) -> dict[str, Any]:
        """What a node tells of its settings."""
        own, refused = " ".join(sorted(self.own())), self.refused
        return {
            "settings": self.snapshot.number,
            **({"settings_refused": refused.number} if refused else {}),
            **({"settings_own": own} if own else {}),
        }

    # ---- what is asked for -------------------------------------------------------------------------------------

    @property
    def snapshots(self) -> SettingSnapshots:
        """Of the index's database."""
        if self._closed.is_set():
            raise SettingsUnavailable("the archive of these settings has ended")
        return self._holdings.snapshots

    def show(self, number: int | None = None) -> dict[str, Any]:
        """See `server.base.SharedSettings`."""
        refused = self.refused
        why = {"snapshot": refused.number, "why": refused.why} if refused else None
        return {**super().show(number), "running": self.snapshot.number, "refused": why}

    def shown(self) -> Snapshot:
        """The latest, or the one that holds here where that cannot be read."""
        latest = self.snapshots.latest()
        return self.snapshot if latest.fault else latest

    def check(self, values: Mapping[str, Any]) -> None:
        """Refuse values that this node cannot use."""
        tables_of(values)
        fitted(self._holdings.given, values)

    def made(self, snapshot: Snapshot) -> None:
        """Have a change hold here at once."""
        self._apply(snapshot)

    def close(self) -> None:
        """Follow no more."""
        self._closed.set()
        if self._look is not None:
            self._look.join()
