# cython: auto_pickle=False
"""What every message makes, compiled: `RequestReceived` or `ResponseReceived`, see `events`; and who watches them."""

cimport cython

from ..wire.command_set cimport Message

__all__ = ["Observer", "RequestReceived", "ResponseReceived"]


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


cdef class Observer:
    """What is told all that happens on one association, see `trace.ProtocolTrace`; it cannot alter any of it.

    It is `watch.Watch`; this is what an exchange sees of it without loading that.
    """

    cpdef Py_ssize_t received(self, buffer, Py_ssize_t at) except -1:
        """Bytes that arrived, those before ``at`` told of already; up to where the next ones may be acted upon."""
        raise NotImplementedError

    cpdef object sent(self, list buffers):
        """Whole PDUs that are to be written."""
        raise NotImplementedError

    cpdef object message(self, bint sent, bytes command, context, data):
        """A message begins to be sent, or has arrived.

        Args:
            sent: which of them.
            command: its command set, encoded.
            context: the presentation context that it is in.
            data: its data set, where it has one; it is not to be touched.
        """
        raise NotImplementedError

    def transition(self, int before, int event, int action, int after):
        """The state machine acted: a `states.State`, an `Event`, an `Action`, and the `State` that follows."""
        raise NotImplementedError
