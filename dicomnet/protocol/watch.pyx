# cython: auto_pickle=False
"""`Watch`: what one association tells a trace, PDU by PDU and message by message.

It is compiled because it sees every PDU and message of every association that is watched.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memcpy

from .states cimport Event, State

from . import states
from .seen import MessageSeen, PDUSeen, TransitionSeen

__all__ = ["SeenQueue", "Watch"]

cdef enum:
    HEADER = 6               # bytes: of a PDU its type, a reserved one and its length; of a PDV its length and two more
    DATA_TF = 4              # PDU-type of a P-DATA-TF
    LAST_TYPE = 7            # of those that there are
    COMMAND = 1              # bit 0 of a PDV's message control header (PS3.8 Annex E.2)

cdef object make = tuple.__new__


@cython.final
cdef class Splitter:
    """Goes through what is sent, or received, as it comes.

    Args:
        body: the most bytes of a PDU's body to keep; None keeps all.
        data: whether that includes the fragments of data sets.

    Attributes:
        complete: whether what was taken ends with the end of a PDU, or with that of all sense.
    """

    cdef bint complete
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

    cdef Py_ssize_t take(self, const unsigned char *data, Py_ssize_t at, Py_ssize_t size) except -1:
        """Go on from ``at`` to the end of a PDU at most; where that is."""
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


@cython.final
cdef class SeenQueue:
    """What is seen waits here for a reader in another thread; what is too much is lost.

    Args:
        most: as many may wait; what is seen past it is counted and dropped.
        wake: called, in the thread of the association, when something waits for the first time since `take`.

    Attributes:
        most: see above; it may be changed.
        dropped: how much was lost so far.
    """

    cdef public Py_ssize_t most
    cdef readonly Py_ssize_t dropped
    cdef object _wake
    cdef list _waiting
    cdef bint _woken

    def __init__(self, Py_ssize_t most, wake=None):
        self.most, self._wake, self._waiting = most, wake, []

    def __call__(self, seen):
        """Something was seen."""
        self.put(seen)

    cdef int put(self, seen) except -1:
        if len(self._waiting) >= self.most:
            self.dropped += 1
            return 0
        self._waiting.append(seen)
        if not self._woken and self._wake is not None:
            self._woken = True
            self._wake()
        return 0

    def take(self):
        """All that waits, in order."""
        self._woken = False
        waiting, self._waiting = self._waiting, []
        return waiting


@cython.final
cdef class Watch:
    """What one association tells a trace: the `events.Observer` of its exchange.

    Args:
        trace: the `trace.ProtocolTrace` that is told.
        association: which it is.
        clock: gives seconds since the epoch.
    """

    cdef object _trace, _association, _clock, _function
    cdef SeenQueue _queue
    cdef Splitter _received, _sent

    def __init__(self, trace, association, clock):
        self._trace, self._association, self._clock, self._function = trace, association, clock, trace.function
        self._queue = trace.function if isinstance(trace.function, SeenQueue) else None
        self._received = Splitter(trace.body, trace.data)
        self._sent = Splitter(trace.body, trace.data)

    def received(self, buffer):
        """Tell of the PDUs in what arrives, each before its last bytes are handed on to be acted upon."""
        cdef object view = memoryview(buffer).cast("B")
        cdef Py_ssize_t at = 0, begun, size = len(view)
        while at < size:
            begun = at
            at = self._tell_message(view, at, size)
            yield view if at - begun == size else view[begun:at]

    cdef Py_ssize_t _tell_message(self, view, Py_ssize_t at, Py_ssize_t size) except -1:
        """Tell of PDUs up to one that may end a message, or changes the state; where it ends."""
        cdef Py_buffer raw
        PyObject_GetBuffer(view, &raw, PyBUF_SIMPLE)
        try:
            while at < size:
                if self._is_over():
                    return size
                at = self._received.take(<const unsigned char *>raw.buf, at, size)
                if self._received.complete:
                    self._tell_pdu(self._received, False)
                    if not continues(<const unsigned char *>raw.buf, at, size):
                        break
        finally:
            PyBuffer_Release(&raw)
        return at

    def sent(self, list buffers):
        """Tell of the PDUs in what is to be written."""
        cdef Py_buffer raw
        cdef Py_ssize_t at
        for buffer in buffers:
            PyObject_GetBuffer(buffer, &raw, PyBUF_SIMPLE)
            try:
                at = 0
                while at < raw.len and not self._is_over():
                    at = self._sent.take(<const unsigned char *>raw.buf, at, raw.len)
                    if self._sent.complete:
                        self._tell_pdu(self._sent, True)
            finally:
                PyBuffer_Release(&raw)

    cdef bint _is_over(self) except -1:
        """Whether the function of the trace has failed; what waits in a queue has none."""
        return self._queue is None and self._trace.broken

    cdef int _tell_pdu(self, Splitter splitter, bint sent) except -1:
        cdef tuple seen = (self._clock(), self._association, sent, splitter._header[: splitter._begun],
                           bytes(splitter._kept), splitter._whole and splitter._left == 0)
        splitter._begin()
        return self._tell(PDUSeen, seen)

    cdef int _tell(self, kind, tuple fields) except -1:
        if self._is_over():
            return 0
        try:
            if self._queue is not None:
                return self._queue.put(make(kind, fields))
            self._function(make(kind, fields))  # not by its constructor, which is Python and takes longer than all else
        except Exception as error:
            self._trace.fail(error)
        return 0

    def transition(self, int before, int event, int action, int after):
        """Tell of a change of state; at the end also of the PDU in whose middle it came."""
        if self._is_over() or (before == after and event in (Event.P_DATA_REQUEST, Event.RECV_P_DATA_TF)):
            return
        if after == State.STA1_IDLE and self._received._begun:
            self._tell_pdu(self._received, False)
        named = states.State(before), states.Event(event), states.Action(action), states.State(after)
        self._tell(TransitionSeen, (self._clock(), self._association, *named))

    def message(self, bint sent, command, context, data):
        """Tell of a message."""
        if not self._is_over():
            size = 0 if data is None else data.size
            self._tell(MessageSeen, (self._clock(), self._association, sent, command, context, size))


cdef bint continues(const unsigned char *data, Py_ssize_t at, Py_ssize_t size) noexcept:
    """Whether a P-DATA-TF begins at ``at`` whose first PDV is of a data set: the message before it goes on."""
    return size - at >= 2 * HEADER and data[at] == DATA_TF and not data[at + 2 * HEADER - 1] & COMMAND


cdef inline Py_ssize_t length_at(const unsigned char *data) noexcept:
    return (<Py_ssize_t>data[0] << 24) | (<Py_ssize_t>data[1] << 16) | (<Py_ssize_t>data[2] << 8) | data[3]
