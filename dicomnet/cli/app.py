"""The program: finds the command, runs it, and makes of an error one line on standard error, and an exit code."""

from __future__ import annotations

import gc
import os
import sys

from .._typing import Sequence
from ..errors import DicomNetError, escaped
from ..log import log
from . import commands
from .declare import UsageError
from .exits import Exit, exit_code
from .output import complain

__all__ = ["run"]

_DEBUG = 10  # logging.DEBUG, without loading it


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. Errors are reported here and nowhere else."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except UsageError as error:
        complain(escaped(str(error)))
        return error.code
    except BrokenPipeError:
        return _nobody_reads()
    except (KeyboardInterrupt, DicomNetError, OSError) as error:
        _report(error)
        return exit_code(error)


def _run(arguments: Sequence[str]) -> int:
    completes = "_DICOMNET_COMPLETE" in os.environ  # a shell asks for completions, by click's protocol
    command = commands.load(arguments[0]) if arguments and not completes else None
    plain = command.plain(arguments[1:]) if command else None
    if plain:
        _collect_garbage()
        return plain()
    try:
        from . import explain
    except ImportError:  # click is an extra: only who uses the command line needs it
        sys.exit("error: the command line needs the package click: pip install 'dicomnet[cli]'")
    _collect_garbage()
    if completes:
        explain.complete(arguments)
    return explain.run(arguments)


def _collect_garbage() -> None:
    """From now on, and not in what is loaded: that stays."""
    gc.freeze()
    gc.enable()


def _report(error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt):
        complain("interrupted")
        return
    complain(escaped(str(error)))
    if log.isEnabledFor(_DEBUG):
        import traceback

        traceback.print_exception(error)


def _nobody_reads() -> int:
    """Whoever read our standard output went away: end quietly, as programs in a pipe do."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.INTERNAL
