# cython: auto_pickle=False
"""`MessageSeen`: a DIMSE message, as a trace is told of it.

Its command set waits as bytes, and is decoded when `command` is read: a spy that only counts messages never needs it,
and decoding costs more than everything else. That is why this type is compiled.
"""

cimport cython

from ..wire.command_set cimport Command

from ..wire.command_set import decode_command
from .messages import name_of

__all__ = ["MessageSeen"]


@cython.final
cdef class MessageSeen:
    """A DIMSE message: one of ours before the first of its PDUs, one of the peer's after the last (PS3.7 Section 6.3).

    Attributes:
        time, association, sent: see `PDUSeen`.
        context: the presentation context that it is in.
        size: bytes of its data set; of one that was refused half-way, those that had come.
    """

    __match_args__ = ("time", "association", "sent", "command", "context", "size")

    def __init__(self, double time, association, bint sent, Command command not None, context, Py_ssize_t size):
        self.time, self.association, self.sent, self.decoded = time, association, sent, command
        self.context, self.size = context, size

    @property
    def command(self):
        """Its command set."""
        if self.decoded is None:
            self.decoded = decode_command(self.encoded)
        return self.decoded

    @property
    def name(self):
        """Which message it is, such as ``C-STORE-RQ``."""
        return name_of(self.command)

    @property
    def message_id(self):
        """Message ID of a request; of a response, or a C-CANCEL, that of the request that it is about."""
        own = self.command.message_id
        return self.command.message_id_being_responded_to if own is None else own

    def __eq__(self, other):
        if not isinstance(other, MessageSeen):
            return NotImplemented
        return self._values() == (<MessageSeen>other)._values()

    def __hash__(self):
        return hash(self._values())

    def __repr__(self):
        parts = (f"{name}={value!r}" for name, value in zip(self.__match_args__, self._values()))
        return f"MessageSeen({', '.join(parts)})"

    def __reduce__(self):
        return MessageSeen, self._values()

    def _values(self):
        return self.time, self.association, self.sent, self.command, self.context, self.size
