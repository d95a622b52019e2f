"""`WebRepository`: what the web services need of an application that holds instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from ..repository.blob_store import BlobStore
from ..repository.dicom_json import DicomJson
from ..repository.incoming import Incoming
from ..repository.index import Index
from ..repository.intake import Kept
from ..repository.performed_steps import PerformedStep
from ..status import Status

__all__ = ["Steps", "WebRepository"]


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
        steps: performed procedure steps. None: they are not offered.
        ae_title: of the application, for what it stores.
    """

    index: Index
    blobs: BlobStore
    submit: Callable[[Incoming], Future[Kept]]
    has_room: Callable[[], bool]
    delete: Callable[[Sequence[str]], int] | None = None
    steps: Steps | None = None
    ae_title: str = "WEB"
