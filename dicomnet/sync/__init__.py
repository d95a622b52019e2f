"""The blocking face: associations and listeners over sockets, a thread per association."""

from .association import Association, connect
from .listener import Listener

__all__ = ["Association", "Listener", "connect"]
