"""`Runner`: the threads that do jobs, a few at a time, and end them when they are cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..errors import DicomNetError
from ..log import log, log_failure
from .jobs import Job, JobQueue, JobState
from .remote import Fetching, Stopped
from .work import Report, retry_class_of

__all__ = ["Runner", "Work"]

#: Does a job, reports on it, and raises what went wrong.
Work = Callable[[Job, Fetching, Report], object]

#: Seconds between two notes of how far a job is.
PROGRESS = 0.25
_IDLE = 60.0  # seconds between two looks at a queue in which nothing is due


class Runner:
    """Does what is in a queue.

    Args:
        queue: the jobs.
        work: does one.
        parallel: how many at a time.
    """

    def __init__(self, queue: JobQueue, work: Work, *, parallel: int = 2) -> None:
        self._queue, self._work = queue, work
        self._stop = threading.Event()
        self._running: dict[int, Fetching] = {}
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, name=f"dicomnet-job-{number}", daemon=True) for number in range(parallel)
        ]

    def start(self) -> None:
        """Begin with what an earlier process left."""
        again = self._queue.recover()
        if again:
            log.info("%d jobs that were interrupted go on", again)
        for one in self._threads:
            one.start()

    def cancel(self, number: int) -> Job:
        """Cancel a job, whether it runs or waits."""
        job = self._queue.cancel(number)
        with self._lock:
            running = self._running.get(number)
        if running is not None:
            running.cancel()
        return job

    def close(self) -> None:
        """End what runs; it goes on after the next start."""
        self._stop.set()
        with self._queue.changed:
            self._queue.changed.notify_all()
        with self._lock:
            running = list(self._running.values())
        for one in running:
            one.cancel(now=True)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                job = self._next()
                if job is not None:
                    self._do(job)
            except Exception as error:
                log_failure("the queue of jobs cannot go on", error)
                self._stop.wait(_IDLE / 10)

    def _next(self) -> Job | None:
        """The next job; None after a wait for one."""
        with self._queue.changed:
            with self._lock:
                ending = tuple(self._running)
            job = self._queue.take(without=ending)
            if job is None and not self._stop.is_set():
                due = self._queue.next_due()
                self._queue.changed.wait(_IDLE if due is None else min(due, _IDLE))
        return job

    def _do(self, job: Job) -> None:
        fetching = Fetching()
        with self._lock:
            self._running[job.id] = fetching
        try:
            if self._stop.is_set() or self._queue.get(job.id).state is not JobState.RUNNING:
                return
            progress = _Progress(self._queue, job.id)
            try:
                self._work(job, fetching, progress)
            finally:
                progress.note()
            self._queue.done(job.id)
        except Stopped:
            self._ended(job)
        except DicomNetError as error:
            self._failed(job, fetching, error, retry_class_of(error))
        except OSError as error:
            self._failed(job, fetching, error, "busy")
        except Exception as error:
            log_failure(f"job {job.id} failed", error)
            self._queue.failed(job.id, f"{type(error).__name__}: see the log", "once")
        finally:
            with self._lock:
                self._running.pop(job.id, None)
            with self._queue.changed:
                self._queue.changed.notify_all()  # it may have been put back meanwhile

    def _failed(self, job: Job, fetching: Fetching, error: Exception, retry: str) -> None:
        if fetching.stopped:  # an association that is aborted fails in many ways
            self._ended(job)
            return
        after = self._queue.failed(job.id, str(error), retry)
        log.warning("job %d, %s of %s: %s (%s)", job.id, job.kind, job.peer, error, after.state)

    def _ended(self, job: Job) -> None:
        log.info("job %d is %s", job.id, "to go on later" if self._stop.is_set() else "cancelled")


class _Progress:
    """Notes in the queue how far a job is: every now and then, and where it ended."""

    def __init__(self, queue: JobQueue, job: int) -> None:
        self._queue, self._job = queue, job
        self._at, self._noted, self._latest = 0.0, (0, 0, 0), (0, 0, 0)

    def __call__(self, expected: int, present: int, found: int) -> None:
        self._latest = expected, present, found
        is_change = expected != self._noted[0] or present >= expected
        if is_change or time.monotonic() - self._at >= PROGRESS:
            self.note()

    def note(self) -> None:
        """Note it now, if it has changed."""
        if self._latest != self._noted:
            self._at, self._noted = time.monotonic(), self._latest
            expected, present, found = self._latest
            self._queue.progress(self._job, expected=expected, present=present, found=found)
