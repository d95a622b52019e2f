"""Serves an application from the command line, until a signal comes."""

from __future__ import annotations

import gc
import signal
from pathlib import Path
from types import FrameType

from ..net.sockets import address_of
from ..repository.application import Application
from .output import Output

__all__ = ["serve"]


def serve(application: Application, output: Output, *lines: str, title: str, settings: Path) -> None:
    """Say where it listens, then these lines, its AE title and its settings, and serve until a signal comes.

    A second signal does not wait for associations in flight.
    """

    def stop(_: int, __: FrameType | None) -> None:
        if application.listener.stopping:
            application.listener.hurry()
        application.listener.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    print(f"listening on {address_of(application.listener.address)}", flush=True)
    for line in lines:
        print(line, flush=True)
    output.say(f"its AE title is {title}; its settings are in {settings}")
    gc.collect()
    gc.freeze()  # what is loaded by now stays: the collector need not go through it again and again
    application.serve_forever()
