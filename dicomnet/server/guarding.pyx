# cython: auto_pickle=False
"""`Calls`: the calls of an add-in's handlers, counted and timed; `guard.Guard` judges them.

It is compiled because each request comes by here: in Python it took longer than all else that a server does about one.
What is compiled here holds the interpreter's lock between what it looks at and what it changes, and needs no other
lock.
"""

cimport cython
from cpython.time cimport monotonic

__all__ = ["Calls"]


@cython.final
cdef class Running:
    """A place for a call.

    Attributes:
        due: when what runs there is late, in monotonic seconds; negative once that was counted; 0 where nothing runs.
    """


cdef class Calls:
    """What an add-in's handlers do.

    A subclass has `_failed`, called with each exception, and `_late`, called for each that did not return in time.
    `_noted` and `_result` get what a handler returned that is no status: an inline one, and one of any other kind.

    Attributes:
        calls: how many there were.
        in_a_row: failures since the last success.
    """

    def __cinit__(self):
        self._running = []

    cdef Running _place(self):
        cdef Running place
        for place in self._running:
            if place.due == 0:
                return place
        place = Running.__new__(Running)
        self._running.append(place)
        return place

    cdef object _run(self, function, argument, double deadline, bint is_step):
        """Call something that may take its time; where it takes more, no caller waits for its answer."""
        cdef Running place = self._place()
        cdef double due
        place.due = monotonic() + deadline
        try:
            answer = function(argument)
        except Exception as error:
            if not is_step or not isinstance(error, StopIteration):
                self._failed(error)
            raise
        finally:
            due, place.due = place.due, 0
        if monotonic() > due:
            if due >= 0:
                self._late()
            raise TimeoutError("a handler did not return in time")
        return answer

    def step(self, results, double deadline):
        """The next of the results, which has a deadline of its own.

        Raises:
            StopIteration: there is none.
        """
        return self._run(next, results, deadline, True)

    def in_thread(self, handler, double deadline):
        """A handler that may block, watched."""

        def watched(request):
            self.calls += 1
            answer = self._run(handler, request, deadline, False)
            if answer is None or isinstance(answer, int):
                self.in_a_row = 0
                return answer
            return self._result(answer, deadline)

        return watched

    def inline(self, handler):
        """One that does not block, watched: there is no time that could be over."""

        def watched(request):
            self.calls += 1
            try:
                answer = handler(request)
            except Exception as error:
                self._failed(error)
                raise
            if answer is not None and not isinstance(answer, int):
                return self._noted(answer)
            self.in_a_row = 0
            return answer

        return watched

    def late(self, double now):
        """How many calls there are that did not return in time."""
        cdef Running place
        cdef Py_ssize_t late = 0, untold = 0
        for place in self._running:
            if place.due != 0 and now > place.due:
                late += 1
                if place.due > 0:
                    place.due = -place.due
                    untold += 1
        for _ in range(untold):
            self._late()
        return late
