"""The add-in `verification`: answers C-ECHO, and tells of it."""

from __future__ import annotations

from ...services.provider_requests import EchoRequest
from ...services.service_registry import Registering
from ...status import Status
from ..context import AddInContext
from ..hookspecs import hookimpl

__all__ = ["Verification"]


class Verification:
    """Answers C-ECHO (PS3.4 Annex A)."""

    @hookimpl
    def services(self, registry: Registering, context: AddInContext) -> None:
        """Take C-ECHO."""
        registry.on_echo(inline=True)(self.echo)

    def echo(self, request: EchoRequest) -> Status:
        """Answer: we are here."""
        return Status.SUCCESS
