"""The client framework for asyncio: the names of `dicomnet.client`, whose methods are awaited and iterated."""

from . import events, tasks
from .core import ClientCore
from .criteria import Query
from .options import QueryOptions
from .query import QueryRetrieveCore
from .retry import Retry
from .scripts import Asyncio
from .store import Outcome, StoreCore, Stored

__all__ = [
    "Client",
    "Outcome",
    "Query",
    "QueryOptions",
    "QueryRetrieveScu",
    "Retry",
    "StoreScu",
    "Stored",
    "events",
]


class Client(ClientCore, Asyncio):
    """A peer; see `core.ClientCore`."""

    face = tasks.FACE


class QueryRetrieveScu(QueryRetrieveCore, Asyncio):
    """Looks for studies and retrieves them; see `query.QueryRetrieveCore`."""

    face = tasks.FACE
    client_class = Client


class StoreScu(StoreCore, Asyncio):
    """Sends batches of instances; see `store.StoreCore`."""

    face = tasks.FACE
    client_class = Client
