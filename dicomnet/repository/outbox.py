"""The outbox: what is still to be sent or done, in rows that survive a crash, for one process or many.

A producer puts an item in the transaction that makes it necessary, so that both happen or neither::

    with database.write() as connection:
        ...                                                   # the instance is stored, the step is completed
        outbox.enqueue(connection, "forward", {"study": uid}, destination="PACS")

A worker takes items under a lease. If the worker dies, its lease ends and another worker takes them::

    for item in outbox.lease("forward", owner, seconds=60, most=8, destination="PACS"):
        try:
            send(item.payload)                                # outbox.extend(item, 60) where it takes long
        except ConnectionFailed as error:
            outbox.fail(item, str(error))                     # later again, or parked after the last try
        except ServiceFailure as error:
            outbox.park(item, str(error))                     # a person has to look: outbox.retry(ids=[item.id])
        else:
            outbox.done(item)

What holds:

- An item is done at least once. A worker whose lease has run out finds that `done`, `fail` and `park` return False:
  another worker has the item, or had it. What is sent has to bear being sent twice (a C-STORE does).
- With a ``key``, one item of a queue at most waits for the same thing: the second `enqueue` changes nothing.
- Items of one ``lane`` are done one after the other, in the order in which they were put; one that is parked holds up
  those behind it. Items without a lane know no order.
- Each method but `enqueue` is a transaction of its own; `done` takes a connection where it has to be part of another.
- PostgreSQL passes over rows that another worker is taking (FOR UPDATE SKIP LOCKED); in SQLite one writes at a time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, func, insert, or_, select, update

from ..errors import InvalidArgument
from .work_schema import outbox

__all__ = ["RETRY_CLASSES", "Item", "ItemState", "Outbox", "QueueCount", "RetryClass"]

Payload = Mapping[str, Any]
#: Begins a transaction that writes.
Begin = Callable[[], AbstractContextManager[Connection]]

_MOST_ERROR = 500  # characters that are kept of what went wrong


class ItemState(StrEnum):
    """What becomes of an item; one that is done is gone."""

    WAITING = "waiting"
    LEASED = "leased"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class RetryClass:
    """When something that failed is tried again: after ``first`` seconds, then ``factor`` times that, up to ``most``.

    Attributes:
        attempts: after so many the item is parked.
    """

    first: float
    factor: float
    most: float
    attempts: int

    def pause(self, attempts: int) -> float | None:
        """Seconds until the next try, after so many; None: no more of them."""
        if attempts >= self.attempts:
            return None
        return min(self.first * self.factor ** min(max(attempts - 1, 0), 64), self.most)


#: By name. A network that is down comes back within two days; a commitment report is tried ten times; what a peer did
#: in part only is tried a few times more.
RETRY_CLASSES: dict[str, RetryClass] = {
    "network": RetryClass(first=5, factor=2, most=900, attempts=200),
    "busy": RetryClass(first=30, factor=1.5, most=300, attempts=500),
    "report": RetryClass(first=10, factor=3, most=3600, attempts=10),
    "partial": RetryClass(first=10, factor=3, most=600, attempts=4),
    "once": RetryClass(first=0, factor=1, most=0, attempts=1),
}


@dataclass(frozen=True, slots=True)
class Item:
    """An item as it was read.

    Attributes:
        attempts: leases so far, this one included.
        due: when it may be taken, in seconds since 1970; ``until``: when its lease ends; ``created``: when it was put.
        error: what went wrong last.
    """

    id: int
    queue: str
    destination: str
    lane: str
    key: str | None
    retry_class: str
    payload: Payload
    state: ItemState
    due: float
    attempts: int
    owner: str
    until: float
    error: str
    created: float


@dataclass(frozen=True, slots=True)
class QueueCount:
    """How many items of a queue and destination are in a state, and since when the oldest of them waits."""

    queue: str
    destination: str
    state: ItemState
    items: int
    oldest: float


class Outbox:
    """The queues of a repository.

    Args:
        begin: begins a transaction that writes, as a context manager that gives a connection.
        clock: seconds since 1970; the same for all processes, give or take.
    """

    def __init__(self, begin: Begin, *, clock: Callable[[], float] = time.time) -> None:
        self._begin, self._clock = begin, clock

    # ---- producers ---------------------------------------------------------------------------------------------

    def enqueue(
        self,
        connection: Connection,
        queue: str,
        payload: Payload,
        *,
        destination: str = "",
        lane: str = "",
        key: str | None = None,
        delay: float = 0.0,
        retry_class: str = "network",
    ) -> bool:
        """Put an item, in the caller's transaction.

        Args:
            connection: the transaction.
            queue: what kind of work it is.
            payload: what the worker needs to know; JSON.
            destination: for workers that serve one destination each, so that a slow one holds up no other.
            lane: items of one lane are done in order.
            key: names what is to be done; while such an item is there, another one is not put.
            delay: seconds until it may be taken.
            retry_class: a name in `RETRY_CLASSES`.

        Returns:
            Whether it was put; False: one with this key is there.

        Raises:
            InvalidArgument: no such retry class.
        """
        _check_retry_class(retry_class)
        if key is not None and _is_put(connection, queue, key):
            return False
        now = self._clock()
        values = {
            "queue": queue, "destination": destination, "lane": lane, "key": key, "retry_class": retry_class,
            "payload": json.dumps(payload), "due": now + delay, "created": now,
        }  # fmt: skip
        connection.execute(insert(outbox).values(values))
        return True

    def hasten(self, connection: Connection, queue: str, key: str) -> None:
        """Have an item that waits taken now, in the caller's transaction."""
        connection.execute(update(outbox).where(*_waiting(queue, key)).values(due=self._clock()))

    def put_off(self, connection: Connection, queue: str, key: str, seconds: float) -> bool:
        """Have an item that waits taken after so many seconds, in the caller's transaction; False: none waits."""
        moved = update(outbox).where(*_waiting(queue, key)).values(due=self._clock() + seconds)
        return connection.execute(moved).rowcount == 1

    def withdraw(self, connection: Connection, queue: str, key: str) -> None:
        """An item that waits need not be done any more, in the caller's transaction."""
        connection.execute(delete(outbox).where(*_waiting(queue, key)))

    # ---- workers -----------------------------------------------------------------------------------------------

    def lease(
        self, queue: str, owner: str, *, seconds: float, most: int = 1, destination: str | None = None
    ) -> list[Item]:
        """Take items that are due, the oldest first, for so many seconds; what another worker has is passed over.

        Args:
            queue: what kind of work.
            owner: names the worker, for those who look at the queue.
            seconds: when another worker may take them.
            most: how many.
            destination: only those for this destination; None: any.
        """
        now = self._clock()
        due = or_(
            and_(outbox.c.state == ItemState.WAITING, outbox.c.due <= now),
            and_(outbox.c.state == ItemState.LEASED, outbox.c.until <= now),
        )
        wanted = [outbox.c.queue == queue, due, _is_first_of_its_lane()]
        if destination is not None:
            wanted.append(outbox.c.destination == destination)
        ids = select(outbox.c.id).where(*wanted).order_by(outbox.c.id).limit(most).with_for_update(skip_locked=True)
        taking = (
            update(outbox)
            .where(outbox.c.id.in_(ids.scalar_subquery()))
            .values(state=ItemState.LEASED, owner=owner, until=now + seconds, attempts=outbox.c.attempts + 1)
            .returning(*outbox.c)
        )
        with self._begin() as connection:
            items = [_item(row) for row in connection.execute(taking).mappings()]
        return sorted(items, key=lambda item: item.id)

    def extend(self, item: Item, seconds: float) -> bool:
        """Keep an item for so many seconds from now; False: the lease was over, and another worker has it."""
        return self._change(item, until=self._clock() + seconds)

    def done(self, item: Item, connection: Connection | None = None) -> bool:
        """An item is done, and gone; in the caller's transaction where one is given."""
        finished = delete(outbox).where(*_held(item))
        if connection is not None:
            return connection.execute(finished).rowcount == 1
        with self._begin() as own:
            return own.execute(finished).rowcount == 1

    def fail(self, item: Item, error: str) -> bool:
        """An item failed: it waits for its next try, or is parked after the last one that its retry class has."""
        pause = RETRY_CLASSES[item.retry_class].pause(item.attempts)
        if pause is None:
            return self.park(item, error)
        return self._change(
            item, state=ItemState.WAITING, owner="", due=self._clock() + pause, error=error[:_MOST_ERROR]
        )

    def postpone(self, item: Item, seconds: float) -> bool:
        """Give an item back without counting this as a try: it is too early."""
        return self._change(
            item, state=ItemState.WAITING, owner="", due=self._clock() + seconds, attempts=item.attempts - 1
        )

    def park(self, item: Item, error: str) -> bool:
        """Set an item aside until a person says `retry` or `discard`."""
        return self._change(item, state=ItemState.PARKED, owner="", error=error[:_MOST_ERROR])

    def _change(self, item: Item, **values: object) -> bool:
        with self._begin() as connection:
            return connection.execute(update(outbox).where(*_held(item)).values(values)).rowcount == 1

    # ---- people ------------------------------------------------------------------------------------------------

    def retry(
        self, *, ids: Sequence[int] | None = None, queue: str | None = None, destination: str | None = None
    ) -> int:
        """Have parked and waiting items tried now, with all their tries before them; how many that are."""
        values = {"state": ItemState.WAITING, "due": self._clock(), "attempts": 0, "owner": ""}
        chosen = [outbox.c.state != ItemState.LEASED, *_chosen(ids, queue, destination)]
        with self._begin() as connection:
            return connection.execute(update(outbox).where(*chosen).values(values)).rowcount

    def discard(self, ids: Sequence[int], *, queue: str | None = None) -> int:
        """Delete items, of a queue where one is named, that no worker holds; how many that were."""
        chosen = [outbox.c.state != ItemState.LEASED, *_chosen(ids, queue, None)]
        with self._begin() as connection:
            return connection.execute(delete(outbox).where(*chosen)).rowcount

    def items(
        self,
        *,
        queue: str | None = None,
        destination: str | None = None,
        state: ItemState | None = None,
        after: int = 0,
        most: int = 100,
    ) -> list[Item]:
        """Items in the order in which they were put; the next page begins after the last id of this one."""
        wanted = [outbox.c.id > after, *_chosen(None, queue, destination)]
        if state is not None:
            wanted.append(outbox.c.state == state)
        with self._begin() as connection:
            rows = connection.execute(select(*outbox.c).where(*wanted).order_by(outbox.c.id).limit(most))
            return [_item(row) for row in rows.mappings()]

    def counts(self) -> list[QueueCount]:
        """How long the queues are, by queue, destination and state."""
        by = outbox.c.queue, outbox.c.destination, outbox.c.state
        with self._begin() as connection:
            rows = connection.execute(select(*by, func.count(), func.min(outbox.c.created)).group_by(*by).order_by(*by))
            return [QueueCount(row[0], row[1], ItemState(row[2]), row[3], row[4]) for row in rows]

    def next_due(self, queue: str) -> float | None:
        """When the next item of a queue may be taken, in seconds since 1970; None where nothing waits."""
        waits = outbox.c.queue == queue, outbox.c.state == ItemState.WAITING
        with self._begin() as connection:
            due: float | None = connection.execute(select(func.min(outbox.c.due)).where(*waits)).scalar()
        return due


