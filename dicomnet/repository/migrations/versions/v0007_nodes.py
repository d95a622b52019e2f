"""Nodes of one index, and who of them does what only one is to do."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007n"
down_revision = "0005"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _text(name: str, default: str = "") -> sa.Column[str]:
    return sa.Column(name, _TEXT, server_default=default, nullable=False)


def _seconds(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Float(), server_default="0", nullable=False)


def upgrade() -> None:
    """Make these tables."""
    op.create_table(
        "node",
        sa.Column("id", _TEXT, primary_key=True),
        _text("name"),
        _text("address"),
        _text("version"),
        _seconds("since"),
        _seconds("seen"),
        _text("facts", "{}"),
    )
    op.create_table("duty", sa.Column("name", _TEXT, primary_key=True), _text("owner"), _seconds("until"))
