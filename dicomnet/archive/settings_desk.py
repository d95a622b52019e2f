"""Where the settings that all nodes have in common are asked for and changed: at a node, or in its database alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from ..errors import InvalidArgument
from ..repository.database import Database
from ..repository.holdings import INDEX_NAME
from ..repository.node_events import NodeEvents
from ..repository.setting_snapshots import SettingSnapshots, Snapshot
from ..server.ae_titles import NotKnown
from .settings import ArchiveSettings
from .shared_settings import KEYS, checked, described, differences, fitted, require_keys, tables_of

__all__ = ["DirectorySettings", "SettingsDesk"]


class SettingsDesk:
    """`server.base.SharedSettings`, but for what a node does with them."""

    @property
    def snapshots(self) -> SettingSnapshots:
        """Of the database.

        Raises:
            SettingsUnavailable: it is closed.
        """
        raise NotImplementedError

    def own(self) -> dict[str, Any]:
        """What a node's own file says of what nodes may have in common, by key."""
        raise NotImplementedError

    def check(self, values: Mapping[str, Any]) -> None:
        """Refuse values that cannot be used.

        Raises:
            InvalidArgument: why.
        """
        raise NotImplementedError

    def shown(self) -> Snapshot:
        """The one that is shown where none is named."""
        return self.snapshots.latest()

    def made(self, snapshot: Snapshot) -> None:
        """There is a new snapshot."""

    def show(self, number: int | None = None) -> dict[str, Any]:
        """See `server.base.SharedSettings`."""
        snapshot = self.shown() if number is None else self.snapshots.get(number)
        snapshot.require()
        return described(snapshot, self.own())

    def history(self, most: int) -> list[dict[str, Any]]:
        """See `server.base.SharedSettings`."""
        return [one.as_json(values=False) for one in self.snapshots.newest(most)]

    def change(
        self, values: Mapping[str, Any], unset: Sequence[str], who: str, *, after: int | None = None
    ) -> dict[str, Any]:
        """See `server.base.SharedSettings`."""
        require_keys(unset)
        new = checked(values)
        if not new and not unset:
            raise InvalidArgument("nothing is set, and nothing unset")
        if both := new.keys() & set(unset):
            raise InvalidArgument(f"{min(both)} is to be set and to be unset")
        what = "; ".join([*(f"set {key}" for key in new), *(f"unset {key}" for key in unset)])
        before: Mapping[str, Any] = {}

        def work(latest: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
            nonlocal before
            if missing := set(unset) - latest.keys():
                raise NotKnown(f"{min(missing)} is not set for all nodes")
            after_it = {key: value for key, value in {**latest, **new}.items() if key not in unset}
            self.check(after_it)
            before = latest
            return after_it, what

        made = self.snapshots.change(work, who, after=after)
        return self._told(made, before)

    def revert(self, number: int, who: str, *, after: int | None = None) -> dict[str, Any]:
        """See `server.base.SharedSettings`."""
        before = self.snapshots.latest().values
        return self._told(self.snapshots.revert(number, who, self.check, after=after), before)

    def _told(self, made: Snapshot, before: Mapping[str, Any]) -> dict[str, Any]:
        self.made(made)
        changed, own = differences(before, made.values), self.own()
        waiting = [key for key in changed if key in KEYS and KEYS[key].restart and key not in own]
        return {**made.as_json(), "changed": changed, "pending_restart": waiting,
                "own": [key for key in changed if key in own]}  # fmt: skip


class DirectorySettings(SettingsDesk):
    """The same in the database that an archive's directory names, whether it serves or not.

    Args:
        directory: of the archive.

    Raises:
        InvalidArgument: there is no archive, or its database cannot be opened.
    """

    def __init__(self, directory: Path) -> None:
        self._given: ArchiveSettings = ArchiveSettings.load(directory)
        self._database: Database = Database.opened(self._given.database or directory / INDEX_NAME)

    @property
    def snapshots(self) -> SettingSnapshots:
        """Of the database."""
        return SettingSnapshots(self._database, NodeEvents(self._database))

    def own(self) -> dict[str, Any]:
        """What `archive.toml` says."""
        return {key: getattr(self._given, key) for key in self._given.given & KEYS.keys()}

    def check(self, values: Mapping[str, Any]) -> None:
        """Refuse what does not fit to `archive.toml`; a server's has no destinations: its nodes look at these."""
        tables_of(values)
        fitted(self._given, values, told="destinations" in self._given.given)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
