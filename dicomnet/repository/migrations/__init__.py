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
    current = MigrationContext.configure(connection).get_current_revision()
    scripts = _scripts()
    if current == scripts.get_current_head():
        return
    _refuse_unknown(scripts, current)
    context = MigrationContext.configure(
        connection, opts={"fn": lambda revision, _: scripts._upgrade_revs("head", revision)}
    )
    with Operations.context(context):
        context.run_migrations()


def check_version(connection: Connection) -> None:
    """Refuse tables of another version.

    Raises:
        InvalidArgument: the tables are older, or newer, than this program wants them.
    """
    scripts = _scripts()
    current = MigrationContext.configure(connection).get_current_revision()
    _refuse_unknown(scripts, current)
    if current != scripts.get_current_head():
        raise InvalidArgument(f"the index has tables of version {current}", hint="Migrate it first.")


def _refuse_unknown(scripts: ScriptDirectory, current: str | None) -> None:
    if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise InvalidArgument(
            f"the index was made by a newer version of dicomnet (its tables are {current})",
            hint="Use that version, or restore a backup from before.",
        )
