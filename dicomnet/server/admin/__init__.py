"""Administration of a server that runs: its HTTP interface, and the clients of it."""

from .client import AdminError, AsyncClient, Client

__all__ = ["AdminError", "AsyncClient", "Client"]
