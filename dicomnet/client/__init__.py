"""The client framework: what an application that queries, retrieves and stores is built from, blocking.

`dicomnet.client.aio` has the same names for asyncio::

    with dn.client.Client("ARCHIVE@pacs.local:11112") as pacs:
        pacs.echo()
        for match in pacs.find("STUDY", PatientName="DOE*"):
            ...
"""

from . import events, threads
from .core import ClientCore
from .retry import Retry
from .scripts import Blocking

__all__ = ["Client", "Retry", "events"]


class Client(ClientCore, Blocking):
    """A peer; see `core.ClientCore`."""

    face = threads.FACE
