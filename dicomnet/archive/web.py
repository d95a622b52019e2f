"""The web services of an archive: DICOMweb and the viewer over what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from starlette.types import ASGIApp

from ..repository.disk import DiskState
from ..repository.incoming import Incoming
from ..repository.intake import Kept
from ..web.application import application
from ..web.repository import WebRepository
from .deletion import delete_instances
from .holdings import Holdings
from .storage import StorageService

__all__ = ["web_application"]


def web_application(holdings: Holdings, storage: StorageService, *, viewer: ASGIApp | None = None) -> ASGIApp:
    """What an archive serves over HTTP.

    Args:
        holdings: what it holds.
        storage: stores what arrives, in groups with what arrives by C-STORE.
        viewer: the application that shows pictures.
    """

    def submit(incoming: Incoming) -> Future[Kept]:
        future = storage.committer.submit(incoming)
        storage.committer.turn()  # what comes over HTTP is part of no turn of the listener's loop
        return future

    def delete(uids: Sequence[str]) -> int:
        return delete_instances(holdings, uids).instances

    repository = WebRepository(
        index=holdings.index,
        blobs=holdings.blobs,
        submit=submit,
        has_room=lambda: holdings.disk.state() is DiskState.ROOM,
        delete=delete,
        ae_title=holdings.settings.ae_title,
    )
    return application(repository, viewer=viewer)
