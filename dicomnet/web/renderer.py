"""Processes that decode and draw: one for a processor, with a queue that has an end, and a time for each picture."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from queue import LifoQueue
from typing import Any, TypeVar

from .drawing import Frame, NotDecodable, Wish, decoded_bytes, picture
from .problems import Problem

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = ["Renderer"]

#: Processes; seconds that one picture may take; pictures after which a process is made anew.
PROCESSES = max(1, min(4, os.cpu_count() or 1))
SECONDS = 60.0
LIFETIME = 2000
#: Pictures that wait for a process. Each holds a thread of the server, which has 40 for all that it answers.
MOST_WAITING = 16
#: Bytes that a process may take for its pictures. The largest frame (`drawing.MOST_SAMPLES`) takes 2.5 GiB, in
#: floating point and with a copy or two; a small file that says it is larger than it is must not take all there is.
MEMORY = 4 << 30

T = TypeVar("T")


def _begin(memory: int) -> None:
    """A signal for the server is not one for its processes: it ends them. What they take has a bound, on Linux."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError, ValueError):  # there is no such file, or a lower bound
        if resource is not None:
            mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (mapped + memory, mapped + memory))


class Renderer:
    """Draws pictures in processes of its own, which begin when they are needed. What kills one fails one picture.

    Args:
        processes: how many.
        waiting: how many pictures may wait.
        seconds: that a picture may take, from when a process has it.
        memory: bytes that a process may take for a picture.
    """

    def __init__(
        self, processes: int = PROCESSES, waiting: int = MOST_WAITING, seconds: float = SECONDS, memory: int = MEMORY
    ) -> None:
        self._processes, self._seconds, self._memory = processes, seconds, memory
        self._places = threading.BoundedSemaphore(processes + waiting)
        # Each has one process, so that it can be ended without the pictures of others; the last used is taken first.
        self._free: LifoQueue[ProcessPoolExecutor | None] = LifoQueue()
        for _ in range(processes):
            self._free.put(None)

    def picture(self, frame: Frame, wish: Wish) -> bytes:
        """See `drawing.picture`.

        Raises:
            Problem: 406 for what cannot be decoded here, 503 when too many wait or it takes too long.
        """
        return self._run(picture, frame, wish)

    def decoded(self, frame: Frame) -> bytes:
        """See `drawing.decoded_bytes`; raises as `picture` does."""
        return self._run(decoded_bytes, frame)

    def run(self, work: Callable[..., T], *arguments: Any, seconds: float | None = None) -> T:
        """What a function makes of its arguments, in a process; raises as `picture` does.

        Args:
            work: the function, of a module.
            arguments: of it.
            seconds: that it may take, if more than a picture.
        """
        return self._run(work, *arguments, seconds=seconds)

    def _run(self, work: Callable[..., T], *arguments: Any, seconds: float | None = None) -> T:
        seconds = seconds or self._seconds
        if not self._places.acquire(blocking=False):
            raise Problem(503, "too many pictures are wanted at a time", headers={"Retry-After": "1"})
        try:
            pool = self._free.get()  # each comes back in time
            try:
                pool = pool or self._new()
                return self._result(pool, seconds, work, *arguments)
            except (TimeoutError, BrokenProcessPool) as error:
                ended, pool = pool, None
                if ended is not None:
                    _give_up(ended)
                if isinstance(error, TimeoutError):
                    raise Problem(503, f"the picture takes longer than {seconds:g} s") from error
                raise Problem(406, "the pixel data cannot be decoded here", parameter="Accept") from error
            finally:
                self._free.put(pool)
        finally:
            self._places.release()

    def _result(self, pool: ProcessPoolExecutor, seconds: float, work: Callable[..., T], *arguments: Any) -> T:
        try:
            return pool.submit(work, *arguments).result(seconds)
        except (NotDecodable, MemoryError) as error:
            detail = str(error) if isinstance(error, NotDecodable) else "the picture takes more memory than one may"
            raise Problem(406, detail, parameter="Accept") from error
        except (Problem, TimeoutError, BrokenProcessPool):
            raise
        except Exception as error:  # attributes that contradict each other raise what they like
            raise Problem(406, "the instance cannot be drawn: its attributes contradict each other") from error

    def _new(self) -> ProcessPoolExecutor:
        # Not a fork: the threads of the server would leave their locks behind.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(
            1, mp_context=context, initializer=_begin, initargs=(self._memory,), max_tasks_per_child=LIFETIME
        )

    def close(self) -> None:
        """End the processes, each after its picture."""
        for pool in [self._free.get() for _ in range(self._processes)]:
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)
            self._free.put(None)


def _give_up(pool: ProcessPoolExecutor) -> None:
    """End a process that hangs, or what is left of it."""
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        process.kill()
    pool.shutdown(wait=False, cancel_futures=True)
