"""The index's tables through the versions, by Alembic: each step is a module of ``versions``."""

from __future__ import annotations

import sqlalchemy
from sqlalchemy import Connection

from ...errors import InvalidArgument

__all__ = ["LAST", "STEPS", "check_version", "upgrade"]

#: The steps in ``versions``, named here so that a program whose tables are current need not load them, nor Alembic.
STEPS: frozenset[str] = frozenset(
    {"0001", "0002", "0003", "0005", "0006w", "0007n", "0008e", "0008p", "0009a", "0010s", "0011t"}
)
#: Those of them that no other follows: what current tables say of themselves.
LAST: frozenset[str] = frozenset({"0003", "0008p", "0011t"})

# Any number, the same for all: what migrations of one PostgreSQL database wait for.
_LOCK = 0x444E4958


def upgrade(connection: Connection) -> None:
    """Bring the tables up to date, in the caller's transaction.

    Raises:
        InvalidArgument: they were made by a newer version of dicomnet.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_LOCK)))
    if _current(connection) != LAST:
        from .steps import run  # noqa: PLC0415 heavy, and seldom wanted

        run(connection)


def check_version(connection: Connection) -> None:
    """Refuse tables of another version.

    Raises:
        InvalidArgument: the tables are older, or newer, than this program wants them.
    """
    current = _current(connection)
    if current != LAST:
        what = " and ".join(sorted(current)) or "none"
        raise InvalidArgument(f"the index has tables of version {what}", hint="Migrate it first.")


def _current(connection: Connection) -> set[str]:
    """What the tables say of themselves, where Alembic keeps it."""
    if not sqlalchemy.inspect(connection).has_table("alembic_version"):
        return set()
    current = set(connection.scalars(sqlalchemy.text("SELECT version_num FROM alembic_version")))
    if unknown := current - STEPS:
        raise InvalidArgument(
            f"the index was made by a newer version of dicomnet (its tables are {min(unknown)})",
            hint="Use that version, or restore a backup from before.",
        )
    return current
