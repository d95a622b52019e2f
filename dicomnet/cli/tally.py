"""What became of each instance of a batch, told as it comes, and the exit code that follows from all of them."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from time import monotonic
from typing import Any

from ..config import Entity
from ..errors import InputFileError
from ..services.scu import StoreResult
from .batch import name_of
from .exits import Exit, exit_code
from .output import Output, counted, rate
from .progress import Progress

__all__ = ["Tally"]

# Of several codes the one that says most about the batch: the first in this list. Input files' codes come last but one.
_GRAVEST = (
    Exit.INTERRUPTED, Exit.INTERNAL, Exit.TIMED_OUT, Exit.TLS, Exit.CONNECTION, Exit.NEGOTIATION, Exit.SENDING,
    Exit.FAILURES, Exit.NO_CONTEXT, 20, 21, 22, 23, Exit.WARNINGS,
)  # fmt: skip


class Tally:
    """Counts, and prints; used by all threads that send.

    Args:
        output: where to.

    Attributes:
        progress: is told how far the batch is.
    """

    def __init__(self, output: Output) -> None:
        self.output = output
        self.progress = Progress(0, wanted=False)
        self.instances = self.warnings = self.failed = self.size = 0
        self.codes: set[int] = set()
        self._lock = Lock()
        self._first = self._last = 0.0

    def begin(self) -> None:
        """The first instance is about to be sent, by any thread."""
        self._first = self._first or monotonic()

    def add(self, result: StoreResult) -> None:
        """An instance was answered for, or could not be sent."""
        with self._lock:
            if result.error is not None:
                self._fail(name_of(result.source), result.error)
                return
            assert result.status is not None
            self._last = monotonic()
            if result.ok:
                self.instances += 1
                self.size += result.size
                if result.status != 0:
                    self.warnings += 1
                    self.codes.add(Exit.WARNINGS)
            else:
                self.failed += 1
                self.codes.add(Exit.FAILURES)
            self._tell(result)

    def refuse(self, error: InputFileError) -> None:
        """A file cannot be sent."""
        with self._lock:
            self._fail(error.path or "", error)

    def not_sent(self, items: Iterable[object], why: str, *, listed: bool = True) -> None:
        """The association ended before these; ``listed``: each on a line of its own, not only as JSON."""
        with self._lock:
            for item in items:
                self.failed += 1
                self.output.record(file=name_of(item), error=f"not sent: {why}")
                if listed:
                    self.output.error(f"{name_of(item)}: not sent: {why}")

    def _fail(self, name: str, error: Exception) -> None:
        self.failed += 1
        self.codes.add(exit_code(error))
        message = str(error)
        if not (isinstance(error, InputFileError) and error.path):
            message = f"{name}: {message}"
        self.output.record(file=name, error=message)
        self.output.error(message)

    def _tell(self, result: StoreResult) -> None:
        assert result.status is not None
        output = self.output
        if output.json and (output.verbosity >= 0 or not result.ok):
            output.record(**_fields(result))
        if result.status != 0:
            tell = output.warn if result.ok else output.error
            tell(f"{name_of(result.source)}: the peer answered {result.status}")
        elif output.verbosity >= 1:
            output.say(f"{name_of(result.source)}: {result.status}, {rate(result.size, result.seconds)}")

    def finish(self, peer: Entity) -> int:
        """Print the summary; the exit code."""
        self.progress.close()
        seconds = max(self._last - self._first, 0.0)
        line = f"{counted(self.instances, 'instance')} sent to {peer}: {rate(self.size, seconds)}"
        self.output.summary(
            f"{line}; {self.failed} failed" if self.failed else line,
            instances=self.instances,
            bytes=self.size,
            seconds=seconds,
            failed=self.failed,
            warnings=self.warnings,
        )
        return next((int(code) for code in _GRAVEST if code in self.codes), int(Exit.DONE))


def _fields(result: StoreResult) -> dict[str, Any]:
    status = result.status
    assert status is not None
    fields: dict[str, Any] = {
        "file": name_of(result.source),
        "sop_class_uid": result.sop_class_uid,
        "sop_instance_uid": result.sop_instance_uid,
        "transfer_syntax_uid": result.transfer_syntax_uid,
        "size": result.size,
        "seconds": result.seconds,
        "status": int(status),
    }
    if status != 0:
        fields |= {"category": status.category.value, "meaning": status.meaning, "comment": status.comment}
    return fields
