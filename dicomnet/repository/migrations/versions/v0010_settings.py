"""Settings that all nodes have in common."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010s"
down_revision = "0009a"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, _TEXT, server_default="", nullable=False)


def upgrade() -> None:
    """Make this table."""
    op.create_table(
        "setting_snapshot",
        sa.Column("id", _BIG, primary_key=True),
        sa.Column("at", sa.Float(), server_default="0", nullable=False),
        _text("who"),
        _text("what"),
        _text("document"),
    )
