"""The worklist, and performed procedure steps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0002"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _id() -> sa.Column[int]:
    return sa.Column("id", _BIG, primary_key=True)


def _text(name: str, default: str = "") -> sa.Column[str]:
    return sa.Column(name, _TEXT, server_default=default, nullable=False)


def _texts(*names: str) -> list[sa.Column[str]]:
    return [_text(name) for name in names]


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, _TEXT, nullable=False)


def _changed() -> sa.Column[float]:
    return sa.Column("changed", sa.Float(), server_default="0", nullable=False)


def upgrade() -> None:
    """Make these tables."""
    op.create_table(
        "worklist",
        _id(),
        _key("study_uid"),
        *_texts("acc", "rp_id", "pid", "issuer", "name_n"),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        _changed(),
        _text("data", "{}"),
        sa.UniqueConstraint("study_uid", "acc", "rp_id", name="uq_worklist_study_uid_acc_rp_id"),
        sqlite_autoincrement=True,
    )
    for name in ("acc", "pid", "name_n"):
        op.create_index(f"ix_worklist_{name}", "worklist", [name])
    op.create_table(
        "worklist_step",
        _id(),
        sa.Column("item_id", _BIG, sa.ForeignKey("worklist.id", ondelete="CASCADE"), nullable=False),
        _key("sps_id"),
        *_texts("date", "time", "modality", "stations", "status"),
        sa.Column("is_open", sa.SmallInteger(), server_default="1", nullable=False),
        _text("data", "{}"),
        sa.UniqueConstraint("item_id", "sps_id", name="uq_worklist_step_item_id_sps_id"),
    )
    op.create_index("ix_worklist_step_date", "worklist_step", ["date"])
    op.create_index("ix_worklist_step_is_open_date", "worklist_step", ["is_open", "date"])
    op.create_table(
        "performed_step",
        _id(),
        _key("uid"),
        *_texts("status", "calling", "pid", "date"),
        _changed(),
        _text("data", "{}"),
        sa.UniqueConstraint("uid", name="uq_performed_step_uid"),
    )
    op.create_index("ix_performed_step_date", "performed_step", ["date"])
