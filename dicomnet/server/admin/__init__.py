"""Administration of a server that runs: its HTTP interface, and the clients of it."""

from .answers import AdminError
from .async_client import AsyncClient
from .client import Client

__all__ = ["AdminError", "AsyncClient", "Client"]
