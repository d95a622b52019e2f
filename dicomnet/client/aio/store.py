"""`StoreScu`: a batch of instances over several associations, with a known result for each."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import Any, Unpack

from ...config import OPERATIONS_WINDOW, Entity
from ...dataset.transcoding import NEVER, Transcoding, check_policy
from ...dataset.types import Path, Storable
from ...errors import DicomNetError, InputFileError, InvalidArgument, NoAcceptedContext
from ...protocol.messages import Priority
from ...protocol.negotiation import MAX_CONTEXTS, ProposedContext
from ...protocol.peer_profile import Peer
from ...services import presentation_contexts
from ...services.scu import StoreResult
from ...services.user import Commitment
from .. import events
from ..batch import Batch, Stored, Work, committed
from ..inputs import Item
from ..options import StoreClientOptions
from .client import Client
from .concurrency import Together, wait
from .pool import Lease
from .service import Service
from .services import CommitmentScu

__all__ = ["StoreScu"]

ATTEMPTS_ALONE = 2  # associations that end with an instance under way, the last time alone: it is named as the culprit
COMMIT_AT_ONCE = 1000  # instances of one storage commitment: their references are a data set of some 100 KiB


class StoreScu(Service):
    """Sends instances, each with its result: files, directories, DICOMDIRs, zip archives, data sets, bytes.

    Args:
        client: the peer; or its address, name or profile, for a client of its own, which takes the other ``options``.
        associations: how many are used at a time; no more than the client may have.
        pattern, recurse: which files of directories and archives are meant.
        halt: stop after the first instance that fails.
        window: how many may be under way at a time on each association, where the peer grants it. By default as the
            client's ``extras`` or the peer's profile say, else `config.OPERATIONS_WINDOW`; with ``halt`` 1, so that
            nothing follows what failed. A client that is there already has its own say.
        transcode: "never", "if needed", or a list of transfer syntaxes to be preferred (`transfer_choice.fitting`); by
            default as the peer's profile says, else never.
        transfer_syntax: of data sets and bytes that do not know theirs.
        force: also send files whose data set is not in the transfer syntax that they name.
        headerless: also send files that are a data set without file meta information.
        priority: of every C-STORE.
        report: a file that gets a line of JSON for each result.
        resume: leave out what the report that is there says is stored, and go on with it.
        commit: ask for storage commitment of what was stored: True asks the peer, on an association that is there
            anyway; a `CommitmentScu` asks its own peer, and has the report come where it is told.
        options: of the client.

    Attributes:
        planned, planned_bytes: how many instances of the batch have been looked over, unreadable ones and those of an
            earlier report too, and the bytes of what is to be sent.
        watch: what each instance passes through when it is opened, such as a source that counts what has gone.
    """

    pattern: str
    recurse: bool
    halt: bool
    force: bool
    headerless: bool
    report: Path | None
    resume: bool
    stopped: bool = False
    planned = planned_bytes = 0
    watch: Callable[[Any], Any] | None = None
    _batch: Batch | None = None

    def __init__(
        self,
        client: Client | str | Entity | Peer,
        *,
        associations: int = 1,
        pattern: str = "*",
        recurse: bool = True,
        halt: bool = False,
        window: int | None = None,
        transcode: Transcoding | None = None,
        transfer_syntax: str | None = None,
        force: bool = False,
        headerless: bool = False,
        priority: Priority = Priority.MEDIUM,
        report: Path | None = None,
        resume: bool = False,
        commit: bool | CommitmentScu = False,
        **options: Unpack[StoreClientOptions],
    ) -> None:
        if resume and report is None:
            raise InvalidArgument("there is nothing to resume: no report is named")
        if associations < 1:
            raise InvalidArgument("associations is at least 1")
        if isinstance(client, Client):
            super().__init__(client, **options)
        else:
            super().__init__(client, associations=associations, **options)
        self._propose(window, 1 if halt else OPERATIONS_WINDOW)
        self.associations: int = min(associations, self.client.pool.most)
        self.pattern, self.recurse, self.halt = pattern, recurse, halt
        wanted = self.client.profile.transcode if transcode is None else transcode
        self.transcode: Transcoding = NEVER if wanted is None else check_policy(wanted)
        self.transfer_syntax = transfer_syntax
        self.force, self.headerless = force, headerless
        self.priority = priority
        self.report, self.resume = report, resume
        self.commit = commit

    def _propose(self, window: int | None, usual: int) -> None:
        """Have several C-STOREs under way at a time on the associations of a client of our own."""
        if window is not None and (window < 1 or not self._own):
            raise InvalidArgument(
                f"a window of {window!r}: at least one instance has to be under way"
                if self._own
                else "window: proposed by the client, which is there already"
            )
        if self._own:
            self.client.extras = self.client.profile.storing(self.client.extras, window, usual)

    @property
    def commits(self) -> bool:
        """Storage commitment is asked for."""
        return self.commit is not False

    @property
    def closing(self) -> bool:
        """The client is being closed."""
        return self.client.pool.closing.is_set()

    async def send(self, *sources: Storable | Iterable[Storable]) -> AsyncGenerator[Stored, None]:
        """Store all of these; a result for each instance as it comes, and another when its commitment is known.

        Leaving the loop stops the batch after what is on its way. What an iterable gives is planned some at a time;
        everything else is looked over before anything is sent.

        Args:
            sources: paths of files, directories, DICOMDIRs and zip archives; data sets, bytes, open files, `Source`
                objects; iterables of these.

        Raises:
            OutputFileError: the report cannot be written.
        """
        batch = self._batch = Batch(self, self.client.limits)
        try:
            for items in batch.windows(sources):
                async with aclosing(self._send_window(batch, items)) as results:
                    async for result in results:
                        yield result
            async with aclosing(self._commit(batch)) as results:
                async for result in results:
                    yield result
        finally:
            batch.close()

    async def store(self, source: Storable) -> Stored:
        """Store one instance; a result that is not ``ok`` is returned, not raised."""
        last: Stored | None = None
        async with aclosing(self.send(source)) as results:
            async for result in results:
                last = result
        if last is None:
            raise InvalidArgument("there is nothing to store")
        return last

    def stop(self) -> None:
        """Begin no further instance of the batch that is under way: from anywhere, a signal handler too."""
        self.stopped = True

    def interrupt(self) -> bool:
        """Abort what is under way, and begin no more; results say so. Whether there was an association.

        From anywhere, a signal handler too.
        """
        self.stopped = True
        return self._batch is not None and self._batch.interrupt()

    # ---- a window of a batch -----------------------------------------------------------------------------------

    async def _send_window(self, batch: Batch, items: list[Item]) -> AsyncGenerator[Stored, None]:
        for result in batch.set_aside():
            yield result
        planned = presentation_contexts.store_batches([(item, item.pair) for item in items], self.transcode)
        work = [Work(one.instances, self._contexts(one.contexts)) for one in planned]
        width = min(self.associations, len(items))
        batch.share = 1 if batch.careful else max(len(items) // max(width, 1), 1)
        if width <= 1 or not batch.wants_more:
            sent = self._work(batch, work)
        else:
            sent = self._work_together(batch, work, width)
        async with aclosing(sent) as results:
            async for result in results:
                yield result
        for one in work:
            while one.items:
                yield batch.noted(batch.left_over(one.items.popleft()))

    def _contexts(self, contexts: list[ProposedContext]) -> list[ProposedContext]:
        wanted = presentation_contexts.commitment() if self.commit is True else []
        return contexts + wanted if len(contexts) < MAX_CONTEXTS else contexts

    async def _work_together(self, batch: Batch, work: list[Work], width: int) -> AsyncGenerator[Stored, None]:
        together = Together([self._work(batch, work) for _ in range(width)])
        try:
            async for result in together:
                yield result
        except (Exception, GeneratorExit):
            raise
        except BaseException:  # Ctrl-C, or a cancellation: nothing waits for what is under way
            batch.interrupt()
            raise
        finally:
            await together.aclose()

    async def _work(self, batch: Batch, work: list[Work]) -> AsyncGenerator[Stored, None]:
        """One association after another, for as long as there is something to do and an association to be had."""
        for one in work:
            while one.items and batch.wants_more:
                try:
                    lease = await self.client.pool.take(one.contexts)
                except NoAcceptedContext as error:  # others may fare better
                    while one.items:
                        yield batch.noted(batch.failed(one.items.popleft(), error))
                except DicomNetError as error:
                    batch.end(error)  # others may have an association, and send what is left
                    return
                else:
                    async with aclosing(self._use(batch, one, lease)) as results:
                        async for result in results:
                            yield result

    async def _use(self, batch: Batch, one: Work, lease: Lease) -> AsyncGenerator[Stored, None]:
        """Send over an association until nothing is left, or it has served its time, or it ends."""
        taken: deque[Item] = deque()  # those that were asked for and have no result yet
        batch.leases.add(lease)
        handlers = self.hooks.of(events.BeforeStore) or self.hooks.of(events.AfterStore)
        send = self._send_with_handlers if handlers else self._send_all
        try:
            async with aclosing(send(batch, one, lease, taken)) as results:
                async for result in results:
                    yield result
        except GeneratorExit:
            await self.client.pool.give_back(lease)
            raise
        except BaseException as error:
            over = not lease.association.established
            await self.client.discard(lease, error)
            if not over or not isinstance(error, DicomNetError) or error is batch.raised:
                raise
            for result in self._unanswered(batch, one, taken, error):
                yield result
        else:
            await self.client.pool.give_back(lease)
        finally:
            batch.leases.discard(lease)

    def _unanswered(self, batch: Batch, one: Work, taken: deque[Item], error: DicomNetError) -> Iterator[Stored]:
        """The association ended: what was on its way may have arrived or not, the rest waits for another.

        They are sent again, one at a time: the one at which the peer leaves once more, alone, is why it does.
        """
        begun = set(map(id, error.unanswered))
        alone = len(begun) == 1
        if begun:
            batch.careful, batch.share = True, 1
        waiting = []
        for item in taken:
            sent = id(batch.given.pop(id(item), None)) in begun
            # There are only so many, lest a peer that always leaves keeps us for ever; what waited behind is innocent.
            item.attempts += sent or not begun
            if self._is_given_up(item, culprit=sent and alone) or (sent and not batch.wants_more):
                yield batch.noted(batch.broken(item, error) if sent else batch.failed(item, error))
            else:
                waiting.append(item)
        if not taken and one.items:  # it left before anything was asked of it
            one.items[0].attempts += 1
            if self._is_given_up(one.items[0], culprit=False):
                yield batch.noted(batch.failed(one.items.popleft(), error))
        one.items.extendleft(reversed(waiting))

    def _is_given_up(self, item: Item, *, culprit: bool) -> bool:
        """Whether an instance is not sent again: alone, a second time is enough to be the culprit."""
        most = self.client.retry.attempts
        return item.attempts >= (min(most, ATTEMPTS_ALONE) if culprit else most)

    async def _send_all(
        self, batch: Batch, one: Work, lease: Lease, taken: deque[Item]
    ) -> AsyncGenerator[Stored, None]:
        async with aclosing(self._stream(batch, one, lease, taken, batch.feed(one, lease, taken))) as results:
            async for result in results:
                yield result
        for result in batch.set_aside():
            yield result

    async def _send_with_handlers(
        self, batch: Batch, one: Work, lease: Lease, taken: deque[Item]
    ) -> AsyncGenerator[Stored, None]:
        """One by one: each is shown before it is sent, and after."""
        while (item := batch.take(one, lease)) is not None:
            given = batch.opened(item)
            if given is None:
                for result in batch.set_aside():
                    yield result
                continue
            before = events.BeforeStore(self.client.peer, association=lease.association, source=given)
            try:
                await self._ask(batch, before)
            except InputFileError as error:
                if error is not before.unreadable:
                    raise
                yield batch.noted(batch.failed(item, error))
                continue
            if before.ended:
                batch.stop("the rest was skipped by a handler")
            if before.vetoed is not None or before.skipped:
                yield batch.noted(batch.unwanted(item, before.vetoed))
                continue
            taken.append(item)
            batch.given[id(item)] = before.sent
            async with aclosing(self._stream(batch, one, lease, taken, iter([before.sent]))) as results:
                async for result in results:
                    yield result

    async def _stream(
        self, batch: Batch, one: Work, lease: Lease, taken: deque[Item], sources: Iterator[Any]
    ) -> AsyncGenerator[Stored, None]:
        """Have the association store what it is fed with."""
        stream = lease.association.store_many(
            sources,
            priority=self.priority,
            transcode=self.transcode,
            transfer_syntax=self.transfer_syntax,
            window=batch.share,
        )
        # Whether nothing else is on its way when there is a result.
        alone = batch.share == 1 or lease.association.operations_window[0] == 1
        handlers = self.hooks.of(events.AfterStore)
        repeats = self.client.retry.out_of_resources
        async with aclosing(stream) as results:
            async for result in results:
                item = batch.answered(taken, result)
                item.attempts += 1
                if repeats and self._is_to_be_repeated(item, result) and not await self._paused(item):
                    one.items.appendleft(item)
                    continue
                stored = batch.result(item, result)
                if handlers:
                    await self._ask(batch, self._after(lease, result))
                yield batch.noted(stored)
                if batch.aside:
                    for other in batch.set_aside():
                        yield other
                if alone and not batch.wants_more:
                    break
        one.items.extendleft(reversed(taken))  # what was only opened, ahead
        taken.clear()

    async def _ask(self, batch: Batch, event: events.BeforeStore | events.AfterStore) -> None:
        """Call the handlers; what they raise is the caller's, whatever has become of the association meanwhile."""
        try:
            await self.hooks.fire(event)
        except Exception as error:
            batch.raised = error
            raise

    def _after(self, lease: Lease, result: StoreResult) -> events.AfterStore:
        return events.AfterStore(self.client.peer, association=lease.association, result=result, error=result.error)

    def _is_to_be_repeated(self, item: Item, result: StoreResult) -> bool:
        retry = self.client.retry
        return retry.wants(result.status) and item.attempts < retry.attempts

    async def _paused(self, item: Item) -> bool:
        """Wait before an instance is sent once more; whether the client was closed meanwhile."""
        return await wait(self.client.pool.closing, self.client.retry.pauses()(item.attempts))

    # ---- storage commitment ------------------------------------------------------------------------------------

    async def _commit(self, batch: Batch) -> AsyncGenerator[Stored, None]:
        """Ask whether the peer takes responsibility for what was stored (PS3.4 Annex J)."""
        if self.commit is False:
            return
        committing = self.client if self.commit is True else self.commit
        for start in range(0, len(batch.stored), COMMIT_AT_ONCE):
            some = batch.stored[start : start + COMMIT_AT_ONCE]
            answer: Commitment | DicomNetError
            try:
                answer = await committing.commit([(one.sop_class_uid, one.sent_as) for one in some])
            except DicomNetError as error:
                answer = error
            for one in some:
                yield batch.noted(committed(one, answer))
