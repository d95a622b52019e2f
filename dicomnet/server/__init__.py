"""The server framework: a server is its settings, its add-ins, and the services beneath them.

::

    from dicomnet.server import Server, Settings

    with Server(Settings.parse({"server": {"ae_title": "ARCHIVE"}})) as server:
        ...
"""

from .context import AddInContext, BaseServices
from .health import Check
from .hookspecs import hookimpl
from .messages import MessageRegistry
from .server import ReloadReport, Server, StartFailed
from .settings import Settings, SettingsInvalid, Table

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
