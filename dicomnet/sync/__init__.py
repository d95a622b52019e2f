"""The blocking face: associations and listeners over sockets, a thread per association."""

from .association import Association, connect

__all__ = ["Association", "Listener", "connect"]


def __getattr__(name: str) -> object:
    # Whoever only connects needs none of what it takes to listen, which is as much again.
    if name == "Listener":
        from .listener import Listener

        return Listener
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
