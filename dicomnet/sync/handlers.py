"""The threads in which a listener's handlers run: few, for each registration by itself, and counted."""

from __future__ import annotations

import threading
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Protocol

from ..config import HANDLER_REST, SAY_AGAIN
from ..log import log

__all__ = ["HandlerThreads", "Job"]


class Job(Protocol):
    """What is run: called first, and told to pass on what came of it when its thread is free again."""

    def __call__(self) -> None:
        """Run; what fails is part of the outcome."""

    def done(self) -> None:
        """Pass on the outcome."""


class HandlerThreads:
    """Runs jobs in threads, those of each lane in its own.

    So a lane that is full of handlers that never return stops no other. The threads are daemons: such a handler does
    not keep the process either.

    Args:
        most: threads of each lane.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lanes: dict[object, _Lane] = {}

    def submit(self, lane: object, job: Job) -> None:
        """Run ``job`` as soon as a thread of its lane is free; from the loop's thread only.

        Raises:
            RuntimeError: no thread can be started, and none runs.
        """
        found = self._lanes.get(lane)
        if found is None:
            found = self._lanes[lane] = _Lane(self._most)
        found.submit(job)

    @property
    def busy(self) -> int:
        """How many threads run a handler now."""
        return sum(lane.busy for lane in list(self._lanes.values())) if self._lanes else 0

    def join(self, end: float) -> None:
        """Wait until nothing runs any more, at the latest until ``end`` (monotonic seconds), and end what rests."""
        for lane in list(self._lanes.values()):
            lane.join(end)
        if self.busy:
            log.warning("%d handlers still run, and are left behind", self.busy)


class _Lane:
    def __init__(self, most: int) -> None:
        self._most = most
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()  # None ends a thread
        self._lock = threading.Condition()
        self._threads = 0
        self._idle = 0  # threads that wait, and no job is on its way to them
        self._waiting = 0  # jobs that no thread is for yet
        self._complained = -inf

    @property
    def busy(self) -> int:
        return self._threads - self._idle

    def submit(self, job: Job) -> None:
        with self._lock:
            if self._idle:
                self._idle -= 1
            elif self._threads >= self._most or not self._start():
                self._waiting += 1
                if monotonic() >= self._complained + SAY_AGAIN:
                    self._complained = monotonic()
                    log.warning("all %d threads of a handler are busy: requests wait for one", self._threads)
        self._jobs.put(job)

    def _start(self) -> bool:
        try:
            threading.Thread(target=self._run, name="dicomnet-handler", daemon=True).start()
        except RuntimeError:
            if not self._threads:
                raise
            return False
        self._threads += 1
        return True

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=HANDLER_REST)
            except Empty:
                with self._lock:
                    if self._idle:
                        self._idle -= 1
                        self._threads -= 1
                        return
                continue  # a job is on its way
            if job is None:
                return
            job()
            with self._lock:
                if self._waiting:
                    self._waiting -= 1
                else:
                    self._idle += 1
                    self._lock.notify_all()
            job.done()
            del job

    def join(self, end: float) -> None:
        with self._lock:
            self._lock.wait_for(lambda: self._idle >= self._threads, max(end - monotonic(), 0.0))
            resting, self._idle = self._idle, 0
            self._threads -= resting
        for _ in range(resting):
            self._jobs.put(None)
