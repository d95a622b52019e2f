# cython: auto_pickle=False
"""`PDUSeen`: a PDU, as a trace is told of it. It is compiled, because there are more of these than of anything else."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memcpy

__all__ = ["PDUSeen"]

cdef enum:
    HEADER = 6


@cython.final
cdef class PDUSeen:
    """A PDU, sent or received (PS3.8 Section 9.3).

    Attributes:
        time: seconds since the epoch, by the clock of the driver. What arrives, or goes out, together has one time.
        association: which it was seen on.
        sent: by us; else it was received.
        body: what follows the header, as far as the tap keeps it; of a P-DATA-TF the headers of its PDVs and its
            command fragments, unless data are asked for.
        whole: whether that is all of it.
    """

    __match_args__ = ("time", "association", "sent", "header", "body", "whole")

    def __init__(self, double time, association, bint sent, bytes header not None, bytes body not None, bint whole):
        if not 1 <= len(header) <= HEADER:
            raise ValueError("the header of a PDU has one to six bytes")
        self.time, self.association, self.sent, self.body, self.whole = time, association, sent, body, whole
        self._begun = len(header)
        memcpy(self._header, <const unsigned char *>header, self._begun)

    @property
    def header(self):
        """Its six bytes, or those that came. Of what is no PDU only the first is of use."""
        return PyBytes_FromStringAndSize(<const char *>self._header, self._begun)

    @property
    def type(self):
        """PDU-type: 1 to 7; anything else is noise."""
        return self._header[0]

    @property
    def length(self):
        """PDU-length, as it is claimed."""
        return int.from_bytes(self.header[2:], "big")

    def __eq__(self, other):
        if not isinstance(other, PDUSeen):
            return NotImplemented
        return self._values() == (<PDUSeen>other)._values()

    def __hash__(self):
        return hash(self._values())

    def __repr__(self):
        parts = (f"{name}={value!r}" for name, value in zip(self.__match_args__, self._values()))
        return f"PDUSeen({', '.join(parts)})"

    def __reduce__(self):
        return PDUSeen, self._values()

    def _values(self):
        return self.time, self.association, self.sent, self.header, self.body, self.whole
