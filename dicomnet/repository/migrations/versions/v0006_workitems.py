"""Work items, and who is told of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006w"
down_revision = "0005"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str, default: str = "") -> sa.Column[str]:
    return sa.Column(name, _TEXT, server_default=default, nullable=False)


def upgrade() -> None:
    """Make these tables."""
    op.create_table(
        "workitem",
        sa.Column("id", _BIG, primary_key=True),
        sa.Column("uid", _TEXT, nullable=False),
        _text("state"),
        _text("txn"),
        sa.Column("changed", sa.Float(), server_default="0", nullable=False),
        _text("data", "{}"),
        sa.UniqueConstraint("uid", name="uq_workitem_uid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_workitem_state", "workitem", ["state"])
    op.create_table(
        "workitem_subscription",
        sa.Column("id", _BIG, primary_key=True),
        sa.Column("aet", _TEXT, nullable=False),
        sa.Column("uid", _TEXT, nullable=False),
        sa.Column("locked", sa.SmallInteger(), server_default="0", nullable=False),
        _text("filter"),
        sa.UniqueConstraint("aet", "uid", name="uq_workitem_subscription_aet_uid"),
    )
    op.create_index("ix_workitem_subscription_uid", "workitem_subscription", ["uid"])
