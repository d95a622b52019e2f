# cython: auto_pickle=False
"""`Account`: what one association asks for and is answered, counted with each message.

It is compiled for that: in Python it took a tenth of the time in which a small instance is stored.
"""

cimport cython
from cpython.dict cimport PyDict_Update
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.time cimport monotonic
from libc.string cimport memmove

from ..wire.command_set cimport Command, Message
from .noting cimport Noted, Notes

from ..protocol.messages import message_name
from .events import Event

__all__ = ["BOUNDS", "Account", "Action", "Performed"]

#: The upper bounds, in seconds, by which latencies are counted; what takes longer has a bucket of its own.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

cdef enum:
    BUCKETS = 16             # one more than there are bounds

cdef double[BUCKETS - 1] _BOUNDS = BOUNDS


@cython.final
cdef class Performed:
    """What was performed for a caller, of a SOP class.

    Attributes:
        labels: AE title, message, SOP class.
        bytes: of the data sets received.
        seconds: that requests took, in all.
    """

    def __init__(self, tuple labels not None):
        self.labels, self._statuses = labels, {}

    cdef int add(self, int status, long long size, double seconds) except -1:
        cdef int bucket = 0
        while bucket < BUCKETS - 1 and seconds > _BOUNDS[bucket]:
            bucket += 1
        self._buckets[bucket] += 1
        if status != self._status:
            if self._alike:
                self._statuses[self._status] = self._statuses.get(self._status, 0) + self._alike
            self._status, self._alike = status, 0
        self._alike += 1
        self.bytes += size
        self.seconds += seconds
        return 0

    @property
    def statuses(self):
        """How many answers had which status."""
        cdef dict found = {}  # before anything is looked at: the garbage collector may run, and others go on counting
        PyDict_Update(found, self._statuses)
        if self._alike:
            found[self._status] = found.get(self._status, 0) + self._alike
        return found

    @property
    def buckets(self):
        """How many took at most as long as each of `BOUNDS`, and longer than the one before; then the rest."""
        return [self._buckets[bucket] for bucket in range(BUCKETS)]


cdef class Action(Noted):
    """A request that was answered, until an event is made of it.

    It holds plain values, each association's strings but once, for thousands of these are kept.
    """

    kind = "client.action"

    def event(self):
        """What it says as an event."""
        return Event(self.number, self.time, self.kind, {
            "id": self.id,
            "calling": self.calling,
            "action": message_name(self.field),
            "sop_class": self.sop_class,
            "status": f"{self.status:04X}",
            "seconds": round(self.seconds, 6),
        })


cdef class Account:
    """The requests of one association, from when they begin to be performed until they are answered.

    Args:
        id: of the association.
        latest: now, in monotonic seconds.
        notes: get an `Action` for each request that was answered.
        cell_of: gives the `Performed` for an AE title, a Command Field and a SOP Class UID.

    Attributes:
        calling: the AE title of the peer, once it is known.
        messages, received: how many requests, and bytes of data sets.
        command: of the latest request.
        status: of the latest answer.
        latest: when the latest answer went out, in monotonic seconds; of the connection before that.
    """

    def __init__(self, str id not None, double latest, Notes notes not None, cell_of):
        self.id, self.calling, self.latest = id, "", latest
        self._notes, self._cell_of = notes, cell_of

    def __dealloc__(self):
        PyMem_Free(self._pending)

    @property
    def pending(self):
        """The message ids of requests that are not answered yet, as they came."""
        return [self._pending[index].message_id for index in range(self._waiting)]

    @property
    def under_way(self):
        """Since when the oldest request waits for its answer, in monotonic seconds; 0 is none."""
        return self._pending[0].since if self._waiting else 0.0

    def begin(self, Message message not None):
        """A request is about to be performed."""
        cdef Command command = message.command
        cdef long long size = 0 if message.data is None else message.data.size
        cdef Begun *begun
        self.command = command
        self.messages += 1
        self.received += size
        if command.message_id is None:  # a C-CANCEL has none, and no answer
            return
        if self._waiting == self._room:
            begun = <Begun *>PyMem_Realloc(self._pending, (2 * self._room + 1) * sizeof(Begun))
            if begun == NULL:
                raise MemoryError
            self._pending, self._room = begun, 2 * self._room + 1
        begun = &self._pending[self._waiting]
        begun.message_id, begun.size, begun.since = command.message_id, size, monotonic()
        self._waiting += 1

    cdef int _take(self, int message_id, Begun *found) noexcept:
        """Take the request of this id, that has waited longest, from those that are under way; whether there is one."""
        cdef Py_ssize_t index
        for index in range(self._waiting):
            if self._pending[index].message_id == message_id:
                found[0] = self._pending[index]
                self._waiting -= 1
                memmove(&self._pending[index], &self._pending[index + 1], (self._waiting - index) * sizeof(Begun))
                return True
        return False

    def answered(self, Message message not None, int status):
        """The last response to a request goes out, which may be after others have begun."""
        cdef Command command = message.command
        cdef Begun begun
        if not self._take(command.message_id, &begun):
            return  # it was declined before it was performed
        cdef double now = monotonic()
        self.status, self.latest = status, now
        self._cell_for(command).add(status, begun.size, now - begun.since)
        cdef Action action = Action.__new__(Action)
        action.id, action.calling, action.sop_class = self.id, self.calling, self._sop_class
        action.field, action.status, action.seconds = self._field, status, now - begun.since
        self._notes.take_note(action)

    cdef Performed _cell_for(self, Command command):
        """Where a request is counted; nearly always that of the last one."""
        cdef int field = command.command_field or 0
        sop_class = command.affected_sop_class_uid or command.requested_sop_class_uid
        if self._cell is None or field != self._field or sop_class != self._sop_class:
            self._cell = self._cell_of(self.calling, field, sop_class)
            self._field, self._sop_class = field, sop_class
        return self._cell
