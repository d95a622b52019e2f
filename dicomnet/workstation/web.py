"""What a workstation serves over HTTP: DICOMweb over what it holds, and the viewer, which opens studies."""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from ..web.application import application
from ..web.repository import web_repository
from ..web.viewer import viewer_app
from .station import Workstation

__all__ = ["Opening", "web_application"]

# A list of studies is none that is opened.
_STUDY = re.compile(r"/studies/([0-9.]{1,64})(/|$)").search


class Opening:
    """Notes which studies are looked at: whose metadata, frames or instances are asked for.

    Args:
        app: what answers.
        touch: told the Study Instance UID.
    """

    def __init__(self, app: ASGIApp, touch: Callable[[str], object]) -> None:
        self._app, self._touch = app, touch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and scope["method"] == "GET" and (found := _STUDY(scope["path"])):
            self._touch(found[1])
        await self._app(scope, receive, send)


def web_application(station: Workstation) -> ASGIApp:
    """DICOMweb under ``/dicomweb``, the viewer under ``/viewer``."""
    repository = web_repository(station.holdings, station.storage, ae_title=station.title)
    return Opening(application(repository, viewer=viewer_app("../dicomweb")), station.studies.touch)
