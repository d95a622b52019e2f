"""Exit codes, those of DCMTK where it has one, and which error ends in which."""

from __future__ import annotations

from enum import IntEnum

from ..errors import (
    AssociationRejected,
    CannotListen,
    ConnectionFailed,
    DeadlineExceeded,
    DicomNetError,
    InputFileError,
    InvalidArgument,
    NoAcceptedContext,
    OutputFileError,
    ServiceFailure,
    TLSFailed,
)

__all__ = ["Exit", "exit_code"]


class Exit(IntEnum):
    """How the program ends."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    CANNOT_READ = 20  # 20 to 23 are the values of errors.InputProblem, 40 to 45 those of OutputProblem
    CONNECTION = 60
    NEGOTIATION = 61
    SENDING = 62
    CANNOT_LISTEN = 64
    NO_CONTEXT = 66
    WARNINGS = 68
    FAILURES = 69
    TLS = 70
    TIMED_OUT = 124
    INTERRUPTED = 130


def exit_code(error: BaseException, *, established: bool = False) -> int:
    """The exit code for an error.

    Args:
        error: what was raised.
        established: whether there was an association when it was.
    """
    match error:
        case KeyboardInterrupt():
            return Exit.INTERRUPTED
        case InputFileError() | OutputFileError():
            return int(error.problem)
        case DeadlineExceeded():
            return Exit.TIMED_OUT
        case NoAcceptedContext():
            return Exit.NO_CONTEXT
        case AssociationRejected():
            return Exit.NEGOTIATION
        case ServiceFailure():
            return Exit.FAILURES
        case InvalidArgument():
            return Exit.USAGE
        case TLSFailed():
            return Exit.TLS
        case CannotListen():
            return Exit.CANNOT_LISTEN
        case ConnectionFailed():
            return Exit.SENDING if established else Exit.CONNECTION
        case DicomNetError():
            return Exit.SENDING if established else Exit.NEGOTIATION
    return Exit.INTERNAL
