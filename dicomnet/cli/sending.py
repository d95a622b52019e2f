"""Sends lots over associations, several at a time if wanted, and tells the tally what became of every instance."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from threading import get_ident
from time import monotonic
from typing import Any

from ..config import OPERATIONS_WINDOW, Entity
from ..errors import DicomNetError, InputFileError, NoAcceptedContext
from ..files.instance_source import open_source
from ..protocol.peer_profile import Peer
from ..services.scu import StoreResult
from ..sync import Association, connect
from .batch import Item, Lot
from .exits import Exit, exit_code
from .interrupts import Interrupts
from .options import Settings, profile_of
from .progress import Watched
from .tally import Tally

__all__ = ["Sender"]

# Seconds that aborted associations have to end; one that reads a file from a disk which does not answer has no end.
_GIVING_BACK = 2.0


class Sender:
    """One batch.

    Args:
        peer: where it goes.
        lots: what is sent; emptied from the front by all associations together.
        halt: stop after the first instance that fails; those under way by then still arrive.
        window: how many may be under way at a time on an association, where the peer grants it; None is as the peer's
            profile says, or as many as are worth it.
    """

    def __init__(
        self,
        peer: Entity,
        lots: list[Lot],
        settings: Settings,
        tally: Tally,
        interrupts: Interrupts,
        *,
        halt: bool,
        window: int | None,
    ) -> None:
        self._peer = peer
        self._lots = lots
        self._settings = settings
        self._tally = tally
        self._interrupts = interrupts
        self._halt = halt
        self._extras = Peer.of(profile_of(peer)).storing(None, window, 1 if halt else OPERATIONS_WINDOW)
        self._share = 1  # how many each association may have under way, for all to have some
        self._interruptible = False  # whether Ctrl-C raises here, in the main thread
        self._halted = False
        self._alive: dict[int, Association] = {}
        self._ends: list[tuple[DicomNetError, bool]] = []  # and whether there was an association
        self._unanswered: list[Any] = []
        self._crash: BaseException | None = None

    def send(self, associations: int) -> None:
        """Send everything over so many associations at a time.

        Raises:
            KeyboardInterrupt: the second Ctrl-C; every association was aborted.
        """
        instances = sum(len(lot.items) for lot in self._lots)
        wanted = min(associations, instances)
        self._interruptible = wanted <= 1
        self._share = max(instances // max(wanted, 1), 1)
        try:
            if wanted <= 1:
                self._work()
            else:
                self._work_in_threads(wanted)
        finally:
            self._interrupts.hold()
            try:
                self._settle()
            finally:
                self._interrupts.let_go()

    def _work_in_threads(self, count: int) -> None:
        import threading

        ended = [threading.Event() for _ in range(count)]  # a `join` that Ctrl-C interrupts takes its thread for ended
        threads = [threading.Thread(target=self._guarded, args=(one,), daemon=True) for one in ended]
        try:
            for thread in threads:
                thread.start()
            for one in ended:
                one.wait()
        except KeyboardInterrupt:
            self._abort(zip(threads, ended, strict=True))
            raise
        if self._crash is not None:
            raise self._crash

    def _abort(self, threads: Iterable[tuple[Any, Any]]) -> None:
        """Abort every association, and let its thread give back what it has taken: nobody else knows of that."""
        alive, until = dict(self._alive), monotonic() + _GIVING_BACK
        for association in alive.values():
            try:
                association.abort()
            except Exception:
                pass  # its thread may be anywhere: what counts is that it ends
        for thread, ended in threads:
            if thread.ident in alive:
                ended.wait(max(until - monotonic(), 0.0))

    def _guarded(self, ended: Any) -> None:
        try:
            self._work()
        except BaseException as error:
            self._crash = error
            self._halted = True
        finally:
            ended.set()

    def _work(self) -> None:
        """One association after another, as many as there are lots, until one breaks."""
        for lot in self._lots:
            if not lot.items or self._stopped:
                continue
            try:
                association = self._connect(lot)
            except NoAcceptedContext:
                self._refuse(lot)
                continue
            except DicomNetError as error:
                self._ends.append((error, False))
                return
            try:
                self._store(association, lot)
            except DicomNetError as error:
                self._ends.append((error, True))
                return

    def _connect(self, lot: Lot) -> Association:
        settings = self._settings
        return connect(
            profile_of(self._peer),
            calling=settings.calling(self._peer),
            contexts=lot.contexts,
            tls=settings.tls,
            extras=self._extras,
            limits=settings.limits,
            timeouts=settings.timeouts,
        )

    def _store(self, association: Association, lot: Lot) -> None:
        taken: deque[tuple[Any, Any]] = deque()  # those under way, and the one that is opened meanwhile
        key = get_ident()
        self._alive[key] = association
        most = min(association.operations_window[0], self._share)
        unanswered = 0
        try:
            with association:
                self._interrupts.releasable = True
                for result in association.store_many(self._take(lot, taken), window=most):
                    self._count(taken, result)
                    if self._stopped and most == 1:
                        break  # else the next one would still go out
        except BaseException as error:
            # Those may have arrived, or not: they count as not sent.
            unanswered = len(error.unanswered) if isinstance(error, DicomNetError) else min(len(taken), most)
            raise
        finally:
            entries = [entry for entry, _ in taken]
            self._unanswered += entries[:unanswered]
            lot.items.extendleft(reversed(entries[unanswered:]))
            del self._alive[key]

    def _count(self, taken: deque[tuple[Any, Any]], result: StoreResult) -> None:
        """It is either under way or told of, whenever Ctrl-C comes."""
        if self._interruptible:
            self._interrupts.hold()
        try:
            if taken[0][1] is result.source:  # as it is but for what failed without being sent
                taken.popleft()
            else:
                taken.remove(next(one for one in taken if one[1] is result.source))
            self._tally.add(result)
            self._halted |= self._halt and not result.ok
        finally:
            if self._interruptible:
                self._interrupts.let_go()

    def _take(self, lot: Lot, taken: deque[tuple[Any, Any]]) -> Iterator[Any]:
        self._tally.begin()
        while not self._stopped:
            try:
                entry = lot.items.popleft()
            except IndexError:
                return
            given = self._watched(entry[0])
            taken.append((entry, given))
            yield given

    def _watched(self, item: Item) -> Any:
        """The item itself, or, where somebody watches, one that says how far it is."""
        if not self._tally.progress.wanted:
            return item
        try:
            return Watched(open_source(item), self._tally.progress)
        except InputFileError:
            return item  # whoever sends it finds out why

    @property
    def _stopped(self) -> bool:
        return self._halted or self._interrupts.requested

    def _refuse(self, lot: Lot) -> None:
        """The peer takes none of a lot's contexts; other lots may fare better."""
        while lot.items:
            item, context = lot.items.popleft()
            error = NoAcceptedContext(context.abstract_syntax, context.transfer_syntaxes, peer=str(self._peer))
            self._tally.add(StoreResult(item, error=error))

    def _settle(self) -> None:
        """Account for what was not sent, and for why."""
        left = [item for item, _ in chain(self._unanswered, *(lot.items for lot in self._lots))]
        if self._interrupts.requested:
            self._tally.codes.add(Exit.INTERRUPTED)
            self._tally.not_sent(left, "interrupted", listed=False)
        elif left and (self._crash is not None or not (self._halted or self._ends)):
            # What has come up says by itself what it is: that nobody reads our output any more, for instance.
            self._tally.not_sent(left, "the program ended", listed=False)
        elif left and self._halted:
            self._tally.not_sent(left, "stopped after a failure")
        elif left:
            # Where an association broke, that no other could be had then is no more than a consequence.
            decisive = [end for end in self._ends if end[1]] or self._ends
            for error, established in decisive:
                self._tally.codes.add(exit_code(error, established=established))
            for message in dict.fromkeys(str(error) for error, _ in self._ends):  # several may have met the same
                self._tally.output.error(message)
            self._tally.not_sent(left, "the association is over" if decisive[-1][1] else "no association")
        else:
            for error, _ in self._ends:
                self._tally.output.warn(str(error))
