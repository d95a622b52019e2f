"""The base services, as their users see them; `context.BaseServices` holds those of a server.

Each is a protocol: an add-in that replaces one need not derive from anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..client import Client
from ..config import Entity
from ..errors import DicomNetError
from ..net.tls import TLS
from ..protocol.negotiation import Caller, UserIdentity
from ..protocol.peer_profile import Peer
from ..status import Status
from .ae_entry import AEEntry

__all__ = [
    "MOST_WHO",
    "AEDirectory",
    "AuditTrail",
    "Identity",
    "NodeDirectory",
    "NotNow",
    "Requests",
    "Security",
    "SharedSettings",
    "Storage",
]


#: Characters of who wants a change of `SharedSettings`, where the caller of the admin interface speaks for others.
MOST_WHO = 64


class NotNow(DicomNetError):
    """What is asked for is kept where it cannot be asked for now."""

    def __str__(self) -> str:
        return self.message


class Requests(Protocol):
    """Sends DICOM requests: by AE title, over pooled associations, with the destination's profile."""

    def client(self, title: str) -> Client:
        """The client of a known AE title; shared, so it is not to be closed by who asks.

        Raises:
            InvalidArgument: the AE title is not known, or its entry has no address to connect to.
        """

    def echo(self, title: str) -> Status:
        """C-ECHO to a known AE title."""

    def close(self) -> None:
        """Release all associations."""


class AEDirectory(Protocol):
    """Who is known; any thread may call any method."""

    def __iter__(self) -> Any:
        """All entries, by title."""

    def find(self, title: str) -> AEEntry | None:
        """The entry of an AE title or one of its aliases; padding and case do not count."""

    def add(self, entry: AEEntry) -> AEEntry:
        """Add an entry; the stored one has an id.

        Raises:
            Conflict: its title or an alias is taken.
        """

    def update(self, title: str, entry: AEEntry) -> AEEntry:
        """Put an entry in place of another, with another title if it has one; its id, queues and history stay.

        Raises:
            NotKnown: there is none of this title.
            Conflict: its new title or an alias is taken.
        """

    def remove(self, title: str) -> AEEntry:
        """Remove an entry.

        Raises:
            NotKnown: there is none of this title.
            InUse: something depends on it; the error names what.
        """

    def destinations(self) -> Mapping[str, Entity]:
        """Where each title that has an address listens; a live view."""

    def profiles(self) -> Iterable[Peer]:
        """What is relaxed for each."""

    def depends(self, owner: str, uses: Callable[[AEEntry], Sequence[str]]) -> None:
        """Have a function asked, before an entry is removed, what of its owner's depends on it."""


class Security(Protocol):
    """TLS settings; certificate files that change are read again with the next connection."""

    def listener(self) -> TLS | None:
        """How the TLS port is secured."""

    def destination(self, entry: AEEntry) -> TLS | None:
        """How connections to an AE are secured; None is plain."""


class Storage(Protocol):
    """Where received instances are kept: files below a directory."""

    @property
    def spool(self) -> Path:
        """Where data sets stay while they arrive; on the same file system as what is kept."""

    def place(self, template: str, attributes: Mapping[str, str]) -> Path:
        """The path for an instance, by a template of attributes such as ``{StudyInstanceUID}/{SOPInstanceUID}.dcm``."""


class Identity(Protocol):
    """Who a caller's user is."""

    def identify(self, identity: UserIdentity, caller: Caller) -> bool | bytes:
        """Judge a user identity (PS3.7 Annex D.3.3.7): refused, accepted, or accepted with a server response."""


class NodeDirectory(Protocol):
    """The nodes that do one work together, of which this server is one."""

    def all(self) -> list[dict[str, Any]]:
        """Each as JSON: ``id``, ``name`` (machine and process), ``address`` (``AET@host:port``), ``version``,
        ``since``, ``seen`` (seconds since 1970), ``alive``, ``duties``, and ``facts``, figures that it tells.

        Raises:
            NotNow: they cannot be asked for now.
        """


class SharedSettings(Protocol):
    """The settings that nodes which do one work together have in common.

    Each change makes a snapshot of all of them, by number. Every method raises `NotNow` where they cannot be asked for.
    """

    @property
    def tables(self) -> Mapping[str, Mapping[str, Any]]:
        """What holds here of the server's own settings, by table and field; its file comes before it."""

    def show(self, number: int | None = None) -> dict[str, Any]:
        """A snapshot, by default the latest: ``snapshot`` (its number), ``at``, ``who``, ``what``, ``values``; each of
        the ``settings`` with what holds here; the one that is ``running`` here, and why another is ``refused``.

        Raises:
            NotKnown: there is none of this number.
        """

    def history(self, most: int) -> list[dict[str, Any]]:
        """The latest snapshots, without their values, the newest first."""

    def change(
        self, values: Mapping[str, Any], unset: Sequence[str], who: str, *, after: int | None = None
    ) -> dict[str, Any]:
        """Set some, and unset others; the new snapshot, what it ``changed``, what of that is ``pending_restart``, and
        what this node's ``own`` settings say otherwise.

        Args:
            values: by key.
            unset: keys.
            who: changes them.
            after: the number that the latest snapshot has to have.

        Raises:
            SettingsInvalid, InvalidArgument: they are wrong; the old ones hold.
            Conflict: the latest has another number.
        """

    def revert(self, number: int, who: str, *, after: int | None = None) -> dict[str, Any]:
        """Have an earlier snapshot again, as a new one; see `change`."""


class AuditTrail(Protocol):
    """The audit trail (PS3.15 Annex A.5); `record` returns once the message is safe on disk, or queued for it."""

    def record(self, event: str, **facts: Any) -> None:
        """Record one event, such as ``"application-started"``; see `audit.EVENTS` for those and their facts."""

    def close(self) -> None:
        """Write what waits."""
