"""The index's tables through the versions, by Alembic: each step is a module of ``versions``."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from ...errors import InvalidArgument

__all__ = ["check_version", "upgrade"]

# Any number, the same for all: what migrations of one PostgreSQL database wait for.
_LOCK = 0x444E4958


def _scripts() -> ScriptDirectory:
    here = Path(__file__).parent
    return ScriptDirectory(str(here), version_locations=[str(here / "versions")])


def upgrade(connection: Connection) -> None:
    """Bring the tables up to date, in the caller's transaction.

    Raises:
        InvalidArgument: they were made by a newer version of dicomnet.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_LOCK)))
    scripts = _scripts()
    current = _current(connection, scripts)
    if current == set(scripts.get_heads()):
        return
    # Rooms that came at the same time have steps of their own from one step on: there may be several last ones.
    context = MigrationContext.configure(
        connection, opts={"fn": lambda revisions, _: scripts._upgrade_revs("heads", revisions)}
    )
    with Operations.context(context):
        context.run_migrations()


def check_version(connection: Connection) -> None:
    """Refuse tables of another version.

    Raises:
        InvalidArgument: the tables are older, or newer, than this program wants them.
    """
    scripts = _scripts()
    current = _current(connection, scripts)
    if current != set(scripts.get_heads()):
        what = " and ".join(sorted(current)) or "none"
        raise InvalidArgument(f"the index has tables of version {what}", hint="Migrate it first.")


def _current(connection: Connection, scripts: ScriptDirectory) -> set[str]:
    current = set(MigrationContext.configure(connection).get_current_heads())
    unknown = current - {script.revision for script in scripts.walk_revisions()}
    if unknown:
        raise InvalidArgument(
            f"the index was made by a newer version of dicomnet (its tables are {min(unknown)})",
            hint="Use that version, or restore a backup from before.",
        )
    return current
