"""The web services of an archive: DICOMweb and the viewer over what it holds."""

from __future__ import annotations

from pathlib import Path

from starlette.types import ASGIApp

from ..repository.storage_service import StorageService
from ..server.base import AuditTrail
from ..web.application import application
from ..web.repository import Steps, web_repository
from ..web.serving import WebServing
from ..web.settings import WebSettings
from ..web.users import Users
from ..web.viewer import viewer_app
from .archive import Archive
from .holdings import Holdings

__all__ = ["serve_web", "web_application", "web_users"]


def web_application(
    holdings: Holdings,
    storage: StorageService,
    *,
    steps: Steps | None = None,
    viewer: ASGIApp | None = None,
    users: Users | None = None,
    audit: AuditTrail | None = None,
) -> ASGIApp:
    """What an archive serves over HTTP.

    Args:
        holdings: what it holds, with its settings.
        storage: stores what arrives, in groups with what arrives by C-STORE.
        steps: takes performed procedure steps, as they also come by N-CREATE and N-SET.
        viewer: the application that shows pictures.
        users: who may come in; None: every caller that reaches it.
        audit: hears who logs in; None: there is no audit trail.
    """
    repository = web_repository(
        holdings, storage, steps=steps, ae_title=holdings.settings.ae_title,
        honours_notes=lambda: holdings.settings.rejection_notes != "store",
    )  # fmt: skip
    return application(repository, viewer=viewer, settings=holdings.settings.web, users=users, audit=audit)


def web_users(settings: WebSettings) -> Users | None:
    """Who has to log in: the users of the file that the settings name, where there are any."""
    users = Users(Path(settings.users))
    return users if len(users) else None


def serve_web(archive: Archive) -> WebServing:
    """The web services of an archive, listening, to be served as a context.

    Raises:
        CannotListen: the address is taken.
        InvalidArgument: others than this machine could come in without a login, or a file cannot be used.
    """
    settings = archive.settings.web
    users = web_users(settings)
    host, port = settings.check_open(login=users is not None)
    viewer = viewer_app("../dicomweb")
    app = web_application(archive.holdings, archive.storage, steps=archive.steps, viewer=viewer, users=users)
    return WebServing(app, host, port, tls=settings.tls(), concurrent=settings.concurrent)
