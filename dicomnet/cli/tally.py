"""What became of each instance of a batch, told as it comes, and the exit code that follows from all of them."""

from __future__ import annotations

from time import monotonic
from typing import Any

from ..client import Outcome, Stored
from ..client.batch import STORED_BEFORE
from ..errors import DeadlineExceeded, InputFileError, InvalidArgument, NoAcceptedContext
from ..protocol.peer_profile import Peer
from .exits import Exit, exit_code
from .output import Output, counted, rate

__all__ = ["Tally"]

# Of several codes the one that says most about the batch: the first in this list. Input files' codes come last but one.
_NAMED = 5  # of all that cannot be sent for one reason, so many are named; the rest is counted
_GRAVEST = (
    Exit.INTERRUPTED, Exit.INTERNAL, Exit.TIMED_OUT, Exit.TLS, Exit.CONNECTION, Exit.NEGOTIATION, Exit.SENDING,
    Exit.FAILURES, Exit.NO_CONTEXT, 20, 21, 22, 23, Exit.WARNINGS,
)  # fmt: skip


class Tally:
    """Counts, and prints.

    Args:
        output: where to.
        transcodes: whether instances are converted where the peer does not take them as they are.

    Attributes:
        codes: the exit codes of what was not as it should be.
        established: whether there was an association at any time: what the peer fails to do then ends the sending.
    """

    established = False

    def __init__(self, output: Output, *, transcodes: bool = False) -> None:
        self.output = output
        self.codes: set[int] = set()
        self._transcodes = transcodes
        self._counts = dict.fromkeys(("instances", "warnings", "failed", "before", "size"), 0)
        # Whether each instance is told of, and not only what is no success.
        self._tells = output.verbosity >= 1 or (output.json and output.verbosity >= 0)
        self._told = 0
        self._first = self._last = 0.0
        self._ends: dict[str, Exception] = {}  # why there was no association, by its words; said once each
        self._said: set[str] = set()
        self._causes: dict[str, int] = {}  # why instances could not be sent, and how many

    def add(self, result: Stored, *, interrupted: bool = False) -> None:
        """An instance was answered for, or could not be sent.

        Args:
            result: what became of it.
            interrupted: whether Ctrl-C ended the batch.
        """
        self._told += 1
        error = result.error
        if result.status is not None:
            self._answered(result)
        elif result.reason == STORED_BEFORE:
            self._counts["before"] += 1
            self.output.record(file=_name(result), skipped=result.reason)
        elif isinstance(error, InputFileError | NoAcceptedContext | InvalidArgument):  # it is about this instance
            self._fail(result, error)
        elif interrupted:
            self._not_sent(result, "interrupted", listed=False)
        elif result.under_way and error is not None:
            self.codes.add(exit_code(error, established=True))
            self._not_sent(result, f"the association ended while it was sent: {error}", prefix="")
        elif error is not None:
            self._say_once(error)
            self._not_sent(result, "no association")
        else:
            self._not_sent(result, result.reason)

    def note(self, error: Exception) -> None:
        """There was no association to be had, for once: told at the end, unless it is told before."""
        if not isinstance(error, NoAcceptedContext):  # each instance says so
            self._ends.setdefault(str(error), error)

    def _say_once(self, error: Exception) -> None:
        message = str(error)
        self._ends.setdefault(message, error)
        if message not in self._said:
            self._said.add(message)
            self.output.error(message)

    def _answered(self, result: Stored) -> None:
        self._last = monotonic()
        if not self._first or self._last - result.seconds < self._first:
            self._first = self._last - result.seconds
        counts = self._counts
        counts["instances" if result.ok else "failed"] += 1
        if result.ok:
            counts["size"] += result.size
        if result.status != 0:
            counts["warnings"] += result.ok
            self.codes.add(Exit.WARNINGS if result.ok else Exit.FAILURES)
        if self._tells or result.status != 0:
            self._tell(result)

    def _not_sent(self, result: Stored, why: str, *, prefix: str = "not sent: ", listed: bool = True) -> None:
        """``listed``: on a line of its own, not only as JSON."""
        self._counts["failed"] += 1
        self.output.record(file=_name(result), error=f"{prefix}{why}")
        if listed:
            self._name_some(f"{_name(result)}: {prefix}{why}", f"{prefix}{why}")

    def _fail(self, result: Stored, error: Exception) -> None:
        self._counts["failed"] += 1
        # What cannot be converted finds no context that takes it; the command line is not to blame.
        self.codes.add(Exit.NO_CONTEXT if isinstance(error, InvalidArgument) else exit_code(error))
        message = str(error)
        if not (isinstance(error, InputFileError) and error.path):
            message = f"{_name(result)}: {message}"
        if result.outcome is Outcome.REFUSED and not self._transcodes:
            message += ". With --transcode it may be converted"
        self.output.record(file=_name(result), error=message)
        self._name_some(message, error.message if isinstance(error, InputFileError) else str(error))

    def _name_some(self, message: str, cause: str) -> None:
        """Print an error, unless enough instances were named for the same cause."""
        self._causes[cause] = self._causes.get(cause, 0) + 1
        if self._causes[cause] <= _NAMED or self.output.verbosity >= 1:
            self.output.error(message)

    def _tell(self, result: Stored) -> None:
        output = self.output
        if output.json and (output.verbosity >= 0 or not result.ok):
            output.record(**_fields(result))
        if result.status != 0:
            tell = output.warn if result.ok else output.error
            tell(f"{_name(result)}: the peer answered {result.status}")
        elif output.verbosity >= 1:
            output.say(f"{_name(result)}: {result.status}, {rate(result.size, result.seconds)}")

    def finish_report(self, report: str | None) -> None:
        """Say what an earlier report had."""
        if self._counts["before"]:
            self.output.say(f"{self._counts['before']} stored before, says {report}")

    def finish(self, peer: Peer, planned: int) -> int:
        """Print the summary; the exit code.

        Args:
            peer: where it went.
            planned: how many instances were looked over to be sent: what was not told of is not sent.
        """
        self._conclude()
        self._sum_up_causes()
        counts = self._counts
        counts["failed"] += max(planned - self._told, 0)
        seconds = max(self._last - self._first, 0.0)
        line = f"{counted(counts['instances'], 'instance')} sent to {peer.address()}: {rate(counts['size'], seconds)}"
        # After Ctrl-C most of them were not even tried.
        missed = "not sent" if Exit.INTERRUPTED in self.codes else "failed"
        self.output.summary(
            f"{line}; {counts['failed']} {missed}" if counts["failed"] else line,
            instances=counts["instances"],
            bytes=counts["size"],
            seconds=seconds,
            failed=counts["failed"],
            warnings=counts["warnings"],
        )
        done = Exit.FAILURES if counts["failed"] else Exit.DONE
        return next((int(code) for code in _GRAVEST if code in self.codes), int(done))

    def _conclude(self) -> None:
        """Why there was no association, where that is what the batch ended of, or else as a warning.

        Where an association broke, that no other could be had then is no more than a consequence.
        """
        for message, error in self._ends.items():
            if message not in self._said:
                self.output.warn(message)
            elif Exit.SENDING not in self.codes:
                self.codes.add(self._code_of_end(error))

    def _sum_up_causes(self) -> None:
        """What was met so often that it is not told of each."""
        for cause, number in self._causes.items():
            if number > _NAMED and self.output.verbosity < 1:
                self.output.error(f"{number - _NAMED} more, which -v names: {cause}")

    def _code_of_end(self, error: Exception) -> int:
        """The exit code where there was no association to be had: none at all, or no further one."""
        if self.established and isinstance(error, DeadlineExceeded):
            return Exit.SENDING
        return exit_code(error, established=self.established)


def _name(result: Stored) -> str:
    """How people know an instance: as they wrote it."""
    return result.source if isinstance(result.source, str) else result.name


def _fields(result: Stored) -> dict[str, Any]:
    status = result.status
    assert status is not None
    fields: dict[str, Any] = {
        "file": _name(result),
        "sop_class_uid": result.sop_class_uid,
        "sop_instance_uid": result.sent_as,
        "transfer_syntax_uid": result.transfer_syntax_uid,
        "size": result.size,
        "seconds": result.seconds,
        "status": int(status),
    }
    if status != 0:
        fields |= {"category": status.category.value, "meaning": status.meaning, "comment": status.comment}
    return fields
