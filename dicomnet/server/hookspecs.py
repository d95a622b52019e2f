"""What an add-in may do: the hooks, by pluggy.

An add-in is a class, a module, or any object, with functions marked `hookimpl`. Each is called with the arguments of
its specification here, of which it may leave out those that it does not use::

    class Hello:
        @hookimpl
        def services(self, registry):
            registry.on_echo(self.echo)

        def echo(self, request):
            return Status.SUCCESS

Beside hooks an add-in may have ``description``, one line for people; ``requires``, the least version of dicomnet as in
"0.1"; and ``Settings``, a model derived from `settings.Table` for its table ``[addin.NAME]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pluggy

from ..protocol.admission import AdmissionRule
from ..protocol.seen import Seen
from ..services.service_registry import Registering
from .context import AddInContext, BaseServices
from .health import Check
from .messages import MessageRegistry

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from starlette.routing import BaseRoute

__all__ = ["HOOKS", "AddInHooks", "hookimpl"]

PROJECT = "dicomnet"
hookimpl: pluggy.HookimplMarker = pluggy.HookimplMarker(PROJECT)
_spec = pluggy.HookspecMarker(PROJECT)


class AddInHooks:
    """The specifications, in the order in which a server calls them."""

    @_spec
    def base_services(self, services: BaseServices, context: AddInContext) -> None:
        """Put an own implementation of a base service in place: ``services.replace("storage", MyStorage())``."""

    @_spec
    def start(self, context: AddInContext) -> None:
        """Begin: open files and databases, start threads. What this raises keeps the server from starting."""

    @_spec
    def services(self, registry: Registering, context: AddInContext) -> None:
        """Register handlers of DICOM messages, as with a listener: ``registry.on_store()(self.store)``."""

    @_spec
    def initiates(self, context: AddInContext) -> Iterable[tuple[str, str]] | None:
        """SOP classes for which it calls others, each with its role, SCU or SCP: for the conformance statement."""

    @_spec
    def admin_messages(self, messages: MessageRegistry, context: AddInContext) -> None:
        """Register messages of the admin interface: ``messages.add("Rebuild", self.rebuild, role="administer")``."""

    @_spec
    def admission(self, context: AddInContext) -> Sequence[AdmissionRule] | None:
        """Rules that each association must pass, beside the server's own; asked after those."""

    @_spec
    def web_routes(self, context: AddInContext) -> Sequence[BaseRoute] | None:
        """Routes of Starlette for the web port, ``[web]`` of the settings; they are mounted under ``/NAME``."""

    @_spec
    def metrics(self, registry: CollectorRegistry, context: AddInContext) -> None:
        """Register metrics of prometheus-client; their names begin with ``dicomnet_NAME_``."""

    @_spec
    def health(self, context: AddInContext) -> Iterable[Check] | None:
        """What the server's readiness depends on; asked with each health check, so it takes no time."""

    @_spec
    def spy(self, seen: Seen, context: AddInContext) -> None:
        """See a PDU, a change of state or a message; in a thread of the add-in, from a bounded queue of its own."""

    @_spec
    def reload(self, context: AddInContext) -> None:
        """New settings are in ``context.settings``."""

    @_spec
    def stop(self, context: AddInContext) -> None:
        """End; called in reverse order, once associations are over, or have had `timeouts.drain` seconds.

        Only where `start` was called and succeeded.
        """


#: The names of the hooks, with the names of their arguments.
HOOKS: dict[str, tuple[str, ...]] = {
    name: tuple(function.__code__.co_varnames[1 : function.__code__.co_argcount])
    for name, function in vars(AddInHooks).items()
    if hasattr(function, f"{PROJECT}_spec")
}
