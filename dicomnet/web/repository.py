"""`WebRepository`: what the web services need of an application that holds instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from ..repository.blob_store import BlobStore
from ..repository.incoming import Incoming
from ..repository.index import Index
from ..repository.intake import Kept

__all__ = ["WebRepository"]


@dataclass(frozen=True, slots=True)
class WebRepository:
    """An application's repository, as the web services see it.

    Attributes:
        index, blobs: what is stored, and where.
        submit: has an instance stored in the next group; the future is done when it is durable and indexed.
        delete: deletes instances by SOP Instance UID; how many there were. None: deletion is not offered.
        has_room: whether there is room for more; where there is none, nothing is read.
        ae_title: of the application, for what it stores.
    """

    index: Index
    blobs: BlobStore
    submit: Callable[[Incoming], Future[Kept]]
    has_room: Callable[[], bool]
    delete: Callable[[Sequence[str]], int] | None = None
    ae_title: str = "WEB"
