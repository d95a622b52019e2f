"""What happens while a container is made: on Python 3.11 the garbage collector may run then, and whatever it calls."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

#: The containers that are made first, one of which is that of what is tested: to be taken one after the other.
CONTAINERS = range(8)


def collecting(number: int, meanwhile: Callable[[], object], function: Callable[[], Any]) -> Any:
    """Call a function; as it makes the container of this number the collector runs, and another thread does something.

    Where Python's collector does not run there, it runs later, or not at all.
    """

    def collect(phase: str, _: dict[str, int]) -> None:
        gc.callbacks.remove(collect)
        thread = threading.Thread(target=meanwhile)
        thread.start()
        thread.join()

    thresholds = gc.get_threshold()
    gc.set_threshold(1_000_000)
    kept = [[{}] for _ in range(200)]  # from here on lists and dicts are made anew: Python has none left to use again
    gc.callbacks.append(collect)
    try:
        gc.set_threshold(gc.get_count()[0] + number)
        return function()
    finally:
        gc.set_threshold(*thresholds)
        if collect in gc.callbacks:
            gc.callbacks.remove(collect)
        kept.clear()
