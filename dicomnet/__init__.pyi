from . import aio as aio
from . import planner as contexts
from . import uids as uids
from .config import Entity as Entity
from .config import Limits as Limits
from .config import Timeouts as Timeouts
from .errors import AssociationAborted as AssociationAborted
from .errors import AssociationError as AssociationError
from .errors import AssociationRejected as AssociationRejected
from .errors import ConnectionFailed as ConnectionFailed
from .errors import DeadlineExceeded as DeadlineExceeded
from .errors import DicomNetError as DicomNetError
from .errors import InputFileError as InputFileError
from .errors import InvalidArgument as InvalidArgument
from .errors import LocalProtocolError as LocalProtocolError
from .errors import MalformedPDU as MalformedPDU
from .errors import NoAcceptedContext as NoAcceptedContext
from .errors import OutputFileError as OutputFileError
from .errors import RemoteProtocolError as RemoteProtocolError
from .errors import ServiceFailure as ServiceFailure
from .exchange import Exchange as Exchange
from .negotiation import PresentationContext as PresentationContext
from .negotiation import ProposedContext as ProposedContext
from .scp import EchoRequest as EchoRequest
from .scp import StoreRequest as StoreRequest
from .scu import StoreResult as StoreResult
from .status import Category as Category
from .status import Status as Status
from .sync import Association as Association
from .sync import Listener as Listener
from .sync import connect as connect

__version__: str
__all__: list[str]
