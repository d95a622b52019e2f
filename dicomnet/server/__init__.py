"""The server framework: a server is its settings, its add-ins, and the services beneath them.

::

    from dicomnet.server import Server, Settings

    with Server(Settings.parse({"server": {"ae_title": "ARCHIVE"}})) as server:
        ...
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .context import AddInContext, BaseServices
from .health import Check
from .hookspecs import hookimpl
from .messages import MessageRegistry
from .settings import Settings, SettingsInvalid, Table

if TYPE_CHECKING:
    from .server import ReloadReport, Server, StartFailed

__all__ = [
    "AddInContext",
    "BaseServices",
    "Check",
    "MessageRegistry",
    "ReloadReport",
    "Server",
    "Settings",
    "SettingsInvalid",
    "StartFailed",
    "Table",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    """`Server` with its web frameworks is loaded when it is used: applications share settings, and hooks, without."""
    if name in ("ReloadReport", "Server", "StartFailed"):
        return getattr(import_module(".server", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
