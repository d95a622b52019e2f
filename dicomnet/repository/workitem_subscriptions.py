"""Who is told of which work items (PS3.4 Table CC.2.3-2): a row for each item, and one for those to come."""

from __future__ import annotations

import json

from sqlalchemy import Connection, delete, func, select

from .. import uids
from .attributes import Attributes
from .database import insert_into
from .keys import Identifier
from .work_schema import workitem_subscription

__all__ = ["FILTERED", "GLOBAL", "Subscriptions"]

#: Well-known UIDs that stand for all items, and for those that match.
GLOBAL = uids.UPS_GLOBAL_SUBSCRIPTION_INSTANCE
FILTERED = uids.UPS_FILTERED_GLOBAL_SUBSCRIPTION_INSTANCE

_table = workitem_subscription.c


class Subscriptions:
    """The subscriptions of a repository; each method works in the caller's transaction."""

    def put(self, connection: Connection, aet: str, uid: str, locked: bool, text: str = "") -> None:
        """Subscribe, or change the lock of a subscription that there is."""
        values = {"locked": int(locked), "filter": text}
        statement = insert_into(connection, workitem_subscription).values(aet=aet, uid=uid, **values)
        connection.execute(statement.on_conflict_do_update(index_elements=["aet", "uid"], set_=values))

    def joined(self, connection: Connection, uid: str, item: Attributes) -> None:
        """A new item: who is subscribed to all, or to what it is like, is subscribed to it, locked if one is."""
        query = select(_table.aet, _table.uid, _table.locked, _table.filter).where(_table.uid.in_([GLOBAL, FILTERED]))
        locks: dict[str, bool] = {}
        for aet, kind, locked, text in connection.execute(query).all():
            if kind == GLOBAL or _accepts(text, item):
                locks[aet] = locks.get(aet, False) or bool(locked)
        for aet, locked in locks.items():
            self.put(connection, aet, uid, locked)

    def items_of(self, connection: Connection, aet: str) -> frozenset[str]:
        """What an AE is subscribed to."""
        return frozenset(connection.execute(select(_table.uid).where(_table.aet == aet)).scalars())

    def locks_of(self, connection: Connection, aet: str) -> int:
        """How many deletion locks an AE holds."""
        return connection.execute(select(func.count()).where(_table.aet == aet, _table.locked == 1)).scalar_one()

    def all(self, connection: Connection) -> tuple[str, ...]:
        """The AE titles of all subscribers."""
        return tuple(connection.execute(select(_table.aet).distinct().order_by(_table.aet)).scalars())

    def of(self, connection: Connection, uid: str) -> tuple[str, ...]:
        """The AE titles of who is told of an item."""
        query = select(_table.aet).where(_table.uid == uid).order_by(_table.aet)
        return tuple(connection.execute(query).scalars())

    def remove(self, connection: Connection, aet: str, uid: str) -> None:
        """End a subscription; that to all ends those to each."""
        wheres = [_table.aet == aet]
        if uid not in (GLOBAL, FILTERED):
            wheres.append(_table.uid == uid)
        connection.execute(delete(workitem_subscription).where(*wheres))

    def suspend(self, connection: Connection, aet: str, uid: str) -> None:
        """End a subscription to what is to come, filtered or not, and leave those to what is there."""
        ended = _table.uid == uid if uid == FILTERED else _table.uid.in_([GLOBAL, FILTERED])
        connection.execute(delete(workitem_subscription).where(_table.aet == aet, ended))


def _accepts(text: str, item: Attributes) -> bool:
    keys = Identifier.of(json.loads(text or "{}")).keys
    return all(key.criterion.accepts(item.get(f"{key.tag:08X}", "")) for key in keys if key.criterion is not None)
