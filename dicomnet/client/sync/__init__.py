# Generated from dicomnet/client/aio/__init__.py by tools/async_to_sync.py: edit that, and run `make twins`.
"""The client framework for asyncio: what applications that query, retrieve and store are built from."""

from .. import events
from ..availability import AvailableInstance
from ..batch import Outcome, Stored
from ..criteria import Query
from ..media_request import MediaCreation, MediaRequest
from ..options import QueryOptions
from ..print_job import Film, Printed, PrinterState, PrintJob, PrintSession
from ..procedure_step import ProcedureStep, StepState
from ..retry import Retry
from ..web_peer import WebPeer, WebStored
from ..workitem import Workitem, WorkitemEvent, WorkitemState
from .availability import AvailabilityScu
from .client import Client
from .media import MediaCreationScu
from .mpps import MppsScu
from .patients import PatientUpdateScu
from .print import PrintScu
from .query import QueryRetrieveScu
from .services import CommitmentScu, VerificationScu, WorklistScu
from .store import StoreScu
from .ups import UpsScu
from .web import WebClient

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
