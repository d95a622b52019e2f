"""The add-in `site`: the check of a site, and how its servers are, for the console and for programs.

`dicomnet site init` enables it in the archive. ``SiteCheck`` and ``SiteStatus`` are messages of the administration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from ..server import AddInContext, Table, hookimpl
from ..server.messages import MessageRegistry
from ..server.settings import RESTART
from .checking import check
from .plan import Site
from .running import state

__all__ = ["SiteAddIn"]


class SiteAddIn:
    """The check of a site as messages of the administration."""

    description = "Checks the site that this server belongs to, and says how its servers are."

    class Settings(Table):
        """``[addin.site]``."""

        directory: Annotated[Path, RESTART] = Path("../..")
        """The site's, relative to the server's."""

    @hookimpl
    def start(self, context: AddInContext) -> None:
        """Read what the site consists of."""
        self._site: Site = Site.load((context.directory / context.settings.directory).resolve())

    @hookimpl
    def admin_messages(self, messages: MessageRegistry) -> None:
        """What `dicomnet site check` and `status` do."""
        messages.add("SiteCheck", self._check)
        messages.add("SiteStatus", self._status, role="read")

    def _check(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        report = check(self._site)
        return {
            "titles": dict(self._site.titles),
            "echoes": [asdict(one) | {"ok": one.ok} for one in report.cells],
            "problems": list(report.problems), "warnings": list(report.warnings),
        }  # fmt: skip

    def _status(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        servers = [
            {"role": one.node.role, "title": one.node.title, "process": one.process, "problems": list(one.problems),
             "plain": str(one.node.plain), "tls": str(one.node.secure), "web": one.node.web}
            for one in state(self._site)
        ]  # fmt: skip
        return {"directory": str(self._site.directory), "servers": servers, "pages": dict(self._site.pages)}