def _check_retry_class(name: str) -> None:
    if name not in RETRY_CLASSES:
        raise InvalidArgument(f'"{name}" is no retry class', hint=f"One of {', '.join(RETRY_CLASSES)}.")


def _waiting(queue: str, key: str) -> tuple[ColumnElement[bool], ...]:
    return outbox.c.queue == queue, outbox.c.key == key, outbox.c.state == ItemState.WAITING


def _is_put(connection: Connection, queue: str, key: str) -> bool:
    same = select(outbox.c.id).where(outbox.c.queue == queue, outbox.c.key == key)
    return connection.execute(same).first() is not None


def _is_first_of_its_lane() -> ColumnElement[bool]:
    earlier = outbox.alias("earlier")
    ahead = select(earlier.c.id).where(earlier.c.lane == outbox.c.lane, earlier.c.id < outbox.c.id)
    return or_(outbox.c.lane == "", ~ahead.where(earlier.c.queue == outbox.c.queue).exists())


def _held(item: Item) -> Iterable[ColumnElement[bool]]:
    """The lease that the worker was given: another one has another count of tries."""
    return (
        outbox.c.id == item.id,
        outbox.c.state == ItemState.LEASED,
        outbox.c.owner == item.owner,
        outbox.c.attempts == item.attempts,
    )


def _chosen(ids: Sequence[int] | None, queue: str | None, destination: str | None) -> Iterable[ColumnElement[bool]]:
    if ids is not None:
        yield outbox.c.id.in_(ids)
    if queue is not None:
        yield outbox.c.queue == queue
    if destination is not None:
        yield outbox.c.destination == destination


def _item(row: RowMapping) -> Item:
    values: dict[str, Any] = dict(row)
    values["payload"] = json.loads(values["payload"])
    values["state"] = ItemState(values["state"])
    return Item(**values)
