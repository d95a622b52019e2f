"""dicomnet: the DICOM network stack for Python.

A provider and a user in a few lines::

    import dicomnet as dn

    with dn.connect("ARCHIVE@pacs.local:11112", contexts=dn.contexts.verification()) as pacs:
        pacs.echo()

Importing dicomnet imports neither pydicom nor numpy nor cryptography: they are loaded with their first use. So are
`dicomnet.aio`, which needs ``asyncio``, and `dicomnet.client`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from . import uids
from .config import Entity, Limits, Timeouts
from .dataset.transcoding import Lossy
from .errors import (
    AssociationAborted,
    AssociationError,
    AssociationRejected,
    CannotListen,
    ConnectionFailed,
    DeadlineExceeded,
    DicomNetError,
    InputFileError,
    InvalidArgument,
    LocalProtocolError,
    MalformedPDU,
    NoAcceptedContext,
    OutputFileError,
    RemoteProtocolError,
    ServiceFailure,
    TLSFailed,
)
from .net.tls import TLS
from .protocol import admission
from .protocol.admission import Admission, Refusal
from .protocol.exchange import Exchange
from .protocol.negotiation import (
    AcceptancePolicy,
    Caller,
    NegotiationOptions,
    PresentationContext,
    ProposedContext,
    SecureLink,
    UserIdentity,
)
from .protocol.peer_profile import Peer, Relaxation
from .protocol.seen import MessageSeen, PDUSeen, TransitionSeen
from .protocol.trace import ProtocolTrace, TraceQueue
from .services import presentation_contexts as contexts
from .services.provider_requests import (
    EchoRequest,
    FindRequest,
    GetRequest,
    MoveRequest,
    NormalizedRequest,
    StoreRequest,
)
from .services.retrieve_progress import RetrieveProgress
from .services.scp import Provider
from .services.scu import Match, StoreResult
from .services.service_registry import Registration, ServiceRegistry, ServiceSnapshot
from .services.user import Commitment, Reply
from .status import Category, Status
from .sync import Association, Listener, connect
from .version import __version__

if TYPE_CHECKING:
    from . import aio, client


__all__ = [
    "TLS",
    "AcceptancePolicy",
    "Admission",
    "Association",
    "AssociationAborted",
    "AssociationError",
    "AssociationRejected",
    "Caller",
    "CannotListen",
    "Category",
    "Commitment",
    "ConnectionFailed",
    "DeadlineExceeded",
    "DicomNetError",
    "EchoRequest",
    "Entity",
    "Exchange",
    "FindRequest",
    "GetRequest",
    "InputFileError",
    "InvalidArgument",
    "Limits",
    "Listener",
    "LocalProtocolError",
    "Lossy",
    "MalformedPDU",
    "Match",
    "MessageSeen",
    "MoveRequest",
    "NegotiationOptions",
    "NoAcceptedContext",
    "NormalizedRequest",
    "OutputFileError",
    "PDUSeen",
    "Peer",
    "PresentationContext",
    "ProposedContext",
    "ProtocolTrace",
    "Provider",
    "Refusal",
    "Registration",
    "Relaxation",
    "RemoteProtocolError",
    "Reply",
    "RetrieveProgress",
    "SecureLink",
    "ServiceFailure",
    "ServiceRegistry",
    "ServiceSnapshot",
    "Status",
    "StoreRequest",
    "StoreResult",
    "TLSFailed",
    "Timeouts",
    "TraceQueue",
    "TransitionSeen",
    "UserIdentity",
    "__version__",
    "admission",
    "aio",
    "client",
    "connect",
    "contexts",
    "uids",
]


def __getattr__(name: str) -> object:
    if name in ("aio", "client"):
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
