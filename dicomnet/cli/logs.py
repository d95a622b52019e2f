"""What the package logs goes to standard error, a line for each record."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from ..errors import escaped

__all__ = ["log_to_stderr"]

_LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}


class _OneLine(logging.Formatter):
    """No traceback, and nothing in the message that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        worker = getattr(record, "worker", None)
        return escaped(super().format(record)) + (f" (worker {worker})" if worker else "")

    def formatException(self, ei: Any) -> str:  # noqa: N802 -- logging's name
        return ""


def log_to_stderr(verbosity: int) -> None:
    """Show records from warnings on; fewer or more as the options want."""
    handler = logging.StreamHandler()
    debug = verbosity >= 2
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(processName)s %(threadName)s %(levelname)s: %(message)s")
        if debug
        else _OneLine("%(levelname)s: %(message)s")
    )
    if not debug:  # what pydicom warns of quotes values, of patients too
        warnings.filterwarnings("ignore", module="pydicom")
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    log = logging.getLogger("dicomnet")
    log.addHandler(handler)
    log.propagate = False
    log.setLevel(_LEVELS[verbosity])
