"""The client framework: what an application that queries, retrieves and stores is built from, blocking.

`dicomnet.client.aio` has the same names for asyncio::

    with dn.client.Client("ARCHIVE@pacs.local:11112") as pacs:
        pacs.echo()
        for match in pacs.find("STUDY", PatientName="DOE*"):
            ...
"""

from importlib import import_module
from typing import Any

from . import events
from .availability import AvailableInstance
from .batch import Outcome, Stored
from .criteria import Query
from .media_request import MediaCreation, MediaRequest
from .options import QueryOptions
from .print_job import Film, Printed, PrinterState, PrintJob, PrintSession
from .procedure_step import ProcedureStep, StepState
from .retry import Retry
from .sync import (
    AvailabilityScu,
    Client,
    CommitmentScu,
    MediaCreationScu,
    MppsScu,
    PatientUpdateScu,
    PrintScu,
    QueryRetrieveScu,
    StoreScu,
    UpsScu,
    VerificationScu,
    WebClient,
    WorklistScu,
)
from .web_peer import WebPeer, WebStored
from .workitem import Workitem, WorkitemEvent, WorkitemState

__all__ = [
    "AvailabilityScu",
    "AvailableInstance",
    "Client",
    "CommitmentScu",
    "Film",
    "MediaCreation",
    "MediaCreationScu",
    "MediaRequest",
    "MppsScu",
    "Outcome",
    "PatientUpdateScu",
    "PrintJob",
    "PrintScu",
    "PrintSession",
    "Printed",
    "PrinterState",
    "ProcedureStep",
    "Query",
    "QueryOptions",
    "QueryRetrieveScu",
    "Retry",
    "StepState",
    "StoreScu",
    "Stored",
    "UpsScu",
    "VerificationScu",
    "WebClient",
    "WebPeer",
    "WebStored",
    "Workitem",
    "WorkitemEvent",
    "WorkitemState",
    "WorklistScu",
    "events",
]


def __getattr__(name: str) -> Any:
    """`aio` and `log`, which are loaded when they are used."""
    if name in ("aio", "log"):
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
