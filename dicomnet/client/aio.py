"""The client framework for asyncio: the names of `dicomnet.client`, whose methods are awaited and iterated."""

from . import events, tasks
from .core import ClientCore
from .retry import Retry
from .scripts import Asyncio

__all__ = ["Client", "Retry", "events"]


class Client(ClientCore, Asyncio):
    """A peer; see `core.ClientCore`."""

    face = tasks.FACE
