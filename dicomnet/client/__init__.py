"""The client framework: what an application that queries, retrieves and stores is built from, blocking.

`dicomnet.client.aio` has the same names for asyncio::

    with dn.client.Client("ARCHIVE@pacs.local:11112") as pacs:
        pacs.echo()
        for match in pacs.find("STUDY", PatientName="DOE*"):
            ...
"""

from importlib import import_module
from typing import Any

from . import blocking, events
from .batch import Outcome, Stored
from .core import ClientCore
from .criteria import Query
from .mpps import MppsCore, ProcedureStep, StepState
from .options import QueryOptions
from .procedure import Blocking
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


def __getattr__(name: str) -> Any:
    """`aio` and `log`, for which who does not use them does not pay."""
    if name in ("aio", "log"):
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Client(ClientCore, Blocking):
    """A peer; see `core.ClientCore`."""

    face = blocking.FACE


class QueryRetrieveScu(QueryRetrieveCore, Blocking):
    """Looks for studies and retrieves them; see `query.QueryRetrieveCore`."""

    face = blocking.FACE
    client_class = Client


class StoreScu(StoreCore, Blocking):
    """Sends batches of instances; see `store.StoreCore`."""

    face = blocking.FACE
    client_class = Client


class CommitmentScu(CommitmentCore, Blocking):
    """Asks peers to take responsibility for instances; see `services.CommitmentCore`."""

    face = blocking.FACE
    client_class = Client


class MppsScu(MppsCore, Blocking):
    """Tells peers of performed procedure steps; see `mpps.MppsCore`."""

    face = blocking.FACE
    client_class = Client


class VerificationScu(VerificationCore, Blocking):
    """Verifies that a peer is there; see `services.VerificationCore`."""

    face = blocking.FACE
    client_class = Client


class WorklistScu(WorklistCore, Blocking):
    """Asks for modality worklists; see `services.WorklistCore`."""

    face = blocking.FACE
    client_class = Client
