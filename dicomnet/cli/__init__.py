"""The program ``dicomnet``: each command is a module of this package, loaded when it is asked for."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the program with the arguments of the process, and end the process with its exit code."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            # The caller closed it: no file or connection of ours may take its place.
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    try:
        import click  # noqa: F401
    except ImportError:  # an extra: a program that imports the library does not need it
        sys.exit("error: the command line needs the package click: pip install 'dicomnet[cli]'")
    from .app import run

    sys.exit(run(sys.argv[1:]))
