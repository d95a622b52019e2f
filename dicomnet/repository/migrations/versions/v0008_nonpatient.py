"""Objects of no patient, and instances that are on media only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008p"
down_revision = "0006w"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str, default: str = "") -> sa.Column[str]:
    return sa.Column(name, _TEXT, server_default=default, nullable=False)


def upgrade() -> None:
    """Make these tables."""
    op.create_table(
        "nonpatient",
        sa.Column("id", _BIG, primary_key=True),
        sa.Column("uid", _TEXT, nullable=False),
        _text("cls"),
        _text("attrs", "{}"),
        sa.Column("sha", sa.LargeBinary(), nullable=False),
        sa.Column("stream", sa.LargeBinary(), nullable=False),
        sa.UniqueConstraint("uid", name="uq_nonpatient_uid"),
    )
    op.create_index("ix_nonpatient_cls", "nonpatient", ["cls"])
    op.create_table(
        "offline",
        sa.Column("id", _BIG, primary_key=True),
        sa.Column("uid", _TEXT, nullable=False),
        _text("cls"),
        _text("series_uid"),
        _text("study_uid"),
        _text("file_set_id"),
        _text("file_set_uid"),
        sa.UniqueConstraint("uid", name="uq_offline_uid"),
    )
    op.create_index("ix_offline_study_uid", "offline", ["study_uid"])
