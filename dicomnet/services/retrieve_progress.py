"""`RetrieveProgress`: what the requestor of a C-GET or C-MOVE is told of how far it is."""

from __future__ import annotations

from typing import NamedTuple

from ..dataset import codec
from ..status import Status

__all__ = ["RetrieveProgress"]


class RetrieveProgress(NamedTuple):
    """What a C-GET or C-MOVE has done so far, or in the end (PS3.7 Sections 9.1.3 and 9.1.4).

    Attributes:
        status: pending on the way.
        remaining, completed, failed, warning: sub-operations, as the peer counts them.
        data: the identifier of the response, bytes in ``transfer_syntax``; empty where there is none.
        transfer_syntax: of ``data``.
        kept: of the instances that came here, how many were kept; None on the way, where they go elsewhere, and where
            a `Provider` takes them.
        unasked: SOP Instance UIDs of instances that came, and were kept, though they belong to nothing that was named.
    """

    status: Status
    remaining: int = 0
    completed: int = 0
    failed: int = 0
    warning: int = 0
    data: bytes = b""
    transfer_syntax: str = ""
    kept: int | None = None
    unasked: tuple[str, ...] = ()

    @property
    def failed_uids(self) -> list[str]:
        """The instances that could not be sent: Failed SOP Instance UID List (0008,0058)."""
        if not self.data:
            return []
        uids_ = codec.decode(self.data, self.transfer_syntax).get("FailedSOPInstanceUIDList") or []
        return [uids_] if isinstance(uids_, str) else [str(uid) for uid in uids_]

    @property
    def missing(self) -> int:
        """Instances that the peer says it sent, and that were not kept here: they did not arrive, or storing failed."""
        return 0 if self.kept is None else max(self.completed + self.warning - self.kept, 0)

    @property
    def ok(self) -> bool:
        """Everything was sent, warnings included, and kept where it was to come here."""
        return self.failed == 0 and self.missing == 0 and (self.status.is_success or self.status.is_warning)
