"""Under which patient a study came, so that merged patients can be taken apart again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; studies from before were never merged."""
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("study", sa.Column("origin_id", big, nullable=True))
    op.execute("UPDATE study SET origin_id = patient_id")
