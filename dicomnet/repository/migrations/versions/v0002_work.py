"""What is under way: the outbox, quarantine, and storage commitment."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
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


def _seconds(*names: str) -> list[sa.Column[float]]:
    return [sa.Column(name, sa.Float(), server_default="0", nullable=False) for name in names]


def upgrade() -> None:
    """Make these tables."""
    op.create_table(
        "outbox",
        _id(),
        *_texts("queue", "destination", "lane"),
        sa.Column("key", _TEXT, nullable=True),
        _text("retry_class", "network"),
        _text("payload", "{}"),
        _text("state", "waiting"),
        *_seconds("due"),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        _text("owner"),
        *_seconds("until"),
        _text("error"),
        *_seconds("created"),
        sa.UniqueConstraint("queue", "key", name="uq_outbox_queue_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_queue_destination_state_due", "outbox", ["queue", "destination", "state", "due"])
    op.create_index("ix_outbox_lane_id", "outbox", ["lane", "id"])
    _quarantine()
    op.create_table(
        "commitment",
        _id(),
        _text_without_default("uid"),
        *_texts("calling", "called"),
        _text("state", "asked"),
        _text("request", "{}"),
        *_seconds("at"),
        sa.UniqueConstraint("uid", name="uq_commitment_uid"),
    )


def _text_without_default(name: str) -> sa.Column[str]:
    return sa.Column(name, _TEXT, nullable=False)


def _quarantine() -> None:
    op.create_table(
        "quarantine",
        _id(),
        *_texts("uid", "cls", "ts", "study_uid", "storage", "key"),
        sa.Column("off", _BIG, nullable=False),
        sa.Column("bytes", _BIG, nullable=False),
        sa.Column("sha", sa.LargeBinary(), nullable=False),
        *_texts("calling", "kind", "reason"),
        *_seconds("at"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_quarantine_uid", "quarantine", ["uid"])
    op.create_index("ix_quarantine_key", "quarantine", ["key"])
