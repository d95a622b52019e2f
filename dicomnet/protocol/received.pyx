# cython: auto_pickle=False
"""The two events that every message makes, compiled: `RequestReceived` and `ResponseReceived`; see `events`."""

cimport cython

from ..wire.command_set cimport Message

__all__ = ["RequestReceived", "ResponseReceived"]


cdef class Received:
    """A message that has arrived whole; frozen, and equal to one of its kind with the same message."""

    __match_args__ = ("message",)

    def __init__(self, Message message not None):
        self.message = message

    @property
    def command(self):
        """The command set of the message."""
        return self.message.command

    def __eq__(self, other):
        if type(other) is not type(self):
            return NotImplemented
        return self.message == (<Received>other).message

    def __hash__(self):
        return hash((type(self), self.message))

    def __repr__(self):
        return f"{type(self).__name__}(message={self.message!r})"


@cython.final
cdef class RequestReceived(Received):
    """A DIMSE request (or C-CANCEL) of the peer, complete with its data set (PS3.7 Section 6.3)."""


@cython.final
cdef class ResponseReceived(Received):
    """A DIMSE response of the peer to a request of ours."""
