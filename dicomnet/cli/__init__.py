"""The program ``dicomnet``: each command is a module of this package, loaded when it is asked for."""

from __future__ import annotations

import atexit
import gc
import os
import sys

from .._typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the program with the arguments of the process, and end the process with its exit code."""
    # To look for garbage in what is being loaded would be a sixth of the start-up time.
    gc.disable()
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            # Closed by whoever started us: no file or connection of ours may take its place.
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    from .app import run

    code = run(sys.argv[1:])
    # Nothing is left to be put away but memory, and the system does that faster: a tenth of what a short command takes.
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        pass  # whoever read the output has gone
    os._exit(code)
