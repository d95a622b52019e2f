# cython: auto_pickle=False
"""`PDUSplitter`: cuts the bytes of one direction where PDUs end, and keeps of each what a trace wants.

It is compiled because it sees every PDU of every association that is watched.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memcpy

__all__ = ["PDUSplitter"]

cdef enum:
    HEADER = 6               # bytes: of a PDU its type, a reserved one and its length; of a PDV its length and two more
    DATA_TF = 4              # PDU-type of a P-DATA-TF
    LAST_TYPE = 7            # of those that there are
    COMMAND = 1              # bit 0 of a PDV's message control header (PS3.8 Annex E.2)


@cython.final
cdef class PDUSplitter:
    """Goes through what is sent, or received, as it comes.

    Args:
        body: the most bytes of a PDU's body to keep; None keeps all.
        data: whether that includes the fragments of data sets.

    Attributes:
        complete: whether what was taken ends with the end of a PDU, or with that of all sense.
    """

    cdef readonly bint complete
    cdef Py_ssize_t _most
    cdef bint _data, _lost, _wanted, _whole
    cdef unsigned char[HEADER] _header
    cdef unsigned char[HEADER] _pdv
    cdef Py_ssize_t _begun, _pdv_begun, _left, _fragment
    cdef bytearray _kept

    def __init__(self, body, data):
        self._most = -1 if body is None else body
        self._data = data
        self._begin()

    cdef int _begin(self) except -1:
        self.complete = False
        self._begun = self._pdv_begun = self._left = self._fragment = 0
        self._wanted = self._whole = True
        self._kept = bytearray()
        return 0

    @property
    def begun(self):
        """In the middle of a PDU."""
        return self._begun > 0

    def take(self, buffer, Py_ssize_t at=0):
        """Go on from ``at`` to the end of a PDU at most; where that is."""
        cdef Py_buffer view
        PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
        try:
            return self._take(<const unsigned char *>view.buf, at, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef Py_ssize_t _take(self, const unsigned char *data, Py_ssize_t at, Py_ssize_t size) except -1:
        cdef Py_ssize_t part, end
        if self._lost:
            return size
        part = min(HEADER - self._begun, size - at)
        memcpy(self._header + self._begun, data + at, part)
        self._begun += part
        at += part
        if self._begun and not 1 <= self._header[0] <= LAST_TYPE:
            self._lost = self.complete = True
            self._keep(data + at, size - at)
            self._whole = False
            return size
        if self._begun < HEADER:
            return at
        if part:
            self._left = length_at(self._header + 2)
        end = at + min(self._left, size - at)
        self._left -= end - at
        if self._header[0] != DATA_TF or self._data:
            self._keep(data + at, end - at)
        else:
            self._take_fragments(data, at, end)
        self.complete = self._left == 0
        return end

    cdef int _take_fragments(self, const unsigned char *data, Py_ssize_t at, Py_ssize_t end) except -1:
        """Of a P-DATA-TF: the headers of its PDVs, and command fragments."""
        cdef Py_ssize_t part
        while at < end:
            if self._fragment:
                part = min(self._fragment, end - at)
                self._fragment -= part
                if self._wanted:
                    self._keep(data + at, part)
                else:
                    self._whole = False
            else:
                part = min(HEADER - self._pdv_begun, end - at)
                memcpy(self._pdv + self._pdv_begun, data + at, part)
                self._pdv_begun += part
                if self._pdv_begun == HEADER:
                    self._keep(self._pdv, HEADER)
                    self._fragment = max(length_at(self._pdv) - 2, 0)
                    self._wanted = self._pdv[5] & COMMAND
                    self._pdv_begun = 0
            at += part
        return 0

    cdef int _keep(self, const unsigned char *data, Py_ssize_t size) except -1:
        cdef Py_ssize_t room = size
        if self._most >= 0:
            room = min(size, max(self._most - len(self._kept), 0))
        if room:
            self._kept += data[:room]
        if room < size:
            self._whole = False
        return 0

    def pop(self):
        """The PDU, as far as it was taken: header, what is kept of its body, and whether that is all."""
        pdu = self._header[: self._begun], bytes(self._kept), self._whole and self._left == 0
        self._begin()
        return pdu


cdef inline Py_ssize_t length_at(const unsigned char *data) noexcept:
    return (<Py_ssize_t>data[0] << 24) | (<Py_ssize_t>data[1] << 16) | (<Py_ssize_t>data[2] << 8) | data[3]
