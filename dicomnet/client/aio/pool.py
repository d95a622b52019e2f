"""The associations that a client keeps with its peer: opened when they are needed, used again, released when idle."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from ...aio.association import Association
from ...errors import DeadlineExceeded, DicomNetError, LocalProtocolError
from ...log import log_failure
from ...protocol.negotiation import ProposedContext
from .concurrency import Gate, Worker, join, now, start, wait

__all__ = ["Lease", "Opener", "Pool"]


class Lease:
    """An association that is in use, or waits to be.

    Attributes:
        association: the association.
        contexts: what it proposed.
        left: how many requests it is still good for; None is any number.
        since: when it became idle.
    """

    __slots__ = ("association", "contexts", "left", "since")

    def __init__(self, association: Association, contexts: Iterable[ProposedContext], left: int | None) -> None:
        self.association: Association = association
        self.contexts: frozenset[ProposedContext] = frozenset(contexts)
        self.left = left
        self.since: float = 0.0

    def use(self, requests: int = 1) -> None:
        """So many requests have been made."""
        if self.left is not None:
            self.left -= requests

    @property
    def is_used_up(self) -> bool:
        """No further request is wanted on it."""
        return self.left is not None and self.left <= 0


class Opener(Protocol):
    """What connects and releases for a pool."""

    async def open_association(self, contexts: Sequence[ProposedContext]) -> Association:
        """Connect, for these contexts."""

    async def release_association(self, association: Association) -> None:
        """Release an association in good order."""


class Pool:
    """At most so many associations with one peer; safe to use from several threads.

    Args:
        opener: connects and releases.
        most: associations at a time.
        idle: seconds after which one that is not used is released; None keeps it.
        patience: seconds to wait for one that is in use; None for ever.
        requests: how many requests each is used for; None is any number.
    """

    def __init__(
        self,
        opener: Opener,
        *,
        most: int,
        idle: float | None,
        patience: float | None,
        requests: int | None,
    ) -> None:
        self._opener = opener
        self._most = most
        self._keep = idle
        self._patience = patience
        self._requests = requests
        self._lock = threading.Lock()  # never held while anything is waited for: in asyncio it is always free
        self._idle: list[Lease] = []
        self._in_use: set[Lease] = set()
        self._opening = 0
        self._waiting: list[Gate] = []
        self._janitor: Worker | None = None
        self.closing: Gate = Gate()

    @property
    def most(self) -> int:
        """How many associations there may be."""
        return self._most

    def __len__(self) -> int:
        return len(self._idle) + len(self._in_use)

    # ---- taking and giving back --------------------------------------------------------------------------------

    async def take(self, contexts: Sequence[ProposedContext]) -> Lease:
        """An association with these contexts: an idle one, a new one, or the next that is given back.

        Raises:
            DeadlineExceeded: all are in use, and stay so.
            AssociationError, ConnectionFailed: there is none to be had.
        """
        wanted = frozenset(contexts)
        end = None if self._patience is None else now() + self._patience
        while True:
            found, spare, gate = self._look_for(wanted)
            if found is not None and found.association.check():
                return found
            if found is not None:
                await self.drop(found)
            elif gate is None:
                return await self._open(contexts, spare)
            else:
                await self._wait(gate, end)

    def _look_for(self, wanted: frozenset[ProposedContext]) -> tuple[Lease | None, list[Lease], Gate | None]:
        """An idle one that fits; or those that have to go so that a new one may come; or what to wait for."""
        with self._lock:
            self._require_open()
            for lease in reversed(self._idle):  # the warmest first: the others may become idle for good
                if wanted <= lease.contexts:
                    self._idle.remove(lease)
                    self._in_use.add(lease)
                    return lease, [], None
            busy = len(self._in_use) + self._opening
            if busy >= self._most:
                self._waiting.append(Gate())
                return None, [], self._waiting[-1]
            self._opening += 1
            surplus = max(busy + 1 + len(self._idle) - self._most, 0)
            spare, self._idle = self._idle[:surplus], self._idle[surplus:]
            return None, spare, None

    def _require_open(self) -> None:
        if self.closing.is_set():
            raise LocalProtocolError("the client was closed")

    async def _wait(self, gate: Gate, end: float | None) -> None:
        left = None if end is None else max(end - now(), 0.0)
        opened = False
        try:
            opened = await wait(gate, left)
        finally:
            with self._lock:
                if gate in self._waiting:
                    self._waiting.remove(gate)
                elif not opened:  # it was our turn, and we give up
                    self._next_in_line()
        if not opened:
            assert self._patience is not None
            raise DeadlineExceeded("pool", self._patience, hint="All associations of this client are in use.")

    async def _open(self, contexts: Sequence[ProposedContext], spare: Iterable[Lease]) -> Lease:
        association = None
        try:
            for idle in spare:
                await self._release(idle)
            association = await self._opener.open_association(contexts)
        finally:
            with self._lock:
                self._opening -= 1
                if association is not None:
                    lease = Lease(association, contexts, self._requests)
                    self._in_use.add(lease)
                else:
                    self._next_in_line()
        if self.closing.is_set():
            await self.drop(lease)
            self._require_open()
        return lease

    async def give_back(self, lease: Lease) -> None:
        """Keep an association for the next caller, unless it is over or used up."""
        keep = lease.association.check() and not lease.is_used_up and self._keep != 0
        with self._lock:
            keep = keep and not self.closing.is_set()
            if keep:
                lease.since = now()
                self._idle.append(lease)
                self._in_use.discard(lease)
                self._next_in_line()
        if keep:
            self._watch()
        else:
            try:
                await self._release(lease)
            finally:
                self._forget(lease)

    async def drop(self, lease: Lease) -> None:
        """Abort an association on which something went wrong, if it is not over already."""
        try:
            await lease.association.abort()
        finally:
            self._forget(lease)

    def _forget(self, lease: Lease) -> None:
        with self._lock:
            self._in_use.discard(lease)
            self._next_in_line()

    def _next_in_line(self) -> None:
        """The next in line takes another look; called with the lock."""
        if self._waiting:
            self._waiting.pop(0).set()

    async def _release(self, lease: Lease) -> None:
        with suppress(DicomNetError):  # the peer is told, or gone: there is no more to wait for
            await self._opener.release_association(lease.association)

    # ---- the end -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """See to it that what is idle now does not stay so for ever."""
        with self._lock:
            if self._keep is None or self.closing.is_set():
                return
            if self._janitor is None:
                self._janitor = start(self._tidy, "dicomnet-client-idle")

    async def _tidy(self) -> None:
        """Release what has been idle for too long, until nothing is idle any more."""
        assert self._keep is not None
        while True:
            time = now()
            with self._lock:
                late = [lease for lease in self._idle if lease.since + self._keep <= time]
                self._idle = [lease for lease in self._idle if lease not in late]
                if not late and (not self._idle or self.closing.is_set()):
                    self._janitor = None
                    return
                next_due = min((lease.since for lease in self._idle), default=time) + self._keep
            for lease in late:
                try:
                    await self._release(lease)
                except Exception as error:  # of a handler: there is no caller to have it
                    log_failure("an idle association was not released in good order", error)
            if not late:
                await wait(self.closing, next_due - time)

    async def close(self, *, abort: bool = False) -> None:
        """Release what is idle, and give out no other; what is in use is released when it is given back.

        What handlers raise keeps none of them open: the first of it is raised in the end.

        Args:
            abort: abort all, in use or not; calls under way on them raise.
        """
        self.closing.set()
        with self._lock:
            idle, self._idle = self._idle, []
            in_use = list(self._in_use)
            janitor, self._janitor = self._janitor, None
            while self._waiting:
                self._next_in_line()
        failures: list[Exception] = []
        for lease in idle:
            try:
                if abort:
                    await lease.association.abort()
                else:
                    await self._release(lease)
            except Exception as error:
                failures.append(error)
        for lease in in_use if abort else ():
            lease.association.interrupt()
        if janitor is not None:
            await join(janitor)
        if failures:
            raise failures[0]
