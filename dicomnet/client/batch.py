"""What the associations of a batch share: what is left to be sent, and what became of each instance."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol

from ..config import Limits
from ..dataset.types import Path
from ..errors import DicomNetError, InputFileError, NoAcceptedContext
from ..protocol.negotiation import ProposedContext
from ..services.scu import StoreResult
from ..services.user import Commitment
from ..status import Status
from .events import Link, Vetoed
from .inputs import Gatherer, Item
from .report import Report

__all__ = ["STORED_BEFORE", "Batch", "BatchOptions", "Outcome", "Stored", "Work", "committed"]

STORED_BEFORE = "stored already, says the report"


class Outcome(Enum):
    """What became of an instance."""

    #: The peer has it.
    STORED = "stored"
    #: The peer has it, and says something about it (Bxxx).
    WARNING = "warning"
    #: The peer accepted no presentation context for it.
    REFUSED = "refused"
    #: The peer did not take it, or was gone before it said so.
    FAILED = "failed"
    #: It was not to be sent: a handler said so, the batch was stopped, or an earlier report says that it is stored.
    SKIPPED = "skipped"
    #: It cannot be read.
    UNREADABLE = "unreadable"
    #: The peer has taken responsibility for it; comes after all others.
    COMMITTED = "committed"
    #: The peer has not.
    NOT_COMMITTED = "not committed"


@dataclass(slots=True)  # not frozen: that would be a third of what a small instance costs here
class Stored:
    """The result of one instance.

    Attributes:
        outcome: what became of it, in a word.
        source: what was to be stored, as it was given.
        name: by which people and reports know it.
        status: the peer's answer; None where there is none.
        error: why there is none.
        reason: the same in a sentence; empty where all is well.
        sop_class_uid, sop_instance_uid, transfer_syntax_uid: of the instance, as far as they are known.
        sent_as: SOP Instance UID of what was sent, which is another where a handler or a lossy compression made it so.
        size: bytes of its data set.
        seconds: from its first byte sent to the response.
        under_way: the association ended while it was on its way: the peer may have it, and it may be why.
    """

    outcome: Outcome
    source: object
    name: str
    status: Status | None = None
    error: Exception | None = None
    reason: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    sent_as: str = ""
    size: int = 0
    seconds: float = 0.0
    under_way: bool = False

    @property
    def ok(self) -> bool:
        """The peer has it."""
        return self.outcome in (Outcome.STORED, Outcome.WARNING, Outcome.COMMITTED)

    def record(self) -> dict[str, Any]:
        """What a report says of it."""
        return {
            "outcome": self.outcome.value,
            "source": self.name,
            "sop_instance_uid": self.sop_instance_uid,
            "sent_as": self.sent_as,
            "sop_class_uid": self.sop_class_uid,
            "transfer_syntax_uid": self.transfer_syntax_uid,
            "status": None if self.status is None else f"0x{self.status:04X}",
            "reason": self.reason,
            "size": self.size,
            "seconds": round(self.seconds, 6),
        }


class Work:
    """What one association after another sends: what is left of it."""

    def __init__(self, items: Iterable[Item], contexts: list[ProposedContext]) -> None:
        self.contexts = contexts
        self.items: deque[Item] = deque(items)


class Lease(Protocol):
    """An association that is in use; of either face."""

    @property
    def association(self) -> Link:
        """The association."""

    @property
    def left(self) -> int | None:
        """How many requests it is still good for; None is any number."""

    @property
    def is_used_up(self) -> bool:
        """No further request is wanted on it."""

    def use(self) -> None:
        """A request has been made."""


class BatchOptions(Protocol):
    """What a batch knows of the component that sends it."""

    pattern: str
    recurse: bool
    transfer_syntax: str | None
    force: bool
    headerless: bool
    report: Path | None
    resume: bool
    halt: bool
    stopped: bool
    planned: int
    planned_bytes: int
    watch: Callable[[Any], Any] | None

    @property
    def commits(self) -> bool:
        """Storage commitment is asked for."""

    @property
    def closing(self) -> bool:
        """The client is being closed."""


class Batch:
    """What the associations of one batch share.

    Attributes:
        over: no further instance is to be begun.
        given: by the identity of each item under way, what its association was given for it.
        leases: the associations that are used now.
        share: how many instances each association may have under way: so many that all have some.
        careful: an association ended with something under way: from then on it is one.
        aside: results that came up where none could be passed on, and whether they are news.
        stored: what the peer has, where that matters later.
        last: the last result.
        raised: by a handler.
    """

    def __init__(self, scu: BatchOptions, limits: Limits) -> None:
        self._scu = scu
        scu.stopped, scu.planned, scu.planned_bytes = False, 0, 0
        self._report: Report | None = None
        self._gatherer = Gatherer(
            self._refuse,
            pattern=scu.pattern,
            recurse=scu.recurse,
            transfer_syntax=scu.transfer_syntax,
            limits=limits,
            force=scu.force,
            headerless=scu.headerless,
        )
        self.aside: deque[tuple[Stored, bool]] = deque()
        self._ends: list[DicomNetError] = []
        self._why = ""
        self.over: bool = False
        self.share = 1
        self.careful = False
        self.given: dict[int, Any] = {}
        self.leases: set[Lease] = set()
        self.stored: list[Stored] = []
        self.last: Stored | None = None
        self.raised: Exception | None = None

    def windows(self, sources: Iterable[Any]) -> Iterator[list[Item]]:
        """What is to be sent, without what an earlier report says is stored."""
        for window in self._gatherer.windows(sources):
            if self._report is None and self._scu.report is not None:  # not before there is something to report
                self._report = Report(self._scu.report, resume=self._scu.resume)
            self._scu.planned += len(window)
            wanted = [item for item in window if not self._is_stored(item)]
            self._scu.planned_bytes += sum(item.size for item in wanted)
            yield wanted
            if not self.wants_more:
                return

    def _is_stored(self, item: Item) -> bool:
        key = item.sop_instance_uid, item.name
        if self._report is None or key not in self._report.acknowledged:
            return False
        result = replace(self._skipped(item, STORED_BEFORE), sent_as=self._report.acknowledged[key])
        if self._scu.commits and key not in self._report.committed:
            self.stored.append(result)
        self.aside.append((result, False))
        return True

    def close(self) -> None:
        """Let go of the inputs, and have the report on the disk."""
        self._gatherer.close()
        if self._report is not None:
            self._report.close()

    @property
    def wants_more(self) -> bool:
        """Whether a further instance may be begun."""
        return not (self.over or self._scu.stopped or self._scu.closing)

    # ---- what is sent next -------------------------------------------------------------------------------------

    def take(self, one: Work, lease: Lease) -> Item | None:
        """The next item for an association; None where it has enough, or nothing more is wanted."""
        if (lease.left is not None and lease.is_used_up) or not self.wants_more:
            return None
        try:
            item = one.items.popleft()
        except IndexError:
            return None
        if lease.left is not None:
            lease.use()
        return item

    def feed(self, one: Work, lease: Lease, taken: deque[Item]) -> Iterator[Any]:
        """What an association stores, one after another."""
        while (item := self.take(one, lease)) is not None:
            given = self.opened(item)
            if given is not None:
                taken.append(item)
                yield given

    def opened(self, item: Item) -> Any:
        """What is to be stored for an item; None where it cannot be read after all."""
        try:
            given = item.open()
        except InputFileError as error:
            self.aside.append((self.failed(item, error), True))
            return None
        if self._scu.watch is not None:
            given = self._scu.watch(given)
        self.given[id(item)] = given
        return given

    def answered(self, taken: deque[Item], result: StoreResult) -> Item:
        """Take off the item that a result is of.

        It is the first, unless the association ended: those ahead may be without an answer then.
        """
        place = next((at for at, item in enumerate(taken) if self.given.get(id(item)) is result.source), 0)
        item = taken[place]
        del taken[place]
        self.given.pop(id(item), None)
        return item

    def stop(self, why: str) -> None:
        """Begin no further instance."""
        self._why = self._why or why
        self.over = True

    def interrupt(self) -> bool:
        """Abort what is under way; whether anything was. From anywhere, a signal handler too."""
        self.stop("the batch was interrupted")
        leases = list(self.leases)
        for lease in leases:
            lease.association.interrupt()
        return bool(leases)

    def end(self, error: DicomNetError) -> None:
        """There is no further association to be had."""
        self._ends.append(error)

    # ---- results -----------------------------------------------------------------------------------------------

    def noted(self, result: Stored, *, news: bool = True) -> Stored:
        """Write a result down before the caller is told, and draw the consequences; the result."""
        if news and self._report is not None:
            self._report.write(result.record())
        if self._scu.commits and result.ok and result.outcome is not Outcome.COMMITTED:
            self.stored.append(result)
        if self._scu.halt and not result.ok and result.outcome is not Outcome.SKIPPED:
            self.stop("the batch was stopped after a failure")
        self.last = result
        return result

    def set_aside(self) -> Iterator[Stored]:
        """Pass on results that came up where none could be passed on."""
        while self.aside:
            result, news = self.aside.popleft()
            yield self.noted(result, news=news)

    def result(self, item: Item, result: StoreResult) -> Stored:
        """What an association says of an item."""
        if result.error is not None:
            return self.failed(item, result.error)
        status = result.status
        assert status is not None
        return Stored(
            Outcome.STORED if status == 0 else _outcome_of(result),
            item.source,
            item.name,
            status,
            None,
            "" if status == 0 else str(status),
            result.sop_class_uid,
            item.sop_instance_uid,
            result.transfer_syntax_uid,
            result.sop_instance_uid,
            result.size,
            result.seconds,
        )

    def failed(self, item: Item, error: Exception) -> Stored:
        """An item that has no status."""
        return self._without_status(item, _outcome_of_error(error), error, str(error))

    def broken(self, item: Item, error: Exception) -> Stored:
        """An item that was under way when its association ended."""
        return replace(self.failed(item, error), under_way=True)

    def unwanted(self, item: Item, veto: Vetoed | None) -> Stored:
        """An item that a handler did not want."""
        return self._skipped(item, "skipped by a handler") if veto is None else self.failed(item, veto)

    def left_over(self, item: Item) -> Stored:
        """An item that was not come to: why."""
        if self._ends and not self.over:
            return self.failed(item, self._ends[-1])
        closed = self._scu.closing and not self.over
        return self._skipped(item, "the client was closed" if closed else self._why or "the batch was stopped")

    def _skipped(self, item: Item, reason: str) -> Stored:
        return self._without_status(item, Outcome.SKIPPED, None, reason)

    def _without_status(self, item: Item, outcome: Outcome, error: Exception | None, reason: str) -> Stored:
        return Stored(
            outcome,
            item.source,
            item.name,
            error=error,
            reason=reason,
            sop_class_uid=item.pair[0],
            sop_instance_uid=item.sop_instance_uid,
            transfer_syntax_uid=item.pair[1],
        )

    def _refuse(self, source: object, name: str, error: DicomNetError) -> None:
        self._scu.planned += 1
        result = Stored(_outcome_of_error(error), source, name, error=error, reason=str(error))
        self.aside.append((result, True))


def _outcome_of(result: StoreResult) -> Outcome:
    assert result.status is not None
    if result.status.is_warning:
        return Outcome.WARNING
    return Outcome.STORED if result.ok else Outcome.FAILED


def _outcome_of_error(error: Exception) -> Outcome:
    if isinstance(error, NoAcceptedContext):
        return Outcome.REFUSED
    return Outcome.UNREADABLE if isinstance(error, InputFileError) else Outcome.FAILED


def committed(stored: Stored, answer: Commitment | DicomNetError) -> Stored:
    """What the answer to a storage commitment says of an instance; an error says it of all."""
    facts: dict[str, Any] = {
        "source": stored.source,
        "name": stored.name,
        "sop_class_uid": stored.sop_class_uid,
        "sop_instance_uid": stored.sop_instance_uid,
        "transfer_syntax_uid": stored.transfer_syntax_uid,
        "sent_as": stored.sent_as,
    }
    if isinstance(answer, DicomNetError):
        return Stored(outcome=Outcome.NOT_COMMITTED, error=answer, reason=str(answer), **facts)
    if (stored.sop_class_uid, stored.sent_as) in answer.committed:
        return Stored(outcome=Outcome.COMMITTED, **facts)
    codes = [code for _, uid, code in answer.failed if uid == stored.sent_as]
    if not codes:
        return Stored(outcome=Outcome.NOT_COMMITTED, reason="the peer does not mention it", **facts)
    status = Status(codes[0], service="N-ACTION")
    return Stored(outcome=Outcome.NOT_COMMITTED, status=status, reason=str(status), **facts)
