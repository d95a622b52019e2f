"""The client framework for asyncio: the names of `dicomnet.client`, whose methods are awaited and iterated."""

from . import asyncio_runner, events
from .batch import Outcome, Stored
from .core import ClientCore
from .criteria import Query
from .mpps import MppsCore, ProcedureStep, StepState
from .options import QueryOptions
from .procedure import Asyncio
from .query import QueryRetrieveCore
from .retry import Retry
from .services import CommitmentCore, VerificationCore, WorklistCore
from .store import StoreCore

__all__ = [
    "Client",
    "CommitmentScu",
    "MppsScu",
    "Outcome",
    "ProcedureStep",
    "Query",
    "QueryOptions",
    "QueryRetrieveScu",
    "Retry",
    "StepState",
    "StoreScu",
    "Stored",
    "VerificationScu",
    "WorklistScu",
    "events",
]


class Client(ClientCore, Asyncio):
    """A peer; see `core.ClientCore`."""

    face = asyncio_runner.FACE


class QueryRetrieveScu(QueryRetrieveCore, Asyncio):
    """Looks for studies and retrieves them; see `query.QueryRetrieveCore`."""

    face = asyncio_runner.FACE
    client_class = Client


class StoreScu(StoreCore, Asyncio):
    """Sends batches of instances; see `store.StoreCore`."""

    face = asyncio_runner.FACE
    client_class = Client


class CommitmentScu(CommitmentCore, Asyncio):
    """Asks peers to take responsibility for instances; see `services.CommitmentCore`."""

    face = asyncio_runner.FACE
    client_class = Client


class MppsScu(MppsCore, Asyncio):
    """Tells peers of performed procedure steps; see `mpps.MppsCore`."""

    face = asyncio_runner.FACE
    client_class = Client


class VerificationScu(VerificationCore, Asyncio):
    """Verifies that a peer is there; see `services.VerificationCore`."""

    face = asyncio_runner.FACE
    client_class = Client


class WorklistScu(WorklistCore, Asyncio):
    """Asks for modality worklists; see `services.WorklistCore`."""

    face = asyncio_runner.FACE
    client_class = Client
