"""Studies that a person has sent: by a queue that survives a crash, a thread for each destination.

What cannot be reached is tried again for two days, and parked then, until a person says `retry` or `discard`. A study
is sent as it is when its turn comes; an instance that the destination has already is as good as sent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from ..client.sync.store import StoreScu
from ..errors import (
    AssociationError,
    ConnectionFailed,
    DeadlineExceeded,
    DicomNetError,
    InvalidArgument,
    NoAcceptedContext,
)
from ..log import log
from ..repository.blob_source import BlobSource
from ..repository.exporting import selected
from ..repository.outbox import Item, Outbox
from ..server.base import Requests
from ..status import Status
from .forwarder import until_due, work_off
from .holdings import Holdings

__all__ = ["QUEUE", "Sending"]

QUEUE = "send"
_LEASE = 300.0  # seconds, extended while instances go
_AWAY = (ConnectionFailed, AssociationError, DeadlineExceeded)


class _Lease:
    """A lease that is extended while its item is worked on, each time that a third of it has passed."""

    def __init__(self, outbox: Outbox, item: Item, clock: Callable[[], float]) -> None:
        self._outbox, self._item, self._clock = outbox, item, clock
        self._extend_at = clock() + _LEASE / 3

    def is_kept(self) -> bool:
        """Whether the item is still this worker's; what the worker says of it is not heard otherwise."""
        if self._clock() < self._extend_at:
            return True
        self._extend_at = self._clock() + _LEASE / 3
        kept = self._outbox.extend(self._item, _LEASE)
        if not kept:
            log.warning("the study %s is left to the worker that has it now", self._item.payload["study"])
        return kept


class Sending:
    """Sends studies to AEs that the server knows.

    Args:
        holdings: where they are, with the outbox.
        requests: how AEs are reached.
        clock: seconds since 1970; the database's by default.
    """

    def __init__(self, holdings: Holdings, requests: Requests, *, clock: Callable[[], float] | None = None) -> None:
        self._holdings, self._requests = holdings, requests
        self._clock: Callable[[], float] = clock or holdings.database.clock
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._workers: dict[str, tuple[threading.Thread, threading.Event]] = {}
        self._progress: dict[int, tuple[int, int]] = {}
        self._under_way: set[StoreScu] = set()

    def start(self) -> None:
        """Go on with what waits from before."""
        for count in self._holdings.outbox.counts():
            if count.queue == QUEUE:
                self._wake(count.destination)

    def order(self, studies: Sequence[str], title: str) -> int:
        """Have studies sent; how many were not on their way there already.

        Raises:
            InvalidArgument: the AE title is not known, or has no address; or a study is not there.
        """
        self._requests.client(title)
        for study in studies:
            if not selected(self._holdings, studies=[study]):
                raise InvalidArgument(f"there is no study {study}")
        with self._holdings.database.write() as connection:
            count = sum(
                self._holdings.outbox.enqueue(
                    connection, QUEUE, {"study": study}, destination=title, key=f"{title} {study}"
                )
                for study in studies
            )
        self._wake(title)
        return count

    def jobs(self) -> list[dict[str, Any]]:
        """What waits, is under way, or is parked."""
        return [
            {
                "id": one.id, "study": one.payload["study"], "to": one.destination, "state": str(one.state),
                "attempts": one.attempts, "due": one.due, "created": one.created, "error": one.error,
                "sent": self._progress.get(one.id, (0, 0))[0], "of": self._progress.get(one.id, (0, 0))[1],
            }
            for one in self._holdings.outbox.items(queue=QUEUE, most=1000)
        ]  # fmt: skip

    def retry(self, ids: Sequence[int]) -> int:
        """Try some now; how many those are."""
        count = self._holdings.outbox.retry(ids=ids, queue=QUEUE)
        self.start()
        return count

    def cancel(self, ids: Sequence[int]) -> int:
        """Give some up that are not under way; how many those are."""
        return self._holdings.outbox.discard(ids, queue=QUEUE)

    def _wake(self, title: str) -> None:
        with self._lock:
            if self._stop.is_set():
                return
            if title not in self._workers:
                wake = threading.Event()
                name = f"dicomnet-send-{title}"
                thread = threading.Thread(target=self._run, args=(title, wake), name=name, daemon=True)
                self._workers[title] = thread, wake
                thread.start()
            self._workers[title][1].set()

    def _run(self, title: str, wake: threading.Event) -> None:
        what = "the queue of studies to send cannot be looked at"
        work_off(lambda: self._send_due(title), self._pause, wake, self._stop, what)

    def _pause(self) -> float:
        return until_due(self._holdings.outbox, QUEUE, self._clock)

    def _send_due(self, title: str) -> int:
        outbox = self._holdings.outbox
        items = outbox.lease(QUEUE, f"send-{id(self):x}", seconds=_LEASE, destination=title)
        for item in items:
            try:
                failed = self._send(item)
            except (DicomNetError, OSError) as error:
                if self._stop.is_set():  # which is why
                    outbox.postpone(item, 0)
                else:
                    log.warning("the study %s cannot be sent to %s: %s", item.payload["study"], title, error)
                    outbox.fail(item, str(error))
            else:
                if self._stop.is_set():
                    outbox.postpone(item, 0)
                elif failed:
                    outbox.park(item, failed)
                else:
                    outbox.done(item)
            self._progress.pop(item.id, None)
        return len(items)

    def _send(self, item: Item) -> str:
        """Send a study; what was refused, in a sentence."""
        places = selected(self._holdings, studies=[item.payload["study"]])
        sources = [BlobSource(self._holdings.blobs, one) for one in places]
        failed, why, lease = 0, "", _Lease(self._holdings.outbox, item, self._clock)
        client = self._requests.client(item.destination)
        with StoreScu(client) as scu, self._interruptible(scu), closing(scu.send(sources)) as results:
            for count, stored in enumerate(results, 1):
                if isinstance(stored.error, _AWAY) and not isinstance(stored.error, NoAcceptedContext):
                    raise stored.error  # not there, or gone: all of it is tried again
                if not stored.ok and stored.status != Status.DUPLICATE_SOP_INSTANCE:
                    failed, why = failed + 1, stored.reason
                self._progress[item.id] = count, len(places)
                if self._stop.is_set() or not lease.is_kept():
                    break
        return f"{failed} of {len(places)} instances were refused: {why}" if failed else ""

    @contextmanager
    def _interruptible(self, scu: StoreScu) -> Iterator[None]:
        """`close` waits for no answer to what is sent meanwhile."""
        with self._lock:
            self._under_way.add(scu)
        try:
            yield
        finally:
            with self._lock:
                self._under_way.discard(scu)

    def close(self) -> None:
        """Send nothing more; what waits stays, and what is under way is sent after the next start."""
        with self._lock:
            self._stop.set()
            workers = list(self._workers.values())
            for scu in self._under_way:
                scu.interrupt()
        for _, wake in workers:
            wake.set()
        for thread, _ in workers:
            thread.join()
