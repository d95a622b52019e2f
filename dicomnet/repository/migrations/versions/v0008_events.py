"""Events that nodes tell each other."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008e"
down_revision = "0007n"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, _TEXT, server_default="", nullable=False)


def upgrade() -> None:
    """Make this table."""
    op.create_table(
        "event",
        sa.Column("seq", _BIG, primary_key=True),
        _text("origin"),
        _text("kind"),
        _text("data"),
        sa.Column("at", sa.Float(), server_default="0", nullable=False),
    )
