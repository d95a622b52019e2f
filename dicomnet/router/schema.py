"""The router's tables: what it has received, what is to be sent where, its rules through the versions.

They stand in a database of `repository.database`, beside that room's own. A row of `delivery` is a queue's item and,
when it is over, the ledger's line: what was received is sent, parked, dropped or on hold, and the database can prove
it. That is why they are not rows of `repository.outbox`, which are gone once they are done.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    inspect,
    text,
)
from sqlalchemy.schema import CreateColumn

from ..errors import InvalidArgument
from ..repository.columns import BIG as _BIG
from ..repository.columns import TEXT as _TEXT
from ..repository.columns import seconds as _seconds
from ..repository.columns import text as _text

__all__ = ["delivery", "expected", "make_tables", "plan", "received", "unit"]

VERSION = 3
metadata: MetaData = MetaData()


#: The versions of rules and destinations, as JSON; the last one holds for what arrives.
plan: Table = Table(
    "router_plan",
    metadata,
    Column("version", _BIG, primary_key=True),
    _seconds("at"),
    _text("digest"),  # of the file that it was read from
    _text("data"),
    sqlite_autoincrement=True,
)

#: Instances that were acknowledged.
received: Table = Table(
    "router_received",
    metadata,
    Column("id", _BIG, primary_key=True),
    _text("uid"),
    _text("cls"),
    _text("ts"),
    _text("study"),
    _text("series"),
    _text("patient"),
    _text("accession"),
    _text("message", "C-STORE"),  # by which it came
    _text("calling"),
    _text("called"),
    _text("address"),
    _text("key"),
    Column("off", _BIG, nullable=False, server_default="0"),
    Column("bytes", _BIG, nullable=False, server_default="0"),
    Column("sha", LargeBinary, nullable=False),
    _seconds("at"),
    Column("open", Integer, nullable=False, server_default="0"),  # deliveries that still need the bytes
    Column("kept", SmallInteger, nullable=False, server_default="1"),  # 0: the bytes are deleted
    Index("ix_router_received_uid", "uid"),
    Index("ix_router_received_study", "study"),
    Index("ix_router_received_key", "key", sqlite_where=text("kept = 1"), postgresql_where=text("kept = 1")),
    Index("ix_router_received_at", "at"),
    Index(
        "ix_router_received_over", "at",
        sqlite_where=text("open = 0 AND kept = 1"), postgresql_where=text("open = 0 AND kept = 1"),
    ),
    sqlite_autoincrement=True,
)  # fmt: skip

#: What is, or was, to be done with an instance: one row for each destination, or one that says why there is none.
delivery: Table = Table(
    "router_delivery",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("received_id", _BIG, ForeignKey("router_received.id"), nullable=False),
    _text("destination"),
    _text("rule"),
    Column("plan", _BIG, nullable=False, server_default="0"),
    Column("step", Integer, nullable=False, server_default="0"),  # the number of the action in its rule
    _text("state"),
    Column("priority", SmallInteger, nullable=False, server_default="1"),
    Column("slot", SmallInteger, nullable=False, server_default="0"),  # of its series: which association takes it
    _text("unit"),  # the series, study or association that it waits for
    _seconds("due"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    _text("owner"),
    _seconds("until"),
    _text("why"),
    _seconds("created"),
    _seconds("ended"),
    # What is leased or over leaves it: a change of state then costs no entry in it.
    Index(
        "ix_router_delivery_waiting", "destination", "priority", "due", "id",
        sqlite_where=text("state = 'waiting'"), postgresql_where=text("state = 'waiting'"),
    ),
    Index("ix_router_delivery_received", "received_id"),
    Index("ix_router_delivery_destination", "destination", "state", "id"),
    Index("ix_router_delivery_state", "state", "id"),
    Index("ix_router_delivery_unit", "unit", sqlite_where=text("unit <> ''"), postgresql_where=text("unit <> ''")),
    sqlite_autoincrement=True,
)  # fmt: skip

#: Series, studies and associations that are being received, and how they were found to be complete.
unit: Table = Table(
    "router_unit",
    metadata,
    Column("name", _TEXT, primary_key=True),  # the rule's name and what it is: "CT study 1.2.3"
    _text("level"),
    _text("uid"),
    _text("rule"),
    Column("plan", _BIG, nullable=False, server_default="0"),
    _text("state"),  # open, complete
    _text("reason"),
    Column("instances", Integer, nullable=False, server_default="0"),
    Column("waited", Float, nullable=False, server_default="0"),  # seconds, by a clock that does not jump
    _seconds("first"),
    _seconds("last"),
    _seconds("completed"),
    Index("ix_router_unit_state", "state"),
    Index("ix_router_unit_uid", "uid"),
)

#: Instances that a peer has announced: by a performed procedure step, or an instance availability notification.
expected: Table = Table(
    "router_expected",
    metadata,
    Column("id", _BIG, primary_key=True),
    _text("step"),
    _text("study"),
    _text("series"),
    _text("uid"),
    Index("ix_router_expected_step", "step"),
    Index("ix_router_expected_study", "study"),
    Index("ix_router_expected_series", "series"),
)

_version = Table("router_version", metadata, Column("version", Integer, primary_key=True))


def make_tables(connection: Connection) -> None:
    """Make the tables that are not there, in the caller's transaction.

    Raises:
        InvalidArgument: they are those of a newer version.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(1380931924)"))
    if not inspect(connection).has_table("router_version"):
        metadata.create_all(connection)
        connection.execute(_version.insert().values(version=VERSION))
        _vacuum_early(connection)
        return
    found = connection.execute(_version.select()).scalar_one()
    if found < VERSION:
        _upgrade(connection, found)
    if found > VERSION:
        raise InvalidArgument(
            f"the router's tables are of version {found}, this dicomnet knows {VERSION}", hint="Use that version."
        )


def _upgrade(connection: Connection, found: int) -> None:
    """Bring tables of a version up to date.

    From 1 to 2 the queue's index has only what waits, and the one by the end of deliveries is gone; with 3 messages
    are received that are no C-STORE.
    """
    if found == 1:
        for name in ("ix_router_delivery_queue", "ix_router_delivery_ended"):
            connection.execute(text(f"DROP INDEX IF EXISTS {name}"))
        waiting = next(one for one in delivery.indexes if one.name == "ix_router_delivery_waiting")
        waiting.create(connection)
        _vacuum_early(connection)
    column = CreateColumn(received.c.message).compile(dialect=connection.dialect)
    connection.execute(text(f"ALTER TABLE {received.name} ADD COLUMN {column}"))
    connection.execute(_version.update().values(version=VERSION))


def _vacuum_early(connection: Connection) -> None:
    """Have PostgreSQL take away what states were before, long before a fifth of a large table is that."""
    if connection.dialect.name == "postgresql":
        for table in (delivery, received):
            connection.execute(text(
                f"ALTER TABLE {table.name} SET (autovacuum_vacuum_scale_factor = 0.02, "
                "autovacuum_analyze_scale_factor = 0.02)"
            ))  # fmt: skip
