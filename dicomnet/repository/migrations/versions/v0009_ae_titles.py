"""AE titles that the servers of all nodes know."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009a"
down_revision = "0008e"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, _TEXT, server_default="", nullable=False)


def upgrade() -> None:
    """Make these tables."""
    op.create_table(
        "ae_title",
        sa.Column("id", _BIG, primary_key=True),
        _text("document"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "ae_history",
        sa.Column("id", _BIG, primary_key=True),
        sa.Column("ae", _BIG, nullable=False),
        sa.Column("at", sa.Float(), server_default="0", nullable=False),
        _text("what"),
    )
    op.create_index("ix_ae_history_ae", "ae_history", ["ae"])
