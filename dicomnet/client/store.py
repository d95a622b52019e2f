"""`StoreScu`, as scripts: a batch of instances over several associations, with a known result for each."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any, ClassVar

from .. import planner
from ..config import Entity
from ..datasets import NEVER, Transcoding, check_policy
from ..errors import DicomNetError, InputFileError, InvalidArgument, NoAcceptedContext
from ..messages import Priority
from ..negotiation import MAX_CONTEXTS
from ..operations import Commitment
from ..peers import Peer
from ..scu import StoreResult
from ..status import Status
from ..values import Value
from . import events
from .core import ClientCore, Component
from .events import Hooks
from .inputs import Gatherer, Item
from .plan import Lot, lots
from .pool import Lease
from .report import Report
from .scripts import END, Call, Left, Results, Script, operation, streaming

__all__ = ["Outcome", "StoreCore", "Stored"]

STORED_BEFORE = "stored already, says the report"
COMMIT_AT_ONCE = 1000  # instances of one storage commitment: their references are a data set of some 100 KiB


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


class Stored(Value):
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


class StoreCore(Component):
    """Sends instances, each with its result: files, directories, DICOMDIRs, zip archives, data sets, bytes.

    Args:
        client: the peer; or its address, name or profile, for a client of its own, which takes the other ``options``.
        associations: how many are used at a time; no more than the client may have.
        pattern, recurse: which files of directories and archives are meant.
        halt: stop after the first instance that fails.
        transcode: "never", "if needed", or a list of transfer syntaxes to be preferred (see `datasets.fitting`); by
            default as the peer's profile says, else never.
        transfer_syntax: of data sets and bytes that do not know theirs.
        priority: of every C-STORE.
        report: a file that gets a line of JSON for each result.
        resume: leave out what the report that is there says is stored, and go on with it.
        commit: ask for storage commitment of what was stored: True of the peer itself, or whatever has a method
            ``commit``, such as a client of another AE.
    """

    client_class: ClassVar[type[ClientCore]]

    def __init__(
        self,
        client: ClientCore | str | Entity | Peer,
        *,
        associations: int = 1,
        pattern: str = "*",
        recurse: bool = True,
        halt: bool = False,
        transcode: Transcoding | None = None,
        transfer_syntax: str | None = None,
        priority: Priority = Priority.MEDIUM,
        report: str | os.PathLike[str] | None = None,
        resume: bool = False,
        commit: Any = False,
        **options: Any,
    ) -> None:
        if resume and report is None:
            raise InvalidArgument("there is nothing to resume: no report is named")
        if associations < 1:
            raise InvalidArgument("associations is at least 1")
        self._own = not isinstance(client, ClientCore)
        if options and not self._own:
            raise InvalidArgument(f"{', '.join(sorted(options))}: an option of the client, which is there already")
        self.client: Any = client
        if not isinstance(client, ClientCore):
            self.client = self.client_class(client, associations=associations, **options)
        self.associations = min(associations, self.client.pool.most)
        self.pattern = pattern
        self.recurse = recurse
        self.halt = halt
        wanted = self.client.profile.transcode if transcode is None else transcode
        self.transcode = NEVER if wanted is None else check_policy(wanted)
        self.transfer_syntax = transfer_syntax
        self.priority = priority
        self.report = report
        self.resume = resume
        self.commit = commit
        self.stopped = False
        self.hooks = Hooks(self, self.client.hooks)

    @streaming
    def send(self, *sources: Any) -> Results[Stored]:
        """Store all of these; a result for each instance as it comes, and another when its commitment is known.

        Leaving the loop stops the batch after what is on its way. What an iterable gives is planned some at a time;
        everything else is looked over before anything is sent.

        Args:
            sources: paths of files, directories, DICOMDIRs and zip archives; data sets, bytes, open files, `Source`
                objects; iterables of these.

        Raises:
            InputFileError: a directory or an archive without anything to be sent.
            OutputFileError: the report cannot be written.
        """
        batch = _Batch(self)
        try:
            for window in batch.windows(sources):
                yield from self._send_window(batch, window)
            if self.commit:
                yield from self._commit(batch)
        finally:
            batch.close()

    @operation
    def store(self, source: Any) -> Script[Stored]:
        """Store one instance; a result that is not ``ok`` is returned, not raised."""
        batch = _Batch(self)
        try:
            for window in batch.windows([source]):
                yield from self._send_window(batch, window)
            if self.commit:
                yield from self._commit(batch)
        finally:
            batch.close()
        if batch.last is None:
            raise InvalidArgument("there is nothing to store")
        return batch.last

    def stop(self) -> None:
        """Begin no further instance of the batch that is under way: from anywhere, a signal handler too."""
        self.stopped = True

    def _leave(self, error: BaseException | None) -> Script[None]:
        if self._own:
            yield from self.client._leave(error)

    # ---- a window of a batch -----------------------------------------------------------------------------------

    def _send_window(self, batch: _Batch, items: list[Item]) -> Results[Stored]:
        yield from batch.set_aside()
        planned = lots([(item, item.pair) for item in items], self.transcode)
        work = [_Work(lot, self._contexts(lot)) for lot in planned]
        width = min(self.associations, len(items))
        if width <= 1 or not batch.wants_more:
            yield from self._work(batch, work)
        else:
            yield from self._work_together(batch, work, width)
        for one in work:
            while one.items:
                yield from batch.tell(batch.left_over(one.items.popleft()))

    def _contexts(self, lot: Lot) -> list[Any]:
        wanted = planner.commitment() if self.commit is True else []
        return lot.contexts + wanted if len(lot.contexts) < MAX_CONTEXTS else lot.contexts

    def _work_together(self, batch: _Batch, work: list[_Work], width: int) -> Results[Stored]:
        merged = self.client.face.together([self._work(batch, work) for _ in range(width)])
        try:
            while (result := (yield Call(self.client.face.next, merged))) is not END:
                yield result
        except (Exception, Left):
            raise
        except BaseException:  # Ctrl-C, or a cancellation: nobody waits for what is under way
            batch.interrupt()
            raise
        finally:
            yield Call(self.client.face.close, merged)

    def _work(self, batch: _Batch, work: list[_Work]) -> Results[Stored]:
        """One association after another, for as long as there is something to do and somebody to do it with."""
        for one in work:
            while one.items and batch.wants_more:
                try:
                    lease = yield from self.client.pool.take(one.contexts)
                except NoAcceptedContext as error:
                    yield from self._refuse(batch, one, error)
                except DicomNetError as error:
                    batch.end(error)  # others may have an association, and send what is left
                    return
                else:
                    yield from self._use(batch, one, lease)

    def _refuse(self, batch: _Batch, one: _Work, error: NoAcceptedContext) -> Results[Stored]:
        """The peer takes none of these contexts; others may fare better."""
        while one.items:
            yield from batch.tell(batch.failed(one.items.popleft(), error))

    def _use(self, batch: _Batch, one: _Work, lease: Lease) -> Results[Stored]:
        """Send over an association until nothing is left, or it has served its time, or it ends."""
        taken: deque[Item] = deque()  # those that were asked for and have no result yet
        batch.leases.add(lease)
        handlers = self.hooks.of(events.BeforeStore) or self.hooks.of(events.AfterStore)
        send = self._send_with_handlers if handlers else self._send_all
        try:
            yield from send(batch, one, lease, taken)
        except Left:
            yield from self.client.pool.give_back(lease)
            raise
        except BaseException as error:
            over = not lease.association.established
            yield from self.client.lost(lease, error)
            if not over or not isinstance(error, DicomNetError):
                raise
            yield from self._unanswered(batch, one, taken, error)
        else:
            yield from self.client.pool.give_back(lease)
        finally:
            batch.leases.discard(lease)

    def _unanswered(self, batch: _Batch, one: _Work, taken: deque[Item], error: DicomNetError) -> Results[Stored]:
        """The association ended: what was on its way may have arrived or not, the rest waits for another."""
        begun = set(map(id, error.unanswered))
        waiting = []
        for item in taken:
            item.attempts += 1  # of which there are only so many, lest a peer that always leaves keeps us for ever
            if id(batch.given.pop(id(item), None)) in begun or item.attempts >= self.client.retry.attempts:
                yield from batch.tell(batch.failed(item, error))
            else:
                waiting.append(item)
        if not taken and one.items:
            yield from batch.tell(batch.failed(one.items.popleft(), error))
        one.items.extendleft(reversed(waiting))

    def _send_all(self, batch: _Batch, one: _Work, lease: Lease, taken: deque[Item]) -> Results[Stored]:
        yield from self._stream(batch, one, lease, taken, batch.feed(one, lease, taken))
        yield from batch.set_aside()

    def _send_with_handlers(self, batch: _Batch, one: _Work, lease: Lease, taken: deque[Item]) -> Results[Stored]:
        """One by one: each is shown before it is sent, and after."""
        while (item := batch.take(one, lease)) is not None:
            given = batch.opened(item)
            if given is None:
                yield from batch.set_aside()
                continue
            before = events.BeforeStore(self.client.peer, association=lease.association, source=given)
            yield from self.hooks.fire(before)
            if before.ended:
                batch.stop("the rest was skipped by a handler")
            if before.vetoed is not None or before.skipped:
                yield from batch.tell(batch.unwanted(item, before.vetoed))
                continue
            taken.append(item)
            batch.given[id(item)] = before.sent
            yield from self._stream(batch, one, lease, taken, iter([before.sent]))

    def _stream(
        self, batch: _Batch, one: _Work, lease: Lease, taken: deque[Item], sources: Iterator[Any]
    ) -> Results[Stored]:
        """Have the association store what it is fed with."""
        options = {"priority": self.priority, "transcode": self.transcode, "transfer_syntax": self.transfer_syntax}
        results = lease.association.store_many(sources, **options)
        alone = lease.association.operations_window[0] == 1  # nothing else is on its way when there is a result
        try:
            while (result := (yield Call(self.client.face.next, results))) is not END:
                item = taken.popleft()
                batch.given.pop(id(item), None)
                if (yield from self._again(item, result)):
                    one.items.appendleft(item)
                    continue
                stored = batch.result(item, result)
                yield from self._after(lease, result)
                yield from batch.tell(stored)
                yield from batch.set_aside()
                if alone and not batch.wants_more:
                    break
        finally:
            yield Call(self.client.face.close, results)
        one.items.extendleft(reversed(taken))  # what was only opened, ahead
        taken.clear()

    def _after(self, lease: Lease, result: StoreResult) -> Script[None]:
        if self.hooks.of(events.AfterStore):
            yield from self.hooks.fire(
                events.AfterStore(
                    self.client.peer, association=lease.association, result=result, error=result.error
                )
            )

    def _again(self, item: Item, result: StoreResult) -> Script[bool]:
        """Whether an instance is to be sent once more, after a pause."""
        retry = self.client.retry
        item.attempts += 1
        if item.attempts >= retry.attempts or not retry.wants(result.status):
            return False
        closed = yield Call(self.client.face.wait, self.client.pool.closing, retry.pauses()(item.attempts))
        return not closed

    # ---- storage commitment ------------------------------------------------------------------------------------

    def _commit(self, batch: _Batch) -> Results[Stored]:
        """Ask whether the peer takes responsibility for what was stored (PS3.4 Annex J)."""
        who = self.client if self.commit is True else self.commit
        stored = batch.stored
        for start in range(0, len(stored), COMMIT_AT_ONCE):
            some = stored[start : start + COMMIT_AT_ONCE]
            try:
                answer = yield Call(who.commit, [(one.sop_class_uid, one.sent_as) for one in some])
            except DicomNetError as error:
                answer = error
            for one in some:
                yield from batch.tell(_committed(one, answer))


class _Work:
    """A lot that is being sent: what is left of it."""

    def __init__(self, lot: Lot, contexts: list[Any]) -> None:
        self.contexts = contexts
        self.items: deque[Item] = deque(lot.items)


class _Batch:
    """What the associations of one batch share.

    Attributes:
        over: no further instance is to be begun.
        given: by the identity of each item under way, what its association was given for it.
        leases: the associations that are used now.
        stored: what the peer has, where that matters later.
        last: the last result.
    """

    def __init__(self, scu: StoreCore) -> None:
        self._scu = scu
        scu.stopped = False
        self._report: Report | None = None
        self._gatherer = Gatherer(
            self._refuse,
            pattern=scu.pattern,
            recurse=scu.recurse,
            transfer_syntax=scu.transfer_syntax,
            limits=scu.client.limits,
        )
        self._aside: deque[tuple[Stored, bool]] = deque()  # and whether they are news
        self._ends: list[DicomNetError] = []
        self._why = ""
        self.over = False
        self.given: dict[int, Any] = {}
        self.leases: set[Lease] = set()
        self.stored: list[Stored] = []
        self.last: Stored | None = None

    def windows(self, sources: Iterable[Any]) -> Iterator[list[Item]]:
        """What is to be sent, without what an earlier report says is stored."""
        for window in self._gatherer.windows(sources):
            if self._report is None and self._scu.report is not None:  # not before there is something to report
                self._report = Report(self._scu.report, resume=self._scu.resume)
            yield [item for item in window if not self._is_stored(item)]
            if not self.wants_more:
                return

    def _is_stored(self, item: Item) -> bool:
        if self._report is None or (item.sop_instance_uid, item.name) not in self._report.acknowledged:
            return False
        self._aside.append((self._skipped(item, STORED_BEFORE), False))
        return True

    def close(self) -> None:
        """Let go of the inputs, and have the report on the disk."""
        self._gatherer.close()
        if self._report is not None:
            self._report.close()

    @property
    def wants_more(self) -> bool:
        """Whether a further instance may be begun."""
        return not (self.over or self._scu.stopped or self._scu.client.pool.closing.is_set())

    # ---- what is sent next -------------------------------------------------------------------------------------

    def take(self, one: _Work, lease: Lease) -> Item | None:
        """The next item for an association; None where it has enough, or nothing more is wanted."""
        if lease.is_used_up or not self.wants_more:
            return None
        try:
            item: Item = one.items.popleft()
        except IndexError:
            return None
        lease.use()
        return item

    def feed(self, one: _Work, lease: Lease, taken: deque[Item]) -> Iterator[Any]:
        """What an association stores, one after another."""
        while (item := self.take(one, lease)) is not None:
            given = self.opened(item)
            if given is not None:
                taken.append(item)
                yield given

    def opened(self, item: Item) -> Any:
        """What is to be stored for an item; None where it cannot be read after all."""
        try:
            given = self.given[id(item)] = item.open()
        except InputFileError as error:
            self._aside.append((self.failed(item, error), True))
            return None
        return given

    def stop(self, why: str) -> None:
        """Begin no further instance."""
        self._why = self._why or why
        self.over = True

    def interrupt(self) -> None:
        """Abort what is under way."""
        self.stop("the batch was interrupted")
        for lease in list(self.leases):
            lease.association.interrupt()

    def end(self, error: DicomNetError) -> None:
        """There is no further association to be had."""
        self._ends.append(error)

    # ---- results -----------------------------------------------------------------------------------------------

    def tell(self, result: Stored, *, news: bool = True) -> Results[Stored]:
        """Write a result down, then pass it on."""
        if news and self._report is not None:
            self._report.write(result.record())
        if result.ok and self._scu.commit and result.outcome is not Outcome.COMMITTED:
            self.stored.append(result)
        if self._scu.halt and not result.ok and result.outcome is not Outcome.SKIPPED:
            self.stop("the batch was stopped after a failure")
        self.last = result
        yield result

    def set_aside(self) -> Results[Stored]:
        """Pass on results that came up where none could be passed on."""
        while self._aside:
            result, news = self._aside.popleft()
            yield from self.tell(result, news=news)

    def result(self, item: Item, result: StoreResult) -> Stored:
        """What an association says of an item."""
        if result.error is not None:
            return self.failed(item, result.error)
        assert result.status is not None
        return Stored(
            _outcome_of(result),
            item.source,
            item.name,
            result.status,
            None,
            "" if result.status.is_success else str(result.status),
            result.sop_class_uid,
            item.sop_instance_uid,
            result.transfer_syntax_uid,
            result.sop_instance_uid,
            result.size,
            result.seconds,
        )  # by position: that is twice as fast

    def failed(self, item: Item, error: Exception) -> Stored:
        """An item that has no status."""
        return self._without_status(item, _outcome_of_error(error), error, str(error))

    def unwanted(self, item: Item, veto: events.Vetoed | None) -> Stored:
        """An item that a handler did not want."""
        return self._skipped(item, "skipped by a handler") if veto is None else self.failed(item, veto)

    def left_over(self, item: Item) -> Stored:
        """An item that nobody came to: why."""
        if self._ends and not self.over:
            return self.failed(item, self._ends[-1])
        closed = self._scu.client.pool.closing.is_set() and not self.over
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
        result = Stored(_outcome_of_error(error), source, name, error=error, reason=str(error))
        self._aside.append((result, True))


def _outcome_of(result: StoreResult) -> Outcome:
    assert result.status is not None
    if result.status.is_warning:
        return Outcome.WARNING
    return Outcome.STORED if result.ok else Outcome.FAILED


def _outcome_of_error(error: Exception) -> Outcome:
    if isinstance(error, NoAcceptedContext):
        return Outcome.REFUSED
    return Outcome.UNREADABLE if isinstance(error, InputFileError) else Outcome.FAILED


def _committed(stored: Stored, answer: Commitment | DicomNetError) -> Stored:
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
    status = Status(codes[0], service="N-ACTION") if codes else None
    return Stored(
        outcome=Outcome.NOT_COMMITTED, status=status, reason=str(status or "the peer does not mention it"), **facts
    )
