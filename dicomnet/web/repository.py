"""`WebRepository`: what the web services need of an application that holds instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from ..repository.blob_store import BlobStore
from ..repository.deletion import delete_instances
from ..repository.dicom_json import DicomJson
from ..repository.disk import DiskState
from ..repository.holdings import Holdings
from ..repository.incoming import Incoming
from ..repository.index import Index
from ..repository.intake import Kept
from ..repository.performed_steps import PerformedStep
from ..repository.receiving import Receiver
from ..repository.workitems import Workitems
from ..status import Status

__all__ = ["Steps", "WebRepository", "web_repository"]


class Steps(Protocol):
    """The performed procedure steps of an application; what it does with them it does by each way that they come."""

    def begin(self, uid: str, item: DicomJson, calling: str) -> Status:
        """A step begins, or why it cannot."""

    def report(self, uid: str, changes: DicomJson, calling: str) -> Status:
        """A step changes, or why it cannot."""

    def find(self, uid: str) -> PerformedStep | None:
        """A step."""

    def remove(self, uid: str) -> bool:
        """Forget a step; whether there was one."""


@dataclass(frozen=True, slots=True)
class WebRepository:
    """An application's repository, as the web services see it.

    Attributes:
        index, blobs: what is stored, and where.
        submit: has an instance stored in the next group; the future is done when it is durable and indexed.
        delete: deletes instances by SOP Instance UID; how many there were. None: deletion is not offered.
        has_room: whether there is room for more; where there is none, nothing is read.
        turn: what was submitted is a group; until then it may wait.
        steps: performed procedure steps. None: they are not offered.
        workitems: unified procedure steps, where others have them too; by default those of the index's database.
        ae_title: of the application, for what it stores.
        honours_notes: whether what a rejection note names goes out of sight now, may its sender see it or not.
    """

    index: Index
    blobs: BlobStore
    submit: Callable[[Incoming], Future[Kept]]
    has_room: Callable[[], bool]
    turn: Callable[[], object] = lambda: None
    delete: Callable[[Sequence[str]], int] | None = None
    steps: Steps | None = None
    workitems: Workitems | None = None
    ae_title: str = "WEB"
    honours_notes: Callable[[], bool] = bool


def web_repository(
    holdings: Holdings, receiver: Receiver[Kept], *, steps: Steps | None = None, ae_title: str = "WEB",
    honours_notes: Callable[[], bool] = bool,
) -> WebRepository:  # fmt: skip
    """What an application holds, for the web services.

    Args:
        holdings: what it holds.
        receiver: stores what arrives, in groups with what arrives by C-STORE.
        steps: takes performed procedure steps.
        ae_title: of the application.
        honours_notes: whether what stores honours rejection notes now.
    """

    def delete(uids: Sequence[str]) -> int:
        return delete_instances(holdings, uids).instances

    return WebRepository(
        index=holdings.index,
        blobs=holdings.blobs,
        submit=receiver.committer.submit,
        turn=receiver.committer.turn,  # what comes over HTTP is part of no turn of a listener's loop
        has_room=lambda: holdings.disk.state() is DiskState.ROOM,
        delete=delete,
        steps=steps,
        workitems=holdings.workitems,
        ae_title=ae_title,
        honours_notes=honours_notes,
    )
