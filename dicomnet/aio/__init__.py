"""The asyncio face: associations and listeners on an event loop, with the names and signatures of ``sync``."""

from .association import Association, connect
from .listener import Listener

__all__ = ["Association", "Listener", "connect"]
