"""Stores a directory again and again: ``storing.py DIRECTORY``, and a port on each line of standard input.

Prints the seconds from the first byte to the last response. One process sends to all that are compared: two that do
the same differ by more than what is to be seen.
"""

import gc
import sys
import time

from dicomnet.client import StoreScu

HOST = "127.0.0.1"


def store(port: int, directory: str) -> float:
    """Store all files of a directory over one association."""
    first, last = float("inf"), 0.0
    with StoreScu(f"SERVER@{HOST}:{port}") as scu:
        for result in scu.send(directory):
            if result.status is None or not result.status.is_success:
                raise SystemExit(f"{result.error or result.status}")
            last = time.perf_counter()
            first = min(first, last - result.seconds)
    return last - first


if __name__ == "__main__":
    for line in sys.stdin:
        print(store(int(line), sys.argv[1]), flush=True)
        gc.collect()
        gc.freeze()
