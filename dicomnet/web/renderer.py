"""Processes that decode and draw: one for a processor, with a queue that has an end, and a time for each picture."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from .drawing import Frame, NotDecodable, Wish, decoded_bytes, picture
from .problems import Problem

__all__ = ["Renderer"]

#: Processes; pictures that wait for one; seconds that one may take; pictures after which a process is made anew.
PROCESSES = max(1, min(4, os.cpu_count() or 1))
MOST_WAITING = 64
SECONDS = 60.0
LIFETIME = 2000

T = TypeVar("T")


def _begin() -> None:
    """A signal for the server is not one for its processes: it ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Renderer:
    """Draws pictures in processes of its own, which begin with the first one. What kills a process fails one picture.

    Args:
        processes: how many.
        waiting: how many pictures may wait.
        seconds: that a picture may take.
    """

    def __init__(self, processes: int = PROCESSES, waiting: int = MOST_WAITING, seconds: float = SECONDS) -> None:
        self._processes, self._seconds = processes, seconds
        self._places = threading.BoundedSemaphore(processes + waiting)
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def picture(self, frame: Frame, wish: Wish) -> bytes:
        """See `drawing.picture`.

        Raises:
            Problem: 406 for what cannot be decoded here, 503 when too many wait or it takes too long.
        """
        return self._run(picture, frame, wish)

    def decoded(self, frame: Frame) -> bytes:
        """See `drawing.decoded_bytes`; raises as `picture` does."""
        return self._run(decoded_bytes, frame)

    def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        if not self._places.acquire(blocking=False):
            raise Problem(503, "too many pictures are wanted at a time", headers={"Retry-After": "1"})
        pool = self._open()
        try:
            return pool.submit(work, *arguments).result(self._seconds)
        except NotDecodable as error:
            raise Problem(406, str(error), parameter="Accept") from error
        except TimeoutError as error:
            self._give_up(pool)
            raise Problem(503, f"the picture takes longer than {self._seconds:g} s") from error
        except BrokenProcessPool as error:
            self._give_up(pool)
            raise Problem(406, "the pixel data cannot be decoded here", parameter="Accept") from error
        except Problem:
            raise
        except Exception as error:  # attributes that contradict each other raise what they like
            raise Problem(406, "the instance cannot be drawn: its attributes contradict each other") from error
        finally:
            self._places.release()

    def _open(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                # Not a fork: the threads of the server would leave their locks behind.
                context = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(
                    self._processes, mp_context=context, initializer=_begin, max_tasks_per_child=LIFETIME
                )
            return self._pool

    def _give_up(self, pool: ProcessPoolExecutor) -> None:
        """End processes that hang, or what is left of them; the next picture begins new ones."""
        with self._lock:
            if self._pool is pool:
                self._pool = None
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
