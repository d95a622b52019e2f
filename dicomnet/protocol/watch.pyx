# cython: auto_pickle=False
"""`Watch`: what one association tells a trace, PDU by PDU and message by message.

It is compiled because it sees every PDU and message of every association that is watched.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_Resize
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memcpy

from .message_seen cimport MessageSeen
from .pdu_seen cimport PDUSeen
from .received cimport Observer
from .states cimport Event, State

from . import states
from .seen import TransitionSeen

__all__ = ["SeenQueue", "Watch"]

cdef enum:
    HEADER = 6               # bytes: of a PDU its type, a reserved one and its length; of a PDV its length and two more
    DATA_TF = 4              # PDU-type of a P-DATA-TF
    LAST_TYPE = 7            # of those that there are
    COMMAND = 1              # bit 0 of a PDV's message control header (PS3.8 Annex E.2)
    ROOM = 512               # bytes that are kept at hand for the body of a PDU: a command fits


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
    cdef Py_ssize_t _begun, _pdv_begun, _left, _fragment, _kept
    cdef bytearray _room     # its first `_kept` bytes are the body; it is used again for each PDU

    def __init__(self, body, data):
        self._most = -1 if body is None else body
        self._data = data
        self._room = bytearray(ROOM)
        self.begin()

    cdef int begin(self) except -1:
        """The next PDU begins."""
        self.complete = False
        if len(self._room) > ROOM:
            self._room = bytearray(ROOM)  # an association holds no more for one large PDU that it has seen
        self._begun = self._pdv_begun = self._left = self._fragment = self._kept = 0
        self._wanted = self._whole = True
        return 0

    cdef Record record(self, double now) noexcept:
        """What was taken, but for its body and whether it was sent."""
        cdef Record record
        record.time, record.kind, record.size, record.begun = now, PDU_SEEN, self._kept, <int>self._begun
        record.whole = self._whole and self._left == 0
        memcpy(record.header, self._header, HEADER)
        return record

    cdef const unsigned char *body(self) noexcept:
        """What is kept of the body, as many bytes as the record says."""
        return <const unsigned char *>PyByteArray_AS_STRING(self._room)

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
        cdef Py_ssize_t taken = size
        if self._most >= 0:
            taken = min(size, max(self._most - self._kept, 0))
        if taken:
            if self._kept + taken > len(self._room):
                PyByteArray_Resize(self._room, 2 * (self._kept + taken))
            memcpy(PyByteArray_AS_STRING(self._room) + self._kept, data, taken)
            self._kept += taken
        if taken < size:
            self._whole = False
        return 0


cdef enum:
    PDU_SEEN = 1
    MESSAGE_SEEN
    TRANSITION_SEEN
    MADE                     # by another trace: the object itself is kept


cdef struct Record:
    # One that was seen, while it waits; the body of a PDU, or the command set of a message, follows it.
    double time
    Py_ssize_t size          # bytes of that body, or command set
    Py_ssize_t data          # bytes of a message's data set
    int kind
    bint sent, whole
    int begun                # how many bytes of the header there are
    unsigned char[HEADER] header  # of a PDU; of a transition, what it is


@cython.final
cdef class SeenQueue:
    """What is seen waits here for a reader in another thread; what is too much is lost.

    It waits as bytes, and becomes objects when it is read: to make objects in one thread that another one throws away
    costs the association more than all else of being watched.

    Args:
        most: as many may wait; what is seen past it is counted and dropped.
        wake: called, in the thread of the association, when something waits for the first time since `take`.
        crowded: called there, too, when half of as many as may wait do.

    Attributes:
        most: see above; it may be changed.
        dropped: how much was lost so far.
    """

    cdef public Py_ssize_t most
    cdef readonly Py_ssize_t dropped
    cdef object _wake, _crowded
    cdef bytearray _records
    cdef Py_ssize_t _used, _count
    cdef list _named         # the objects that the records are about, in order
    cdef bint _woken, _pressed

    def __init__(self, Py_ssize_t most, wake=None, crowded=None):
        self.most, self._wake, self._crowded = most, wake, crowded
        self._records, self._named = bytearray(), []

    def __call__(self, seen):
        """Something was seen."""
        cdef Record record
        record.kind, record.size = MADE, 0
        if self._put(&record, seen, NULL):
            self._announce()

    cdef bint _put(self, Record *record, association, const unsigned char *body) except -1:
        """Keep a record, the body after it, and the first of the objects that it is about; whether there was room."""
        cdef Py_ssize_t size = record.size
        cdef Py_ssize_t end = self._used + <Py_ssize_t>sizeof(Record) + size
        if self._count >= self.most:
            self.dropped += 1
            return False
        if end > len(self._records):
            PyByteArray_Resize(self._records, 2 * end)
        cdef char *at = PyByteArray_AS_STRING(self._records) + self._used
        memcpy(at, record, sizeof(Record))
        if size:
            memcpy(at + sizeof(Record), body, size)
        self._used = end
        self._count += 1
        self._named.append(association)
        return True

    cdef inline bint is_expected(self) noexcept:
        """Whether the reader knows that something waits, and need not hurry."""
        return self._woken and (self._pressed or 2 * self._count < self.most)

    cdef int _announce(self) except -1:
        """Wake the reader, once; and once more where it is to hurry."""
        if not self._woken and self._wake is not None:
            self._woken = True
            self._wake()
        if not self._pressed and self._crowded is not None and 2 * self._count >= self.most:
            self._pressed = True
            self._crowded()
        return 0

    def take(self):
        """All that waits, in order."""
        cdef Taken taken = Taken.__new__(Taken)
        cdef bytearray records = PyByteArray_FromStringAndSize(NULL, self._used)  # as much may come again
        cdef list named = []
        self._woken = self._pressed = False
        taken.records, taken.used, taken.named = self._records, self._used, self._named
        self._records, self._used, self._count, self._named = records, 0, 0, named
        return taken


@cython.final
cdef class Taken:
    """What was taken from a `SeenQueue`: each is made as it is asked for."""

    cdef bytearray records
    cdef Py_ssize_t used, at
    cdef list named
    cdef Py_ssize_t name

    def __iter__(self):
        return self

    def __next__(self):
        cdef Record record
        if self.at >= self.used:
            raise StopIteration
        cdef char *begin = PyByteArray_AS_STRING(self.records) + self.at
        memcpy(&record, begin, sizeof(Record))
        self.at += sizeof(Record)
        if record.kind == MADE:
            return self._next()
        if record.kind == TRANSITION_SEEN:
            return TransitionSeen(record.time, self._next(), *transition_of(record.header))
        self.at += record.size
        cdef bytes body = PyBytes_FromStringAndSize(begin + sizeof(Record), record.size)
        return self._pdu(&record, body) if record.kind == PDU_SEEN else self._message(&record, body)

    cdef PDUSeen _pdu(self, Record *record, bytes body):
        cdef PDUSeen seen = PDUSeen.__new__(PDUSeen)
        seen.time, seen.association, seen.sent, seen.whole = record.time, self._next(), record.sent, record.whole
        memcpy(seen._header, record.header, HEADER)
        seen._begun, seen.body = record.begun, body
        return seen

    cdef MessageSeen _message(self, Record *record, bytes encoded):
        cdef MessageSeen seen = MessageSeen.__new__(MessageSeen)
        seen.time, seen.association, seen.sent, seen.encoded = record.time, self._next(), record.sent, encoded
        seen.context, seen.size = self._next(), record.data
        return seen

    cdef object _next(self):
        """The next object; it is not held any longer than who asks for it holds it."""
        cdef object found = self.named[self.name]
        self.named[self.name] = None
        self.name += 1
        return found


cdef tuple transition_of(const unsigned char *numbers):
    return (states.State(numbers[0]), states.Event(numbers[1]), states.Action(numbers[2]), states.State(numbers[3]))


@cython.final
cdef class Watch(Observer):
    """What one association tells a trace: the `received.Observer` of its exchange.

    Args:
        trace: the `trace.ProtocolTrace` that is told.
        association: which it is.
        clock: gives seconds since the epoch.
    """

    cdef object _trace, _association, _clock
    cdef object _function    # None where what is seen waits in the trace's own queue
    cdef SeenQueue _queue
    cdef Splitter _received, _sent
    cdef double _now         # when what is looked at arrived, or goes out

    def __init__(self, trace, association, clock):
        self._trace, self._association, self._clock = trace, association, clock
        if isinstance(trace.function, SeenQueue):
            self._queue = trace.function
        else:
            self._queue, self._function = SeenQueue(1), trace.function
        self._received = Splitter(trace.body, trace.data)
        self._sent = Splitter(trace.body, trace.data)

    cpdef Py_ssize_t received(self, buffer, Py_ssize_t at) except -1:
        """Tell of the PDUs in what arrived, from ``at`` up to one that may end a message, or changes the state.

        Returns:
            Where that ends: up to there it may be acted upon, before this is called for what follows.
        """
        cdef Py_buffer raw
        if at == 0:  # what arrives together has one time
            self._now = self._clock()
        PyObject_GetBuffer(buffer, &raw, PyBUF_SIMPLE)
        try:
            while at < raw.len:
                if self._is_over():
                    return raw.len
                at = self._received.take(<const unsigned char *>raw.buf, at, raw.len)
                if self._received.complete:
                    self._tell_pdu(self._received, False)
                    if not continues(<const unsigned char *>raw.buf, at, raw.len):
                        break
        finally:
            PyBuffer_Release(&raw)
        return at

    cpdef object sent(self, list buffers):
        """Tell of the PDUs in what is to be written."""
        cdef Py_buffer raw
        cdef Py_ssize_t at
        if buffers:
            self._now = self._clock()
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
        return self._function is not None and self._trace.broken

    cdef int _tell_pdu(self, Splitter splitter, bint sent) except -1:
        cdef Record record = splitter.record(self._now)
        record.sent = sent
        cdef bint kept = self._queue._put(&record, self._association, splitter.body())
        splitter.begin()
        return self._hand_on() if kept else 0

    cdef int _hand_on(self) except -1:
        """Let the trace know of what was just put into the queue."""
        if self._function is None and self._queue.is_expected():
            return 0
        if self._is_over():
            return 0
        try:
            if self._function is None:
                self._queue._announce()
            else:
                for seen in self._queue.take():
                    self._function(seen)
        except Exception as error:
            self._trace.fail(error)
        return 0

    def transition(self, int before, int event, int action, int after):
        """Tell of a change of state; at the end also of the PDU in whose middle it came."""
        if self._is_over() or (before == after and event in (Event.P_DATA_REQUEST, Event.RECV_P_DATA_TF)):
            return
        self._now = self._clock()
        if after == State.STA1_IDLE and self._received._begun:
            self._tell_pdu(self._received, False)
        cdef Record record
        record.time, record.kind, record.size = self._now, TRANSITION_SEEN, 0
        record.header[0], record.header[1], record.header[2], record.header[3] = before, event, action, after
        if self._queue._put(&record, self._association, NULL):
            self._hand_on()

    cpdef object message(self, bint sent, bytes command, context, data):
        """Tell of a message."""
        cdef Record record
        if self._is_over():
            return
        if sent:
            self._now = self._clock()  # one of the peer's came with the PDU that ends it
        record.time, record.kind, record.sent, record.size = self._now, MESSAGE_SEEN, sent, len(command)
        record.data = 0 if data is None else data.size
        if self._queue._put(&record, self._association, <const unsigned char *>command):
            self._queue._named.append(context)
            self._hand_on()


cdef bint continues(const unsigned char *data, Py_ssize_t at, Py_ssize_t size) noexcept:
    """Whether a P-DATA-TF begins at ``at`` whose first PDV is of a data set: the message before it goes on."""
    return size - at >= 2 * HEADER and data[at] == DATA_TF and not data[at + 2 * HEADER - 1] & COMMAND


cdef inline Py_ssize_t length_at(const unsigned char *data) noexcept:
    return (<Py_ssize_t>data[0] << 24) | (<Py_ssize_t>data[1] << 16) | (<Py_ssize_t>data[2] << 8) | data[3]
