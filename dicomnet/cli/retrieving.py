"""What `dicomnet get` and `dicomnet move` share: progress on the way, and what is said in the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

from ..errors import ServiceFailure
from ..services.scu import RetrieveProgress
from ..status import Status
from .exits import Exit
from .interrupts import Interrupts
from .output import Output

__all__ = ["retrieve"]


class Done(Protocol):
    """What came of a retrieve."""

    @property
    def status(self) -> Status:
        """The final one."""

    @property
    def completed(self) -> int:
        """Instances."""

    @property
    def failed(self) -> int:
        """Instances."""

    @property
    def warning(self) -> int:
        """Instances."""

    @property
    def missing(self) -> int:
        """Instances that the peer says it sent, and that were not kept here."""

    @property
    def failed_uids(self) -> list[str]:
        """Those that were not sent."""

    @property
    def unasked(self) -> Sequence[str]:
        """Those that came though they belong to nothing that was named."""


class _Cancelled(Exception):
    """Ctrl-C: leave the retrieve, which cancels it."""


def retrieve(ask: Callable[[Callable[[RetrieveProgress], None]], Done], output: Output, interrupts: Interrupts) -> int:
    """Run a retrieve; its exit code.

    Args:
        ask: does it, and calls what it is given with the progress.
        output: what is told.
        interrupts: cancels it.
    """
    start = monotonic()
    line = _Line(output)
    last = None

    def progress(step: RetrieveProgress) -> None:
        nonlocal last
        last = step
        line.show(step)
        if interrupts.requested and interrupts.tell is None:
            raise _Cancelled

    try:
        done = ask(progress)
    except _Cancelled:
        line.clear()
        return _tell(output, last, monotonic() - start, "cancelled: ", Exit.INTERRUPTED)
    except ServiceFailure as failure:
        line.clear()
        output.error(str(failure))
        return _tell(output, None, monotonic() - start, "", Exit.FAILURES)
    line.clear()
    _complain(output, done)
    lost = done.failed or done.missing or done.status.is_failure
    code = Exit.FAILURES if lost else Exit.WARNINGS if done.warning else Exit.DONE
    return _tell(output, done, monotonic() - start, "cancelled: " if done.status.is_cancel else "", code)


def _complain(output: Output, done: Done) -> None:
    """What is not as it should be, a line for each."""
    for uid in done.failed_uids:
        output.error(f"not sent: {uid}")
    for uid in done.unasked:
        output.warn(f"not asked for, and kept: {uid}")
    if done.missing:
        said = done.completed + done.warning
        problem = f"{done.missing} of {said} instances that the peer says it sent were not kept here"
        output.error(f"{problem}. Does it have our AE title at another address, or did storing fail?")


def _tell(output: Output, done: Done | None, seconds: float, prefix: str, code: int) -> int:
    completed, failed, warning = (done.completed, done.failed, done.warning) if done else (0, 0, 0)
    output.summary(
        f"{prefix}{completed} completed, {failed} failed, {warning} with warnings in {seconds:.2f} s",
        instances=completed + warning,
        failed=failed,
        warnings=warning,
        failed_uids=done.failed_uids if done else [],
        unasked=list(done.unasked) if done else [],
        seconds=seconds,
    )
    return int(code)


class _Line:
    """One line on a terminal that says how far it is."""

    def __init__(self, output: Output) -> None:
        self._shown = not output.json and output.verbosity >= 0 and sys.stderr.isatty()

    def show(self, step: RetrieveProgress) -> None:
        if self._shown:
            total = step.remaining + step.completed + step.failed + step.warning
            _write(f"\r{step.completed + step.warning} of {total}, {step.failed} failed ")

    def clear(self) -> None:
        if self._shown:
            _write("\r" + " " * 60 + "\r")


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
