"""The steps themselves, by Alembic, which a program loads only where tables are to be made or brought up to date."""

from __future__ import annotations

import threading
from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

__all__ = ["run", "scripts"]

#: Alembic's `op`, which steps use, is one for the whole process.
_ONE_AT_A_TIME = threading.Lock()


def scripts() -> ScriptDirectory:
    """All steps there are."""
    here = Path(__file__).parent
    return ScriptDirectory(str(here), version_locations=[str(here / "versions")])


def run(connection: Connection) -> None:
    """Take all steps that the tables have not taken."""
    known = scripts()
    # Rooms that came at the same time have steps of their own from one step on: there may be several last ones.
    context = MigrationContext.configure(
        connection, opts={"fn": lambda revisions, _: known._upgrade_revs("heads", revisions)}
    )
    with _ONE_AT_A_TIME, Operations.context(context):
        context.run_migrations()
